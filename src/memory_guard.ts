/**
 * Keeps the resident memory near what is really in use. Everything the engine holds is bounded in bytes (I11), but the
 * runtime collects garbage lazily: a fast stream of frames lets the heap grow several times over its live set before it
 * does. Asking it in time costs some milliseconds per 16 MB and keeps a process below 200 MB.
 */
import process from "node:process";
import type { Clock } from "./core/clock.ts";

const LOOK_EVERY_MS = 100;
/** Below this nothing is asked: an idle process is not disturbed. */
const QUIET_BYTES = 110e6;
const GROWTH_BYTES = 16e6;

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
    if (resident > QUIET_BYTES && resident > after + GROWTH_BYTES) {
      runtime.gc(true);
      after = process.memoryUsage.rss();
    } else if (resident < after) {
      after = resident;
    }
    await clock.sleep(LOOK_EVERY_MS, signal);
  }
}
