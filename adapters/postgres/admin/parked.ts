/** `parked list | show | retry`: what could not be applied, oldest first. */
import type {
  ParkedChange,
  ParkedDetail,
  ParkedFilter,
  ParkedOutcome,
  ParkedSelection,
} from "../../../src/core/admin.ts";
import { ReplicatorError } from "../../../src/core/errors.ts";
import { parseTableName, type TableName } from "../../../src/core/table_name.ts";
import { type Database, type Queryable, textArray } from "../connection.ts";

const time = (column: string) => `to_char(${column} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')`;

const CHANGE = `i.id, i.event_id, i.source_contour, i.channel,
  CASE WHEN i.schema_name = 'public' THEN '' ELSE quote_ident(i.schema_name) || '.' END || quote_ident(i.table_name) AS "table",
  i.operation, i.record_id, i.version, i.status, i.error_code, i.error, i.remedy, i.attempts,
  CASE WHEN isfinite(i.next_attempt_at) THEN ${time("i.next_attempt_at")} END AS next_attempt_at, ${time("i.created_at")} AS created_at,
  greatest(0, floor(extract(epoch FROM clock_timestamp() - i.created_at)))::bigint AS age_seconds`;

const LIST = `
SELECT ${CHANGE} FROM "replicator".inbox i
 WHERE ($1::text IS NULL OR (i.schema_name, i.table_name) = ($1, $2)) AND ($3::boolean IS NOT TRUE OR i.status = 'dead')
 ORDER BY i.id LIMIT $4::int`;

const DETAIL = `
SELECT ${CHANGE}, i.partition, i.epoch, i.sequence, i.cut_no, i.transaction_id, i.queue_id, ${time("i.captured_at")} AS captured_at,
  array_to_json(i.key_columns)::text AS key_columns, array_to_json(i.stamp_columns)::text AS stamp_columns,
  coalesce(i.facts, '{}')::text AS facts, i.data
  FROM "replicator".inbox i WHERE i.id = $1::bigint`;

type ChangeRow = Readonly<Record<Exclude<keyof ParkedChange, "id" | "attempts" | "age_seconds">, string>> & {
  readonly id: string;
  readonly attempts: string;
  readonly age_seconds: string;
};
type DetailRow = ChangeRow & Readonly<Record<Exclude<keyof ParkedDetail, keyof ParkedChange>, string>>;

export async function listParked(
  db: Database,
  filter: ParkedFilter,
  limit: number,
  signal: AbortSignal,
): Promise<readonly ParkedChange[]> {
  const table = filter.table === null ? null : tableOf(filter.table);
  const params = [table?.schema ?? null, table?.name ?? null, filter.dead, limit];
  const rows = await db.query<ChangeRow>(db.ours(LIST), params, { action: "list the parked changes", signal });
  return rows.map(toChange);
}

export async function parkedDetail(db: Database, id: string, signal: AbortSignal): Promise<ParkedDetail> {
  const [row] = await db.query<DetailRow>(db.ours(DETAIL), [id], { action: `read parked change ${id}`, signal });
  if (!row) throw unknownIds([id]);
  // Names only; the row itself stays text (I7).
  const list = (json: string | null) => (json === null ? null : (JSON.parse(json) as readonly string[]));
  return {
    ...row,
    ...toChange(row),
    partition: Number(row.partition),
    key_columns: list(row.key_columns),
    stamp_columns: list(row.stamp_columns),
    facts: JSON.parse(row.facts) as Readonly<Record<string, string>>,
  };
}

/** Attempts 0: asked for by a person, so that it is tried even where others of its kind are tried for it. */
const MARK = `
UPDATE "replicator".inbox SET status = 'parked', attempts = 0, next_attempt_at = clock_timestamp()`;

export async function retryParked(
  db: Database,
  selection: ParkedSelection,
  signal: AbortSignal,
): Promise<readonly string[]> {
  const run = { action: "make parked changes due", signal };
  const marked = async (on: Queryable, where: string, params: readonly string[]) =>
    (await on.query<{ id: string }>(`${db.ours(MARK)} ${where} RETURNING id`, params, run)).map(({ id }) => id);
  if (selection === "all") return await marked(db, "", []);
  if ("table" in selection) {
    const { schema, name } = tableOf(selection.table);
    return await marked(db, "WHERE schema_name = $1 AND table_name = $2", [schema, name]);
  }
  const { ids } = selection;
  return await db.transaction(async (connection) => {
    const found = await marked(connection, "WHERE id = ANY ($1::text::bigint[])", [textArray(ids)]);
    assertKnown(ids, found);
    return found;
  }, signal);
}

export async function parkedOutcomes(
  db: Database,
  ids: readonly string[],
  signal: AbortSignal,
): Promise<readonly ParkedOutcome[]> {
  const rows = await db.query<{ id: string; outcome: ParkedOutcome["outcome"]; error: string; remedy: string }>(
    db.ours(`SELECT w.id, i.error, i.remedy,
  CASE WHEN i.id IS NULL THEN 'resolved' WHEN i.attempts = 0 THEN 'due' ELSE i.status END AS outcome
FROM unnest($1::text::bigint[]) AS w(id) LEFT JOIN "replicator".inbox i USING (id) ORDER BY w.id`),
    [textArray(ids)],
    { action: "look what became of parked changes", signal },
  );
  return rows.map((row) => ({ ...row, id: Number(row.id) }));
}

/** @throws ReplicatorError `parked.unknown` */
export function assertKnown(ids: readonly string[], found: readonly string[]): void {
  const known = new Set(found.map(BigInt));
  const unknown = ids.filter((id) => !known.has(BigInt(id)));
  if (unknown.length > 0) throw unknownIds(unknown);
}

function unknownIds(ids: readonly string[]): ReplicatorError {
  return new ReplicatorError({
    code: "parked.unknown",
    message: `No parked change has the id ${ids.join(", ")}: it was applied, superseded or discarded, or never there`,
    retry: "never",
    fault: "input",
    remedy: "replicator parked list shows those there are",
  });
}

function tableOf(name: string): TableName {
  const table = parseTableName(name);
  if (table) return table;
  throw new ReplicatorError({
    code: "parked.bad_table",
    message: `"${name}" is no table name`,
    retry: "never",
    fault: "input",
    remedy: 'Write it as SQL does: users, sales.orders, "My Schema"."Order"',
  });
}

function toChange(row: ChangeRow): ParkedChange {
  const { id, event_id, source_contour, channel, table, operation, record_id, version } = row;
  const { status, error_code, error, remedy, next_attempt_at, created_at } = row;
  const change = { event_id, source_contour, channel, table, operation, record_id, version };
  const trouble = { status, error_code, error, remedy, attempts: Number(row.attempts) };
  return { id: Number(id), ...change, ...trouble, next_attempt_at, created_at, age_seconds: Number(row.age_seconds) };
}
