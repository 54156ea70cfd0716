/** Polls one table: a timer under a lease asks for runs, and whoever else asks is served by the same loop (architecture §8). */
import type { Clock } from "../core/clock.ts";
import { ReplicatorError } from "../core/errors.ts";
import { LeaseKeeper } from "../core/lease_keeper.ts";
import type { Logger } from "../core/logger.ts";
import { type LoopHealth, runLoop } from "../core/loop.ts";
import type { SyncSource } from "../core/sync_source.ts";
import type { SyncRequest } from "./requests.ts";

export interface PolledTable {
  readonly name: string;
  readonly intervalMs: number;
  /** How often keys are compared where no trigger tells of deletions. */
  readonly compareEveryMs: number;
  readonly overlapMs: number;
  readonly batchSize: number;
}

export interface PollerOptions {
  readonly table: PolledTable;
  readonly source: SyncSource;
  readonly request: SyncRequest;
  readonly owner: string;
  readonly leaseMs: number;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Of the polls, and of the timer's lease. */
  readonly health: { readonly poll: LoopHealth; readonly timer: LoopHealth };
  /** A run has ended; its changes are in the queue. */
  onRun(rows: number, milliseconds: number): void;
  /** When the timer will ask next, in milliseconds since 1970; null: another process's timer does. */
  onSchedule(next: number | null): void;
}

/** Two loops; both end when the signal aborts. */
export function runPoller(options: PollerOptions, signal: AbortSignal): readonly Promise<void>[] {
  return [runTimer(options, signal), runPolls(options, signal)];
}

/** The first run at the start. Another process that takes over polls at once. */
function runTimer(options: PollerOptions, signal: AbortSignal): Promise<void> {
  const { table, source, request, owner, leaseMs, clock, logger, onSchedule } = options;
  const keeper = new LeaseKeeper({
    what: `the polls of ${table.name}`,
    ttlMs: leaseMs,
    acquire: () => source.lease(table.name, owner, leaseMs),
    release: (lease) => source.releaseLease(table.name, lease),
    clock,
    logger,
  });
  const body = async (moving: () => void) => {
    await keeper.hold(
      signal,
      async (_, lost) => {
        moving();
        while (!lost.aborted) {
          request.ask();
          onSchedule(clock.now() + table.intervalMs);
          await clock.sleep(table.intervalMs, lost);
        }
        onSchedule(null);
      },
      moving,
    );
  };
  return runLoop({ name: `timer of ${table.name}`, health: options.health.timer, clock, logger, signal, body });
}

function runPolls(options: PollerOptions, signal: AbortSignal): Promise<void> {
  const { table, source, request, clock, logger, onRun } = options;
  const poll = async (moving: () => void) => {
    const startedAt = clock.monotonic();
    try {
      const gone = await source.compareKeys(table.name, table.compareEveryMs);
      if (gone !== null && gone > 0) logger.info({ table: table.name, rows: gone }, `${table.name}: rows were deleted`);
      await source.begin(table.name, table.overlapMs);
      for (;;) {
        const { rows, finished } = await source.batch(table.name, table.batchSize);
        moving();
        if (finished) {
          onRun(rows, clock.monotonic() - startedAt);
          return;
        }
        // What is committed stays; the next process goes on there.
        if (signal.aborted) return;
      }
    } catch (error) {
      throw heldBack(error);
    }
  };
  const body = (moving: () => void) => request.serve(() => poll(moving), signal);
  return runLoop({ name: `sync of ${table.name}`, health: options.health.poll, clock, logger, signal, body });
}

/** What ends a process elsewhere holds up one table here: the others go on, and a person may mend it meanwhile. */
function heldBack(error: unknown): unknown {
  if (!(error instanceof ReplicatorError) || error.retry !== "never" || error.fault === "internal") return error;
  const { code, message, fault, facts, remedy } = error;
  const told = remedy === undefined ? message : `${message}. ${remedy}`;
  return new ReplicatorError({ code, message: told, retry: "backoff", fault, facts, remedy, cause: error });
}
