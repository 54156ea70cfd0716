/**
 * What of a message was applied ahead of its position: the whole transactions before one that halted the channel (halt.ts).
 * The ledger row keeps how much it was and the record of it, until the rest of the message is applied and `applied` gets
 * both as one: nothing is applied twice, and what a person has discarded meanwhile stays discarded.
 */
import type { ApplyBatch } from "../../../../src/core/target_store.ts";
import type { Connection, Queryable } from "../../connection.ts";
import type { AppliedRecord } from "../ledger.ts";
import type { WholeChunk } from "../rows/plan.ts";

type Record = Pick<AppliedRecord, "chunks" | "versions" | "exceptions" | "capturedAt">;

export interface Ahead {
  readonly epoch: number;
  readonly sequence: number;
  /** So many whole chunks of the message, from its first. */
  readonly chunks: number;
  readonly record: Record;
}

/** Rows of a record, and what became of them where they were not simply applied. */
export interface AheadTotals {
  readonly changes: number;
  readonly beaten: number;
  readonly overridden: number;
  readonly parked: number;
}

const READ = `SELECT ahead FROM "replicator".ledger WHERE ledger_id = $1::int`;
const WRITE = `UPDATE "replicator".ledger SET ahead = $2 WHERE ledger_id = $1::int`;

export async function readAhead(
  db: Queryable,
  ours: (text: string) => string,
  ledgerId: number,
): Promise<Ahead | null> {
  const [row] = await db.query<{ ahead: string | null }>(ours(READ), [ledgerId], { action: "read the ledger" });
  return row?.ahead ? (JSON.parse(row.ahead) as Ahead) : null;
}

/** Inside the apply transaction. */
export function writeAhead(
  connection: Connection,
  ours: (text: string) => string,
  ledgerId: number,
  ahead: Ahead | null,
): Promise<number> {
  const text = ahead === null ? null : JSON.stringify(ahead);
  return connection.execute(ours(WRITE), [ledgerId, text], { action: "write the ledger" });
}

export function isOf(ahead: Ahead | null, batch: ApplyBatch): ahead is Ahead {
  return ahead !== null && ahead.epoch === batch.epoch && ahead.sequence === batch.sequence;
}

/** Without the chunks that were applied ahead. */
export function notAhead(ahead: Ahead | null, chunks: readonly WholeChunk[]): readonly WholeChunk[] {
  if (ahead === null) return chunks;
  let passed = 0;
  return chunks.filter(({ piece }) => !isOf(ahead, piece.batch) || passed++ >= ahead.chunks);
}

/** One record of both, in the order of the message. */
export function joined<R extends Record>(ahead: Record, rest: R): R {
  const rows = rowsOf(ahead.versions);
  const exceptions = { ...parsed(ahead.exceptions) };
  for (const [n, outcome] of Object.entries(parsed(rest.exceptions))) exceptions[String(Number(n) + rows)] = outcome;
  const chunks = [...(JSON.parse(ahead.chunks) as unknown[]), ...(JSON.parse(rest.chunks) as unknown[])];
  return {
    ...rest,
    chunks: JSON.stringify(chunks),
    versions: [ahead.versions, rest.versions].filter((part) => part !== "").join(","),
    exceptions: Object.keys(exceptions).length > 0 ? JSON.stringify(exceptions) : null,
    capturedAt: rest.capturedAt ?? ahead.capturedAt,
  };
}

export function aheadTotals(ahead: Ahead | null): AheadTotals {
  const outcomes = Object.values(parsed(ahead?.record.exceptions ?? null));
  const count = (outcome: string) => outcomes.filter((one) => one === outcome).length;
  const exceptions = { beaten: count("beaten"), overridden: count("overridden"), parked: count("parked") };
  return { changes: rowsOf(ahead?.record.versions ?? ""), ...exceptions };
}

function rowsOf(versions: string): number {
  return versions === "" ? 0 : versions.split(",").length;
}

function parsed(exceptions: string | null): { [ordinal: string]: string } {
  return exceptions === null ? {} : (JSON.parse(exceptions) as { [ordinal: string]: string });
}
