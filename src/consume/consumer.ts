/** The consumer role: for every feed of the contours it accepts, the claims the broker hands out, each read under its lease. */

import type { Broker, Claim, Feed } from "../core/broker.ts";
import type { Channel } from "../core/channel.ts";
import type { Clock } from "../core/clock.ts";
import { isAbort, type ReplicatorError } from "../core/errors.ts";
import { type HeldLease, LeaseKeeper } from "../core/lease_keeper.ts";
import type { Logger } from "../core/logger.ts";
import { type LoopHealth, runLoop } from "../core/loop.ts";
import type { ConflictCount, TargetStore } from "../core/target_store.ts";
import { GroupSize } from "./group_size.ts";
import type { CommitReport } from "./lane.ts";
import { Reach } from "./reach.ts";
import { readClaim } from "./reader.ts";
import { StoppedChannels } from "./stopped_channels.ts";

export interface ConsumerOptions {
  readonly broker: Pick<Broker, "feeds" | "claims">;
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
  /** Of parked changes that were decided; those of a commit are in its report. */
  onConflicts(conflicts: readonly ConflictCount[]): void;
  onMessage(kind: "new" | "duplicate" | "foreign"): void;
  /** A partition of a feed is read by this process, under its lease, from now on; or no more. */
  onReading(feed: Feed, partition: number, reading: boolean): void;
}

const PARKED_EVERY_MS = 500;
const PARKED_AT_A_TIME = 200;

/** Runs until the signal aborts. @throws what cannot be mended by waiting */
export async function runConsumer(options: ConsumerOptions, signal: AbortSignal): Promise<void> {
  const failed = new AbortController();
  const until = AbortSignal.any([signal, failed.signal]);
  const reach = new Reach(options);
  const loops = options.broker.feeds(options.channels).map((feed) => runFeed(options, reach, feed, until));
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

async function runFeed(options: ConsumerOptions, reach: Reach, feed: Feed, signal: AbortSignal): Promise<void> {
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
      const until = AbortSignal.any([signal, failed.signal]);
      await reach.back(until);
      const claims = options.broker.claims(feed, options.group, AbortSignal.any([until, reach.leaving]));
      for await (const claim of claims) {
        moving();
        const reading = runClaim(options, reach, claim, signal)
          .catch((error: unknown) => {
            failure ??= error;
            failed.abort();
          })
          .finally(() => running.delete(reading));
        running.add(reading);
      }
      // What was given up has ended before it is asked for again.
      await Promise.all(running);
    },
  }).catch((error: unknown) => {
    failure ??= error;
  });
  await Promise.all(running);
  if (failure !== null) throw failure;
}

async function runClaim(options: ConsumerOptions, reach: Reach, claim: Claim, signal: AbortSignal): Promise<void> {
  const { store, owner, leaseMs, batchSize, clock, logger, onMessage } = options;
  const where = `${claim.feed.name}[${claim.partition}]`;
  const until = AbortSignal.any([signal, claim.lost]);
  const keeper = new LeaseKeeper({
    what: where,
    ttlMs: leaseMs,
    acquire: () => reach.asking(() => store.lease(claim.feed.name, claim.partition, owner, leaseMs)),
    release: (lease) => store.releaseLease(claim.feed.name, claim.partition, lease),
    clock,
    logger,
  });
  const name = `consumer of ${where}`;
  const health = options.health(name);
  const size = new GroupSize(batchSize);
  const stops = new StoppedChannels({ ...options, feed: claim.feed.name, partition: claim.partition });
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
        const work = async (held: HeldLease, lost: AbortSignal) => {
          reading(true);
          const rewind = stops.takeRewind();
          await readClaim({ store, claim, clock, logger, rewind, size, onCommit, onStop, onMessage }, held, lost);
        };
        await keeper.hold(until, work, moving);
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
        const { tried, resolved, conflicts = [] } = await store.retryParked(PARKED_AT_A_TIME);
        moving();
        options.onConflicts(conflicts);
        if (resolved > 0) logger.info({ resolved, tried }, "parked changes applied or superseded");
        const lifted = await store.recheckDeletes();
        if (lifted > 0) logger.info({ lifted }, "rows inserted here while they were deleted elsewhere live on");
        await store.trimConflictLog();
        // Where some have gone, more may go: what was mended heals at full speed.
        if (resolved > 0) return;
      } catch (error) {
        if (isAbort(error)) return;
        throw error;
      }
      await clock.sleep(PARKED_EVERY_MS, signal);
    },
  });
}
