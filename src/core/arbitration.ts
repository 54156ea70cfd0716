/**
 * Law 3 of convergence (architecture §6.3) as pure decisions: an incoming change is applied, loses to a greater stamp on
 * its own key, or is overridden by a captured local change with a greater stamp. It is never only dropped (review A3).
 * adapters/postgres/target/conflicts (arbitrate.ts, overrides.ts) do the same in SQL; tests/integration/target_law3.test.ts
 * holds the two equal, and tests/simulation runs histories over these.
 */
import { type ConflictPolicy, compareBytes, compareStamps, deletes, type Order, type Stamp } from "./stamp.ts";

/** Where a captured local change is made. */
export interface Here {
  readonly contour: string;
  /** This database's clock, microseconds since 1970. */
  readonly clock: bigint;
}

/** A row that cannot stand beside another one: a secondary unique value, an exclusion constraint. */
export interface Contender {
  readonly stamp: Stamp;
  readonly table: string;
  /** The key as text; where it decides, as PostgreSQL writes it in a row: `(7)`, `("a b",2)`. */
  readonly key: string;
  /** Of an incoming row: the row here that it replaces, of the same key. */
  readonly replaced: Stamp | null;
  /** Of the key's last deletion here. */
  readonly tombstone: Stamp | null;
}

export interface Verdict {
  readonly removed: "holders" | "incoming";
  /** The captured DELETEs that remove them, in the order of the contenders. */
  readonly stamps: readonly Stamp[];
}

/**
 * The stamp of a local write: greater under both policies than any of these (law 1), whatever the clock says. An INSERT
 * knows the key's tombstone and the table's floors; an UPDATE the row, which stands above both already.
 */
export function stampAbove(known: readonly Stamp[], here: Here): Stamp {
  let version = 0n;
  let updatedAt = here.clock;
  for (const stamp of known) {
    if (stamp.version > version) version = stamp.version;
    if (stamp.updatedAt >= updatedAt) updatedAt = stamp.updatedAt + 1n;
  }
  return { version: version + 1n, updatedAt, updatedBy: here.contour };
}

/**
 * The stamp of a local DELETE, which its tombstone keeps: above the row, and in no component below the tombstone that is
 * there, so that the tombstone only ever grows.
 */
export function deletionAbove(row: Stamp, tombstone: Stamp | null, here: Here): Stamp {
  const { version, updatedAt, updatedBy } = stampAbove([row], here);
  if (!tombstone) return { version, updatedAt, updatedBy };
  return {
    version: tombstone.version > version ? tombstone.version : version,
    updatedAt: tombstone.updatedAt > updatedAt ? tombstone.updatedAt : updatedAt,
    updatedBy,
  };
}

/** A total order over rows of different keys, the same at every contour: by stamp, then by table, then by key. */
export function compareContenders(a: Contender, b: Contender, policy: ConflictPolicy): Order {
  return compareStamps(a.stamp, b.stamp, policy) || compareBytes(a.table, b.table) || compareBytes(a.key, b.key);
}

/**
 * Of rows that cannot all stay the lesser go, by captured DELETEs: the incoming row alone when a holder is greater, else
 * every holder.
 */
export function arbitrate(
  holders: readonly Contender[],
  incoming: Contender,
  policy: ConflictPolicy,
  here: Here,
): Verdict {
  if (holders.some((holder) => compareContenders(holder, incoming, policy) >= 0))
    return { removed: "incoming", stamps: [refusalOf(incoming, here)] };
  return { removed: "holders", stamps: holders.map(({ stamp, tombstone }) => deletionAbove(stamp, tombstone, here)) };
}

/** Above the incoming row, and above what is here of its key. */
function refusalOf({ stamp, replaced, tombstone }: Contender, here: Here): Stamp {
  if (!replaced) return stampAbove(tombstone ? [stamp, tombstone] : [stamp], here);
  return deletionAbove(joined(replaced, stamp), tombstone, here);
}

/** The greater of each component. */
function joined(a: Stamp, b: Stamp): Stamp {
  return {
    version: a.version > b.version ? a.version : b.version,
    updatedAt: a.updatedAt > b.updatedAt ? a.updatedAt : b.updatedAt,
    updatedBy: a.updatedBy,
  };
}

/**
 * The stamp that lifts a row above a deletion that would beat it, by a captured UPDATE; null when it stands above already.
 * For a parent that is revived because children here refer to it, and for a row found below its tombstone or its table's
 * floor once nobody can commit another one there (law 5, review A4).
 */
export function restampAbove(row: Stamp, deletion: Stamp, policy: ConflictPolicy, here: Here): Stamp | null {
  return deletes(deletion, row, policy) ? stampAbove([row, deletion], here) : null;
}
