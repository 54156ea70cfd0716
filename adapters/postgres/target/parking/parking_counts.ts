/** How much is parked, since when and of which tables: what /status, /ready and `replicator status` tell. */
import type { TargetCounts } from "../../../../src/core/target_store.ts";
import type { Queryable } from "../../connection.ts";
import { conflictCount } from "../conflicts/conflict_totals.ts";

/** `schema`: ours, quoted. */
export async function inboxCounts(db: Queryable, schema: string, timeoutMs: number): Promise<TargetCounts> {
  const [row] = await db.query<Record<"parked" | "dead" | "conflicts" | "tables", string> & { since: string | null }>(
    `SELECT coalesce(sum(t.parked), 0) AS parked, coalesce(sum(t.dead), 0) AS dead,
  coalesce(json_agg(t.label ORDER BY t.parked + t.dead DESC, t.label), '[]')::text AS tables,
  to_char(min(t.since) AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') AS since,
  ${conflictCount(schema)} AS conflicts
FROM (SELECT CASE WHEN schema_name = 'public' THEN '' ELSE quote_ident(schema_name) || '.' END || quote_ident(table_name) AS label,
        count(*) FILTER (WHERE status = 'parked') AS parked, count(*) FILTER (WHERE status = 'dead') AS dead, min(created_at) AS since
      FROM ${schema}.inbox GROUP BY schema_name, table_name) AS t`,
    [],
    { action: "count parked changes", timeoutMs },
  );
  return {
    parked: Number(row?.parked ?? 0),
    dead: Number(row?.dead ?? 0),
    conflicts: Number(row?.conflicts ?? 0),
    parkedSince: row?.since ?? null,
    parkedTables: JSON.parse(row?.tables ?? "[]") as readonly string[],
  };
}
