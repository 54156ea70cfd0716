/** One process of the engine: it may be killed, freeze for a while, or be asked to stop. Its memory is what its promises hold. */
import type { Clock } from "../../../src/core/clock.ts";
import type { Owner, Scheduler } from "./scheduler.ts";

export class Host implements Owner {
  /** Names it in leases; a process that starts anew has another name. */
  readonly name: string;
  readonly clock: Clock;
  readonly #scheduler: Scheduler;
  readonly #stop = new AbortController();
  readonly #atDeath: (() => void)[] = [];
  #alive = true;
  #frozenUntil = 0;

  constructor(name: string, scheduler: Scheduler) {
    this.name = name;
    this.#scheduler = scheduler;
    this.clock = {
      monotonic: () => scheduler.now,
      now: () => scheduler.now,
      sleep: (ms, signal) => this.#sleep(ms, signal),
    };
  }

  get alive(): boolean {
    return this.#alive;
  }

  get frozenUntil(): number {
    return this.#frozenUntil;
  }

  /** Aborts when the process is asked to stop gracefully. */
  get signal(): AbortSignal {
    return this.#stop.signal;
  }

  /** Called at once when the process is gone, killed or ended. */
  atDeath(run: () => void): void {
    this.#atDeath.push(run);
  }

  /** From now on none of its promises goes on: no clean-up, no answer. */
  kill(): void {
    if (!this.#alive) return;
    this.#alive = false;
    for (const run of this.#atDeath.splice(0)) run();
  }

  /** It gets no processor for a while: leases run out, answers wait. */
  freeze(ms: number): void {
    this.#frozenUntil = this.#scheduler.now + ms;
  }

  thaw(): void {
    this.#frozenUntil = Math.min(this.#frozenUntil, this.#scheduler.now);
  }

  /** Asks it to stop, as SIGTERM does. */
  stop(): void {
    this.#scheduler.after(0, this, () => this.#stop.abort());
  }

  #sleep(ms: number, signal: AbortSignal | undefined): Promise<void> {
    if (signal?.aborted) return Promise.resolve();
    return new Promise((resolve) => {
      const done = () => {
        timer.run = null;
        signal?.removeEventListener("abort", done);
        resolve();
      };
      const timer = this.#scheduler.after(ms, this, done);
      signal?.addEventListener("abort", done, { once: true });
    });
  }
}
