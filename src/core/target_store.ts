/**
 * The Store port, target side: the ledger, apply, parking (architecture §6 §7). Adapter: postgres.
 *
 * What an implementer owes: as for the source side; and an apply transaction either commits its rows, its outcomes and
 * its ledger position together or leaves nothing (I4 I5 I8).
 */
import type { Position } from "./broker.ts";
import type { Chunk } from "./chunk.ts";
import type { Lease } from "./lease.ts";

export interface LedgerKey {
  readonly source: string;
  readonly channel: string;
  readonly partition: number;
}

export interface LedgerPosition {
  readonly epoch: number;
  readonly sequence: number;
  readonly cutNo: number;
  readonly position: Position | null;
}

/** What one frame (or run of events) brings: whole chunks, or one fragment of a chunk. */
export interface ApplyBatch {
  readonly epoch: number;
  /** Last sequence number covered. */
  readonly sequence: number;
  readonly cutNo: number;
  /** Nothing more of its cut follows in its partition. */
  readonly endsCut: boolean;
  readonly next: Position;
  readonly kind: "frames" | "events";
  /** Frames: the chunks. */
  readonly chunks: readonly Chunk[];
  /** Events: JSON bodies, in order (chunks is empty then). */
  readonly events: readonly ApplyEvent[];
}

export interface ApplyEvent {
  readonly sequence: number;
  readonly table: string;
  readonly operation: string;
  readonly body: string;
  /** An event larger than a message: piece n of several; joined in the database when `last`. */
  readonly fragment?: { readonly id: string; readonly index: number; readonly last: boolean };
}

/** Lines of the conflict log: incoming changes that met another contour's write which they had not seen. */
export interface ConflictCount {
  /** As SQL writes it. */
  readonly table: string;
  readonly policy: string;
  readonly winner: string;
  readonly lines: number;
}

export interface ApplyOutcome {
  readonly changes: number;
  readonly applied: number;
  readonly beaten: number;
  /** Refused by a constraint and overridden by a captured change of this contour (law 3). */
  readonly overridden: number;
  readonly parked: number;
  /** Lines of the conflict log; absent when there are none. */
  readonly conflicts?: readonly ConflictCount[];
  /** Source transactions of which some rows were beaten by another contour and others applied; absent when there are none. */
  readonly torn?: number;
}

/** What became of parked changes that were due. */
export interface ParkedRetry {
  readonly tried: number;
  /** How many of them are gone. */
  readonly resolved: number;
  /** Lines of the conflict log; absent when there are none. */
  readonly conflicts?: readonly ConflictCount[];
}

/** One target transaction. Nothing of it is visible, and no position moves, before commit() has returned. */
export interface ApplyTransaction {
  /** Applies one or more batches set-wise; rows that fail are tried one by one, then once more at commit, then parked (never dropped: I5). */
  apply(batches: readonly ApplyBatch[]): Promise<void>;
  /**
   * Retries what failed, parks the rest, writes the ledger, commits. A lost answer is looked up in the ledger, not guessed.
   * @throws `apply.stopped`, `apply.parked_limit` where a change may not be parked: the channel stops before its transaction,
   * `facts.sequence` names the batch it is in. Alone in its transaction, such a batch is applied up to there, its position not.
   */
  commit(): Promise<ApplyOutcome>;
  /** Safe at any time, also after a failed commit. */
  rollback(): Promise<void>;
  /**
   * Ends it at once, without asking the server; calls under way reject. For one whose lease is lost while he waits for an
   * answer that may never come. Safe at any time; rollback() is still owed.
   */
  abandon(): void;
}

/** What waits in the inbox, and how long the conflict log is. */
export interface TargetCounts {
  readonly parked: number;
  /** Dead letters; not among `parked`. */
  readonly dead: number;
  readonly conflicts: number;
  /** When the oldest of them was parked, ISO 8601; null: there is none, I12 holds. */
  readonly parkedSince: string | null;
  /** As SQL writes them, those with the most first. */
  readonly parkedTables: readonly string[];
}

export interface TargetStore {
  /** Verifies objects and rights, registers the session's role as a consumer, chooses replica or origin mode. */
  open(signal: AbortSignal): Promise<void>;
  /** Lease on a partition of a broker log; null when another process holds it. */
  lease(feed: string, partition: number, owner: string, ttlMs: number): Promise<Lease | null>;
  releaseLease(feed: string, partition: number, lease: Lease): Promise<void>;
  /** The ledger's position, or null when nothing of this channel was ever applied. */
  position(key: LedgerKey): Promise<LedgerPosition | null>;
  /**
   * Begins an apply transaction: locks the ledger row (the fence against zombies) and verifies that it stands at
   * `expected` and that the lease is still ours. @throws `ledger.moved` / `lease.lost`, retry "now": read the position again.
   * The answer may be awaited later: the first apply() after it, or commit(), then throws them.
   */
  begin(key: LedgerKey, expected: LedgerPosition | null, feed: string, lease: Lease): Promise<ApplyTransaction>;
  /** Tries parked changes that are due. */
  retryParked(limit: number): Promise<ParkedRetry>;
  /**
   * The second look at applied deletions: a row that a local transaction inserted meanwhile below its tombstone is lifted
   * above it, captured. Looks only at what no open transaction can have missed. Returns how many rows were lifted.
   */
  recheckDeletes(): Promise<number>;
  /** Deletes lines of the conflict log that are older than its retention, a small batch. Returns how many. */
  trimConflictLog(): Promise<number>;
  /** For /status. */
  counts(): Promise<TargetCounts>;
  ping(signal: AbortSignal): Promise<void>;
  close(): Promise<void>;
}
