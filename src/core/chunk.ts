/** Ready-made lines of rows, as captured: the body of frames (architecture §5). JavaScript never looks inside `data`. */

export type Operation = "INSERT" | "UPDATE" | "DELETE" | "TRUNCATE" | "SNAPSHOT";

/** Consecutive changes of one transaction to one table with one operation. */
export interface ChunkHeader {
  readonly schema: string;
  readonly table: string;
  readonly operation: Operation;
  /** The source transaction's xid, decimal text. */
  readonly transaction: string;
  /** Queue id of the first row, decimal text; row n (from 0) of the chunk has event ordinal n. */
  readonly first_queue_id: string;
  /** ISO 8601 with microseconds, UTC. */
  readonly captured_at: string;
  readonly rows: number;
  readonly key: readonly string[];
  /** Names of the columns that carry (version, updated_at, updated_by). */
  readonly stamp: readonly [string, string, string];
  /** A row larger than a message: piece `index` (from 0) of `count`; data is joined in the target database. */
  readonly fragment?: { readonly index: number; readonly count: number };
}

/**
 * `data`: `rows` JSON objects joined by ",\n" (INSERT, UPDATE, SNAPSHOT: the whole row; DELETE: key and stamp columns of
 * the tombstone; TRUNCATE: the floor's stamp columns). `old`: the old rows of a DELETE, joined likewise.
 */
export interface Chunk extends ChunkHeader {
  readonly data: string;
  readonly old: string | null;
}

/** One row for an event channel, made ready by PostgreSQL. */
export interface EventRow {
  /** Primary key as JSON object text, the message key. */
  readonly key: string;
  /** The event's JSON body (interface §4). */
  readonly body: string;
  readonly table: string;
  readonly operation: Operation;
  readonly queue_id: string;
}
