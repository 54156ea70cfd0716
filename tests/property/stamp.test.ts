import { expect, test } from "bun:test";
import fc from "fast-check";
import { compareBytes, compareStamps, deletes, replaces } from "../../src/core/stamp.ts";
import { closeRow, policy, row, stamp, text } from "./arbitraries.ts";
import { RUNS } from "./runs.ts";

test("Stamps are compared in a total order: antisymmetric and transitive, equal only when they are the same", () => {
  fc.assert(
    fc.property(stamp, stamp, stamp, policy, (a, b, c, by) => {
      expect(compareStamps(a, b, by)).toBe((0 - compareStamps(b, a, by)) as 0);
      if (compareStamps(a, b, by) >= 0 && compareStamps(b, c, by) >= 0)
        expect(compareStamps(a, c, by)).toBeGreaterThanOrEqual(0);
      expect(compareStamps(a, b, by) === 0).toBe(
        a.version === b.version && a.updatedAt === b.updatedAt && a.updatedBy === b.updatedBy,
      );
    }),
    RUNS,
  );
});

test("I6: of two rows exactly one replaces the other, or they are the same", () => {
  fc.assert(
    fc.property(fc.oneof(row, closeRow), fc.oneof(row, closeRow), policy, (a, b, by) => {
      const same = compareStamps(a.stamp, b.stamp, by) === 0 && a.text === b.text;
      expect([replaces(a, b, by), replaces(b, a, by)].filter(Boolean).length).toBe(same ? 0 : 1);
    }),
    RUNS,
  );
});

test("replaces and deletes say what the comparison of stamps says, but for equal ones", () => {
  fc.assert(
    fc.property(row, row, policy, (a, b, by) => {
      const order = compareStamps(a.stamp, b.stamp, by);
      if (order !== 0) expect(replaces(a, b, by)).toBe(order > 0);
      expect(deletes(a.stamp, b.stamp, by)).toBe(order >= 0);
    }),
    RUNS,
  );
});

test("A tombstone beats a row of its own stamp, and loses to the very next one", () => {
  fc.assert(
    fc.property(stamp, policy, (a, by) => {
      expect(deletes(a, a, by)).toBe(true);
      expect(deletes(a, { ...a, version: a.version + 1n, updatedAt: a.updatedAt + 1n }, by)).toBe(false);
    }),
    RUNS,
  );
});

test("The policy decides which component comes first", () => {
  const older = { version: 5n, updatedAt: 1n, updatedBy: "a" };
  const newer = { version: 4n, updatedAt: 2n, updatedBy: "a" };
  expect(compareStamps(older, newer, "version")).toBe(1);
  expect(compareStamps(older, newer, "latest")).toBe(-1);
});

test("Text is compared by the bytes of its UTF-8, not by UTF-16 units", () => {
  fc.assert(
    fc.property(text, text, (a, b) => {
      expect(compareBytes(a, b)).toBe(Math.sign(Buffer.compare(Buffer.from(a), Buffer.from(b))) as 0);
    }),
    RUNS,
  );
  expect(compareBytes("\uffff", "🦔")).toBe(-1);
  expect("\uffff" < "🦔").toBe(false);
});
