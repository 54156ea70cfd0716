/** `conflicts list | show`: what two contours wrote without having seen each other, newest first. */
import type { ConflictColumn, ConflictDetail, ConflictFilter, ConflictLine } from "../../../src/core/admin.ts";
import { ReplicatorError } from "../../../src/core/errors.ts";
import { parseTableName } from "../../../src/core/table_name.ts";
import type { Database } from "../connection.ts";

const LINE = `c.id, to_char(c.occurred_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') AS occurred_at, c.source_contour,
  CASE WHEN c.schema_name = 'public' THEN '' ELSE quote_ident(c.schema_name) || '.' END || quote_ident(c.table_name) AS "table",
  c.record_id, c.policy, c.winner, c.reason, c.override, c.torn, c.transaction_id, c.event_id`;

const LIST = `
SELECT ${LINE} FROM "replicator".conflict_log c
 WHERE ($1::text IS NULL OR (c.schema_name, c.table_name) = ($1, $2))
   AND ($3::text IS NULL OR c.occurred_at >= clock_timestamp() - $3::float8 * interval '1 ms')
 ORDER BY c.occurred_at DESC, c.id DESC LIMIT $4::int`;

const SHOW = `
SELECT ${LINE}, c.local_row, c.incoming_row FROM "replicator".conflict_log c WHERE c.id = $1::bigint`;

/** Members of both images in their order, compared as text: PostgreSQL rendered both (I7). */
const COLUMNS = `
SELECT coalesce(l.key, i.key) AS "column", l.value #>> '{}' AS local, i.value #>> '{}' AS incoming,
  l.key IS NOT NULL AS here, i.key IS NOT NULL AS there,
  l.key IS NULL OR i.key IS NULL OR l.value #>> '{}' IS DISTINCT FROM i.value #>> '{}' AS differs
FROM json_each(nullif($1::text, '')::json) WITH ORDINALITY AS l(key, value, n)
FULL JOIN json_each(nullif($2::text, '')::json) WITH ORDINALITY AS i(key, value, n) ON i.key = l.key
ORDER BY coalesce(l.n, i.n), l.n IS NULL`;

type LineRow = Readonly<Record<keyof ConflictLine, string>>;
type DetailRow = LineRow & Readonly<Record<"local_row" | "incoming_row", string | null>>;

export async function listConflicts(
  db: Database,
  filter: ConflictFilter,
  limit: number,
  signal: AbortSignal,
): Promise<readonly ConflictLine[]> {
  const table = filter.table === null ? null : parseTableName(filter.table);
  if (filter.table !== null && !table) throw badTable(filter.table);
  const params = [table?.schema ?? null, table?.name ?? null, filter.sinceMs, limit];
  const rows = await db.query<LineRow>(db.ours(LIST), params, { action: "list the conflicts", signal });
  return rows.map(toLine);
}

export async function conflictDetail(db: Database, id: string, signal: AbortSignal): Promise<ConflictDetail> {
  const run = { action: `read conflict ${id}`, signal };
  const [row] = await db.query<DetailRow>(db.ours(SHOW), [id], run);
  if (!row) throw unknown(id);
  const { local_row, incoming_row } = row;
  const columns = await db.query<Readonly<Record<"column" | "here" | "there" | "differs", string>> & ImageValues>(
    COLUMNS,
    [local_row, incoming_row],
    run,
  );
  return {
    ...toLine(row),
    columns: columns.map(({ column, local, incoming, here, there, differs }): ConflictColumn => {
      const values = { ...(here === "t" ? { local } : {}), ...(there === "t" ? { incoming } : {}) };
      return { column, ...values, differs: differs === "t" };
    }),
    local_row,
    incoming_row,
  };
}

interface ImageValues {
  readonly local: string | null;
  readonly incoming: string | null;
  readonly [column: string]: string | null;
}

function toLine(row: LineRow): ConflictLine {
  const { occurred_at, source_contour, table, record_id, policy, winner, reason, override } = row;
  const what = { id: Number(row.id), occurred_at, source_contour, table, record_id };
  const decision = { policy, winner, reason, override, torn: row.torn === "t" };
  return { ...what, ...decision, transaction_id: row.transaction_id, event_id: row.event_id };
}

function unknown(id: string): ReplicatorError {
  return new ReplicatorError({
    code: "conflicts.unknown",
    message: `No line of the conflict log has the id ${id}: it was older than consumer.conflict_log_retention, or never there`,
    retry: "never",
    fault: "input",
    remedy: "replicator conflicts list shows those there are",
  });
}

function badTable(name: string): ReplicatorError {
  return new ReplicatorError({
    code: "conflicts.bad_table",
    message: `"${name}" is no table name`,
    retry: "never",
    fault: "input",
    remedy: 'Write it as SQL does: users, sales.orders, "My Schema"."Order"',
  });
}
