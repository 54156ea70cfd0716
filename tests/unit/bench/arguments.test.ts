import { describe, expect, test } from "bun:test";
import { parseArguments } from "../../../bench/arguments.ts";
import { loadWorkloads } from "../../../bench/workloads.ts";

const workloads = await loadWorkloads();
const parse = (...words: string[]) => parseArguments(words, workloads);
const complaint = (...words: string[]) => {
  try {
    parse(...words);
    return "";
  } catch (error) {
    return error instanceof Error ? `${error.name}: ${error.message}` : "";
  }
};

describe("the bench's command line", () => {
  test("every file of bench/workloads is a workload", () => {
    const names = workloads.map(({ name }) => name);
    expect(names).toEqual(["application", "backlog", "bulk", "latency", "pgbench", "start"]);
  });

  test("without a flag it measures everything at full size", () => {
    expect(parse()).toMatchObject({
      quick: false,
      workloads: workloads.map(({ name }) => name),
      contestants: null,
      conditions: null,
      rounds: 3,
      size: { rows: 200_000, backlog: 1_000_000, rate: 1_000 },
      out: "bench-result.json",
      compare: null,
      from: null,
      writeDoc: false,
    });
  });

  test("--quick is small, and what is named besides wins over it", () => {
    expect(parse("--quick", "--rows", "50", "--rounds=2")).toMatchObject({
      quick: true,
      rounds: 2,
      size: { rows: 50, seconds: 1 },
    });
  });

  test("lists are separated by commas", () => {
    const given = parse("--only", "bulk,latency", "--contestants=nats,kafka", "--conditions", "old-transaction");
    expect(given.workloads).toEqual(["bulk", "latency"]);
    expect(given.contestants).toEqual(["nats", "kafka"]);
    expect(given.conditions).toEqual(["old-transaction"]);
  });

  test("--write-doc reads --from, else --out", () => {
    expect(parse("--write-doc").from).toBe("bench-result.json");
    expect(parse("--write-doc", "--out", "a.json").from).toBe("a.json");
    expect(parse("--write-doc", "--from", "b.json", "--out", "a.json").from).toBe("b.json");
  });

  test("everything wrong is told at once, with the nearest name", () => {
    const told = complaint("--qick", "--only", "bulk,latncy", "--contestants", "kafak", "--rows", "many", "--out");
    expect(told).toStartWith("UsageError: ");
    expect(told).toContain('Unknown flag "--qick" (did you mean --quick?)');
    expect(told).toContain('--only: unknown "latncy" (did you mean latency?)');
    expect(told).toContain('--contestants: unknown "kafak" (did you mean kafka?)');
    expect(told).toContain('--rows: expected a whole number of 1 or more, found "many"');
    expect(told).toContain("--out needs a value");
  });

  test("a value of a flag without one, a flag given twice, and a stray word are refused", () => {
    expect(complaint("--quick=yes")).toContain('--quick takes no value, found "yes"');
    expect(complaint("--rows", "1", "--rows", "2")).toContain("--rows is given twice");
    expect(complaint("bulk")).toContain('Unexpected word "bulk"');
    expect(complaint("--out", "--quick")).toContain("--out needs a value");
  });
});
