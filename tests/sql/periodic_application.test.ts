/** Polled tables that the application stamps itself: no trigger of ours, deletions by comparing keys. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import type postgres from "postgres";
import { describeWith } from "../support/needs.ts";
import { type Database, freshSetup, texts } from "./database.ts";
import { type PolledOptions, polledTable } from "./polled_table.ts";

let db: Database;
const polled = (options?: PolledOptions) => polledTable(db, options);

/** A session that holds a transaction open. */
async function session(): Promise<postgres.Sql> {
  return db.connect({ applicationName: "application" });
}

describeWith("postgres", "The poll with stamp application", () => {
  beforeAll(async () => {
    db = await freshSetup();
  });
  afterAll(() => db.close());

  const columns = "id int PRIMARY KEY, v text, version bigint DEFAULT 1, changed timestamptz DEFAULT now(), who text";
  const setup = ',"stamp":"application","columns":{"updated_at":"changed","updated_by":"who"}';
  const open = (rows = "SELECT i, 'old', 1, '2026-01-01', 'alpha' FROM generate_series(1, 5) i", overlap = "0") =>
    polled({ columns, setup, rows, overlap });

  test("no trigger of ours stands on the table, and what the application stamps is sent", async () => {
    const t = await open();
    expect(await texts(db.sql, `SELECT tgname::text FROM pg_trigger WHERE tgrelid = '${t.name}'::regclass`)).toEqual(
      [],
    );
    expect(await texts(db.sql, `SELECT reason FROM "replicator".stale_tables() WHERE table_id = ${t.id}`)).toEqual([]);
    await t.run();
    await t.news();
    await db.run(`UPDATE ${t.name} SET v = 'x', version = version + 1, changed = clock_timestamp(), who = 'alpha' WHERE id = 2;
        UPDATE ${t.name} SET v = 'x', changed = clock_timestamp(), who = 'beta' WHERE id = 3; INSERT INTO ${t.name} (id, v) VALUES (9, 'by default')`);
    await t.run();
    expect(await t.news()).toEqual(["2", "9"]);
  });

  test("a transaction that took its time before a run and commits after it is found", async () => {
    const t = await open();
    await t.run();
    await t.run();
    await t.news();
    const late = await session();
    await late.unsafe("BEGIN; SELECT now()").simple();
    for (let run = 0; run < 3; run++) await t.run();
    // Its xid is younger than every mark so far; its now() is older.
    await late.unsafe(`INSERT INTO ${t.name} (id, v) VALUES (21, 'late'); COMMIT`).simple();
    await t.run();
    expect(await t.news()).toEqual(["21"]);
    for (let run = 0; run < 3; run++) await t.run();
    expect(await t.news()).toEqual([]);
  });

  test("a prepared transaction that commits many runs later is found", async () => {
    const t = await open();
    await t.run();
    await t.run();
    await t.news();
    const preparing = await session();
    await preparing.unsafe("BEGIN; SELECT now()").simple();
    await t.run();
    await preparing
      .unsafe(`INSERT INTO ${t.name} (id, v, changed) VALUES (20, 'p', now()); PREPARE TRANSACTION '${t.name}'`)
      .simple();
    for (let run = 0; run < 3; run++) await t.run();
    await db.run(`COMMIT PREPARED '${t.name}'`);
    await t.run();
    expect(await t.news()).toEqual(["20"]);
    for (let run = 0; run < 3; run++) await t.run();
    expect(await t.news()).toEqual([]);
  });

  test("a clock found behind the last run's makes the next run read the whole table, and later ones go by the new clock", async () => {
    const t = await open();
    for (let run = 0; run < 2; run++) await t.run();
    await t.news();
    await db.run(
      `UPDATE "replicator".sync_run SET marked_at = marked_at + interval '1 hour', keep_from = keep_from + interval '1 hour' WHERE table_id = ${t.id}`,
    );
    await db.run(
      `INSERT INTO ${t.name} VALUES (40, 'stamped meanwhile', 1, clock_timestamp() - interval '30 minutes', 'alpha')`,
    );
    await t.run();
    expect(await t.news()).toContain("40");
    await db.run(`INSERT INTO ${t.name} (id, v, changed) VALUES (41, 'later', clock_timestamp())`);
    for (let run = 0; run < 2; run++) await t.run();
    expect((await t.news()).filter((id) => id === "41")).toEqual(["41"]);
  });

  test("a table whose application stamps from now on is read whole, and goes back to the triggers with nothing lost", async () => {
    const t = await polled({
      columns,
      rows: "SELECT i, 'old' FROM generate_series(1, 3) i",
      setup: ',"columns":{"updated_at":"changed","updated_by":"who"}',
    });
    await t.run();
    await db.run(`SELECT setup_table_for_replication('${t.name}', '{"stamp":"application"}');
        INSERT INTO ${t.name} VALUES (8, 'by the application', 1, clock_timestamp() - interval '1 minute', 'alpha')`);
    await t.run();
    await t.compare();
    await db.run(`DELETE FROM ${t.name} WHERE id = 2; INSERT INTO ${t.name} VALUES (9, 'too', 1, clock_timestamp(), 'alpha'); SELECT setup_table_for_replication('${t.name}', '{"stamp":"trigger"}');
        UPDATE ${t.name} SET v = 'by the trigger' WHERE id = 1`);
    await t.run();
    const row = ({ id, v }: Readonly<Record<string, unknown>>) => `${id} ${v}`;
    expect(new Set((await t.queued()).map((one) => row(one.row)))).toContain("9 too");
    expect((await t.queued()).map((one) => row(one.row))).toContain("1 by the trigger");
    expect((await t.queued()).map((one) => row(one.row))).toContain("8 by the application");
    expect((await t.queued()).filter(({ operation }) => operation === "D").map((one) => one.row.id)).toEqual([2]);
  });

  test("overlap finds what an application stamped by a clock that is behind", async () => {
    for (const [overlap, found] of [
      ["0", []],
      ["5 minutes", ["30"]],
    ] as const) {
      const t = await open(undefined, overlap);
      for (let run = 0; run < 3; run++) await t.run();
      await t.news();
      await db.run(`INSERT INTO ${t.name} VALUES (30, 'behind', 1, clock_timestamp() - interval '2 minutes', 'alpha')`);
      for (let run = 0; run < 3; run++) await t.run();
      expect(await t.news()).toEqual([...found]);
    }
  });

  test("hard deletes are found by comparing keys, but never those apply did", async () => {
    const t = await open();
    await t.run();
    expect(await t.compare()).toBe(0);
    await t.news();
    await db.run(
      `BEGIN; SET LOCAL replicator.capture = 'off'; INSERT INTO ${t.name} VALUES (8, 'theirs', 1, clock_timestamp(), 'beta'); COMMIT`,
    );
    expect(await t.compare()).toBe(0);
    await db.run(`DELETE FROM ${t.name} WHERE id IN (1, 8)`);
    await db.run(`BEGIN; SET LOCAL replicator.capture = 'off'; DELETE FROM ${t.name} WHERE id = 2;
        INSERT INTO "replicator".tombstone_${t.id} VALUES (2, 2, clock_timestamp(), 'beta'); COMMIT`);
    expect(await t.compare()).toBe(2);
    expect(await t.compare()).toBe(0);
    await t.run();
    expect(await t.news()).toEqual(["D 1", "D 8"]);
    const last = (await t.queued()).filter(({ operation }) => operation === "D");
    for (const { row } of last) expect([row.who, Number(row.version)]).toEqual(["alpha", 2]);
    // A TRUNCATE that apply did leaves a floor and no tombstones.
    await db.run(
      `BEGIN; SET LOCAL replicator.capture = 'off'; TRUNCATE ${t.name}; INSERT INTO "replicator".floor VALUES (${t.id}, 100, clock_timestamp(), 'beta'); COMMIT`,
    );
    expect(await t.compare()).toBe(0);
  });

  test("is refused where the columns are missing, and with a table that is captured", async () => {
    await db.run("CREATE TABLE bare (id int PRIMARY KEY)");
    const put = (options: string) => db.run(`SELECT setup_table_for_replication('bare', '${options}')`);
    await expect(put('{"capture":"none","stamp":"application"}')).rejects.toThrow(/there is no column updated_at/);
    await expect(put('{"stamp":"application"}')).rejects.toThrow(/expected it with capture "none"/);
  });
});
