/** What the poll tells in sync_state, what a person may say there, and how a table begins and ends being polled. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { describeWith } from "../support/needs.ts";
import { contents, type Database, freshSetup, replay, texts } from "./database.ts";
import { type PolledOptions, polledTable } from "./polled_table.ts";

let db: Database;
const polled = (options?: PolledOptions) => polledTable(db, options);

describeWith("postgres", "What is known of the poll", () => {
  beforeAll(async () => {
    db = await freshSetup();
  });
  afterAll(() => db.close());

  test("setting sync_state back makes the next run send from there, a later time skips nothing", async () => {
    const t = await polled({ rows: "SELECT i, 'old' FROM generate_series(1, 5) i" });
    const reset = (to: string) =>
      db.run(`UPDATE sync_state SET last_sync_timestamp = '${to}' WHERE table_name = '${t.name}'`);
    await t.run();
    await db.run(
      `UPDATE "replicator".sync_table SET shown = now() WHERE table_id = ${t.id}; UPDATE sync_state SET last_sync_timestamp = now() WHERE table_name = '${t.name}'`,
    );
    expect(await t.run()).toBe(0);
    await reset("1970-01-01");
    expect(await t.run()).toBe(5);
    expect(await t.run()).toBe(0);
    await db.run(`UPDATE ${t.name} SET v = 'x' WHERE id = 1`);
    await reset("2100-01-01");
    expect(await t.run()).toBe(1);
  });

  test("sync_state moves when the cut that holds the run is confirmed, and not before", async () => {
    const t = await polled({ rows: "VALUES (1, 'a')" });
    const state = async () =>
      (
        await texts(
          db.sql,
          `SELECT last_sync_timestamp || ' ' || coalesce(last_sync_version::text, '') FROM sync_state WHERE table_name = '${t.name}'`,
        )
      )[0];
    await t.run();
    await db.run(`UPDATE ${t.name} SET v = 'b'`);
    await t.run();
    await db.sql`SELECT "replicator".sync_confirm()`;
    expect(await state()).toBe("1970-01-01 00:00:00+00 ");
    await db.run(
      `INSERT INTO "replicator".cut VALUES (1, 1, '1:1:', pg_current_snapshot(), 1, 1000, 'greedy/1', 1, now(), 0)`,
    );
    await db.sql`SELECT "replicator".sync_confirm()`;
    expect(await state()).toBe("1970-01-01 00:00:00+00 ");
    await db.run(`INSERT INTO "replicator".confirmed VALUES ('changes', 1, 1, '{1}', 1, now(), 0)`);
    // What a person sets meanwhile stays for the next run to see.
    await db.run(`UPDATE sync_state SET last_sync_timestamp = '1969-12-31' WHERE table_name = '${t.name}'`);
    await db.sql`SELECT "replicator".sync_confirm()`;
    expect(await state()).toBe("1969-12-31 00:00:00+00 ");
    expect(await t.run()).toBe(1);
    await db.run(`INSERT INTO "replicator".cut VALUES (2, 1, '1:1:', pg_current_snapshot(), 1, 1000, 'greedy/1', 1, now(), 0);
      INSERT INTO "replicator".confirmed VALUES ('changes', 2, 1, '{1}', 1, now(), 0)`);
    await db.sql`SELECT "replicator".sync_confirm()`;
    expect(await state()).toBe((await texts(db.sql, `SELECT updated_at || ' ' || version FROM ${t.name}`))[0] ?? "");
  });

  test("a table that is captured from now on leaves nothing behind that was not polled yet", async () => {
    const t = await polled({ rows: "VALUES (1, 'a')" });
    await t.run();
    await db.run(`UPDATE ${t.name} SET v = 'not polled yet'; INSERT INTO ${t.name} VALUES (2, 'nor this');
      SELECT setup_table_for_replication('${t.name}', '{"capture":"row","conflict":"version"}')`);
    await db.run(`UPDATE ${t.name} SET v = 'captured' WHERE id = 2`);
    expect(replay(await t.queued(), ["id"])).toEqual(await contents(db.sql, t.name, ["id"]));
    expect(await texts(db.sql, `SELECT reason FROM "replicator".stale_tables() WHERE table_id = ${t.id}`)).toEqual([]);
    await db.run(`SELECT setup_table_for_replication('${t.name}', '{"capture":"none"}')`);
    expect(await texts(db.sql, `SELECT reason FROM "replicator".stale_tables() WHERE table_id = ${t.id}`)).toEqual([]);
    await db.run(`UPDATE ${t.name} SET v = 'polled again' WHERE id = 1`);
    await t.run();
    expect(replay(await t.queued(), ["id"])).toEqual(await contents(db.sql, t.name, ["id"]));
  });

  test("a table that is taken out sends what was not polled yet, once it was ever polled", async () => {
    const [t, never] = [await polled({ rows: "VALUES (1, 'a')" }), await polled({ rows: "VALUES (1, 'a')" })];
    await t.run();
    await t.news();
    await db.run(
      `INSERT INTO ${t.name} VALUES (2, 'b'); SELECT remove_table_from_replication('${t.name}'); SELECT remove_table_from_replication('${never.name}')`,
    );
    const queue = `SELECT q.data FROM "replicator".queue q WHERE q.table_id = `;
    expect(await texts(db.sql, `${queue} ${never.id}`)).toEqual([]);
    expect((await texts(db.sql, `${queue} ${t.id} ORDER BY q.id`)).at(-1)).toContain('"v":"b"');
  });

  test("the application's role needs no right on our objects, and a publisher's role polls", async () => {
    await db.run(`DO $$ BEGIN IF to_regrole('replicator_publisher') IS NULL THEN CREATE ROLE replicator_publisher; END IF; END $$;
      CREATE ROLE app_${process.pid} LOGIN PASSWORD 'x'; CREATE ROLE pub_${process.pid} LOGIN PASSWORD 'x' IN ROLE replicator_publisher; SELECT "replicator".grant_rights()`);
    const t = await polled({ rows: "VALUES (1, 'a')" });
    await db.run(`GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON ${t.name} TO app_${process.pid}`);
    const app = db.connect({ user: `app_${process.pid}`, password: "x" });
    await app
      .unsafe(`UPDATE ${t.name} SET v = 'b'; INSERT INTO ${t.name} VALUES (2, 'c'); DELETE FROM ${t.name} WHERE id = 1`)
      .simple();
    const publisher = db.connect({ user: `pub_${process.pid}`, password: "x" });
    await publisher`SELECT "replicator".sync_begin(${t.id}, '0')`;
    for (let step = 0; step < 5; step++) await publisher`SELECT "replicator".sync_batch(${t.id}, 10)`;
    await publisher`SELECT "replicator".sync_confirm()`;
    expect(await t.news()).toEqual(["2", "D 1"]);
    await app.end();
    await publisher.end();
    await db.run(`REVOKE ALL ON ${t.name} FROM app_${process.pid}; DROP ROLE app_${process.pid}, pub_${process.pid}`);
  });
});
