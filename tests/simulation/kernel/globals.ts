/**
 * Puts virtual time, seeded randomness and collectable signals under code that uses the runtime's own: Wake, ByteQueue,
 * Backoff, the roles.
 */
import { MODEL_SIGNALS } from "./abort.ts";
import type { Random } from "./random.ts";
import type { Scheduler, Timer } from "./scheduler.ts";

const REPLACED = ["setTimeout", "clearTimeout", "AbortController", "AbortSignal"] as const;

/**
 * Runs `body` with setTimeout, clearTimeout, the signals and Math.random replaced. `body` is synchronous: what it leaves
 * pending is never continued.
 * @param stacks whether errors keep their stacks: a tenth of the time of a history, and only traces print them
 */
export function withVirtualTime<T>(scheduler: Scheduler, random: Random, stacks: boolean, body: () => T): T {
  const originals = REPLACED.map((name) => [name, Object.getOwnPropertyDescriptor(globalThis, name)] as const);
  const { random: realRandom } = Math;
  const { stackTraceLimit } = Error;
  const replace = (name: (typeof REPLACED)[number], value: unknown) =>
    Object.defineProperty(globalThis, name, { value, configurable: true, writable: true });
  // The timer itself serves as its id: nobody looks into it.
  replace("setTimeout", (run: () => void, ms = 0) => scheduler.after(ms, scheduler.current, run));
  replace("clearTimeout", (timer: Timer | undefined) => {
    if (timer) timer.run = null;
  });
  for (const name of ["AbortController", "AbortSignal"] as const) replace(name, MODEL_SIGNALS[name]);
  Math.random = random.next;
  if (!stacks) Error.stackTraceLimit = 0;
  try {
    return body();
  } finally {
    Math.random = realRandom;
    Error.stackTraceLimit = stackTraceLimit;
    for (const [name, descriptor] of originals) if (descriptor) Object.defineProperty(globalThis, name, descriptor);
  }
}
