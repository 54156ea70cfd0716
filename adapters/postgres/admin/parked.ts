/** `parked list`: what could not be applied, newest trouble last. */
import type { ParkedChange } from "../../../src/core/admin.ts";
import type { Database } from "../connection.ts";

const PARKED = `
SELECT * FROM (
    SELECT i.id, i.event_id, i.source_contour, i.channel,
           CASE WHEN i.schema_name = 'public' THEN '' ELSE quote_ident(i.schema_name) || '.' END || quote_ident(i.table_name) AS "table",
           i.operation, i.record_id, i.version, i.status, i.error_code, i.error, i.attempts,
           to_char(i.next_attempt_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') AS next_attempt_at,
           to_char(i.created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') AS created_at
      FROM "replicator".inbox i) p
 WHERE $1::text IS NULL OR p."table" = $1
 ORDER BY p.id LIMIT $2::int`;

type Column = keyof ParkedChange;

export async function listParked(
  db: Database,
  table: string | null,
  limit: number,
  signal: AbortSignal,
): Promise<readonly ParkedChange[]> {
  const rows = await db.query<Readonly<Record<Column, string>>>(db.ours(PARKED), [table, limit], {
    action: "list the parked changes",
    signal,
  });
  return rows.map((row) => ({ ...row, id: Number(row.id), attempts: Number(row.attempts) }));
}
