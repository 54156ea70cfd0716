import { describe, expect, test } from "bun:test";
import type { Config } from "../../../src/config/config.ts";
import { ReplicatorError } from "../../../src/core/errors.ts";
import { VERSION } from "../../../src/core/version.ts";
import { cli, fakeAdmin } from "./support.ts";

const ENV = {
  SERVICE_CONTOUR: "active",
  DATABASE_URL: "postgres://u:hunter2@db/app",
  BROKER: "memory",
  CONSUMER_FROM: "passive",
};

describe("the command line", () => {
  test("help names the commands that work, and none that come later", async () => {
    const { code, out } = await cli(["--help"]);
    expect(code).toBe(0);
    expect(out).toMatchSnapshot();
    for (const later of ["contours", "wait", "uninstall"]) expect(out).not.toContain(`\n  ${later} `);
    expect(out).not.toContain("undefined");
  });

  test("help of each command", async () => {
    for (const name of [
      "run",
      "demo",
      "setup",
      "tables",
      "tables add",
      "tables remove",
      "tables list",
      "check",
      "status",
      "verify",
      "parked list",
      "parked show",
      "parked retry",
      "parked discard",
      "conflicts list",
      "conflicts show",
      "snapshot",
      "generate",
      "config show",
    ]) {
      const { code, out } = await cli([...name.split(" "), "--help"]);
      expect(code).toBe(0);
      expect(out.split("Global Options")[0]?.trim()).toMatchSnapshot(name);
    }
  });

  test("run is the default command and its flags stand for keys", async () => {
    const configs: Config[] = [];
    const run = async (config: Config) => {
      configs.push(config);
    };
    const environment = { ...ENV, KAFKA_BROKERS: "k:9092" };
    expect(await cli(["--broker", "kafka", "--role", "consumer"], { run }, environment)).toMatchObject({ code: 0 });
    expect(
      await cli(
        ["run", "--role", "publisher,consumer", "--set", "api.port=0", "--set", "log.level=warn"],
        { run },
        environment,
      ),
    ).toMatchObject({ code: 0 });
    expect(configs.map(({ broker, roles, api }) => [broker, roles, api.port])).toEqual([
      ["kafka", ["consumer"], 8080],
      ["memory", ["publisher", "consumer"], 0],
    ]);
  });

  test("an unknown command or flag is refused with the nearest name, and ends with 2", async () => {
    expect(await cli(["stauts"])).toMatchObject({
      code: 2,
      said: expect.stringContaining('Unknown command "stauts"\n(Did you mean status?)'),
    });
    expect(await cli(["--brokr", "kafka"])).toMatchObject({
      code: 2,
      said: expect.stringContaining("(Did you mean --broker?)"),
    });
    expect(await cli(["status", "--jsn"])).toMatchObject({
      code: 2,
      said: expect.stringContaining("(Did you mean --json?)"),
    });
    expect(await cli(["tables", "lst"])).toMatchObject({
      code: 2,
      said: expect.stringContaining("(Did you mean list?)"),
    });
    expect(await cli(["tables"])).toMatchObject({ code: 2, said: expect.stringContaining("Usage: replicator tables") });
    expect(await cli(["tables", "remove"])).toMatchObject({
      code: 2,
      said: expect.stringContaining("Missing required argument"),
    });
    expect(await cli(["run", "extra"])).toMatchObject({ code: 2 });
    expect(await cli(["--set", "nonsense"])).toMatchObject({
      code: 2,
      said: expect.stringContaining("expected key=value"),
    });
    expect(await cli(["--set", "kafka.broker=x"])).toMatchObject({
      code: 2,
      said: expect.stringContaining("did you mean kafka.brokers?"),
    });
  });

  test("exit codes follow whose fault it is: 1 ours, 2 input, 3 environment, 4 finding", async () => {
    for (const [fault, code] of [
      ["internal", 1],
      ["input", 2],
      ["environment", 3],
      ["finding", 4],
    ] as const) {
      const error = new ReplicatorError({
        code: "x.y",
        message: `Cannot do it: ${fault}`,
        retry: "never",
        fault,
        remedy: "Do this",
      });
      const ended = await cli(["run"], { run: () => Promise.reject(error) }, ENV);
      expect(ended.code).toBe(code);
      const line: unknown = JSON.parse(ended.said.split("\n").at(-1) ?? "");
      expect(line).toMatchObject({
        level: "error",
        message: `Cannot do it: ${fault}`,
        remedy: "Do this",
        code: "x.y",
        contour: "active",
      });
    }
  });

  test("a mistake of ours has no stack trace, and no secret either", async () => {
    const run = () => Promise.reject(new TypeError("undefined is not postgres://u:hunter2@db/app, nor hunter2"));
    const { code, said } = await cli(["run"], { run }, ENV);
    expect(code).toBe(1);
    expect(said).toContain("Internal error: undefined is not postgres://u:***@db/app, nor ***");
    expect(said).not.toContain("hunter2");
    expect(said).not.toMatch(/^\s+at /m);
  });

  test("version goes to stdout", async () => {
    expect(await cli(["version"])).toEqual({ code: 0, out: VERSION, said: "" });
  });

  test("config schema is JSON on stdout, config show hides secrets", async () => {
    const schema = await cli(["config", "schema"]);
    expect(JSON.parse(schema.out)).toMatchObject({ title: "Configuration of the replicator" });
    const shown = await cli(["config", "show", "--json"], {}, { ...ENV, API_TOKEN: "topsecret" });
    expect(JSON.parse(shown.out)).toMatchObject({
      database: { url: "postgres://u:***@db/app" },
      api: { token: "***" },
    });
    expect(shown.code).toBe(0);
  });

  test("tables add without names adds all of critical_tables, with their options, and goes on after a refusal", async () => {
    const added: unknown[] = [];
    const admin = fakeAdmin({
      addTable: async (table, options, dryRun) => {
        added.push([table, options.conflict, dryRun]);
        if (table === "b") {
          throw new ReplicatorError({
            code: "tables.unfit",
            message: "Cannot add b",
            retry: "never",
            fault: "environment",
            remedy: "Key",
          });
        }
        return [`${table}: replicated`];
      },
    });
    const ended = await cli(["tables", "add"], { openAdmin: () => admin }, { ...ENV, CRITICAL_TABLES: "a,b,c" });
    expect(added).toEqual([
      ["a", "version", false],
      ["b", "version", false],
      ["c", "version", false],
    ]);
    expect(ended).toEqual({ code: 3, out: "", said: "a: replicated\nreplicator: Cannot add b\n  Key\nc: replicated" });
    expect((await cli(["tables", "add"], { openAdmin: () => admin }, ENV)).code).toBe(2);
    expect((await cli(["tables", "add", "x", "--dry-run"], { openAdmin: () => admin }, ENV)).out).toBe("x: replicated");
    expect(added.at(-1)).toEqual(["x", undefined, true]);
  });

  test("tables list and parked list print one JSON array with --json", async () => {
    const table = {
      table: "users",
      key: ["id"],
      stamp: ["version"],
      capture: "row",
      conflict: "version",
      exclude_columns: [],
      channel: "changes",
      state: "ok",
    };
    const openAdmin = () => fakeAdmin({ listTables: async () => [table], parked: async () => [] });
    expect(JSON.parse((await cli(["tables", "list", "--json"], { openAdmin }, ENV)).out)).toEqual([table]);
    expect((await cli(["tables", "list"], { openAdmin }, ENV)).out).toBe(
      "TABLE  KEY  CHANNEL  CAPTURE  CONFLICT  STATE\nusers  id   changes  row      version   ok",
    );
    expect(JSON.parse((await cli(["parked", "list", "--json"], { openAdmin }, ENV)).out)).toEqual([]);
  });

  test("status without a process and without a database says so and ends with 3", async () => {
    const { code, said } = await cli(["status", "--api-port", "0"]);
    expect(code).toBe(3);
    expect(said).toContain("no database is configured");
  });

  test("status asks the database when no process answers", async () => {
    const openAdmin = () =>
      fakeAdmin({
        status: async () => ({
          contour: "active",
          last_lsn: "7",
          settled_lsn: "5",
          last_sync_time: null,
          unpublished: 2,
          lag_seconds: 12,
          parked: 1,
          dead: 1,
          parkedSince: "2026-11-21T10:00:00Z",
          parkedTables: ["users"],
          conflicts: 0,
          tables: [],
          snapshots: [],
        }),
      });
    const { out, code } = await cli(["status", "--json", "--api-port", "0"], { openAdmin }, ENV);
    expect(code).toBe(0);
    expect(JSON.parse(out)).toMatchObject({
      contour: "active",
      last_lsn: "7",
      is_running: false,
      lag_level: "warning",
      unpublished: 2,
      parked: 2,
      dead: 1,
      suspended: ["I12 suspended since 2026-11-21T10:00:00Z: 2 parked changes (1 of them dead letters) in users"],
    });
  });

  test("generate: a bad rate is the user's input, totals are said at the end", async () => {
    const openAdmin = () =>
      fakeAdmin({ prepareGenerator: async () => [], generate: async () => ({ inserted: 3, updated: 2, deleted: 1 }) });
    expect((await cli(["generate", "--rate", "x"], { openAdmin }, ENV)).code).toBe(2);
    const { code, said } = await cli(["generate", "--rate", "50"], { openAdmin }, ENV);
    expect(code).toBe(0);
    expect(said).toMatch(/Done: 3 inserted, 2 updated, 1 deleted, \d+ a second$/);
  });

  test("demo ends with 4 when the contours differ", async () => {
    expect((await cli(["demo"], { demo: async () => true })).code).toBe(0);
    expect((await cli(["demo"], { demo: async () => false })).code).toBe(4);
    expect((await cli(["demo", "--seconds", "-1"], {})).code).toBe(2);
  });
});
