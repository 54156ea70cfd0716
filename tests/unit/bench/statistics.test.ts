import { describe, expect, test } from "bun:test";
import { againstBulk, againstPlain } from "../../../bench/derived.ts";
import { figuresOf, spreadOf } from "../../../bench/statistics.ts";
import { RATE, result, samples } from "./results.ts";

const figures = (taken: ReturnType<typeof samples>) => figuresOf(result(taken));

describe("a spread", () => {
  test("a spread has the least, the greatest and the middle value, or the mean of the middle two", () => {
    expect(spreadOf([9, 1, 5])).toEqual({ min: 1, median: 5, max: 9 });
    expect(spreadOf([8, 2, 4, 6])).toEqual({ min: 2, median: 5, max: 8 });
    expect(spreadOf([])).toBeNull();
  });
});

describe("a ratio", () => {
  test("each run is compared with the mean of the yardstick's runs before and after it", () => {
    const [figure] = figures(samples(RATE, [10, 30, 30], [10, 10, 30, 90]));
    // 10 / 10, 30 / 20, 30 / 60: the medians alone would say 30 / 20.
    expect(figure?.ratio).toEqual({ min: 0.5, median: 1, max: 1.5 });
    expect(figure?.value).toEqual({ min: 10, median: 30, max: 30 });
    expect(figure?.yardstick).toEqual({ min: 10, median: 20, max: 90 });
  });

  test("a quick run's last round has a yardstick before it only", () => {
    expect(figures(samples(RATE, [30], [10]))[0]?.ratio).toEqual({ min: 3, median: 3, max: 3 });
  });

  test("there is none where the yardstick has no such metric, or was 0", () => {
    expect(figures(samples({ ...RATE, process: "publisher" }, [30]))[0]?.ratio).toBeNull();
    expect(figures(samples(RATE, [30], [0]))[0]?.ratio).toBeNull();
  });

  test("contestants, conditions, metrics and processes are kept apart", () => {
    const places = [
      RATE,
      { ...RATE, contestant: "kafka" },
      { ...RATE, condition: "old-transaction" as const },
      { ...RATE, metric: "update, from commit" },
      { ...RATE, process: "publisher" },
      { ...RATE, workload: "backlog" },
    ];
    const found = figures(places.flatMap((place, n) => samples(place, [n + 1], [1])));
    expect(found.map(({ value }) => value.median)).toEqual([1, 2, 3, 4, 5, 6]);
    expect(found.map(({ ratio }) => ratio?.median)).toEqual([1, 2, 3, 4, 5, 6]);
  });
});

describe("derived figures", () => {
  test("a rate with an old transaction is a share of the same rate without it, round by round", () => {
    const found = figures([
      ...samples(RATE, [100, 200, 100]),
      ...samples({ ...RATE, condition: "old-transaction" }, [90, 100, 100]),
      ...samples({ metric: "p50", unit: "ms", better: "less", condition: "old-transaction" }, [5]),
    ]);
    const [share, ...rest] = againstPlain(found);
    expect(rest).toEqual([]);
    expect(share).toMatchObject({
      metric: "insert, from commit, of the rate without an old transaction",
      condition: "old-transaction",
      unit: "%",
      value: { min: 50, median: 90, max: 100 },
      ratio: null,
    });
  });

  test("a backlog's rate is a share of the same contestant's bulk rate under the same condition", () => {
    const caughtUp = { ...RATE, workload: "backlog", metric: "caught up" };
    const found = figures([
      ...samples({ ...RATE, contestant: "kafka" }, [1]),
      ...samples({ ...RATE, condition: "old-transaction" }, [1]),
      ...samples(RATE, [100]),
      ...samples(caughtUp, [80]),
      ...samples({ ...caughtUp, contestant: "direct" }, [80]),
    ]);
    expect(againstBulk(found)).toMatchObject([{ contestant: "nats", unit: "%", value: { median: 80 } }]);
  });
});
