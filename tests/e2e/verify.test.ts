/** `replicator verify` as an operator runs it: beside running contours, over a large table, and when it cannot. */
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { freshDatabase, sharedPostgres } from "../servers/postgres.ts";
import { describeWith } from "../support/needs.ts";
import { openDirect } from "./direct_pair.ts";
import { freePort, type Replicator, runProgram, untilEqual } from "./harness.ts";
import { openPair, type Pair } from "./pair.ts";

setDefaultTimeout(240_000);
const DDL =
  "CREATE TABLE users (id bigint PRIMARY KEY, name text); CREATE TABLE orders (a int, b text, PRIMARY KEY (a, b))";

interface Printed {
  readonly verdict: string;
  readonly process: { readonly ready: boolean } | null;
  readonly comparisons: readonly {
    readonly tables: readonly Readonly<Record<string, unknown>>[];
  }[];
}

describeWith(["postgres", "nats"], "replicator verify", () => {
  let pair: Pair;
  let here: Replicator;
  let there: Replicator;
  beforeAll(async () => {
    pair = await openPair({
      broker: "nats",
      ddl: DDL,
      tables: [{ name: "users" }, { name: "orders", topic: "orders_changes" }],
    });
    here = await pair.a.start();
    there = await pair.b.start();
  });
  afterAll(async () => {
    await pair?.close();
  });
  const verify = (...args: string[]) =>
    runProgram(["verify", "--config", pair.a.configFile, ...args], { API_PORT: String(here.port) });
  const against = () => ["--against", pair.b.url];

  test("running contours are equal, also while they write, and the report has its five sections", async () => {
    const { sql } = pair.a;
    await sql`INSERT INTO users SELECT n, 'user ' || n FROM generate_series(1, 500) n`;
    await sql`INSERT INTO orders SELECT n % 7, 'o' || n FROM generate_series(1, 100) n`;
    let writing = true;
    const writer = (async () => {
      for (let n = 1000; writing; n++) {
        await sql`INSERT INTO users VALUES (${n}, 'x')`;
        await sql`UPDATE users SET name = name || '*' WHERE id = ${n % 500}`;
        await pair.b.sql`INSERT INTO orders VALUES (${n}, 'b')`;
      }
    })();
    try {
      for (let round = 0; round < 3; round++) {
        const { code, stdout, stderr } = await verify(...against(), "--wait", "60s", "--json");
        expect(stderr).toBe("");
        const printed: Printed = JSON.parse(stdout);
        // A row that is written again and again may be in flight; none may be called different.
        expect([code, ["equal", "in flight"].includes(printed.verdict)]).toEqual([0, true]);
        expect(printed.process).toMatchObject({ ready: true });
      }
    } finally {
      writing = false;
      await writer;
    }
    await untilEqual([pair.a, pair.b], { users: "id", orders: "a, b" });
    const { code, stdout } = await verify(...against(), "--wait", "60s");
    expect(stdout).toContain("Equal: 2 tables compared");
    for (const section of ["Processes", "Databases", "Comparison", "Last rows", "Lag"]) {
      expect(stdout).toContain(`── ${section} ──`);
    }
    expect([code, stdout.includes("\u001b")]).toEqual([0, false]);
  });

  test("with the other contour stopped its backlog is in flight and no difference", async () => {
    expect(await there.stop()).toBe(0);
    await pair.a.sql`INSERT INTO users VALUES (-1, 'waits')`;
    const { code, stdout } = await verify("users", ...against(), "--wait", "0s");
    expect([code, stdout]).toEqual([0, expect.stringMatching(/id=-1\s+only here, in flight/)]);
    there = await pair.b.start();
    await untilEqual([pair.a, pair.b], { users: "id" });
  });

  test("rows that differ end with 4 and are named", async () => {
    await pair.b.sql.begin(async (sql) => {
      await sql`SELECT set_config('replicator.capture', 'off', true)`;
      await sql`UPDATE orders SET b = 'spoiled' WHERE b = 'o7'`;
      await sql`UPDATE users SET name = 'spoiled' WHERE id = 3`;
    });
    const { code, stdout } = await verify(...against(), "--wait", "60s", "--json");
    expect(code).toBe(4);
    const printed: Printed = JSON.parse(stdout);
    expect(printed.comparisons[0]?.tables).toMatchObject([
      {
        table: "orders",
        only_here: 1,
        only_there: 1,
        differences: [
          { key: { a: "0", b: "o7" }, kind: "only here" },
          { key: { b: "spoiled" }, kind: "only there" },
        ],
      },
      { table: "users", different: 1, differences: [{ key: { id: "3" }, columns: ["name"] }] },
    ]);
    const text = await verify("users", ...against(), "--wait", "60s");
    expect([text.code, text.stdout]).toEqual([4, expect.stringContaining("id=3  differs in name")]);
  });

  test("what it cannot do it says: 2 for the command line, 3 for a database", async () => {
    const cases: [string[], number, string][] = [
      [[], 2, "--against"],
      [[...against(), "--limit", "many"], 2, "--limit"],
      [[...against(), "--wait", "soon"], 2, "--wait"],
      [["--against", "mysql://x"], 2, "postgres://"],
      [["--against", pair.a.url], 2, "both are contour"],
      [["a.b.c", ...against()], 2, "table name"],
      [["--against", `postgres://u:secret-word@127.0.0.1:${await freePort()}/x`], 3, "running"],
    ];
    for (const [args, code, word] of cases) {
      const ended = await verify(...args);
      expect([args, ended.code, ended.stdout]).toEqual([args, code, ""]);
      expect(ended.stderr).toContain(word);
      expect(ended.stderr).not.toContain("secret-word");
    }
    const named = await runProgram(["verify", "users", "--config", pair.a.configFile, "--wait", "60s"], {
      REPLICATOR_AGAINST: pair.b.url,
    });
    expect(named.code).toBe(4);
  });
});

describeWith("postgres", "replicator verify in direct mode", () => {
  test("compares with the target without being told where it is", async () => {
    const pair = await openDirect({
      ddl: DDL,
      tables: [{ name: "users" }, { name: "orders", topic: "orders_changes" }],
    });
    try {
      const { contour, source, target } = pair;
      const verify = (...args: string[]) => contour.command("verify", ...args);
      const replicator = await contour.start();
      await source`INSERT INTO users SELECT n, 'u' FROM generate_series(1, 300) n`;
      await source`INSERT INTO orders SELECT n, 'o' FROM generate_series(1, 300) n`;
      // At once: what is on its way is waited for by its position.
      const equal = await verify("--wait", "60s");
      expect([equal.code, equal.stdout]).toEqual([0, expect.stringContaining("Equal: 2 tables compared")]);
      await target.begin(async (sql) => {
        await sql`SELECT set_config('replicator.capture', 'off', true)`;
        await sql`DELETE FROM users WHERE id = 7`;
      });
      const different = await verify("--wait", "60s");
      expect([different.code, different.stdout]).toEqual([4, expect.stringMatching(/id=7\s+only here/)]);
      await replicator.stop();
      await source`INSERT INTO orders VALUES (1000, 'late')`;
      const waiting = await verify("orders", "--wait", "0s");
      expect([waiting.code, waiting.stdout]).toEqual([0, expect.stringContaining("still on their way")]);
    } finally {
      await pair.close();
    }
  });
});

describeWith("postgres", "replicator verify of a large table", () => {
  test("200,000 rows with 20,000 differences take hardly more memory than 200 rows", async () => {
    const server = await sharedPostgres();
    const urls = await Promise.all([freshDatabase(server), freshDatabase(server)]);
    const { default: postgres } = await import("postgres");
    for (const [n, url] of urls.entries()) {
      const sql = postgres(url, { max: 1, onnotice: () => undefined });
      const every = n === 0 ? "''" : "CASE WHEN n % 10 = 0 THEN 'other' ELSE '' END";
      const setUp = await runProgram(["setup", "--contour", `large-${n}`, "--database-url", url]);
      expect(setUp.code).toBe(0);
      await sql.unsafe(
        `CREATE TABLE small (id int PRIMARY KEY, v text); CREATE TABLE large (id text COLLATE "${n === 0 ? "C" : "en-x-icu"}" PRIMARY KEY, v text);
         INSERT INTO small SELECT n, '' FROM generate_series(1, 200) n;
         INSERT INTO large SELECT md5(n::text), repeat('v', 100) || ${every} FROM generate_series(1, 200000) n;
         SELECT setup_table_for_replication('small'); SELECT setup_table_for_replication('large')`,
      );
      await sql.end();
    }
    const args = ["--database-url", urls[0] ?? "", "--against", urls[1] ?? "", "--json"];
    const small = await measured(["verify", "small", ...args]);
    expect(small.code).toBe(0);
    const large = await measured(["verify", "large", ...args]);
    expect(large.code).toBe(4);
    const printed: Printed = JSON.parse(large.stdout);
    expect(printed.comparisons[0]?.tables).toMatchObject([
      { rows_here: 200_000, rows_there: 200_000, different: 20_000, only_here: 0, only_there: 0, in_flight: 0 },
    ]);
    expect(large.peakMegabytes - small.peakMegabytes).toBeLessThan(100);
  });
});

/** Runs the program and watches its peak of resident memory. */
async function measured(args: readonly string[]): Promise<{ code: number; stdout: string; peakMegabytes: number }> {
  const child = spawn(process.execPath, [join(import.meta.dir, "../../src/main.ts"), ...args], {
    stdio: ["ignore", "pipe", "inherit"],
    env: { ...process.env, NO_COLOR: "1" },
  });
  let stdout = "";
  let peak = 0;
  child.stdout.on("data", (data) => (stdout += data));
  const watch = setInterval(() => {
    try {
      const [, kilobytes] = /VmHWM:\s+(\d+) kB/.exec(readFileSync(`/proc/${child.pid}/status`, "utf8")) ?? [];
      peak = Math.max(peak, Number(kilobytes ?? 0));
    } catch {
      // It has ended.
    }
  }, 20);
  const code = await new Promise<number>((resolve) => child.on("close", (status) => resolve(status ?? 1)));
  clearInterval(watch);
  return { code, stdout, peakMegabytes: peak / 1024 };
}
