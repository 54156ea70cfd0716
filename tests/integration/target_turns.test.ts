import { afterAll, expect, test } from "bun:test";
import type { ApplyBatch, ApplyTransaction } from "../../src/core/target_store.ts";
import { describeWith } from "../support/needs.ts";
import { chunk, Feed, openTarget, row, setUp, type Target } from "../support/target_fixture.ts";
import { until } from "../support/until.ts";

describeWith("postgres", "Target store, appliers that get in each other's way", () => {
  const opened: Target[] = [];
  afterAll(async () => {
    for (const target of opened) await target.close();
  });

  test("two sources that deadlocked are applied one after the other afterwards", async () => {
    const target = await openTarget(`CREATE TABLE users (id int PRIMARY KEY, name text); ${setUp("users")}`);
    opened.push(target);
    const [first, second] = [new Feed(target.store, "active"), new Feed(target.store, "third")];
    await first.apply(chunk("users", "INSERT", [row(1, { id: 1, name: "a" }), row(1, { id: 2, name: "b" })]));
    const update = (feed: Feed, id: number, version: number) => [
      feed.batch([chunk("users", "UPDATE", [row(version, { id, name: feed.key.source }, { by: feed.key.source })])]),
    ];
    const one = await first.begin();
    const two = await second.begin();
    await one.apply(update(first, 1, 2));
    await two.apply(update(second, 2, 2));
    // Sent and not awaited: both hold their first row before they cross.
    await until("both have written", async () => {
      const [count] = await target.column(
        "SELECT count(DISTINCT pid) FROM pg_locks WHERE relation = 'users'::regclass AND mode = 'RowExclusiveLock' AND granted",
      );
      return count === "2" || count;
    });
    const cross = async (transaction: ApplyTransaction, batches: readonly ApplyBatch[]) => {
      try {
        await transaction.apply(batches);
        await transaction.commit();
      } finally {
        await transaction.rollback();
      }
    };
    const crossing = await Promise.allSettled([cross(one, update(first, 2, 2)), cross(two, update(second, 1, 2))]);
    const failed = crossing.filter((result) => result.status === "rejected");
    expect(failed.map(({ reason }) => reason.code)).toEqual(["apply.serialization"]);

    for (const feed of [first, second]) feed.position = await target.store.position(feed.key);
    const order: string[] = [];
    const three = await first.begin();
    const waiting = second.begin().then((transaction) => {
      order.push("the other began");
      return transaction;
    });
    await three.apply(update(first, 1, 9));
    await three.commit();
    order.push("committed");
    const four = await waiting;
    await four.apply(update(second, 1, 10));
    await four.commit();
    expect(order).toEqual(["committed", "the other began"]);
    expect(await target.column("SELECT name FROM users WHERE id = 1")).toEqual(["third"]);
  });
});
