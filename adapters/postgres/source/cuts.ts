/** Cuts and what was confirmed of them: appended, never updated (architecture §4.1, I1 I13). */
import { ReplicatorError } from "../../../src/core/errors.ts";
import type { Lease } from "../../../src/core/lease.ts";
import type { ChannelState, Cut } from "../../../src/core/source_store.ts";
import { CONTROL_TIMEOUT_MS, type Database, textArray } from "../connection.ts";
import { sqlState } from "../errors.ts";
import { leaseLost } from "./leases.ts";
import { BEGINNING } from "./snapshot.ts";

/** Numbers of cuts to a ring slot; sql/01_create_tables.sql says the same. */
export const CUTS_PER_SLOT = 268_435_456;
export const CUT_SLOTS = 4;
/** How a cut's rows become chunks and frames; another rule is another name (I13). */
export const SPLITTER = "greedy/1";

const COLUMNS = `cut_no, epoch, snap_from::text, snap_to::text, layout_version, frame_bytes, splitter,
  to_char(taken_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS taken_at`;

// One autocommit statement, one snapshot (READ COMMITTED): what `due` sees is exactly what snap_to says.
//   fence  the lease is ours and has not run out; a second cutter would fail on the primary key of cut_no
//   due    something is visible that was not before: rows of new transactions, or of those that were open at the last
//          cut; or transactions are open that the last cut does not know (once a second: their rows are then found by
//          xid instead of being looked over again and again while uncommitted)
// A transaction that has an xid already could write rows of its own after its snapshot: refused (review A2). Without
// anything due no row is inserted, so no xid is assigned.
const TAKE = `
WITH fence AS MATERIALIZED (
  SELECT FROM "replicator".lease
  WHERE kind = 'cutter' AND name = '' AND owner = $1 AND term = $2 AND expires_at > clock_timestamp()
), present AS MATERIALIZED (
  SELECT pg_current_snapshot() AS snap
), previous AS MATERIALIZED (
  SELECT coalesce(max(p.cut_no), 0) AS cut_no, coalesce(max(p.snap::text), '${BEGINNING}')::pg_snapshot AS snap,
         coalesce(max(p.taken_at), '-infinity') AS taken_at
  FROM (SELECT cut_no, snap_to AS snap, taken_at FROM "replicator".cut ORDER BY cut_no DESC LIMIT 1) AS p
), due AS (
  SELECT previous.cut_no + 1 AS cut_no, previous.snap AS snap_from, present.snap AS snap_to
  FROM previous, present
  WHERE EXISTS (SELECT FROM fence)
    AND pg_current_xact_id_if_assigned() IS NULL
    AND (EXISTS (SELECT FROM "replicator".queue WHERE xid >= pg_snapshot_xmax(previous.snap))
      OR EXISTS (SELECT FROM "replicator".queue
                 WHERE xid = ANY (ARRAY(SELECT open FROM pg_snapshot_xip(previous.snap) AS open
                                        WHERE pg_visible_in_snapshot(open, present.snap))))
      OR (previous.taken_at < clock_timestamp() - interval '1 s'
          AND EXISTS (SELECT FROM pg_snapshot_xip(present.snap) AS open
                      WHERE open >= pg_snapshot_xmax(previous.snap))))
), taken AS (
  INSERT INTO "replicator".cut (cut_no, epoch, snap_from, snap_to, layout_version, frame_bytes, splitter, term, slot)
  SELECT due.cut_no, (SELECT max(epoch) FROM "replicator".epoch), due.snap_from, due.snap_to,
         (SELECT max(layout_version) FROM "replicator".layout), $3, $4, $2, (due.cut_no / ${CUTS_PER_SLOT}) % ${CUT_SLOTS}
  FROM due
  RETURNING ${COLUMNS}
)
SELECT EXISTS (SELECT FROM fence) AS held, taken.* FROM (SELECT) AS always LEFT JOIN taken ON true`;

const AFTER = `SELECT ${COLUMNS} FROM "replicator".cut WHERE cut_no > $1 ORDER BY cut_no LIMIT $2`;

// A channel that was never confirmed begins before the first cut whose layout knows it.
const STATE = `
SELECT c.cut_no, c.epoch, c.sequences::text
FROM (SELECT cut_no, epoch, sequences FROM "replicator".confirmed WHERE channel = $1 ORDER BY cut_no DESC LIMIT 1) AS c
UNION ALL
SELECT coalesce(
         (SELECT min(cut_no) - 1 FROM "replicator".cut WHERE layout_version >= l.first),
         (SELECT max(cut_no) FROM "replicator".cut), 0),
       (SELECT max(epoch) FROM "replicator".epoch), '{}'
FROM (SELECT coalesce(min(layout_version), 2147483647) AS first FROM "replicator".layout WHERE channel = $1) AS l
WHERE NOT EXISTS (SELECT FROM "replicator".confirmed WHERE channel = $1)`;

// No wait for the disk: a lost confirmation means that the same bytes are sent again.
const CONFIRM = `
WITH fence AS MATERIALIZED (
  SELECT FROM "replicator".lease WHERE kind = 'channel' AND name = $1 AND owner = $2 AND term = $3
), added AS (
  INSERT INTO "replicator".confirmed (channel, cut_no, epoch, sequences, term, slot)
  SELECT $1, $4, $5, $6::bigint[], $3, ($4::bigint / ${CUTS_PER_SLOT}) % ${CUT_SLOTS}
  WHERE EXISTS (SELECT FROM fence) AND set_config('synchronous_commit', 'off', true) = 'off'
  ON CONFLICT DO NOTHING
)
SELECT EXISTS (SELECT FROM fence) AS held`;

interface CutRow extends Readonly<Record<string, string | null>> {
  readonly cut_no: string;
  readonly epoch: string;
  readonly snap_from: string;
  readonly snap_to: string;
  readonly layout_version: string;
  readonly frame_bytes: string;
  readonly splitter: string;
  readonly taken_at: string;
}

/** Null when nothing is new. The session must have synchronous_commit = on (I1). @throws `lease.lost` */
export async function takeCut(db: Database, lease: Lease, frameBytes: number): Promise<Cut | null> {
  try {
    const params = [lease.owner, lease.term, frameBytes, SPLITTER];
    const options = { action: "take a cut", timeoutMs: CONTROL_TIMEOUT_MS };
    const [row] = await db.query<CutRow & { held: string }>(db.ours(TAKE), params, options);
    if (row?.held !== "t") throw leaseLost("cutter", "", lease);
    return row.cut_no === null ? null : toCut(row);
  } catch (error) {
    // A cut of this number is there already: an earlier statement of ours whose answer was lost, or the next owner's.
    if (sqlState(error) === "23505") return null;
    throw error;
  }
}

export async function cutsAfter(db: Database, cutNo: number, limit: number): Promise<readonly Cut[]> {
  const options = { action: "read the cuts", timeoutMs: CONTROL_TIMEOUT_MS };
  const rows = await db.query<CutRow>(db.ours(AFTER), [cutNo, limit], options);
  return rows.map(toCut);
}

export async function channelState(db: Database, channel: string, partitions: number): Promise<ChannelState> {
  const action = `read where channel "${channel}" stands`;
  const [row] = await db.query<{ cut_no: string; epoch: string; sequences: string }>(db.ours(STATE), [channel], {
    action,
    timeoutMs: CONTROL_TIMEOUT_MS,
  });
  if (!row) throw new Error("STATE answers with one row for every channel");
  const sequences = row.sequences === "{}" ? [] : row.sequences.slice(1, -1).split(",").map(Number);
  while (sequences.length < partitions) sequences.push(0);
  return { confirmedCut: Number(row.cut_no), sequences, epoch: Number(row.epoch) };
}

/** Safe to call twice. @throws `lease.lost` when the term is somebody else's */
export async function confirm(
  db: Database,
  channel: string,
  lease: Lease,
  cut: Cut,
  sequences: readonly number[],
): Promise<void> {
  const params = [channel, lease.owner, lease.term, cut.cutNo, cut.epoch, textArray(sequences)];
  const action = `confirm cut ${cut.cutNo} of channel "${channel}"`;
  const options = { action, timeoutMs: CONTROL_TIMEOUT_MS };
  const [row] = await db.query<{ held: string }>(db.ours(CONFIRM), params, options);
  if (row?.held !== "t") throw leaseLost("channel", channel, lease);
}

function toCut(row: CutRow): Cut {
  if (row.splitter !== SPLITTER) throw unknownSplitter(row);
  return {
    cutNo: Number(row.cut_no),
    epoch: Number(row.epoch),
    snapFrom: row.snap_from,
    snapTo: row.snap_to,
    layoutVersion: Number(row.layout_version),
    frameBytes: Number(row.frame_bytes),
    splitter: row.splitter,
    takenAt: row.taken_at,
  };
}

function unknownSplitter(row: CutRow): ReplicatorError {
  return new ReplicatorError({
    code: "source.unknown_splitter",
    message: `Cannot send cut ${row.cut_no}: it was taken with splitter "${row.splitter}", this version knows "${SPLITTER}"`,
    retry: "never",
    fault: "environment",
    remedy: "Run the version of the replicator that took the cut until all is confirmed, then upgrade",
  });
}
