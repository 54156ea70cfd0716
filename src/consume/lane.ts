/**
 * One (source, channel, partition) on its way into the target: collects batches into groups that end with a cut where
 * that is possible and with a transaction always (I12), applies each group in one target transaction with its ledger
 * position, and acknowledges after the commit (I4). A transaction too large to keep is applied while it arrives.
 */
import type { Delivery } from "../core/broker.ts";
import type { Clock } from "../core/clock.ts";
import { ReplicatorError } from "../core/errors.ts";
import type { HeldLease } from "../core/lease_keeper.ts";
import type {
  ApplyBatch,
  ApplyOutcome,
  ApplyTransaction,
  LedgerKey,
  LedgerPosition,
  TargetStore,
} from "../core/target_store.ts";
import { type Boundary, capturedAt } from "./batch.ts";
import type { GroupSize } from "./group_size.ts";
import { isHalt } from "./stops.ts";

export interface LaneOptions {
  readonly store: Pick<TargetStore, "begin">;
  readonly key: LedgerKey;
  readonly feed: string;
  readonly lease: HeldLease;
  readonly clock: Clock;
  /** Messages in one target transaction, unless one source transaction or cut has more. */
  readonly size: GroupSize;
  /** Called after each commit. */
  onCommit(report: CommitReport): void;
}

export interface CommitReport extends ApplyOutcome {
  readonly key: LedgerKey;
  readonly position: LedgerPosition;
  readonly milliseconds: number;
  /** When the newest change was captured, ISO 8601, where the batch says so. */
  readonly capturedAt: string | null;
}

interface Arrived {
  readonly batch: ApplyBatch;
  readonly delivery: Pick<Delivery, "ack">;
  readonly boundary: Boundary;
  readonly bytes: number;
}

/** A group is applied when it has this many bytes and ends somewhere. */
const GROUP_BYTES = 2 * 1024 * 1024;
/** A transaction above this is applied while it arrives (architecture §7.5). */
const KEEP_BYTES = 4 * 1024 * 1024;
/** A group undone by a concurrent transaction is tried so often before the loop's own recovery takes over. */
const MOST_TRIES = 5;

export class Lane {
  readonly #options: LaneOptions;
  #position: LedgerPosition | null;
  #waiting: Arrived[] = [];
  #waitingBytes = 0;
  #open: { transaction: ApplyTransaction; last: Arrived; startedAt: number } | null = null;

  constructor(options: LaneOptions, position: LedgerPosition | null) {
    this.#options = options;
    this.#position = position;
  }

  /** True while something was taken in and is not committed. */
  get busy(): boolean {
    return this.#open !== null || this.#waiting.length > 0;
  }

  /** True while a large transaction is open in the target and waits for its next part. */
  get streaming(): boolean {
    return this.#open !== null;
  }

  /** Takes the next batch in sequence. May apply and commit. */
  async take(arrived: Arrived): Promise<void> {
    if (this.#open) {
      await this.#open.transaction.apply([arrived.batch]);
      this.#open.last = arrived;
      if (arrived.boundary !== "none") await this.#commitOpen();
      return;
    }
    this.#waiting.push(arrived);
    this.#waitingBytes += arrived.bytes;
    const full = this.#waitingBytes >= GROUP_BYTES || this.#waiting.length >= this.#options.size.messages;
    if (arrived.boundary !== "none" && full) await this.#applyWaiting(this.#waiting.length);
    else if (arrived.boundary === "none" && this.#waitingBytes >= KEEP_BYTES) await this.#startStreaming();
  }

  /** Nothing more is at hand: applies what ends with a whole cut, or with a whole transaction when `anyEnd`. */
  async settle(anyEnd: boolean): Promise<void> {
    if (this.#open) return;
    for (;;) {
      const end = this.#waiting.findLastIndex(
        ({ boundary }) => boundary === "cut" || (anyEnd && boundary === "transaction"),
      );
      if (end < 0) return;
      await this.#applyWaiting(this.#within(end + 1));
    }
  }

  /** Forgets everything that is not committed; it will be read again. Never rejects. */
  async abandon(): Promise<void> {
    this.#waiting = [];
    this.#waitingBytes = 0;
    const open = this.#open;
    this.#open = null;
    await open?.transaction.rollback();
  }

  /** How many of the first `count` messages are applied together: whole cuts, up to the size that is quick now (I12). */
  #within(count: number): number {
    const some = this.#waiting.slice(0, count);
    const ends = ({ boundary }: Arrived) => boundary === "cut";
    const last = some.slice(0, this.#options.size.messages).findLastIndex(ends);
    const first = last >= 0 ? last : some.findIndex(ends);
    return first >= 0 ? first + 1 : count;
  }

  async #applyWaiting(count: number, tries = 1): Promise<void> {
    const group = this.#waiting.slice(0, count);
    const last = group.at(-1);
    if (!last) return;
    const startedAt = this.#options.clock.monotonic();
    const transaction = await this.#begin();
    try {
      await transaction.apply(group.map(({ batch }) => batch));
      await this.#commit(transaction, last, startedAt);
    } catch (error) {
      await transaction.rollback();
      if (error instanceof ReplicatorError && error.code === "apply.serialization" && tries < MOST_TRIES) {
        // All of it is still here: reading the log again would take far longer than trying again with less.
        this.#options.size.undone(group.length);
        return await this.#applyWaiting(this.#within(count), tries + 1);
      }
      const halted = error instanceof ReplicatorError && isHalt(error) ? haltedAt(group, error) : null;
      if (!halted) throw error;
      // What comes before it goes on; then the message with it, alone: the target applies that as far as it may.
      if (halted.first > 0) await this.#applyWaiting(halted.first);
      return await this.#applyWaiting(halted.end - halted.first);
    }
    this.#options.size.took(group.length, this.#options.clock.monotonic() - startedAt);
    this.#waiting = this.#waiting.slice(count);
    this.#waitingBytes = this.#waiting.reduce((sum, { bytes }) => sum + bytes, 0);
  }

  async #startStreaming(): Promise<void> {
    const whole = this.#waiting.findLastIndex(({ boundary }) => boundary !== "none") + 1;
    if (whole > 0) await this.#applyWaiting(whole);
    const last = this.#waiting.at(-1);
    if (!last) return;
    const startedAt = this.#options.clock.monotonic();
    const transaction = await this.#begin();
    this.#open = { transaction, last, startedAt };
    const parts = this.#waiting;
    this.#waiting = [];
    this.#waitingBytes = 0;
    for (const { batch } of parts) await transaction.apply([batch]);
  }

  async #commitOpen(): Promise<void> {
    if (!this.#open) return;
    const { transaction, last, startedAt } = this.#open;
    await this.#commit(transaction, last, startedAt);
    this.#open = null;
  }

  #begin(): Promise<ApplyTransaction> {
    const { store, key, feed, lease } = this.#options;
    return store.begin(key, this.#position, feed, lease.get());
  }

  async #commit(transaction: ApplyTransaction, last: Arrived, startedAt: number): Promise<void> {
    const outcome = await transaction.commit();
    const { epoch, sequence, cutNo, next } = last.batch;
    this.#position = { epoch, sequence, cutNo, position: next };
    // I4: only now, and it stands for everything before it in the claim's order of this lane.
    last.delivery.ack();
    this.#options.onCommit({
      ...outcome,
      key: this.#options.key,
      position: this.#position,
      milliseconds: this.#options.clock.monotonic() - startedAt,
      capturedAt: capturedAt(last.batch),
    });
  }
}

/** From where to where the messages with the transaction go that halts the channel; null when the group is just these. */
function haltedAt(group: readonly Arrived[], { facts }: ReplicatorError) {
  const at = group.findIndex(({ batch }) => batch.sequence === facts.sequence);
  const ends = ({ boundary }: Arrived) => boundary !== "none";
  const first = group.slice(0, Math.max(at, 0)).findLastIndex(ends) + 1;
  const end = group.findIndex((one, n) => n >= at && ends(one)) + 1;
  return at < 0 || end === 0 || (first === 0 && end === group.length) ? null : { first, end };
}
