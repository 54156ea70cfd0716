/** The loop that empties the queue of what is confirmed and old enough: every role that sends runs it. */
import { runRelease } from "../capture/release.ts";
import type { SourceStore } from "../core/source_store.ts";
import type { Engine } from "./engine.ts";

const RELEASE_EVERY_MS = 30_000;

/** Runs until the signal aborts. */
export function releaseLoop(
  { config, status, metrics, logger, clock }: Omit<Engine, "broker">,
  store: SourceStore,
  signal: AbortSignal,
): Promise<void> {
  return runRelease(
    {
      store,
      retentionMs: config.queue.retention,
      everyMs: RELEASE_EVERY_MS,
      clock,
      logger,
      health: status.health("release"),
      onReleased: (slots) => metrics.releasedSlots.inc(slots),
    },
    signal,
  );
}
