/**
 * Puts the messages of one (source, channel, partition) back into sequence (architecture §7.1): at or below the ledger
 * is a duplicate, the next one passes, what is beyond waits, bounded, for the missing one. Pure: no clock, no I/O.
 */
import type { Envelope } from "../core/message.ts";

export type Verdict<T> =
  | { readonly kind: "pass"; readonly items: readonly T[] }
  | { readonly kind: "duplicate" }
  /** Kept until the missing message comes. */
  | { readonly kind: "held"; readonly missing: number }
  /** Too much is kept already. */
  | { readonly kind: "overflow"; readonly missing: number }
  /** The numbering changed and nothing here says what came before. */
  | { readonly kind: "epoch"; readonly found: number; readonly expected: number };

export class Sequencer<T> {
  #epoch: number | null;
  #sequence: number;
  readonly #held = new Map<number, { item: T; bytes: number }>();
  #heldBytes = 0;
  readonly #capacity: number;

  /** @param start what the ledger has: null when nothing of this channel was ever applied */
  constructor(start: { readonly epoch: number; readonly sequence: number } | null, capacityBytes: number) {
    this.#epoch = start?.epoch ?? null;
    this.#sequence = start?.sequence ?? 0;
    this.#capacity = capacityBytes;
  }

  /** The last sequence number passed on. */
  get sequence(): number {
    return this.#sequence;
  }

  /** The number waited for while something beyond it is kept, else null. */
  get missing(): number | null {
    return this.#held.size > 0 ? this.#sequence + 1 : null;
  }

  offer(envelope: Pick<Envelope, "epoch" | "sequence">, item: T, bytes: number): Verdict<T> {
    this.#epoch ??= envelope.epoch;
    // A lower epoch is a stale numbering: everything in it was superseded when the epoch changed.
    if (envelope.epoch < this.#epoch) return { kind: "duplicate" };
    if (envelope.epoch > this.#epoch) return { kind: "epoch", found: envelope.epoch, expected: this.#epoch };
    if (envelope.sequence <= this.#sequence || this.#held.has(envelope.sequence)) return { kind: "duplicate" };
    if (envelope.sequence > this.#sequence + 1) {
      const missing = this.#sequence + 1;
      if (this.#heldBytes + bytes > this.#capacity && this.#held.size > 0) return { kind: "overflow", missing };
      this.#held.set(envelope.sequence, { item, bytes });
      this.#heldBytes += bytes;
      return { kind: "held", missing };
    }
    const items = [item];
    this.#sequence++;
    for (let next = this.#held.get(this.#sequence + 1); next; next = this.#held.get(this.#sequence + 1)) {
      this.#sequence++;
      this.#held.delete(this.#sequence);
      this.#heldBytes -= next.bytes;
      items.push(next.item);
    }
    return { kind: "pass", items };
  }
}
