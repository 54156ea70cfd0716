/** Puts virtual time and seeded randomness under code that uses the runtime's own: Wake, ByteQueue, Backoff. */
import type { Random } from "./random.ts";
import type { Scheduler, Timer } from "./scheduler.ts";

const REPLACED = ["setTimeout", "clearTimeout"] as const;

/**
 * Runs `body` with setTimeout, clearTimeout and Math.random replaced. `body` is synchronous: what it leaves pending is
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
  Math.random = random.next;
  try {
    return body();
  } finally {
    Math.random = realRandom;
    for (const [name, descriptor] of originals) if (descriptor) Object.defineProperty(globalThis, name, descriptor);
  }
}
