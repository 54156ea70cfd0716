/**
 * Hands values from callbacks to one async iteration. The giver bounds what it gives (claims: one a partition); for
 * messages there is ByteQueue.
 */
export class Mailbox<T> {
  readonly #values: T[] = [];
  #ended = false;
  #failure: unknown = null;
  #wake: (() => void) | null = null;

  get ended(): boolean {
    return this.#ended;
  }

  /** False when the mailbox has ended: the value was not taken. */
  put(value: T): boolean {
    if (this.#ended) return false;
    this.#values.push(value);
    this.#wake?.();
    return true;
  }

  /** Values inside are still given, then the iteration ends. Safe to call twice. */
  end(): void {
    this.#ended = true;
    this.#wake?.();
  }

  /** As end, and the iteration throws `error` in the end. */
  fail(error: unknown): void {
    if (this.#ended) return;
    this.#failure = error;
    this.end();
  }

  /** Ends at once when the signal aborts. */
  async *values(signal: AbortSignal): AsyncGenerator<T, void, undefined> {
    const wake = () => this.#wake?.();
    signal.addEventListener("abort", wake);
    try {
      while (!signal.aborted) {
        const value = this.#values.shift();
        if (value !== undefined) {
          yield value;
          continue;
        }
        if (this.#ended) break;
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
        this.#wake = null;
      }
    } finally {
      signal.removeEventListener("abort", wake);
    }
    if (!signal.aborted && this.#failure !== null) throw this.#failure;
  }
}
