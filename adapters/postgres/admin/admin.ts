/** The Admin port over PostgreSQL. */
import type {
  AddOptions,
  Admin,
  ConflictDetail,
  ConflictFilter,
  ConflictLine,
  DatabaseIdentity,
  DatabaseStatus,
  DiscardedChange,
  Expectations,
  Finding,
  GeneratedTable,
  GeneratorOptions,
  GeneratorTotals,
  ParkedChange,
  ParkedDetail,
  ParkedFilter,
  ParkedOutcome,
  ParkedSelection,
  SetupOptions,
  TableOptions,
  TableShape,
  TableState,
} from "../../../src/core/admin.ts";
import type { SnapshotSource } from "../../../src/core/snapshot.ts";
import { type Database, type DatabaseOptions, openDatabase } from "../connection.ts";
import { createSnapshotSource } from "../source/snapshot_source.ts";
import { checkDatabase } from "./check.ts";
import { conflictDetail, listConflicts } from "./conflicts.ts";
import { generate, prepareGenerator } from "./generator.ts";
import { databaseIdentity } from "./identity.ts";
import { listParked, parkedDetail, parkedOutcomes, retryParked } from "./parked.ts";
import { discardParked } from "./parked_discard.ts";
import { installObjects } from "./setup.ts";
import { databaseStatus } from "./status.ts";
import { tableShape } from "./table_shape.ts";
import { addTable, listTables, removeTable } from "./tables.ts";

/** Nothing connects before the first call. @throws ReplicatorError `config.bad_database_url` */
export function openAdmin(options: Omit<DatabaseOptions, "applicationName">): Admin {
  return new PostgresAdmin(openDatabase({ ...options, applicationName: "replicator_admin" }));
}

class PostgresAdmin implements Admin {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  get label(): string {
    return this.#db.label;
  }
  ping(signal: AbortSignal): Promise<void> {
    return this.#db.ping(signal);
  }
  setup(options: SetupOptions, signal: AbortSignal): Promise<readonly string[]> {
    return installObjects(this.#db, options, signal);
  }
  addTable(table: string, options: AddOptions, dryRun: boolean, signal: AbortSignal): Promise<readonly string[]> {
    return addTable(this.#db, table, options, dryRun, signal);
  }
  removeTable(table: string, keepColumns: boolean, signal: AbortSignal): Promise<readonly string[]> {
    return removeTable(this.#db, table, keepColumns, signal);
  }
  listTables(signal: AbortSignal): Promise<readonly TableState[]> {
    return listTables(this.#db, signal);
  }
  tableShape(table: string, signal: AbortSignal): Promise<TableShape | null> {
    return tableShape(this.#db, table, signal);
  }
  identity(signal: AbortSignal): Promise<DatabaseIdentity> {
    return databaseIdentity(this.#db, signal);
  }
  check(expected: Expectations, signal: AbortSignal): Promise<readonly Finding[]> {
    return checkDatabase(this.#db, expected, signal);
  }
  status(signal: AbortSignal): Promise<DatabaseStatus> {
    return databaseStatus(this.#db, signal);
  }
  parked(filter: ParkedFilter, limit: number, signal: AbortSignal): Promise<readonly ParkedChange[]> {
    return listParked(this.#db, filter, limit, signal);
  }
  parkedDetail(id: string, signal: AbortSignal): Promise<ParkedDetail> {
    return parkedDetail(this.#db, id, signal);
  }
  retryParked(selection: ParkedSelection, signal: AbortSignal): Promise<readonly string[]> {
    return retryParked(this.#db, selection, signal);
  }
  parkedOutcomes(ids: readonly string[], signal: AbortSignal): Promise<readonly ParkedOutcome[]> {
    return parkedOutcomes(this.#db, ids, signal);
  }
  discardParked(ids: readonly string[], signal: AbortSignal): Promise<readonly DiscardedChange[]> {
    return discardParked(this.#db, ids, signal);
  }
  conflicts(filter: ConflictFilter, limit: number, signal: AbortSignal): Promise<readonly ConflictLine[]> {
    return listConflicts(this.#db, filter, limit, signal);
  }
  conflictDetail(id: string, signal: AbortSignal): Promise<ConflictDetail> {
    return conflictDetail(this.#db, id, signal);
  }
  snapshot(): SnapshotSource {
    return createSnapshotSource(this.#db);
  }
  prepareGenerator(
    signal: AbortSignal,
    tables?: readonly GeneratedTable[],
    optionsOf?: (table: GeneratedTable) => TableOptions,
  ): Promise<readonly string[]> {
    return prepareGenerator(this.#db, signal, tables, optionsOf);
  }
  generate(options: GeneratorOptions, signal: AbortSignal): Promise<GeneratorTotals> {
    return generate(this.#db, options, signal);
  }
  close(): Promise<void> {
    return this.#db.close();
  }
}
