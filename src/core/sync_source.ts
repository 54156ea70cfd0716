/**
 * The Sync port: polled tables of the source. Adapter: postgres. A run puts changed rows into the source's queue, batch by
 * batch; from there they travel as every captured change. How far a run is stands in the database, in the transaction of
 * each batch: a call is safe to repeat, and two processes that poll one table take turns. Errors are ReplicatorError; tables
 * are named as SQL writes them.
 */
import type { Lease } from "./lease.ts";

export interface SyncBatch {
  /** Changes the run has put into the queue so far. */
  readonly rows: number;
  readonly finished: boolean;
}

/** What the database says of the polls of a table. */
export interface SyncState {
  readonly table: string;
  /** When the last run ended whose changes the broker has confirmed, ISO 8601; null before the first. */
  readonly confirmedRun: string | null;
  /** When the last run ended, ISO 8601; null before the first. */
  readonly lastRun: string | null;
  /** Changes of the last run that ended. */
  readonly rows: number;
  readonly running: boolean;
}

export interface SyncSource {
  /** Takes or renews the lease of a table's timer; null when another process has it. */
  lease(table: string, owner: string, ttlMs: number): Promise<Lease | null>;
  releaseLease(table: string, lease: Lease): Promise<void>;
  /**
   * Begins a run, or finds the one under way. `overlapMs`: how far behind the clocks of applications may be.
   * @throws `sync.not_polled` when the table is not set up for it
   */
  begin(table: string, overlapMs: number): Promise<void>;
  /** One batch of the run under way; finished as well when there is none. */
  batch(table: string, size: number): Promise<SyncBatch>;
  /**
   * Where no trigger tells of deletions: compares the keys seen before with those that are there, not more often than every
   * `pauseMs`. Returns how many were deleted, null when it was not due or the table needs none.
   */
  compareKeys(table: string, pauseMs: number): Promise<number | null>;
  /** Lets sync_state follow the broker's confirmations. Returns the tables that moved. */
  confirm(): Promise<readonly string[]>;
  states(tables: readonly string[]): Promise<readonly SyncState[]>;
  close(): Promise<void>;
}
