/** Setup and refresh of a table; twice without harm; other schema names; psql. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import postgres from "postgres";
import { ROOT } from "../../tools/cache.mjs";
import { freshDatabase, sharedPostgres } from "../servers/postgres.ts";
import { describeWith } from "../support/needs.ts";
import { captured, type Database, freshSetup, install, replay, texts } from "./database.ts";

describeWith("postgres", "setup of tables", () => {
  let db: Database;
  beforeAll(async () => {
    db = await freshSetup();
  });
  afterAll(() => db.close());

  test("the SQL files run twice without harm and keep what is there", async () => {
    await db.run(
      `CREATE TABLE twice (id int PRIMARY KEY); SELECT setup_table_for_replication('twice'); INSERT INTO twice VALUES (1)`,
    );
    await install(db.sql);
    await db.run(`SELECT setup_table_for_replication('twice'); INSERT INTO twice VALUES (2)`);
    expect((await captured(db.sql, "twice")).map(({ row }) => row.id)).toEqual([1, 2]);
    const [site] = await db.sql`SELECT contour FROM "replicator".local`;
    expect(site?.contour).toBe("alpha");
  });

  test("existing rows get the least stamp, without a rewrite and without being captured", async () => {
    await db.run(
      `CREATE TABLE existing (id int PRIMARY KEY, v text); INSERT INTO existing SELECT i, 'x' FROM generate_series(1, 100) i`,
    );
    const node = async () =>
      (await db.sql`SELECT relfilenode FROM pg_class WHERE oid = 'existing'::regclass`)[0]?.relfilenode;
    const before = await node();
    await db.run(`SELECT setup_table_for_replication('existing')`);
    expect(await node()).toBe(before);
    expect(await captured(db.sql, "existing")).toEqual([]);
    const rows =
      await db.sql`SELECT DISTINCT version::text, updated_at = '1970-01-01 00:00:00+00' AS early, updated_by FROM existing`;
    expect([...rows]).toEqual([{ version: "1", early: true, updated_by: "" }]);
    const columns =
      await db.sql`SELECT attnotnull FROM pg_attribute WHERE attrelid = 'existing'::regclass AND attname IN ('version', 'updated_at', 'updated_by')`;
    expect(columns.map(({ attnotnull }) => attnotnull)).toEqual([true, true, true]);
  });

  test("columns as the source designs made them are taken over, their NULLs filled", async () => {
    await db.run(`CREATE TABLE seeded (id int PRIMARY KEY, version BIGINT DEFAULT 1, updated_at TIMESTAMPTZ DEFAULT NOW(), updated_by VARCHAR(50));
                  INSERT INTO seeded VALUES (1, NULL, NULL, NULL), (2, 7, '2020-01-01', 'me');
                  SELECT setup_table_for_replication('seeded'); UPDATE seeded SET version = 100`);
    const rows = await db.sql`SELECT id, version::text, updated_by FROM seeded ORDER BY id`;
    expect([...rows]).toEqual([
      { id: 1, version: "2", updated_by: "alpha" },
      { id: 2, version: "8", updated_by: "alpha" },
    ]);
    await db.run(`SELECT remove_table_from_replication('seeded')`);
    expect((await db.sql`SELECT * FROM seeded`).columns.map(({ name }) => name)).toEqual([
      "id",
      "version",
      "updated_at",
      "updated_by",
    ]);
  });

  test("a dry run prints the DDL and the findings and changes nothing", async () => {
    await db.run(`CREATE TABLE dry (id serial PRIMARY KEY, v text); CREATE VIEW dry_all AS SELECT * FROM dry;
                  CREATE FUNCTION fill_dry() RETURNS void LANGUAGE sql AS 'INSERT INTO dry SELECT * FROM dry'`);
    const found = await texts(db.sql, `SELECT setup_table_for_replication('dry', '{"dry_run":true}')`);
    expect(found[0]).toStartWith("ALTER TABLE public.dry ADD COLUMN version bigint NOT NULL DEFAULT 1");
    const notes = found.filter((line) => line.startsWith("note:")).join("\n");
    for (const word of ["SELECT *", "view public.dry_all", "function public.fill_dry()", "sequence"])
      expect(notes).toContain(word);
    expect((await db.sql`SELECT * FROM dry`).columns.map(({ name }) => name)).toEqual(["id", "v"]);
    expect(
      await texts(db.sql, `SELECT table_name FROM "replicator".replicated_table WHERE table_name = 'dry'`),
    ).toEqual([]);
    // what it prints is what is run
    await db.run(found.filter((line) => line.startsWith("ALTER TABLE") && line.includes("COLUMN")).join("\n"));
    expect((await texts(db.sql, `SELECT setup_table_for_replication('dry')`))[0]).toContain("key (id)");
  });

  test("stamp columns may have other names, columns may stay at home, the key may be another unique index", async () => {
    await db.run(`CREATE TABLE custom (id int PRIMARY KEY, code text NOT NULL UNIQUE, secret text, g int GENERATED ALWAYS AS (id * 2) STORED, version int);
                  SELECT setup_table_for_replication('custom', '{"primary_key":["code"],"exclude_columns":["secret"],
                    "columns":{"version":"by","updated_at":"if","updated_by":"loop"}}');
                  INSERT INTO custom (id, code, secret) VALUES (1, 'a', 's'); UPDATE custom SET code = 'b'; DELETE FROM custom`);
    const changes = await captured(db.sql, "custom");
    expect(changes.map(({ operation }) => operation).join("")).toBe("IDID");
    expect(changes[0]?.row).toEqual({ id: 1, code: "a", version: null, by: 1, if: expect.any(String), loop: "alpha" });
    expect(Object.keys(changes[3]?.row ?? {})).toEqual(["code", "by", "if", "loop"]);
    expect(changes[3]?.old).not.toHaveProperty("secret");
    const [view] =
      await db.sql`SELECT record_id FROM replication_queue WHERE table_name = 'custom' ORDER BY id LIMIT 1`;
    expect(view?.record_id).toBe("a");
  });

  test("columns that change under the functions never fail a write, and are told of", async () => {
    for (const form of ["row", "statement"]) {
      const name = `altered_${form}`;
      await db.run(`CREATE TABLE ${name} (id int PRIMARY KEY, secret text, tags text[], name text);
                    SELECT setup_table_for_replication('${name}', '{"capture":"${form}","exclude_columns":["secret"]}');
                    INSERT INTO ${name} VALUES (1, 's', '{a}', 'n')`);
      await db.run(`ALTER TABLE ${name} ADD COLUMN more int DEFAULT 5`);
      await db.run(`UPDATE ${name} SET name = 'm'`);
      await db.run(`ALTER TABLE ${name} DROP COLUMN name, DROP COLUMN more`);
      await db.run(`UPDATE ${name} SET tags = '{b}'`);
      await db.run(`ALTER TABLE ${name} RENAME COLUMN tags TO labels`);
      await db.run(`UPDATE ${name} SET secret = 't'; DELETE FROM ${name}`);
      const rows = (await captured(db.sql, name)).map(({ row, old }) => old ?? row);
      expect(rows[1]).toMatchObject({ id: 1, name: "m", more: 5 });
      expect(rows[2]).toMatchObject({ id: 1, version: 3 });
      expect(rows[3]).toMatchObject({ id: 1, labels: expect.anything() });
      expect(JSON.stringify(rows)).not.toContain("secret");
      const stale = await texts(
        db.sql,
        `SELECT reason FROM "replicator".stale_tables() WHERE relation = '${name}'::regclass`,
      );
      expect(stale).toEqual(["its columns changed"]);
      await db.run(`SELECT "replicator".refresh_stale_tables(); INSERT INTO ${name} VALUES (2, 's', '{c}')`);
      expect((await captured(db.sql, name)).at(-1)?.row).toMatchObject({ id: 2, labels: "{c}" });
      expect(await texts(db.sql, `SELECT reason FROM "replicator".stale_tables()`)).toEqual([]);
    }
  });

  test("a renamed table goes on being captured, also TRUNCATE", async () => {
    await db.run(
      `CREATE TABLE before (id int PRIMARY KEY); SELECT setup_table_for_replication('before'); INSERT INTO before VALUES (1)`,
    );
    await db.run(`ALTER TABLE before RENAME TO after; INSERT INTO after VALUES (2); TRUNCATE after`);
    expect((await captured(db.sql, "after")).map(({ operation }) => operation).join("")).toBe("IIT");
    await db.run(`SELECT "replicator".refresh_stale_tables()`);
    expect(
      await texts(db.sql, `SELECT table_name FROM "replicator".replicated_table WHERE relid = 'after'::regclass`),
    ).toEqual(["after"]);
  });

  test("set_contour names what is written from now on", async () => {
    await db.run(`CREATE TABLE named (id int PRIMARY KEY, tags text[]); SELECT setup_table_for_replication('named', '{"capture":"statement"}');
                  INSERT INTO named VALUES (1)`);
    await db.run(
      `SELECT "replicator".set_contour('beta'); INSERT INTO named VALUES (2); TRUNCATE named; SELECT "replicator".set_contour('alpha')`,
    );
    expect((await captured(db.sql, "named")).map(({ row }) => row.updated_by)).toEqual(["alpha", "beta", "beta"]);
    expect(db.run(`SELECT "replicator".set_contour('Not a name')`)).rejects.toThrow("a contour cannot be called");
  });

  test("a table that is locked is waited for in short tries that let others pass", async () => {
    await db.run(`CREATE TABLE busy (id int PRIMARY KEY)`);
    const holder = db.connect();
    const setup = db.connect();
    let pending: Promise<unknown> = Promise.resolve();
    await holder.begin(async (tx) => {
      await tx.unsafe(`SELECT * FROM busy`);
      pending = setup.unsafe(`SELECT setup_table_for_replication('busy')`).execute();
      // a writer that comes later is let in between two tries
      await db.sql.unsafe(`INSERT INTO busy VALUES (1)`);
    });
    await pending;
    await db.run(`INSERT INTO busy VALUES (2)`);
    expect((await captured(db.sql, "busy")).length).toBe(1);
  });

  describe("refusals say what to do", () => {
    const refused: readonly (readonly [string, string, string, string])[] = [
      ["no key", "CREATE TABLE nokey (id int)", "nokey", "no usable key"],
      ["a deferrable key", "CREATE TABLE deferred (id int PRIMARY KEY DEFERRABLE)", "deferred", "no usable key"],
      [
        "a partial key",
        "CREATE TABLE partial (id int NOT NULL); CREATE UNIQUE INDEX ON partial (id) WHERE id > 0",
        "partial",
        "no usable key",
      ],
      ["a nullable key", "CREATE TABLE nullable (id int UNIQUE)", "nullable", "no usable key"],
      [
        "a partition",
        "CREATE TABLE proot (id int PRIMARY KEY) PARTITION BY LIST (id); CREATE TABLE pleaf PARTITION OF proot DEFAULT",
        "pleaf",
        "it is a partition",
      ],
      [
        "inheritance",
        "CREATE TABLE parent (id int PRIMARY KEY); CREATE TABLE child (PRIMARY KEY (id)) INHERITS (parent)",
        "parent",
        "inheritance",
      ],
      ["an unlogged table", "CREATE UNLOGGED TABLE unlogged (id int PRIMARY KEY)", "unlogged", "unlogged"],
      ["a temporary table", "CREATE TEMP TABLE temporary (id int PRIMARY KEY)", "temporary", "temporary table"],
      ["a view", "CREATE VIEW viewed AS SELECT 1 AS id", "viewed", "it is a view"],
      [
        "a stamp column of a wrong type",
        "CREATE TABLE wrong (id int PRIMARY KEY, updated_at timestamp)",
        "wrong",
        "cannot hold the stamp",
      ],
      ["our own tables", "SELECT", '"replicator".lease', "belongs to the system or to the replicator"],
    ];
    for (const [what, ddl, name, message] of refused) {
      test(what, async () => {
        await db.run(ddl);
        const error = await db.sql.unsafe(`SELECT setup_table_for_replication('${name}')`).then(
          () => undefined,
          (reason: unknown) => reason,
        );
        expect(error).toBeInstanceOf(postgres.PostgresError);
        if (!(error instanceof postgres.PostgresError)) return;
        expect(error.message).toContain(message);
        expect(error.hint ?? "").not.toBe("");
      });
    }
    test("unknown options, values and types", async () => {
      await db.run("CREATE TABLE optioned (id int PRIMARY KEY)");
      for (const [options, message] of [
        ['{"primarykey":["id"]}', "unknown option: primarykey"],
        ['{"columns":{"versoin":"v"}}', "unknown option: columns.versoin"],
        ['{"capture":"rows"}', 'option capture is "rows", expected'],
        ['{"primary_key":"id"}', "wrong type"],
        ['{"exclude_columns":["id"]}', "belongs to the key"],
        ['{"exclude_columns":["nope"]}', "there is no such column"],
        ['{"primary_key":["nope"]}', "no usable key"],
      ] as const) {
        expect(db.sql.unsafe(`SELECT setup_table_for_replication('optioned', '${options}')`).execute()).rejects.toThrow(
          message,
        );
      }
    });
  });
});

describeWith("postgres", "the objects as a whole", () => {
  test("another schema name does everything the usual one does", async () => {
    const db = await freshSetup({ schema: "my repl" });
    for (const form of ["row", "statement"]) {
      await db.run(`CREATE TABLE t_${form} (id int PRIMARY KEY, tags text[]);
        SELECT setup_table_for_replication('t_${form}', '{"capture":"${form}"}');
        INSERT INTO t_${form} VALUES (1), (2), (3); UPDATE t_${form} SET id = 7, tags = '{x}' WHERE id = 1; DELETE FROM t_${form} WHERE id = 2`);
      const changes = await captured(db.sql, `t_${form}`, "my repl");
      expect(replay(changes, ["id"]).size).toBe(2);
      await db.run(`TRUNCATE t_${form}; SELECT remove_table_from_replication('t_${form}')`);
    }
    expect((await db.sql`SELECT * FROM replication_queue`).length).toBe(14);
    expect((await db.sql`SELECT FROM pg_namespace WHERE nspname = 'replicator'`).length).toBe(0);
    const [leak] = await db.sql`SELECT count(*)::int AS n FROM pg_proc WHERE prosrc LIKE '%"replicator"%'`;
    expect(leak?.n).toBe(0);
    await db.run(`SELECT "my repl".uninstall()`);
    expect((await db.sql`SELECT FROM pg_proc WHERE proname = 'setup_table_for_replication'`).length).toBe(0);
    await db.close();
  });

  test("thin names are made only where they are free", async () => {
    const server = await sharedPostgres();
    const sql = postgres(await freshDatabase(server), { max: 1, onnotice: () => {} });
    await sql.unsafe(`CREATE TABLE inbox (mine int); CREATE VIEW replication_queue AS SELECT 1 AS mine`).simple();
    await install(sql);
    expect((await sql`SELECT * FROM inbox`).columns.map(({ name }) => name)).toEqual(["mine"]);
    expect((await sql`SELECT * FROM replication_queue`).columns.map(({ name }) => name)).toEqual(["mine"]);
    expect((await sql`SELECT * FROM processed_events`).length).toBe(0);
    await sql.unsafe(`CREATE SCHEMA compat; SELECT "replicator".set_compat_schema('compat')`).simple();
    expect((await sql`SELECT * FROM compat.replication_queue`).length).toBe(0);
    expect(
      (await sql`SELECT to_regclass('public.processed_events') AS c, to_regclass('public.inbox')::text AS i`)[0],
    ).toEqual({ c: null, i: "inbox" });
    await sql.end();
  });
});

describeWith(["postgres", "psql"], "psql", () => {
  test("00_master_setup.sql, the example, the survey and the roles run with psql, twice, in silence", async () => {
    const server = await sharedPostgres();
    const url = await freshDatabase(server);
    const psql = (file: string) => {
      const done = spawnSync("psql", ["-X", "-d", url, "-f", join(ROOT, "sql", file)], { encoding: "utf8" });
      return { code: done.status, out: done.stdout + done.stderr };
    };
    expect(psql("00_master_setup.sql")).toEqual({ code: 0, out: "" });
    expect(psql("00_master_setup.sql")).toEqual({ code: 0, out: "" });
    for (const file of [
      "03_setup_example.sql",
      "03_setup_example.sql",
      "04_migrate_existing_tables.sql",
      "05_roles.sql",
      "05_roles.sql",
    ]) {
      const { code, out } = psql(file);
      expect({ code, error: /ERROR|WARNING/.exec(out)?.[0] }).toEqual({ code: 0, error: undefined });
    }
  });
});
