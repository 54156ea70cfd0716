import type { Clock } from "../../src/core/clock.ts";

/** A clock that is moved by hand: advance() wakes the sleepers whose time has come. */
export class HandClock implements Clock {
  #time = 0;
  #sleepers: { at: number; wake: () => void }[] = [];
  monotonic = () => this.#time;
  now = () => this.#time;
  sleep(ms: number, signal?: AbortSignal): Promise<void> {
    if (signal?.aborted) return Promise.resolve();
    return new Promise((resolve) => {
      this.#sleepers.push({ at: this.#time + ms, wake: resolve });
      signal?.addEventListener("abort", () => resolve(), { once: true });
    });
  }
  async advance(ms: number): Promise<void> {
    const end = this.#time + ms;
    while (this.#time < end) {
      this.#time = Math.min(end, this.#time + 10);
      const due = this.#sleepers.filter(({ at }) => at <= this.#time);
      this.#sleepers = this.#sleepers.filter(({ at }) => at > this.#time);
      for (const { wake } of due) wake();
      for (let turn = 0; turn < 20; turn++) await Promise.resolve();
    }
  }
}
