/** Parking (architecture §7.4): what could not be applied is kept with its error, its remedy and its next attempt (I5). */
import type { Connection, Param } from "../../connection.ts";
import { waitsForSchema } from "../rows/failures.ts";
import type { Piece, Source } from "../rows/plan.ts";
import type { FailedRow, FailureFacts } from "../rows/row_block.ts";
import { sourceJson, sourceParams } from "../sources.ts";
import { remedySql } from "./diagnose.ts";

export interface ParkContext {
  readonly connection: Connection;
  /** Our schema's quoted name. */
  readonly schema: string;
  readonly source: string;
  readonly channel: string;
  readonly partition: number;
  /** What the catalog said of a table when it was last asked; null: never (catalog_digest.ts). */
  readonly digestOf: (schema: string, table: string) => string | null;
}

/** Rows of a source to park: those named, or all for one reason. */
export interface Parcel {
  readonly pieces: readonly Piece[];
  readonly source: Source;
  readonly failed: readonly FailedRow[] | { readonly code: string; readonly message: string };
}

/** First pause before a parked change is tried again; it doubles up to the longest. */
const FIRST_PAUSE_S = 0.5;
const LONGEST_PAUSE_S = 600;
/** The longest for what DDL mends: that is done by somebody who waits for it. */
const LONGEST_WAIT_S = 5;

const MESSAGE = "CASE WHEN x.remedy IS NULL THEN r.message ELSE r.message || ': ' || x.remedy END";

export interface ParkedRow {
  readonly id: string;
  /** Ordinal within the parcel. */
  readonly n: number;
  readonly state: string;
}

/**
 * Puts rows into the inbox, inside the apply transaction. Returns them in order.
 * The event id is the one the wire derives: md5(contour:epoch:first_queue_id:ordinal).
 */
export async function park(context: ParkContext, parcel: Parcel): Promise<readonly ParkedRow[]> {
  const { connection, schema, source, channel, partition } = context;
  const params = [...sourceParams(parcel.source)];
  const next = (value: Param) => `$${params.push(value)}`;
  const some = isList(parcel.failed)
    ? parcel.failed.map((row) => ({ ...row, waits: waitsForSchema(row.state) }))
    : null;
  const all = isList(parcel.failed) ? null : parcel.failed;
  const codes = some ? some.map(({ state }) => state) : [all?.code ?? ""];
  const reasons = some
    ? `JOIN json_to_recordset(${next(JSON.stringify(some))}::text::json)
         AS f(n bigint, state text, message text, facts json, waits boolean) ON f.n = e.ord - 1`
    : `CROSS JOIN (SELECT ${next(all?.code ?? "")}::text AS state, ${next(all?.message ?? "")}::text AS message,
         NULL::json AS facts, ${waitsForSchema(all?.code ?? "")} AS waits) AS f`;
  const rows = await connection.query<{ id: string; n: string; state: string }>(
    `WITH r AS MATERIALIZED (
  SELECT e.ord - 1 AS n, md5(${next(source)} || ':' || p.epoch || ':' || p.first_queue_id || ':' || (e.ord - p.first))::uuid AS event_id,
    ${next(source)}::text AS source_contour, p.epoch, p.sequence, p.cut_no, p.transaction AS transaction_id,
    p.first_queue_id::bigint + (e.ord - p.first) AS queue_id, p.schema AS schema_name, p."table" AS table_name, p.operation,
    CASE WHEN json_array_length(p.key) = 1 THEN e.value->>(p.key->>0)
         ELSE (SELECT json_object_agg(k, e.value->k)::text FROM json_array_elements_text(p.key) k) END AS record_id,
    CASE WHEN e.value->>(p.stamp->>0) ~ '^-?[0-9]{1,18}$' THEN (e.value->>(p.stamp->>0))::bigint END AS version,
    e.value::text AS data, f.state AS code, f.message, f.facts, f.waits, p.captured_at, p.catalog,
    ARRAY(SELECT json_array_elements_text(p.key)) AS key_columns, ARRAY(SELECT json_array_elements_text(p.stamp)) AS stamp_columns
  FROM json_array_elements(${sourceJson(parcel.source, schema)}) WITH ORDINALITY AS e(value, ord)
  JOIN json_to_recordset(${next(JSON.stringify(places(parcel.pieces, context.digestOf)))}::text::json)
    AS p(first bigint, last bigint, epoch bigint, sequence bigint, cut_no bigint, transaction text, first_queue_id text,
         schema text, "table" text, operation text, key json, stamp json, captured_at timestamptz, catalog text)
    ON e.ord BETWEEN p.first AND p.last
  ${reasons}),
i AS (
  INSERT INTO ${schema}.inbox (event_id, source_contour, channel, partition, epoch, sequence, cut_no, transaction_id, queue_id,
    schema_name, table_name, operation, record_id, version, data, error_code, error, facts, remedy, waits, next_attempt_at,
    captured_at, key_columns, stamp_columns, catalog)
  SELECT r.event_id, r.source_contour, ${next(channel)}, ${next(partition)}::int, r.epoch, r.sequence, r.cut_no, r.transaction_id,
    r.queue_id, r.schema_name, r.table_name, r.operation, r.record_id, r.version, r.data, r.code, ${MESSAGE}, r.facts, x.remedy,
    r.waits, clock_timestamp() + interval '${FIRST_PAUSE_S} s', r.captured_at, r.key_columns, r.stamp_columns, r.catalog
  FROM r CROSS JOIN LATERAL (SELECT ${remedySql(codes)} AS remedy) AS x ORDER BY r.n
  ON CONFLICT (event_id) DO UPDATE
  SET error_code = excluded.error_code, error = excluded.error, facts = excluded.facts, remedy = excluded.remedy, waits = excluded.waits
  RETURNING id, event_id)
SELECT i.id, r.n, r.code AS state FROM i JOIN r USING (event_id) ORDER BY r.n`,
    params,
    { action: "park changes" },
  );
  return rows.map(({ id, n, state }) => ({ id, n: Number(n), state }));
}

/** Why a change is still parked after another attempt. */
export interface Pending {
  readonly id: string;
  readonly state: string;
  readonly message: string;
  readonly facts: FailureFacts | undefined;
  /** Attempts count from here: up to now the schema was the cause. */
  readonly afresh: boolean;
}

/** A change that has used up its attempts just now: a dead letter. */
export interface DeadLetter {
  readonly id: string;
  readonly table: string;
  readonly record: string | null;
  readonly attempts: string;
  readonly code: string;
  readonly error: string;
  readonly remedy: string | null;
}

interface NotedRow extends DeadLetter {
  readonly died: string;
  readonly [column: string]: string | null;
}

/**
 * After another failed attempt: the error of each. Where the attempt was one of its own (`maxAttempts` is given) it is
 * counted and the pause doubled. Returns what has become a dead letter by it; what waits for the schema never does.
 */
export async function notePending(
  connection: Connection,
  schema: string,
  pending: readonly Pending[],
  maxAttempts: number | null,
): Promise<readonly DeadLetter[]> {
  const pause = `least(CASE WHEN r.waits THEN ${LONGEST_WAIT_S} ELSE ${LONGEST_PAUSE_S} END, ${FIRST_PAUSE_S} * 2 ^ least(r.tried - 1, 20))`;
  const counted =
    maxAttempts === null
      ? ""
      : `, attempts = r.tried, status = CASE WHEN r.dead THEN 'dead' ELSE 'parked' END,
  next_attempt_at = CASE WHEN r.dead THEN 'infinity' ELSE clock_timestamp() + ${pause} * interval '1 s' END`;
  const rows = await connection.query<NotedRow>(
    `UPDATE ${schema}.inbox i
SET error_code = r.code, error = ${MESSAGE}, facts = r.facts, remedy = x.remedy, waits = r.waits${counted}
FROM (
  SELECT e.id, e.state AS code, e.message, e.facts, e.waits, n.tried, b.status AS was,
    NOT e.waits AND (b.status = 'dead' OR n.tried >= $2::int) AS dead,
    b.schema_name, b.table_name, b.operation, b.record_id, b.data, b.key_columns, b.stamp_columns, b.source_contour
  FROM json_to_recordset($1::text::json) AS e(id bigint, state text, message text, facts json, waits boolean, afresh boolean)
  JOIN ${schema}.inbox b ON b.id = e.id
  CROSS JOIN LATERAL (SELECT CASE WHEN e.afresh THEN 1 ELSE b.attempts + 1 END AS tried) AS n) AS r
CROSS JOIN LATERAL (SELECT ${remedySql(pending.map(({ state }) => state))} AS remedy) AS x
WHERE i.id = r.id
RETURNING i.id, CASE WHEN r.schema_name = 'public' THEN '' ELSE quote_ident(r.schema_name) || '.' END || quote_ident(r.table_name) AS "table",
  r.record_id AS record, i.attempts, r.code, i.error, x.remedy, i.status = 'dead' AND r.was <> 'dead' AS died`,
    [JSON.stringify(pending.map((row) => ({ ...row, waits: waitsForSchema(row.state) }))), maxAttempts],
    { action: "note why changes stay parked" },
  );
  return rows.filter((row) => row.died === "t");
}

function isList<T>(value: readonly T[] | object): value is readonly T[] {
  return Array.isArray(value);
}

/** Which ordinals (from 1) of a source belong to which chunk. */
function places(pieces: readonly Piece[], digestOf: ParkContext["digestOf"]) {
  let last = 0;
  return pieces.map(({ header, batch }) => {
    const first = last + 1;
    last += header.rows;
    const { transaction, first_queue_id, schema, table, operation, key, stamp } = header;
    const origin = { epoch: batch.epoch, sequence: batch.sequence, cut_no: batch.cutNo };
    const captured_at = header.captured_at === "" ? null : header.captured_at;
    const row = { transaction, first_queue_id, schema, table, operation, key, stamp, captured_at };
    return { first, last, ...origin, ...row, catalog: digestOf(schema, table) };
  });
}
