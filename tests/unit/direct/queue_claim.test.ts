/** The queue as a log: nothing is confirmed that was not acknowledged, whatever is read again, whoever goes away. */
import { expect, test } from "bun:test";
import type { Delivery } from "../../../src/core/broker.ts";
import type { Channel } from "../../../src/core/channel.ts";
import type { Chunk } from "../../../src/core/chunk.ts";
import { systemClock } from "../../../src/core/clock.ts";
import { ReplicatorError } from "../../../src/core/errors.ts";
import { silentLogger } from "../../../src/core/logger.ts";
import type { Cut, SourceStore } from "../../../src/core/source_store.ts";
import { Wake } from "../../../src/core/wake.ts";
import { QueueLog } from "../../../src/direct/queue_log.ts";
import { until } from "../../support/until.ts";

const CHANNEL: Channel = { contour: "a", name: "changes", kind: "frames", partitions: 1 };
const AWAY = { code: "database.unreachable", message: "away", retry: "backoff", fault: "environment" } as const;

const cutOf = (cutNo: number): Cut => ({
  cutNo,
  epoch: 1,
  snapFrom: "1:1:",
  snapTo: "2:2:",
  layoutVersion: 1,
  frameBytes: 100_000,
  splitter: "greedy/1",
  takenAt: "2026-01-01T00:00:00.000000Z",
});

const chunkOf = (n: number): Chunk => ({
  schema: "public",
  table: "users",
  operation: "INSERT",
  transaction: String(n),
  first_queue_id: String(n),
  captured_at: "2026-01-01T00:00:00.000000Z",
  rows: 1,
  key: ["id"],
  stamp: ["version", "updated_at", "updated_by"],
  data: "x".repeat(90_000),
  old: null,
});

/** Cuts 1 to `frames.length`, with so many frames each. */
function logOf(frames: readonly number[], more: Partial<SourceStore> = {}) {
  const confirmed: { cutNo: number; sequences: readonly number[] }[] = [];
  let read = 0;
  const leases = { term: 0, given: true };
  const store: Partial<SourceStore> = {
    lease: async () => (leases.given ? { owner: "me", term: 1, expiresAt: systemClock.monotonic() + 400 } : null),
    releaseLease: async () => undefined,
    channelState: async () => {
      const last = confirmed.at(-1);
      return { confirmedCut: last?.cutNo ?? 0, sequences: last?.sequences ?? [0], epoch: 1 };
    },
    cutsAfter: async (cutNo) => frames.flatMap((_, n) => (n >= cutNo ? [cutOf(n + 1)] : [])),
    async *readChunks(cut) {
      for (let n = 0; n < (frames[cut.cutNo - 1] ?? 0); n++) {
        read++;
        yield [chunkOf(n)];
      }
    },
    confirm: async (_channel, _lease, cut, sequences) => {
      confirmed.push({ cutNo: cut.cutNo, sequences });
    },
    ...more,
  };
  const health = { name: "publisher", trouble: null as string | null, errors: 0, lastError: null };
  const wake = new Wake();
  const log = new QueueLog({
    store: store as SourceStore,
    owner: "me",
    leaseMs: 400,
    pollIntervalMs: 20,
    clock: systemClock,
    logger: silentLogger,
    wake: () => wake,
    health: () => health,
    on: { onReading: () => {}, onRead: () => {}, onConfirmed: () => {}, onMessage: () => {} },
  });
  const stop = new AbortController();
  const claim = async () => {
    const [feed] = log.feeds([CHANNEL]);
    if (!feed) throw new Error("A channel has a feed");
    const next = await log.claims(feed, "g", stop.signal).next();
    if (next.done) throw new Error("A feed has a claim");
    return next.value;
  };
  return { confirmed, leases, health, stop, claim, read: () => read };
}

const sequence = ({ headers }: Delivery) => Number(headers["replicator-sequence"]);

async function take(deliveries: AsyncIterator<Delivery>, count: number): Promise<Delivery[]> {
  const taken: Delivery[] = [];
  while (taken.length < count) {
    const next = await deliveries.next();
    if (next.done) break;
    taken.push(next.value);
  }
  return taken;
}

test("I3: a cut is confirmed when all of its messages are acknowledged, not when they are read", async () => {
  const log = logOf([3, 2, 0]);
  const deliveries = (await log.claim()).read(null, log.stop.signal)[Symbol.asyncIterator]();
  const taken = await take(deliveries, 5);
  expect(taken.map(sequence)).toEqual([1, 2, 3, 4, 5]);
  taken[1]?.ack();
  await systemClock.sleep(60);
  expect(log.confirmed).toEqual([]);
  taken[3]?.ack();
  await until("cut 1 is confirmed", () => log.confirmed.length === 1 || log.confirmed);
  expect(log.confirmed).toEqual([{ cutNo: 1, sequences: [3] }]);
  taken[4]?.ack();
  // The empty cut behind it goes with it.
  await until("the rest is confirmed", () => log.confirmed.length === 2 || log.confirmed);
  expect(log.confirmed[1]).toEqual({ cutNo: 3, sequences: [5] });
  log.stop.abort();
  expect(await deliveries.next()).toMatchObject({ done: true });
});

test("I13: what is not confirmed comes again with the same numbers", async () => {
  const log = logOf([2, 2]);
  const claim = await log.claim();
  const first = claim.read(null, log.stop.signal)[Symbol.asyncIterator]();
  const taken = await take(first, 3);
  taken[1]?.ack();
  await until("cut 1 is confirmed", () => log.confirmed.length === 1 || log.confirmed);
  const second = claim.read(taken[2]?.next ?? null, log.stop.signal)[Symbol.asyncIterator]();
  const again = await take(second, 2);
  expect(again.map(sequence)).toEqual([3, 4]);
  expect(Buffer.from(again[0]?.body ?? "")).toEqual(Buffer.from(taken[2]?.body ?? " "));
  expect(await first.next()).toMatchObject({ done: true });
  log.stop.abort();
});

test("I11: no more is read ahead than the buffer holds", async () => {
  const log = logOf([500]);
  const deliveries = (await log.claim()).read(null, log.stop.signal)[Symbol.asyncIterator]();
  await take(deliveries, 1);
  await until("it reads ahead", () => log.read() > 20);
  const before = log.read();
  await systemClock.sleep(60);
  expect(log.read()).toBe(before);
  // 90 kB a message: 2 MB ahead, and what is being encoded.
  expect(before).toBeLessThan(80);
  log.stop.abort();
  expect(await deliveries.next()).toMatchObject({ done: true });
});

test("a source that is away is waited for inside the reading, and said on its health", async () => {
  let away = true;
  const log = logOf([1], {
    cutsAfter: async (cutNo) => {
      if (away) throw new ReplicatorError(AWAY);
      return cutNo < 1 ? [cutOf(1)] : [];
    },
  });
  const deliveries = (await log.claim()).read(null, log.stop.signal)[Symbol.asyncIterator]();
  const next = deliveries.next();
  await until("it is said", () => log.health.trouble === "away");
  away = false;
  expect((await next).done).toBe(false);
  await until("it is over", () => log.health.trouble === null);
  log.stop.abort();
});

test("a failed confirmation is made good: the messages come again, and their acknowledgement confirms", async () => {
  let failures = 2;
  const confirmed: number[] = [];
  const log = logOf([1], {
    confirm: async (_channel, _lease, cut) => {
      if (failures-- > 0) throw new ReplicatorError(AWAY);
      confirmed.push(cut.cutNo);
    },
  });
  const deliveries = (await log.claim()).read(null, log.stop.signal)[Symbol.asyncIterator]();
  for (let n = 0; n < 3; n++) (await take(deliveries, 1))[0]?.ack();
  await until("it is confirmed", () => confirmed.length === 1);
  log.stop.abort();
});

test("a lease that another has taken ends the reading; held elsewhere for long it is trouble", async () => {
  const log = logOf([1]);
  const claim = await log.claim();
  const deliveries = claim.read(null, log.stop.signal)[Symbol.asyncIterator]();
  await take(deliveries, 1);
  log.leases.given = false;
  expect(await deliveries.next()).toMatchObject({ done: true });
  const waiting = claim.read(null, log.stop.signal)[Symbol.asyncIterator]().next();
  await until("it is said", () => /another process holds the lease/.test(log.health.trouble ?? ""));
  log.stop.abort();
  expect(await waiting).toMatchObject({ done: true });
  expect(log.health.trouble).toBeNull();
});

test("a claim given back ends its reading and is offered again", async () => {
  const log = logOf([1]);
  const claim = await log.claim();
  const deliveries = claim.read(null, log.stop.signal)[Symbol.asyncIterator]();
  await take(deliveries, 1);
  await claim.release();
  expect(await deliveries.next()).toMatchObject({ done: true });
  expect(claim.lost.aborted).toBe(true);
  log.stop.abort();
});
