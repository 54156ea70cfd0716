/** The SourceStore port against real PostgreSQL: cuts and leases (architecture §4). */
import { afterEach, beforeEach, expect, setDefaultTimeout, test } from "bun:test";
import { openDatabase } from "../../../adapters/postgres/connection.ts";
import { silentLogger } from "../../../src/core/logger.ts";
import type { Cut } from "../../../src/core/source_store.ts";
import { freshDatabase, MAJORS, sharedPostgres } from "../../servers/postgres.ts";
import { describeWith } from "../../support/needs.ts";
import { until } from "../../support/until.ts";
import { chunksOf, cutIds, cutter, FRAME_BYTES, idsOf, makeSource, mustCut, type Source } from "./source_fixture.ts";

setDefaultTimeout(60_000);
let source: Source;

function onPostgres(name: string, body: () => void): void {
  describeWith("postgres", name, () => {
    beforeEach(async () => {
      source = await makeSource(await freshDatabase(await sharedPostgres()));
    });
    afterEach(async () => {
      await source.close();
    });
    body();
  });
}

async function nextXid(): Promise<string> {
  const [row] = await source.app.query<{ x: string }>("SELECT pg_snapshot_xmax(pg_current_snapshot())::text AS x");
  return row?.x ?? "";
}

onPostgres("A cut", () => {
  test("I2: holds a transaction that began first and commits last, though its ids are lower than those cut before", async () => {
    const store = await source.store();
    const lease = await cutter(store);
    const slow = await source.app.reserve();
    await slow.query("BEGIN");
    await source.write(slow, 1);
    await source.write(source.app, 2);
    expect(await cutIds(store, lease)).toEqual([2]);
    await source.write(source.app, 3);
    expect(await cutIds(store, lease)).toEqual([3]);
    await slow.query("COMMIT");
    slow.release();
    expect(await cutIds(store, lease)).toEqual([1]);
    expect(await store.takeCut(lease, FRAME_BYTES)).toBeNull();
  });

  test("I2: is not delayed by a transaction that stays open in another database of the cluster", async () => {
    const store = await source.store();
    const lease = await cutter(store);
    const url = await freshDatabase(await sharedPostgres());
    const other = openDatabase({ url, applicationName: "other", logger: silentLogger });
    const open = await other.reserve();
    await open.query("BEGIN");
    await open.query("SELECT pg_current_xact_id()");
    for (let n = 1; n <= 5; n++) {
      await source.write(source.app, n);
      expect(await cutIds(store, lease)).toEqual([n]);
    }
    open.destroy();
    await other.close();
  });

  test("I2: holds a prepared transaction when it is committed, and nothing of it before", async () => {
    const store = await source.store();
    const lease = await cutter(store);
    const name = `prepared_${process.pid}_${Date.now()}`;
    const one = await source.app.reserve();
    await one.query("BEGIN");
    await source.write(one, 1);
    await one.query(`PREPARE TRANSACTION '${name}'`);
    one.release();
    await source.write(source.app, 2);
    expect(await cutIds(store, lease)).toEqual([2]);
    await source.app.query(`COMMIT PREPARED '${name}'`);
    expect(await cutIds(store, lease)).toEqual([1]);
  });

  test("holds what released savepoints wrote and nothing of those rolled back, beyond 64 subtransactions too", async () => {
    const store = await source.store();
    const lease = await cutter(store);
    const one = await source.app.reserve();
    await one.query("BEGIN");
    const kept: number[] = [];
    for (let n = 1; n <= 100; n++) {
      await one.query("SAVEPOINT s");
      await source.write(one, n);
      await one.query(n % 3 === 0 ? "ROLLBACK TO s" : "RELEASE s");
      if (n % 3 !== 0) kept.push(n);
    }
    await source.write(source.app, 1000);
    expect(await cutIds(store, lease)).toEqual([1000]);
    await one.query("COMMIT");
    one.release();
    expect((await cutIds(store, lease)).sort((a, b) => a - b)).toEqual(kept);
  });

  test("I2: every row of six concurrent writers is in exactly one of many cuts", async () => {
    const store = await source.store();
    const lease = await cutter(store);
    const seen: number[] = [];
    let writing = 6;
    const writers = Array.from({ length: 6 }, async (_, writer) => {
      const mine = await source.app.reserve();
      for (let n = 0; n < 60; n++) {
        await mine.query("BEGIN");
        const base = writer * 100_000 + n * 10;
        await source.write(mine, base, base + (n % 5));
        // Lets transactions of different length overlap: some end many cuts after they began.
        if (n % 7 === writer) await mine.query("SELECT pg_sleep(0.03)");
        if (n % 11 === 5) {
          await mine.query("ROLLBACK");
        } else {
          await source.write(mine, base + 9);
          await mine.query("COMMIT");
        }
      }
      mine.release();
      writing--;
    });
    let cuts = 0;
    const reader = async () => {
      for (let last = false; !last; ) {
        last = writing === 0;
        const found = await cutIds(store, lease);
        if (found.length > 0) cuts++;
        seen.push(...found);
      }
    };
    await Promise.all([...writers, reader()]);
    const rows = await source.app.query<{ data: string }>(`SELECT data FROM "replicator".queue`);
    const expected = rows.map((row) => Number(/\d+/.exec(row.data)?.[0])).sort((a, b) => a - b);
    expect(expected.length).toBeGreaterThan(1000);
    expect(cuts).toBeGreaterThan(20);
    expect(seen.sort((a, b) => a - b)).toEqual(expected);
  });

  test("I13: gives the same chunks when another owner reads it again while writers go on", async () => {
    const store = await source.store();
    const lease = await cutter(store);
    let stop = false;
    const writers = Array.from({ length: 3 }, async (_, writer) => {
      const mine = await source.app.reserve();
      for (let n = 0; !stop; n++) {
        await mine.query("BEGIN");
        await source.write(mine, writer * 1_000_000 + n * 10, writer * 1_000_000 + n * 10 + 5);
        await mine.query("COMMIT");
      }
      mine.release();
    });
    const first: { cut: Cut; chunks: string }[] = [];
    while (first.length < 30) {
      const cut = await store.takeCut(lease, FRAME_BYTES);
      if (cut) first.push({ cut, chunks: JSON.stringify(await chunksOf(store, cut)) });
    }
    const other = await source.store();
    const again: string[] = [];
    for (const cut of await other.cutsAfter(0, 30)) again.push(JSON.stringify(await chunksOf(other, cut)));
    stop = true;
    await Promise.all(writers);
    expect((await other.cutsAfter(0, 30)).map((cut) => cut.cutNo)).toEqual(first.map(({ cut }) => cut.cutNo));
    expect(again).toEqual(first.map(({ chunks }) => chunks));
    expect(idsOf(JSON.parse(again.join("").replaceAll("][", ",") || "[]")).length).toBeGreaterThan(30);
  });

  test("is refused by the server's primary key when a second one of the same number comes", async () => {
    const store = await source.store();
    const lease = await cutter(store);
    await source.write(source.app, 1);
    const both = await Promise.all([store.takeCut(lease, FRAME_BYTES), store.takeCut(lease, FRAME_BYTES)]);
    expect(both.filter((cut) => cut !== null)).toHaveLength(1);
    expect(await store.cutsAfter(0, 10)).toHaveLength(1);
  });

  test("is not taken while idle, and asking for it assigns no xid", async () => {
    const store = await source.store();
    const lease = await cutter(store);
    await source.write(source.app, 1);
    await mustCut(store, lease);
    const before = await nextXid();
    for (let n = 0; n < 50; n++) expect(await store.takeCut(lease, FRAME_BYTES)).toBeNull();
    expect(await nextXid()).toBe(before);
  });

  test("comes once, empty, for a transaction that stays open, so that its rows need not be looked over again", async () => {
    const store = await source.store();
    const lease = await cutter(store);
    await source.write(source.app, 1);
    await mustCut(store, lease);
    const open = await source.app.reserve();
    await open.query("BEGIN");
    await source.write(open, 2, 3);
    // A later transaction that has ended: only then does a snapshot name the open one.
    await source.app.query("SELECT pg_current_xact_id()");
    const taken: Cut[] = [];
    await until("an empty cut knows the open transaction", async () => {
      const cut = await store.takeCut(lease, FRAME_BYTES);
      if (cut) taken.push(cut);
      return taken.length > 0;
    });
    for (const cut of taken) expect(await chunksOf(store, cut)).toEqual([]);
    const before = await nextXid();
    for (let n = 0; n < 20; n++) expect(await store.takeCut(lease, FRAME_BYTES)).toBeNull();
    expect(await nextXid()).toBe(before);
    await open.query("COMMIT");
    open.release();
    expect(await cutIds(store, lease)).toEqual([2, 3]);
  });
});

onPostgres("A lease", () => {
  test("is one owner's; its term grows when the owner changes and not when it is renewed", async () => {
    const [one, two] = [await source.store(), await source.store()];
    const first = await one.lease("channel", "changes", "one", 60_000);
    expect(first?.term).toBe(1);
    expect(await two.lease("channel", "changes", "two", 60_000)).toBeNull();
    expect((await one.lease("channel", "changes", "one", 60_000))?.term).toBe(1);
    if (first) await one.releaseLease("channel", "changes", first);
    expect((await two.lease("channel", "changes", "two", 60_000))?.term).toBe(2);
    expect(await one.lease("channel", "changes", "one", 60_000)).toBeNull();
  });

  test("is had by exactly one of many that ask at the same time", async () => {
    const stores = await Promise.all(Array.from({ length: 4 }, () => source.store()));
    const asked = stores.flatMap((store, s) =>
      Array.from({ length: 5 }, (_, n) => store.lease("cutter", "", `${s}-${n}`, 60_000)),
    );
    expect((await Promise.all(asked)).filter((lease) => lease !== null)).toHaveLength(1);
  });

  test("taken over leaves a zombie that can neither cut nor confirm", async () => {
    const [zombie, heir] = [await source.store(), await source.store()];
    const cutting = await zombie.lease("cutter", "", "zombie", 60_000);
    const sending = await zombie.lease("channel", "changes", "zombie", 60_000);
    if (!cutting || !sending) throw new Error("A fresh lease is free");
    await source.write(source.app, 1);
    const cut = await mustCut(zombie, cutting);
    await source.app.execute(`UPDATE "replicator".lease SET expires_at = clock_timestamp()`);
    expect((await heir.lease("cutter", "", "heir", 60_000))?.term).toBe(2);
    const channel = await heir.lease("channel", "changes", "heir", 60_000);
    expect(channel?.term).toBe(2);

    await source.write(source.app, 2);
    await expect(zombie.takeCut(cutting, FRAME_BYTES)).rejects.toMatchObject({ code: "lease.lost" });
    await expect(zombie.confirm("changes", sending, cut, [1])).rejects.toMatchObject({ code: "lease.lost" });
    expect(await heir.cutsAfter(0, 10)).toEqual([cut]);
    expect((await heir.channelState("changes", 1)).confirmedCut).toBe(0);
    if (channel) await heir.confirm("changes", channel, cut, [1]);
    if (channel) await heir.confirm("changes", channel, cut, [1]);
    expect(await heir.channelState("changes", 2)).toEqual({ confirmedCut: 1, sequences: [1, 0], epoch: 1 });
  });

  test("that has run out does not cut, though nobody else has taken it", async () => {
    const store = await source.store();
    const lease = await cutter(store);
    await source.write(source.app, 1);
    await source.app.execute(`UPDATE "replicator".lease SET expires_at = clock_timestamp()`);
    await expect(store.takeCut(lease, FRAME_BYTES)).rejects.toMatchObject({ code: "lease.lost", retry: "now" });
    expect(await cutIds(store, await cutter(store))).toEqual([1]);
  });
});

for (const major of MAJORS) {
  describeWith(`postgres:${major}`, `The source store on PostgreSQL ${major}`, () => {
    test("cuts, reads, confirms, counts and releases", async () => {
      const mine = await makeSource(await freshDatabase(await sharedPostgres(major)));
      try {
        const store = await mine.store(0);
        const lease = await cutter(store);
        await mine.write(mine.app, 1, 3000);
        expect((await store.backlog()).unpublished).toBe(3000);
        const cut = await mustCut(store, lease);
        expect(idsOf(await chunksOf(store, cut))).toHaveLength(3000);
        const channel = await store.lease("channel", "changes", "one", 60_000);
        if (channel) await store.confirm("changes", channel, cut, [7]);
        expect(await store.backlog()).toMatchObject({ unpublished: 0, oldestSeconds: 0 });
        expect(await store.release(0)).toBe(0);
      } finally {
        await mine.close();
      }
    });
  });
}
