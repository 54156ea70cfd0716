/** How long `verify` waits, all its second looks together, for changes that are on their way. */
import type { Clock } from "../core/clock.ts";

const POLL_MS = 50;

export class Patience {
  readonly #clock: Clock;
  #leftMs: number;

  constructor(leftMs: number, clock: Clock) {
    this.#leftMs = leftMs;
    this.#clock = clock;
  }

  /** Asks until the answer is yes or patience has run out; at least once. Returns the last answer. */
  async until(ask: () => Promise<boolean>, signal: AbortSignal): Promise<boolean> {
    for (;;) {
      const began = this.#clock.monotonic();
      if (await ask()) return true;
      signal.throwIfAborted();
      if (this.#leftMs <= 0) return false;
      await this.#clock.sleep(Math.min(POLL_MS, this.#leftMs), signal);
      this.#leftMs -= this.#clock.monotonic() - began;
    }
  }
}
