/**
 * Sends one channel: works through the cuts in order under the channel's lease, and records a cut as confirmed when the
 * broker has confirmed every message of it. Whoever repeats a cut sends the same bytes (I13), so every failure has one
 * cure: send again from the first message without a confirmation.
 */
import { Backoff } from "../core/backoff.ts";
import type { Publisher } from "../core/broker.ts";
import { type Channel, channelLabel } from "../core/channel.ts";
import type { Clock } from "../core/clock.ts";
import { ReplicatorError } from "../core/errors.ts";
import { type HeldLease, LeaseKeeper } from "../core/lease_keeper.ts";
import type { Logger } from "../core/logger.ts";
import { type LoopHealth, runLoop } from "../core/loop.ts";
import type { Message } from "../core/message.ts";
import type { Cut, SourceStore } from "../core/source_store.ts";
import type { Wake } from "../core/wake.ts";
import { cutMessages } from "./cut_messages.ts";

export interface SenderStats {
  messages: number;
  bytes: number;
  /** Changes in confirmed cuts. */
  changes: number;
  failures: number;
  /** The last cut this process knows to be confirmed; 0 before the first. */
  confirmedCut: number;
  /** True while this process holds the channel's lease. */
  owner: boolean;
}

export interface SenderOptions {
  readonly store: SourceStore;
  readonly publisher: Publisher;
  readonly channel: Channel;
  readonly owner: string;
  readonly leaseMs: number;
  /** Milliseconds a send may take; sending stops when the lease has less left (architecture §4.3). */
  readonly sendDeadlineMs: number;
  /** Messages in one send at most. */
  readonly batchSize: number;
  readonly pollIntervalMs: number;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly health: LoopHealth;
  readonly stats: SenderStats;
  /** Rung when this process has taken a cut. */
  readonly wake: Wake;
  /** `stats.owner` has changed. */
  onOwner(channel: Channel): void;
  /** Called when a cut has been sent and recorded, with the number of changes in it. */
  onSent(channel: Channel, changes: number): void;
  onMessages(
    channel: Channel,
    sent: { readonly messages: number; readonly bytes: number; readonly failures: number },
  ): void;
}

/** Bytes in one send at most; with one send in flight and one being made this bounds a sender's memory (I11). */
const SEND_BYTES = 2 * 1024 * 1024;
const CUTS_AT_A_TIME = 16;
const RECORD_EMPTY_MS = 1_000;

export function runSender(options: SenderOptions, signal: AbortSignal): Promise<void> {
  const { store, channel, owner, leaseMs, clock, logger, stats } = options;
  const keeper = new LeaseKeeper({
    what: `channel ${channelLabel(channel)}`,
    ttlMs: leaseMs,
    acquire: () => store.lease("channel", channel.name, owner, leaseMs),
    release: (lease) => store.releaseLease("channel", channel.name, lease),
    clock,
    logger,
  });
  return runLoop({
    name: `publisher of ${channelLabel(channel)}`,
    health: options.health,
    clock,
    logger,
    signal,
    body: async (moving) => {
      const work = async (held: HeldLease, lost: AbortSignal) => {
        stats.owner = true;
        options.onOwner(channel);
        try {
          await sendCuts(options, held, lost, moving);
        } finally {
          stats.owner = false;
          options.onOwner(channel);
        }
      };
      await keeper.hold(signal, work, moving);
    },
  });
}

async function sendCuts(options: SenderOptions, held: HeldLease, lost: AbortSignal, moving: () => void): Promise<void> {
  const { store, channel, stats, clock } = options;
  const state = await store.channelState(channel.name, channel.partitions);
  let sequences = state.sequences;
  let last = state.confirmedCut;
  stats.confirmedCut = last;
  // Cuts without messages of this channel are recorded once a second, not one by one: found again, they are empty again.
  let unrecorded: Cut | null = null;
  let recordedAt = clock.monotonic();
  const record = async (cut: Cut) => {
    await store.confirm(channel.name, held.get(), cut, sequences);
    unrecorded = null;
    recordedAt = clock.monotonic();
  };
  while (!lost.aborted) {
    const cuts = await store.cutsAfter(last, CUTS_AT_A_TIME);
    moving();
    for (const cut of cuts) {
      if (lost.aborted) return;
      const { sequences: next, changes } = await sendCut(options, held, cut, sequences, lost);
      const sent = next.some((sequence, partition) => sequence !== sequences[partition]);
      sequences = next;
      last = cut.cutNo;
      if (sent) await record(cut);
      else unrecorded = cut;
      stats.confirmedCut = last;
      stats.changes += changes;
      options.onSent(channel, changes);
      moving();
    }
    if (unrecorded && clock.monotonic() - recordedAt > RECORD_EMPTY_MS) await record(unrecorded);
    if (cuts.length === 0) await options.wake.wait(options.pollIntervalMs, lost);
  }
}

/** Sends all messages of a cut. Reading and encoding go on while a send is in flight. */
async function sendCut(
  options: SenderOptions,
  held: HeldLease,
  cut: Cut,
  sequences: readonly number[],
  lost: AbortSignal,
): Promise<{ readonly sequences: readonly number[]; readonly changes: number }> {
  const { store, channel } = options;
  let changes = 0;
  const onChanges = (read: number) => {
    changes += read;
  };
  const messages = cutMessages({ store, channel, cut, sequences, onChanges }, lost);
  let batch: Message[] = [];
  let bytes = 0;
  let inFlight: Promise<void> = Promise.resolve();
  const flush = async () => {
    await inFlight;
    if (batch.length === 0) return;
    const sending = batch;
    batch = [];
    bytes = 0;
    inFlight = sendAll(options, held, sending, lost);
    // The rejection is taken at the next await of inFlight; this keeps it from counting as unhandled meanwhile.
    inFlight.catch(() => undefined);
  };
  try {
    for (;;) {
      const step = await messages.next();
      if (step.done) {
        await flush();
        await inFlight;
        return { sequences: step.value, changes };
      }
      for (const message of step.value) {
        batch.push(message);
        bytes += message.body.length;
        if (batch.length >= options.batchSize || bytes >= SEND_BYTES) await flush();
      }
    }
  } finally {
    await messages.return([]);
  }
}

/** Sends until every message is confirmed, resending from the first failure, while the lease lasts. */
async function sendAll(options: SenderOptions, held: HeldLease, messages: Message[], lost: AbortSignal): Promise<void> {
  const { publisher, channel, clock, logger, stats, health } = options;
  const backoff = new Backoff({ firstMs: 50, maxMs: 2_000 });
  let rest = messages;
  while (rest.length > 0) {
    held.require(options.sendDeadlineMs);
    if (lost.aborted) throw abortError();
    const outcomes = await publisher.send(channel, rest, options.sendDeadlineMs);
    let failed = outcomes.findIndex((outcome) => !outcome.ok);
    if (failed < 0) failed = rest.length;
    const bytes = rest.slice(0, failed).reduce((sum, { body }) => sum + body.length, 0);
    stats.messages += failed;
    stats.bytes += bytes;
    const outcome = outcomes[failed];
    options.onMessages(channel, { messages: failed, bytes, failures: outcome ? 1 : 0 });
    rest = rest.slice(failed);
    if (!outcome || outcome.ok) {
      if (health.trouble !== null) {
        logger.info({ channel: channelLabel(channel) }, "the broker takes messages again");
        health.trouble = null;
      }
      continue;
    }
    if (outcome.error.retry === "never") throw outcome.error;
    stats.failures++;
    health.errors++;
    health.lastError = outcome.error.message;
    if (health.trouble !== outcome.error.message) {
      health.trouble = outcome.error.message;
      logger.warn(
        { channel: channelLabel(channel), code: outcome.error.code, waiting: rest.length },
        `${outcome.error.message}; the changes stay queued, sending again until it works`,
      );
    }
    await clock.sleep(backoff.next(), lost);
  }
}

function abortError(): ReplicatorError {
  return new ReplicatorError({
    code: "lease.lost",
    message: "Stopped sending: the lease was lost or the program is stopping",
    retry: "now",
    fault: "environment",
  });
}
