/**
 * The Admin port: what the commands do to a database besides running (setup, tables, check, status, parked, generate).
 * Adapter: postgres. Errors are ReplicatorError; every call ends within its deadline.
 */
import type { TableStatus } from "./status.ts";

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
  readonly capture?: "auto" | "row" | "statement" | undefined;
  readonly conflict?: "version" | "latest" | undefined;
  readonly excludeColumns?: readonly string[] | undefined;
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
  readonly status: string;
  readonly error_code: string;
  readonly error: string;
  readonly attempts: number;
  readonly next_attempt_at: string;
  readonly created_at: string;
}

/** What the database alone knows when no process answers. */
export interface DatabaseStatus {
  readonly contour: string;
  readonly last_lsn: string;
  readonly last_sync_time: string | null;
  readonly unpublished: number;
  readonly lag_seconds: number;
  readonly parked: number;
  readonly conflicts: number;
  readonly tables: readonly TableStatus[];
}

/** What `check` compares the database with. */
export interface Expectations {
  readonly contour: string;
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

export interface GeneratorOptions {
  /** Row changes a second. */
  readonly rate: number;
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
  /** Puts a table under replication, one transaction. Lines for a person; with `dryRun` the DDL, and nothing is changed. */
  addTable(table: string, options: TableOptions, dryRun: boolean, signal: AbortSignal): Promise<readonly string[]>;
  removeTable(table: string, keepColumns: boolean, signal: AbortSignal): Promise<readonly string[]>;
  listTables(signal: AbortSignal): Promise<readonly TableState[]>;
  check(expected: Expectations, signal: AbortSignal): Promise<readonly Finding[]>;
  status(signal: AbortSignal): Promise<DatabaseStatus>;
  parked(table: string | null, limit: number, signal: AbortSignal): Promise<readonly ParkedChange[]>;
  /** Makes `users` and `payments` where they are missing, puts them under replication where our objects stand. Lines for a person. */
  prepareGenerator(signal: AbortSignal): Promise<readonly string[]>;
  /** Writes to them until the signal aborts. */
  generate(options: GeneratorOptions, signal: AbortSignal): Promise<GeneratorTotals>;
  /** Safe to call twice. */
  close(): Promise<void>;
}
