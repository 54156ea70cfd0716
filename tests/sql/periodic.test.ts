/** The poll inside PostgreSQL: what a run reads, whatever commits late, steps back or dies in between. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import type postgres from "postgres";
import { describeWith } from "../support/needs.ts";
import { until } from "../support/until.ts";
import { contents, type Database, freshSetup, replay, texts } from "./database.ts";
import { type PolledOptions, polledTable } from "./polled_table.ts";

let db: Database;
const polled = (options?: PolledOptions) => polledTable(db, options);

/** A session that holds a transaction open. */
async function session(): Promise<postgres.Sql> {
  return db.connect({ applicationName: "application" });
}

describeWith("postgres", "The poll", () => {
  beforeAll(async () => {
    db = await freshSetup();
  });
  afterAll(() => db.close());

  test("sends the whole table at its first run, then what changed, then nothing", async () => {
    const t = await polled({ rows: "SELECT i, 'old' FROM generate_series(1, 2500) i" });
    expect(await t.run()).toBe(2_500);
    expect(replay(await t.queued(), ["id"])).toEqual(await contents(db.sql, t.name, ["id"]));
    await t.news();
    expect(await t.run()).toBe(0);
    await db.run(`UPDATE ${t.name} SET v = 'new' WHERE id IN (7, 9); INSERT INTO ${t.name} VALUES (0, 'zero')`);
    await t.run();
    expect(await t.news()).toEqual(["0", "7", "9"]);
    await t.run();
    await t.run();
    expect(await t.news()).toEqual([]);
  });

  test("5,000 rows with one timestamp and a batch of 1,000 all go, none twice, at the first run and later", async () => {
    const t = await polled();
    await t.run();
    await db.run(`BEGIN; SET LOCAL replicator.capture = 'off';
      INSERT INTO ${t.name} SELECT i, 'x', 1, '2026-11-20 10:00:00+00', 'alpha' FROM generate_series(1, 5000) i; COMMIT`);
    await db.run(`UPDATE sync_state SET last_sync_timestamp = '1970-01-01' WHERE table_name = '${t.name}'`);
    await db.run(`UPDATE "replicator".sync_table SET shown = '2026-01-01' WHERE table_id = ${t.id}`);
    expect(await t.run(1_000)).toBe(5_000);
    expect(new Set((await t.queued()).map(({ row }) => row.id)).size).toBe(5_000);
    await t.news();
    await db.run(`BEGIN; SET LOCAL replicator.capture = 'off';
      UPDATE ${t.name} SET v = 'y', version = 2, updated_at = clock_timestamp() + interval '1 hour'; UPDATE ${t.name} SET updated_at = (SELECT max(updated_at) FROM ${t.name}); COMMIT`);
    expect(await t.run(1_000)).toBe(5_000);
    expect(new Set(await t.news()).size).toBe(5_000);
    expect(await t.run(1_000)).toBe(0);
  });

  test("a transaction that commits late with an old stamp is found, and what went in between is not sent again", async () => {
    const t = await polled({ rows: "SELECT i, 'old' FROM generate_series(1, 3) i" });
    await t.run();
    await t.news();
    const late = await session();
    await late
      .unsafe(`BEGIN; INSERT INTO ${t.name} VALUES (10, 'late'); UPDATE ${t.name} SET v = 'late' WHERE id = 1`)
      .simple();
    await t.run();
    await db.run(`UPDATE ${t.name} SET v = 'meanwhile' WHERE id = 2`);
    await t.run();
    await t.run();
    expect(await t.news()).toEqual(["2"]);
    await late.unsafe("COMMIT").simple();
    await db.run(`UPDATE ${t.name} SET v = 'after' WHERE id = 3`);
    await t.run();
    expect(await t.news()).toEqual(["1", "10", "3"]);
    await t.run();
    expect(await t.news()).toEqual([]);
  });

  test("a prepared transaction that commits many runs later is found, its deletion and its TRUNCATE too", async () => {
    const t = await polled({ rows: "SELECT i, 'old' FROM generate_series(1, 3) i" });
    await t.run();
    await t.news();
    const preparing = await session();
    await preparing
      .unsafe(
        `BEGIN; DELETE FROM ${t.name} WHERE id = 1; INSERT INTO ${t.name} VALUES (4, 'p'); PREPARE TRANSACTION '${t.name}'`,
      )
      .simple();
    for (let run = 0; run < 3; run++) await t.run();
    expect(await t.news()).toEqual([]);
    await db.run(`COMMIT PREPARED '${t.name}'`);
    await t.run();
    expect(await t.news()).toEqual(["4", "D 1"]);
    await preparing.unsafe(`BEGIN; TRUNCATE ${t.name}; PREPARE TRANSACTION '${t.name}'`).simple();
    await t.begin();
    await db.run(`COMMIT PREPARED '${t.name}'`);
    while (!(await t.batch(100)));
    await t.run();
    expect(await t.news()).toEqual(["T "]);
    expect(await t.run()).toBe(0);
  });

  test("a row changed while its run goes on arrives with its newest stamp, whichever side of the position it is on", async () => {
    const t = await polled({ rows: "SELECT i, 'old' FROM generate_series(1, 30) i" });
    await t.begin();
    while (!(await t.batch(10))) await db.run(`UPDATE ${t.name} SET v = v || '+' WHERE id IN (3, 15, 28)`);
    await t.run();
    expect(replay(await t.queued(), ["id"])).toEqual(await contents(db.sql, t.name, ["id"]));
  });

  test("a run that was broken off goes on at its position, with nothing sent twice", async () => {
    const t = await polled({ rows: "SELECT i, 'old' FROM generate_series(1, 30) i" });
    await t.begin();
    for (let step = 0; step < 4; step++) await t.batch(10);
    await db.sql
      .begin(async (tx) => {
        await tx`SELECT "replicator".sync_batch(${t.id}, 10)`;
        throw new Error("killed");
      })
      .catch(() => undefined);
    await t.run(10);
    expect((await t.news()).length).toBe(30);
    expect(replay(await t.queued(), ["id"])).toEqual(await contents(db.sql, t.name, ["id"]));
  });

  test("rows that came from another contour, and deletions applied from there, are not sent back", async () => {
    const t = await polled({ rows: "SELECT i, 'old' FROM generate_series(1, 3) i" });
    await t.run();
    await t.news();
    await db.run(`BEGIN; SET LOCAL replicator.capture = 'off';
      INSERT INTO ${t.name} VALUES (20, 'theirs', 1, clock_timestamp(), 'beta');
      UPDATE ${t.name} SET v = 'theirs', version = 2, updated_at = clock_timestamp(), updated_by = 'beta' WHERE id = 2;
      DELETE FROM ${t.name} WHERE id = 3; INSERT INTO "replicator".tombstone_${t.id} VALUES (3, 2, clock_timestamp(), 'beta'); COMMIT`);
    await t.run();
    expect(await t.news()).toEqual([]);
    await db.run(`UPDATE ${t.name} SET v = 'ours again' WHERE id = 2`);
    await t.run();
    expect(await t.news()).toEqual(["2"]);
  });

  test("a clock that steps back hides nothing: stamps never go below the mark of the last run", async () => {
    const t = await polled({ rows: "SELECT i, 'old' FROM generate_series(1, 3) i" });
    await t.run();
    await t.news();
    // The server's clock cannot be set here; a mark an hour ahead is what the last run left before the clock went back.
    await db.run(
      `SELECT setval('"replicator".sync_mark_${t.id}', (extract(epoch FROM clock_timestamp() + interval '1 hour') * 1000000)::bigint)`,
    );
    await t.run();
    await db.run(
      `INSERT INTO ${t.name} VALUES (5, 'after the step'); UPDATE ${t.name} SET v = 'too' WHERE id = 1; DELETE FROM ${t.name} WHERE id = 2`,
    );
    await t.run();
    expect(await t.news()).toEqual(["1", "5", "D 2"]);
    await db.run(`TRUNCATE ${t.name}`);
    await t.run();
    expect(await t.news()).toEqual(["T "]);
    expect(await t.run()).toBe(0);
  });

  test("a write that is held up between its stamp and its row is found: the xid comes before the clock", async () => {
    const t = await polled({ rows: "VALUES (1, 'a')" });
    // Its name sorts after ours, so the stamp is taken when it waits.
    await db.run(`CREATE FUNCTION hold_${t.name}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_advisory_xact_lock_shared(4711); RETURN NEW; END $$;
      CREATE TRIGGER zzz_hold BEFORE UPDATE ON ${t.name} FOR EACH ROW EXECUTE FUNCTION hold_${t.name}()`);
    await t.run();
    await t.news();
    const [holder, writer] = [await session(), await session()];
    await holder`SELECT pg_advisory_lock(4711)`;
    const writing = writer.unsafe(`UPDATE ${t.name} SET v = 'held up'`).execute();
    await until("the UPDATE is held up", async () => {
      const [waiting] =
        await db.sql`SELECT count(*)::int AS n FROM pg_locks WHERE locktype = 'advisory' AND objid = 4711 AND NOT granted`;
      return waiting?.n === 1;
    });
    await t.run();
    await t.run();
    await holder`SELECT pg_advisory_unlock(4711)`;
    await writing;
    await t.run();
    expect(await t.news()).toEqual(["1"]);
  });

  test("a run takes what is stamped ahead of the clock, and does not wait for the clock to get there", async () => {
    const t = await polled();
    await t.run();
    await db.run(
      `BEGIN; SET LOCAL replicator.capture = 'off'; INSERT INTO ${t.name} VALUES (1, 'x', 1, clock_timestamp() + interval '1 day', 'alpha'); COMMIT`,
    );
    await t.run();
    expect(await t.news()).toEqual(["1"]);
    for (let run = 0; run < 3; run++) await t.run();
    expect(await t.news()).toEqual([]);
  });

  test("soft delete is a value: the row stays and goes with its deleted_at", async () => {
    const t = await polled({ columns: "id int PRIMARY KEY, deleted_at timestamptz", rows: "VALUES (1, NULL)" });
    await t.run();
    await db.run(`UPDATE ${t.name} SET deleted_at = now()`);
    await t.run();
    const last = (await t.queued()).at(-1);
    expect([last?.operation, typeof last?.row.deleted_at]).toEqual(["U", "string"]);
  });

  test("a key that is changed goes as the deletion of the old and the row of the new", async () => {
    const t = await polled({ rows: "VALUES (1, 'a')" });
    await t.run();
    await t.news();
    await db.run(`UPDATE ${t.name} SET id = 2`);
    await t.run();
    expect(await t.news()).toEqual(["2", "D 1"]);
    expect(replay(await t.queued(), ["id"])).toEqual(await contents(db.sql, t.name, ["id"]));
  });

  test("a row inserted below its tombstone, because it waited for the DELETE, is lifted above it", async () => {
    const t = await polled({ rows: "VALUES (1, 'a')" });
    await db.run(`UPDATE ${t.name} SET v = 'b'`);
    await t.run();
    const [deleting, inserting] = [await session(), await session()];
    await deleting.unsafe(`BEGIN; DELETE FROM ${t.name} WHERE id = 1`).simple();
    const waiting = inserting.unsafe(`INSERT INTO ${t.name} VALUES (1, 'again')`).execute();
    await until("the INSERT waits for the DELETE", async () => {
      const [blocked] = await db.sql`SELECT count(*)::int AS n FROM pg_stat_activity
        WHERE wait_event_type = 'Lock' AND query LIKE ${`INSERT INTO ${t.name} %`}`;
      return blocked?.n === 1;
    });
    await deleting.unsafe("COMMIT").simple();
    await waiting;
    await t.run();
    await t.run();
    expect(replay(await t.queued(), ["id"])).toEqual(await contents(db.sql, t.name, ["id"]));
    expect(
      await texts(db.sql, `SELECT count(*)::text FROM "replicator".bypass_log WHERE table_name = '${t.name}'`),
    ).toEqual(["0"]);
  });

  test("types whose text JSON does not carry, composite keys and hostile names go as capture renders them", async () => {
    const columns = `"Group" int, "a""b" text COLLATE "C", "page" numeric(30,10), r int4range, f float8, "line" jsonb, g int GENERATED ALWAYS AS ("Group" * 2) STORED, PRIMARY KEY ("a""b", "Group")`;
    const t = await polled({
      columns,
      rows: `("Group", "a""b", page, r, f, line) SELECT i % 7, 'k''%' || i, i / 3.0, int4range(i, i + 5), i / 3.0::float8, '{"n": 1}' FROM generate_series(1, 500) i`,
    });
    expect(await t.run(100)).toBe(500);
    await db.run(`UPDATE ${t.name} SET r = '[1,2)' WHERE "Group" = 3; DELETE FROM ${t.name} WHERE "Group" = 4`);
    await t.run(10);
    const queued = await t.queued();
    const [row] = queued;
    expect(Object.keys(row?.row ?? {})).not.toContain("g");
    const here = await db.sql.unsafe(`SELECT "a""b" AS k, "Group" AS g, r::text, version FROM ${t.name}`);
    const there = [...replay(queued, ['a"b', "Group"]).values()].map(
      (one) => `${one['a"b']} ${one.Group} ${one.r} ${one.version}`,
    );
    expect(there.sort()).toEqual(here.map((one) => `${one.k} ${one.g} ${one.r} ${one.version}`).sort());
  });

  test("a table whose columns changed is polled as it is now", async () => {
    const t = await polled({
      columns: "id int PRIMARY KEY, r int4range, secret text",
      rows: "VALUES (1, '[1,2)', 's')",
      setup: ',"exclude_columns":["secret"]',
    });
    await db.run(`ALTER TABLE ${t.name} ADD COLUMN later text DEFAULT 'l'`);
    await t.run();
    const [row] = await t.queued();
    expect(row?.row).toMatchObject({ id: 1, later: "l" });
    expect(Object.keys(row?.row ?? {})).not.toContain("secret");
  });
});
