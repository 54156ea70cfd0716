/** Rights, forged triggers, the marker and bypass_log. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import type postgres from "postgres";
import { ROOT } from "../../tools/cache.mjs";
import { describeWith } from "../support/needs.ts";
import { captured, contents, type Database, freshSetup, replay } from "./database.ts";

describeWith("postgres", "rights and marks", () => {
  let db: Database;
  let application: postgres.Sql;
  beforeAll(async () => {
    db = await freshSetup();
    await db.run(readFileSync(join(ROOT, "sql", "05_roles.sql"), "utf8"));
    await db.run(`DO $$ BEGIN
        IF to_regrole('app') IS NULL THEN CREATE ROLE app LOGIN PASSWORD 'app'; END IF;
        IF to_regrole('monitor') IS NULL THEN CREATE ROLE monitor LOGIN PASSWORD 'monitor'; END IF;
        IF to_regrole('login') IS NULL THEN CREATE ROLE login LOGIN PASSWORD 'login' IN ROLE replicator_publisher, replicator_consumer; END IF;
        IF to_regrole('owner') IS NULL THEN CREATE ROLE owner LOGIN PASSWORD 'owner'; END IF; END $$;
      CREATE TABLE accounts (id int PRIMARY KEY, tags text[], v text); CREATE TABLE packed (id int PRIMARY KEY, v text);
      SELECT setup_table_for_replication('accounts'); SELECT setup_table_for_replication('packed', '{"capture":"statement"}');
      GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON accounts, packed TO app`);
    application = db.connect({ user: "app", password: "app" });
  });
  afterAll(() => db.close());

  test("an application role with rights on its own tables only is captured in everything it does", async () => {
    for (const table of ["accounts", "packed"]) {
      await application
        .unsafe(`INSERT INTO ${table} (id, v) VALUES (1, 'a'), (2, 'b'), (3, 'c'); UPDATE ${table} SET v = 'x', id = id + 10;
        DELETE FROM ${table} WHERE id = 11`)
        .simple();
      expect(replay(await captured(db.sql, table), ["id"])).toEqual(await contents(db.sql, table, ["id"]));
      await application.unsafe(`TRUNCATE ${table}`);
      expect((await captured(db.sql, table)).at(-1)?.operation).toBe("T");
    }
    expect(application`SELECT FROM "replicator".queue`.execute()).rejects.toThrow("permission denied");
    expect(application`SELECT FROM replication_queue`.execute()).rejects.toThrow("permission denied");
    expect(application`SELECT setup_table_for_replication('accounts')`.execute()).rejects.toThrow("permission denied");
  });

  test("a forged trigger is refused, with and without the right to execute (review B7)", async () => {
    await db.run(
      `GRANT USAGE ON SCHEMA "replicator" TO monitor; CREATE SCHEMA IF NOT EXISTS theirs AUTHORIZATION monitor`,
    );
    const forger = db.connect({ user: "monitor", password: "monitor" });
    const [table] = await db.sql`SELECT table_id FROM "replicator".replicated_table WHERE table_name = 'accounts'`;
    const id = table?.table_id;
    await forger.unsafe(
      `CREATE TABLE theirs.accounts (id int PRIMARY KEY, tags text[], v text, version bigint, updated_at timestamptz, updated_by text)`,
    );
    const attach = `CREATE OR REPLACE TRIGGER forged AFTER INSERT ON theirs.accounts FOR EACH ROW EXECUTE FUNCTION "replicator".capture_${id}()`;
    expect(forger.unsafe(attach).execute()).rejects.toThrow("permission denied for function");
    const before = (await db.sql`SELECT count(*)::int AS n FROM "replicator".queue`)[0]?.n;
    await db.run(attach);
    expect(forger.unsafe(`INSERT INTO theirs.accounts VALUES (42)`).execute()).rejects.toThrow(
      "is not the replicated table",
    );
    expect((await db.sql`SELECT count(*)::int AS n FROM "replicator".queue`)[0]?.n).toBe(before);
  });

  test("no function of ours is executable by PUBLIC, every SECURITY DEFINER one has a fixed search_path", async () => {
    const loose = await db.sql`
      SELECT p.oid::regprocedure::text AS f FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
       WHERE (n.nspname = 'replicator' OR p.proname IN ('setup_table_for_replication', 'remove_table_from_replication'))
         AND (EXISTS (SELECT FROM aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a WHERE a.grantee = 0)
              OR (p.prosecdef AND NOT coalesce(p.proconfig::text LIKE '%search_path=pg_catalog, pg_temp%', false)))`;
    expect(loose.map(({ f }) => f)).toEqual([]);
    const [setup] = await db.sql`SELECT bool_or(prosecdef) AS d FROM pg_proc WHERE proname LIKE '%table_%replication'`;
    expect(setup?.d).toBe(false);
    const views =
      await db.sql`SELECT c.oid::regclass::text AS v FROM pg_class c, aclexplode(c.relacl) a WHERE a.grantee = 0 AND c.relkind IN ('v', 'r', 'p')
                                AND c.relnamespace IN ('replicator'::regnamespace, 'public'::regnamespace)`;
    expect([...views]).toEqual([]);
  });

  test("replicator.capture decides, application_name only where it is unset or empty (I9)", async () => {
    await db.run(
      `CREATE TABLE marked (id int PRIMARY KEY, version bigint NOT NULL DEFAULT 1, updated_at timestamptz NOT NULL DEFAULT now(), updated_by text NOT NULL DEFAULT '')`,
    );
    await db.run(`SELECT setup_table_for_replication('marked')`);
    const consumer = db.connect({ applicationName: "replicator_consumer" });
    await consumer.unsafe(`INSERT INTO marked VALUES (1, 70, '2020-01-01', 'there')`);
    await consumer.begin(async (tx) => {
      await tx`SELECT set_config('replicator.capture', 'on', true)`;
      await tx`INSERT INTO marked VALUES (2, 70)`;
    });
    await consumer.unsafe(`INSERT INTO marked VALUES (3, 70)`); // the setting is '' now, which means unset
    await db.sql.begin(async (tx) => {
      await tx`SELECT set_config('replicator.capture', 'off', true)`;
      await tx`INSERT INTO marked VALUES (4, 70)`;
      await tx`UPDATE marked SET id = 5 WHERE id = 4`;
      await tx`DELETE FROM marked WHERE id = 5`;
    });
    await db.sql`INSERT INTO marked VALUES (6, 70)`;
    await consumer.unsafe(`TRUNCATE marked`);
    expect((await captured(db.sql, "marked")).map(({ operation, row }) => [operation, row.id, row.version])).toEqual([
      ["I", 2, 1],
      ["I", 6, 1],
    ]);
    expect(
      (
        await db.sql`SELECT FROM "replicator".floor f JOIN "replicator".replicated_table t USING (table_id) WHERE table_name = 'marked'`
      ).length,
    ).toBe(0);
  });

  test("a marked session that is no consumer leaves one line per transaction in bypass_log, a consumer none", async () => {
    await db.run(`DELETE FROM "replicator".bypass_log`);
    const marked = db.connect({ user: "app", password: "app", applicationName: "replicator_consumer" });
    await marked.begin(async (tx) => {
      await tx`INSERT INTO accounts VALUES (100)`;
      await tx`UPDATE accounts SET v = 'y'`;
      await tx`DELETE FROM packed`;
    });
    await marked`UPDATE accounts SET v = 'z'`;
    await application`UPDATE accounts SET v = 'captured'`;
    const lines = await db.sql`SELECT session_role, application_name, table_name FROM bypass_log ORDER BY occurred_at`;
    expect([...lines]).toEqual(
      Array.from({ length: 2 }, () => ({
        session_role: "app",
        application_name: "replicator_consumer",
        table_name: "public.accounts",
      })),
    );
    await db.run(`INSERT INTO "replicator".consumer_role VALUES ('app')`);
    await marked`UPDATE accounts SET v = 'w'`;
    expect((await db.sql`SELECT FROM bypass_log`).length).toBe(2);
    await db.run(`DELETE FROM "replicator".consumer_role`);
  });

  test("triggers fire in replica sessions too, and the group roles can do their work", async () => {
    const login = db.connect({ user: "login", password: "login" });
    await login
      .unsafe(
        `SET session_replication_role = replica; INSERT INTO accounts VALUES (200); RESET session_replication_role`,
      )
      .simple();
    expect((await captured(db.sql, "accounts")).at(-1)?.row.id).toBe(200);
    await login
      .unsafe(`SELECT count(*) FROM "replicator".replication_queue WHERE published = FALSE;
      SELECT count(*) FROM "replicator".processed_events; SELECT setval('"replicator".queue_id_seq', last_value) FROM "replicator".queue_id_seq;
      BEGIN; LOCK TABLE "replicator".cut IN SHARE ROW EXCLUSIVE MODE; LOCK TABLE ONLY "replicator".queue_5 IN ACCESS EXCLUSIVE MODE; TRUNCATE ONLY "replicator".queue_5; COMMIT; SELECT * FROM "replicator".stale_tables();
      INSERT INTO "replicator".lease VALUES ('cutter', ''); UPDATE "replicator".lease SET owner = 'x';
      INSERT INTO "replicator".consumer_role VALUES (session_user) ON CONFLICT DO NOTHING;
      INSERT INTO "replicator".inbox (event_id, source_contour, channel, partition, epoch, sequence, cut_no, transaction_id, queue_id, schema_name, table_name, operation, data, error_code, error, next_attempt_at)
        VALUES (gen_random_uuid(), 'a', 'c', 0, 1, 1, 1, '1', 1, 's', 't', 'I', '{}', 'x', 'x', now()); DELETE FROM "replicator".inbox;
      SELECT pg_current_snapshot(), system_identifier FROM pg_control_system()`)
      .simple();
    expect(
      login
        .unsafe(`INSERT INTO "replicator".queue (table_id, operation, rows, data) VALUES (1, 'I', 1, '{}')`)
        .execute(),
    ).rejects.toThrow("permission denied");
  });

  test("no superuser is needed: the owner of database and tables sets everything up", async () => {
    const owned = await freshSetup();
    const [name] = await owned.sql`SELECT current_database() AS d`;
    await owned.run(
      `SELECT "replicator".uninstall(); ALTER DATABASE "${name?.d}" OWNER TO owner; GRANT CREATE ON SCHEMA public TO owner`,
    );
    const owner = owned.connect({ user: "owner", password: "owner" });
    const { install } = await import("./database.ts");
    await install(owner);
    await owner
      .unsafe(`SELECT "replicator".set_contour('gamma'); CREATE TABLE mine (id int PRIMARY KEY, v text); SELECT setup_table_for_replication('mine');
      INSERT INTO mine VALUES (1), (2); UPDATE mine SET id = 3 WHERE id = 1; DELETE FROM mine; TRUNCATE mine; SELECT count(*) FROM replication_queue WHERE published = FALSE`)
      .simple();
    expect((await captured(owner, "mine")).map(({ operation }) => operation).join("")).toBe("IIDIDDT");
    await owned.close();
  });
});
