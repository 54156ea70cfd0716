/** Where a contour's changes stand on their way: captured, confirmed by the broker, applied. */
import type { ChannelPosition } from "../../../src/core/verify.ts";
import type { Database } from "../connection.ts";

// A standby captures nothing, and its snapshot does not list what is under way (review A2).
const MARK = `SELECT CASE WHEN pg_is_in_recovery() THEN NULL ELSE pg_current_snapshot()::text END AS mark`;

/** Everything that is committed now, as a snapshot's text; null on a standby. */
export async function markNow(db: Database, signal: AbortSignal): Promise<string | null> {
  const [row] = await db.query<{ mark: string | null }>(MARK, [], { action: "take a snapshot", signal });
  return row?.mark ?? null;
}

// By the index on xid, and only until the first one is found: as fast with any backlog.
const WAITING = `
SELECT EXISTS (
  SELECT FROM "replicator".pending_ranges() r CROSS JOIN LATERAL (
    (SELECT 1 FROM "replicator".queue q
      WHERE q.xid >= pg_snapshot_xmax(r.since) AND pg_visible_in_snapshot(q.xid, $1::text::pg_snapshot)
        AND (q.table_id = ANY (r.tables)) <> r.inverse AND (r.upto IS NULL OR pg_visible_in_snapshot(q.xid, r.upto)) LIMIT 1)
    UNION ALL
    (SELECT 1 FROM "replicator".queue q
      WHERE q.xid = ANY (ARRAY(SELECT pg_snapshot_xip(r.since))) AND pg_visible_in_snapshot(q.xid, $1::text::pg_snapshot)
        AND (q.table_id = ANY (r.tables)) <> r.inverse AND (r.upto IS NULL OR pg_visible_in_snapshot(q.xid, r.upto)) LIMIT 1)) w
)::text AS waiting`;

const CONFIRMED = `
SELECT c.channel, (s.n - 1)::text AS partition, c.epoch::text AS epoch, s.sequence::text AS sequence
  FROM (SELECT DISTINCT channel FROM "replicator".confirmed) k
  CROSS JOIN LATERAL (SELECT * FROM "replicator".confirmed f WHERE f.channel = k.channel ORDER BY f.cut_no DESC LIMIT 1) c
  CROSS JOIN LATERAL unnest(c.sequences) WITH ORDINALITY AS s(sequence, n)`;

type PositionRow = Readonly<Record<"channel" | "partition" | "epoch" | "sequence", string>>;

/** The channels' positions once all that the mark saw is confirmed; null before that. */
export async function publishedUpTo(
  db: Database,
  mark: string,
  signal: AbortSignal,
): Promise<readonly ChannelPosition[] | null> {
  const run = { action: "look at what is published", signal };
  const [row] = await db.query<{ waiting: string }>(db.ours(WAITING), [mark], run);
  if (row?.waiting !== "false") return null;
  return (await db.query<PositionRow>(db.ours(CONFIRMED), [], run)).map(toPosition);
}

const APPLIED = `
SELECT l.channel, l.partition::text AS partition, p.epoch::text AS epoch, p.sequence::text AS sequence
  FROM "replicator".ledger l
  CROSS JOIN LATERAL (
       SELECT * FROM ((SELECT a.epoch, a.sequence FROM "replicator".applied a WHERE a.ledger_id = l.ledger_id
                        ORDER BY a.epoch DESC, a.sequence DESC LIMIT 1)
                      UNION ALL SELECT l.epoch, l.sequence) e ORDER BY e.epoch DESC, e.sequence DESC LIMIT 1) p
 WHERE l.source = $1`;

/** What has been applied here of a contour; null where nobody reads that contour. */
export async function appliedOf(
  db: Database,
  source: string,
  signal: AbortSignal,
): Promise<readonly ChannelPosition[] | null> {
  const run = { action: `look at what has been applied of ${source}`, signal };
  const rows = await db.query<PositionRow>(db.ours(APPLIED), [source], run);
  return rows.length === 0 ? null : rows.map(toPosition);
}

function toPosition({ channel, partition, epoch, sequence }: PositionRow): ChannelPosition {
  return { channel, partition: Number(partition), epoch: BigInt(epoch), sequence: BigInt(sequence) };
}
