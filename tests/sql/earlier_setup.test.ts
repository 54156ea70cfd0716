/** What an earlier setup has left becomes what it is today; nothing of it is lost. */
import { expect, test } from "bun:test";
import { describeWith } from "../support/needs.ts";
import { freshSetup, install, texts } from "./database.ts";

const AS_BEFORE = `
DROP VIEW public.inbox;
ALTER TABLE "replicator".inbox DROP COLUMN key_columns, DROP COLUMN stamp_columns, DROP COLUMN facts, DROP COLUMN remedy,
  DROP COLUMN waits, DROP COLUMN catalog;
DROP INDEX "replicator".inbox_next, "replicator".inbox_table;
ALTER TABLE "replicator".ledger DROP COLUMN ahead;
CREATE INDEX inbox_due ON "replicator".inbox (next_attempt_at) WHERE status = 'parked';
CREATE VIEW public.inbox AS SELECT * FROM "replicator".inbox;
COMMENT ON VIEW public.inbox IS 'thin name of the replicator; do not change';
INSERT INTO "replicator".inbox (event_id, source_contour, channel, partition, epoch, sequence, cut_no, transaction_id, queue_id,
  schema_name, table_name, operation, data, error_code, error, next_attempt_at)
VALUES (gen_random_uuid(), 'b', 'changes', 0, 1, 1, 1, '7', 1, 'public', 't', 'INSERT', '{"id":1}', '23514', 'no', now());`;

describeWith("postgres", "The inbox of an earlier setup", () => {
  test("gets its new columns and indexes, keeps its rows, and setup goes on doing no harm", async () => {
    const db = await freshSetup();
    await db.run(AS_BEFORE);
    for (let times = 0; times < 2; times++) {
      await install(db.sql);
      expect(
        await texts(
          db.sql,
          "SELECT error_code || ' ' || waits FROM inbox WHERE catalog IS NULL AND key_columns IS NULL",
        ),
      ).toEqual(["23514 false"]);
      expect(
        await texts(
          db.sql,
          "SELECT indexname::text FROM pg_indexes WHERE tablename = 'inbox' AND indexname ~ 'due|next|table' ORDER BY 1",
        ),
      ).toEqual(["inbox_next", "inbox_table"]);
      expect(await texts(db.sql, `SELECT count(ahead)::text FROM "replicator".ledger`)).toEqual(["0"]);
    }
    await db.close();
  });
});

describeWith("postgres", "The ledger and the tables of an earlier setup", () => {
  test("the ledger gets its new column, a table whose functions are older is found and made new", async () => {
    const db = await freshSetup();
    await db.run(`CREATE TABLE t (id int PRIMARY KEY); SELECT setup_table_for_replication('t');
                  ALTER TABLE "replicator".applied DROP COLUMN cut_complete;
                  DROP FUNCTION "replicator".lift_1, "replicator".refuse_1`);
    await install(db.sql);
    expect(await texts(db.sql, `SELECT count(cut_complete)::text FROM "replicator".applied`)).toEqual(["0"]);
    const stale = `SELECT relation || ': ' || reason FROM "replicator".stale_tables()`;
    expect(await texts(db.sql, stale)).toEqual(["t: its functions are from an earlier version"]);
    await db.run(`SELECT "replicator".refresh_table('t')`);
    expect(await texts(db.sql, stale)).toEqual([]);
    await db.run("INSERT INTO t VALUES (1)");
    await db.close();
  });

  test("a database from before the snapshot gets its table, and each table its function", async () => {
    const db = await freshSetup();
    await db.run(`CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1); SELECT setup_table_for_replication('t');
                  DROP TABLE "replicator".snapshot; DROP FUNCTION "replicator".snapshot_chunk_1`);
    await install(db.sql);
    expect(await texts(db.sql, `SELECT reason FROM "replicator".stale_tables()`)).toEqual([
      "its functions are from an earlier version",
    ]);
    await db.run(`SELECT "replicator".refresh_stale_tables(), "replicator".begin_snapshot('{1}', 'me', false, false)`);
    const step = `SELECT s.sent::text FROM "replicator".step_snapshot(1, 'me', '1 min', 10, 1000) s`;
    expect(await texts(db.sql, step)).toEqual(["1"]);
    await db.run(`SELECT remove_table_from_replication('t')`);
    const left = `SELECT proname::text FROM pg_proc WHERE pronamespace = '"replicator"'::regnamespace AND proname LIKE '%\\_1'`;
    expect(await texts(db.sql, left)).toEqual([]);
    await db.close();
  });
});
