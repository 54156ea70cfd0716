/**
 * How many messages are applied in one target transaction: as many as allowed while that is quick, fewer where rows
 * conflict. A group that takes seconds holds its locks as long, meets the next writer of the same rows, and is lost whole in
 * a deadlock. (Additive-increase schemes recover too slowly after an outage's backlog: halving and doubling.)
 */

/** A transaction that takes longer than this makes the next one smaller. */
const LONG_MS = 500;
/** One that takes less lets the next one grow. */
const SHORT_MS = 100;

export class GroupSize {
  readonly #most: number;
  #messages: number;

  /** `most`: consumer.batch_size. */
  constructor(most: number) {
    this.#most = most;
    this.#messages = most;
  }

  /** Messages in the next transaction, unless a cut has more. */
  get messages(): number {
    return this.#messages;
  }

  /** A transaction of `messages` messages was committed after `ms`. */
  took(messages: number, ms: number): void {
    if (ms > LONG_MS) this.#messages = Math.max(1, Math.min(this.#messages, messages >> 1));
    else if (ms < SHORT_MS) this.#messages = Math.min(this.#most, this.#messages * 2);
  }

  /** One of `messages` messages met another transaction and was undone. */
  undone(messages: number): void {
    this.#messages = Math.max(1, messages >> 2);
  }
}
