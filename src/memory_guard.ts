/**
 * Keeps the resident memory near what is really in use. Everything the engine holds is bounded in bytes (I11), but the
 * runtime collects garbage lazily: a fast stream of changes lets the heap grow several times over its live set before it
 * does. Asking it in time keeps a process below 200 MB; the nearer that is, the sooner it is asked.
 */
import process from "node:process";
import type { Clock } from "./core/clock.ts";

const LOOK_EVERY_MS = 50;
/** Below this nothing is asked: an idle process is not disturbed. */
const QUIET_BYTES = 110e6;
/** What a process may grow to between two looks comes on top. */
const CEILING_BYTES = 160e6;
/** Growth since the last collection before the next: half of what is left below the ceiling. Each costs tens of milliseconds. */
const LEAST_GROWTH_BYTES = 6e6;
const MOST_GROWTH_BYTES = 24e6;

interface BunRuntime {
  gc(synchronously: boolean): void;
}

/** Runs until the signal aborts. Does nothing on a runtime that cannot be asked (Deno). */
export async function guardMemory(clock: Clock, signal: AbortSignal): Promise<void> {
  const runtime = (globalThis as { Bun?: BunRuntime }).Bun;
  if (!runtime) return;
  let after = 0;
  while (!signal.aborted) {
    const resident = process.memoryUsage.rss();
    if (resident > QUIET_BYTES && resident > after + growthAllowed(after)) {
      runtime.gc(true);
      after = process.memoryUsage.rss();
    } else if (resident < after) {
      after = resident;
    }
    await clock.sleep(LOOK_EVERY_MS, signal);
  }
}

function growthAllowed(after: number): number {
  return Math.min(MOST_GROWTH_BYTES, Math.max(LEAST_GROWTH_BYTES, (CEILING_BYTES - after) / 2));
}
