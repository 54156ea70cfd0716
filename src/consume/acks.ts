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
}

export class Acks {
  /** In the claim's order; what is durable and adjacent is one entry, so that this stays as small as what lanes hold. */
  #entries: Entry[] = [];
  #stopped = false;

  /** Taken in for a source; it counts from committed() on. */
  taken(source: string, delivery: Acknowledgeable): void {
    if (!this.#stopped) this.#entries.push({ delivery, source });
  }

  /** Nothing is to be done with it: applied before, or not for us. */
  passed(delivery: Acknowledgeable): void {
    if (this.#stopped) return;
    const last = this.#entries.at(-1);
    if (last && last.source === null) last.delivery = delivery;
    else this.#entries.push({ delivery, source: null });
    this.#advance();
  }

  /** The target has committed everything of the source up to this delivery. */
  committed(source: string, delivery: Acknowledgeable): void {
    const end = this.#entries.findIndex((entry) => entry.delivery === delivery) + 1;
    for (const entry of this.#entries.slice(0, end)) if (entry.source === source) entry.source = null;
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
