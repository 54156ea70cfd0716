/** The Admin port over PostgreSQL. */
import type {
  Admin,
  DatabaseStatus,
  Expectations,
  Finding,
  GeneratorOptions,
  GeneratorTotals,
  ParkedChange,
  SetupOptions,
  TableOptions,
  TableState,
} from "../../../src/core/admin.ts";
import { type Database, type DatabaseOptions, openDatabase } from "../connection.ts";
import { checkDatabase } from "./check.ts";
import { generate, prepareGenerator } from "./generator.ts";
import { listParked } from "./parked.ts";
import { installObjects } from "./setup.ts";
import { databaseStatus } from "./status.ts";
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
  addTable(table: string, options: TableOptions, dryRun: boolean, signal: AbortSignal): Promise<readonly string[]> {
    return addTable(this.#db, table, options, dryRun, signal);
  }
  removeTable(table: string, keepColumns: boolean, signal: AbortSignal): Promise<readonly string[]> {
    return removeTable(this.#db, table, keepColumns, signal);
  }
  listTables(signal: AbortSignal): Promise<readonly TableState[]> {
    return listTables(this.#db, signal);
  }
  check(expected: Expectations, signal: AbortSignal): Promise<readonly Finding[]> {
    return checkDatabase(this.#db, expected, signal);
  }
  status(signal: AbortSignal): Promise<DatabaseStatus> {
    return databaseStatus(this.#db, signal);
  }
  parked(table: string | null, limit: number, signal: AbortSignal): Promise<readonly ParkedChange[]> {
    return listParked(this.#db, table, limit, signal);
  }
  prepareGenerator(signal: AbortSignal): Promise<readonly string[]> {
    return prepareGenerator(this.#db, signal);
  }
  generate(options: GeneratorOptions, signal: AbortSignal): Promise<GeneratorTotals> {
    return generate(this.#db, options, signal);
  }
  close(): Promise<void> {
    return this.#db.close();
  }
}
