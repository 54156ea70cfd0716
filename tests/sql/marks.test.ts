/** Who is not captured leaves its line, and the mark that tells an INSERT whether its table has tombstones. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { describeWith } from "../support/needs.ts";
import { captured, type Database, freshSetup, install, texts } from "./database.ts";

/** The WHEN clause that triggers on statements once had. */
const BYPASSED = `current_setting('replicator.capture', true) = 'off' OR current_setting('application_name') = 'replicator_consumer'`;

describeWith("postgres", "marks", () => {
  let db: Database;
  let serial = 0;
  beforeAll(async () => {
    db = await freshSetup();
  });
  afterAll(() => db.close());

  const table = async (form: string) => {
    const name = `marked_${++serial}`;
    await db.run(`CREATE TABLE ${name} (id int PRIMARY KEY, v text);
                  SELECT setup_table_for_replication('${name}', '{"capture":"${form}"}')`);
    const [row] = await db.sql`SELECT table_id AS id FROM replicator.replicated_table WHERE table_name = ${name}`;
    return { name, id: Number(row?.id) };
  };
  const mark = (id: number) => texts(db.sql, `SELECT pg_sequence_last_value('replicator.floor_mark_${id}')::text`);
  const versions = (name: string) => texts(db.sql, `SELECT version::text FROM ${name} ORDER BY id`);

  for (const form of ["row", "statement", "none"]) {
    describe(`capture: ${form}`, () => {
      test("each kind of statement of a session that is not captured leaves a line, whatever hides it", async () => {
        const { name } = await table(form);
        const statements = [
          (n: number) => `INSERT INTO ${name} VALUES (${n})`,
          () => `UPDATE ${name} SET v = 'x'`,
          () => `DELETE FROM ${name}`,
          () => `TRUNCATE ${name}`,
        ];
        const consumer = db.connect({ applicationName: "replicator_consumer" });
        await db.run(`DELETE FROM "replicator".bypass_log`);
        for (const statement of statements) {
          await consumer.unsafe(statement(1));
          await db.run(`SELECT set_config('replicator.capture', 'off', true); ${statement(2)}`);
          await db.run(`SELECT set_config('replicator.capture', 'on', true); ${statement(3)}`);
          await db.run(statement(4));
        }
        expect(
          await texts(
            db.sql,
            `SELECT application_name FROM bypass_log WHERE table_name = 'public.${name}' ORDER BY occurred_at`,
          ),
        ).toEqual(statements.flatMap(() => ["replicator_consumer", "application"]));
      });

      test("a table without a tombstone is not marked; a local DELETE marks it and the INSERT goes on above (I6)", async () => {
        const { name, id } = await table(form);
        await db.run(`INSERT INTO ${name} VALUES (1); UPDATE ${name} SET v = 'x'`);
        expect(await mark(id)).toEqual([null as unknown as string]);
        await db.run(`DELETE FROM ${name}; INSERT INTO ${name} VALUES (1), (2)`);
        expect(await mark(id)).toEqual(["1"]);
        expect(await versions(name)).toEqual(["4", "1"]);
      });

      test("a DELETE that apply brings marks it as well, also of a row that is not here (I6)", async () => {
        const { name, id } = await table(form);
        await db.run(`SELECT set_config('replicator.capture', 'off', true);
          WITH ts AS (INSERT INTO "replicator".tombstone_${id} VALUES (1, 9, now(), 'beta')) DELETE FROM ${name} WHERE id = 1`);
        await db.run(`INSERT INTO ${name} VALUES (1)`);
        expect(await versions(name)).toEqual(["10"]);
      });

      test("a key change marks it, a floor lifts every insert", async () => {
        const { name, id } = await table(form);
        await db.run(`INSERT INTO ${name} VALUES (1); UPDATE ${name} SET id = 2; INSERT INTO ${name} VALUES (1)`);
        expect(await versions(name)).toEqual(["3", "2"]);
        await db.run(
          `INSERT INTO "replicator".floor VALUES (${id}, 50, '2020-01-01', 'beta'); INSERT INTO ${name} VALUES (3)`,
        );
        expect(await versions(name)).toEqual(["3", "2", "51"]);
      });

      test("triggers and tombstones of an earlier setup are found and brought up to date", async () => {
        const { name, id } = await table(form);
        await db.run(`INSERT INTO ${name} VALUES (1); DELETE FROM ${name};
          ALTER SEQUENCE "replicator".floor_mark_${id} RESTART;
          CREATE OR REPLACE TRIGGER zz_replicator_3_truncate BEFORE TRUNCATE ON ${name} FOR EACH STATEMENT WHEN (${BYPASSED})
            EXECUTE FUNCTION "replicator".truncate_${id}();
          CREATE OR REPLACE TRIGGER zz_replicator_6_bypass AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON ${name} FOR EACH STATEMENT
            WHEN (${BYPASSED}) EXECUTE FUNCTION "replicator".note_bypass('${id}')`);
        await install(db.sql);
        const stale = `SELECT reason FROM "replicator".stale_tables() WHERE relation = '${name}'::regclass`;
        expect(await texts(db.sql, stale)).toEqual(["its triggers are from an earlier version"]);
        await db.run(`SELECT "replicator".refresh_stale_tables(); INSERT INTO ${name} VALUES (1)`);
        expect(await texts(db.sql, stale)).toEqual([]);
        expect(await versions(name)).toEqual(["3"]);
        const bypass = await texts(
          db.sql,
          `SELECT pg_get_triggerdef(oid) FROM pg_trigger WHERE tgrelid = '${name}'::regclass AND tgname ~ 'bypass'`,
        );
        expect(bypass.map((text) => text.replace(/ ON .*/, ""))).toEqual(
          form === "statement" ? [] : ["CREATE TRIGGER zz_replicator_6_bypass BEFORE INSERT OR DELETE OR UPDATE"],
        );
      });
    });
  }

  test("a single row is a queue row of its own form, several are packed, none leave none", async () => {
    const { name } = await table("statement");
    await db.run(`INSERT INTO ${name} VALUES (1); INSERT INTO ${name} VALUES (2), (3); UPDATE ${name} SET v = 'x' WHERE id = 3;
      UPDATE ${name} SET v = 'y' WHERE id > 1; UPDATE ${name} SET v = 'z' WHERE id > 9; DELETE FROM ${name} WHERE id = 1; DELETE FROM ${name}`);
    const rows = await texts(
      db.sql,
      `SELECT q.operation || q.rows FROM "replicator".queue q JOIN "replicator".replicated_table t USING (table_id)
      WHERE t.relid = '${name}'::regclass ORDER BY q.id`,
    );
    expect(rows).toEqual(["I1", "I2", "U1", "U2", "D1", "D2"]);
    expect((await captured(db.sql, name)).slice(-3).map(({ row, old }) => [row.id, row.version, old?.v])).toEqual([
      [1, 2, null],
      [2, 3, "y"],
      [3, 4, "y"],
    ]);
  });

  test("a refusal and the TRUNCATE of a partition mark their table (I6)", async () => {
    const { name, id } = await table("row");
    await db.run(`SELECT "replicator".refuse_${id}('{"id":1,"version":8,"updated_at":"2020-01-01T00:00:00Z","updated_by":"beta"}', '{"id":1}');
      INSERT INTO ${name} VALUES (1)`);
    expect(await versions(name)).toEqual(["10"]);
    await db.run(`CREATE TABLE split (id int PRIMARY KEY) PARTITION BY LIST (id); CREATE TABLE split_1 PARTITION OF split FOR VALUES IN (1);
      SELECT setup_table_for_replication('split'); INSERT INTO split VALUES (1); TRUNCATE split_1; INSERT INTO split VALUES (1)`);
    expect(await versions("split")).toEqual(["3"]);
  });

  test("statement form looks tombstones up by their key, also with plans made when there were hardly any", async () => {
    const { name, id } = await table("statement");
    await db.run(
      `INSERT INTO ${name} SELECT generate_series(1, 500); DELETE FROM ${name} WHERE id = 1; ANALYZE "replicator".tombstone_${id}`,
    );
    // a session of its own: what it has counted before would be among the figures
    await db.connect().begin(async (tx) => {
      await tx.unsafe(`DELETE FROM ${name} WHERE id <= 3`);
      await tx.unsafe(`DELETE FROM ${name} WHERE id = 4`);
      await tx.unsafe(`DELETE FROM ${name}`);
      const [scans] = await tx.unsafe(
        `SELECT seq_scan::int AS whole, idx_scan::int AS by_key FROM pg_stat_xact_user_tables WHERE relname = 'tombstone_${id}'`,
      );
      expect(scans?.whole).toBe(0);
      expect(scans?.by_key).toBeGreaterThan(499);
    });
  });
});
