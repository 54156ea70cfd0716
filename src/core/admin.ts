/**
 * The Admin port: what the commands do to a database besides running (setup, tables, check, status, parked, conflicts, generate).
 * Adapter: postgres. Errors are ReplicatorError; every call ends within its deadline.
 */
import type { SnapshotSource, SnapshotStatus } from "./snapshot.ts";
import type { TableStatus } from "./status.ts";
import type { TargetCounts } from "./target_store.ts";

export interface Finding {
  readonly severity: "info" | "warning" | "blocking";
  /** Dotted, stable: `database.version`. */
  readonly code: string;
  /** What is wrong, sentence case, no full stop. */
  readonly message: string;
  /** The command that mends it; empty where nothing needs mending. */
  readonly remedy: string;
}

export interface SetupOptions {
  readonly contour: string;
  /** Null: no thin names. */
  readonly compatSchema: string | null;
  readonly columns: { readonly version: string; readonly updated_at: string; readonly updated_by: string };
}

/** Options of a table; what is undefined keeps its value, or takes the default. */
export interface TableOptions {
  readonly primaryKey?: readonly string[] | undefined;
  /** none: the table is polled. */
  readonly capture?: "auto" | "row" | "statement" | "none" | undefined;
  readonly conflict?: "version" | "latest" | undefined;
  readonly excludeColumns?: readonly string[] | undefined;
  /** Of a polled table: who writes its stamp columns. */
  readonly stamp?: "trigger" | "application" | undefined;
  /** Names of its stamp columns where they differ from those of the database. */
  readonly columns?: { readonly [part in "version" | "updated_at" | "updated_by"]?: string | undefined } | undefined;
}

/** Contour `place` (from 1) of `of` takes the sequence values v with v mod of = place mod of: no two give the same. */
export interface SequenceSlot {
  readonly place: number;
  readonly of: number;
}

export interface AddOptions extends TableOptions {
  /** For every sequence that feeds a column of the table; undefined leaves them as they are. */
  readonly sequenceSlot?: SequenceSlot | undefined;
}

export interface TableState {
  /** As SQL writes it. */
  readonly table: string;
  readonly key: readonly string[];
  readonly stamp: readonly string[];
  readonly capture: string;
  readonly conflict: string;
  readonly exclude_columns: readonly string[];
  readonly channel: string;
  /** `ok`, or why its functions or triggers no longer fit. */
  readonly state: string;
}

export interface ParkedChange {
  readonly id: number;
  readonly event_id: string;
  readonly source_contour: string;
  readonly channel: string;
  readonly table: string;
  readonly operation: string;
  readonly record_id: string | null;
  readonly version: string | null;
  /** `parked`, or `dead`: it waits for a person. */
  readonly status: string;
  readonly error_code: string;
  readonly error: string;
  /** What unblocks it: a statement where there is one. */
  readonly remedy: string | null;
  readonly attempts: number;
  /** Null: not by the clock. A dead letter when its table changes; others when one like them can be applied. */
  readonly next_attempt_at: string | null;
  readonly created_at: string;
  readonly age_seconds: number;
}

/** Everything that is known of one. */
export interface ParkedDetail extends ParkedChange {
  readonly partition: number;
  readonly epoch: string;
  readonly sequence: string;
  readonly cut_no: string;
  readonly transaction_id: string;
  readonly queue_id: string;
  readonly captured_at: string | null;
  readonly key_columns: readonly string[] | null;
  readonly stamp_columns: readonly string[] | null;
  /** What PostgreSQL said beside its message: constraint, column, type, function. */
  readonly facts: Readonly<Record<string, string>>;
  /** The row as captured: JSON text. */
  readonly data: string;
}

export interface ParkedFilter {
  /** As SQL writes it; null: of all tables. */
  readonly table: string | null;
  /** Dead letters only. */
  readonly dead: boolean;
}

/** Decimal ids, a table as SQL writes it, or all. */
export type ParkedSelection = { readonly ids: readonly string[] } | { readonly table: string } | "all";

/** What became of a change that was asked to be tried again: `due` while nobody has tried it yet. */
export interface ParkedOutcome {
  readonly id: number;
  readonly outcome: "resolved" | "parked" | "dead" | "due";
  readonly error: string | null;
  readonly remedy: string | null;
}

/** A parked change that was thrown away; conflict_log keeps it. */
export interface DiscardedChange {
  readonly id: number;
  readonly table: string;
  readonly record_id: string | null;
  readonly source_contour: string;
  /** Of its line in conflict_log. */
  readonly conflict_id: number;
}

/** An incoming change that met another contour's write which it had not seen, or an override (law 3). */
export interface ConflictLine {
  readonly id: number;
  readonly occurred_at: string;
  readonly source_contour: string;
  readonly table: string;
  readonly record_id: string;
  readonly policy: string;
  /** `local` or `incoming`. */
  readonly winner: string;
  readonly reason: string;
  /** The captured change that settled it: `removed`, `refused`, `revived`, `detached`; null: the rule of stamps did. */
  readonly override: string | null;
  /** Some rows of its source transaction were beaten here, others were not. */
  readonly torn: boolean;
  readonly transaction_id: string | null;
  readonly event_id: string | null;
}

/** A value of both images as PostgreSQL's text, null where it is NULL; a side whose image has no such column is absent. */
export interface ConflictColumn {
  readonly column: string;
  readonly local?: string | null;
  readonly incoming?: string | null;
  readonly differs: boolean;
}

export interface ConflictDetail extends ConflictLine {
  readonly columns: readonly ConflictColumn[];
  /** JSON text; of a deletion its key and stamp. */
  readonly local_row: string | null;
  readonly incoming_row: string | null;
}

export interface ConflictFilter {
  /** As SQL writes it; null: of all tables. */
  readonly table: string | null;
  /** Not older than so many milliseconds; null: of any age. */
  readonly sinceMs: number | null;
}

/** What the database alone knows when no process answers. */
export interface DatabaseStatus extends TargetCounts {
  readonly contour: string;
  /** Last captured queue id. */
  readonly last_lsn: string;
  /** Everything up to this queue id is confirmed. */
  readonly settled_lsn: string;
  readonly last_sync_time: string | null;
  readonly unpublished: number;
  readonly lag_seconds: number;
  readonly tables: readonly TableStatus[];
  readonly snapshots: readonly SnapshotStatus[];
}

/** Which database this is, whatever its address. */
export interface DatabaseIdentity {
  /** Alike for two addresses of one database, while its server runs. */
  readonly database: string;
  /** The name our objects have for it: '' before it has one, null where they are not installed. */
  readonly contour: string | null;
}

export interface ColumnShape {
  readonly name: string;
  /** As PostgreSQL writes it: `character varying(80)`. */
  readonly type: string;
  readonly notNull: boolean;
  /** A default, an identity or an expression fills it where an INSERT does not. */
  readonly filled: boolean;
  readonly generated: boolean;
}

/** What two tables of one name are compared by. */
export interface TableShape {
  readonly columns: readonly ColumnShape[];
  /** In the key's order; empty without a primary key. */
  readonly key: readonly string[];
}

/** What `check` compares the database with. */
export interface Expectations {
  readonly contour: string;
  /** All that may write these tables, this one among them. */
  readonly contours: readonly string[];
  readonly roles: readonly ("publisher" | "consumer")[];
  readonly session: "auto" | "replica" | "origin";
  readonly tables: readonly (TableOptions & { readonly name: string })[];
  readonly queueWarnBytes: number;
}

export interface GeneratorTotals {
  readonly inserted: number;
  readonly updated: number;
  readonly deleted: number;
}

export const GENERATED_TABLES = ["users", "payments", "orders", "products", "categories"] as const;
export type GeneratedTable = (typeof GENERATED_TABLES)[number];

export interface GeneratorOptions {
  /** Row changes a second; null: as many as the database takes. */
  readonly rate: number | null;
  /** Written to, with the tables they refer to; default users and payments. */
  readonly tables?: readonly GeneratedTable[] | undefined;
  readonly connections: number;
  /** Called about once a second and at the end. */
  onProgress(totals: GeneratorTotals): void;
}

export interface Admin {
  /** `postgres://user@host:port/name`, without a password. */
  readonly label: string;
  ping(signal: AbortSignal): Promise<void>;
  /** Installs or upgrades our objects in one transaction; twice without harm. Returns what a person should know. */
  setup(options: SetupOptions, signal: AbortSignal): Promise<readonly string[]>;
  /**
   * Puts a table under replication, one transaction; with a slot its sequences after that, in another. Lines for a person;
   * with `dryRun` the DDL, and nothing is changed.
   */
  addTable(table: string, options: AddOptions, dryRun: boolean, signal: AbortSignal): Promise<readonly string[]>;
  removeTable(table: string, keepColumns: boolean, signal: AbortSignal): Promise<readonly string[]>;
  listTables(signal: AbortSignal): Promise<readonly TableState[]>;
  /** Null when there is no such table. @throws `tables.bad_name` */
  tableShape(table: string, signal: AbortSignal): Promise<TableShape | null>;
  identity(signal: AbortSignal): Promise<DatabaseIdentity>;
  check(expected: Expectations, signal: AbortSignal): Promise<readonly Finding[]>;
  status(signal: AbortSignal): Promise<DatabaseStatus>;
  /** Oldest first. @throws `parked.bad_table` */
  parked(filter: ParkedFilter, limit: number, signal: AbortSignal): Promise<readonly ParkedChange[]>;
  /** @throws `parked.unknown` */
  parkedDetail(id: string, signal: AbortSignal): Promise<ParkedDetail>;
  /** Makes them due now, dead letters as well, attempts counted afresh; a running consumer tries them. Returns their ids. @throws `parked.unknown` */
  retryParked(selection: ParkedSelection, signal: AbortSignal): Promise<readonly string[]>;
  /** What has become of them since. */
  parkedOutcomes(ids: readonly string[], signal: AbortSignal): Promise<readonly ParkedOutcome[]>;
  /** Throws them away, all or none, each with a line in conflict_log (reason `discarded`). @throws `parked.unknown` */
  discardParked(ids: readonly string[], signal: AbortSignal): Promise<readonly DiscardedChange[]>;
  /** Newest first. @throws `conflicts.bad_table` */
  conflicts(filter: ConflictFilter, limit: number, signal: AbortSignal): Promise<readonly ConflictLine[]>;
  /** @throws `conflicts.unknown` */
  conflictDetail(id: string, signal: AbortSignal): Promise<ConflictDetail>;
  /** For `replicator snapshot`. */
  snapshot(): SnapshotSource;
  /**
   * Makes the tables (default users and payments) and those they refer to where they are missing, puts them under replication
   * where our objects stand, with the options given. Lines for a person. @throws `generate.foreign_tables`
   */
  prepareGenerator(
    signal: AbortSignal,
    tables?: readonly GeneratedTable[],
    optionsOf?: (table: GeneratedTable) => TableOptions,
  ): Promise<readonly string[]>;
  /** Writes to them until the signal aborts. */
  generate(options: GeneratorOptions, signal: AbortSignal): Promise<GeneratorTotals>;
  /** Safe to call twice. */
  close(): Promise<void>;
}
