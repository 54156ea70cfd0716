import { describe, expect, test } from "bun:test";
import { GOALS } from "../../../bench/goals.ts";
import { sectionsOf } from "../../../bench/report.ts";
import { markdownTable, plainTable } from "../../../bench/text_table.ts";
import { loadWorkloads } from "../../../bench/workloads.ts";
import { RATE, result, samples } from "./results.ts";

const P50 = { workload: "latency", metric: "p50", unit: "ms", better: "less" } as const;
const section = (run: ReturnType<typeof result>, title: string) =>
  sectionsOf(run).find((one) => one.title.startsWith(title));
const verdict = (run: ReturnType<typeof result>) => section(run, "Goals")?.rows[0]?.at(-1);

describe("the tables", () => {
  test("a metric's table has value, yardstick, ratio and spread of each contestant, with floor, goal and verdict", () => {
    const run = result([
      ...samples({ ...RATE, contestant: "control" }, [950, 1_000, 1_050], [1_000, 1_000, 1_000, 1_000]),
      ...samples(RATE, [400, 500, 600], [1_000, 1_000, 1_000, 1_000]),
    ]);
    const table = section(run, "bulk: insert");
    expect(table?.head).toEqual([
      "",
      "rows/s",
      "min – max",
      "native",
      "× native",
      "min – max",
      "floor",
      "goal",
      "verdict",
    ]);
    expect(table?.rows).toEqual([
      ["control", "1,000", "950 – 1,050", "1,000", "1.00", "0.95 – 1.05", "", "", ""],
      ["nats", "500", "400 – 600", "1,000", "0.50", "0.40 – 0.60", "0.4", "0.8", "floor reached"],
    ]);
  });

  test("what stands alone has no columns of a yardstick or a goal", () => {
    const table = section(result(samples({ ...P50, contestant: "direct" }, [5])), "latency: p50");
    expect(table?.head).toEqual(["", "ms", "min – max"]);
  });

  test("processes have one line each, their metrics a column each, below the figures of their workload", () => {
    const cpu = { metric: "insert, CPU", unit: "µs/row", better: "less", process: "publisher" } as const;
    const run = result([
      ...samples(cpu, [3]),
      ...samples({ ...cpu, process: "consumer" }, [4]),
      ...samples({ ...cpu, metric: "memory", unit: "MB" }, [90]),
      ...samples(RATE, [1], [1]),
    ]);
    expect(sectionsOf(run).map(({ title }) => title.split(":")[1] ?? "")).toEqual([
      " insert, from commit",
      " processes",
      "",
    ]);
    expect(section(run, "bulk: processes")).toMatchObject({
      head: ["", "insert, CPU µs/row", "memory MB"],
      rows: [
        ["nats: publisher", "3.00", "90.0"],
        ["nats: consumer", "4.00", ""],
      ],
    });
  });

  test("the title tells that an old transaction was open", () => {
    const run = result(samples({ ...RATE, condition: "old-transaction" }, [1]));
    expect(sectionsOf(run)[0]?.title).toBe("bulk: insert, from commit, an old transaction held open");
  });

  test("columns are in line, and Markdown has a rule", () => {
    expect(plainTable(["", "rows/s"], [["nats", "5"]])).toBe("      rows/s\nnats       5");
    expect(markdownTable(["", "rows/s"], [["nats", "5"]])).toBe("|  | rows/s |\n| --- | ---: |\n| nats | 5 |");
  });
});

describe("a verdict", () => {
  const bulk = (...ratios: number[]) => verdict(result(samples(RATE, ratios, [1, 1, 1, 1])));

  test("the median of the ratios decides between short, floor and goal; what equals it has reached it", () => {
    expect([bulk(0.39), bulk(0.4), bulk(0.79), bulk(0.8)]).toEqual([
      "short",
      "floor reached",
      "floor reached",
      "goal reached",
    ]);
    expect(bulk(0.1, 0.5, 0.6)).toBe("floor reached");
  });

  test("of times less is better", () => {
    expect(verdict(result(samples(P50, [8])))).toBe("floor reached");
    expect(verdict(result(samples(P50, [8.1])))).toBe("short");
  });

  test("nothing is said of what nobody agreed on, nor of a ratio that is not there", () => {
    expect(verdict(result(samples({ ...RATE, contestant: "direct" }, [1], [1])))).toBeUndefined();
    expect(verdict(result(samples({ ...RATE, contestant: "memory" }, [1], [1])))).toBeUndefined();
    expect(verdict(result(samples(RATE, [1])))).toBeUndefined();
  });

  test("a quick run is not judged", () => {
    expect(verdict(result(samples(RATE, [0.1], [1]), { quick: true }))).toBe("not judged");
  });

  test("every goal is about workloads and contestants that there are", async () => {
    const workloads = await loadWorkloads();
    for (const goal of GOALS) {
      const workload = workloads.find(({ name }) => name === goal.workload);
      expect(goal.contestants.some((name) => workload?.contestants.includes(name))).toBe(true);
    }
  });
});
