/** What is captured and not yet confirmed: milliseconds at any size of the queue, it looks at the backlog only. */
import { DEFAULT_CHANNEL } from "../../../src/core/channel.ts";
import type { Backlog } from "../../../src/core/source_store.ts";
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
  SELECT q.id, q.rows, q.captured_at, octet_length(q.data) AS bytes
  FROM known CROSS JOIN LATERAL (
    SELECT id, rows, captured_at, table_id, data FROM "replicator".queue WHERE xid >= pg_snapshot_xmax(known.snap)
    UNION ALL
    SELECT id, rows, captured_at, table_id, data FROM "replicator".queue
    WHERE xid = ANY (ARRAY(SELECT pg_snapshot_xip(known.snap)))
  ) AS q
  WHERE (q.table_id = ANY (known.ids)) <> known.others
  LIMIT ${COUNTED}
)
SELECT CASE WHEN count(waiting.id) < ${COUNTED} THEN coalesce(sum(rows), 0)
            ELSE greatest(sum(rows), newest.id - min(waiting.id) + 1) END::text AS unpublished,
       coalesce(sum(bytes), 0)::text AS bytes,
       greatest(coalesce(extract(epoch FROM clock_timestamp() - min(captured_at)), 0), 0)::text AS oldest_seconds,
       newest.id::text AS last_queue_id, coalesce(min(waiting.id) - 1, newest.id)::text AS settled_queue_id
FROM (SELECT CASE WHEN is_called THEN last_value ELSE 0 END AS id FROM "replicator".queue_id_seq) AS newest
LEFT JOIN waiting ON true
GROUP BY newest.id`;

/** Tables are counted where the newest layout puts them: off by a table's old rows just after it changed its channel. */
export async function backlog(db: Database): Promise<Backlog> {
  const { bytes: _, ...known } = await backlogWithBytes(db);
  return known;
}

/** The same, and the bytes of the rows that were counted: of a longer backlog there are more. */
export async function backlogWithBytes(db: Database): Promise<Backlog & { readonly bytes: number }> {
  type Counted = "unpublished" | "bytes" | "oldest_seconds" | "last_queue_id" | "settled_queue_id";
  type BacklogRow = Readonly<Record<Counted, string>>;
  const options = { action: "count the backlog", timeoutMs: CONTROL_TIMEOUT_MS };
  const [row] = await db.query<BacklogRow>(db.ours(BACKLOG), [], options);
  if (!row) throw new Error("BACKLOG answers with one row");
  return {
    unpublished: Number(row.unpublished),
    bytes: Number(row.bytes),
    oldestSeconds: Number(row.oldest_seconds),
    lastQueueId: row.last_queue_id,
    settledQueueId: row.settled_queue_id,
  };
}
