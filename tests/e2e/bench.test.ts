/** The bench works: it measures, prints and writes. How fast anything is is no matter here. */
import { beforeAll, describe, expect, test } from "bun:test";
import { type SpawnSyncReturns, spawn, spawnSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import postgres from "postgres";
import { holdTransaction } from "../../bench/old_transaction.ts";
import { readResult } from "../../bench/result_file.ts";
import { conditionsOf, takingPart } from "../../bench/runner.ts";
import type { Result, Workload } from "../../bench/types.ts";
import { loadWorkloads } from "../../bench/workloads.ts";
import { ROOT } from "../../tools/cache.mjs";
import { freshDatabase, sharedPostgres } from "../servers/postgres.ts";
import { scratch } from "../servers/scratch.ts";
import { describeWith } from "../support/needs.ts";
import { until } from "../support/until.ts";

const QUICK_TIMEOUT_MS = 900_000;
const MAIN = join(ROOT, "bench/main.ts");
const QUICK = { quick: true, contestants: null, conditions: null };

interface Ended {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

async function bench(...words: string[]): Promise<Ended> {
  const child = spawn(process.execPath, [MAIN, ...words], { cwd: ROOT, stdio: ["ignore", "pipe", "pipe"] });
  let [stdout, stderr] = ["", ""];
  child.stdout.on("data", (data) => (stdout += data));
  child.stderr.on("data", (data) => (stderr += data));
  const code = await new Promise<number | null>((resolve) => child.once("close", resolve));
  return { code, stdout, stderr };
}

/** Without servers. */
const ask = (...words: string[]): SpawnSyncReturns<string> =>
  spawnSync(process.execPath, [MAIN, ...words], { cwd: ROOT, encoding: "utf8" });

describe("the bench's command line", () => {
  test("a wrong flag ends with 2 and the nearest name, before anything is started", () => {
    const { status, stderr, stdout } = ask("--qick", "--only", "bluk");
    expect(stderr).toContain('Unknown flag "--qick" (did you mean --quick?)');
    expect(stderr).toContain('unknown "bluk" (did you mean bulk?)');
    expect([status, stdout]).toEqual([2, ""]);
  });

  test("a result that cannot be read ends with 2 and says which, before anything is started", () => {
    const file = join(scratch("bench"), "other.json");
    writeFileSync(file, `{"format": 2}`);
    expect(ask("--compare", file)).toMatchObject({ status: 2, stderr: expect.stringContaining(file) });
    expect(ask("--from", `${file}.missing`)).toMatchObject({
      status: 2,
      stderr: expect.stringContaining("Cannot read"),
    });
  });

  test("contestants that take no part in the workloads end with 2", () => {
    const { status, stderr } = ask("--only", "bulk", "--contestants", "start-nats");
    expect(stderr).toContain("nothing to measure");
    expect(status).toBe(2);
  });

  test("--help lists every workload", async () => {
    const { status, stdout } = ask("--help");
    for (const { name, about } of await loadWorkloads())
      expect(stdout).toMatch(new RegExp(`^  ${name} +${about}$`, "m"));
    expect(status).toBe(0);
  });
});

describeWith("postgres:17", "the bench's old transaction", () => {
  test("it has an xid and a snapshot, does nothing, and is gone when it is ended", async () => {
    const url = await freshDatabase(await sharedPostgres(17));
    const sql = postgres(url, { max: 1 });
    const open = async () =>
      await sql`
        SELECT state, backend_xid IS NOT NULL AS has_xid, backend_xmin IS NOT NULL AS has_snapshot
          FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()`;
    const end = await holdTransaction(url);
    expect([...(await open())]).toEqual([{ state: "idle in transaction", has_xid: true, has_snapshot: true }]);
    await end();
    await until("it is gone", async () => (await open()).length === 0);
    await sql.end();
  });
});

describeWith(["postgres:17", "kafka", "nats"], "bench --quick", () => {
  const out = join(scratch("bench"), "result.json");
  let ended: Ended;
  let result: Result;
  let workloads: readonly Workload[];

  beforeAll(async () => {
    workloads = await loadWorkloads();
    ended = await bench("--quick", "--out", out);
    if (ended.code !== 0) throw new Error(`bench --quick ended with ${ended.code}\n${ended.stderr}\n${ended.stdout}`);
    result = readResult(out);
  }, QUICK_TIMEOUT_MS);

  test("every workload has figures of each contestant and of the yardstick beside it, under each condition", () => {
    const found = new Set(
      result.samples.map(({ workload, contestant, condition, role }) => [workload, contestant, condition, role].join()),
    );
    const expected = workloads.flatMap((workload) =>
      takingPart(workload, QUICK).flatMap((contestant) =>
        conditionsOf(workload, QUICK).flatMap((condition) => {
          const roles = result.yardsticks[workload.name] ? ["contestant", "yardstick"] : ["contestant"];
          return roles.map((role) => [workload.name, contestant, condition, role].join());
        }),
      ),
    );
    expect([...found].sort()).toEqual(expected.sort());
    expect(result.yardsticks).toEqual({
      application: "off",
      backlog: "native",
      bulk: "native",
      latency: "native",
      pgbench: "native",
    });
  });

  test("each workload brings its figures, and they are numbers of this world", () => {
    const metrics = (workload: string) =>
      [...new Set(result.samples.filter((sample) => sample.workload === workload).map(({ metric }) => metric))].sort();
    expect(metrics("bulk")).toEqual([
      ...["delete, CPU", "delete, from commit", "delete, from start", "insert, CPU", "insert, from commit"],
      ...["insert, from start", "memory", "update, CPU", "update, from commit", "update, from start"],
    ]);
    expect(metrics("latency")).toEqual(["memory", "p50", "p95", "p99", "rate reached", "steady, CPU"]);
    expect(metrics("backlog")).toEqual(["catching up, CPU", "caught up", "memory"]);
    expect(metrics("start")).toEqual(["idle, CPU of one core", "memory", "start to ready"]);
    expect(metrics("pgbench")).toEqual([
      ...["applied while it runs", "drain time", "lag growth, of the source rate", "memory", "source rate"],
      "unthrottled, CPU",
    ]);
    expect(metrics("application")).toEqual([
      ...["bulk delete statement", "bulk insert statement", "bulk update statement", "single-row transactions"],
    ]);
    // Rates and memory are above 0; only a lag may shrink.
    const wrong = result.samples.filter(
      ({ metric, unit, value }) =>
        !Number.isFinite(value) ||
        (["rows/s", "tps", "MB"].includes(unit) && metric !== "applied while it runs" && value <= 0),
    );
    expect(wrong).toEqual([]);
  });

  test("memory and processor time are told of each process", () => {
    const processes = (workload: string, contestant: string) =>
      [
        ...new Set(
          result.samples
            .filter((sample) => sample.workload === workload && sample.contestant === contestant)
            .filter(({ role, process }) => role === "contestant" && process !== undefined)
            .map(({ process }) => process),
        ),
      ].sort();
    expect(processes("bulk", "kafka")).toEqual([
      "consumer",
      "kafka",
      "publisher",
      "source PostgreSQL",
      "target PostgreSQL",
    ]);
    expect(processes("backlog", "nats")).toEqual([
      "consumer",
      "nats",
      "publisher",
      "source PostgreSQL",
      "target PostgreSQL",
    ]);
    expect(processes("bulk", "memory")).toEqual(["both contours", "source PostgreSQL", "target PostgreSQL"]);
    expect(processes("start", "start-nats")).toEqual(["PostgreSQL", "replicator"]);
  });

  test("the tables are printed, with ratios, and say that a quick run means nothing", () => {
    for (const { name } of workloads) expect(ended.stdout).toMatch(new RegExp(`^${name}: `, "m"));
    expect(ended.stdout).toMatch(/^bulk: insert, from commit\n +rows\/s +min – max +native +× native +min – max/m);
    expect(ended.stdout).toMatch(/^ {2}kafka +[\d,.]+ +[\d,.]+ – [\d,.]+ +[\d,.]+ +\d+\.\d\d/m);
    expect(ended.stdout).toContain("Goals and floors");
    expect(ended.stdout).not.toMatch(/floor reached|goal reached| short$/m);
    expect(ended.stdout).toContain("its figures mean nothing");
  });

  test("a result is shown and compared again without measuring", () => {
    const { status, stdout } = ask("--from", out, "--compare", out);
    expect(status).toBe(0);
    expect(stdout).toContain(`Against the run of ${result.date}`);
    expect(stdout).toMatch(/^ {2}bulk: insert, from commit, ratio +nats .* 0 %/m);
    expect(stdout).not.toContain("not alike");
  });

  test("its figures do not go into the documentation", () => {
    const page = join(ROOT, "docs/benchmarks.md");
    const before = readFileSync(page, "utf8");
    const { status, stderr } = ask("--write-doc", "--from", out);
    expect([status, stderr]).toEqual([2, expect.stringContaining("A --quick run measures nothing")]);
    expect(readFileSync(page, "utf8")).toBe(before);
  });
});
