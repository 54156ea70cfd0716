/** docs/source_designs.md, row by row: what it says works is done. A row without a check, or with an unknown one, fails. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { loadConfig } from "../../src/config/load.ts";
import { ROOT } from "../../tools/cache.mjs";
import { sharedPostgres } from "../servers/postgres.ts";
import { freePort } from "../servers/scratch.ts";
import { describeWith } from "../support/needs.ts";
import { application, connect } from "../support/target_fixture.ts";
import { until } from "../support/until.ts";
import { cli } from "../unit/cli/support.ts";
import { load, RUN } from "../unit/config/support.ts";
import { type Check, designsOf, type Section } from "./source_designs_page.ts";

setDefaultTimeout(60_000);
const sections = designsOf(readFileSync(join(ROOT, "docs/source_designs.md"), "utf8"));
const schema: unknown = JSON.parse(readFileSync(join(ROOT, "config/replicator.schema.json"), "utf8"));

const read = (path: string) => readFileSync(join(ROOT, path), "utf8");
const memberOf = (value: unknown, name: string): unknown =>
  typeof value === "object" && value !== null ? Reflect.get(value, name) : undefined;
const atPath = (value: unknown, path: string) => path.split(".").reduce(memberOf, value);

/** `queue.retention = 604800000` */
function isAt(config: unknown, argument: string): void {
  const [path = "", wanted] = argument.split(" = ");
  expect(String(atPath(config, path))).toBe(wanted ?? "");
}

/** Looks into lists and alternatives as well. */
function hasKey(at: unknown, [step, ...rest]: readonly string[]): boolean {
  if (at === undefined) return false;
  if (step === undefined) return true;
  const alternatives = memberOf(at, "anyOf");
  const within = [memberOf(at, "items"), ...(Array.isArray(alternatives) ? alternatives : [])];
  return (
    hasKey(memberOf(memberOf(at, "properties"), step), rest) ||
    within.some((one: unknown) => one !== undefined && hasKey(one, [step, ...rest]))
  );
}

/** What needs no server. */
const STILL: Readonly<Record<string, (argument: string) => unknown>> = {
  file: (path) => expect(statSync(join(ROOT, path)).size).toBeGreaterThan(0),
  make: (target) => expect(read("Makefile")).toMatch(new RegExp(`^${target}:`, "m")),
  script: (name) => expect(atPath(JSON.parse(read("package.json")), `scripts.${name}`)).toBeString(),
  test: (argument) => {
    const [path = "", ...name] = argument.split(" ");
    expect(existsSync(join(ROOT, path))).toBe(true);
    // A name is found in the text of its file: whoever renames or removes the test changes the page.
    if (!read(path).includes(name.join(" "))) throw new Error(`${path} has no test of that name`);
  },
  key: (path) => {
    if (!hasKey(schema, path.split("."))) throw new Error(`The configuration has no key ${path}`);
  },
  value: (argument) => {
    isAt(load({ environment: { SERVICE_CONTOUR: "active" } }).config, argument);
  },
  env: (argument) => {
    const [setting = "", becomes] = argument.split(" → ");
    const cut = setting.indexOf("=");
    const variable = { [setting.slice(0, cut)]: setting.slice(cut + 1) };
    const base = { SERVICE_CONTOUR: "active" };
    const changed = load({ environment: { ...base, ...variable } }).config;
    if (becomes === undefined) expect(changed).not.toEqual(load({ environment: base }).config);
    else isAt(changed, becomes);
  },
  command: async (argument) => {
    const words = argument.split(" ");
    const flags = words.filter((word) => word.startsWith("--"));
    const command = words.filter((word) => !word.startsWith("--"));
    const own = await cli([...command, "--help"]);
    expect(own.out).toStartWith(`Usage: replicator ${command.join(" ")}`);
    const root = await cli(["--help"]);
    for (const flag of flags) expect(`${own.out}\n${root.out}`).toMatch(new RegExp(`(^|[ ,])${flag}[ ,]`, "m"));
  },
};

const SERVED = ["endpoint", "metric", "channel"];
const IN_DATABASE = ["sql", "holds"];

describe("the page", () => {
  test("has the five designs, and every row of theirs says how it is checked", () => {
    expect(sections.map(({ title }) => title.slice(0, 2))).toEqual(["1.", "2.", "3.", "4.", "5."]);
    const known = [...Object.keys(STILL), ...SERVED, ...IN_DATABASE];
    const rows = sections.flatMap((section) => section.rows.map((row) => ({ section: section.title, ...row })));
    expect(rows.length).toBeGreaterThan(150);
    expect(rows.filter(({ checks }) => checks.length === 0).map(({ what }) => what)).toEqual([]);
    const unknown = rows.flatMap(({ what, checks }) =>
      checks.filter(({ kind }) => !known.includes(kind)).map(({ kind }) => `${what}: ${kind}`),
    );
    expect(unknown).toEqual([]);
  });

  test("its configurations are accepted", () => {
    const files = sections.flatMap(({ yaml }) => yaml);
    expect(files.length).toBeGreaterThan(0);
    for (const yaml of files) {
      const { config } = load({ yaml, needs: RUN });
      expect(config.roles).toEqual(expect.arrayContaining(["publisher", "consumer", "sync"]));
    }
  });

  test("what it says in words is said of files, commands and keys that are there", async () => {
    const work = (check: Check) => async () => STILL[check.kind]?.(check.argument);
    expect(await failures(sections, Object.keys(STILL), work)).toEqual([]);
  });

  test("the unit for systemd names a command line and an exit code that the program has", async () => {
    const unit = read("compose/replicator.service");
    expect(unit).toContain("ExecStart=/usr/local/bin/replicator run --config ");
    expect(unit).toContain("RestartPreventExitStatus=2");
    const seconds = Number(/^TimeoutStopSec=(\d+)$/m.exec(unit)?.[1]);
    const { config } = loadConfig({ environment: {}, readFile: () => "" });
    expect(seconds * 1_000).toBeGreaterThan(config.service.shutdown_timeout);
  });
});

describeWith("postgres", "the page, in a database and of a running process", () => {
  let folder: string;
  let process_: ChildProcess;
  let url: string;
  const exited = () =>
    new Promise<void>((resolve) => (process_.exitCode === null ? process_.once("exit", () => resolve()) : resolve()));

  beforeAll(async () => {
    const server = await sharedPostgres();
    const db = await application(
      server,
      "CREATE TABLE users (id bigint PRIMARY KEY, name text); SELECT setup_table_for_replication('users')",
    );
    await db.close();
    folder = mkdtempSync(join(tmpdir(), "replicator-designs-"));
    const port = await freePort();
    url = `http://127.0.0.1:${port}`;
    const file = join(folder, "replicator.yaml");
    writeFileSync(
      file,
      `service: { contour: passive }\ndatabase: { url: "${db.url}" }\nbroker: memory\napi: { port: ${port} }\ncritical_tables:\n  - { name: users, topic: users_changes }\n`,
    );
    process_ = spawn(
      globalThis.process.execPath,
      [join(ROOT, "src/main.ts"), "run", "--config", file, "--role", "publisher"],
      {
        stdio: "ignore",
        cwd: folder,
      },
    );
    await until("the process is ready", async () => {
      if (process_.exitCode !== null) throw new Error(`The process ended with ${process_.exitCode}`);
      return (await fetch(`${url}/ready`).catch(() => null))?.status === 200;
    });
  });
  afterAll(async () => {
    process_?.kill("SIGTERM");
    await exited();
    rmSync(folder, { recursive: true, force: true });
  });

  const SERVING: Readonly<Record<string, (argument: string) => Promise<void>>> = {
    endpoint: async (argument) => {
      const [method = "", path = "", ...members] = argument.split(" ");
      const response = await fetch(`${url}${path}`, { method });
      expect(response.status).toBe(200);
      const body = await response.text();
      if (members.length > 0) expect(Object.keys(JSON.parse(body))).toEqual(expect.arrayContaining(members));
    },
    metric: async (name) => {
      expect(await (await fetch(`${url}/metrics`)).text()).toMatch(new RegExp(`^${name}(\\{.*\\})? `, "m"));
    },
    channel: async (name) => {
      const { channels } = JSON.parse(await (await fetch(`${url}/status`)).text());
      expect(channels.map((one: { channel: string }) => one.channel)).toContain(`passive/${name}`);
    },
  };

  test("endpoints, metrics and channels answer", async () => {
    const work = (check: Check) => async () => SERVING[check.kind]?.(check.argument);
    expect(await failures(sections, SERVED, work)).toEqual([]);
  });

  for (const section of sections) {
    test(`the statements of ${section.title} run`, async () => {
      const db = await application(await sharedPostgres(), section.sql.join("\n"));
      try {
        expect(await failures([section], IN_DATABASE, (check) => () => runs(db.url, check))).toEqual([]);
      } finally {
        await db.close();
      }
    });
  }
});

/** In a transaction that is rolled back. */
async function runs(url: string, { kind, argument }: Check): Promise<void> {
  const db = connect(url);
  const connection = await db.reserve();
  try {
    await connection.query("BEGIN");
    if (kind === "sql") return await connection.script(argument);
    const statements = argument.split("; ");
    const last = statements.pop() ?? "";
    if (statements.length > 0) await connection.script(statements.join("; "));
    const [row] = await connection.query(last);
    expect(Object.values(row ?? {})[0]).toBe("t");
  } finally {
    connection.destroy();
    await db.close();
  }
}

/** Does the checks of these kinds; what failed, each with its row. */
async function failures(
  of: readonly Section[],
  kinds: readonly string[],
  work: (check: Check) => () => Promise<unknown>,
): Promise<string[]> {
  const failed: string[] = [];
  for (const { title, rows } of of) {
    for (const { what, checks } of rows) {
      for (const check of checks.filter(({ kind }) => kinds.includes(kind))) {
        try {
          await work(check)();
        } catch (error) {
          const reason = error instanceof Error ? error.message : String(error);
          failed.push(`${title}: ${what}: ${check.kind}: ${check.argument}: ${reason}`);
        }
      }
    }
  }
  return failed;
}
