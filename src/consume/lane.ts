/**
 * One (source, channel, partition) on its way into the target: collects batches into groups that end with a cut where
 * that is possible and with a transaction always (I12), applies each group in one target transaction with its ledger
 * position, and acknowledges after the commit (I4). A transaction too large to keep is applied while it arrives.
 */
import type { Delivery } from "../core/broker.ts";
import type { Clock } from "../core/clock.ts";
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

export interface LaneOptions {
  readonly store: TargetStore;
  readonly key: LedgerKey;
  readonly feed: string;
  readonly lease: HeldLease;
  readonly clock: Clock;
  /** Messages in one target transaction at most, unless one transaction has more. */
  readonly batchSize: number;
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
    const full = this.#waitingBytes >= GROUP_BYTES || this.#waiting.length >= this.#options.batchSize;
    if (arrived.boundary !== "none" && full) await this.#applyWaiting(this.#waiting.length);
    else if (arrived.boundary === "none" && this.#waitingBytes >= KEEP_BYTES) await this.#startStreaming();
  }

  /** Nothing more is at hand: applies what ends with a whole cut, or with a whole transaction when `anyEnd`. */
  async settle(anyEnd: boolean): Promise<void> {
    if (this.#open) return;
    const end = this.#waiting.findLastIndex(
      ({ boundary }) => boundary === "cut" || (anyEnd && boundary === "transaction"),
    );
    if (end >= 0) await this.#applyWaiting(end + 1);
  }

  /** Forgets everything that is not committed; it will be read again. Never rejects. */
  async abandon(): Promise<void> {
    this.#waiting = [];
    this.#waitingBytes = 0;
    const open = this.#open;
    this.#open = null;
    await open?.transaction.rollback();
  }

  async #applyWaiting(count: number): Promise<void> {
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
      throw error;
    }
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
