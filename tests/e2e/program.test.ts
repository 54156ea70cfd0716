/** The program as it is delivered: the compiled binary from an empty directory, Deno, and what it says to wrong input. */
import { afterEach, beforeAll, expect, test } from "bun:test";
import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { startNats } from "../servers/nats.ts";
import { freshDatabase, sharedPostgres } from "../servers/postgres.ts";
import { describeWith } from "../support/needs.ts";
import { until } from "../support/until.ts";
import { Contour, runProgram, untilEqual } from "./harness.ts";
import { BROKERS, brokerConfig, openPair } from "./pair.ts";

const root = join(import.meta.dir, "../..");
const closers: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

describeWith(["kafka", "nats", "postgres"], "the compiled binary", () => {
  test("replicates over both brokers from an empty directory that holds a hostile .env and bunfig.toml", async () => {
    const built = spawnSync(process.execPath, [join(root, "tools/build.ts")], { cwd: root, encoding: "utf8" });
    expect(built.stderr + built.stdout).not.toContain("error:");
    const directory = mkdtempSync(join(tmpdir(), "replicator-empty-"));
    closers.push(() => rmSync(directory, { recursive: true, force: true }));
    writeFileSync(join(directory, ".env"), "BROKER=memory\nSERVICE_CONTOUR=hostile\n");
    writeFileSync(join(directory, "bunfig.toml"), 'preload = ["./hostile.ts"]\n');
    writeFileSync(join(directory, "hostile.ts"), 'require("fs").writeFileSync("ran", "");\n');
    process.env.REPLICATOR_BINARY = join(root, "dist/replicator");
    process.env.REPLICATOR_CWD = directory;
    closers.push(() => {
      delete process.env.REPLICATOR_BINARY;
      delete process.env.REPLICATOR_CWD;
    });
    for (const broker of BROKERS) {
      const pair = await openPair({
        broker,
        ddl: "CREATE TABLE users (id bigint PRIMARY KEY, name text); CREATE TABLE events (id bigint PRIMARY KEY, v text)",
        tables: [{ name: "users" }, { name: "events", topic: "events_changes" }],
      });
      closers.push(() => pair.close());
      const { a, b } = pair;
      await Promise.all([a.start(), b.start()]);
      await a.sql`INSERT INTO users SELECT g, 'from a' FROM generate_series(1, 1000) g`;
      await b.sql`INSERT INTO users SELECT g, 'from b' FROM generate_series(1001, 2000) g`;
      await a.sql`INSERT INTO events SELECT g, 'v' FROM generate_series(1, 100) g`;
      await untilEqual([a, b], { users: "id", events: "id" });
      await pair.close();
    }
    expect(existsSync(join(directory, "ran"))).toBe(false);
  }, 180_000);
});

describeWith(["postgres", "deno"], "Deno", () => {
  test("the program starts under Deno and replicates over the memory broker", async () => {
    const deno = join(root, "node_modules/.bin/deno");
    const server = await sharedPostgres();
    const result = spawnSync(deno, ["task", "demo", "--seconds", "3"], {
      cwd: root,
      encoding: "utf8",
      timeout: 90_000,
      env: { ...process.env, REPLICATOR_POSTGRES: server.binaries },
    });
    expect(result.stderr + result.stdout).toContain("Both contours are equal.");
    expect(result.status).toBe(0);
  }, 120_000);
});

describeWith(["nats", "postgres"], "wrong input and a wrong environment", () => {
  const cases: {
    name: string;
    change: (config: Record<string, unknown>) => void;
    code: number;
    says: RegExp;
    role?: string;
  }[] = [
    {
      name: "an unknown key",
      change: (config) => {
        config.databse = {};
      },
      code: 2,
      says: /databse.*database/s,
    },
    {
      name: "a refused password",
      change: (config) => {
        const database = config.database as { url: string };
        database.url = database.url.replace(/:[^:@/]+@/, ":wrong-password@");
      },
      code: 3,
      says: /database\.(user|password|url)/,
    },
    {
      name: "a table that is not there",
      change: (config) => {
        config.critical_tables = [{ name: "missing_table" }];
      },
      code: 3,
      says: /missing_table.*tables add/s,
    },
    {
      name: "a table that is not there where changes arrive",
      role: "consumer",
      change: (config) => {
        config.critical_tables = [{ name: "users" }, { name: "missing_table" }];
      },
      code: 3,
      says: /missing_table.*tables add/s,
    },
    {
      name: "a table's name that is none",
      change: (config) => {
        config.critical_tables = [{ name: "two words" }];
      },
      code: 2,
      says: /critical_tables\[0\]\.name.*"two words"/s,
    },
    {
      name: "another contour's database",
      change: (config) => {
        config.service = { contour: "other" };
      },
      code: 2,
      says: /is contour "a".*service\.contour/s,
    },
    {
      name: "a database that does not exist",
      change: (config) => {
        const database = config.database as { url: string };
        database.url = database.url.replace(/\/[^/]*$/, "/no_such_database");
      },
      code: 3,
      says: /no_such_database.*database\.(name|url)/s,
    },
    {
      name: "a broker's user that is not let in",
      change: (config) => {
        config.nats = {
          ...(config.nats as object),
          servers: [guarded],
          user: "replicator",
          password: "wrong-password",
        };
      },
      code: 3,
      says: /nats\.(user|password)/,
    },
    {
      name: "a duration that is none",
      change: (config) => {
        config.publisher = { poll_interval: "soon" };
      },
      code: 2,
      says: /publisher\.poll_interval/,
    },
  ];
  let guarded = "";
  beforeAll(async () => {
    const nats = await startNats({ user: "replicator", password: "the-right-one" });
    guarded = nats.url;
  });
  for (const { name, change, code, says, role = "all" } of cases) {
    test(`${name} ends with ${code} and a message that names the place and the remedy`, async () => {
      const url = await freshDatabase(await sharedPostgres());
      const contour = new Contour({
        name: "a",
        url,
        broker: await brokerConfig("nats"),
        from: ["b"],
        tables: [{ name: "users" }],
      });
      closers.push(() => contour.close());
      await contour.sql`CREATE TABLE users (id bigint PRIMARY KEY, name text)`;
      await contour.prepare();
      contour.reconfigure(change);
      const args = ["run", "--role", role, "--config", contour.configFile];
      const { code: found, stderr } = await runProgram(args, { API_PORT: "0", LOG_FORMAT: "pretty" });
      expect(stderr).toMatch(says);
      expect(found).toBe(code);
      expect(stderr).not.toContain("    at ");
      expect(stderr).not.toContain("wrong-password");
    });
  }
});

describeWith(["nats", "postgres"], "tables that changed", () => {
  test("run tells at its start of those whose capture functions are stale, once each, with the command", async () => {
    const url = await freshDatabase(await sharedPostgres());
    const tables = [{ name: "users" }, { name: "orders" }, { name: "same" }];
    const contour = new Contour({ name: "a", url, broker: await brokerConfig("nats"), from: ["b"], tables });
    closers.push(() => contour.close());
    for (const { name } of tables) await contour.sql.unsafe(`CREATE TABLE ${name} (id bigint PRIMARY KEY, name text)`);
    await contour.prepare();
    await contour.sql.unsafe("ALTER TABLE users ADD COLUMN more int; ALTER TABLE orders DISABLE TRIGGER ALL");
    const told = async () => {
      const replicator = await contour.start();
      const found = () =>
        replicator
          .log()
          .split("\n")
          .filter((line) => line.includes("tables.stale"));
      await until("it is told", () => found().length > 0 || replicator.log());
      await replicator.stop();
      return found().map((line) => JSON.parse(line));
    };
    const found = await told();
    expect(found).toMatchObject([
      { level: "warn", table: "orders", message: expect.stringContaining("its triggers are gone or disabled") },
      { level: "warn", table: "users", message: expect.stringContaining("its columns changed") },
    ]);
    for (const { remedy } of found) {
      const { code } = await contour.command(
        ...String(remedy)
          .replace(/^replicator /, "")
          .split(" "),
      );
      expect(code).toBe(0);
    }
    await contour.sql`ALTER TABLE same ADD COLUMN more int`;
    expect(await told()).toMatchObject([{ table: "same" }]);
  });
});
