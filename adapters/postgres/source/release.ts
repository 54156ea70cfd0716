/**
 * Empties ring slots whole (architecture §4.5, review C1): lock NOWAIT, prove in a fresh statement that nothing
 * unreleased is inside, TRUNCATE. Never the current slot or the next, so that no writer ever waits. Then goes on to the
 * next slot by time: narrow slots would come round before the retention has passed and never be free.
 */
import type { Connection, Database } from "../connection.ts";
import { sqlState } from "../errors.ts";
import { CUT_SLOTS, CUTS_PER_SLOT } from "./cuts.ts";

/** Ids of the queue to a slot, and slots; sql/01_create_tables.sql says the same. */
export const QUEUE_IDS_PER_SLOT = 268_435_456;
export const QUEUE_SLOTS = 8;

// What may go (I3): everything up to this cut is confirmed by every channel that has part in it.
// opened: the first cut that some channel of its layout has not confirmed. Channels that left the layout count too.
const RELEASED = `
WITH channels AS (
  SELECT channel, array_agg(layout_version) AS versions FROM "replicator".layout GROUP BY channel
), opened AS (
  SELECT (SELECT c.cut_no FROM "replicator".cut AS c
          WHERE c.layout_version = ANY (channels.versions)
            AND c.cut_no > coalesce((SELECT d.cut_no FROM "replicator".confirmed AS d
                                     WHERE d.channel = channels.channel ORDER BY d.cut_no DESC LIMIT 1), 0)
          ORDER BY c.cut_no LIMIT 1) AS cut_no
  FROM channels
)
SELECT cut_no, snap_to::text AS snap FROM "replicator".cut
WHERE cut_no < (SELECT coalesce(min(cut_no), 9223372036854775807) FROM opened)
ORDER BY cut_no DESC LIMIT 1`;

const CURRENT = `
SELECT (SELECT (last_value / ${QUEUE_IDS_PER_SLOT}) % ${QUEUE_SLOTS} FROM "replicator".queue_id_seq) AS queue,
       coalesce((SELECT slot FROM "replicator".cut ORDER BY cut_no DESC LIMIT 1), 0) AS cut`;

// $1 snapshot up to which all is confirmed, $2 retention in ms. Age is that of the youngest transaction's last row.
const QUEUE_FREE = (slot: number) => `
SELECT NOT EXISTS (SELECT FROM "replicator".queue_${slot} WHERE xid >= pg_snapshot_xmax($1::pg_snapshot))
   AND NOT EXISTS (SELECT FROM "replicator".queue_${slot} WHERE xid = ANY (ARRAY(SELECT pg_snapshot_xip($1::pg_snapshot))))
   AND (SELECT captured_at FROM "replicator".queue_${slot} ORDER BY xid DESC, id DESC LIMIT 1)
       <= clock_timestamp() - $2::bigint * interval '1 ms' AS free`;

// A cut goes after the rows it framed: until then it can be sent again, byte for byte (I13). $3: the last released cut.
const CUT_FREE = (slot: number) => `
SELECT coalesce((SELECT last.cut_no <= $3::bigint
                    AND last.taken_at <= clock_timestamp() - $2::bigint * interval '1 ms'
                    AND NOT EXISTS (SELECT FROM "replicator".queue WHERE xid < pg_snapshot_xmax(last.snap_to)
                                    AND pg_visible_in_snapshot(xid, last.snap_to))
                 FROM (SELECT cut_no, taken_at, snap_to FROM "replicator".cut_${slot} ORDER BY cut_no DESC LIMIT 1) AS last), false)
   AND $1::pg_snapshot IS NOT NULL AS free`;

// A confirmation goes after its cut, and never the newest of a channel: that row is the channel's position.
const CONFIRMED_FREE = (slot: number) => `
SELECT coalesce((SELECT max(cut_no) FROM "replicator".confirmed_${slot}) < (SELECT min(cut_no) FROM "replicator".cut), false)
   AND NOT EXISTS (SELECT FROM (SELECT DISTINCT channel FROM "replicator".confirmed_${slot}) AS here
                   WHERE (SELECT c.slot FROM "replicator".confirmed AS c WHERE c.channel = here.channel
                          ORDER BY c.cut_no DESC LIMIT 1) = ${slot}
                     AND here.channel IN (SELECT l.channel FROM "replicator".layout AS l
                                          WHERE l.layout_version >= (SELECT min(layout_version) FROM "replicator".cut)))
   AND $1::pg_snapshot IS NOT NULL AND $2::bigint IS NOT NULL AND $3::bigint IS NOT NULL AS free`;

/** Empties what may go and moves the rings on. Returns how many slots were emptied. */
export async function release(db: Database, retentionMs: number, rotateAfterMs: number): Promise<number> {
  const [current] = await db.query<{ queue: string; cut: string }>(db.ours(CURRENT), [], {
    action: "look at the ring",
  });
  const [released] = await db.query<{ cut_no: string; snap: string }>(db.ours(RELEASED), [], {
    action: "find what is confirmed",
  });
  if (!current) throw new Error("CURRENT answers with one row");
  let emptied = 0;
  if (released) {
    const upTo = { snap: released.snap, cutNo: released.cut_no };
    const rings = [
      { name: "queue", slots: QUEUE_SLOTS, current: Number(current.queue), free: QUEUE_FREE, params: 2 },
      { name: "cut", slots: CUT_SLOTS, current: Number(current.cut), free: CUT_FREE, params: 3 },
      { name: "confirmed", slots: CUT_SLOTS, current: Number(current.cut), free: CONFIRMED_FREE, params: 3 },
    ];
    for (const ring of rings) {
      for (let slot = 0; slot < ring.slots; slot++) {
        if (slot === ring.current || slot === (ring.current + 1) % ring.slots) continue;
        const params = [upTo.snap, String(Math.round(retentionMs)), upTo.cutNo].slice(0, ring.params);
        if (await emptySlot(db, `${ring.name}_${slot}`, ring.free(slot), params)) emptied++;
      }
    }
  }
  await rotateQueue(db, Number(current.queue), rotateAfterMs);
  await rotateCuts(db, Number(current.cut), rotateAfterMs);
  return emptied;
}

async function emptySlot(db: Database, name: string, free: string, params: readonly string[]): Promise<boolean> {
  const table = `"replicator".${name}`;
  const action = `empty ring slot ${name}`;
  if (!(await isFree(db, free, params, action))) return false;
  return unlessLocked(() =>
    db.transaction(async (connection) => {
      // ACCESS EXCLUSIVE without waiting: whoever wrote in here and has not ended keeps us out, and nobody queues behind us.
      await connection.query(db.ours(`LOCK TABLE ONLY ${table} IN ACCESS EXCLUSIVE MODE NOWAIT`), [], { action });
      // A new statement, so a snapshot from after the lock: nothing can have come in since.
      const [row] = await connection.query<{ free: string | null }>(db.ours(free), params, { action });
      if (row?.free !== "t") return false;
      await connection.query(db.ours(`TRUNCATE ONLY ${table}`), [], { action });
      return true;
    }),
  );
}

/** A first look without any lock; an empty slot answers NULL or false. */
async function isFree(db: Database, free: string, params: readonly string[], action: string): Promise<boolean> {
  const [row] = await db.query<{ free: string | null }>(db.ours(free), params, { action });
  return row?.free === "t";
}

async function rotateQueue(db: Database, current: number, rotateAfterMs: number): Promise<void> {
  const next = (current + 1) % QUEUE_SLOTS;
  const text = `
SELECT setval('"replicator".queue_id_seq', (last_value / ${QUEUE_IDS_PER_SLOT} + 1) * ${QUEUE_IDS_PER_SLOT}, false)
FROM "replicator".queue_id_seq
WHERE (last_value / ${QUEUE_IDS_PER_SLOT}) % ${QUEUE_SLOTS} = ${current}
  AND NOT EXISTS (SELECT FROM "replicator".queue_${next})
  AND (SELECT captured_at FROM "replicator".queue_${current} ORDER BY xid, id LIMIT 1)
      <= clock_timestamp() - $1::bigint * interval '1 ms'`;
  await db.query(db.ours(text), [String(Math.round(rotateAfterMs))], { action: "go on to the next ring slot" });
}

/**
 * An empty cut whose number begins the next slot. The lock on the parent keeps every cutter out that has not begun its
 * statement; one that begins afterwards sees this cut as the last one. So numbers may jump and cuts stay in one line.
 */
async function rotateCuts(db: Database, current: number, rotateAfterMs: number): Promise<void> {
  const next = (current + 1) % CUT_SLOTS;
  const due = db.ours(`
SELECT last.cut_no FROM (SELECT cut_no FROM "replicator".cut ORDER BY cut_no DESC LIMIT 1) AS last
WHERE (last.cut_no / ${CUTS_PER_SLOT}) % ${CUT_SLOTS} = ${current}
  AND NOT EXISTS (SELECT FROM "replicator".cut_${next}) AND NOT EXISTS (SELECT FROM "replicator".confirmed_${next})
  AND (SELECT taken_at FROM "replicator".cut_${current} ORDER BY cut_no LIMIT 1)
      <= clock_timestamp() - $1::bigint * interval '1 ms'`);
  const mark = db.ours(`
INSERT INTO "replicator".cut (cut_no, epoch, snap_from, snap_to, layout_version, frame_bytes, splitter, term, slot)
SELECT (cut_no / ${CUTS_PER_SLOT} + 1) * ${CUTS_PER_SLOT}, epoch, snap_to, snap_to, layout_version, frame_bytes, splitter, term, ${next}
FROM "replicator".cut ORDER BY cut_no DESC LIMIT 1`);
  const action = "go on to the next slot of cuts";
  const params = [String(Math.round(rotateAfterMs))];
  if ((await db.query(due, params, { action })).length === 0) return;
  await unlessLocked(() =>
    db.transaction(async (connection: Connection) => {
      const lock = db.ours(`LOCK TABLE ONLY "replicator".cut IN SHARE ROW EXCLUSIVE MODE NOWAIT`);
      await connection.query(lock, [], { action });
      if ((await connection.query(due, params, { action })).length > 0) await connection.query(mark, [], { action });
      return true;
    }),
  );
}

/** False when somebody is inside: the next round will do. */
async function unlessLocked(work: () => Promise<boolean>): Promise<boolean> {
  try {
    return await work();
  } catch (error) {
    if (sqlState(error) === "55P03") return false;
    throw error;
  }
}
