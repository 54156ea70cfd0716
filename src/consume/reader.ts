/**
 * Reads one partition of a feed under its lease (architecture §7.1): from the ledger's position, in sequence, into the
 * lanes of its sources. There is one recovery path for every failure: forget what is not committed, read the ledger
 * again, go on from there.
 */
import type { Claim, Delivery, Position } from "../core/broker.ts";
import { ByteQueue } from "../core/byte_queue.ts";
import { type Channel, channelLabel } from "../core/channel.ts";
import type { Clock } from "../core/clock.ts";
import { ReplicatorError } from "../core/errors.ts";
import type { HeldLease } from "../core/lease_keeper.ts";
import type { Logger } from "../core/logger.ts";
import { type Envelope, parseEnvelope } from "../core/message.ts";
import type { LedgerPosition, TargetStore } from "../core/target_store.ts";
import { batchOf, boundaryOf } from "./batch.ts";
import { type CommitReport, Lane } from "./lane.ts";
import { Sequencer } from "./sequencer.ts";

export interface ReaderOptions {
  readonly store: TargetStore;
  readonly claim: Claim;
  readonly clock: Clock;
  readonly logger: Logger;
  /** True when the last attempt ended at a gap: read from the earliest message this time. */
  readonly rewind: boolean;
  readonly batchSize: number;
  onCommit(report: CommitReport): void;
  onMessage(kind: "new" | "duplicate" | "foreign"): void;
}

/** Bytes kept between the broker and apply, and beyond a gap (I11). */
const QUEUE_BYTES = 4 * 1024 * 1024;
const HELD_BYTES = 8 * 1024 * 1024;
/** A retried send can put a later message before an earlier one: so long the earlier one is waited for. */
const GAP_GRACE_MS = 2_000;
/** The rest of a cut is waited for so long before whole transactions are applied without it. */
const CUT_GRACE_MS = 200;
/** A large transaction whose feed stalls this long is rolled back and read again: it must not hold locks for ever. */
const STALL_MS = 30_000;

interface Source {
  readonly channel: Channel;
  readonly lane: Lane;
  readonly sequencer: Sequencer<Arrival>;
  gapSince: number | null;
}

interface Arrival {
  readonly envelope: Envelope;
  readonly delivery: Delivery;
}

/** Runs until the lease or the claim is lost or the signal aborts. @throws ReplicatorError; `consume.gap` and `consume.epoch` stop the channel */
export async function readClaim(options: ReaderOptions, held: HeldLease, signal: AbortSignal): Promise<void> {
  const { claim, clock } = options;
  const done = new AbortController();
  const until = AbortSignal.any([signal, claim.lost, done.signal]);
  const { sources, resume } = await openSources(options, held);
  const queue = new ByteQueue<Delivery>(QUEUE_BYTES);
  const reading = pump(claim, options.rewind ? null : resume, queue, until);
  try {
    let pulledAt = clock.monotonic();
    while (!until.aborted) {
      const busy = [...sources.values()].some(({ lane, sequencer }) => lane.busy || sequencer.missing !== null);
      const delivery = await queue.take(busy ? CUT_GRACE_MS : 1_000);
      if (delivery) {
        pulledAt = clock.monotonic();
        await accept(options, sources, delivery);
      }
      if (queue.length === 0) {
        for (const { lane } of sources.values()) await lane.settle(delivery === undefined);
      }
      for (const source of sources.values()) watch(source, clock, pulledAt);
      if (!delivery && queue.closed) break;
    }
  } finally {
    done.abort();
    queue.close();
    for (const { lane } of sources.values()) await lane.abandon();
    await reading;
  }
}

async function openSources(options: ReaderOptions, held: HeldLease) {
  const { store, claim, clock, batchSize, onCommit } = options;
  const sources = new Map<string, Source>();
  const positions: (LedgerPosition | null)[] = [];
  for (const channel of claim.feed.channels) {
    const key = { source: channel.contour, channel: channel.name, partition: claim.partition };
    const position = await store.position(key);
    positions.push(position);
    const lane = new Lane({ store, key, feed: claim.feed.name, lease: held, clock, batchSize, onCommit }, position);
    sources.set(channel.contour, { channel, lane, sequencer: new Sequencer(position, HELD_BYTES), gapSince: null });
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
      if (!(await queue.push(delivery, delivery.body.length + 1_024))) break;
    }
    queue.close();
  } catch (error) {
    queue.fail(error);
  }
}

async function accept(options: ReaderOptions, sources: ReadonlyMap<string, Source>, delivery: Delivery): Promise<void> {
  const envelope = envelopeOf(options, delivery);
  const source = envelope && sources.get(envelope.contour);
  // I10: only contours named in consumer.from; on a shared topic our own messages pass by here as well.
  if (!envelope || !source || (envelope.format === "frame/1") !== (source.channel.kind === "frames")) {
    options.onMessage("foreign");
    return;
  }
  const verdict = source.sequencer.offer(envelope, { envelope, delivery }, delivery.body.length);
  switch (verdict.kind) {
    case "duplicate":
      options.onMessage("duplicate");
      return;
    case "held":
      return;
    case "overflow":
      throw gap(source.channel, verdict.missing, options.claim.partition);
    case "epoch":
      throw epochBroke(source.channel, verdict);
    case "pass":
      source.gapSince = null;
      for (const arrival of verdict.items) {
        options.onMessage("new");
        await source.lane.take({
          batch: batchOf(arrival.envelope, arrival.delivery),
          delivery: arrival.delivery,
          boundary: boundaryOf(arrival.envelope),
          bytes: arrival.delivery.body.length,
        });
      }
  }
}

function envelopeOf(options: ReaderOptions, delivery: Delivery): Envelope | null {
  try {
    return parseEnvelope(delivery.headers);
  } catch (error) {
    // Not ours, so nothing of ours is dropped by passing over it; a hole in our own numbering would show as a gap.
    options.logger.debug({ feed: options.claim.feed.name, offset: delivery.next.offset }, String(error));
    return null;
  }
}

/** Turns a stall into an error with a name. */
function watch(source: Source, clock: Clock, pulledAt: number): void {
  const { sequencer, lane, channel } = source;
  if (sequencer.missing === null) source.gapSince = null;
  else {
    source.gapSince ??= clock.monotonic();
    if (clock.monotonic() - source.gapSince > GAP_GRACE_MS) throw gap(channel, sequencer.missing, 0);
  }
  if (lane.streaming && clock.monotonic() - pulledAt > STALL_MS) {
    throw new ReplicatorError({
      code: "consume.stalled",
      message: `A large transaction of ${channelLabel(channel)} stopped arriving for ${STALL_MS / 1000} s; rolled back, it will be read again`,
      retry: "backoff",
      fault: "environment",
    });
  }
}

function gap(channel: Channel, missing: number, partition: number): ReplicatorError {
  return new ReplicatorError({
    code: "consume.gap",
    message: `Sequence ${missing} of channel ${channelLabel(channel)} (partition ${partition}) is missing, later messages are there; the channel stops, nothing is skipped`,
    retry: "backoff",
    fault: "environment",
    facts: { channel: channelLabel(channel), missing, partition },
    remedy:
      "Messages were deleted before they were applied: keep topics longer (retention), then copy the tables afresh",
  });
}

function epochBroke(channel: Channel, verdict: { readonly found: number; readonly expected: number }): ReplicatorError {
  return new ReplicatorError({
    code: "consume.epoch",
    message: `Channel ${channelLabel(channel)} goes on with epoch ${verdict.found}, the ledger has epoch ${verdict.expected}: the history of contour "${channel.contour}" broke; the channel stops`,
    retry: "backoff",
    fault: "environment",
    facts: { channel: channelLabel(channel), epoch: verdict.found, ledger_epoch: verdict.expected },
    remedy: `Contour "${channel.contour}" was restored: compare the contours and copy its tables afresh before going on`,
  });
}
