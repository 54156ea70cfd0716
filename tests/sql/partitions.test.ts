/** Partitioned tables: writes to root and partitions, row movement, TRUNCATE of either, partitions that come later. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { describeWith } from "../support/needs.ts";
import { captured, contents, type Database, freshSetup, replay } from "./database.ts";

describeWith("postgres", "partitioned tables", () => {
  let db: Database;
  beforeAll(async () => {
    db = await freshSetup();
    // the second partition has another column order and a dropped column, as grown tables do
    await db.run(`CREATE TABLE parts (region text, id int, v text, PRIMARY KEY (region, id)) PARTITION BY LIST (region);
      CREATE TABLE parts_a PARTITION OF parts FOR VALUES IN ('a');
      CREATE TABLE parts_b (v text, gone int, id int NOT NULL, region text NOT NULL); ALTER TABLE parts_b DROP COLUMN gone;
      ALTER TABLE parts ATTACH PARTITION parts_b FOR VALUES IN ('b');
      CREATE TABLE parts_d PARTITION OF parts DEFAULT PARTITION BY RANGE (id); CREATE TABLE parts_d1 PARTITION OF parts_d FOR VALUES FROM (0) TO (100);
      SELECT setup_table_for_replication('parts', '{"capture":"statement"}')`);
  });
  afterAll(() => db.close());
  const key = ["region", "id"];
  const equal = async () =>
    expect(replay(await captured(db.sql, "parts"), key)).toEqual(await contents(db.sql, "parts", key));
  const count = async () => (await captured(db.sql, "parts")).length;

  test("writes to the root and to a partition are captured under the root", async () => {
    await db.run(`INSERT INTO parts VALUES ('a', 1, 'x'), ('b', 2, 'y'), ('c', 3, 'z'); INSERT INTO parts_b (region, id, v) VALUES ('b', 4, 'direct');
      UPDATE parts_b SET v = 'upd' WHERE id = 4; UPDATE parts SET v = v || '!'; DELETE FROM parts_d1 WHERE id = 3`);
    expect(await count()).toBe(4 + 1 + 4 + 1);
    await equal();
  });

  test("row movement is one DELETE and one INSERT, there and back again", async () => {
    const before = await count();
    await db.run(`UPDATE parts SET region = 'b' WHERE id = 1`);
    expect(
      (await captured(db.sql, "parts"))
        .slice(before)
        .map(({ operation }) => operation)
        .sort(),
    ).toEqual(["D", "I"]);
    await equal();
    await db.run(
      `UPDATE parts SET region = 'a' WHERE id = 1; UPDATE parts SET region = 'q', v = 'w' WHERE id = 1; UPDATE parts SET region = 'a' WHERE id = 1`,
    );
    await equal();
    expect(Number((await contents(db.sql, "parts", key)).get('["a",1]')?.version)).toBeGreaterThan(4);
  });

  test("TRUNCATE of a partition deletes its rows, of the root everything, and both in one transaction", async () => {
    await db.run(`TRUNCATE parts_b`);
    await equal();
    expect((await contents(db.sql, "parts", key)).size).toBe(1);
    await db.run(`INSERT INTO parts VALUES ('b', 4, 'again'), ('b', 5, 'new')`);
    const before = await count();
    await db.run(`TRUNCATE parts; INSERT INTO parts VALUES ('b', 4, 'third'), ('a', 1, 'third'); TRUNCATE parts_b`);
    expect(
      (await captured(db.sql, "parts"))
        .slice(before)
        .map(({ operation }) => operation)
        .join(""),
    ).toBe("TIID");
    await equal();
    expect((await contents(db.sql, "parts", key)).size).toBe(1);
  });

  test("a partition that comes later is captured at once, its TRUNCATE after a refresh", async () => {
    await db.run(
      `CREATE TABLE parts_e PARTITION OF parts FOR VALUES IN ('e'); INSERT INTO parts VALUES ('e', 1, 'late'); INSERT INTO parts_e VALUES ('e', 2, 'late')`,
    );
    await equal();
    const stale = await db.sql`SELECT reason FROM "replicator".stale_tables()`;
    expect(stale.map(({ reason }) => reason)).toEqual(["a partition has no trigger for TRUNCATE"]);
    await db.run(`SELECT "replicator".refresh_stale_tables(); TRUNCATE parts_e`);
    await equal();
    await db.run(`ALTER TABLE parts DETACH PARTITION parts_b`);
    await db.run(`SELECT remove_table_from_replication('parts')`);
    const left = await db.sql`SELECT tgrelid::regclass::text AS t FROM pg_trigger WHERE tgname LIKE 'zz\\_replicator%'`;
    expect(left.length).toBe(0);
    await db.run(`INSERT INTO parts_b (region, id) VALUES ('b', 9); TRUNCATE parts_b`);
  });
});
