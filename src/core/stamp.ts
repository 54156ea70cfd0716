/**
 * The one rule of conflicts (architecture §6, I6): stamps are totally ordered, the greater wins. Last-writer-wins over a
 * stamp `(version, updated_at, updated_by)`, after Thomas's write rule (RFC 677); a tombstone and a floor are stamps of
 * deletions. adapters/postgres/target/conflicts/stamp_sql.ts says the same in SQL; a test holds the two equal.
 */

/** Which component is compared first. */
export type ConflictPolicy = "version" | "latest";

export interface Stamp {
  readonly version: bigint;
  /** Microseconds since 1970, UTC. */
  readonly updatedAt: bigint;
  /** The contour that wrote it. */
  readonly updatedBy: string;
}

/** A row as the rule sees it: its stamp, and the text of its values (columns in the order of their names). */
export interface StampedRow {
  readonly stamp: Stamp;
  readonly text: string;
}

export type Order = -1 | 0 | 1;

/** Versions above it, and timestamps further ahead than `max_skew`, are parked (architecture §6.8). */
export const MAX_VERSION = 2n ** 53n;

/** Compares stamps under the table's policy: -1 when `a` is the lesser. */
export function compareStamps(a: Stamp, b: Stamp, policy: ConflictPolicy): Order {
  const version = order(a.version, b.version);
  const updatedAt = order(a.updatedAt, b.updatedAt);
  const first = policy === "version" ? version || updatedAt : updatedAt || version;
  return first || compareBytes(a.updatedBy, b.updatedBy);
}

/**
 * Whether an incoming row replaces the one that is there. Equal stamps are decided by the rows' text: rows older than
 * setup share one stamp and may differ, and "equal means the same change" would let each contour keep its own (review A5).
 */
export function replaces(incoming: StampedRow, current: StampedRow, policy: ConflictPolicy): boolean {
  return (compareStamps(incoming.stamp, current.stamp, policy) || compareBytes(incoming.text, current.text)) > 0;
}

/** Whether a tombstone or a floor beats a row. Of equal stamps the deletion wins, at every contour alike. */
export function deletes(tombstone: Stamp, row: Stamp, policy: ConflictPolicy): boolean {
  return compareStamps(tombstone, row, policy) >= 0;
}

/** Compares as PostgreSQL's collation "C" does in a UTF-8 database: by code points, not by UTF-16 units. */
export function compareBytes(a: string, b: string): Order {
  const shorter = Math.min(a.length, b.length);
  for (let at = 0; at < shorter; at++) {
    const left = a.charCodeAt(at);
    const right = b.charCodeAt(at);
    if (left !== right) return order(codePointRank(left), codePointRank(right));
  }
  return order(a.length, b.length);
}

/** Surrogates (D800–DFFF) stand for code points above FFFF, so they sort after E000–FFFF. */
function codePointRank(unit: number): number {
  if (unit < 0xd800) return unit;
  return unit < 0xe000 ? unit + 0x2000 : unit - 0x800;
}

function order<T extends bigint | number>(a: T, b: T): Order {
  return a < b ? -1 : a > b ? 1 : 0;
}
