/** Exponential backoff with full jitter above half: keeps retries of many processes apart. */
export interface BackoffOptions {
  readonly firstMs: number;
  readonly maxMs: number;
  readonly random?: () => number;
}

export class Backoff {
  #attempt = 0;
  readonly #options: BackoffOptions;
  constructor(options: BackoffOptions) {
    this.#options = options;
  }
  /** Milliseconds to wait before the next attempt. */
  next(): number {
    const cap = Math.min(this.#options.maxMs, this.#options.firstMs * 2 ** Math.min(this.#attempt++, 30));
    return cap / 2 + (cap / 2) * (this.#options.random ?? Math.random)();
  }
  reset(): void {
    this.#attempt = 0;
  }
  get attempts(): number {
    return this.#attempt;
  }
}
