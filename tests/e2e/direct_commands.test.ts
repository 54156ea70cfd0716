/** Direct mode beside the flow of changes: refusals, commands, roles, what else goes the same way, another target. */
import { afterEach, expect, test } from "bun:test";
import { join } from "node:path";
import postgres from "postgres";
import { freshDatabase, sharedPostgres, startPostgres } from "../servers/postgres.ts";
import { describeWith } from "../support/needs.ts";
import { until } from "../support/until.ts";
import { type DirectPair, openDirect } from "./direct_pair.ts";

const DDL = `
CREATE TABLE users (id bigint PRIMARY KEY, name text, email text);
CREATE TABLE events (id bigint PRIMARY KEY, v text);
CREATE TABLE many (id bigint PRIMARY KEY, v text)`;
/** One in the default channel, one in a channel of its own. */
const TABLES = [{ name: "users" }, { name: "events", topic: "events_changes" }, { name: "many", capture: "statement" }];
const ALL = { users: "id", events: "id" };

describeWith("postgres", "direct mode, its commands and limits", () => {
  const closers: (() => Promise<unknown>)[] = [];
  let pair: DirectPair | null = null;
  afterEach(async () => {
    await pair?.close();
    pair = null;
    for (const close of closers.splice(0).reverse()) await close();
  });

  test("source and target that are one database are refused, whatever the addresses", async () => {
    const server = await startPostgres();
    closers.push(() => server.close());
    const url = await server.createDatabase();
    const alias = url.replace("127.0.0.1", "localhost");
    expect(alias).not.toBe(url);
    pair = await openDirect({ ddl: "SELECT 1", sourceUrl: url, targetUrl: alias });
    const { contour } = pair;
    for (const args of [["setup"], ["tables", "add", "users"], ["run", "--api-port", "0"]]) {
      const { code, stderr } = await contour.command(...args);
      expect({ args, code, stderr }).toMatchObject({
        code: 2,
        stderr: expect.stringContaining("lead to the same database"),
      });
    }
    const { code, stderr } = await contour.command("check");
    expect({ code, stderr }).toMatchObject({ code: 4, stderr: expect.stringContaining("direct.same_database") });
  });

  test("a target set up as another contour is refused", async () => {
    pair = await openDirect({ ddl: DDL, tables: TABLES });
    const { contour } = pair;
    const { code, stderr } = await contour.command("run", "--api-port", "0", "--set", "target.contour=other");
    expect({ code, stderr }).toMatchObject({
      code: 2,
      stderr: expect.stringContaining(`is contour \\"${contour.name}-target\\"`),
    });
  });

  test("tables add refuses a table that is not at the target or cannot take the rows, with the DDL, and changes nothing", async () => {
    pair = await openDirect({ ddl: "SELECT 1" });
    const { contour, source, target } = pair;
    await source.unsafe("CREATE TABLE items (id bigint PRIMARY KEY, label varchar(20), price numeric)");
    expect((await contour.command("setup")).code).toBe(0);
    const absent = await contour.command("tables", "add", "items");
    expect(absent).toMatchObject({ code: 3, stderr: expect.stringContaining("pg_dump --schema-only") });
    await target.unsafe("CREATE TABLE items (id bigint PRIMARY KEY, label text, weight int NOT NULL)");
    const unfit = await contour.command("tables", "add", "items");
    expect(unfit.code).toBe(3);
    const ddl = /Run there: (.*)/.exec(unfit.stderr)?.[1] ?? "";
    expect(ddl).toBe('ALTER TABLE items ADD COLUMN "price" numeric, ALTER COLUMN "weight" DROP NOT NULL');
    expect(JSON.parse((await contour.command("tables", "list", "--json")).stdout)).toEqual([]);
    await target.unsafe(ddl);
    const added = await contour.command("tables", "add", "items");
    expect({ code: added.code, stderr: added.stderr }).toMatchObject({
      code: 0,
      stderr: expect.stringContaining("note: column"),
    });
    const listed = JSON.parse((await contour.command("tables", "list", "--json")).stdout);
    expect(listed).toMatchObject([
      { side: "source", table: "items" },
      { side: "target", table: "items" },
    ]);
    expect((await contour.command("tables", "remove", "items")).code).toBe(0);
    expect(JSON.parse((await contour.command("tables", "list", "--json")).stdout)).toEqual([]);
  });

  test("what the target refuses is parked there, and the commands look there", async () => {
    pair = await openDirect({ ddl: DDL, tables: TABLES });
    const { contour, source, target } = pair;
    await target.unsafe("ALTER TABLE users ADD CONSTRAINT short CHECK (length(name) < 5)");
    const replicator = await contour.start();
    await source`INSERT INTO users (id, name) VALUES (1, 'much too long'), (2, 'ok')`;
    await until("it is parked", async () => (await replicator.get("/status")).body.parked === 1);
    const listed = await contour.command("parked", "list", "--json");
    expect(JSON.parse(listed.stdout)).toMatchObject([{ table: "users", operation: "INSERT" }]);
    expect(listed.stderr).toContain("At the target postgres://");
    await replicator.stop();
    const status = JSON.parse((await contour.command("status", "--json", "--api-port", "0")).stdout);
    expect(status).toMatchObject({ parked: 1, unpublished: 0, is_running: false });
  });

  test("a row written at the target is not sent back; the greater stamp wins", async () => {
    pair = await openDirect({ ddl: DDL, tables: TABLES });
    const { contour, source, target } = pair;
    const replicator = await contour.start();
    await source`INSERT INTO users (id, name) VALUES (1, 'v1'), (2, 'v1')`;
    await pair.equal(ALL);
    await target`UPDATE users SET name = 'there' WHERE id = 1`;
    for (const name of ["there", "there again"]) await target`UPDATE users SET name = ${name} WHERE id = 2`;
    await source`UPDATE users SET name = 'v2' WHERE id IN (1, 2)`;
    await until("both have met", async () => Number((await replicator.get("/status")).body.conflicts) === 2);
    const rows = await target`SELECT id::int, name, updated_by FROM users ORDER BY id`;
    expect(rows.map((row) => ({ ...row }))).toEqual([
      { id: 1, name: "v2", updated_by: contour.name },
      { id: 2, name: "there again", updated_by: `${contour.name}-target` },
    ]);
    expect((await source`SELECT name FROM users WHERE id = 2`)[0]?.name).toBe("v2");
  });

  test("roles that own nothing are enough: a publisher at the source, a consumer at the target", async () => {
    const server = await startPostgres();
    closers.push(() => server.close());
    const urls = [await server.createDatabase(), await server.createDatabase()] as const;
    const as = (url: string, user: string) => {
      const address = new URL(url);
      address.username = user;
      address.password = "secret";
      return address.href;
    };
    pair = await openDirect({
      ddl: DDL,
      tables: TABLES,
      sourceUrl: urls[0],
      targetUrl: urls[1],
    });
    const { contour, source, target } = pair;
    const roles = await Bun.file(join(import.meta.dir, "../../sql/05_roles.sql")).text();
    await source.unsafe("CREATE ROLE reads LOGIN PASSWORD 'secret'; CREATE ROLE writes LOGIN PASSWORD 'secret'");
    for (const sql of [source, target]) await sql.unsafe(roles);
    await source.unsafe("GRANT replicator_publisher TO reads; GRANT replicator_consumer TO writes");
    await target.unsafe("GRANT SELECT, INSERT, UPDATE, DELETE ON users, events, many TO writes");
    contour.reconfigure((config) => {
      config.database = { url: as(urls[0], "reads") };
      config.target = { url: as(urls[1], "writes") };
    });
    const replicator = await contour.start();
    await source`INSERT INTO users (id, name) VALUES (1, 'one')`;
    await source`INSERT INTO events (id, v) VALUES (1, 'one')`;
    await pair.equal(ALL);
    expect(await replicator.stop()).toBe(0);
    expect((await contour.command("check", "--json")).code).toBe(0);
  });

  test("rows that were there before are sent by snapshot", async () => {
    pair = await openDirect({ ddl: `${DDL}; CREATE TABLE old (id bigint PRIMARY KEY, v text)` });
    const { contour, source } = pair;
    await source`INSERT INTO old SELECT g, 'v' || g FROM generate_series(1, 5000) g`;
    expect((await contour.command("setup")).code).toBe(0);
    expect((await contour.command("tables", "add", "old")).code).toBe(0);
    await contour.start();
    const sent = await contour.command("snapshot", "old", "--wait");
    expect({ code: sent.code, said: sent.stderr }).toMatchObject({ code: 0 });
    await pair.equal({ old: "id" });
  });

  test("polled tables go the same way", async () => {
    pair = await openDirect({
      ddl: `${DDL}; CREATE TABLE products (id bigint PRIMARY KEY, v text)`,
      tables: TABLES,
      extra: { non_critical_tables: [{ name: "products", sync_interval: "500ms" }] },
    });
    const { contour, source } = pair;
    expect((await contour.command("tables", "add", "products")).code).toBe(0);
    const replicator = await contour.start();
    await source`INSERT INTO products SELECT g, 'v' FROM generate_series(1, 100) g`;
    await source`INSERT INTO users (id, name) VALUES (1, 'one')`;
    await pair.equal({ ...ALL, products: "id" });
    expect((await replicator.get("/status")).body.role).toBe("publisher,consumer,sync");
  });

  test("another target for a source in use stops at the gap; begun anew it gets everything", async () => {
    pair = await openDirect({ ddl: DDL, tables: TABLES });
    const { contour, source } = pair;
    const first = await contour.start();
    await source`INSERT INTO users (id, name) SELECT g, 'v' FROM generate_series(1, 100) g`;
    await pair.equal(ALL);
    await until("all is confirmed", async () => (await first.get("/status")).body.unpublished === 0);
    await first.stop();

    const server = await sharedPostgres();
    const url = await freshDatabase(server);
    const other = postgres(url, { max: 1, onnotice: () => undefined });
    closers.push(() => other.end({ timeout: 1 }));
    await other.unsafe(DDL);
    contour.reconfigure((config) => {
      config.target = { url };
    });
    await contour.prepare();
    const stopped = await contour.start();
    await source`INSERT INTO users (id, name) VALUES (101, 'v')`;
    await until("the gap is said", async () => {
      const { body } = await stopped.get("/ready");
      return JSON.stringify(body.reasons).includes("is missing, later messages are there") || body;
    });
    expect((await other`SELECT count(*)::int AS n FROM users`)[0]?.n).toBe(0);
    expect((await stopped.get("/status")).body.unpublished).toBe(1);
    expect(await stopped.stop()).toBe(0);

    for (const { name } of TABLES) await contour.command("tables", "remove", name, "--keep-columns");
    await source.unsafe("DROP SCHEMA replicator CASCADE");
    await contour.prepare();
    await contour.start();
    expect((await contour.command("snapshot", "--wait")).code).toBe(0);
    await source`INSERT INTO users (id, name) VALUES (102, 'v')`;
    await until("all is there", async () => (await other`SELECT count(*)::int AS n FROM users`)[0]?.n === 102);
  });
});
