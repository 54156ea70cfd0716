/** What is captured and not yet confirmed: milliseconds at any size of the queue, it looks at the backlog only. */
import { DEFAULT_CHANNEL } from "../../../src/core/channel.ts";
import { CONTROL_TIMEOUT_MS, type Database } from "../connection.ts";
import { BEGINNING } from "./snapshot.ts";

/** Queue rows counted one by one; a longer backlog is estimated from its ids. */
const COUNTED = 20_000;

const BACKLOG = `
WITH placed AS MATERIALIZED (
  SELECT l.channel, l.table_ids,
         coalesce((SELECT c.cut_no FROM "replicator".confirmed AS c WHERE c.channel = l.channel ORDER BY c.cut_no DESC LIMIT 1),
                  (SELECT min(c.cut_no) - 1 FROM "replicator".cut AS c, "replicator".layout AS k
                   WHERE k.channel = l.channel AND c.layout_version = k.layout_version), 0) AS cut_no
  FROM "replicator".layout AS l
  WHERE l.layout_version = (SELECT max(layout_version) FROM "replicator".layout)
), known AS MATERIALIZED (
  SELECT p.channel = '${DEFAULT_CHANNEL}' AS others,
         CASE WHEN p.channel = '${DEFAULT_CHANNEL}'
              THEN ARRAY(SELECT unnest(o.table_ids) FROM placed AS o WHERE o.channel <> p.channel) ELSE p.table_ids END AS ids,
         coalesce((SELECT c.snap_to FROM "replicator".cut AS c WHERE c.cut_no <= p.cut_no ORDER BY c.cut_no DESC LIMIT 1),
                  '${BEGINNING}') AS snap
  FROM placed AS p
), waiting AS MATERIALIZED (
  SELECT q.id, q.rows, q.captured_at
  FROM known CROSS JOIN LATERAL (
    SELECT id, rows, captured_at, table_id FROM "replicator".queue WHERE xid >= pg_snapshot_xmax(known.snap)
    UNION ALL
    SELECT id, rows, captured_at, table_id FROM "replicator".queue
    WHERE xid = ANY (ARRAY(SELECT pg_snapshot_xip(known.snap)))
  ) AS q
  WHERE (q.table_id = ANY (known.ids)) <> known.others
  LIMIT ${COUNTED}
)
SELECT CASE WHEN count(*) < ${COUNTED} THEN coalesce(sum(rows), 0)
            ELSE greatest(sum(rows), (SELECT last_value FROM "replicator".queue_id_seq) - min(id) + 1) END::text AS unpublished,
       greatest(coalesce(extract(epoch FROM clock_timestamp() - min(captured_at)), 0), 0)::text AS oldest_seconds,
       (SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM "replicator".queue_id_seq)::text AS last_queue_id
FROM waiting`;

/** Tables are counted where the newest layout puts them: off by a table's old rows just after it changed its channel. */
export async function backlog(
  db: Database,
): Promise<{ readonly unpublished: number; readonly oldestSeconds: number; readonly lastQueueId: string }> {
  const [row] = await db.query<{ unpublished: string; oldest_seconds: string; last_queue_id: string }>(
    db.ours(BACKLOG),
    [],
    { action: "count the backlog", timeoutMs: CONTROL_TIMEOUT_MS },
  );
  if (!row) throw new Error("BACKLOG answers with one row");
  return {
    unpublished: Number(row.unpublished),
    oldestSeconds: Number(row.oldest_seconds),
    lastQueueId: row.last_queue_id,
  };
}
