import { afterAll, expect, test } from "bun:test";
import { describeWith } from "../support/needs.ts";
import { chunk, MODES, openTarget, row, script, setUp, type Target } from "../support/target_fixture.ts";

const USERS = `CREATE TABLE users (id int PRIMARY KEY, name text); ${setUp("users")}`;
const deleted = (id: number, version: number) =>
  chunk("users", "DELETE", [row(version, { id }, { at: "2026-11-21T11:00:00+00:00" })]);

describeWith("postgres", "Target store, the second look at applied deletions (review A4)", () => {
  const opened: Target[] = [];
  const open = async (mode: (typeof MODES)[number]) => {
    const target = await openTarget(USERS, mode);
    opened.push(target);
    return target;
  };
  afterAll(async () => {
    for (const target of opened) await target.close();
  });
  /** As the consumer's loop does, until nothing waits. */
  const recheckAll = async (target: Target) => {
    let lifted = 0;
    for (let look = 0; look < 4; look++) lifted += await target.store.recheckDeletes();
    return lifted;
  };
  const row1 = (target: Target) => target.column("SELECT version || ' ' || updated_by FROM users WHERE id = 1");

  for (const mode of MODES) {
    test(`${mode}: an INSERT that was open while its key's deletion was applied lives on, above the tombstone, captured`, async () => {
      const target = await open(mode);
      const local = await target.db.reserve();
      await local.script("BEGIN; INSERT INTO users (id, name) VALUES (1, 'mine')");
      await target.feed.apply(deleted(1, 6));
      expect(await recheckAll(target)).toBe(0);
      expect(await target.column("SELECT count(*) FROM replicator.recheck")).toEqual(["1"]);
      await local.script("COMMIT");
      local.release();
      expect(await row1(target)).toEqual(["1 passive"]);
      await target.db.execute("DELETE FROM replicator.queue");
      expect(await recheckAll(target)).toBe(1);
      expect(await row1(target)).toEqual(["7 passive"]);
      expect(await target.column("SELECT operation || ' ' || (new_data->>'version') FROM replication_queue")).toEqual([
        "UPDATE 7",
      ]);
      expect(await target.column("SELECT count(*) FROM replicator.recheck")).toEqual(["0"]);
      expect(await target.column("SELECT record_id || ' ' || winner FROM conflict_log")).toEqual(["1 local"]);
    });

    test(`${mode}: a REPEATABLE READ transaction older than the deletion inserts below the tombstone, and is lifted`, async () => {
      const target = await open(mode);
      const local = await target.db.reserve();
      await local.script("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM users");
      await target.feed.apply(deleted(1, 6));
      expect(await recheckAll(target)).toBe(0);
      expect(await target.column("SELECT count(*) FROM replicator.recheck")).toEqual(["0"]);
      await local.script("INSERT INTO users (id, name) VALUES (1, 'mine'); COMMIT");
      local.release();
      expect(await row1(target)).toEqual(["1 passive"]);
      expect(await recheckAll(target)).toBe(1);
      expect(await row1(target)).toEqual(["7 passive"]);
    });

    test(`${mode}: an INSERT that was open while a TRUNCATE was applied is lifted above the floor`, async () => {
      const target = await open(mode);
      const local = await target.db.reserve();
      await local.script("BEGIN; INSERT INTO users (id, name) VALUES (1, 'mine')");
      const applying = target.feed.apply(
        chunk("users", "TRUNCATE", ['{"version":9,"updated_at":"2026-11-21T11:00:00+00:00","updated_by":"active"}']),
      );
      await applying;
      await local.script("COMMIT");
      local.release();
      expect(await recheckAll(target)).toBe(1);
      expect(await row1(target)).toEqual(["10 passive"]);
    });

    test(`${mode}: a row of another contour found below its tombstone goes, and is not captured`, async () => {
      const target = await open(mode);
      await target.feed.apply(deleted(1, 6));
      // As a retry beside the deletion would leave it.
      await script(
        target.db,
        "BEGIN; SET LOCAL replicator.capture = 'off'; INSERT INTO users (id, name, version, updated_by) VALUES (1, 'late', 3, 'third'); COMMIT",
      );
      await recheckAll(target);
      expect(await row1(target)).toEqual([]);
      expect(await target.column("SELECT count(*) FROM replicator.queue")).toEqual(["0"]);
    });

    test(`${mode}: rows above their tombstone, and deletions nobody met, are left alone`, async () => {
      const target = await open(mode);
      await target.feed.apply(deleted(1, 6), deleted(2, 3));
      await target.db.execute("INSERT INTO users (id, name) VALUES (1, 'again')");
      expect(await row1(target)).toEqual(["7 passive"]);
      expect(await recheckAll(target)).toBe(0);
      expect(await row1(target)).toEqual(["7 passive"]);
      expect(await target.column("SELECT count(*) FROM replicator.recheck")).toEqual(["0"]);
    });
  }
});
