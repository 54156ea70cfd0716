import { expect, test } from "bun:test";
import { lagGrowth } from "../../../bench/trend.ts";

const every = (ms: number, lags: readonly number[]) => lags.map((lag, n) => ({ at: n * ms, lag }));

test("a lag that grows by 50 in 250 ms grows by 200 a second", () => {
  expect(lagGrowth(every(250, [0, 50, 100, 150, 200, 250, 300]))).toBeCloseTo(200);
});

test("a lag that goes up and down does not grow, and one that shrinks is below 0", () => {
  expect(lagGrowth(every(100, [10, 0, 10, 0, 10, 0, 10]))).toBeCloseTo(0);
  expect(lagGrowth(every(100, [90, 80, 70, 60, 50, 40]))).toBeCloseTo(-100);
});

test("the first third of the time does not count", () => {
  expect(lagGrowth(every(100, [0, 500, 1_000, 1_000, 1_000, 1_000, 1_000]))).toBeCloseTo(0);
});

test("too few samples tell nothing", () => {
  expect(lagGrowth([])).toBe(0);
  expect(lagGrowth(every(100, [0, 50]))).toBe(0);
});
