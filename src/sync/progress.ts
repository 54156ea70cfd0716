/** Lets sync_state follow the broker and tells /status what the database knows of the polls, of other processes' as well. */
import type { Clock } from "../core/clock.ts";
import type { Logger } from "../core/logger.ts";
import { type LoopHealth, runLoop } from "../core/loop.ts";
import type { SyncSource, SyncState } from "../core/sync_source.ts";

export interface ProgressOptions {
  readonly source: SyncSource;
  readonly tables: readonly string[];
  readonly clock: Clock;
  readonly logger: Logger;
  readonly health: LoopHealth;
  onState(state: SyncState): void;
}

const EVERY_MS = 1_000;

export function runProgress(options: ProgressOptions, signal: AbortSignal): Promise<void> {
  const { source, tables, clock, logger, health, onState } = options;
  return runLoop({
    name: "sync state",
    health,
    clock,
    logger,
    signal,
    body: async (moving) => {
      while (!signal.aborted) {
        await source.confirm();
        for (const state of await source.states(tables)) onState(state);
        moving();
        await clock.sleep(EVERY_MS, signal);
      }
    },
  });
}
