/** Waits that end: by the work, by the deadline, or by the signal. */
import type { Clock } from "../../src/core/clock.ts";

export class DeadlinePassed extends Error {
  constructor(ms: number) {
    super(`No answer within ${ms} ms`);
    this.name = "DeadlinePassed";
  }
}

/** The work's result. @throws DeadlinePassed after `ms`, the signal's reason when it aborts; the work itself goes on unheard */
export async function withDeadline<T>(work: Promise<T>, ms: number, clock: Clock, signal: AbortSignal): Promise<T> {
  // A failure that comes after the deadline has nobody left to tell.
  work.catch(() => undefined);
  const timer = new AbortController();
  const until = AbortSignal.any([signal, timer.signal]);
  const late = clock.sleep(ms, until).then((): never => {
    signal.throwIfAborted();
    throw new DeadlinePassed(ms);
  });
  late.catch(() => undefined);
  try {
    return await Promise.race([work, late]);
  } finally {
    timer.abort();
  }
}
