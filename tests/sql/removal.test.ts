/** Taking tables out of replication, and all of it out of a database. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { describeWith } from "../support/needs.ts";
import { captured, contents, type Database, freshSetup, texts } from "./database.ts";

describeWith("postgres", "removal", () => {
  let db: Database;
  beforeAll(async () => {
    db = await freshSetup();
  });
  afterAll(() => db.close());

  test("the form can be switched, and removal takes what setup brought and no more", async () => {
    await db.run(`CREATE TABLE switched (id int PRIMARY KEY, version bigint NOT NULL DEFAULT 0);
                  SELECT setup_table_for_replication('switched'); INSERT INTO switched VALUES (1);
                  SELECT setup_table_for_replication('switched', '{"capture":"statement"}'); INSERT INTO switched VALUES (2);
                  SELECT setup_table_for_replication('switched', '{"capture":"none"}'); INSERT INTO switched VALUES (3); DELETE FROM switched WHERE id = 3;
                  SELECT setup_table_for_replication('switched', '{"capture":"row"}'); INSERT INTO switched VALUES (3); DELETE FROM switched WHERE id = 2`);
    expect((await captured(db.sql, "switched")).map(({ row }) => [row.id, row.version])).toEqual([
      [1, 1],
      [2, 1],
      // What the poll has not sent yet, before triggers capture again: the deletion, and the table, for it was never polled.
      [3, 2],
      [1, 1],
      [2, 1],
      [3, 3],
      [2, 2],
    ]);
    await db.run(
      `SELECT remove_table_from_replication('switched'); INSERT INTO switched VALUES (9); TRUNCATE switched`,
    );
    expect((await db.sql`SELECT * FROM switched`).columns.map(({ name }) => name)).toEqual(["id", "version"]);
    expect((await captured(db.sql, "switched")).length).toBe(7);
    expect(await texts(db.sql, `SELECT tgname::text FROM pg_trigger WHERE tgrelid = 'switched'::regclass`)).toEqual([]);
    expect(await texts(db.sql, `SELECT remove_table_from_replication('switched')`)).toEqual([
      "public.switched: is not replicated",
    ]);
    await db.run(`SELECT setup_table_for_replication('switched'); INSERT INTO switched VALUES (10)`);
    expect((await captured(db.sql, "switched")).length).toBe(8);
  });

  test("columns that were there before stay, and so do the rows", async () => {
    await db.run(`CREATE TABLE half (id int PRIMARY KEY, updated_at timestamptz NOT NULL DEFAULT now());
                  SELECT setup_table_for_replication('half'); INSERT INTO half VALUES (1), (2)`);
    expect(await texts(db.sql, `SELECT remove_table_from_replication('half')`)).toEqual([
      "public.half: no longer replicated; dropped version, updated_by",
    ]);
    expect((await db.sql`SELECT * FROM half`).columns.map(({ name }) => name)).toEqual(["id", "updated_at"]);
    expect(await db.sql`SELECT FROM half`).toHaveLength(2);
  });

  test("uninstall leaves the tables and nothing of ours", async () => {
    const db = await freshSetup();
    await db.run(`CREATE TABLE kept (id int PRIMARY KEY); SELECT setup_table_for_replication('kept'); INSERT INTO kept VALUES (1);
                  SELECT "replicator".uninstall(true); INSERT INTO kept VALUES (2); UPDATE kept SET id = 3 WHERE id = 1`);
    expect((await contents(db.sql, "kept", ["id"])).size).toBe(2);
    const left =
      await db.sql`SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'v')`;
    expect(left.map(({ relname }) => relname)).toEqual(["kept"]);
    await db.close();
  });
});
