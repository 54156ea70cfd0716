/**
 * The Snapshot port: rows that exist already are put into the source's queue, chunk by chunk, and travel from there like
 * any change. Adapter: postgres. Calls are safe to repeat: how far a table is stands in the database, written in the
 * transaction that puts a chunk into the queue (I8). Errors are ReplicatorError.
 */

/** How far the snapshot of a table is; of its last one when it is done. */
export interface SnapshotStatus {
  /** As SQL writes it. */
  readonly table: string;
  readonly channel: string;
  readonly state: "waiting" | "running" | "done";
  readonly rows_done: number;
  /** PostgreSQL's estimate when it began, or the count. */
  readonly rows_estimated: number;
  readonly bytes_done: number;
  /** Who asked for it: host and process. */
  readonly requested_by: string;
  /** ISO 8601, UTC. */
  readonly started_at: string | null;
  readonly finished_at: string | null;
}

/** A table of the snapshot under way. */
export interface SnapshotTable extends SnapshotStatus {
  readonly tableId: string;
  /** The broker has confirmed the last chunk that held rows. */
  readonly confirmed: boolean;
  /** It refers to another table in a circle: its rows may come before those they refer to. */
  readonly circle: boolean;
}

export interface SnapshotChunk {
  readonly rows: number;
  readonly bytes: number;
  /** There are no more rows. */
  readonly ended: boolean;
  /** The order of the key is another one than before: the table began again with this chunk. */
  readonly begunAnew: boolean;
}

/** What waits in the queue for the broker's confirmation. */
export interface Pressure {
  readonly changes: number;
  readonly bytes: number;
  /** Somebody takes cuts: a publisher is running. */
  readonly publishing: boolean;
}

/** Who runs the snapshot. */
export interface SnapshotHolder {
  readonly owner: string;
  /** Grows as long as the owner lives; opaque otherwise. */
  readonly until: string;
  readonly expired: boolean;
}

export interface BeginOptions {
  /** As SQL writes them; empty: every replicated table. */
  readonly tables: readonly string[];
  readonly owner: string;
  /** All of them from their first row, whatever is unfinished. */
  readonly restart: boolean;
  /** Count the rows instead of estimating them. */
  readonly exact: boolean;
}

export interface SnapshotSource {
  /** Takes or renews the right to run the snapshot; false while somebody else has it. */
  hold(owner: string, ttlMs: number): Promise<boolean>;
  /** Null when nobody has ever run one. */
  holder(): Promise<SnapshotHolder | null>;
  /** Gives the right up at once, if it is still ours. */
  letGo(owner: string): Promise<void>;
  /**
   * Prepares the tables, or goes on with those that are not finished. Returns all of them, parents first. The caller holds
   * the snapshot.
   * @throws `snapshot.unknown_table`
   */
  begin(options: BeginOptions): Promise<readonly SnapshotTable[]>;
  /** Where the tables stand; in the order of begin(). */
  progress(tableIds: readonly string[]): Promise<readonly SnapshotTable[]>;
  /**
   * Puts the next chunk of a table into the queue, in one transaction with the place it ends at.
   * @throws `snapshot.busy` somebody else runs it now; `snapshot.table_changed` with what mends it
   */
  step(tableId: string, owner: string, ttlMs: number, mostRows: number, mostBytes: number): Promise<SnapshotChunk>;
  pressure(): Promise<Pressure>;
}
