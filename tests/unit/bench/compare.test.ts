import { expect, test } from "bun:test";
import { compare } from "../../../bench/compare.ts";
import { RATE, result, samples } from "./results.ts";

const P50 = { workload: "latency", metric: "p50", unit: "ms", better: "less" } as const;
const rows = (before: ReturnType<typeof samples>, now: ReturnType<typeof samples>) =>
  compare(result(before), result(now)).section.rows;

test("ratios are compared, not the figures of two days", () => {
  const [row] = rows(samples(RATE, [100], [200]), samples(RATE, [300], [400]));
  expect(row).toEqual([
    "bulk: insert, from commit, ratio",
    "nats",
    "0.50",
    "0.50 – 0.50",
    "0.75",
    "0.75 – 0.75",
    "50 %",
    "better",
  ]);
});

test("what has no ratio is compared as it is, and of times less is better", () => {
  const words = (then: number, now: number) => rows(samples(P50, [then]), samples(P50, [now]))[0]?.slice(-2);
  expect(words(10, 5)).toEqual(["-50 %", "better"]);
  expect(words(5, 10)).toEqual(["100 %", "worse"]);
});

test("spreads that overlap prove nothing, and of context nothing is better", () => {
  expect(rows(samples(P50, [4, 5, 6]), samples(P50, [6, 7, 8]))[0]?.at(-1)).toBe("");
  expect(rows(samples(P50, [4, 5, 6]), samples(P50, [6.1, 7, 8]))[0]?.at(-1)).toBe("worse");
  const context = { ...P50, better: "neither" } as const;
  expect(rows(samples(context, [1]), samples(context, [9]))[0]?.at(-1)).toBe("");
});

test("what only one of them has is left out", () => {
  expect(rows(samples(P50, [1]), samples({ ...P50, contestant: "kafka" }, [1]))).toEqual([]);
  expect(rows(samples(P50, [1]), samples({ ...P50, condition: "old-transaction" }, [1]))).toEqual([]);
});

test("it is said what was not alike, but not that the load average differs", () => {
  const before = result([]);
  const machine = { ...before.machine, load_before: 9, versions: { postgresql: "16.1" } };
  const now = result([], { machine, quick: true, size: { ...before.size, rows: 2_000 } });
  expect(compare(before, now).differences).toEqual([
    "quick: false then, true now",
    "rows: 200000 then, 2000 now",
    "postgresql: 17.1 then, 16.1 now",
  ]);
});
