import { describe, expect, test } from "bun:test";
import { drawVerify } from "../../../src/cli/commands/verify_report.ts";
import type { Context } from "../../../src/cli/context.ts";
import { runCli } from "../../../src/cli/program.ts";
import type { SideFacts, TableShape, VerifyRows, VerifySide } from "../../../src/core/verify.ts";
import type { TableReport, VerifyReport } from "../../../src/verify/report.ts";
import { cli, fakeEngine } from "./support.ts";

const FACTS: SideFacts = { contour: null, queue: null, inbox: null, processed: null, waiting: {} };
const TABLE: TableReport = {
  table: "users",
  verdict: "equal",
  rows_here: 5,
  rows_there: 5,
  only_here: 0,
  only_there: 0,
  different: 0,
  in_flight: 0,
  columns_only_here: [],
  columns_only_there: [],
  problem: null,
  lag_seconds: 0,
  newest_here: [],
  newest_there: [],
  differences: [],
};

function report(tables: readonly TableReport[], verdict: VerifyReport["verdict"]): VerifyReport {
  const comparisons = [{ against: "postgres://there", verdict, there: FACTS, tables }];
  return { verdict, database: "postgres://here", process: null, here: FACTS, comparisons };
}

/** A contour with one table of as many rows, all the same everywhere. */
function side(contour: string, count = 3): VerifySide {
  const keys = { columns: ["{}"], count };
  const rows: VerifyRows = {
    next: async (after) => (after ? null : { keys, digest: "d", last: ["3"] }),
    nextKeys: async (after) => (after ? null : { keys, last: ["3"] }),
    digest: async () => "d",
    hashes: async () => [],
    missing: async () => [],
    pick: async () => [],
    list: () => keys,
    images: async () => [],
    unpolled: async () => [],
    newest: async () => [],
  };
  const shape: TableShape = {
    schema: "public",
    name: "users",
    table: "users",
    columns: [{ name: "id", type: "bigint", leftOut: false }],
    key: ["id"],
    stamp: null,
    estimatedRows: count,
    estimatedRowBytes: 10,
  };
  return {
    label: `postgres://${contour}`,
    facts: async () => ({ ...FACTS, contour }),
    replicated: async () => ["users"],
    shape: async () => shape,
    rows: () => rows,
    mark: async () => null,
    published: async () => null,
    applied: async () => null,
    close: async () => {},
  };
}

const ARGS = ["verify", "--database-url", "postgres://u@h/d", "--api-port", "0"];

describe("replicator verify", () => {
  test("equal is green, in flight yellow, different red; without colour nothing is", () => {
    const moving: TableReport = {
      ...TABLE,
      verdict: "in flight",
      in_flight: 1,
      differences: [{ kind: "only here", key: { id: "7" }, columns: [], here: null, there: null, in_flight: true }],
    };
    const wrong: TableReport = {
      ...TABLE,
      verdict: "different",
      different: 3,
      columns_only_there: ["extra"],
      differences: [
        {
          kind: "different",
          key: { a: "1", b: "x" },
          columns: ["name"],
          here: { version: "4", updated_at: null, updated_by: null },
          there: { version: "3", updated_at: null, updated_by: null },
          in_flight: false,
        },
      ],
    };
    expect(drawVerify(report([TABLE], "equal"), true)).toContain("\u001b[32mEqual: 1 table compared\u001b[0m");
    expect(drawVerify(report([TABLE, moving], "in flight"), true)).toContain(
      "\u001b[33mid=7  only here, in flight\u001b[0m",
    );
    const red = drawVerify(report([TABLE, wrong], "different"), true);
    expect(red).toContain("\u001b[31ma=1, b=x  differs in name (version 4 here, 3 there)\u001b[0m");
    expect(red).toContain("Columns only there: extra");
    expect(red).toContain("and 2 more (--limit)");
    const plain = drawVerify(report([TABLE, moving, wrong], "different"), false);
    expect(plain).not.toContain("\u001b");
    expect(plain).toContain("Of 3 tables compared: 1 different, 1 with changes that are still on their way");
  });

  test("several databases are compared one after the other; --json is one object", async () => {
    const opened: (string | null)[] = [];
    const openVerifySide = (_: unknown, against: string | null) => {
      opened.push(against);
      return side(against === null ? "here" : against.slice(-1));
    };
    const { code, out, said } = await cli(
      [...ARGS, "--json", "--against", "postgres://h/b", "--against", "postgres://h/c"],
      { openVerifySide },
    );
    expect([code, said, opened]).toEqual([0, "", [null, "postgres://h/b", "postgres://h/c"]]);
    expect(JSON.parse(out)).toMatchObject({
      verdict: "equal",
      comparisons: [{ tables: [{ table: "users", rows_here: 3 }] }, { there: { contour: "c" } }],
    });
  });

  test("a bar is drawn on a terminal and nowhere else, and is gone at the end", async () => {
    const run = async (sayIsTerminal: boolean, environment: Record<string, string>) => {
      const written: string[] = [];
      const out: string[] = [];
      const context: Context = {
        engine: fakeEngine({ openVerifySide: (_, against) => side(against ?? "here") }),
        terminal: {
          out: (text) => out.push(text),
          say: (text) => written.push(text),
          write: (text) => written.push(text),
          ask: async () => null,
          environment,
          outIsTerminal: sayIsTerminal,
          sayIsTerminal,
          colour: false,
        },
      };
      expect(await runCli([...ARGS, "--against", "postgres://h/b"], context)).toBe(0);
      return { written: written.join(""), out: out.join("") };
    };
    const terminal = await run(true, {});
    expect(terminal.written).toMatch(/users {2}\[#+\.*\] \d+ % {2}3 of about 6 rows/);
    expect(terminal.written).toEndWith("\r\u001b[K");
    expect(terminal.out).toContain("\u001b[32m");
    expect((await run(true, { NO_COLOR: "1" })).out).not.toContain("\u001b");
    expect(await run(false, {})).toMatchObject({ written: "", out: expect.not.stringContaining("\u001b") });
  });
});
