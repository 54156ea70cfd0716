/** A queue between two tasks, bounded in bytes (I11): a slow taker slows the giver, memory does not grow. */
export class ByteQueue<T> {
  readonly #capacity: number;
  readonly #items: { value: T; bytes: number }[] = [];
  #bytes = 0;
  #closed = false;
  #failure: unknown = null;
  #wakeTaker: (() => void) | null = null;
  readonly #wakeGivers: (() => void)[] = [];

  /** @param capacityBytes an item larger than this passes alone, when the queue is empty */
  constructor(capacityBytes: number) {
    this.#capacity = capacityBytes;
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** True once no more items will come. */
  get closed(): boolean {
    return this.#closed;
  }

  get length(): number {
    return this.#items.length;
  }

  /** Waits for room. False when the queue was closed meanwhile: the item was not taken. */
  async push(value: T, bytes: number): Promise<boolean> {
    while (!this.#closed && this.#bytes > 0 && this.#bytes + bytes > this.#capacity) {
      await new Promise<void>((resolve) => this.#wakeGivers.push(resolve));
    }
    if (this.#closed) return false;
    this.#items.push({ value, bytes });
    this.#bytes += bytes;
    this.#wakeTaker?.();
    return true;
  }

  /** The next item; undefined when the queue is closed and empty, or after `timeoutMs` without one. @throws the failure given to fail() */
  async take(timeoutMs?: number): Promise<T | undefined> {
    while (this.#items.length === 0) {
      if (this.#failure !== null) throw this.#failure;
      if (this.#closed) return undefined;
      if (!(await this.#arrival(timeoutMs))) return undefined;
    }
    const item = this.#items.shift();
    if (!item) return undefined;
    this.#bytes -= item.bytes;
    for (const wake of this.#wakeGivers.splice(0)) wake();
    return item.value;
  }

  /** No more items; those inside can still be taken. */
  close(): void {
    this.#closed = true;
    this.#wakeTaker?.();
    for (const wake of this.#wakeGivers.splice(0)) wake();
  }

  /** As close, and take() throws `error` once the queue is empty. */
  fail(error: unknown): void {
    this.#failure = error;
    this.close();
  }

  #arrival(timeoutMs: number | undefined): Promise<boolean> {
    return new Promise((resolve) => {
      const timer = timeoutMs === undefined ? undefined : setTimeout(() => finish(false), timeoutMs);
      const finish = (arrived: boolean) => {
        clearTimeout(timer);
        this.#wakeTaker = null;
        resolve(arrived);
      };
      this.#wakeTaker = () => finish(true);
    });
  }
}
