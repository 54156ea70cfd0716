/** The conformance suite of the TargetStore port: what any store owes, told through the port alone. */
import { afterEach, expect, test } from "bun:test";
import type { TargetStore } from "../../../src/core/target_store.ts";
import { chunk, Feed, row } from "../../support/target_fixture.ts";

/** One opened store over a table `users (id, name)` under replication. */
export interface Harness {
  readonly store: TargetStore;
  /** A second store over the same tables, opened. */
  another(): Promise<TargetStore>;
  /** `id name version` of the users, in order of id. */
  users(): Promise<readonly (string | null)[]>;
  /** Makes parked changes due. */
  makeDue(): Promise<void>;
  close(): Promise<void>;
}

export function targetStoreSuite(open: () => Promise<Harness>): void {
  const opened: Harness[] = [];
  const start = async () => {
    const harness = await open();
    opened.push(harness);
    return { ...harness, feed: new Feed(harness.store) };
  };
  afterEach(async () => {
    for (const harness of opened.splice(0)) await harness.close();
  });
  const user = (version: number, id: number, name: string) => row(version, { id, name });

  test("a committed transaction moves rows and position together", async () => {
    const { feed, store, users } = await start();
    expect(await store.position(feed.key)).toBeNull();
    const outcome = await feed.apply(chunk("users", "INSERT", [user(1, 1, "a"), user(1, 2, "b")]));
    expect(outcome).toEqual({ changes: 2, applied: 2, beaten: 0, overridden: 0, parked: 0 });
    expect(await users()).toEqual(["1 a 1", "2 b 1"]);
    expect(await store.position(feed.key)).toEqual(feed.position);
  });

  test("nothing of a transaction is visible before commit, nothing is left after rollback, and rollback may come twice", async () => {
    const { feed, store, users } = await start();
    const transaction = await feed.begin();
    await transaction.apply([feed.batch([chunk("users", "INSERT", [user(1, 1, "a")])])]);
    expect(await users()).toEqual([]);
    await transaction.rollback();
    await transaction.rollback();
    expect(await users()).toEqual([]);
    expect(await store.position(feed.key)).toBeNull();
    await feed.apply(chunk("users", "INSERT", [user(1, 1, "a")]));
    expect(await users()).toEqual(["1 a 1"]);
  });

  test("rollback after a failed and after a successful commit is no error", async () => {
    const { feed } = await start();
    const transaction = await feed.begin();
    await expect(transaction.commit()).rejects.toThrow();
    await transaction.rollback();
    const good = await feed.begin();
    await good.apply([feed.batch([chunk("users", "INSERT", [user(1, 1, "a")])])]);
    await good.commit();
    await good.rollback();
    await expect(good.apply([])).rejects.toThrow();
  });

  test("I6: the greater stamp wins whatever the order, within a group and across groups", async () => {
    const { feed, users } = await start();
    await feed.apply(chunk("users", "UPDATE", [user(3, 1, "c"), user(2, 1, "b")]));
    expect(await feed.apply(chunk("users", "INSERT", [user(1, 1, "a")]))).toMatchObject({ beaten: 1 });
    expect(await users()).toEqual(["1 c 3"]);
    await feed.apply(chunk("users", "DELETE", [row(4, { id: 1 })]));
    expect(await feed.apply(chunk("users", "UPDATE", [user(4, 1, "d")]))).toMatchObject({ beaten: 1 });
    expect(await users()).toEqual([]);
  });

  test("I5: what is refused is parked, counted, retried when due, and gone when it could be applied", async () => {
    const { feed, store, users, makeDue } = await start();
    const outcome = await feed.apply(
      chunk("orders", "INSERT", [row(1, { id: 1 })]),
      chunk("users", "INSERT", [user(1, 1, "a")]),
    );
    expect(outcome).toEqual({ changes: 2, applied: 1, beaten: 0, overridden: 0, parked: 1 });
    expect(await users()).toEqual(["1 a 1"]);
    expect(await store.counts()).toMatchObject({ parked: 1, dead: 0 });
    expect(await store.retryParked(10)).toEqual({ tried: 0, resolved: 0 });
    await makeDue();
    expect(await store.retryParked(10)).toEqual({ tried: 1, resolved: 0 });
  });

  test("ledgers of different sources, channels and partitions stand apart", async () => {
    const { feed, store, users } = await start();
    const other = new Feed(store, "third");
    await Promise.all([
      feed.apply(chunk("users", "INSERT", [user(1, 1, "a")])),
      other.apply(chunk("users", "INSERT", [user(1, 2, "b")])),
    ]);
    await other.apply(chunk("users", "UPDATE", [user(2, 2, "c")]));
    expect((await store.position(feed.key))?.sequence).toBe(1);
    expect((await store.position(other.key))?.sequence).toBe(2);
    expect(await users()).toEqual(["1 a 1", "2 c 2"]);
  });

  test("a store that is behind is refused with ledger.moved, retry now, and goes on from the position it reads", async () => {
    const { feed, another, users } = await start();
    const store = await another();
    const behind = new Feed(store);
    await feed.apply(chunk("users", "INSERT", [user(1, 1, "a")]));
    const late = () => behind.apply(chunk("users", "INSERT", [user(1, 2, "b")]));
    await expect(late()).rejects.toMatchObject({ code: "ledger.moved", retry: "now" });
    behind.position = await store.position(behind.key);
    await late();
    expect(await users()).toEqual(["1 a 1", "2 b 1"]);
  });

  test("a lease is one owner's until it is given up, and its loss is lease.lost, retry now", async () => {
    const { store, feed } = await start();
    const lease = await store.lease("feed", 0, "one", 60_000);
    expect(await store.lease("feed", 0, "two", 60_000)).toBeNull();
    expect((await store.lease("feed", 0, "one", 60_000))?.term).toBe(lease?.term as number);
    if (!lease) throw new Error("no lease was granted");
    await store.releaseLease("feed", 0, lease);
    await store.releaseLease("feed", 0, lease);
    expect((await store.lease("feed", 0, "two", 60_000))?.term).toBeGreaterThan(lease.term);
    const work = async () => {
      const transaction = await store.begin(feed.key, null, "feed", lease);
      try {
        await transaction.apply([feed.batch([chunk("users", "INSERT", [user(1, 1, "a")])])]);
        await transaction.commit();
      } finally {
        await transaction.rollback();
      }
    };
    await expect(work()).rejects.toMatchObject({ code: "lease.lost", retry: "now" });
  });

  test("open may be called twice, ping answers, close may be called twice and ends what comes after with an error", async () => {
    const { another } = await start();
    const store = await another();
    await store.open(AbortSignal.timeout(30_000));
    await store.ping(AbortSignal.timeout(30_000));
    await store.close();
    await store.close();
    await expect(store.ping(AbortSignal.timeout(30_000))).rejects.toThrow();
  });
}
