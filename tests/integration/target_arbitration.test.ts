import { afterAll, describe, expect, test } from "bun:test";
import { describeWith } from "../support/needs.ts";
import { chunk, MODES, openTarget, row, script, setUp, type Target } from "../support/target_fixture.ts";

const SHOP = `
CREATE TABLE users (id int PRIMARY KEY, email text UNIQUE, note text);
CREATE TABLE payments (id int PRIMARY KEY, user_id int NOT NULL REFERENCES users, amount int);
CREATE TABLE cascaded (id int PRIMARY KEY, user_id int REFERENCES users ON DELETE CASCADE);
CREATE TABLE detached (id int PRIMARY KEY, user_id int REFERENCES users ON DELETE SET NULL);
CREATE TABLE leaf (id int PRIMARY KEY, up int REFERENCES cascaded ON DELETE CASCADE);
${setUp("users", "payments", "cascaded", "detached", "leaf")}`;

const LATER = "2026-11-21T11:00:00+00:00";

describeWith("postgres", "Target store, law 3: constraints between contours", () => {
  for (const mode of MODES) {
    describe(`in ${mode} mode`, () => {
      const opened: Target[] = [];
      const open = async (ddl = SHOP, options = {}) => {
        const target = await openTarget(ddl, mode, options);
        opened.push(target);
        return target;
      };
      afterAll(async () => {
        for (const target of opened) await target.close();
      });
      /** What this contour captured, oldest first. */
      const captured = (target: Target) =>
        target.column(
          "SELECT operation || ' ' || table_name || ' ' || record_id || coalesce(' v' || (new_data->>'version'), '') FROM replication_queue ORDER BY id",
        );
      const log = (target: Target) =>
        target.column(
          "SELECT table_name || ' ' || record_id || ' ' || winner || ' ' || override FROM conflict_log ORDER BY id",
        );
      const local = async (target: Target, text: string) => {
        await script(target.db, text);
        await target.db.execute("DELETE FROM replicator.queue");
      };

      test("a unique value taken here by a lower row: that row goes, captured, the incoming one is applied", async () => {
        const target = await open();
        await local(target, "INSERT INTO users (id, email) VALUES (1, 'x')");
        const outcome = await target.feed.apply(chunk("users", "INSERT", [row(5, { id: 2, email: "x", note: "in" })]));
        expect(outcome).toMatchObject({ applied: 1, parked: 0 });
        expect(await target.column("SELECT id FROM users")).toEqual(["2"]);
        expect(await captured(target)).toEqual(["DELETE users 1"]);
        expect(await target.column("SELECT version FROM replicator.tombstone_1")).toEqual(["2"]);
        expect(await log(target)).toEqual(["users 1 incoming removed"]);
      });

      test("a unique value taken here by a greater row: the incoming one is overridden by a captured DELETE above it", async () => {
        const target = await open();
        await local(target, "INSERT INTO users (id, email) VALUES (1, 'x'); UPDATE users SET note = 'n'");
        const outcome = await target.feed.apply(chunk("users", "INSERT", [row(1, { id: 2, email: "x", note: "in" })]));
        expect(outcome).toMatchObject({ applied: 0, overridden: 1, parked: 0 });
        expect(await target.column("SELECT outcome FROM processed_events")).toEqual(["overridden"]);
        expect(await target.column("SELECT id FROM users")).toEqual(["1"]);
        expect(await captured(target)).toEqual(["DELETE users 2"]);
        expect(await target.column("SELECT old_data->>'email' FROM replication_queue")).toEqual(["x"]);
        expect(
          await target.column("SELECT id || ' ' || version || ' ' || updated_by FROM replicator.tombstone_1"),
        ).toEqual(["2 2 passive"]);
        expect(await log(target)).toEqual(["users 2 local refused"]);
        // A resend of it, or an older version, stays beaten.
        expect(
          await target.feed.apply(chunk("users", "UPDATE", [row(2, { id: 2, email: "y", note: "in" })])),
        ).toMatchObject({
          beaten: 1,
        });
        expect(await target.column("SELECT count(*) FROM inbox")).toEqual(["0"]);
      });

      test("an UPDATE here that takes a value a greater row holds removes its own row, above the incoming stamp", async () => {
        const target = await open();
        await target.feed.apply(chunk("users", "INSERT", [row(1, { id: 2, email: "y", note: "" })]));
        await local(
          target,
          "INSERT INTO users (id, email) VALUES (1, 'x'); UPDATE users SET note = 'a' WHERE id = 1; UPDATE users SET note = 'b' WHERE id = 1; UPDATE users SET note = 'c' WHERE id = 1",
        );
        await target.feed.apply(chunk("users", "UPDATE", [row(3, { id: 2, email: "x", note: "" })]));
        expect(await target.column("SELECT id FROM users")).toEqual(["1"]);
        expect(await target.column("SELECT id || ' ' || version FROM replicator.tombstone_1")).toEqual(["2 4"]);
        expect(await captured(target)).toEqual(["DELETE users 2"]);
      });

      test("what refers to a row that goes for a unique value goes with it, captured, children first", async () => {
        const target = await open();
        await local(
          target,
          `INSERT INTO users (id, email) VALUES (1, 'x');
           INSERT INTO payments (id, user_id) VALUES (10, 1), (11, 1);
           INSERT INTO cascaded (id, user_id) VALUES (20, 1);
           INSERT INTO leaf (id, up) VALUES (30, 20);
           INSERT INTO detached (id, user_id) VALUES (40, 1)`,
        );
        const outcome = await target.feed.apply(chunk("users", "INSERT", [row(5, { id: 2, email: "x", note: "in" })]));
        expect(outcome).toMatchObject({ applied: 1, parked: 0 });
        expect(await target.column("SELECT id FROM users")).toEqual(["2"]);
        expect(await target.column("SELECT coalesce(user_id::text, 'none') FROM detached")).toEqual(["none"]);
        const queue = await captured(target);
        expect([...queue].sort()).toEqual([
          "DELETE cascaded 20",
          "DELETE leaf 30",
          "DELETE payments 10",
          "DELETE payments 11",
          "DELETE users 1",
          "UPDATE detached 40 v2",
        ]);
        expect(queue.at(-1)).toBe("DELETE users 1");
        expect(queue.indexOf("DELETE leaf 30")).toBeLessThan(queue.indexOf("DELETE cascaded 20"));
        expect((await log(target)).length).toBe(queue.length);
      });

      test("partial, expression and exclusion rules are found like plain ones", async () => {
        const target = await open(`
CREATE TABLE soft (id int PRIMARY KEY, email text, gone boolean NOT NULL DEFAULT false, doubled text GENERATED ALWAYS AS (email || email) STORED);
CREATE UNIQUE INDEX soft_email ON soft (lower(email)) WHERE NOT gone;
CREATE UNIQUE INDEX soft_doubled ON soft (doubled) WHERE id > 100;
CREATE TABLE room (id int PRIMARY KEY, during int4range, EXCLUDE USING gist (during WITH &&));
${setUp("soft", "room")}`);
        await local(
          target,
          `INSERT INTO soft (id, email) VALUES (1, 'A'), (2, 'b'); INSERT INTO soft (id, email, gone) VALUES (3, 'a', true);
           INSERT INTO soft (id, email, gone) VALUES (101, 'q', true);
           INSERT INTO room (id, during) VALUES (1, '[1,5)'), (2, '[6,9)'), (3, '[20,30)')`,
        );
        await target.feed.apply(
          chunk("soft", "INSERT", [
            row(7, { id: 9, email: "a", gone: false }),
            row(7, { id: 109, email: "q", gone: true }),
          ]),
          chunk("room", "INSERT", [row(7, { id: 9, during: "[4,8)" })]),
        );
        expect(await target.column("SELECT id FROM soft ORDER BY id")).toEqual(["2", "3", "9", "109"]);
        expect(await target.column("SELECT id FROM room ORDER BY id")).toEqual(["3", "9"]);
        expect([...(await captured(target))].sort()).toEqual([
          "DELETE room 1",
          "DELETE room 2",
          "DELETE soft 1",
          "DELETE soft 101",
        ]);
      });

      test("on_unique_conflict: park leaves both rows and parks the change", async () => {
        const target = await open(SHOP, { leaveUnique: ["users"] });
        await local(target, "INSERT INTO users (id, email) VALUES (1, 'x')");
        const outcome = await target.feed.apply(chunk("users", "INSERT", [row(5, { id: 2, email: "x", note: "in" })]));
        expect(outcome).toMatchObject({ parked: 1 });
        expect(await target.column("SELECT id FROM users")).toEqual(["1"]);
        expect(await captured(target)).toEqual([]);
      });

      test("a parent deleted there to which a row here refers is revived: a captured UPDATE above the deletion", async () => {
        const target = await open();
        await target.feed.apply(chunk("users", "INSERT", [row(3, { id: 1, email: "x", note: "" })]));
        await local(target, "INSERT INTO payments (id, user_id) VALUES (10, 1)");
        const outcome = await target.feed.apply(
          chunk("users", "DELETE", [row(7, { id: 1 }, { at: LATER })]),
          chunk("users", "INSERT", [row(1, { id: 5, email: "z", note: "" })]),
        );
        expect(outcome).toMatchObject({ parked: 0 });
        expect(await target.column("SELECT id || ' ' || version || ' ' || updated_by FROM users ORDER BY id")).toEqual([
          "1 8 passive",
          "5 1 active",
        ]);
        expect(await captured(target)).toEqual(["UPDATE users 1 v8"]);
        expect(await log(target)).toEqual(["users 1 local revived"]);
      });

      test("a parent deleted there whose children here ON DELETE CASCADE or SET NULL covers goes, and they are captured", async () => {
        const target = await open();
        await target.feed.apply(chunk("users", "INSERT", [row(3, { id: 1, email: "x", note: "" })]));
        await local(
          target,
          `INSERT INTO cascaded (id, user_id) VALUES (20, 1); INSERT INTO leaf (id, up) VALUES (30, 20);
           INSERT INTO detached (id, user_id) VALUES (40, 1)`,
        );
        const outcome = await target.feed.apply(chunk("users", "DELETE", [row(4, { id: 1 })]));
        expect(outcome).toMatchObject({ applied: 1, parked: 0 });
        expect(await target.column("SELECT id FROM users")).toEqual([]);
        expect([...(await captured(target))].sort()).toEqual([
          "DELETE cascaded 20",
          "DELETE leaf 30",
          "UPDATE detached 40 v2",
        ]);
        expect(await target.column("SELECT version FROM replicator.tombstone_3")).toEqual(["2"]);
      });

      test("a cascade that the source did as well is not done twice", async () => {
        const target = await open();
        await target.feed.apply(
          chunk("users", "INSERT", [row(3, { id: 1, email: "x", note: "" })]),
          chunk("cascaded", "INSERT", [row(1, { id: 20, user_id: 1 })]),
        );
        const outcome = await target.feed.apply(
          chunk("users", "DELETE", [row(4, { id: 1 })]),
          chunk("cascaded", "DELETE", [row(2, { id: 20 })]),
        );
        expect(outcome).toMatchObject({ applied: 2, parked: 0 });
        expect(await captured(target)).toEqual([]);
      });

      test("a TRUNCATE there keeps the rows to which newer rows here refer, above its floor", async () => {
        const target = await open();
        await target.feed.apply(
          chunk("users", "INSERT", [row(1, { id: 1, email: "a", note: "" }), row(1, { id: 2, email: "b", note: "" })]),
        );
        await local(
          target,
          "INSERT INTO payments (id, user_id) VALUES (10, 1); UPDATE payments SET amount = 1; UPDATE payments SET amount = 2; UPDATE payments SET amount = 3",
        );
        const floor = '{"version":3,"updated_at":"2026-11-21T11:00:00+00:00","updated_by":"active"}';
        const outcome = await target.feed.apply(
          chunk("payments", "TRUNCATE", [floor]),
          chunk("users", "TRUNCATE", [floor]),
        );
        expect(outcome).toMatchObject({ parked: 0 });
        expect(await target.column("SELECT id || ' ' || version FROM users")).toEqual(["1 4"]);
        expect(await target.column("SELECT id FROM payments")).toEqual(["10"]);
        expect(await captured(target)).toEqual(["UPDATE users 1 v4"]);
      });

      test("a child whose parent is not here waits; with the parent it goes", async () => {
        const target = await open();
        await target.feed.apply(chunk("payments", "INSERT", [row(1, { id: 10, user_id: 1, amount: 1 })]));
        expect(await target.column("SELECT error_code FROM inbox")).toEqual(["23503"]);
        expect(await captured(target)).toEqual([]);
        await target.feed.apply(chunk("users", "INSERT", [row(9, { id: 1, email: "x", note: "" })]));
        // However long its pause was, or if it had become a dead letter: it goes when the parent has come.
        await target.db.execute("UPDATE replicator.inbox SET next_attempt_at = 'infinity', status = 'dead'");
        expect(await target.store.retryParked(10)).toEqual({ tried: 1, resolved: 1 });
        expect(await target.column("SELECT id FROM payments")).toEqual(["10"]);
      });

      test("a child whose parent is still away is not woken", async () => {
        const target = await open();
        await target.feed.apply(chunk("payments", "INSERT", [row(1, { id: 10, user_id: 1, amount: 1 })]));
        await target.db.execute("UPDATE replicator.inbox SET next_attempt_at = now() + interval '1 h'");
        expect(await target.store.retryParked(10)).toEqual({ tried: 0, resolved: 0 });
      });

      test("in a channel of events nothing is decided before all its partitions have seen the cut", async () => {
        const target = await open();
        await local(target, "INSERT INTO users (id, email) VALUES (1, 'x')");
        await target.db.execute(
          "INSERT INTO replicator.ledger (source, channel, partition) VALUES ('active', 'changes', 1)",
        );
        const outcome = await target.feed.apply(chunk("users", "INSERT", [row(5, { id: 2, email: "x", note: "in" })]));
        expect(outcome).toMatchObject({ parked: 1 });
        expect(await target.column("SELECT id FROM users")).toEqual(["1"]);
        await target.db.execute(
          `INSERT INTO replicator.applied (ledger_id, epoch, sequence, cut_no, cut_complete, slot)
           SELECT ledger_id, 1, 1, (SELECT max(cut_no) FROM replicator.applied), true, 0 FROM replicator.ledger WHERE partition = 1`,
        );
        await target.db.execute("UPDATE replicator.inbox SET next_attempt_at = now()");
        const conflicts = [{ table: "users", policy: "version", winner: "incoming", lines: 1 }];
        expect(await target.store.retryParked(10)).toEqual({ tried: 1, resolved: 1, conflicts });
        expect(await target.column("SELECT id FROM users")).toEqual(["2"]);
      });
    });
  }
});
