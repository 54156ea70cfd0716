/**
 * Law 3 of convergence (architecture §6.3) as pure decisions: an incoming change is applied, loses to a greater stamp on
 * its own key, or is overridden by a captured local change with a greater stamp. It is never only dropped (review A3).
 * adapters/postgres/target/conflicts (arbitrate.ts, overrides.ts) do the same in SQL; tests/simulation runs histories over these.
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
  /** The key as text. */
  readonly key: string;
  /** Other stamps this contour knows for the key: of its tombstone, its table's floor, its row here. */
  readonly known: readonly Stamp[];
}

export interface Verdict {
  readonly removed: "holder" | "incoming";
  /** Of the captured DELETE that removes it. */
  readonly stamp: Stamp;
}

/**
 * The stamp of a local write: greater under both policies than any this contour knows for the key (law 1), whatever the
 * clock says.
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

/** A total order over rows of different keys, the same at every contour: by stamp, then by table, then by key. */
export function compareContenders(a: Contender, b: Contender, policy: ConflictPolicy): Order {
  return compareStamps(a.stamp, b.stamp, policy) || compareBytes(a.table, b.table) || compareBytes(a.key, b.key);
}

/** Of two rows that cannot both stay the lesser goes, by a captured DELETE above everything known of its key. */
export function arbitrate(holder: Contender, incoming: Contender, policy: ConflictPolicy, here: Here): Verdict {
  const removed = compareContenders(holder, incoming, policy) < 0 ? "holder" : "incoming";
  const loser = removed === "holder" ? holder : incoming;
  return { removed, stamp: stampAbove([loser.stamp, ...loser.known], here) };
}

/**
 * The stamp that lifts a row above a deletion that would beat it, by a captured UPDATE; null when it stands above already.
 * For a parent that is revived because children here refer to it, and for a row found below its tombstone or its table's
 * floor once nobody can commit another one there (law 5, review A4).
 */
export function restampAbove(row: Stamp, deletion: Stamp, policy: ConflictPolicy, here: Here): Stamp | null {
  return deletes(deletion, row, policy) ? stampAbove([row, deletion], here) : null;
}
