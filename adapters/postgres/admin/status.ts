/** What the database alone knows: `status` falls back on it when no process answers. */
import type { DatabaseStatus } from "../../../src/core/admin.ts";
import type { Database } from "../connection.ts";
import { backlog } from "../source/backlog.ts";
import { listTables } from "./tables.ts";

const COUNTS = `
SELECT (SELECT contour FROM "replicator".local) AS contour,
       (SELECT count(*) FROM "replicator".inbox)::text AS parked,
       (SELECT count(*) FROM "replicator".conflict_log)::text AS conflicts,
       to_char(greatest((SELECT max(confirmed_at) FROM "replicator".confirmed), (SELECT max(applied_at) FROM "replicator".applied))
               AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') AS last_sync_time`;

export async function databaseStatus(db: Database, signal: AbortSignal): Promise<DatabaseStatus> {
  const [row] = await db.query<{ contour: string; parked: string; conflicts: string; last_sync_time: string | null }>(
    db.ours(COUNTS),
    [],
    { action: "read the state of replication", signal },
  );
  if (!row) throw new Error("COUNTS answers with one row");
  const waiting = await backlog(db);
  const tables = await listTables(db, signal);
  return {
    contour: row.contour,
    last_lsn: waiting.lastQueueId,
    last_sync_time: row.last_sync_time,
    unpublished: waiting.unpublished,
    lag_seconds: waiting.oldestSeconds,
    parked: Number(row.parked),
    conflicts: Number(row.conflicts),
    tables: tables.map(({ table, channel, conflict }) => ({ table, channel, conflict })),
  };
}
