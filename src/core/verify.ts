/**
 * The port of `verify`: what one contour says of its rows without showing them to the engine. Everything that crosses it is
 * short text (keys, digests, positions), so that an implementation may answer from a database at hand (adapter: postgres) or
 * carry the same questions over a broker. Calls are safe to repeat and change nothing; errors are ReplicatorError.
 */
import type { TableName } from "./table_name.ts";

/** The values of a key as PostgreSQL's text, in the order of the key's columns (I7). */
export type RowKey = readonly string[];

/** Many keys: per key column one array as PostgreSQL writes it. The engine only passes it on. */
export interface KeyList {
  readonly columns: readonly string[];
  readonly count: number;
}

export interface VerifiedColumn {
  readonly name: string;
  /** As format_type says it, without length or precision. */
  readonly type: string;
  /** Generated, or excluded from replication here: never compared. */
  readonly leftOut: boolean;
}

/** A table as one contour has it. */
export interface TableShape extends TableName {
  /** As SQL writes it. */
  readonly table: string;
  readonly columns: readonly VerifiedColumn[];
  /** Columns that identify a row; empty where the contour knows none. */
  readonly key: readonly string[];
  /** What the columns of version, updated_at and updated_by are called; null where the table is not under replication. */
  readonly stamp: readonly string[] | null;
  /** How many rows PostgreSQL thinks it has. */
  readonly estimatedRows: number;
  readonly estimatedRowBytes: number;
}

/** Rows in the order of one contour's own index; the other contour's order may differ (collations) and does not matter. */
export interface RowChunk {
  readonly keys: KeyList;
  readonly digest: string;
  /** To go on after. */
  readonly last: RowKey;
}

/** One row, column by column. */
export interface RowImage {
  /** Of each compared column, in the order asked for. */
  readonly hashes: readonly string[];
  /** version, updated_at, updated_by as text; null where they are not known. */
  readonly stamp: readonly (string | null)[];
}

/** A table's rows, their columns in an order both contours were told, so that equal rows have equal digests. */
export interface VerifyRows {
  /** At most `limit` rows after a key; null when there is none left. */
  next(after: RowKey | null, limit: number, signal: AbortSignal): Promise<RowChunk | null>;
  /** Digest over the rows of these keys, in their order; a key without a row counts as nothing. */
  digest(keys: KeyList, signal: AbortSignal): Promise<string>;
  /** Of each key the hash of its row, null where there is none. */
  hashes(keys: KeyList, signal: AbortSignal): Promise<readonly (string | null)[]>;
  /** Keys only, as `next`. */
  nextKeys(
    after: RowKey | null,
    limit: number,
    signal: AbortSignal,
  ): Promise<{ readonly keys: KeyList; readonly last: RowKey } | null>;
  /** Places (from 0) of the keys that have no row here. */
  missing(keys: KeyList, signal: AbortSignal): Promise<readonly number[]>;
  /** The keys at these places (from 0). */
  pick(keys: KeyList, places: readonly number[], signal: AbortSignal): Promise<readonly RowKey[]>;
  list(keys: readonly RowKey[]): KeyList;
  images(keys: KeyList, signal: AbortSignal): Promise<readonly (RowImage | null)[]>;
  /** Whether each row was changed here after this contour last polled the table; false for a table that triggers capture. */
  unpolled(keys: KeyList, signal: AbortSignal): Promise<readonly boolean[]>;
  /** The rows written last: key and updated_at, newest first. */
  newest(limit: number, signal: AbortSignal): Promise<readonly { readonly key: RowKey; readonly at: string }[]>;
}

/** Confirmed by the broker, or applied: per channel and partition. */
export interface ChannelPosition {
  readonly channel: string;
  readonly partition: number;
  readonly epoch: bigint;
  readonly sequence: bigint;
}

/** What a contour knows of its replication; null fields where our objects are not installed. */
export interface SideFacts {
  readonly contour: string | null;
  readonly queue: {
    readonly unpublished: number;
    readonly total: number;
    readonly oldest_seconds: number;
    readonly last_captured_seconds: number | null;
  } | null;
  readonly inbox: { readonly parked: number; readonly dead: number } | null;
  readonly processed: { readonly total: number; readonly last_applied_seconds: number | null } | null;
  /** Captured and not yet confirmed, by table as SQL writes it. */
  readonly waiting: Readonly<Record<string, { readonly changes: number; readonly oldest_seconds: number }>>;
}

export interface VerifySide {
  /** Where it is, without a password. */
  readonly label: string;
  facts(signal: AbortSignal): Promise<SideFacts>;
  /** Tables under replication, as SQL writes them. */
  replicated(signal: AbortSignal): Promise<readonly string[]>;
  /** `key`: what the other contour identifies rows by; left out, this contour's own. Null: there is no such table. */
  shape(table: TableName, key: readonly string[] | null, signal: AbortSignal): Promise<TableShape | null>;
  rows(shape: TableShape, columns: readonly string[]): VerifyRows;
  /** Everything committed here until now, for `published`; null where nothing is captured. */
  mark(signal: AbortSignal): Promise<string | null>;
  /** Where this contour's channels stand once the broker has everything of the mark; null before that. */
  published(mark: string, signal: AbortSignal): Promise<readonly ChannelPosition[] | null>;
  /** What has been applied here of that contour; null where nothing of it ever was. */
  applied(source: string, signal: AbortSignal): Promise<readonly ChannelPosition[] | null>;
  /** Safe to call twice. */
  close(): Promise<void>;
}
