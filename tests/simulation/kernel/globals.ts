/** Puts virtual time, seeded randomness and collectable signals under code that uses the runtime's own: Wake, Backoff, the roles. */
import { MODEL_SIGNALS } from "./abort.ts";
import type { Random } from "./random.ts";
import type { Scheduler, Timer } from "./scheduler.ts";

const REPLACED = ["setTimeout", "clearTimeout", "AbortController", "AbortSignal"] as const;

/**
 * Runs `body` with setTimeout, clearTimeout, the signals and Math.random replaced. `body` is synchronous: what it leaves pending is
 * never continued.
 */
export function withVirtualTime<T>(scheduler: Scheduler, random: Random, body: () => T): T {
  const originals = REPLACED.map((name) => [name, Object.getOwnPropertyDescriptor(globalThis, name)] as const);
  const { random: realRandom } = Math;
  const timers = new Map<number, Timer>();
  let ids = 0;
  const replace = (name: (typeof REPLACED)[number], value: unknown) =>
    Object.defineProperty(globalThis, name, { value, configurable: true, writable: true });
  replace("setTimeout", (run: () => void, ms = 0) => {
    const id = ++ids;
    const fire = () => {
      timers.delete(id);
      run();
    };
    timers.set(id, scheduler.after(ms, scheduler.current, fire));
    return id;
  });
  replace("clearTimeout", (id: number | undefined) => {
    const timer = id === undefined ? undefined : timers.get(id);
    if (!timer || id === undefined) return;
    timer.run = null;
    timers.delete(id);
  });
  for (const name of ["AbortController", "AbortSignal"] as const) replace(name, MODEL_SIGNALS[name]);
  Math.random = random.next;
  try {
    return body();
  } finally {
    Math.random = realRandom;
    for (const [name, descriptor] of originals) if (descriptor) Object.defineProperty(globalThis, name, descriptor);
  }
}
