/** Queue, inbox and what was applied, as numbers: the section "databases" of `verify`. */
import type { SideFacts } from "../../../src/core/verify.ts";
import { type Database, quoteIdentifier } from "../connection.ts";
import { backlog } from "../source/backlog.ts";
import { inboxCounts } from "../target/parking/parking_counts.ts";

const INBOX_MS = 60_000;

// The queue is looked through once: its lines stay where they are, out of line.
const FACTS = `
SELECT nullif((SELECT contour FROM "replicator".local), '') AS contour,
       coalesce(q.rows, 0)::text AS queued, round(extract(epoch FROM clock_timestamp() - q.newest), 3)::text AS last_captured,
       coalesce(a.rows, 0)::text AS processed, round(extract(epoch FROM clock_timestamp() - a.newest), 3)::text AS last_applied
  FROM (SELECT sum(rows) AS rows, max(captured_at) AS newest FROM "replicator".queue) q
  CROSS JOIN (SELECT sum(cardinality(versions)) AS rows, max(applied_at) AS newest FROM "replicator".applied) a`;

// As pending_rows(), without the rows' text: a long backlog has gigabytes of it.
const WAITING = `
SELECT CASE WHEN t.schema_name = 'public' THEN '' ELSE quote_ident(t.schema_name) || '.' END || quote_ident(t.table_name) AS "table",
       sum(q.rows)::text AS changes, greatest(round(extract(epoch FROM clock_timestamp() - min(q.captured_at)), 3), 0)::text AS oldest
  FROM "replicator".pending_ranges() r
  CROSS JOIN LATERAL (
       SELECT xid, table_id, rows, captured_at FROM "replicator".queue WHERE xid >= pg_snapshot_xmax(r.since)
       UNION ALL
       SELECT xid, table_id, rows, captured_at FROM "replicator".queue WHERE xid = ANY (ARRAY(SELECT pg_snapshot_xip(r.since)))) q
  JOIN "replicator".replicated_table t ON t.table_id = q.table_id
 WHERE (q.table_id = ANY (r.tables)) <> r.inverse AND (r.upto IS NULL OR pg_visible_in_snapshot(q.xid, r.upto))
 GROUP BY 1`;

const NOTHING: SideFacts = { contour: null, queue: null, inbox: null, processed: null, waiting: {} };

export async function readFacts(db: Database, installed: boolean, signal: AbortSignal): Promise<SideFacts> {
  if (!installed) {
    await db.ping(signal);
    return NOTHING;
  }
  const run = { action: `count queue and inbox of ${db.label}`, signal };
  const [row] = await db.query<
    Record<"contour" | "queued" | "last_captured" | "processed" | "last_applied", string | null>
  >(db.ours(FACTS), [], run);
  const waiting = await db.query<Record<"table" | "changes" | "oldest", string>>(db.ours(WAITING), [], run);
  const { unpublished, oldestSeconds } = await backlog(db);
  const { parked, dead } = await inboxCounts(db, quoteIdentifier(db.schema), INBOX_MS);
  return {
    contour: row?.contour ?? null,
    queue: {
      unpublished,
      total: Number(row?.queued),
      oldest_seconds: oldestSeconds,
      last_captured_seconds: seconds(row?.last_captured),
    },
    inbox: { parked, dead },
    processed: { total: Number(row?.processed), last_applied_seconds: seconds(row?.last_applied) },
    waiting: Object.fromEntries(
      waiting.map(({ table, changes, oldest }) => [
        table,
        { changes: Number(changes), oldest_seconds: Number(oldest) },
      ]),
    ),
  };
}

function seconds(text: string | null | undefined): number | null {
  return text === null || text === undefined ? null : Number(text);
}
