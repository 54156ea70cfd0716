/** setup, tables, check, status, parked and generate against a real server. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import postgres, { type Sql } from "postgres";
import { openAdmin } from "../../adapters/postgres/admin/admin.ts";
import type { Admin, Expectations } from "../../src/core/admin.ts";
import { silentLogger } from "../../src/core/logger.ts";
import { freshDatabase, sharedPostgres } from "../servers/postgres.ts";
import { describeWith } from "../support/needs.ts";

const SITE = {
  contour: "a",
  compatSchema: "public",
  columns: { version: "version", updated_at: "updated_at", updated_by: "updated_by" },
} as const;
const EXPECTED: Expectations = {
  contour: "a",
  contours: ["a"],
  roles: ["publisher", "consumer"],
  session: "auto",
  tables: [],
  queueWarnBytes: 1e9,
};
const { signal } = new AbortController();

describeWith("postgres", "Admin over PostgreSQL", () => {
  let url: string;
  let sql: Sql;
  let admin: Admin;
  beforeAll(async () => {
    url = await freshDatabase(await sharedPostgres());
    sql = postgres(url, { max: 2, onnotice: () => undefined });
    admin = openAdmin({ url, logger: silentLogger });
  }, 60_000);
  afterAll(async () => {
    await admin?.close();
    await sql?.end({ timeout: 2 });
  });
  const codes = async (expected: Expectations = EXPECTED) =>
    (await admin.check(expected, signal))
      .filter(({ severity }) => severity !== "info")
      .map(({ severity, code }) => `${severity} ${code}`);

  test("check before setup says what to run", async () => {
    expect(await codes()).toEqual(["blocking database.objects_missing"]);
    await expect(admin.listTables(signal)).rejects.toMatchObject({
      code: "database.objects_missing",
      fault: "environment",
    });
  });

  test("setup installs the objects and the thin names, twice without harm, and refuses another contour", async () => {
    await admin.setup(SITE, signal);
    await admin.setup(SITE, signal);
    expect(await sql`SELECT count(*)::int AS n FROM replication_queue WHERE published = FALSE`).toMatchObject([
      { n: 0 },
    ]);
    await expect(admin.setup({ ...SITE, contour: "b" }, signal)).rejects.toMatchObject({
      code: "setup.wrong_contour",
      fault: "input",
    });
    expect(await codes({ ...EXPECTED, contour: "b" })).toContain("blocking database.wrong_contour");
  });

  test("two setups at once both succeed", async () => {
    await Promise.all([admin.setup(SITE, signal), admin.setup(SITE, signal)]);
  });

  test("a table is added with its options, listed, and found stale after ALTER TABLE", async () => {
    await sql.unsafe(
      `CREATE SCHEMA "Sales"; CREATE TABLE "Sales"."Order" (id bigint PRIMARY KEY, note text, secret text)`,
    );
    const options = { conflict: "latest", excludeColumns: ["secret"] } as const;
    expect((await admin.addTable('"Sales"."Order"', options, true, signal)).join("\n")).toContain(
      "CREATE OR REPLACE TRIGGER",
    );
    expect(await admin.listTables(signal)).toEqual([]);
    await admin.addTable('"Sales"."Order"', options, false, signal);
    expect(await admin.listTables(signal)).toEqual([
      {
        table: '"Sales"."Order"',
        key: ["id"],
        stamp: ["version", "updated_at", "updated_by"],
        capture: "row",
        conflict: "latest",
        exclude_columns: ["secret"],
        channel: "changes",
        state: "ok",
      },
    ]);
    await sql.unsafe(`ALTER TABLE "Sales"."Order" ADD COLUMN more int`);
    expect(await admin.listTables(signal)).toMatchObject([{ state: "its columns changed" }]);
    expect(await codes()).toContain("blocking tables.stale");
    await admin.setup(SITE, signal);
    expect(await admin.listTables(signal)).toMatchObject([{ state: "ok" }]);
  });

  test("what cannot be added is refused with the database's remedy", async () => {
    await sql`CREATE TABLE keyless (a int)`;
    await expect(admin.addTable("keyless", {}, false, signal)).rejects.toMatchObject({
      code: "tables.unfit",
      remedy: expect.stringContaining("ADD PRIMARY KEY"),
    });
    await expect(admin.addTable("nowhere", {}, false, signal)).rejects.toMatchObject({
      code: "tables.missing",
      fault: "environment",
    });
    await expect(admin.addTable("a.b.c", {}, false, signal)).rejects.toMatchObject({
      code: "tables.bad_name",
      fault: "input",
    });
    await expect(admin.addTable('un"closed', {}, false, signal)).rejects.toMatchObject({ code: "tables.bad_name" });
  });

  test("check compares the configured tables with those under replication", async () => {
    await sql`CREATE TABLE fresh (id int PRIMARY KEY)`;
    const tables = [
      { name: '"Sales"."Order"', conflict: "version", excludeColumns: ["secret"] },
      { name: "public.fresh" },
      { name: "keyless" },
      { name: "nowhere" },
    ] as const;
    expect(await codes({ ...EXPECTED, tables })).toEqual([
      "warning tables.differs",
      "blocking tables.absent",
      "blocking tables.unfit",
      "blocking tables.missing",
    ]);
  });

  test("check finds triggers that would disturb, references from tables that are not replicated, a cached sequence and bypasses", async () => {
    await sql.unsafe(`
CREATE TABLE parent (id bigint PRIMARY KEY, note text);
CREATE TABLE child (id bigint PRIMARY KEY, parent bigint REFERENCES parent);
CREATE FUNCTION noop() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE TRIGGER b_always BEFORE INSERT ON parent FOR EACH ROW EXECUTE FUNCTION noop();
ALTER TABLE parent ENABLE ALWAYS TRIGGER b_always;
CREATE TRIGGER b_local BEFORE INSERT ON parent FOR EACH ROW EXECUTE FUNCTION noop()`);
    await admin.addTable("parent", {}, false, signal);
    const consumer = async (session: "auto" | "replica" | "origin") =>
      (await admin.check({ ...EXPECTED, session }, signal)).filter(({ code }) => code.startsWith("consumer."));
    const auto = await consumer("auto");
    // The reference from `child` forbids replica mode: both triggers would run.
    expect(auto.map(({ code }) => code)).toEqual([
      "consumer.foreign_reference",
      "consumer.trigger",
      "consumer.trigger",
    ]);
    expect(auto[0]?.remedy).toBe("replicator tables add public.child");
    await admin.addTable("child", {}, false, signal);
    expect((await consumer("auto")).map(({ message }) => message.split(" ")[1])).toEqual(["b_always"]);
    expect((await consumer("origin")).map(({ message }) => message.split(" ")[1])).toEqual(["b_always", "b_local"]);

    await sql`ALTER SEQUENCE replicator.queue_id_seq CACHE 5`;
    const marked = postgres(url, { max: 1, connection: { application_name: "replicator_consumer" } });
    await marked`INSERT INTO child VALUES (1, NULL)`;
    await marked.end();
    expect(await codes({ ...EXPECTED, queueWarnBytes: 1, session: "replica" })).toEqual(
      expect.arrayContaining([
        "blocking database.queue_cache",
        "warning database.queue_large",
        "warning database.bypassed",
      ]),
    );
    await sql`ALTER SEQUENCE replicator.queue_id_seq CACHE 1`;
  });

  test("check names the rights a role lacks", async () => {
    await sql.unsafe(`DO $$ BEGIN CREATE ROLE check_poor LOGIN PASSWORD 'poor-one'; EXCEPTION WHEN duplicate_object THEN NULL; END $$;
      GRANT USAGE ON SCHEMA replicator TO check_poor; GRANT SELECT ON replicator.local, replicator.replicated_table, replicator.layout, replicator.bypass_log TO check_poor;
      GRANT EXECUTE ON FUNCTION replicator.stale_tables(), replicator.columns_digest(oid) TO check_poor`);
    const poor = openAdmin({ url, user: "check_poor", password: "poor-one", logger: silentLogger });
    try {
      const findings = await poor.check(EXPECTED, signal);
      const found = findings.filter(({ code }) => code.endsWith("not_authorized")).map(({ message }) => message);
      expect(found[0]).toContain("cannot act as publisher: it lacks SELECT on queue");
      expect(found[1]).toContain("cannot act as consumer");
      expect(found.join("\n")).toContain("cannot apply changes to public.child");
    } finally {
      await poor.close();
      await sql.unsafe("DROP OWNED BY check_poor; DROP ROLE check_poor");
    }
  });

  test("a wrong password is a finding of check and an environment error elsewhere, without the password", async () => {
    const wrong = openAdmin({ url, password: "hunter2", logger: silentLogger });
    try {
      expect(await wrong.check(EXPECTED, signal)).toMatchObject([
        { severity: "blocking", code: "database.auth_failed" },
      ]);
      await expect(wrong.setup(SITE, signal)).rejects.toMatchObject({
        code: "database.auth_failed",
        fault: "environment",
      });
    } finally {
      await wrong.close();
    }
  });

  test("generate makes users and payments, puts them under replication and keeps its rate", async () => {
    await admin.prepareGenerator(signal);
    expect(await admin.prepareGenerator(signal)).toEqual([]);
    const stop = new AbortController();
    let seen = 0;
    const totals = await admin.generate(
      {
        rate: 400,
        connections: 2,
        onProgress: ({ inserted }) => {
          seen = inserted;
          stop.abort();
        },
      },
      stop.signal,
    );
    expect(seen).toBe(totals.inserted);
    const changes = totals.inserted + totals.updated + totals.deleted;
    expect(changes).toBeGreaterThan(100);
    expect(changes).toBeLessThan(900);
    const [queued] = await sql`SELECT sum(rows)::int AS n FROM replicator.queue`;
    expect(queued?.n).toBe(changes);
    expect(await admin.status(signal)).toMatchObject({ contour: "a", unpublished: changes, parked: 0, conflicts: 0 });
    expect(await admin.parked({ table: null, dead: false }, 10, signal)).toEqual([]);
  });

  test("a table is removed with the columns it was given, or without", async () => {
    await admin.removeTable("fresh", false, signal);
    await admin.removeTable("payments", true, signal);
    await admin.removeTable("users", false, signal);
    const columns = async (table: string) =>
      (
        await sql`SELECT attname FROM pg_attribute WHERE attrelid = ${table}::regclass AND attnum > 0 AND NOT attisdropped`
      ).map((row) => row.attname);
    expect(await columns("payments")).toContain("updated_by");
    expect(await columns("users")).not.toContain("updated_by");
  });

  test("another schema name holds objects of its own", async () => {
    const other = openAdmin({ url, schema: "Other one", logger: silentLogger });
    try {
      await other.setup({ ...SITE, compatSchema: null }, signal);
      expect(await other.listTables(signal)).toEqual([]);
      await other.addTable("fresh", {}, false, signal);
      expect(await other.listTables(signal)).toMatchObject([{ table: "fresh", state: "ok" }]);
    } finally {
      await other.close();
    }
  });
});
