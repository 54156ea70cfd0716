/** Who and where we are: contour, primary, cluster, timeline, and whether history went back (architecture §4.4, review A2). */
import { ReplicatorError } from "../../../src/core/errors.ts";
import type { Database, Queryable } from "../connection.ts";
import { sqlState } from "../errors.ts";

const CONTOUR = `SELECT contour FROM "replicator".local`;
const SET_CONTOUR = `SELECT "replicator".set_contour($1)`;
const IN_RECOVERY = "SELECT pg_is_in_recovery() AS standby";

// The timeline from the name of the WAL file being written: pg_control_checkpoint() lags behind a promotion.
const HERE = `
SELECT (SELECT system_identifier FROM pg_control_system())::text AS system_identifier,
       ('x' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))::bit(32)::bigint::text AS timeline`;

// next_xid in the same statement as the cut: whoever sees a cut has a snapshot later than the cut's. Asked for apart, a cut
// taken in between would look like a history that went back.
const KNOWN = `
SELECT e.epoch, e.system_identifier, e.timeline, pg_snapshot_xmax(pg_current_snapshot())::text AS next_xid,
       (SELECT pg_snapshot_xmax(c.snap_to)::text FROM "replicator".cut AS c ORDER BY c.cut_no DESC LIMIT 1) AS cut_xid,
       (SELECT c.cut_no FROM "replicator".cut AS c ORDER BY c.cut_no DESC LIMIT 1) AS cut_no
FROM "replicator".epoch AS e ORDER BY e.epoch DESC LIMIT 1`;

const FIRST_EPOCH = `
INSERT INTO "replicator".epoch (epoch, system_identifier, timeline, reason)
SELECT 1, $1, $2, 'first start' WHERE NOT EXISTS (SELECT FROM "replicator".epoch)
ON CONFLICT DO NOTHING`;

interface Here extends Readonly<Record<string, string | null>> {
  readonly system_identifier: string;
  readonly timeline: string;
}

interface Known extends Readonly<Record<string, string | null>> {
  readonly epoch: string;
  readonly system_identifier: string;
  readonly timeline: string;
  readonly next_xid: string;
  readonly cut_xid: string | null;
  readonly cut_no: string | null;
}

/** Whether the database has a contour and it is ours; names it when it has none yet. @throws ReplicatorError */
export async function claimContour(db: Database, contour: string): Promise<void> {
  const action = "read which contour this database is";
  const [row] = await db.query<{ contour: string }>(db.ours(CONTOUR), [], { action });
  if (row?.contour === contour) return;
  if (row && row.contour !== "") throw wrongContour(db, row.contour, contour);
  try {
    await db.query(db.ours(SET_CONTOUR), [contour], { action: `name this database's contour "${contour}"` });
  } catch (error) {
    const state = sqlState(error);
    if (state !== "42501" && state !== "42883") throw error;
    throw new ReplicatorError({
      code: "source.contour_unset",
      message: `Cannot start: the database ${db.label} has no contour yet, and this role may not set it to "${contour}"`,
      retry: "never",
      fault: "environment",
      remedy: `Run as the owner: SELECT ${db.ours('"replicator".set_contour')}('${contour}')  (or: replicator setup)`,
      cause: error,
    });
  }
}

/** On any connection, before it is used: a primary of the same history. Returns the epoch, null before the first. @throws ReplicatorError */
export async function verifyHistory(connection: Queryable, db: Database): Promise<number | null> {
  const action = "verify where this database stands";
  const [recovery] = await connection.query<{ standby: string }>(IN_RECOVERY, [], { action });
  // A standby's snapshots do not list open transactions: reading by them would skip rows for ever.
  if (recovery?.standby !== "f") throw standby(db);
  const [[here], [known]] = await Promise.all([
    connection.query<Here>(HERE, [], { action }),
    connection.query<Known>(db.ours(KNOWN), [], { action }),
  ]);
  if (!here) throw new Error("HERE answers with one row");
  if (!known) return null;
  if (known.system_identifier !== here.system_identifier) {
    throw historyBroke(db, "system identifier", known.system_identifier, here.system_identifier);
  }
  if (known.timeline !== here.timeline) throw historyBroke(db, "timeline", known.timeline, here.timeline);
  if (known.cut_xid !== null && BigInt(known.cut_xid) > BigInt(known.next_xid)) {
    throw historyBroke(db, `next transaction id, at least that of cut ${known.cut_no},`, known.cut_xid, known.next_xid);
  }
  return Number(known.epoch);
}

/** Epoch 1 for a database that has none; safe when several start at once. */
export async function openFirstEpoch(db: Database): Promise<void> {
  const action = "open the first epoch";
  const [here] = await db.query<Here>(HERE, [], { action });
  if (!here) throw new Error("HERE answers with one row");
  await db.execute(db.ours(FIRST_EPOCH), [here.system_identifier, here.timeline], { action });
}

function wrongContour(db: Database, found: string, expected: string): ReplicatorError {
  return new ReplicatorError({
    code: "source.wrong_contour",
    message: `Cannot start: the database ${db.label} is contour "${found}", the configuration says service.contour is "${expected}"`,
    retry: "never",
    fault: "input",
    remedy: "Point database.url at this contour's own database, or correct service.contour",
    facts: { found, expected },
  });
}

function standby(db: Database): ReplicatorError {
  return new ReplicatorError({
    code: "source.standby",
    message: `Cannot capture from ${db.label}: it is a standby, found recovery in progress, expected a primary`,
    retry: "never",
    fault: "environment",
    remedy: "Point database.url at the primary",
  });
}

function historyBroke(db: Database, what: string, expected: string, found: string): ReplicatorError {
  return new ReplicatorError({
    code: "source.history_broke",
    message: `Cannot publish from ${db.label}: its history went back or is another one: ${what} expected "${expected}", found "${found}"`,
    retry: "never",
    fault: "environment",
    remedy:
      "This database was restored, copied or promoted: compare it with the other contours before anything is published from it",
    facts: { expected, found },
  });
}
