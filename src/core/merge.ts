/**
 * What a contour keeps of one key, and how changes merge into it (architecture §6.1 §6.2): in every order and with every
 * duplicate the same comes out (I6). The reference of apply's set-wise statements; pure.
 */
import { type ConflictPolicy, compareStamps, deletes, replaces, type Stamp, type StampedRow } from "./stamp.ts";

export interface KeyState<R extends StampedRow = StampedRow> {
  readonly row: R | null;
  readonly tombstone: Stamp | null;
}

export type KeyChange<R extends StampedRow = StampedRow> =
  | { readonly kind: "row"; readonly row: R }
  | { readonly kind: "deletion"; readonly stamp: Stamp };

export interface Merged<R extends StampedRow> {
  readonly state: KeyState<R>;
  readonly outcome: "applied" | "beaten";
}

/** @param floor the table's greatest floor: everything at or below it counts as deleted */
export function mergeKey<R extends StampedRow>(
  state: KeyState<R>,
  change: KeyChange<R>,
  floor: Stamp | null,
  policy: ConflictPolicy,
): Merged<R> {
  const { row, tombstone } = state;
  if (change.kind === "row") {
    const incoming = change.row;
    const beaten =
      (tombstone !== null && deletes(tombstone, incoming.stamp, policy)) ||
      (floor !== null && deletes(floor, incoming.stamp, policy)) ||
      (row !== null && !replaces(incoming, row, policy));
    return beaten ? { state, outcome: "beaten" } : { state: { row: incoming, tombstone }, outcome: "applied" };
  }
  const { stamp } = change;
  const goes = row !== null && deletes(stamp, row.stamp, policy);
  const buries = tombstone === null || !deletes(tombstone, stamp, policy);
  return {
    state: { row: goes ? null : row, tombstone: buries ? stamp : tombstone },
    outcome: goes || (buries && row === null) ? "applied" : "beaten",
  };
}

/** A TRUNCATE elsewhere: the row goes when it stands at or below the floor. */
export function mergeFloor<R extends StampedRow>(
  state: KeyState<R>,
  floor: Stamp,
  policy: ConflictPolicy,
): KeyState<R> {
  return state.row !== null && deletes(floor, state.row.stamp, policy) ? { ...state, row: null } : state;
}

/** Of rows of one key the one that beats the others, by stamp and never by position; null of none. */
export function greatestRow<R extends StampedRow>(rows: readonly R[], policy: ConflictPolicy): R | null {
  return rows.reduce<R | null>((best, row) => (best === null || replaces(row, best, policy) ? row : best), null);
}

/** The greatest of stamps; null of none. */
export function greatestStamp(stamps: readonly Stamp[], policy: ConflictPolicy): Stamp | null {
  return stamps.reduce<Stamp | null>(
    (best, stamp) => (best === null || compareStamps(stamp, best, policy) > 0 ? stamp : best),
    null,
  );
}
