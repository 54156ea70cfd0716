/** A column's type changed under the functions: no write fails, no value is rounded to the former type (I1 I7). */
import { expect, test } from "bun:test";
import { describeWith } from "../support/needs.ts";
import { freshSetup } from "./database.ts";

for (const major of [14, 15, 18] as const) {
  describeWith(`postgres:${major}`, `altered types on PostgreSQL ${major}`, () => {
    for (const form of ["row", "statement"]) {
      // Without a column that travels as text PostgreSQL renders the row by itself.
      for (const more of ["", ", tags text[]"]) {
        test(`in ${form} form, ${more ? "with" : "without"} columns that travel as text, in sessions old and new`, async () => {
          const db = await freshSetup({ major });
          await db.run(`CREATE TABLE t (id int PRIMARY KEY, n int, d date${more});
            SELECT setup_table_for_replication('t', '{"capture":"${form}"}'); INSERT INTO t VALUES (1, 1)`);
          const old = db.connect();
          await old`INSERT INTO t VALUES (2, 2)`;
          await db.run("ALTER TABLE t ALTER COLUMN n TYPE numeric, ALTER COLUMN d TYPE timestamp");
          for (const session of [db.sql, old, db.connect()]) {
            await session`UPDATE t SET n = 3000000000.5, d = '2026-01-01 10:00' WHERE id = 1`;
            await session`DELETE FROM t WHERE id = 2`;
            await session`INSERT INTO t VALUES (2, 1.5, '2026-01-01 10:00')`;
          }
          const lines = await db.sql<{ line: string }[]>`
            SELECT coalesce(old, data) AS line FROM "replicator".queue ORDER BY id OFFSET 2`;
          const values = lines.map(({ line }) => /"id":\d,"n":[\d.]+,"d":[^,]+/.exec(line)?.[0] ?? line);
          const at = '"d":"2026-01-01T10:00:00"';
          const [changed, inserted] = [`"id":1,"n":3000000000.5,${at}`, `"id":2,"n":1.5,${at}`];
          const later = [changed, inserted, inserted];
          expect(values).toEqual([changed, '"id":2,"n":2,"d":null', inserted, ...later, ...later]);
          await db.close();
        });
      }
    }
  });
}
