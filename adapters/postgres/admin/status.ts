/** What the database alone knows: `status` falls back on it when no process answers. */
import type { DatabaseStatus } from "../../../src/core/admin.ts";
import { type Database, quoteIdentifier } from "../connection.ts";
import { backlog } from "../source/backlog.ts";
import { snapshotStatus } from "../source/snapshot_source.ts";
import { inboxCounts } from "../target/parking/parking_counts.ts";
import { listTables } from "./tables.ts";

const TIMEOUT_MS = 60_000;
const STATE = `
SELECT (SELECT contour FROM "replicator".local) AS contour,
       to_char(greatest((SELECT max(confirmed_at) FROM "replicator".confirmed), (SELECT max(applied_at) FROM "replicator".applied))
               AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') AS last_sync_time`;

export async function databaseStatus(db: Database, signal: AbortSignal): Promise<DatabaseStatus> {
  const [row] = await db.query<{ contour: string; last_sync_time: string | null }>(db.ours(STATE), [], {
    action: "read the state of replication",
    signal,
  });
  if (!row) throw new Error("STATE answers with one row");
  const waiting = await backlog(db);
  const tables = await listTables(db, signal);
  return {
    contour: row.contour,
    last_lsn: waiting.lastQueueId,
    settled_lsn: waiting.settledQueueId,
    last_sync_time: row.last_sync_time,
    unpublished: waiting.unpublished,
    lag_seconds: waiting.oldestSeconds,
    ...(await inboxCounts(db, quoteIdentifier(db.schema), TIMEOUT_MS)),
    snapshots: await snapshotStatus(db),
    tables: tables.map(({ table, channel, conflict, capture }) => ({
      table,
      channel,
      conflict,
      mode: capture === "none" ? "periodic" : "trigger",
    })),
  };
}
