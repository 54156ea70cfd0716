/** What the commands read and do about parked changes, over a real inbox. */
import { afterAll, expect, test } from "bun:test";
import { openAdmin } from "../../adapters/postgres/admin/admin.ts";
import { silentLogger } from "../../src/core/logger.ts";
import { describeWith } from "../support/needs.ts";
import { chunk, openTarget, row, script, setUp, type Target } from "../support/target_fixture.ts";

const DDL = `
CREATE SCHEMA sales; CREATE TABLE sales."Order" (id int, part text, note text CONSTRAINT nice CHECK (note <> 'poison'), PRIMARY KEY (id, part));
CREATE TABLE users (id int PRIMARY KEY, note text CONSTRAINT nice CHECK (note <> 'poison'));
${setUp("users", 'sales."Order"')}`;

describeWith("postgres", "Parked changes, as the commands see them", () => {
  const signal = AbortSignal.timeout(120_000);
  const closers: (() => Promise<void>)[] = [];
  const open = async () => {
    const target = await openTarget(DDL);
    const admin = openAdmin({ url: target.db.url, logger: silentLogger });
    closers.push(
      () => admin.close(),
      () => target.close(),
    );
    return { target, admin };
  };
  afterAll(async () => {
    for (const close of closers) await close();
  });
  const park = async (target: Target) => {
    await target.db.execute("INSERT INTO users (id, note) VALUES (1, 'here')");
    const order = { schema: "sales", table: "Order", key: ["id", "part"] };
    await target.feed.apply(
      chunk("users", "UPDATE", [row(7, { id: 1, note: "poison" }), row(1, { id: 2, note: "poison" })]),
      chunk("x", "INSERT", [row(1, { id: 3, part: "a b", note: "poison" })], order),
      chunk("absent", "DELETE", [row(1, { id: 4 })]),
      chunk("absent", "TRUNCATE", [row(1, {})], { key: [] }),
    );
  };
  const ids = async (target: Target) => (await target.column("SELECT id FROM inbox ORDER BY id")).map(String);

  test("list: by table as SQL writes it, dead letters alone; with remedy, attempts, next attempt and age", async () => {
    const { target, admin } = await open();
    await park(target);
    const all = await admin.parked({ table: null, dead: false }, 10, signal);
    expect(all.map(({ table, operation, record_id, error_code }) => [table, operation, record_id, error_code])).toEqual(
      [
        ["users", "UPDATE", "1", "23514"],
        ["users", "UPDATE", "2", "23514"],
        ['sales."Order"', "INSERT", '{ "id" : 3, "part" : "a b" }', "23514"],
        ["absent", "DELETE", "4", "apply.unknown_table"],
        ["absent", "TRUNCATE", null, "apply.unknown_table"],
      ],
    );
    expect(all[0]).toMatchObject({
      status: "parked",
      attempts: 1,
      remedy: "ALTER TABLE users DROP CONSTRAINT nice; -- CHECK ((note <> 'poison'::text))",
      next_attempt_at: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/),
      source_contour: "active",
    });
    expect(all[0]?.age_seconds).toBeLessThan(60);
    await target.db.execute(
      "UPDATE replicator.inbox SET status = 'dead', next_attempt_at = 'infinity', created_at = created_at - interval '2 h' WHERE record_id = '2'",
    );
    const dead = await admin.parked({ table: null, dead: true }, 10, signal);
    expect(dead.map(({ record_id, next_attempt_at }) => [record_id, next_attempt_at])).toEqual([["2", null]]);
    expect(Math.round((dead[0]?.age_seconds ?? 0) / 60)).toBe(120);
    for (const [name, count] of [
      ["PUBLIC.Users", 2],
      ['sales."Order"', 1],
      ["sales.Order", 0],
    ] as const)
      expect(await admin.parked({ table: name, dead: false }, 10, signal)).toHaveLength(count);
    await expect(admin.parked({ table: "a.b.c", dead: false }, 10, signal)).rejects.toMatchObject({
      code: "parked.bad_table",
      fault: "input",
    });
    expect(await admin.status(signal)).toMatchObject({
      parked: 4,
      dead: 1,
      parkedTables: ["absent", "users", 'sales."Order"'],
      parkedSince: expect.stringMatching(/Z$/),
    });
  });

  test("show: the row as it came, digit for digit (I7), its place in the channel, what PostgreSQL said", async () => {
    const { target, admin } = await open();
    const line = `{"id":1,"note":"poison","version":1,"updated_at":"2026-01-01","updated_by":"active","n":0.10000000000000000001}`;
    await script(target.db, "ALTER TABLE users ADD COLUMN n numeric");
    await target.feed.apply(chunk("users", "INSERT", [line]));
    const [id = ""] = await ids(target);
    expect(await admin.parkedDetail(id, signal)).toMatchObject({
      id: Number(id),
      data: line,
      facts: { schema: "public", table: "users", constraint: "nice" },
      key_columns: ["id"],
      stamp_columns: ["version", "updated_at", "updated_by"],
      transaction_id: "700",
      epoch: "1",
      sequence: "1",
      captured_at: "2026-11-21T10:00:00Z",
    });
    await expect(admin.parkedDetail("999", signal)).rejects.toMatchObject({
      code: "parked.unknown",
      fault: "input",
      message: expect.stringContaining("999"),
    });
  });

  test("retry: by id, by table, all; dead letters come back to life, and a consumer's answer is told", async () => {
    const { target, admin } = await open();
    await park(target);
    const [first = "", second = ""] = await ids(target);
    await target.db.execute("UPDATE replicator.inbox SET status = 'dead', attempts = 9, next_attempt_at = 'infinity'");
    await target.store.retryParked(10);
    await expect(admin.retryParked({ ids: [first, "999"] }, signal)).rejects.toMatchObject({ code: "parked.unknown" });
    expect(await target.column("SELECT count(*) FROM inbox WHERE status = 'dead'")).toEqual(["5"]);
    expect(await admin.retryParked({ ids: [first] }, signal)).toEqual([first]);
    expect(await admin.parkedOutcomes([first, "999"], signal)).toMatchObject([
      { id: Number(first), outcome: "due" },
      { id: 999, outcome: "resolved", error: null },
    ]);
    expect(await target.store.retryParked(10)).toEqual({ tried: 1, resolved: 0 });
    expect(await admin.parkedOutcomes([first], signal)).toMatchObject([
      { outcome: "parked", error: expect.stringContaining("nice"), remedy: expect.stringContaining("DROP CONSTRAINT") },
    ]);
    expect(await admin.retryParked({ table: "public.users" }, signal)).toEqual([first, second]);
    expect(await admin.retryParked("all", signal)).toHaveLength(5);
    expect(await target.store.retryParked(10)).toEqual({ tried: 5, resolved: 0 });
  });

  test("retry: each of many is tried, though of many that wait for the schema only a few are tried by the clock", async () => {
    const { target, admin } = await open();
    const rows = Array.from({ length: 60 }, (_, id) => row(1, { id, note: "a", nick: "x" }));
    await target.feed.apply(chunk("users", "INSERT", rows));
    await target.store.retryParked(1_000);
    await admin.retryParked("all", signal);
    expect(await target.store.retryParked(1_000)).toEqual({ tried: 60, resolved: 0 });
  });

  test("discard: gone from the inbox, kept in conflict_log with both images; all or none", async () => {
    const { target, admin } = await open();
    await park(target);
    const all = await ids(target);
    await expect(admin.discardParked([...all, "999"], signal)).rejects.toMatchObject({ code: "parked.unknown" });
    expect(await ids(target)).toEqual(all);
    const discarded = await admin.discardParked(all, signal);
    expect(discarded.map(({ id }) => String(id))).toEqual(all);
    expect(await ids(target)).toEqual([]);
    const log = await target.db.query(
      `SELECT table_name, record_id, source_contour, winner, reason, policy, local_row::json->>'note' AS here,
  incoming_row::json->>'note' AS came, transaction_id FROM conflict_log ORDER BY id`,
    );
    expect(log.map((line) => Object.values(line).join(" "))).toEqual([
      "users 1 active local discarded version here poison 700",
      "users 2 active local discarded version  poison 700",
      'Order { "id" : 3, "part" : "a b" } active local discarded version  poison 700',
      "absent 4 active local discarded version   700",
      "absent  active local discarded version   700",
    ]);
    const kept = await target.column(`SELECT id FROM conflict_log ORDER BY id`);
    expect(discarded.map(({ conflict_id }) => String(conflict_id))).toEqual(kept.map(String));
  });
});
