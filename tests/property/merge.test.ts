import { expect, test } from "bun:test";
import fc from "fast-check";
import {
  greatestRow,
  greatestStamp,
  type KeyChange,
  type KeyState,
  mergeFloor,
  mergeKey,
} from "../../src/core/merge.ts";
import { type ConflictPolicy, deletes, type Stamp } from "../../src/core/stamp.ts";
import { closeRow, closeStamp, policy } from "./arbitraries.ts";
import { RUNS } from "./runs.ts";

/** Whatever may come to a key: rows, deletions, and floors of its table. */
type Change = KeyChange | { readonly kind: "floor"; readonly stamp: Stamp };

const change: fc.Arbitrary<Change> = fc.oneof(
  fc.record({ kind: fc.constant("row" as const), row: closeRow }),
  fc.record({ kind: fc.constant("deletion" as const), stamp: closeStamp }),
  fc.record({ kind: fc.constant("floor" as const), stamp: closeStamp }),
);

interface Contour {
  readonly state: KeyState;
  readonly floors: readonly Stamp[];
}

const EMPTY: Contour = { state: { row: null, tombstone: null }, floors: [] };

function merge({ state, floors }: Contour, one: Change, by: ConflictPolicy): Contour {
  if (one.kind === "floor") return { state: mergeFloor(state, one.stamp, by), floors: [...floors, one.stamp] };
  return { state: mergeKey(state, one, greatestStamp(floors, by), by).state, floors };
}

function mergeAll(changes: readonly Change[], by: ConflictPolicy): Contour {
  return changes.reduce((contour, one) => merge(contour, one, by), EMPTY);
}

/** What must be alike everywhere: the row, and what would beat a further one. */
function seen({ state, floors }: Contour, by: ConflictPolicy) {
  const deletions = [...floors, ...(state.tombstone ? [state.tombstone] : [])];
  return { row: state.row, deletion: greatestStamp(deletions, by) };
}

const shuffled = fc.array(change, { maxLength: 7 }).chain((changes) =>
  fc.record({
    changes: fc.constant(changes),
    other: fc.shuffledSubarray([...changes, ...changes], {
      minLength: changes.length * 2,
      maxLength: changes.length * 2,
    }),
  }),
);

test("I6: changes, tombstones and floors merge to the same in every order and with every duplicate", () => {
  fc.assert(
    fc.property(shuffled, policy, ({ changes, other }, by) => {
      expect(seen(mergeAll(other, by), by)).toEqual(seen(mergeAll(changes, by), by));
    }),
    RUNS,
  );
});

test("I6: what is merged already changes nothing when it comes again", () => {
  fc.assert(
    fc.property(fc.array(change, { minLength: 1, maxLength: 7 }), fc.nat(), policy, (changes, n, by) => {
      const contour = mergeAll(changes, by);
      const again = changes[n % changes.length];
      if (again) expect(seen(merge(contour, again, by), by)).toEqual(seen(contour, by));
    }),
    RUNS,
  );
});

test("I6: a row is there only when no deletion known beats it, and no greater row has come", () => {
  fc.assert(
    fc.property(fc.array(change, { maxLength: 7 }), policy, (changes, by) => {
      const deletions = changes.flatMap((one) => (one.kind === "row" ? [] : [one.stamp]));
      const rows = changes.flatMap((one) => (one.kind === "row" ? [one.row] : []));
      const best = greatestRow(rows, by);
      const lives = best !== null && !deletions.some((deletion) => deletes(deletion, best.stamp, by));
      expect(mergeAll(changes, by).state.row).toEqual(lives ? best : null);
    }),
    RUNS,
  );
});

test("Coalescing: the greatest row and the greatest deletion of a group come to what the group comes to one by one", () => {
  fc.assert(
    fc.property(fc.array(change, { maxLength: 4 }), fc.array(change, { maxLength: 7 }), policy, (before, group, by) => {
      const best = greatestRow(
        group.flatMap((one) => (one.kind === "row" ? [one.row] : [])),
        by,
      );
      const of = (kind: "deletion" | "floor") => {
        const stamps = group.flatMap((one) => (one.kind === kind ? [one.stamp] : []));
        const greatest = greatestStamp(stamps, by);
        return greatest ? [{ kind, stamp: greatest }] : [];
      };
      const coalesced: Change[] = [
        ...of("floor"),
        ...of("deletion"),
        ...(best ? [{ kind: "row" as const, row: best }] : []),
      ];
      expect(seen(mergeAll([...before, ...coalesced], by), by)).toEqual(seen(mergeAll([...before, ...group], by), by));
    }),
    RUNS,
  );
});

test("An outcome says whether the change is what is known now", () => {
  fc.assert(
    fc.property(fc.array(change, { maxLength: 5 }), change, policy, (changes, last, by) => {
      const { state, floors } = mergeAll(changes, by);
      if (last.kind === "floor") return;
      const merged = mergeKey(state, last, greatestStamp(floors, by), by);
      if (last.kind === "row") expect(merged.outcome === "applied").toBe(merged.state.row === last.row);
      else if (merged.outcome === "applied") expect(merged.state.row).toBeNull();
    }),
    RUNS,
  );
});
