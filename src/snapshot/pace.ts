/** How fast a snapshot may go: rows a second, and what may wait in the queue for the broker (I11). Pure but for the clock. */
import type { Clock } from "../core/clock.ts";
import type { Pressure } from "../core/snapshot.ts";

/** Rows of a chunk, and bytes after which it ends: a transaction that fits into one message. */
const CHUNK_ROWS = 5_000;
export const CHUNK_BYTES = 524_288;
/** A rate is kept over stretches of this length. */
const RATE_STRETCH_MS = 200;

export interface PaceOptions {
  /** Rows a second; null: as fast as the broker confirms. */
  readonly rate: number | null;
  readonly clock: Clock;
}

export class Pace {
  readonly #options: PaceOptions;
  readonly #rows: number;
  #next: number;

  constructor(options: PaceOptions) {
    this.#options = options;
    const { rate, clock } = options;
    const stretch = rate === null ? CHUNK_ROWS : Math.ceil((rate * RATE_STRETCH_MS) / 1_000);
    this.#rows = Math.max(1, Math.min(CHUNK_ROWS, stretch));
    this.#next = clock.monotonic();
  }

  /** Rows the next chunk may have. */
  get rows(): number {
    return this.#rows;
  }

  /** Waits until the next chunk may be taken; at once when the signal aborts. */
  async turn(signal: AbortSignal): Promise<void> {
    const { clock } = this.#options;
    const wait = this.#next - clock.monotonic();
    if (wait > 0) await clock.sleep(wait, signal);
  }

  /** So many rows were put into the queue. A pause is not made up for afterwards. */
  took(rows: number): void {
    const { rate, clock } = this.#options;
    if (rate === null) return;
    this.#next = Math.max(this.#next, clock.monotonic() - RATE_STRETCH_MS) + (rows * 1_000) / rate;
  }
}

export interface Limits {
  readonly changes: number;
  readonly bytes: number;
}

export function isAbove({ changes, bytes }: Pressure, limits: Limits): boolean {
  return changes > limits.changes || bytes > limits.bytes;
}
