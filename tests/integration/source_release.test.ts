/** Rings on real PostgreSQL (I3, architecture §4.5): what is emptied, what is not, and that no writer ever waits. */
import { afterEach, beforeEach, expect, setDefaultTimeout, test } from "bun:test";
import { CUT_SLOTS, CUTS_PER_SLOT } from "../../adapters/postgres/source/cuts.ts";
import { QUEUE_IDS_PER_SLOT, QUEUE_SLOTS } from "../../adapters/postgres/source/release.ts";
import type { Lease } from "../../src/core/lease.ts";
import type { SourceStore } from "../../src/core/source_store.ts";
import {
  chunksOf,
  cutIds,
  cutter,
  FRAME_BYTES,
  idsOf,
  makeSource,
  mustCut,
  type Source,
} from "../conformance/store/source_fixture.ts";
import { freshDatabase, sharedPostgres } from "../servers/postgres.ts";
import { describeWith } from "../support/needs.ts";

setDefaultTimeout(60_000);
const DAY = 86_400_000;
let source: Source;
let store: SourceStore;
let cutting: Lease;
let sending: Lease;

beforeEach(async () => {
  source = await makeSource(await freshDatabase(await sharedPostgres()));
  store = await source.store(0);
  cutting = await cutter(store);
  const lease = await store.lease("channel", "changes", "one", 60_000);
  if (!lease) throw new Error("A fresh lease is free");
  sending = lease;
});
afterEach(async () => {
  await source.close();
});

async function rowsIn(table: string): Promise<number> {
  const [row] = await source.app.query<{ n: string }>(`SELECT count(*)::text AS n FROM "replicator".${table}`);
  return Number(row?.n);
}

/** Cuts and confirms all there is. */
async function confirmAll(): Promise<void> {
  await store.takeCut(cutting, FRAME_BYTES);
  for (const cut of await store.cutsAfter((await store.channelState("changes", 1)).confirmedCut, 1_000)) {
    await store.confirm("changes", sending, cut, [cut.cutNo]);
  }
}

/** One row into each of the next `slots` slots, release moving the ring on after each. */
async function fill(slots: number): Promise<void> {
  for (let n = 0; n < slots; n++) {
    await source.write(source.app, n);
    await store.release(DAY);
  }
}

describeWith("postgres", "Release", () => {
  test("counts slots as sql/01_create_tables.sql does", async () => {
    const [row] = await source.app.query<{ key: string }>(
      `SELECT pg_get_partkeydef('"replicator".queue'::regclass) AS key`,
    );
    expect(row?.key.match(/\d+/g)?.slice(0, 2)).toEqual([String(QUEUE_IDS_PER_SLOT), String(QUEUE_SLOTS)]);
    const [slots] = await source.app.query<{ n: string }>(
      `SELECT count(*)::text AS n FROM pg_inherits WHERE inhparent = '"replicator".cut'::regclass`,
    );
    expect(slots?.n).toBe(String(CUT_SLOTS));
  });

  test("I3: empties only slots whose rows are confirmed and older than the retention", async () => {
    await fill(4);
    expect(await rowsIn("queue")).toBe(4);
    expect(await store.release(0)).toBe(0);
    const cut = await mustCut(store, cutting);
    expect(await store.release(0)).toBe(0);
    await store.confirm("changes", sending, cut, [1]);
    expect(await store.release(DAY)).toBe(0);
    expect(await rowsIn("queue")).toBe(4);
    expect(await store.release(0)).toBeGreaterThanOrEqual(4);
    expect(await rowsIn("queue")).toBe(0);
  });

  test("keeps a slot with one unconfirmed row, and never empties the current slot or the next", async () => {
    await fill(3);
    await confirmAll();
    const late = await source.app.reserve();
    await late.query(`SELECT setval('"replicator".queue_id_seq', ${QUEUE_IDS_PER_SLOT})`);
    await source.write(source.app, 100);
    await late.query(`SELECT setval('"replicator".queue_id_seq', ${QUEUE_IDS_PER_SLOT * 3})`);
    late.release();
    expect(await store.release(0)).toBe(2);
    expect(await rowsIn("queue_1")).toBe(2);
    expect(await cutIds(store, cutting)).toEqual([100]);
    await source.app.query(`SELECT setval('"replicator".queue_id_seq', ${QUEUE_IDS_PER_SLOT * 8})`);
    await confirmAll();
    expect(await store.release(0)).toBe(0);
    expect(await rowsIn("queue_1")).toBe(2);
  });

  test("I3: waits for every channel of the layout, also for one that has left it", async () => {
    await source.app.execute(`INSERT INTO "replicator".layout VALUES (2, 'changes', 1, '{}'), (2, 'extra', 1, '{2}')`);
    await fill(3);
    await mustCut(store, cutting);
    await source.app.execute(`INSERT INTO "replicator".layout VALUES (3, 'changes', 1, '{}')`);
    await confirmAll();
    expect(await store.release(0)).toBe(0);
    const extra = await store.lease("channel", "extra", "one", 60_000);
    const [cut] = await store.cutsAfter(0, 1);
    if (extra && cut) await store.confirm("extra", extra, cut, [0]);
    expect(await store.release(0)).toBeGreaterThanOrEqual(3);
    expect(await rowsIn("queue")).toBe(0);
  });

  test("never waits and never makes a writer wait: a slot somebody is inside stays", async () => {
    await fill(3);
    await confirmAll();
    const inside = await source.app.reserve();
    await inside.query("BEGIN");
    await inside.query(`SELECT count(*) FROM ONLY "replicator".queue_0`);
    expect(await store.release(0)).toBe(2);
    expect(await rowsIn("queue_0")).toBe(1);
    await inside.query("COMMIT");
    inside.release();
    await store.release(0);
    expect(await rowsIn("queue_0")).toBe(0);
  });

  test("I5: loses no row of writers that insert and cut while slots are emptied under them", async () => {
    let writing = true;
    let slowest = 0;
    let next = 0;
    const writers = Array.from({ length: 3 }, async () => {
      const mine = await source.app.reserve();
      while (writing) {
        const began = performance.now();
        await source.write(mine, next++);
        slowest = Math.max(slowest, performance.now() - began);
      }
      mine.release();
    });
    const seen: number[] = [];
    let emptied = 0;
    for (let round = 0; round < 40; round++) {
      const cut = await store.takeCut(cutting, FRAME_BYTES);
      if (cut) {
        seen.push(...idsOf(await chunksOf(store, cut)));
        await store.confirm("changes", sending, cut, [round]);
      }
      emptied += await store.release(0);
    }
    writing = false;
    await Promise.all(writers);
    for (const cut of await store.cutsAfter((await store.channelState("changes", 1)).confirmedCut, 10)) {
      seen.push(...idsOf(await chunksOf(store, cut)));
    }
    seen.push(...(await cutIds(store, cutting)));
    expect(seen.sort((a, b) => a - b)).toEqual(Array.from({ length: next }, (_, n) => n));
    expect(emptied).toBeGreaterThan(5);
    expect(slowest).toBeLessThan(2_000);
  });

  test("moves cuts and confirmations on as well, keeps them in one line, and never drops the newest", async () => {
    for (let n = 0; n < 12; n++) {
      await source.write(source.app, n);
      await confirmAll();
      await store.release(0);
    }
    const [newest] = (await store.cutsAfter(0, 1_000)).slice(-1);
    expect(newest?.cutNo).toBeGreaterThan(CUTS_PER_SLOT * 4);
    expect(await rowsIn("cut")).toBeLessThan(12);
    expect(await rowsIn("confirmed")).toBeLessThan(12);
    const cuts = await store.cutsAfter(0, 1_000);
    cuts.slice(1).forEach((cut, n) => {
      expect(cut.snapFrom).toBe(cuts[n]?.snapTo ?? "");
    });
    await source.write(source.app, 99);
    expect(await cutIds(store, cutting)).toEqual([99]);
  });
});
