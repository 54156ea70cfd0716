import { expect, test } from "bun:test";
import fc from "fast-check";
import { type ConflictPolicy, compareBytes, compareStamps, deletes, replaces } from "../../../src/core/stamp.ts";

const text = fc.oneof(
  fc.constantFrom("", "a", "Zone", "active", "\uffff", "🦔", "\ue000", "\ud7ff"),
  fc.string({ unit: "binary", maxLength: 6 }),
);
const stamp = fc.record({
  version: fc.oneof(fc.bigInt(0n, 2n), fc.bigInt(0n, 2n ** 63n - 1n)),
  updatedAt: fc.oneof(fc.bigInt(0n, 2n), fc.bigInt(-(2n ** 62n), 2n ** 62n)),
  updatedBy: text,
});
const row = fc.record({ stamp, text });
const policy = fc.constantFrom<ConflictPolicy>("version", "latest");
const RUNS = { numRuns: 10_000 };

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
    fc.property(row, row, policy, (a, b, by) => {
      const same = compareStamps(a.stamp, b.stamp, by) === 0 && a.text === b.text;
      expect([replaces(a, b, by), replaces(b, a, by)].filter(Boolean).length).toBe(same ? 0 : 1);
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
