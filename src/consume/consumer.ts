/** The consumer role: for every feed of the contours it accepts, the claims the broker hands out, each read under its lease. */

import { Backoff } from "../core/backoff.ts";
import type { Broker, Claim, Feed } from "../core/broker.ts";
import { type Channel, channelLabel } from "../core/channel.ts";
import type { Clock } from "../core/clock.ts";
import { isAbort, type ReplicatorError } from "../core/errors.ts";
import { LeaseKeeper } from "../core/lease_keeper.ts";
import type { Logger } from "../core/logger.ts";
import { type LoopHealth, runLoop } from "../core/loop.ts";
import type { TargetStore } from "../core/target_store.ts";
import type { CommitReport } from "./lane.ts";
import { readClaim } from "./reader.ts";

export interface ConsumerOptions {
  readonly broker: Broker;
  readonly store: TargetStore;
  /** Channels of other contours. */
  readonly channels: readonly Channel[];
  readonly group: string;
  readonly owner: string;
  readonly leaseMs: number;
  readonly batchSize: number;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Health record of a loop by its name; made on first use. */
  health(name: string): LoopHealth;
  onCommit(report: CommitReport): void;
  onMessage(kind: "new" | "duplicate" | "foreign"): void;
  /** A partition of a feed is read by this process, under its lease, from now on; or no more. */
  onReading(feed: Feed, partition: number, reading: boolean): void;
}

const PARKED_EVERY_MS = 1_000;
const PARKED_AT_A_TIME = 200;
/** A channel that stopped is tried again, in case its messages were brought back. */
const RETRY_STOPPED = { firstMs: 2_000, maxMs: 60_000 };

/** Runs until the signal aborts. @throws what cannot be mended by waiting */
export async function runConsumer(options: ConsumerOptions, signal: AbortSignal): Promise<void> {
  const failed = new AbortController();
  const until = AbortSignal.any([signal, failed.signal]);
  const loops = options.broker.feeds(options.channels).map((feed) => runFeed(options, feed, until));
  loops.push(runParkedRetries(options, until));
  // The first loop that cannot go on ends the others; its error is the consumer's.
  await Promise.all(
    loops.map((loop) =>
      loop.catch((error: unknown) => {
        failed.abort();
        throw error;
      }),
    ),
  );
}

async function runFeed(options: ConsumerOptions, feed: Feed, signal: AbortSignal): Promise<void> {
  const name = `consumer of ${feed.name}`;
  const running = new Set<Promise<void>>();
  const failed = new AbortController();
  let failure: unknown = null;
  await runLoop({
    name,
    health: options.health(name),
    clock: options.clock,
    logger: options.logger,
    signal: AbortSignal.any([signal, failed.signal]),
    body: async (moving) => {
      for await (const claim of options.broker.claims(feed, options.group, AbortSignal.any([signal, failed.signal]))) {
        moving();
        const reading = runClaim(options, claim, signal)
          .catch((error: unknown) => {
            failure ??= error;
            failed.abort();
          })
          .finally(() => running.delete(reading));
        running.add(reading);
      }
    },
  }).catch((error: unknown) => {
    failure ??= error;
  });
  await Promise.all(running);
  if (failure !== null) throw failure;
}

async function runClaim(options: ConsumerOptions, claim: Claim, signal: AbortSignal): Promise<void> {
  const { store, owner, leaseMs, batchSize, clock, logger, onMessage } = options;
  const where = `${claim.feed.name}[${claim.partition}]`;
  const until = AbortSignal.any([signal, claim.lost]);
  const keeper = new LeaseKeeper({
    what: where,
    ttlMs: leaseMs,
    acquire: () => store.lease(claim.feed.name, claim.partition, owner, leaseMs),
    release: (lease) => store.releaseLease(claim.feed.name, claim.partition, lease),
    clock,
    logger,
  });
  const name = `consumer of ${where}`;
  const health = options.health(name);
  const stops = new Stops(options, claim);
  const reading = (now: boolean) => options.onReading(claim.feed, claim.partition, now);
  await runLoop({
    name,
    health,
    clock,
    logger,
    signal: until,
    body: async (moving) => {
      const onCommit = (report: CommitReport) => {
        moving();
        stops.over(report.key.source);
        options.onCommit(report);
      };
      const onStop = (channel: Channel, error: ReplicatorError) => stops.stopped(channel, error);
      try {
        await keeper.hold(until, async (held, lost) => {
          reading(true);
          const rewind = stops.takeRewind();
          await readClaim({ store, claim, clock, logger, rewind, batchSize, onCommit, onStop, onMessage }, held, lost);
        });
      } finally {
        reading(false);
      }
    },
  });
  health.trouble = null;
  // Whoever reads the partition next says for himself what stops.
  stops.forget();
  await claim.release();
}

/** What a claim's reader knows of channels that stopped, from one reading to the next. */
class Stops {
  readonly #options: ConsumerOptions;
  readonly #claim: Claim;
  readonly #stopped = new Map<string, { readonly backoff: Backoff; readonly health: LoopHealth }>();
  #rewind = false;

  constructor(options: ConsumerOptions, claim: Claim) {
    this.#options = options;
    this.#claim = claim;
  }

  /** Whether the next reading begins at the earliest message; asked once for each. */
  takeRewind(): boolean {
    const rewind = this.#rewind;
    this.#rewind = false;
    return rewind;
  }

  /** Says so, and how long the channel rests. */
  stopped(channel: Channel, error: ReplicatorError): number {
    const { logger, health } = this.#options;
    const where = `${this.#claim.feed.name}[${this.#claim.partition}]`;
    const known = this.#stopped.get(channel.contour);
    // Each try ends with a reading of the whole log: the position may be wrong rather than the log.
    this.#rewind = true;
    if (!known) {
      const name = `channel ${channelLabel(channel)}[${this.#claim.partition}]`;
      this.#stopped.set(channel.contour, { backoff: new Backoff(RETRY_STOPPED), health: health(name) });
      logger.info({ feed: where, code: error.code }, "reading the log again from its earliest message");
      return 0;
    }
    known.health.errors++;
    known.health.lastError = error.message;
    if (known.health.trouble !== error.message)
      logger.error({ feed: where, code: error.code, ...error.facts, remedy: error.remedy }, error.message);
    known.health.trouble = error.message;
    return known.backoff.next();
  }

  /** The contour's changes are applied again. */
  over(contour: string): void {
    const known = this.#stopped.get(contour);
    if (!known) return;
    this.#stopped.delete(contour);
    if (known.health.trouble !== null)
      this.#options.logger.info({ channel: known.health.name }, `${known.health.name}: going on again`);
    known.health.trouble = null;
  }

  forget(): void {
    for (const { health } of this.#stopped.values()) health.trouble = null;
    this.#stopped.clear();
  }
}

function runParkedRetries(options: ConsumerOptions, signal: AbortSignal): Promise<void> {
  const { store, clock, logger } = options;
  return runLoop({
    name: "parked changes",
    health: options.health("parked changes"),
    clock,
    logger,
    signal,
    body: async (moving) => {
      try {
        const { tried, resolved } = await store.retryParked(PARKED_AT_A_TIME);
        moving();
        if (resolved > 0) logger.info({ resolved, tried }, "parked changes applied or superseded");
      } catch (error) {
        if (isAbort(error)) return;
        throw error;
      }
      await clock.sleep(PARKED_EVERY_MS, signal);
    },
  });
}
