/** What two databases say for /status: one that is away or silent must not hide what the other says. */
import type { Clock } from "../core/clock.ts";
import { ReplicatorError } from "../core/errors.ts";

/** One question at a time to each, waited for no longer than this; /status waits a little longer. */
const ANSWER_MS = 1_000;

/** Asks all; what one of them does not answer in time is what it said last. */
export function combined<T extends object>(
  asks: readonly (() => Promise<Partial<T>>)[],
  clock: Pick<Clock, "sleep">,
): () => Promise<Partial<T>> {
  const known: Partial<T> = {};
  const parts = asks.map((ask) => {
    let asking: Promise<void> | null = null;
    const learn = async () => {
      try {
        Object.assign(known, await ask());
      } catch (error) {
        // That it is away the watch over it says.
        if (!(error instanceof ReplicatorError)) throw error;
      } finally {
        asking = null;
      }
    };
    return () => {
      asking ??= learn();
      return asking;
    };
  });
  return async () => {
    const answered = new AbortController();
    try {
      await Promise.race([Promise.all(parts.map((part) => part())), clock.sleep(ANSWER_MS, answered.signal)]);
    } finally {
      answered.abort();
    }
    return { ...known };
  };
}
