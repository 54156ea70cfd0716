import { expect, test } from "bun:test";
import fc from "fast-check";
import { arbitrate, type Contender, compareContenders, restampAbove, stampAbove } from "../../src/core/arbitration.ts";
import { type ConflictPolicy, compareStamps, deletes } from "../../src/core/stamp.ts";
import { closeStamp, contour, policy, stamp } from "./arbitraries.ts";
import { RUNS } from "./runs.ts";

const here = fc.record({ contour, clock: fc.oneof(fc.bigInt(0n, 3n), fc.bigInt(0n, 2n ** 60n)) });
const contender: fc.Arbitrary<Contender> = fc.record({
  stamp: closeStamp,
  table: fc.constantFrom("public.users", "public.orders"),
  key: fc.constantFrom("1", "2", "3", "é"),
  replaced: fc.option(closeStamp),
  tombstone: fc.option(closeStamp),
});
/** Rows that are here and one that comes: each beats what is buried under its key, and what it replaces. */
const dispute = (by: ConflictPolicy, holders: number) =>
  fc
    .tuple(fc.array(contender, { minLength: 1, maxLength: holders }), contender)
    .filter(([here, comes]) =>
      [...here, comes].every(({ stamp, tombstone }) => !tombstone || !deletes(tombstone, stamp, by)),
    )
    .filter(([, { stamp, replaced }]) => !replaced || compareStamps(stamp, replaced, by) > 0);
const BOTH = ["version", "latest"] as const;

test("Contenders stand in a total order: antisymmetric, transitive, equal only when table, key and stamp are", () => {
  fc.assert(
    fc.property(contender, contender, contender, policy, (a, b, c, by) => {
      expect(compareContenders(a, b, by)).toBe((0 - compareContenders(b, a, by)) as 0);
      if (compareContenders(a, b, by) >= 0 && compareContenders(b, c, by) >= 0)
        expect(compareContenders(a, c, by)).toBeGreaterThanOrEqual(0);
      const same = compareStamps(a.stamp, b.stamp, by) === 0 && a.table === b.table && a.key === b.key;
      expect(compareContenders(a, b, by) === 0).toBe(same);
    }),
    RUNS,
  );
});

test("Law 3: whichever of two rows came first, the same one is removed, at every contour", () => {
  fc.assert(
    fc.property(contender, contender, policy, here, here, (a, b, by, one, other) => {
      fc.pre(compareContenders(a, b, by) !== 0);
      const first = arbitrate([a], b, by, one).removed === "holders" ? a : b;
      const second = arbitrate([b], a, by, other).removed === "holders" ? b : a;
      expect(second).toBe(first);
    }),
    RUNS,
  );
});

for (const by of BOTH) {
  test(`Law 3: of rows that cannot all stay the greatest does, and the others go (${by})`, () => {
    fc.assert(
      fc.property(dispute(by, 3), here, ([holders, incoming], site) => {
        const { removed, stamps } = arbitrate(holders, incoming, by, site);
        const greater = holders.some((holder) => compareContenders(holder, incoming, by) >= 0);
        expect(removed).toBe(greater ? "incoming" : "holders");
        expect(stamps.length).toBe(greater ? 1 : holders.length);
      }),
      RUNS,
    );
  });

  test(`Law 3: a removal stands above all that is known of its key, and no tombstone shrinks (${by})`, () => {
    fc.assert(
      fc.property(dispute(by, 3), here, ([holders, incoming], site) => {
        const { removed, stamps } = arbitrate(holders, incoming, by, site);
        const losers = removed === "incoming" ? [incoming] : holders;
        for (const [n, removal] of stamps.entries()) {
          const { stamp: loser, replaced, tombstone } = losers[n] ?? incoming;
          for (const known of [loser, tombstone, removed === "incoming" ? replaced : null])
            if (known) expect(compareStamps(removal, known, by)).toBe(1);
          expect(removal.updatedBy).toBe(site.contour);
          if (!tombstone) continue;
          expect(removal.version).toBeGreaterThanOrEqual(tombstone.version);
          expect(removal.updatedAt).toBeGreaterThanOrEqual(tombstone.updatedAt);
        }
      }),
      RUNS,
    );
  });
}

test("Law 1: a local stamp is greater than all that is known, under both policies, whatever the clock says", () => {
  fc.assert(
    fc.property(fc.array(stamp, { maxLength: 4 }), here, (known, site) => {
      const made = stampAbove(known, site);
      for (const by of BOTH) for (const one of known) expect(compareStamps(made, one, by)).toBe(1);
      expect(made.updatedAt).toBeGreaterThanOrEqual(site.clock);
      for (const one of known) expect(made.updatedAt).toBeGreaterThan(one.updatedAt);
      expect(made.version).toBe(known.reduce((most, { version }) => (version > most ? version : most), 0n) + 1n);
    }),
    RUNS,
  );
});

test("A row is lifted exactly when its deletion beats it, and then to above it", () => {
  fc.assert(
    fc.property(closeStamp, closeStamp, policy, here, (row, deletion, by, site) => {
      const lifted = restampAbove(row, deletion, by, site);
      expect(lifted !== null).toBe(deletes(deletion, row, by));
      if (lifted) expect(deletes(deletion, lifted, by)).toBe(false);
      if (lifted) expect(compareStamps(lifted, row, by)).toBe(1);
    }),
    RUNS,
  );
});
