/**
 * Records cuts as confirmed at the source when the target has committed them (I3, I4): no broker outside keeps what was
 * sent, so what is confirmed before that would be lost with the process. What is not confirmed is read from the queue
 * again, with the same numbers, and the ledger drops what it has.
 */
import type { Clock } from "../core/clock.ts";
import type { HeldLease } from "../core/lease_keeper.ts";
import type { Cut, SourceStore } from "../core/source_store.ts";
import { Wake } from "../core/wake.ts";

export interface ConfirmationsOptions {
  readonly store: Pick<SourceStore, "confirm">;
  /** The channel's name. */
  readonly channel: string;
  readonly held: HeldLease;
  /** Last sequence number that is confirmed already. */
  readonly confirmed: number;
  readonly clock: Clock;
  /** Called after each record, with the number of changes in what it confirms. */
  onConfirmed(cut: Cut, changes: number): void;
}

interface Read {
  readonly cut: Cut;
  /** Last sequence number per partition at the end of the cut; of the first partition for comparing. */
  readonly sequences: readonly number[];
  readonly last: number;
  readonly changes: number;
}

/** Cuts without messages of the channel are recorded once a second: found again, they are empty again. */
const RECORD_EMPTY_MS = 1_000;

export class Confirmations {
  readonly #options: ConfirmationsOptions;
  readonly #wake = new Wake();
  /** In order; cuts in a row that add no message are one entry, so that this stays as small as what is under way. */
  #waiting: Read[] = [];
  #applied: number;
  #confirmed: number;
  #recordedAt: number;

  constructor(options: ConfirmationsOptions) {
    this.#options = options;
    this.#applied = options.confirmed;
    this.#confirmed = options.confirmed;
    this.#recordedAt = options.clock.monotonic();
  }

  /** The target has committed everything up to this sequence number. */
  applied(sequence: number): void {
    if (sequence <= this.#applied) return;
    this.#applied = sequence;
    this.#wake.ring();
  }

  /** All messages of the cut have been handed on. */
  read(cut: Cut, sequences: readonly number[], changes: number): void {
    const last = sequences[0] ?? 0;
    const before = this.#waiting.at(-1);
    if (before && before.last === last) this.#waiting.pop();
    this.#waiting.push({ cut, sequences, last, changes: changes + (before?.last === last ? before.changes : 0) });
    this.#wake.ring();
  }

  /** Records until `until` aborts, and what is due then. @throws what confirm throws */
  async run(until: AbortSignal): Promise<void> {
    while (!until.aborted) {
      if (this.#isDue()) await this.#record();
      else await this.#wake.wait(RECORD_EMPTY_MS, until);
    }
    if (!this.#options.held.lost.aborted && this.#isDue()) await this.#record();
  }

  #isDue(): boolean {
    const next = this.#waiting[0];
    if (!next || next.last > this.#applied) return false;
    return next.last > this.#confirmed || this.#options.clock.monotonic() - this.#recordedAt >= RECORD_EMPTY_MS;
  }

  /** The newest of those the target has: a position, so it stands for all before it. */
  async #record(): Promise<void> {
    const { store, channel, held, clock, onConfirmed } = this.#options;
    const due = this.#waiting.filter(({ last }) => last <= this.#applied);
    const newest = due.at(-1);
    if (!newest) return;
    await store.confirm(channel, held.get(), newest.cut, newest.sequences);
    this.#waiting = this.#waiting.slice(due.length);
    this.#confirmed = newest.last;
    this.#recordedAt = clock.monotonic();
    onConfirmed(
      newest.cut,
      due.reduce((sum, { changes }) => sum + changes, 0),
    );
  }
}
