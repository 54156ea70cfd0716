/**
 * When a change that cannot be applied is not parked but stops its channel: its table says on_error: stop, or no more may
 * be parked (architecture §7.4). What comes before its source transaction is still applied, nothing of it or after it is.
 */
import { channelLabel } from "../../../../src/core/channel.ts";
import { ReplicatorError } from "../../../../src/core/errors.ts";
import type { TableName } from "../../../../src/core/table_name.ts";
import { type Connection, textArray } from "../../connection.ts";
import type { WholeChunk } from "../rows/plan.ts";
import type { ParkingLimits } from "./parking.ts";

export interface HaltRules {
  /** Our schema's quoted name. */
  readonly schema: string;
  readonly source: string;
  readonly channel: string;
  readonly partition: number;
  /** Tables with on_error: stop. */
  readonly stops: readonly TableName[];
  readonly limits: ParkingLimits;
  /** How much more may be parked. */
  readonly room: { readonly entries: number; readonly bytes: number };
}

export interface Halt {
  /** The source's transaction. */
  readonly transaction: string;
  readonly error: ReplicatorError;
}

/** What a transaction is about to park. */
export interface Weighed {
  readonly entries: number;
  readonly bytes: number;
  /** Of the first change of it that may not be parked. */
  readonly halt: Halt | null;
}

type Names = "table" | "operation" | "error_code" | "error" | "sequence" | "transaction_id";
interface Found extends Readonly<Record<"entries" | "all_bytes", string>>, Readonly<Partial<Record<Names, string>>> {
  readonly record_id?: string | null;
  readonly remedy?: string | null;
  /** t: by on_error; f: there is no room. NULL: nothing halts. */
  readonly stops: string | null;
  readonly [column: string]: string | null | undefined;
}

/** Weighs inbox entries of the transaction under way, in the order of their source. */
export async function weigh(connection: Connection, rules: HaltRules, ids: readonly string[]): Promise<Weighed> {
  if (ids.length === 0) return { entries: 0, bytes: 0, halt: null };
  const stops = [textArray(rules.stops.map(({ schema }) => schema)), textArray(rules.stops.map(({ name }) => name))];
  const [found] = await connection.query<Found & Record<string, string | null>>(
    `WITH mine AS MATERIALIZED (
  SELECT i.id, row_number() OVER w AS nth, sum(octet_length(i.data)) OVER w AS bytes,
    (i.schema_name, i.table_name) IN (SELECT * FROM unnest($2::text::text[], $3::text::text[])) AS stops
  FROM ${rules.schema}.inbox i WHERE i.id = ANY ($1::text::bigint[])
  WINDOW w AS (ORDER BY i.epoch, i.sequence, i.queue_id, i.id ROWS UNBOUNDED PRECEDING))
SELECT t.entries, t.bytes AS all_bytes, h.stops, i.transaction_id, i.sequence, i.operation, i.record_id, i.error_code, i.error, i.remedy,
  CASE WHEN i.schema_name = 'public' THEN '' ELSE quote_ident(i.schema_name) || '.' END || quote_ident(i.table_name) AS "table"
FROM (SELECT max(nth) AS entries, max(bytes) AS bytes FROM mine) AS t
LEFT JOIN (SELECT * FROM mine WHERE stops OR nth > $4::bigint OR bytes > $5::bigint ORDER BY nth LIMIT 1) AS h ON true
LEFT JOIN ${rules.schema}.inbox i ON i.id = h.id`,
    [textArray(ids), ...stops, rules.room.entries, rules.room.bytes],
    { action: "look whether changes may be parked" },
  );
  const entries = Number(found?.entries);
  const bytes = Number(found?.all_bytes);
  if (!found || found.stops === null) return { entries, bytes, halt: null };
  const error = found.stops === "t" ? stopped(rules, found) : full(rules, found);
  return { entries, bytes, halt: { transaction: found.transaction_id ?? "", error } };
}

/**
 * Applies the changes before the transaction that halts. `attempt` undoes what was applied and applies these instead; what
 * it parks may halt in turn. Returns what was parked by what stands applied now; null when nothing does.
 */
export async function applyBefore<W extends Weighed>(
  halt: Halt,
  chunks: readonly WholeChunk[],
  attempt: (before: readonly WholeChunk[]) => Promise<W>,
): Promise<W | null> {
  let first: Halt = halt;
  let before = chunks;
  for (;;) {
    const { transaction } = first;
    const end = before.findIndex(({ piece }) => piece.header.transaction === transaction);
    before = before.slice(0, Math.max(end, 0));
    if (before.length === 0) return null;
    const weighed = await attempt(before);
    if (!weighed.halt) return weighed;
    first = weighed.halt;
  }
}

function stopped(rules: HaltRules, found: Found): ReplicatorError {
  const { table = "", operation = "", error_code = "", error = "", record_id: key } = found;
  return halting(rules, found, {
    code: "apply.stopped",
    message: `${operation} of ${table}${key ? ` (${key})` : ""} cannot be applied and the table says on_error: stop. ${error_code} ${error}`,
    remedy: `${found.remedy ? `${found.remedy}; the` : "The"} channel goes on by itself once the change can be applied`,
  });
}

function full(rules: HaltRules, found: Found): ReplicatorError {
  const { entries, bytes } = rules.limits;
  const { table = "", error_code = "", error = "", record_id: key } = found;
  return halting(rules, found, {
    code: "apply.parked_limit",
    message: `A change of ${table}${key ? ` (${key})` : ""} cannot be applied, and as much is parked as may be: ${entries} changes or ${Math.round(bytes / 1e6)} MB. ${error_code} ${error}`,
    remedy:
      "Mend what they wait for (replicator parked list), discard them, or raise consumer.parked_limit and parked_bytes; the channel goes on by itself",
  });
}

function halting(
  { source, channel, partition }: HaltRules,
  { table = "", record_id: key, error_code: reason = "", transaction_id: transaction = "", sequence }: Found,
  said: { readonly code: string; readonly message: string; readonly remedy: string },
): ReplicatorError {
  const label = channelLabel({ contour: source, name: channel });
  return new ReplicatorError({
    ...said,
    message: `Channel ${label} stops before transaction ${transaction}: ${said.message}`,
    retry: "backoff",
    fault: "environment",
    facts: { channel: label, partition, table, key: key ?? null, reason, transaction, sequence: Number(sequence) },
  });
}
