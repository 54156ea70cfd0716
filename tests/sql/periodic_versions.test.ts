/** Polls on every supported PostgreSQL, under another schema name, over partitions, and after an earlier setup. */
import { expect, test } from "bun:test";
import { MAJORS } from "../servers/postgres.ts";
import { describeWith } from "../support/needs.ts";
import { captured, contents, type Database, freshSetup, install, replay, texts } from "./database.ts";

const SCHEMA = "Our Own";

async function poll(db: Database, table: string): Promise<void> {
  const [row] = await db.sql.unsafe(
    `SELECT table_id FROM "${SCHEMA}".replicated_table WHERE relid = '${table}'::regclass`,
  );
  const id = Number(row?.table_id);
  await db.sql.unsafe(`SELECT "${SCHEMA}".sync_compare_keys(${id}, '0')`);
  await db.sql.unsafe(`SELECT "${SCHEMA}".sync_begin(${id}, '0')`);
  for (;;) {
    const [batch] = await db.sql.unsafe(`SELECT phase FROM "${SCHEMA}".sync_batch(${id}, 7)`);
    if (batch?.phase === "done") return;
  }
}

for (const major of MAJORS) {
  describeWith(`postgres:${major}`, `PostgreSQL ${major}`, () => {
    test("a polled table, a partitioned one and one the application stamps send what they hold; all of it can be removed", async () => {
      const db = await freshSetup({ major, schema: SCHEMA });
      await install(db.sql, SCHEMA);
      const stamp = "version bigint DEFAULT 1, updated_at timestamptz DEFAULT now(), updated_by text DEFAULT 'alpha'";
      await db.run(`CREATE TABLE plain (id int PRIMARY KEY, v text); INSERT INTO plain SELECT i, 'old' FROM generate_series(1, 20) i;
        CREATE TABLE parts (id int, k text COLLATE "C", v text, PRIMARY KEY (id, k)) PARTITION BY RANGE (id);
        CREATE TABLE p1 PARTITION OF parts FOR VALUES FROM (0) TO (10); CREATE TABLE p2 PARTITION OF parts FOR VALUES FROM (10) TO (20);
        INSERT INTO parts SELECT i, 'k', 'old' FROM generate_series(0, 19) i;
        CREATE TABLE stamped (id int PRIMARY KEY, v text, ${stamp}); INSERT INTO stamped (id) SELECT generate_series(1, 20)`);
      for (const [table, more] of [
        ["plain", ""],
        ["parts", ""],
        ["stamped", ',"stamp":"application"'],
      ])
        await db.run(`SELECT setup_table_for_replication('${table}', '{"capture":"none"${more}}')`);
      const keys = { plain: ["id"], parts: ["id", "k"], stamped: ["id"] };
      const equal = async () => {
        for (const [table, key] of Object.entries(keys)) {
          await poll(db, table);
          expect(replay(await captured(db.sql, table, SCHEMA), key)).toEqual(await contents(db.sql, table, key));
        }
      };
      await equal();
      await db.run(`UPDATE plain SET v = 'new' WHERE id < 5; DELETE FROM plain WHERE id = 9; INSERT INTO plain VALUES (99, 'n');
        UPDATE parts SET id = 15, k = 'moved' WHERE id = 1; DELETE FROM parts WHERE id = 2; INSERT INTO parts VALUES (3, 'l', 'n');
        UPDATE stamped SET v = 'new', version = version + 1, updated_at = clock_timestamp() WHERE id < 5; DELETE FROM stamped WHERE id = 9`);
      // Deletions of the third table are found by the comparison that begins the next poll.
      await poll(db, "stamped");
      await equal();
      await db.run("TRUNCATE p2; TRUNCATE plain; INSERT INTO plain VALUES (1, 'again')");
      await equal();
      await db.sql.unsafe(`SELECT "${SCHEMA}".sync_confirm()`);
      expect(await texts(db.sql, `SELECT relation || ': ' || reason FROM "${SCHEMA}".stale_tables()`)).toEqual([]);
      await db.run(
        "SELECT remove_table_from_replication('plain'); SELECT remove_table_from_replication('stamped', false)",
      );
      expect(
        await texts(db.sql, `SELECT count(*)::text FROM "${SCHEMA}".sync_run r WHERE r.table_id IN (1, 3)`),
      ).toEqual(["0"]);
      const left = `SELECT relname::text FROM pg_class WHERE relnamespace = '"${SCHEMA}"'::regnamespace AND relname ~ '_(1|3)$' AND relname ~ '^(sync_mark|known|tombstone)'`;
      expect(await texts(db.sql, left)).toEqual([]);
      await db.run(`SELECT "${SCHEMA}".uninstall(true)`);
      await db.close();
    });
  });
}

describeWith("postgres", "A polled table of an earlier setup", () => {
  test("gets its poll, and what was written before and after is sent", async () => {
    const db = await freshSetup({ schema: SCHEMA });
    await db.run(`CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1); SELECT setup_table_for_replication('t', '{"capture":"none"}');
      DROP FUNCTION "${SCHEMA}".poll_1; DROP TABLE "${SCHEMA}".sync_run, "${SCHEMA}".sync_sent, "${SCHEMA}".sync_table CASCADE;
      DROP SEQUENCE "${SCHEMA}".sync_mark_1 CASCADE; ALTER TABLE "${SCHEMA}".replicated_table DROP COLUMN stamping`);
    await install(db.sql, SCHEMA);
    expect(await texts(db.sql, `SELECT reason FROM "${SCHEMA}".stale_tables()`)).toEqual([
      "its functions are from an earlier version",
    ]);
    await db.run(`SELECT "${SCHEMA}".refresh_stale_tables(); INSERT INTO t VALUES (2)`);
    await poll(db, "t");
    expect(replay(await captured(db.sql, "t", SCHEMA), ["id"])).toEqual(await contents(db.sql, "t", ["id"]));
    await db.close();
  });
});
