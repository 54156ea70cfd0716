/** `tables add | remove | list`: a thin layer over the SQL functions a DBA calls. */
import type { AddOptions, SequenceSlot, TableState } from "../../../src/core/admin.ts";
import { ReplicatorError } from "../../../src/core/errors.ts";
import { parseTableName } from "../../../src/core/table_name.ts";
import { type Connection, type Database, quoteIdentifier } from "../connection.ts";
import { isServerError, sqlState } from "../errors.ts";

/** setup_table_for_replication tries for the lock 30 times, half a second each, with pauses. */
const TIMEOUT_MS = 120_000;

// A name as SQL writes it: parse_ident folds case and takes quotes off; one part means schema public.
const RESOLVE = `
SELECT format('%I.%I', CASE WHEN cardinality(parts) > 1 THEN parts[1] ELSE 'public' END, parts[cardinality(parts)]) AS name
FROM parse_ident($1) AS parts WHERE cardinality(parts) <= 2`;

/**
 * In one transaction; the sequences after it in another, so that nobody who waits for the table holds a sequence we want.
 * @throws ReplicatorError `tables.bad_name`, `tables.missing`, `tables.unfit` with the remedy the database gives
 */
export async function addTable(
  db: Database,
  table: string,
  options: AddOptions,
  dryRun: boolean,
  signal: AbortSignal,
): Promise<readonly string[]> {
  const json = JSON.stringify({
    primary_key: options.primaryKey,
    capture: options.capture,
    conflict: options.conflict,
    exclude_columns: options.excludeColumns,
    stamp: options.stamp,
    columns: options.columns,
    dry_run: dryRun || undefined,
  });
  const statement = `SELECT line FROM "replicator".setup_table_for_replication($1::text::regclass, $2::text::jsonb) AS t(line)`;
  const lines = await onTable(db, table, "add", statement, [json], signal);
  if (!options.sequenceSlot) return lines;
  const placed = await placeSequences(db, table, options.sequenceSlot, dryRun, signal);
  // What adding the table advises is being done.
  return [...lines.filter((line) => !line.includes("--sequence-slot")), ...placed];
}

async function placeSequences(
  db: Database,
  table: string,
  { place, of }: SequenceSlot,
  dryRun: boolean,
  signal: AbortSignal,
): Promise<readonly string[]> {
  const statement = `SELECT line FROM "replicator".set_sequence_slot($1::text::regclass, $2::text::int, $3::text::int, $4::text::boolean) AS t(line)`;
  const verb = `give slot ${place}/${of} to the sequences of`;
  return await onTable(db, table, verb, statement, [String(place), String(of), String(dryRun)], signal);
}

export async function removeTable(
  db: Database,
  table: string,
  keepColumns: boolean,
  signal: AbortSignal,
): Promise<readonly string[]> {
  const statement = `SELECT line FROM "replicator".remove_table_from_replication($1::text::regclass, $2::text::boolean) AS t(line)`;
  try {
    return await onTable(db, table, "remove", statement, [keepColumns ? "false" : "true"], signal);
  } catch (error) {
    if (!(error instanceof ReplicatorError) || error.code !== "tables.missing") throw error;
    const lines = await removeDropped(db, table, signal);
    if (lines.length === 0) throw error;
    return lines;
  }
}

/** A table that was dropped while it was under replication has left its objects of ours behind. */
async function removeDropped(db: Database, table: string, signal: AbortSignal): Promise<readonly string[]> {
  const name = parseTableName(table);
  if (!name) return [];
  const rows = await db.query<{ line: string }>(
    db.ours(`SELECT line FROM "replicator".remove_dropped_table($1, $2) AS t(line)`),
    [name.schema, name.name],
    { action: `remove table ${table}`, signal },
  );
  return rows.map(({ line }) => line);
}

async function onTable(
  db: Database,
  table: string,
  verb: string,
  statement: string,
  params: readonly string[],
  signal: AbortSignal,
): Promise<readonly string[]> {
  const action = `${verb} table ${table}`;
  const run = { action, signal, timeoutMs: TIMEOUT_MS, prepare: false };
  const name = await resolveName(db, table, run);
  try {
    return await db.transaction(async (connection) => {
      await longerDeadline(connection);
      const rows = await connection.query<{ line: string }>(db.ours(statement), [name, ...params], run);
      return rows.map(({ line }) => line);
    }, signal);
  } catch (error) {
    throw explained(error, db, table, verb);
  }
}

/** The server's deadline must not end what ours still allows. */
async function longerDeadline(connection: Connection): Promise<void> {
  await connection.query("SELECT set_config('statement_timeout', $1, true)", [String(TIMEOUT_MS)]);
}

/** The table's name with its schema, quoted. @throws ReplicatorError `tables.bad_name` */
export async function resolveName(
  db: Database,
  table: string,
  run: { readonly action: string; readonly signal: AbortSignal },
): Promise<string> {
  const bad = (cause?: unknown) =>
    new ReplicatorError({
      code: "tables.bad_name",
      message: `Cannot ${run.action}: "${table}" is no table name`,
      retry: "never",
      fault: "input",
      remedy: 'Write it as SQL does: users, sales.orders, "My Schema"."Order"',
      cause,
    });
  try {
    const [row] = await db.query<{ name: string }>(RESOLVE, [table], run);
    if (!row) throw bad();
    return row.name;
  } catch (error) {
    throw sqlState(error) === "22023" ? bad(error) : error;
  }
}

/** What the SQL functions refuse comes with a hint: it is the remedy. */
function explained(error: unknown, db: Database, table: string, verb: string): unknown {
  if (!(error instanceof ReplicatorError)) return error;
  const state = sqlState(error);
  const hint: unknown = isServerError(error.cause) ? Reflect.get(error.cause, "hint") : undefined;
  const remedy = typeof hint === "string" ? hint : undefined;
  const details = { retry: "never", fault: "environment", facts: error.facts, cause: error.cause } as const;
  if (error.code === "database.objects_missing") return error;
  if (state === "42P01") {
    return new ReplicatorError({
      ...details,
      code: "tables.missing",
      message: `Cannot ${verb} table ${table}: there is no such table in ${db.label}`,
      remedy:
        verb === "remove"
          ? "replicator tables list shows those under replication; a name without a schema means schema public"
          : "Create it first; a name without a schema means schema public",
    });
  }
  if (state === "42501") {
    const owner = `Run as the owner of the table who may also use schema ${quoteIdentifier(db.schema)}, or as a superuser`;
    return new ReplicatorError({
      ...details,
      code: "tables.not_authorized",
      message: error.message,
      remedy: remedy ?? owner,
    });
  }
  if (remedy !== undefined)
    return new ReplicatorError({ ...details, code: "tables.unfit", message: error.message, remedy });
  return error;
}

const LIST = `
SELECT CASE WHEN t.schema_name = 'public' THEN '' ELSE quote_ident(t.schema_name) || '.' END || quote_ident(t.table_name) AS "table",
       array_to_json(t.key_columns)::text AS key, array_to_json(t.stamp_columns)::text AS stamp, t.capture, t.conflict,
       array_to_json(t.exclude_columns)::text AS exclude_columns,
       coalesce((SELECT l.channel FROM "replicator".layout l
                  WHERE l.layout_version = (SELECT max(layout_version) FROM "replicator".layout) AND l.channel <> 'changes'
                    AND t.table_id = ANY (l.table_ids) LIMIT 1), 'changes') AS channel,
       coalesce((SELECT s.reason FROM "replicator".stale_tables() s WHERE s.table_id = t.table_id), 'ok') AS state
  FROM "replicator".replicated_table t
 WHERE t.removed_at IS NULL
 ORDER BY t.schema_name, t.table_name`;

type ListRow = Readonly<
  Record<"table" | "key" | "stamp" | "capture" | "conflict" | "exclude_columns" | "channel" | "state", string>
>;

/** Tables under replication, the stale ones with the reason. */
export async function listTables(db: Database, signal: AbortSignal): Promise<readonly TableState[]> {
  const rows = await db.query<ListRow>(db.ours(LIST), [], { action: "list the replicated tables", signal });
  return rows.map((row) => ({
    ...row,
    key: names(row.key),
    stamp: names(row.stamp),
    exclude_columns: names(row.exclude_columns),
  }));
}

/** A JSON array of texts, as array_to_json writes it. */
export function names(json: string): readonly string[] {
  const value: unknown = JSON.parse(json);
  return Array.isArray(value) ? value.map(String) : [];
}
