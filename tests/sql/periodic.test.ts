/** The poll inside PostgreSQL: what a run reads, whatever commits late, steps back or dies in between. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import type postgres from "postgres";
import { describeWith } from "../support/needs.ts";
import { until } from "../support/until.ts";
import { type Captured, captured, contents, type Database, freshSetup, replay, texts } from "./database.ts";

let db: Database;
let serial = 0;

interface Polled {
  readonly name: string;
  readonly id: number;
  /** A whole run, begun if none is under way; returns how many changes it put into the queue. */
  run(batch?: number): Promise<number>;
  /** One batch; true when the run is finished. */
  batch(size: number): Promise<boolean>;
  begin(): Promise<void>;
  compare(): Promise<number>;
  queued(): Promise<readonly Captured[]>;
  /** Keys of the changes queued since the last call, `D` before those of deletions, sorted. */
  news(): Promise<string[]>;
}

async function polled(
  options: { columns?: string; rows?: string; setup?: string; overlap?: string; key?: string } = {},
): Promise<Polled> {
  const name = `polled_${++serial}`;
  const { key = "id", overlap = "0" } = options;
  await db.run(`CREATE TABLE ${name} (${options.columns ?? "id int PRIMARY KEY, v text"});
    ${options.rows ? `INSERT INTO ${name} ${options.rows};` : ""}
    SELECT setup_table_for_replication('${name}', '{"capture":"none"${options.setup ?? ""}}')`);
  const [row] = await db.sql`SELECT table_id FROM "replicator".replicated_table WHERE table_name = ${name}`;
  const id = Number(row?.table_id);
  let seen = 0;
  const begin = async () => {
    await db.sql`SELECT "replicator".sync_begin(${id}, ${overlap}::interval)`;
  };
  const batch = async (size: number) => {
    const [one] = await db.sql`SELECT phase FROM "replicator".sync_batch(${id}, ${size})`;
    return one?.phase === "done";
  };
  const queued = () => captured(db.sql, name);
  return {
    name,
    id,
    begin,
    batch,
    queued,
    async run(size = 1_000) {
      await begin();
      while (!(await batch(size)));
      const [last] =
        await db.sql`SELECT rows FROM "replicator".sync_run WHERE table_id = ${id} ORDER BY run_no DESC LIMIT 1`;
      return Number(last?.rows);
    },
    async compare() {
      const [one] = await db.sql`SELECT "replicator".sync_compare_keys(${id}, '0') AS gone`;
      return Number(one?.gone);
    },
    async news() {
      const all = await queued();
      const fresh = all.slice(seen);
      seen = all.length;
      return fresh
        .map(({ operation, row: line }) => (operation === "U" ? "" : `${operation} `) + String(line[key] ?? ""))
        .sort();
    },
  };
}

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

  describe("with stamp application", () => {
    const columns = "id int PRIMARY KEY, v text, version bigint DEFAULT 1, changed timestamptz DEFAULT now(), who text";
    const setup = ',"stamp":"application","columns":{"updated_at":"changed","updated_by":"who"}';
    const open = (rows = "SELECT i, 'old', 1, '2026-01-01', 'alpha' FROM generate_series(1, 5) i", overlap = "0") =>
      polled({ columns, setup, rows, overlap });

    test("no trigger of ours stands on the table, and what the application stamps is sent", async () => {
      const t = await open();
      expect(await texts(db.sql, `SELECT tgname::text FROM pg_trigger WHERE tgrelid = '${t.name}'::regclass`)).toEqual(
        [],
      );
      expect(await texts(db.sql, `SELECT reason FROM "replicator".stale_tables() WHERE table_id = ${t.id}`)).toEqual(
        [],
      );
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
        await db.run(
          `INSERT INTO ${t.name} VALUES (30, 'behind', 1, clock_timestamp() - interval '2 minutes', 'alpha')`,
        );
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
