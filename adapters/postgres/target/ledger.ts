/** The ledger: where each channel stands, the fence at the start of an apply transaction, and what was applied (architecture §7.1). */
import { ReplicatorError } from "../../../src/core/errors.ts";
import type { Lease } from "../../../src/core/lease.ts";
import type { LedgerKey, LedgerPosition } from "../../../src/core/target_store.ts";
import {
  CONTROL_TIMEOUT_MS,
  type Connection,
  type Database,
  type Queryable,
  type Row,
  rollback,
} from "../connection.ts";

interface PositionRow extends Row {
  readonly epoch: string | null;
  readonly sequence: string | null;
  readonly cut_no: string | null;
  readonly broker_identity: string | null;
  readonly broker_offset: string | null;
}

const POSITION = `
SELECT p.epoch, p.sequence, p.cut_no, p.broker_identity, p.broker_offset FROM (
  (SELECT epoch, sequence, cut_no, broker_identity, broker_offset FROM "replicator".applied
   WHERE ledger_id = $1::int ORDER BY epoch DESC, sequence DESC LIMIT 1)
  UNION ALL
  SELECT epoch, sequence, cut_no, broker_identity, broker_offset FROM "replicator".ledger
  WHERE ledger_id = $1::int AND epoch > 0
) p ORDER BY p.epoch DESC, p.sequence DESC LIMIT 1`;

const FENCE = `
SELECT p.*, EXISTS (SELECT FROM "replicator".lease
                    WHERE kind = 'feed' AND name = $2 AND owner = $3 AND term = $4::bigint
                      AND expires_at > clock_timestamp()) AS leased
FROM (SELECT 1) AS one LEFT JOIN (${POSITION}) AS p ON true`;

const APPLIED = `
INSERT INTO "replicator".applied (ledger_id, epoch, sequence, cut_no, broker_identity, broker_offset,
                                  chunks, versions, exceptions, captured_at, slot, cut_complete)
VALUES ($1::int, $2::bigint, $3::bigint, $4::bigint, $5, $6, $7, $8::text::bigint[], $9, $10::text::timestamptz, $11::int, $12::boolean)`;

const SLOT_SEQUENCES = 65_536;
const SLOTS = 4;

/** What is written about one group of batches. */
export interface AppliedRecord {
  readonly position: LedgerPosition;
  /** Nothing more of the position's cut follows in this partition. */
  readonly endsCut: boolean;
  readonly chunks: string;
  /** `1,2,NULL`: of every row, in the order of chunks. */
  readonly versions: string;
  readonly exceptions: string | null;
  readonly capturedAt: string | null;
}

/** Makes the ledger row if there is none. */
export async function ledgerId(db: Database, key: LedgerKey): Promise<number> {
  const params = [key.source, key.channel, key.partition];
  const find = db.ours(
    `SELECT ledger_id FROM "replicator".ledger WHERE source = $1 AND channel = $2 AND partition = $3::int`,
  );
  const options = { action: `find the ledger of ${key.source}/${key.channel}`, timeoutMs: CONTROL_TIMEOUT_MS };
  const make = `INSERT INTO "replicator".ledger (source, channel, partition) VALUES ($1, $2, $3::int) ON CONFLICT DO NOTHING`;
  let [row] = await db.query<{ ledger_id: string }>(find, params, options);
  if (!row) {
    await db.execute(db.ours(make), params, options);
    [row] = await db.query<{ ledger_id: string }>(find, params, options);
  }
  return Number(row?.ledger_id);
}

export async function readPosition(
  db: Queryable,
  ours: (text: string) => string,
  id: number,
): Promise<LedgerPosition | null> {
  const options = { action: "read the ledger", timeoutMs: CONTROL_TIMEOUT_MS };
  const [row] = await db.query<PositionRow>(ours(POSITION), [id], options);
  return toPosition(row);
}

/** Locks the ledger row: the fence against zombies. For the script that begins the transaction. */
export function lockLedger(ours: (text: string) => string, id: number): string {
  return ours(`SELECT FROM "replicator".ledger WHERE ledger_id = ${Math.trunc(id)} FOR UPDATE`);
}

/**
 * Verifies position and lease, the ledger row being locked. A statement of its own: the one that waited for the lock has
 * the older snapshot and would not see what a zombie has just committed.
 */
export async function fence(
  connection: Connection,
  ours: (text: string) => string,
  id: number,
  expected: LedgerPosition | null,
  lease: { readonly name: string; readonly lease: Lease },
): Promise<void> {
  const params = [id, lease.name, lease.lease.owner, lease.lease.term];
  const options = { action: "read the ledger", timeoutMs: CONTROL_TIMEOUT_MS };
  const [row] = await connection.query<PositionRow & { leased: string }>(ours(FENCE), params, options);
  if (row?.leased !== "t") {
    throw new ReplicatorError({
      code: "lease.lost",
      message: `Cannot apply: the lease on "${lease.name}" is no longer held by "${lease.lease.owner}"`,
      retry: "now",
      fault: "environment",
    });
  }
  const found = toPosition(row);
  if (found?.epoch === expected?.epoch && found?.sequence === expected?.sequence) return;
  throw new ReplicatorError({
    code: "ledger.moved",
    message: `Cannot apply: the ledger stands at ${describe(found)}, expected ${describe(expected)}`,
    retry: "now",
    fault: "environment",
  });
}

export function insertApplied(
  connection: Connection,
  ours: (text: string) => string,
  id: number,
  record: AppliedRecord,
): Promise<number> {
  const { epoch, sequence, cutNo, position } = record.position;
  const params = [id, epoch, sequence, cutNo, position?.identity ?? null, position?.offset ?? null];
  const content = [record.chunks, `{${record.versions}}`, record.exceptions, record.capturedAt, slotOf(sequence)];
  return connection.execute(ours(APPLIED), [...params, ...content, record.endsCut], { action: "write the ledger" });
}

export function slotOf(sequence: number): number {
  return Math.floor(sequence / SLOT_SEQUENCES) % SLOTS;
}

/**
 * Empties the slot after `slot`, having folded the positions in it into the ledger rows. Returns false when somebody is
 * using it: try again later. Nothing waits for a lock here.
 */
export async function emptyNextSlot(db: Database, slot: number): Promise<boolean> {
  const next = (slot + 1) % SLOTS;
  const connection = await db.reserve();
  try {
    await connection.script("BEGIN");
    const wanted = await connection.query(
      db.ours(`SELECT DISTINCT ledger_id FROM "replicator".applied WHERE slot = ${next}`),
    );
    // Ledger rows first, as apply does: no deadlock. The lock keeps their appliers away until the slot is empty.
    const locked = await connection.query(
      db.ours(`SELECT ledger_id FROM "replicator".ledger
               WHERE ledger_id IN (SELECT ledger_id FROM "replicator".applied WHERE slot = ${next})
               FOR UPDATE SKIP LOCKED`),
    );
    if (locked.length < wanted.length) return false;
    if (wanted.length > 0) {
      await connection.script(db.ours(`LOCK TABLE "replicator".applied_${next} IN ACCESS EXCLUSIVE MODE NOWAIT`));
      await connection.script(db.ours(FOLD.replaceAll("$slot", String(next))));
    }
    await connection.script("COMMIT");
    return true;
  } finally {
    await rollback(connection);
    connection.release();
  }
}

const FOLD = `
UPDATE "replicator".ledger l
SET epoch = a.epoch, sequence = a.sequence, cut_no = a.cut_no, broker_identity = a.broker_identity, broker_offset = a.broker_offset
FROM (SELECT DISTINCT ON (ledger_id) * FROM "replicator".applied_$slot ORDER BY ledger_id, epoch DESC, sequence DESC) a
WHERE l.ledger_id = a.ledger_id AND (a.epoch, a.sequence) > (l.epoch, l.sequence);
TRUNCATE "replicator".applied_$slot`;

function toPosition(row: PositionRow | undefined): LedgerPosition | null {
  if (!row || row.epoch === null) return null;
  const { broker_identity: identity, broker_offset: offset } = row;
  return {
    epoch: Number(row.epoch),
    sequence: Number(row.sequence),
    cutNo: Number(row.cut_no),
    position: identity === null || offset === null ? null : { identity, offset },
  };
}

function describe(position: LedgerPosition | null): string {
  return position === null ? "its beginning" : `epoch ${position.epoch}, sequence ${position.sequence}`;
}
