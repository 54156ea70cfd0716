/** What becomes of a parked change: attempts, dead letters, changes of the schema, newer changes of its key. */
import { afterAll, describe, expect, test } from "bun:test";
import type { TargetStoreOptions } from "../../adapters/postgres/target/store.ts";
import { HandClock } from "../support/hand_clock.ts";
import { keepingLogger, type LogLine } from "../support/log_lines.ts";
import { describeWith } from "../support/needs.ts";
import { chunk, openTarget, row, script, setUp, type Target } from "../support/target_fixture.ts";

const DDL = `
CREATE TABLE parent (id int PRIMARY KEY);
CREATE TABLE t (id int PRIMARY KEY, parent_id int REFERENCES parent, note text CONSTRAINT nice CHECK (note <> 'poison'));
${setUp("parent", "t")}`;

const orphan = (version: number, id: number, more: object = {}) =>
  row(version, { id, parent_id: 77, note: "a", ...more });
const poison = (version: number, id: number) => row(version, { id, parent_id: null, note: "poison" });
const fine = (version: number, id: number) => row(version, { id, parent_id: null, note: "fine" });

describeWith("postgres", "Parked changes", () => {
  const opened: Target[] = [];
  const open = async (options: Partial<TargetStoreOptions> = {}, ddl = DDL) => {
    // A clock that stands still: a look that takes long on a busy machine is followed by the next one all the same.
    const target = await openTarget(ddl, "auto", { clock: new HandClock(), ...options });
    opened.push(target);
    return target;
  };
  afterAll(async () => {
    for (const target of opened) await target.close();
  });
  const inbox = (target: Target, what: string) => target.column(`SELECT ${what} FROM replicator.inbox ORDER BY id`);
  const set = (target: Target, what: string) => target.db.execute(`UPDATE replicator.inbox SET ${what}`);
  const due = (target: Target) => set(target, "next_attempt_at = now()");
  const pause = "ceil(extract(epoch FROM next_attempt_at - clock_timestamp()) * 4) / 4";

  describe("attempts", () => {
    test("the first comes within half a second, then the pause doubles up to ten minutes", async () => {
      const target = await open();
      await target.feed.apply(chunk("t", "INSERT", [orphan(1, 1)]));
      expect(await inbox(target, `${pause} <= 0.5`)).toEqual(["t"]);
      for (const [attempts, seconds] of [
        [1, 1],
        [4, 8],
        [10, 512],
        [11, 600],
        [90, 600],
      ] as const) {
        await set(target, `next_attempt_at = now(), attempts = ${attempts}`);
        expect(await target.store.retryParked(10)).toEqual({ tried: 1, resolved: 0 });
        const found = await inbox(target, `attempts || ' ' || (${pause} BETWEEN ${seconds / 2} AND ${seconds})`);
        expect(found).toEqual([`${attempts + 1} true`]);
      }
    });

    test("when they are used up it is a dead letter: said once with the remedy, tried no more, still superseded", async () => {
      const lines: LogLine[] = [];
      const target = await open({ parking: { maxAttempts: 3 }, logger: keepingLogger(lines) });
      await target.feed.apply(chunk("t", "INSERT", [orphan(1, 1)]));
      for (const status of ["parked", "dead"]) {
        await due(target);
        expect(await target.store.retryParked(10)).toEqual({ tried: 1, resolved: 0 });
        expect(await inbox(target, "status")).toEqual([status]);
      }
      expect(await inbox(target, "attempts || ' ' || next_attempt_at")).toEqual(["3 infinity"]);
      expect(await target.store.retryParked(10)).toEqual({ tried: 0, resolved: 0 });
      const said = lines.filter(({ level }) => level === "error");
      expect(said.map(({ message }) => message)).toEqual([
        "A change of t (1) failed 3 times and will not be tried again by itself: the row refers to a parent that is not there: It waits for its parent: parent (id) = (77)",
      ]);
      expect(said[0]?.facts).toMatchObject({
        table: "t",
        code: "23503",
        remedy: "It waits for its parent: parent (id) = (77); then: replicator parked retry 1",
      });
      expect(await target.store.counts()).toMatchObject({ parked: 0, dead: 1, parkedTables: ["t"] });
      await target.feed.apply(chunk("t", "UPDATE", [fine(2, 1)]));
      expect(await target.store.retryParked(10)).toEqual({ tried: 1, resolved: 1 });
      expect(await inbox(target, "id")).toEqual([]);
    });

    test("what waits for the schema has no number of attempts; what comes to light behind it counts from there", async () => {
      const target = await open({ parking: { maxAttempts: 2 } });
      await target.feed.apply(chunk("t", "INSERT", [row(1, { id: 1, note: "poison", nick: "x" })]));
      await set(target, "attempts = 1000, next_attempt_at = now()");
      await target.store.retryParked(10);
      expect(await inbox(target, `status || ' ' || attempts || ' ' || (${pause} BETWEEN 4 AND 5)`)).toEqual([
        "parked 1001 true",
      ]);
      await target.db.execute("ALTER TABLE t ADD COLUMN nick text");
      await target.store.retryParked(10);
      expect(await inbox(target, "error_code || ' ' || status || ' ' || attempts")).toEqual(["23514 parked 1"]);
      await due(target);
      await target.store.retryParked(10);
      expect(await inbox(target, "error_code || ' ' || status || ' ' || attempts")).toEqual(["23514 dead 2"]);
    });
  });

  describe("a change of the schema", () => {
    test("makes due what of its table is parked and dead, at once, and nothing of another table", async () => {
      const target = await open({ parking: { maxAttempts: 1 } });
      await target.feed.apply(chunk("t", "INSERT", [poison(1, 1), orphan(1, 2)]));
      await target.feed.apply(chunk("parent", "INSERT", [row(1, { id: 9, nick: "x" })]));
      await due(target);
      await target.store.retryParked(10);
      expect(await inbox(target, "status")).toEqual(["dead", "dead", "parked"]);
      await set(target, "next_attempt_at = 'infinity'");
      // Seen before it is changed: what is new is compared with that.
      await target.store.retryParked(10);
      await target.db.execute("ALTER TABLE t DROP CONSTRAINT nice");
      // The orphan was tried as well, and is dead as before.
      expect(await target.store.retryParked(10)).toMatchObject({ tried: 2, resolved: 1 });
      expect(await inbox(target, "table_name || ' ' || status || ' ' || next_attempt_at")).toEqual([
        "t dead infinity",
        expect.stringMatching(/^parent parked/),
      ]);
      expect(await target.column("SELECT note FROM t")).toEqual(["poison"]);
    });

    test("made while no consumer runs is noticed by the next one", async () => {
      const target = await open({ parking: { maxAttempts: 1 } });
      await target.feed.apply(chunk("t", "INSERT", [poison(1, 1)]));
      await due(target);
      await target.store.retryParked(10);
      await target.store.close();
      await target.db.execute("ALTER TABLE t DROP CONSTRAINT nice");
      const next = await target.another();
      expect(await next.retryParked(10)).toEqual({ tried: 1, resolved: 1 });
    });

    test("of many that wait for it a few are tried by the clock; when it has come all go, batch after batch", async () => {
      const target = await open();
      const rows = Array.from({ length: 100 }, (_, id) => row(1, { id, note: "a", nick: "x" }));
      await target.feed.apply(chunk("t", "INSERT", rows));
      await target.store.retryParked(1_000);
      const resting = "SELECT count(*) FROM replicator.inbox WHERE next_attempt_at = 'infinity'";
      expect(await target.column(resting)).toEqual(["80"]);
      await target.db.execute("UPDATE replicator.inbox SET next_attempt_at = now() WHERE next_attempt_at < 'infinity'");
      expect(await target.store.retryParked(1_000)).toEqual({ tried: 20, resolved: 0 });
      // One that is tried by the clock goes another way: the next in line takes its place.
      await target.db.execute("DELETE FROM replicator.inbox WHERE id = (SELECT min(id) FROM replicator.inbox)");
      await target.store.retryParked(1_000);
      expect(await target.column(resting)).toEqual(["79"]);
      await target.db.execute("ALTER TABLE t ADD COLUMN nick text");
      let ticks = 0;
      for (let left = 99; left > 0; ticks++) {
        const { resolved } = await target.store.retryParked(30);
        expect(resolved).toBeGreaterThan(0);
        left -= resolved;
      }
      expect(ticks).toBe(4);
      expect(await target.column("SELECT count(*) FROM t")).toEqual(["99"]);
    });

    test("that only shows itself by trying (a role's rights) is found by the few that are tried by the clock", async () => {
      const target = await open();
      const rows = Array.from({ length: 50 }, (_, id) => row(1, { id, note: "a" }));
      await script(
        target.db,
        `CREATE TABLE rule (ok boolean); INSERT INTO rule VALUES (false);
CREATE FUNCTION strict() RETURNS boolean LANGUAGE plpgsql AS
  'BEGIN IF NOT (SELECT ok FROM public.rule) THEN RAISE undefined_table; END IF; RETURN true; END';
ALTER TABLE t ADD CONSTRAINT ruled CHECK (public.strict())`,
      );
      await target.feed.apply(chunk("t", "INSERT", rows));
      await target.store.retryParked(1_000);
      await target.db.execute("UPDATE rule SET ok = true");
      await target.db.execute("UPDATE replicator.inbox SET next_attempt_at = now() WHERE next_attempt_at < 'infinity'");
      expect(await target.store.retryParked(1_000)).toEqual({ tried: 20, resolved: 20 });
      expect(await target.store.retryParked(1_000)).toEqual({ tried: 30, resolved: 30 });
    });
  });

  describe("something newer of its key", () => {
    test("closes it without a try: a row, a tombstone, a floor; what is older does not", async () => {
      const target = await open();
      const { feed, store } = target;
      await feed.apply(
        chunk(
          "t",
          "INSERT",
          [1, 2, 3, 4, 5].map((id) => orphan(5, id)),
        ),
      );
      await feed.apply(chunk("t", "DELETE", [row(6, { id: 1 }), row(5, { id: 2 }), row(4, { id: 3 })]));
      await feed.apply(chunk("t", "INSERT", [fine(6, 4), fine(4, 5)]));
      await set(target, "next_attempt_at = 'infinity'");
      expect(await store.retryParked(10)).toEqual({ tried: 3, resolved: 3 });
      expect(await inbox(target, "record_id")).toEqual(["3", "5"]);
      await feed.apply(chunk("t", "TRUNCATE", [row(5, {})], { key: [] }));
      expect(await store.retryParked(10)).toEqual({ tried: 2, resolved: 2 });
    });

    test("of the same stamp it is the same change, but for rows older than setup: those are decided by their text", async () => {
      const target = await open();
      await target.feed.apply(
        chunk("t", "INSERT", [orphan(3, 1)]),
        chunk("t", "SNAPSHOT", [orphan(3, 2)], { transaction: "8" }),
      );
      await target.feed.apply(chunk("t", "INSERT", [fine(3, 1), fine(3, 2)]));
      await set(target, "next_attempt_at = 'infinity'");
      expect(await target.store.retryParked(10)).toEqual({ tried: 1, resolved: 1 });
      expect(await inbox(target, "record_id")).toEqual(["2"]);
    });

    test("is looked for though one of them has a key that is no key, and a table is gone", async () => {
      const target = await open({}, `${DDL} CREATE TABLE gone (id int PRIMARY KEY); ${setUp("gone")}`);
      await target.feed.apply(
        chunk("t", "INSERT", [row(1, { id: "x", parent_id: null, note: "a" }), orphan(1, 1)]),
        chunk("gone", "INSERT", [row(1, { id: 99_999_999_999 })]),
      );
      expect(await inbox(target, "error_code")).toEqual(["22P02", "23503", "22003"]);
      await target.feed.apply(chunk("t", "UPDATE", [fine(2, 1)]));
      await target.db.execute("DROP TABLE gone");
      await set(target, "next_attempt_at = 'infinity'");
      expect(await target.store.retryParked(10)).toMatchObject({ resolved: 1 });
      expect(await inbox(target, "table_name || ' ' || record_id")).toEqual(["t x", "gone 99999999999"]);
    });
  });
});
