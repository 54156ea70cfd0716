import { expect, test } from "bun:test";
import fc from "fast-check";
import { arbitrate, type Contender, compareContenders, restampAbove, stampAbove } from "../../src/core/arbitration.ts";
import { compareStamps, deletes } from "../../src/core/stamp.ts";
import { closeStamp, contour, policy, stamp } from "./arbitraries.ts";
import { RUNS } from "./runs.ts";

const here = fc.record({ contour, clock: fc.oneof(fc.bigInt(0n, 3n), fc.bigInt(0n, 2n ** 60n)) });
const contender: fc.Arbitrary<Contender> = fc.record({
  stamp: closeStamp,
  table: fc.constantFrom("public.users", "public.orders"),
  key: fc.constantFrom("1", "2", "3", "é"),
  known: fc.array(closeStamp, { maxLength: 3 }),
});
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
      const first = arbitrate(a, b, by, one).removed === "holder" ? a : b;
      const second = arbitrate(b, a, by, other).removed === "holder" ? b : a;
      expect(second).toBe(first);
    }),
    RUNS,
  );
});

test("Law 3: the removal stands above everything known of the key, and above the row that is removed", () => {
  fc.assert(
    fc.property(contender, contender, policy, here, (holder, incoming, by, site) => {
      const { removed, stamp: removal } = arbitrate(holder, incoming, by, site);
      const loser = removed === "holder" ? holder : incoming;
      for (const known of [loser.stamp, ...loser.known]) expect(compareStamps(removal, known, by)).toBe(1);
      expect(removal.updatedBy).toBe(site.contour);
    }),
    RUNS,
  );
});

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
