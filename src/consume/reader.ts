/**
 * Reads one partition of a feed under its lease (architecture §7.1): from the ledger's position, in sequence, into the
 * lanes of its sources. There is one recovery path for every failure: forget what is not committed, read the ledger
 * again, go on from there. Where several contours share a topic, one that must stop leaves the others going.
 */
import type { Claim, Delivery, Position } from "../core/broker.ts";
import { ByteQueue } from "../core/byte_queue.ts";
import type { Channel } from "../core/channel.ts";
import type { Clock } from "../core/clock.ts";
import type { ReplicatorError } from "../core/errors.ts";
import type { HeldLease } from "../core/lease_keeper.ts";
import type { Logger } from "../core/logger.ts";
import { type Envelope, parseEnvelope } from "../core/message.ts";
import type { LedgerPosition, TargetStore } from "../core/target_store.ts";
import { abandoning } from "./abandoning.ts";
import { Acks } from "./acks.ts";
import { batchOf, boundaryOf } from "./batch.ts";
import type { GroupSize } from "./group_size.ts";
import { type CommitReport, Lane } from "./lane.ts";
import { ResumePoint } from "./resume_point.ts";
import { Sequencer } from "./sequencer.ts";
import { epochBroke, gap, isStop, stalled } from "./stops.ts";

export interface ReaderOptions {
  readonly store: TargetStore;
  readonly claim: Claim;
  readonly clock: Clock;
  readonly logger: Logger;
  /** True when the last attempt ended at a gap: read from the earliest message this time. */
  readonly rewind: boolean;
  readonly size: GroupSize;
  onCommit(report: CommitReport): void;
  /**
   * A source cannot go on without skipping something. Returns how long the others are read on without it before all is
   * tried again; 0: at once.
   */
  onStop(channel: Channel, error: ReplicatorError): number;
  onMessage(kind: "new" | "duplicate" | "foreign"): void;
}

/** Bytes kept between the broker and apply, and beyond a gap (I11). */
const QUEUE_BYTES = 4 * 1024 * 1024;
const HELD_BYTES = 8 * 1024 * 1024;
/** Memory a delivery costs beside its body. */
const DELIVERY_OVERHEAD = 3_072;
/** A retried send can put a later message before an earlier one: so long the earlier one is waited for. */
const GAP_GRACE_MS = 2_000;
/** The rest of a cut is waited for so long before whole transactions are applied without it. */
const CUT_GRACE_MS = 200;
/** A large transaction whose feed stalls this long is rolled back and read again: it must not hold locks for ever. */
const STALL_MS = 30_000;
/** Longest wait for a message before leases, gaps and retries are looked at. */
const LOOK_MS = 1_000;

interface Source {
  readonly channel: Channel;
  readonly lane: Lane;
  readonly sequencer: Sequencer<Arrival>;
  readonly resume: ResumePoint;
  gapSince: number | null;
  /** When a stopped source is tried again, on the monotonic clock; null while it goes. */
  retryAt: number | null;
}

interface Reading extends ReaderOptions {
  readonly sources: ReadonlyMap<string, Source>;
  readonly acks: Acks;
  /** The position before the delivery under way; null: the earliest of the log. */
  before: Position | null;
}

interface Arrival {
  readonly envelope: Envelope;
  readonly delivery: Delivery;
  /** The delivery without its body (I11): what is applied of a large transaction is acknowledged much later. */
  readonly mark: Pick<Delivery, "ack">;
}

/**
 * Runs until the lease or the claim is lost or the signal aborts, or until what stopped is to be tried again.
 * @throws ReplicatorError
 */
export async function readClaim(options: ReaderOptions, held: HeldLease, signal: AbortSignal): Promise<void> {
  const { claim, clock } = options;
  const done = new AbortController();
  const until = AbortSignal.any([signal, claim.lost, done.signal]);
  const acks = new Acks();
  const { sources, resume } = await openSources(options, held);
  const from = options.rewind ? null : resume;
  const reading: Reading = { ...options, sources, acks, before: from };
  const queue = new ByteQueue<Delivery>(QUEUE_BYTES);
  const pumping = pump(claim, from, queue, until);
  try {
    let pulledAt = clock.monotonic();
    while (!until.aborted) {
      const going = [...sources.values()].filter(({ retryAt }) => retryAt === null);
      const retryAt = Math.min(...[...sources.values()].map((source) => source.retryAt ?? Number.POSITIVE_INFINITY));
      if (going.length === 0) await clock.sleep(retryAt - clock.monotonic(), until);
      if (clock.monotonic() >= retryAt) return;
      const busy = going.some(({ lane, sequencer }) => lane.busy || sequencer.missing !== null);
      const delivery = await queue.take(busy ? CUT_GRACE_MS : Math.min(LOOK_MS, retryAt - clock.monotonic()));
      if (delivery) {
        pulledAt = clock.monotonic();
        await accept(reading, delivery);
        reading.before = delivery.next;
      }
      for (const source of going) {
        if (source.retryAt !== null) continue;
        if (queue.length === 0) await orStop(reading, source, () => source.lane.settle(delivery === undefined));
        if (source.retryAt === null) await orStop(reading, source, () => watch(source, claim, clock, pulledAt));
      }
      if (!delivery && queue.closed) break;
    }
  } finally {
    done.abort();
    queue.close();
    for (const { lane } of sources.values()) await lane.abandon();
    await pumping;
  }
}

async function openSources(options: ReaderOptions, held: HeldLease) {
  const { store, claim, clock, size, onCommit } = options;
  const sources = new Map<string, Source>();
  const underLease = abandoning(store, held.lost);
  const positions: (LedgerPosition | null)[] = [];
  for (const channel of claim.feed.channels) {
    const key = { source: channel.contour, channel: channel.name, partition: claim.partition };
    const position = await store.position(key);
    positions.push(position);
    const lane = new Lane(
      { store: underLease, key, feed: claim.feed.name, lease: held, clock, size, onCommit },
      position,
    );
    const sequencer = new Sequencer<Arrival>(position, HELD_BYTES);
    const resume = new ResumePoint();
    sources.set(channel.contour, { channel, lane, sequencer, resume, gapSince: null, retryAt: null });
  }
  return { sources, resume: smallest(positions) };
}

/** A shared topic is resumed from the smallest of its sources' positions; where one has none, from the earliest message. */
export function smallest(positions: readonly (LedgerPosition | null)[]): Position | null {
  let least: Position | null = null;
  for (const entry of positions) {
    const position = entry?.position;
    if (!position) return null;
    if (least && least.identity !== position.identity) return null;
    if (!least || BigInt(position.offset) < BigInt(least.offset)) least = position;
  }
  return least;
}

async function pump(
  claim: Claim,
  from: Position | null,
  queue: ByteQueue<Delivery>,
  until: AbortSignal,
): Promise<void> {
  try {
    for await (const delivery of claim.read(from, until)) {
      if (!(await queue.push(delivery, delivery.body.length + DELIVERY_OVERHEAD))) break;
    }
    queue.close();
  } catch (error) {
    queue.fail(error);
  }
}

async function accept(reading: Reading, delivery: Delivery): Promise<void> {
  const envelope = envelopeOf(reading, delivery);
  const source = envelope && reading.sources.get(envelope.contour);
  // I10: only contours named in consumer.from; on a shared topic our own messages pass by here as well.
  if (!envelope || !source || (envelope.format === "frame/1") !== (source.channel.kind === "frames")) {
    reading.onMessage("foreign");
    reading.acks.passed({ ack: delivery.ack });
    return;
  }
  if (source.retryAt === null)
    await orStop(reading, source, () => take(reading, source, { envelope, delivery, mark: { ack: delivery.ack } }));
}

async function take(reading: Reading, source: Source, arrival: Arrival): Promise<void> {
  const { envelope, delivery, mark } = arrival;
  const { channel, sequencer, lane } = source;
  const verdict = sequencer.offer(envelope, arrival, delivery.body.length);
  if (verdict.kind === "epoch") throw epochBroke(channel, verdict);
  if (verdict.kind === "overflow") throw gap(channel, verdict.missing, reading.claim.partition);
  if (verdict.kind === "duplicate") {
    reading.onMessage("duplicate");
    reading.acks.passed(mark);
    return;
  }
  reading.acks.taken(channel.contour, mark, envelope.sequence);
  if (verdict.kind === "held") return source.resume.keep(reading.before, delivery);
  source.gapSince = null;
  for (const [n, item] of verdict.items.entries()) {
    reading.onMessage("new");
    const next = source.resume.after(delivery, n === verdict.items.length - 1 && sequencer.missing === null);
    await lane.take({
      batch: { ...batchOf(item.envelope, item.delivery), next },
      delivery: { ack: () => reading.acks.committed(channel.contour, item.envelope.sequence) },
      boundary: boundaryOf(item.envelope),
      bytes: item.delivery.body.length,
    });
  }
}

/** Does a step of a source. What stops a channel stops this source, and the whole reading when there is no other. */
async function orStop(reading: Reading, source: Source, step: () => Promise<void> | void): Promise<void> {
  try {
    await step();
  } catch (error) {
    if (!isStop(error)) throw error;
    await source.lane.abandon();
    reading.acks.stop();
    source.retryAt = reading.clock.monotonic() + reading.onStop(source.channel, error);
  }
}

function envelopeOf(options: Reading, delivery: Delivery): Envelope | null {
  try {
    return parseEnvelope(delivery.headers);
  } catch (error) {
    // Not ours, so nothing of ours is dropped by passing over it; a hole in our own numbering would show as a gap.
    options.logger.debug({ feed: options.claim.feed.name, offset: delivery.next.offset }, String(error));
    return null;
  }
}

/** Turns a stall into an error with a name. */
function watch(source: Source, claim: Claim, clock: Clock, pulledAt: number): void {
  const { sequencer, lane, channel } = source;
  if (sequencer.missing === null) source.gapSince = null;
  else {
    source.gapSince ??= clock.monotonic();
    if (clock.monotonic() - source.gapSince > GAP_GRACE_MS) throw gap(channel, sequencer.missing, claim.partition);
  }
  if (lane.streaming && clock.monotonic() - pulledAt > STALL_MS) throw stalled(channel, STALL_MS);
}
