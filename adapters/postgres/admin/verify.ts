/** The port of `verify` over a PostgreSQL database at hand. Reads only. */
import type { TableName } from "../../../src/core/table_name.ts";
import type { ChannelPosition, SideFacts, TableShape, VerifyRows, VerifySide } from "../../../src/core/verify.ts";
import { type Database, type DatabaseOptions, openDatabase } from "../connection.ts";
import { readFacts } from "./verify_facts.ts";
import { appliedOf, markNow, publishedUpTo } from "./verify_positions.ts";
import { verifyRows } from "./verify_rows.ts";
import { type DatabaseShape, readShape } from "./verify_shape.ts";

/** A chunk of wide rows on a busy machine takes its time; a database that is gone is noticed sooner. */
const STATEMENT_MS = 600_000;

const SETTINGS = {
  // A row that a policy hides would be taken for a missing one: PostgreSQL refuses instead.
  row_security: "off",
  // The one setting besides those of every session that changes a value's text (money).
  lc_monetary: "C",
  // Nothing is written.
  default_transaction_read_only: "on",
} as const;

/** Nothing connects before the first call. @throws ReplicatorError `config.bad_database_url` */
export function openVerifySide(options: Omit<DatabaseOptions, "applicationName">): VerifySide {
  return new PostgresSide(
    openDatabase({
      max: 2,
      queryTimeoutMs: STATEMENT_MS,
      ...options,
      applicationName: "replicator_verify",
      sessionSettings: SETTINGS,
    }),
  );
}

class PostgresSide implements VerifySide {
  readonly #db: Database;
  readonly #shapes = new WeakMap<TableShape, DatabaseShape>();
  #installed: Promise<boolean> | null = null;

  constructor(db: Database) {
    this.#db = db;
  }

  get label(): string {
    return this.#db.label;
  }

  async facts(signal: AbortSignal): Promise<SideFacts> {
    return readFacts(this.#db, await this.#hasObjects(signal), signal);
  }

  async replicated(signal: AbortSignal): Promise<readonly string[]> {
    if (!(await this.#hasObjects(signal))) return [];
    const rows = await this.#db.query<{ table: string }>(
      this.#db.ours(`SELECT CASE WHEN schema_name = 'public' THEN '' ELSE quote_ident(schema_name) || '.' END || quote_ident(table_name) AS "table"
                       FROM "replicator".replicated_table WHERE removed_at IS NULL ORDER BY schema_name, table_name`),
      [],
      { action: "list the replicated tables", signal },
    );
    return rows.map(({ table }) => table);
  }

  async shape(table: TableName, key: readonly string[] | null, signal: AbortSignal): Promise<TableShape | null> {
    const shape = await readShape(this.#db, await this.#hasObjects(signal), table, key, signal);
    if (shape) this.#shapes.set(shape, shape);
    return shape;
  }

  rows(shape: TableShape, columns: readonly string[]): VerifyRows {
    const known = this.#shapes.get(shape);
    if (!known) throw new Error(`The shape of ${shape.table} is of another database`);
    return verifyRows({ db: this.#db, shape, key: known.keyColumns, columns, polled: known.polled });
  }

  async mark(signal: AbortSignal): Promise<string | null> {
    return (await this.#hasObjects(signal)) ? markNow(this.#db, signal) : null;
  }

  published(mark: string, signal: AbortSignal): Promise<readonly ChannelPosition[] | null> {
    return publishedUpTo(this.#db, mark, signal);
  }

  async applied(source: string, signal: AbortSignal): Promise<readonly ChannelPosition[] | null> {
    return (await this.#hasObjects(signal)) ? appliedOf(this.#db, source, signal) : null;
  }

  close(): Promise<void> {
    return this.#db.close();
  }

  #hasObjects(signal: AbortSignal): Promise<boolean> {
    this.#installed ??= this.#db
      .query<{ installed: string }>(
        this.#db.ours(`SELECT (to_regclass('"replicator".replicated_table') IS NOT NULL)::text AS installed`),
        [],
        { action: `look for the replicator's objects in ${this.#db.label}`, signal },
      )
      .then(([row]) => row?.installed === "true");
    return this.#installed;
  }
}
