/** Parked rows as they are kept and tried again: names at the source, rights, values of every kind. */
import { afterAll, expect, test } from "bun:test";
import { createTargetStore, type TargetStoreOptions } from "../../adapters/postgres/target/store.ts";
import { silentLogger } from "../../src/core/logger.ts";
import { sharedPostgres } from "../servers/postgres.ts";
import { HandClock } from "../support/hand_clock.ts";
import { describeWith } from "../support/needs.ts";
import { application, chunk, Feed, openTarget, row, script, setUp, type Target } from "../support/target_fixture.ts";

describeWith("postgres", "Parked rows", () => {
  const opened: Target[] = [];
  const open = async (ddl: string, options: Partial<TargetStoreOptions> = {}) => {
    const target = await openTarget(ddl, "auto", { clock: new HandClock(), ...options });
    opened.push(target);
    return target;
  };
  afterAll(async () => {
    for (const target of opened) await target.close();
  });
  const due = (target: Target) => target.db.execute("UPDATE replicator.inbox SET next_attempt_at = now()");

  test("keep what their source calls the stamp: tried again, closed and applied though it is called otherwise here", async () => {
    const target = await open(`CREATE TABLE t (id int PRIMARY KEY, note text CONSTRAINT nice CHECK (note <> 'poison'));
SELECT public.setup_table_for_replication('t', '{"columns": {"version": "v_here", "updated_at": "at_here", "updated_by": "by_here"}}');`);
    const there = ["v_there", "at_there", "by_there"] as const;
    const line = (version: number, id: number, note: string) =>
      `{"id":${id},"note":"${note}","v_there":${version},"at_there":"2026-01-01T00:00:00Z","by_there":"active"}`;
    const poisons = [1, 2].map((id) => line(3, id, "poison"));
    await target.feed.apply(chunk("t", "INSERT", poisons, { stamp: there }));
    const other = new Feed(target.store, "third");
    await other.apply(chunk("t", "INSERT", [row(3, { id: 3, note: "poison" }, { by: "third" })]));
    expect(
      await target.column("SELECT record_id || ' ' || version || ' ' || stamp_columns::text FROM inbox ORDER BY id"),
    ).toEqual([
      "1 3 {v_there,at_there,by_there}",
      "2 3 {v_there,at_there,by_there}",
      "3 3 {version,updated_at,updated_by}",
    ]);
    // Something newer of one of them, from the source that calls it its own way.
    await target.feed.apply(chunk("t", "UPDATE", [line(4, 2, "fine")], { stamp: there }));
    await target.db.execute("UPDATE replicator.inbox SET next_attempt_at = 'infinity'");
    expect(await target.store.retryParked(10)).toEqual({ tried: 1, resolved: 1 });
    await target.db.execute("ALTER TABLE t DROP CONSTRAINT nice");
    expect(await target.store.retryParked(10)).toEqual({ tried: 2, resolved: 2 });
    expect(await target.column("SELECT id || note || v_here || by_here FROM t ORDER BY id")).toEqual([
      "1poison3active",
      "2fine4active",
      "3poison3third",
    ]);
  });

  test("a DELETE is tried again with the names of its source as well", async () => {
    const target =
      await open(`CREATE TABLE p (id int PRIMARY KEY); CREATE TABLE c (id int PRIMARY KEY, p int REFERENCES p);
SELECT public.setup_table_for_replication('p', '{"columns": {"version": "v"}}'); ${setUp("c")}`);
    await target.db.execute("INSERT INTO p (id) VALUES (1)");
    await target.db.execute("INSERT INTO c (id, p) VALUES (1, 1)");
    const stamp = ["version", "updated_at", "updated_by"] as const;
    // Half of a cut: it may still bring what clears the way, so nothing is decided yet.
    const batch = { ...target.feed.batch([chunk("p", "DELETE", [row(9, { id: 1 })], { stamp })]), endsCut: false };
    expect(await target.feed.groups([[batch]])).toMatchObject({ parked: 1 });
    expect(await target.column("SELECT remedy FROM inbox")).toEqual(["It waits until no row of c refers to it"]);
    await target.db.execute("DELETE FROM c");
    await due(target);
    expect(await target.store.retryParked(10)).toEqual({ tried: 1, resolved: 1 });
    expect(await target.column("SELECT v FROM replicator.tombstone_1")).toEqual(["9"]);
  });

  test("of a role that row security or missing rights hold off name the GRANT, and go when it is given", async () => {
    const server = await sharedPostgres();
    const role = `poor_${process.pid}`;
    const db = await application(server);
    await script(
      db,
      `CREATE ROLE ${role} LOGIN PASSWORD 'secret'; GRANT USAGE ON SCHEMA replicator, public TO ${role};
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA replicator TO ${role};
CREATE TABLE walled (id int PRIMARY KEY); CREATE TABLE denied (id int PRIMARY KEY); ${setUp("walled", "denied")}
ALTER TABLE walled ENABLE ROW LEVEL SECURITY; GRANT SELECT, INSERT, UPDATE, DELETE ON walled TO ${role};
GRANT SELECT ON denied TO ${role}; GRANT ALL ON ALL TABLES IN SCHEMA replicator TO ${role};
GRANT USAGE ON ALL SEQUENCES IN SCHEMA replicator TO ${role}; GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA replicator TO ${role};`,
    );
    const url = new URL(db.url);
    url.username = role;
    url.password = "secret";
    const store = createTargetStore({
      database: { url: url.href, applicationName: "test" },
      tables: null,
      session: "origin",
      maxSkewMs: 3_600_000,
      logger: silentLogger,
      clock: new HandClock(),
    });
    await store.open(AbortSignal.timeout(30_000));
    await new Feed(store).apply(
      chunk("walled", "INSERT", [row(1, { id: 1 })]),
      chunk("denied", "INSERT", [row(1, { id: 1 })]),
    );
    const rows = await db.query("SELECT table_name, error_code, remedy FROM replicator.inbox ORDER BY table_name");
    expect(rows.map((found) => Object.values(found))).toEqual([
      ["denied", "42501", `GRANT SELECT, INSERT, UPDATE, DELETE ON denied TO ${role}`],
      [
        "walled",
        "42501",
        `ALTER ROLE ${role} BYPASSRLS; -- or: CREATE POLICY replicator ON walled TO ${role} USING (true) WITH CHECK (true)`,
      ],
    ]);
    await store.retryParked(10);
    for (const { remedy } of rows) await db.execute(String(remedy).split("; --")[0] ?? "");
    // The grant is seen in the catalog; the role's own attribute is not, so the clock finds it.
    await db.execute("UPDATE replicator.inbox SET next_attempt_at = now() WHERE table_name = 'walled'");
    expect(await store.retryParked(10)).toMatchObject({ resolved: 2 });
    await store.close();
    await db.execute(`DROP OWNED BY ${role}`);
    await db.execute(`DROP ROLE ${role}`);
    await db.close();
  });

  test("I5: no value and no name can keep a row from being parked, looked into, tried again and closed", async () => {
    const target = await open(`CREATE SCHEMA "We""ird%s"; CREATE TYPE "We""ird%s"."Mo'od" AS ENUM ('a');
CREATE TABLE "We""ird%s"."T%I" ("K""e%y" text PRIMARY KEY, n numeric(3), i2 smallint, f4 real, f8 double precision, b bytea,
  m "We""ird%s"."Mo'od", ma "We""ird%s"."Mo'od"[], d date, ts timestamptz, iv interval, j jsonb, r int4range, bits bit varying(2),
  v varchar(2), mo money, ip inet, u uuid, p point);
SELECT public.setup_table_for_replication('"We""ird%s"."T%I"');`);
    const hostile = [
      "",
      "%s%I",
      "''\\",
      "1e999999",
      "NaN",
      "-Infinity",
      "{",
      '{"a"',
      "{a,{b}}",
      "null",
      "1e400",
      "\u{1F600}",
      "9".repeat(400),
    ];
    const columns = "n i2 f4 f8 b m ma d ts iv j r bits v mo ip u p".split(" ");
    const more = { schema: 'We"ird%s', table: "T%I", key: ['K"e%y'] };
    const rows = columns.flatMap((column) =>
      hostile.map((value, n) => {
        const values = Object.fromEntries(columns.map((name) => [name, name === column ? value : null]));
        return row(1, { 'K"e%y': `${column}%s${n}`, ...values });
      }),
    );
    const outcome = await target.feed.apply(
      chunk("T", "INSERT", rows, more),
      chunk("T", "INSERT", [row(1, { 'K"e%y': "x", "new%I": { a: [1] }, 'l"': ["%"] })], more),
      chunk("T", "DELETE", [row(1, { 'K"e%y': "y" })], { ...more, table: "Ab%sent" }),
      chunk("T", "TRUNCATE", [row(1, {})], { ...more, key: [], table: "Ab%sent" }),
    );
    expect(outcome.parked).toBeGreaterThan(100);
    expect(outcome.changes).toBe(rows.length + 3);
    // A number in a json column that jsonb cannot hold: nothing says which column it is.
    expect(
      await target.column("SELECT error_code || ' ' || error || record_id FROM inbox WHERE remedy IS NULL"),
    ).toEqual(["22003 value overflows numeric formatj%s3"]);
    expect(await target.column("SELECT DISTINCT remedy FROM inbox WHERE error_code LIKE 'apply%' ORDER BY 1")).toEqual([
      `ALTER TABLE "We""ird%s"."T%I" ADD COLUMN "new%I" jsonb, ADD COLUMN "l""" jsonb; -- or with the types they have at contour active`,
      `CREATE TABLE "We""ird%s"."Ab%sent" ("K""e%y" text, PRIMARY KEY ("K""e%y")); -- with the types it has at contour active; then run: replicator tables add "We""ird%s"."Ab%sent"`,
      `replicator tables add "We""ird%s"."Ab%sent"`,
    ]);
    await due(target);
    expect((await target.store.retryParked(1_000)).resolved).toBe(0);
    const keys = columns.flatMap((column) => hostile.map((_, n) => row(2, { 'K"e%y': `${column}%s${n}` })));
    await target.feed.apply(chunk("T", "DELETE", keys, more));
    await target.db.execute("UPDATE replicator.inbox SET next_attempt_at = 'infinity'");
    await target.store.retryParked(1_000);
    expect(await target.column("SELECT count(*) FROM inbox")).toEqual(["3"]);
  });
});
