/** What of a message is applied before the transaction that halts its channel is applied once, and recorded once. */
import { afterAll, expect, test } from "bun:test";
import type { TargetStoreOptions } from "../../adapters/postgres/target/store.ts";
import type { Chunk } from "../../src/core/chunk.ts";
import { describeWith } from "../support/needs.ts";
import { chunk, Feed, openTarget, row, setUp, type Target } from "../support/target_fixture.ts";

const DDL = `
CREATE TABLE account (id int PRIMARY KEY, note text CONSTRAINT nice CHECK (note <> 'poison'));
CREATE TABLE entry (id int PRIMARY KEY, note text CONSTRAINT nice CHECK (note <> 'poison'));
CREATE TABLE stock (id int PRIMARY KEY, note text CONSTRAINT nice CHECK (note <> 'poison'));
${setUp("account", "entry", "stock")}`;

const change = (transaction: number, table: string, id: number, note = "fine"): Chunk =>
  chunk(table, "INSERT", [row(id, { id, note })], { transaction: String(transaction) });

describeWith("postgres", "What was applied ahead of its position", () => {
  const opened: Target[] = [];
  const open = async (options: Partial<TargetStoreOptions>) => {
    const target = await openTarget(DDL, "auto", options);
    opened.push(target);
    return target;
  };
  afterAll(async () => {
    for (const target of opened) await target.close();
  });
  const message = (target: Target) =>
    target.feed.batch([
      change(1, "account", 1),
      change(1, "entry", 2, "poison"),
      change(2, "stock", 3, "poison"),
      change(3, "account", 4),
      change(4, "account", 5, "poison"),
      change(5, "stock", 6),
    ]);
  const stopOnError = ["stock", "account"];
  const events = (target: Target) =>
    target.column("SELECT table_name || ' ' || coalesce(version::text, '-') || ' ' || outcome FROM processed_events");
  const ahead = (target: Target) =>
    target.column("SELECT ahead::json->>'sequence' || ' ' || (ahead::json->>'chunks') FROM replicator.ledger");
  const whole = [
    "account 1 applied",
    "account 4 applied",
    "account 5 applied",
    "entry - parked",
    "stock 3 applied",
    "stock 6 applied",
  ];

  test("grows from halt to halt, and is one record with the rest in the end", async () => {
    const target = await open({ stopOnError });
    const batch = message(target);
    const apply = () => target.feed.groups([[batch]]);
    await expect(apply()).rejects.toMatchObject({ code: "apply.stopped", facts: { transaction: "2" } });
    expect(await ahead(target)).toEqual(["1 2"]);
    expect(await events(target)).toEqual([]);
    await target.db.execute("ALTER TABLE stock DROP CONSTRAINT nice");
    await expect(apply()).rejects.toMatchObject({ code: "apply.stopped", facts: { transaction: "4" } });
    expect(await ahead(target)).toEqual(["1 4"]);
    // Nothing new comes before it this time.
    await expect(apply()).rejects.toMatchObject({ code: "apply.stopped", facts: { transaction: "4" } });
    await target.db.execute("ALTER TABLE account DROP CONSTRAINT nice");
    expect(await apply()).toMatchObject({ changes: 6, applied: 5, beaten: 0, parked: 1 });
    expect(await ahead(target)).toEqual([null]);
    expect((await events(target)).toSorted()).toEqual(whole);
    expect(
      await target.column("SELECT count(*) FROM processed_events p JOIN replicator.inbox i USING (event_id)"),
    ).toEqual(["1"]);
    expect(await target.store.position(target.feed.key)).toMatchObject({ sequence: 1 });
    expect(await target.feed.apply(change(6, "account", 7))).toMatchObject({ changes: 1, applied: 1 });
  });

  test("is known to the consumer that comes after, and what was discarded meanwhile stays away", async () => {
    const target = await open({ stopOnError });
    const batch = message(target);
    await expect(target.feed.groups([[batch]])).rejects.toMatchObject({ code: "apply.stopped" });
    await target.store.close();
    await target.db.execute("DELETE FROM replicator.inbox");
    const next = new Feed(await target.another());
    expect(await next.store.position(next.key)).toBeNull();
    await target.db.execute("ALTER TABLE stock DROP CONSTRAINT nice");
    await target.db.execute("ALTER TABLE account DROP CONSTRAINT nice");
    await target.db.execute("UPDATE replicator.lease SET expires_at = '-infinity'");
    expect(await next.groups([[batch]])).toMatchObject({ changes: 6, applied: 5, parked: 1 });
    expect(await target.column("SELECT count(*) FROM inbox")).toEqual(["0"]);
    expect((await events(target)).toSorted()).toEqual(whole);
  });

  test("belongs to its message: one that comes with others in a group, and one with a later number, are told apart", async () => {
    const target = await open({ stopOnError });
    const [first, second] = [target.feed.batch([change(1, "account", 1)]), message(target)];
    await expect(target.feed.groups([[second]])).rejects.toMatchObject({ code: "apply.stopped" });
    expect(await ahead(target)).toEqual(["2 2"]);
    await target.db.execute("ALTER TABLE stock DROP CONSTRAINT nice");
    await target.db.execute("ALTER TABLE account DROP CONSTRAINT nice");
    expect(await target.feed.groups([[first, second]])).toMatchObject({ changes: 7 });
    expect(await ahead(target)).toEqual([null]);
  });
});
