import { afterAll, expect, test } from "bun:test";
import { describeWith } from "../support/needs.ts";
import { chunk, openTarget, row, script, setUp, type Target } from "../support/target_fixture.ts";

const USERS = `CREATE TABLE users (id int PRIMARY KEY, name text CONSTRAINT no_poison CHECK (name <> 'poison'));
${setUp("users")}`;

describeWith("postgres", "Conflicts of parked changes", () => {
  const opened: Target[] = [];
  afterAll(async () => {
    for (const target of opened) await target.close();
  });

  test("one decided by a later attempt is logged and counted like any other", async () => {
    const target = await openTarget(USERS, "replica");
    opened.push(target);
    const later = { at: new Date(Date.now() + 1_800_000).toISOString() };
    await target.feed.apply(chunk("users", "INSERT", [row(1, { id: 1, name: "both" })]));
    await target.feed.apply(chunk("users", "UPDATE", [row(2, { id: 1, name: "poison" }, later)]));
    await script(target.db, "UPDATE users SET name = 'here'");
    await target.db.execute("UPDATE replicator.inbox SET next_attempt_at = now()");
    expect(await target.store.retryParked(10)).toEqual({ tried: 1, resolved: 0 });

    await script(target.db, "ALTER TABLE users DROP CONSTRAINT no_poison");
    await target.db.execute("UPDATE replicator.inbox SET next_attempt_at = now()");
    expect(await target.store.retryParked(10)).toEqual({
      tried: 1,
      resolved: 1,
      conflicts: [{ table: "users", policy: "version", winner: "incoming", lines: 1 }],
    });
    expect(await target.column("SELECT reason FROM conflict_log")).toEqual(["later updated_at"]);
    expect(await target.column("SELECT name FROM users")).toEqual(["poison"]);
  });
});
