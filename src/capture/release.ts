/** Empties the queue's ring slots in the background (I3): confirmed by the broker and older than the retention. */
import type { Clock } from "../core/clock.ts";
import type { Logger } from "../core/logger.ts";
import { type LoopHealth, runLoop } from "../core/loop.ts";
import type { SourceStore } from "../core/source_store.ts";

export interface ReleaseOptions {
  readonly store: SourceStore;
  readonly retentionMs: number;
  readonly everyMs: number;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly health: LoopHealth;
  onReleased(slots: number): void;
}

export function runRelease(options: ReleaseOptions, signal: AbortSignal): Promise<void> {
  const { store, clock, logger } = options;
  return runLoop({
    name: "release",
    health: options.health,
    clock,
    logger,
    signal,
    body: async (moving) => {
      const slots = await store.release(options.retentionMs);
      moving();
      if (slots > 0) {
        options.onReleased(slots);
        logger.info({ slots }, "queue slots released");
      }
      await clock.sleep(options.everyMs, signal);
    },
  });
}
