/** A bell between loops of one process: the sleeper wakes when it rings, or after its time. A ring before the sleep counts. */
export class Wake {
  #rung = false;
  #sleepers: (() => void)[] = [];

  ring(): void {
    this.#rung = true;
    for (const wake of this.#sleepers.splice(0)) wake();
  }

  /** Never rejects. */
  wait(ms: number, signal: AbortSignal): Promise<void> {
    if (this.#rung || signal.aborted) {
      this.#rung = false;
      return Promise.resolve();
    }
    return new Promise((resolve) => {
      const done = () => {
        clearTimeout(timer);
        signal.removeEventListener("abort", done);
        this.#sleepers = this.#sleepers.filter((other) => other !== done);
        this.#rung = false;
        resolve();
      };
      const timer = setTimeout(done, ms);
      signal.addEventListener("abort", done, { once: true });
      this.#sleepers.push(done);
    });
  }
}
