/** Setup and capture of all operations in both forms on every supported PostgreSQL; 15 is tested in full elsewhere. */
import { expect, test } from "bun:test";
import { MAJORS } from "../servers/postgres.ts";
import { describeWith } from "../support/needs.ts";
import { captured, contents, freshSetup, install, replay } from "./database.ts";

for (const major of MAJORS) {
  describeWith(`postgres:${major}`, `PostgreSQL ${major}`, () => {
    test("setup twice, every operation in both forms, partitions, a changed column, removal", async () => {
      const db = await freshSetup({ major });
      await install(db.sql);
      for (const form of ["row", "statement"]) {
        for (const [name, columns] of [
          ["plain", "id int PRIMARY KEY, v text"],
          ["listed", "id int PRIMARY KEY, tags text[], j jsonb, v text, g int GENERATED ALWAYS AS (id + 1) STORED"],
        ]) {
          const table = `${name}_${form}`;
          await db.run(`CREATE TABLE ${table} (${columns}); INSERT INTO ${table} (id) VALUES (0);
            SELECT setup_table_for_replication('${table}', '{"capture":"${form}"}'); SELECT setup_table_for_replication('${table}')`);
          await db.run(`INSERT INTO ${table} (id, v) SELECT i, 'x' FROM generate_series(1, 500) i; UPDATE ${table} SET v = 'y' WHERE id <= 100;
            UPDATE ${table} SET id = 1000 + id WHERE id > 490; DELETE FROM ${table} WHERE id BETWEEN 300 AND 400`);
          await db.run(
            `DELETE FROM ${table} WHERE id = 5; INSERT INTO ${table} (id, v) VALUES (5, 'again') ON CONFLICT (id) DO UPDATE SET v = 'no'`,
          );
          await db.run(`ALTER TABLE ${table} ADD COLUMN more int`);
          await db.run(`UPDATE ${table} SET more = 1 WHERE id = 7; UPDATE ${table} SET v = 'z' WHERE id = 0`);
          const changes = await captured(db.sql, table);
          expect(changes.filter(({ operation }) => operation === "D").length).toBe(112);
          const held = await contents(db.sql, table, ["id"]);
          for (const row of held.values()) for (const extra of ["g", "more", "tags", "j"]) delete row[extra];
          const played = replay(changes, ["id"]);
          for (const row of played.values()) for (const extra of ["g", "more", "tags", "j"]) delete row[extra];
          expect(played).toEqual(held);
          await db.run(`TRUNCATE ${table}`);
          expect(replay(await captured(db.sql, table), ["id"]).size).toBe(0);
        }
      }
      await db.run(`CREATE TABLE parts (id int PRIMARY KEY, v text) PARTITION BY RANGE (id); CREATE TABLE p1 PARTITION OF parts FOR VALUES FROM (0) TO (10);
        CREATE TABLE p2 PARTITION OF parts FOR VALUES FROM (10) TO (20); SELECT setup_table_for_replication('parts');
        INSERT INTO parts VALUES (1), (2), (3); UPDATE parts SET id = 11 WHERE id = 1; SET session_replication_role = replica; DELETE FROM p1 WHERE id = 2;
        RESET session_replication_role; TRUNCATE p2; CREATE TABLE p3 PARTITION OF parts FOR VALUES FROM (20) TO (30); INSERT INTO p3 VALUES (21)`);
      expect(replay(await captured(db.sql, "parts"), ["id"])).toEqual(await contents(db.sql, "parts", ["id"]));
      const [always] =
        await db.sql`SELECT bool_and(tgenabled = 'A') AS a FROM pg_trigger WHERE tgname LIKE 'zz\\_replicator%'`;
      expect(always?.a).toBe(true);
      expect(
        Number((await db.sql`SELECT COUNT(*) FROM replication_queue WHERE published = FALSE`)[0]?.count),
      ).toBeGreaterThan(1000);
      await db.run(`SELECT "replicator".uninstall(true)`);
      await db.close();
    });
  });
}
