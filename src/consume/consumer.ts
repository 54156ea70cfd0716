/** The consumer role: for every feed of the contours it accepts, the claims the broker hands out, each read under its lease. */

import { Backoff } from "../core/backoff.ts";
import type { Broker, Claim, Feed } from "../core/broker.ts";
import type { Channel } from "../core/channel.ts";
import type { Clock } from "../core/clock.ts";
import { isAbort, ReplicatorError } from "../core/errors.ts";
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
  /** The claims this process reads under a lease right now changed. */
  onReading(feed: string, partition: number, reading: boolean): void;
}

const PARKED_EVERY_MS = 1_000;
const PARKED_AT_A_TIME = 200;
/** Reading on would skip something: the channel stops and says so, the others go on. */
const STOPPING = new Set(["consume.gap", "consume.epoch", "wire.bad_frame", "wire.bad_header"]);

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
  const { store, owner, leaseMs, batchSize, clock, logger } = options;
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
  const stopped = new Backoff({ firstMs: 2_000, maxMs: 60_000 });
  let rewind = false;
  await runLoop({
    name,
    health,
    clock,
    logger,
    signal: until,
    body: async (moving) => {
      try {
        await keeper.hold(until, async (held, lost) => {
          options.onReading(claim.feed.name, claim.partition, true);
          const onCommit = (report: CommitReport) => {
            moving();
            stopped.reset();
            rewind = false;
            options.onCommit(report);
          };
          const { onMessage } = options;
          await readClaim({ store, claim, clock, logger, rewind, batchSize, onCommit, onMessage }, held, lost);
        });
      } catch (error) {
        if (isStopped(error)) {
          // The position may be wrong rather than the log: read it once from its beginning before saying that it has a hole.
          if (!rewind) {
            rewind = true;
            logger.info({ feed: where, code: error.code }, "reading the log again from its earliest message");
            return;
          }
          health.trouble = error.message;
          health.errors++;
          health.lastError = error.message;
          logger.error({ feed: where, code: error.code, ...error.facts, remedy: error.remedy }, error.message);
          await clock.sleep(stopped.next(), until);
          return;
        }
        throw error;
      } finally {
        options.onReading(claim.feed.name, claim.partition, false);
      }
    },
  });
  health.trouble = null;
  await claim.release();
}

function isStopped(error: unknown): error is ReplicatorError {
  return error instanceof ReplicatorError && STOPPING.has(error.code);
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
