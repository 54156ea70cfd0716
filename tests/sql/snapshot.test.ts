/** The snapshot's chunks: every row once and as capture renders it, in the order of the key's own index, wherever it is cut. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { MAJORS } from "../servers/postgres.ts";
import { describeWith } from "../support/needs.ts";
import { captured, type Database, freshSetup, texts } from "./database.ts";
import { HOSTILE, MATRIX } from "./type_matrix.ts";

const LITERAL = (value: string) => `'${value.replaceAll("'", "''")}'`;

describeWith("postgres", "the snapshot of a table", () => {
  let db: Database;
  const present = new Set<string>();
  beforeAll(async () => {
    db = await freshSetup();
    await db.run(`CREATE TYPE mood AS ENUM ('so so', 'ok'); CREATE TYPE pair AS (a int, b text, c float8);
      CREATE DOMAIN jdomain AS jsonb; CREATE DOMAIN pg_temp_domain AS int CHECK (VALUE > 0)`);
    for (const { name } of await db.sql`SELECT name FROM pg_available_extensions WHERE name IN ('hstore', 'citext')`) {
      await db.run(`CREATE EXTENSION ${name}`);
      present.add(name);
    }
  });
  afterAll(() => db.close());

  const idOf = async (table: string) =>
    (
      await texts(db.sql, `SELECT table_id::text FROM "replicator".replicated_table WHERE relid = '${table}'::regclass`)
    )[0] ?? "";
  const begin = async (table: string, anew = false) =>
    db.run(`SELECT "replicator".begin_snapshot(ARRAY[${await idOf(table)}], 'me', ${anew}, true)`);
  interface Step {
    readonly sent: number;
    readonly ended: boolean;
    readonly begun_anew: boolean;
  }
  const step = async (table: string, rows = 2, sql = db.sql): Promise<Step> => {
    const query = `SELECT sent, ended, begun_anew FROM "replicator".step_snapshot(${await idOf(table)}, 'me', '1 min', ${rows}, 1000000)`;
    return (await sql.unsafe<Step[]>(query))[0] as Step;
  };
  const toEnd = async (table: string, rows = 2, sql = db.sql): Promise<number> => {
    for (let steps = 1; ; steps++) if ((await step(table, rows, sql)).ended) return steps;
  };
  /** Lines of the snapshot, in the order of the queue. */
  const lines = async (table: string): Promise<string[]> => {
    const rows = await db.sql.unsafe<{ data: string }[]>(
      `SELECT data FROM "replicator".queue WHERE operation = 'S' AND table_id = ${await idOf(table)} ORDER BY id`,
    );
    return rows.flatMap(({ data }) => data.split(",\n{").map((line, n) => (n === 0 ? line : `{${line}`)));
  };
  /** The rows as capture's own function renders them, in the order of `order`. */
  const asCaptured = async (table: string, order: string): Promise<string[]> =>
    texts(db.sql, `SELECT "replicator".careful_line_${await idOf(table)}(x) FROM ${table} x ORDER BY ${order}`);

  test("keys of every type, alone and in front of another column, written by a hostile session (I7)", async () => {
    const hostile = db.connect();
    await hostile.unsafe(HOSTILE);
    // the one setting capture leaves alone: an offset says the same in any zone
    await hostile.unsafe("SET timezone = 'UTC'");
    await db.run("SET timezone = 'UTC'");
    let tried = 0;
    for (const [n, [type, , values]] of MATRIX.entries()) {
      if (["hstore", "citext"].includes(type) && !present.has(type)) continue;
      const all = [...new Set(values)].map((value) => `(${LITERAL(value)}::${type})`);
      const made = await db
        .run(
          `CREATE TABLE one_${n} (k ${type} PRIMARY KEY, v text); INSERT INTO one_${n} (k) VALUES ${all.join(", ")};
           CREATE TABLE two_${n} (k ${type}, n int, v text, PRIMARY KEY (k, n));
           INSERT INTO two_${n} (k, n) SELECT x.k, n FROM (VALUES ${all.join(", ")}) x(k), generate_series(1, 3) n`,
        )
        .then(() => true)
        // no order, so no key: json, point, polygon, xml
        .catch((error: { code?: string }) => {
          if (error.code === "42704") return false;
          throw error;
        });
      if (!made) continue;
      tried++;
      for (const [table, order, rows] of [
        [`one_${n}`, "k", 1],
        [`two_${n}`, "k, n", 2],
      ] as const) {
        await db.run(`SELECT setup_table_for_replication('${table}')`);
        await begin(table);
        await toEnd(table, rows, hostile);
        expect({ type, lines: await lines(table) }).toEqual({ type, lines: await asCaptured(table, order) });
      }
    }
    expect(tried).toBeGreaterThan(30);
  });

  test("keys whose index has an order of its own: descending, mixed, other operators, other collations", async () => {
    const rows =
      "SELECT chr(96 + i % 7) || CASE WHEN i % 2 = 0 THEN 'B' ELSE 'b' END AS a, i AS b FROM generate_series(1, 60) i";
    const icu = (await texts(db.sql, "SELECT collname FROM pg_collation WHERE collname = 'en-x-icu'")).length > 0;
    const odd = icu ? '"en-x-icu"' : '"C"';
    const kinds: readonly (readonly [string, string, string])[] = [
      ["text, b int", "a DESC, b DESC", "a DESC, b DESC"],
      ["text, b int", "a, b DESC", "a, b DESC"],
      ["text, b int", "b DESC, a", "b DESC, a"],
      ["text, b int", "a text_pattern_ops, b", "a USING ~<~, b"],
      [`text COLLATE ${odd}, b int`, "a, b", "a, b"],
      ["text, b int", 'a COLLATE "C" DESC NULLS LAST, b', 'a COLLATE "C" DESC, b'],
      ...(present.has("citext") ? ([["citext, b int", "a, b", "a, b"]] as const) : []),
    ];
    for (const [n, [columns, index, order]] of kinds.entries()) {
      const table = `sorted_${n}`;
      await db.run(`CREATE TABLE ${table} (a ${columns}, v text); INSERT INTO ${table} (a, b) ${rows};
        ALTER TABLE ${table} ALTER a SET NOT NULL, ALTER b SET NOT NULL; CREATE UNIQUE INDEX ON ${table} (${index});
        SELECT setup_table_for_replication('${table}')`);
      for (const size of [1, 7]) {
        await begin(table, true);
        await db.run(`DELETE FROM "replicator".queue`);
        await toEnd(table, size);
        expect({ index, lines: await lines(table) }).toEqual({ index, lines: await asCaptured(table, order) });
      }
    }
  });

  test("a chunk is found through the index, never by sorting or reading the table", async () => {
    await db.run(`CREATE TABLE big (a int, b text, v text, PRIMARY KEY (a, b)); INSERT INTO big SELECT i % 10, i, 'x' FROM generate_series(1, 5000) i;
      SELECT setup_table_for_replication('big')`);
    await begin("big");
    await step("big", 100);
    const id = await idOf("big");
    await db.sql.begin(async (tx) => {
      const read = async () =>
        Number(
          (
            await tx.unsafe<{ read: string }[]>(
              "SELECT (idx_tup_fetch + seq_tup_read)::text AS read FROM pg_stat_xact_user_tables WHERE relname = 'big'",
            )
          )[0]?.read,
        );
      const before = await read();
      await tx.unsafe(`SELECT sent FROM "replicator".step_snapshot(${id}, 'me', '1 min', 100, 1000000)`);
      expect((await read()) - before).toBeLessThanOrEqual(110);
    });
  });

  test("partitioned tables, generated and excluded columns, an empty table", async () => {
    await db.run(`CREATE TABLE parts (region text, id int, v interval, secret text, made int GENERATED ALWAYS AS (id + 1) STORED, PRIMARY KEY (region, id)) PARTITION BY LIST (region);
      CREATE TABLE parts_b PARTITION OF parts FOR VALUES IN ('b'); CREATE TABLE parts_d PARTITION OF parts DEFAULT;
      INSERT INTO parts (region, id, v, secret) SELECT chr(96 + i % 3 + 1), i, '1 day', 'hidden' FROM generate_series(1, 20) i;
      CREATE TABLE empty (id int PRIMARY KEY);
      SELECT setup_table_for_replication('parts', '{"exclude_columns":["secret"]}'), setup_table_for_replication('empty')`);
    await begin("parts");
    await toEnd("parts", 3);
    const sent = await lines("parts");
    expect(sent).toEqual(await asCaptured("parts", "region, id"));
    expect(sent.join()).not.toMatch(/hidden|made/);
    await begin("empty");
    expect(await step("empty")).toMatchObject({ sent: 0, ended: true });
    expect(
      await texts(
        db.sql,
        `SELECT state || ' ' || (last_xid IS NULL) FROM "replicator".snapshot WHERE table_id = ${await idOf("empty")}`,
      ),
    ).toEqual(["done true"]);
  });

  test("existing rows carry the stamp they have in the table; rows of the views are called SNAPSHOT", async () => {
    await db.run(`CREATE TABLE stamped (id int PRIMARY KEY, v text); INSERT INTO stamped VALUES (1, 'old'), (2, 'old');
      SELECT setup_table_for_replication('stamped'); UPDATE stamped SET v = 'new' WHERE id = 2`);
    await begin("stamped");
    await toEnd("stamped", 10);
    const rows = (await captured(db.sql, "stamped"))
      .filter(({ operation }) => String(operation) === "S")
      .map(({ row }) => row);
    expect(rows[0]).toMatchObject({ id: 1, version: 1, updated_by: "", v: "old" });
    expect(Date.parse(String(rows[0]?.updated_at))).toBe(0);
    expect(rows[1]).toMatchObject({ id: 2, version: 2, updated_by: "alpha", v: "new" });
    expect(
      await texts(
        db.sql,
        "SELECT operation || ' ' || record_id || ' ' || (new_data IS NOT NULL) FROM replication_queue WHERE table_name = 'stamped' AND operation = 'SNAPSHOT' ORDER BY id",
      ),
    ).toEqual(["SNAPSHOT 1 true", "SNAPSHOT 2 true"]);
  });

  test("a table without capture, which is polled, has its snapshot like any other", async () => {
    await db.run(`CREATE TABLE polled (id int PRIMARY KEY, v text); INSERT INTO polled VALUES (1, 'a'), (2, 'b'), (3, 'c');
      SELECT setup_table_for_replication('polled', '{"capture":"none"}')`);
    await begin("polled");
    await toEnd("polled");
    expect(await lines("polled")).toEqual(await asCaptured("polled", "id"));
  });

  test("a chunk is cut by bytes too, and a large row is sent alone", async () => {
    await db.run(`CREATE TABLE wide (id int PRIMARY KEY, v text); INSERT INTO wide SELECT i, repeat('x', 300000) FROM generate_series(1, 6) i;
      SELECT setup_table_for_replication('wide')`);
    await begin("wide");
    const query = `SELECT sent, ended FROM "replicator".step_snapshot(${await idOf("wide")}, 'me', '1 min', 1000, 500000)`;
    expect({ ...(await db.sql.unsafe(query))[0] }).toEqual({ sent: 2, ended: false });
    while (!(await db.sql.unsafe<{ ended: boolean }[]>(query))[0]?.ended);
    const sizes = await texts(
      db.sql,
      `SELECT DISTINCT rows::text FROM "replicator".queue WHERE table_id = ${await idOf("wide")}`,
    );
    expect(sizes).toEqual(["1"]);
    expect(await lines("wide")).toEqual(await asCaptured("wide", "id"));
  });

  test("a step that does not commit leaves nothing behind: the next one takes the same rows (I8)", async () => {
    await db.run(
      `CREATE TABLE again (id int PRIMARY KEY); INSERT INTO again SELECT generate_series(1, 5); SELECT setup_table_for_replication('again')`,
    );
    await begin("again");
    const id = await idOf("again");
    const refused = db.sql.begin(async (tx) => {
      await tx.unsafe(`SELECT "replicator".step_snapshot(${id}, 'me', '1 min', 2, 1000000)`);
      throw new Error("killed");
    });
    await expect(refused).rejects.toThrow("killed");
    await toEnd("again");
    expect(await lines("again")).toEqual(await asCaptured("again", "id"));
  });

  test("begun again it goes on with what is not finished; anew it begins everything", async () => {
    await db.run(`CREATE TABLE r1 (id int PRIMARY KEY); CREATE TABLE r2 (id int PRIMARY KEY); INSERT INTO r1 SELECT generate_series(1, 4);
      INSERT INTO r2 SELECT generate_series(1, 4); SELECT setup_table_for_replication('r1'), setup_table_for_replication('r2')`);
    const ids = `ARRAY[${await idOf("r1")}, ${await idOf("r2")}]`;
    const again = (anew: boolean) => db.run(`SELECT "replicator".begin_snapshot(${ids}, 'me', ${anew}, false)`);
    const states = () =>
      texts(
        db.sql,
        `SELECT state || ' ' || rows_done FROM "replicator".snapshot WHERE table_id = ANY (${ids}) ORDER BY table_id`,
      );
    await again(false);
    await toEnd("r1", 10);
    await step("r2");
    await again(false);
    expect(await states()).toEqual(["done 4", "running 2"]);
    await toEnd("r2");
    expect(await states()).toEqual(["done 4", "done 4"]);
    await again(false);
    expect(await states()).toEqual(["waiting 0", "waiting 0"]);
    await step("r2");
    await again(true);
    expect(await states()).toEqual(["waiting 0", "waiting 0"]);
  });

  test("what DDL does between chunks is said, and mended by tables add", async () => {
    await db.run(
      `CREATE TABLE ddl (id text PRIMARY KEY, v interval); INSERT INTO ddl SELECT i, '1 day' FROM generate_series(1, 12) i; SELECT setup_table_for_replication('ddl')`,
    );
    await begin("ddl");
    await step("ddl", 3);
    await db.run("ALTER TABLE ddl ADD COLUMN w int");
    await expect(step("ddl", 3)).rejects.toThrow("the columns of public.ddl changed");
    await db.run(
      "ALTER TABLE ddl DROP COLUMN w; SELECT setup_table_for_replication('ddl'); ALTER TABLE ddl RENAME TO ddl_renamed",
    );
    await expect(step("ddl_renamed", 3)).rejects.toThrow("is not what its functions were made for");
    await db.run("ALTER TABLE ddl_renamed RENAME TO ddl; SELECT setup_table_for_replication('ddl')");
    expect(await step("ddl", 3)).toEqual({ sent: 3, ended: false, begun_anew: false });
    // '10' comes before '2' as text, not as a number: going on would leave rows out
    await db.run(`SELECT remove_table_from_replication('ddl', false); ALTER TABLE ddl ALTER id TYPE int USING id::int;
      SELECT setup_table_for_replication('ddl')`);
    expect(await step("ddl", 3)).toEqual({ sent: 3, ended: false, begun_anew: true });
    await db.run(`DELETE FROM "replicator".queue`);
    await begin("ddl", true);
    await toEnd("ddl", 3);
    expect(await lines("ddl")).toEqual(await asCaptured("ddl", "id"));
    const id = await idOf("ddl");
    await begin("ddl", true);
    await db.run("DROP TABLE ddl");
    const gone = db.sql.unsafe(`SELECT "replicator".step_snapshot(${id}, 'me', '1 min', 3, 1000000)`);
    await expect(gone).rejects.toThrow("table public.ddl is gone, or was made anew");
  });

  test("one runs it at a time: who holds it is told, a right that ran out is taken over", async () => {
    const held = async (owner: string, ttl = "1 min") =>
      (await texts(db.sql, `SELECT "replicator".hold_snapshot('${owner}', '${ttl}')::text`))[0];
    expect([await held("me"), await held("other"), await held("me", "0")]).toEqual(["true", "false", "true"]);
    expect([await held("other"), await held("me")]).toEqual(["true", "false"]);
    await expect(step("empty")).rejects.toThrow("the snapshot is run by somebody else now: other");
    expect(await held("other", "0")).toBe("true");
  });

  test("the order puts parents before children, and says where tables refer to each other in a circle", async () => {
    await db.run(`CREATE TABLE child (id int PRIMARY KEY); CREATE TABLE parent (id int PRIMARY KEY, self int REFERENCES parent); CREATE TABLE x (id int PRIMARY KEY); CREATE TABLE y (id int PRIMARY KEY, x int REFERENCES x);
      ALTER TABLE x ADD y int REFERENCES y; ALTER TABLE child ADD p int REFERENCES parent;
      SELECT setup_table_for_replication(t::regclass) FROM unnest('{child,x,y,parent}'::text[]) t`);
    const order = await texts(
      db.sql,
      `SELECT r.table_name || CASE WHEN o.circle THEN ' circle' ELSE '' END FROM "replicator".snapshot_order() o JOIN "replicator".replicated_table r USING (table_id)
        WHERE r.table_name IN ('child', 'parent', 'x', 'y') ORDER BY o.place`,
    );
    expect(order.indexOf("parent")).toBeLessThan(order.indexOf("child"));
    expect(order.filter((name) => name.endsWith("circle"))).toEqual(["x circle"]);
    expect(order.indexOf("x circle")).toBeLessThan(order.indexOf("y"));
  });

  test("rows that refer to later rows of their own table bring them along, whatever the order of the key", async () => {
    await db.run(`CREATE TABLE tree (a int, b text, up_a int, up_b text, v text, PRIMARY KEY (a, b), FOREIGN KEY (up_a, up_b) REFERENCES tree);
      INSERT INTO tree SELECT i, i % 3, CASE WHEN i < 30 THEN least(i + 1 + i % 5, 30) END, CASE WHEN i < 30 THEN least(i + 1 + i % 5, 30) % 3 END FROM generate_series(30, 1, -1) i;
      CREATE TABLE mixed (a int NOT NULL, b int NOT NULL, up int, v interval, UNIQUE (b)); CREATE UNIQUE INDEX mixed_key ON mixed (a DESC, b);
      ALTER TABLE mixed ADD FOREIGN KEY (up) REFERENCES mixed (b); INSERT INTO mixed SELECT i / 4, i, CASE WHEN i > 1 THEN i / 2 END, '1 day' FROM generate_series(1, 30) i`);
    for (const [table, options, key, up] of [
      ["tree", "{}", ["a", "b"], ["up_a", "up_b"]],
      ["mixed", '{"primary_key":["a","b"]}', ["b"], ["up"]],
    ] as const) {
      await db.run(`SELECT setup_table_for_replication('${table}', '${options}'); DELETE FROM "replicator".queue`);
      await begin(table, true);
      let seen = new Set<string>();
      const id = (row: Readonly<Record<string, unknown>>, names: readonly string[]) =>
        names.map((name) => row[name]).join();
      for (let ended = false; !ended; ) {
        ({ ended } = await step(table, 4));
        // at the end of each transaction nothing points nowhere
        const rows = (await captured(db.sql, table)).map(({ row }) => row);
        seen = new Set(rows.map((row) => id(row, key)));
        for (const row of rows) if (row[up[0]] !== null) expect(seen).toContain(id(row, up));
      }
      expect(seen.size).toBe(30);
    }
  });

  test("no transaction older than the triggers hides a row: setup waits for those that wrote, later writes fire them (review C3)", async () => {
    await db.run("CREATE TABLE old (id int PRIMARY KEY)");
    const [writer, reader] = [db.connect(), db.connect()];
    await writer.unsafe("BEGIN; INSERT INTO old VALUES (1)");
    await reader.unsafe("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM pg_class");
    const setup = db.sql.unsafe("SELECT setup_table_for_replication('old')").execute();
    const other = db.connect();
    const waits = async () =>
      (await other.unsafe("SELECT 1 FROM pg_locks WHERE NOT granted AND relation = 'old'::regclass")).length > 0;
    while (!(await waits()));
    await writer.unsafe("COMMIT");
    await setup;
    // its snapshot is older than the triggers, its write is not
    await reader.unsafe("INSERT INTO old VALUES (2)");
    await begin("old");
    await toEnd("old");
    await reader.unsafe("COMMIT");
    expect((await captured(db.sql, "old")).map(({ operation, row }) => `${operation} ${row.id}`).sort()).toEqual([
      "I 2",
      "S 1",
    ]);
  });

  test("a policy that would hide rows is an error, never a hole", async () => {
    await db.run(`CREATE ROLE snapshot_owner_${process.pid} NOLOGIN; CREATE TABLE secured (id int PRIMARY KEY); INSERT INTO secured VALUES (1);
      SELECT setup_table_for_replication('secured'); ALTER TABLE secured ENABLE ROW LEVEL SECURITY; ALTER TABLE secured FORCE ROW LEVEL SECURITY;
      GRANT SELECT ON secured TO snapshot_owner_${process.pid}; GRANT USAGE, CREATE ON SCHEMA "replicator" TO snapshot_owner_${process.pid};
      GRANT INSERT ON "replicator".queue TO snapshot_owner_${process.pid}; GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA "replicator" TO snapshot_owner_${process.pid}`);
    await begin("secured");
    await db.run(
      `ALTER FUNCTION "replicator".snapshot_chunk_${await idOf("secured")}(text, int, bigint) OWNER TO snapshot_owner_${process.pid}`,
    );
    await expect(step("secured")).rejects.toThrow("row-level security");
    await db.run(`DROP OWNED BY snapshot_owner_${process.pid}; DROP ROLE snapshot_owner_${process.pid}`);
  });
});

for (const major of MAJORS) {
  describeWith(`postgres:${major}`, `the snapshot on PostgreSQL ${major}, under another schema's name`, () => {
    test("composite, mixed and partitioned keys, a tree", async () => {
      const schema = "our schema";
      const db = await freshSetup({ major, schema });
      await db.run(`CREATE TABLE two (a text, b int, v interval, up_a text, up_b int, PRIMARY KEY (a, b), FOREIGN KEY (up_a, up_b) REFERENCES two);
        INSERT INTO two SELECT i % 3, i, '1 day', CASE WHEN i < 20 THEN (i + 1) % 3 END, CASE WHEN i < 20 THEN i + 1 END FROM generate_series(20, 1, -1) i;
        CREATE TABLE mixed (a int NOT NULL, b timestamptz NOT NULL); CREATE UNIQUE INDEX ON mixed (a DESC, b);
        INSERT INTO mixed SELECT i % 3, '2026-01-01'::timestamptz + i * interval '1 s' FROM generate_series(1, 20) i;
        CREATE TABLE parts (id int PRIMARY KEY) PARTITION BY RANGE (id); CREATE TABLE p1 PARTITION OF parts FOR VALUES FROM (0) TO (10);
        CREATE TABLE p2 PARTITION OF parts FOR VALUES FROM (10) TO (40); INSERT INTO parts SELECT generate_series(1, 20);
        SELECT setup_table_for_replication(t::regclass) FROM unnest('{two,mixed,parts}'::text[]) t;
        SELECT "${schema}".begin_snapshot('{1,2,3}', 'me', false, false)`);
      for (const [id, table, key] of [
        [1, "two", (row: Readonly<Record<string, unknown>>) => `${row.a} ${row.b}`],
        [2, "mixed", (row: Readonly<Record<string, unknown>>) => `${row.a} ${row.b}`],
        [3, "parts", (row: Readonly<Record<string, unknown>>) => String(row.id)],
      ] as const) {
        const step = `SELECT ended FROM "${schema}".step_snapshot(${id}, 'me', '1 min', 3, 1000000)`;
        while (!(await db.sql.unsafe<{ ended: boolean }[]>(step))[0]?.ended);
        const sent = (await captured(db.sql, table, schema)).map(({ row }) => key(row));
        expect(new Set(sent).size).toBe(20);
        if (table !== "two") expect(sent.length).toBe(20);
      }
      await db.close();
    });
  });
}
