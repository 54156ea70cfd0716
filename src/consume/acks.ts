/**
 * Acknowledges the deliveries of a claim as an unbroken prefix (I4). Lanes commit at their own pace; on a topic shared by
 * several contours a commit of one must not acknowledge what another has not applied yet. Pure bookkeeping.
 */
import type { Delivery } from "../core/broker.ts";

type Acknowledgeable = Pick<Delivery, "ack">;

interface Entry {
  delivery: Acknowledgeable;
  /** Null once it is durable. */
  source: string | null;
  readonly sequence: number;
}

export class Acks {
  /** In the claim's order; what is durable and adjacent is one entry, so that this stays as small as what lanes hold. */
  #entries: Entry[] = [];
  #stopped = false;

  /** Taken in for a source, in sequence or kept until its turn comes; it counts from committed() on. */
  taken(source: string, delivery: Acknowledgeable, sequence: number): void {
    if (!this.#stopped) this.#entries.push({ delivery, source, sequence });
  }

  /** Nothing is to be done with it: applied before, or not for us. */
  passed(delivery: Acknowledgeable): void {
    if (this.#stopped) return;
    const last = this.#entries.at(-1);
    if (last && last.source === null) last.delivery = delivery;
    else this.#entries.push({ delivery, source: null, sequence: 0 });
    this.#advance();
  }

  /**
   * The target has committed everything of the source up to this sequence number. Not up to a place in the claim: what
   * came before its turn stands there before the message it waited for, and is committed after it.
   */
  committed(source: string, sequence: number): void {
    for (const entry of this.#entries) if (entry.source === source && entry.sequence <= sequence) entry.source = null;
    this.#entries = this.#entries.filter(({ source }, n, all) => source !== null || all[n + 1]?.source !== null);
    this.#advance();
  }

  /** A source goes no further: nothing behind this point may be acknowledged any more. */
  stop(): void {
    this.#stopped = true;
    this.#entries = [];
  }

  #advance(): void {
    let done: Acknowledgeable | null = null;
    while (this.#entries[0]?.source === null) done = this.#entries.shift()?.delivery ?? null;
    done?.ack();
  }
}
