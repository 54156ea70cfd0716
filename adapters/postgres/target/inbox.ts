/** Parking (architecture §7.4): what could not be applied is kept with its error and its next attempt (I5). */
import type { Connection, Param } from "../connection.ts";
import type { Piece, Source } from "./plan.ts";
import type { FailedRow } from "./row_block.ts";
import { sourceJson, sourceParams } from "./sources.ts";

export interface ParkContext {
  readonly connection: Connection;
  /** Our schema's quoted name. */
  readonly schema: string;
  readonly source: string;
  readonly channel: string;
  readonly partition: number;
}

/** Rows of a source to park: those named, or all for one reason. */
export interface Parcel {
  readonly pieces: readonly Piece[];
  readonly source: Source;
  readonly failed: readonly FailedRow[] | { readonly code: string; readonly message: string };
}

/** First pause before a parked change is tried again, and the longest. */
const FIRST_PAUSE_S = 5;
const LONGEST_PAUSE_S = 600;

/**
 * Puts rows into the inbox, inside the apply transaction. Returns their inbox ids and ordinals, in order.
 * The event id is the one the wire derives: md5(contour:epoch:first_queue_id:ordinal).
 */
export async function park(context: ParkContext, parcel: Parcel): Promise<readonly { id: string; n: number }[]> {
  const { connection, schema, source, channel, partition } = context;
  const params = [...sourceParams(parcel.source)];
  const next = (value: Param) => `$${params.push(value)}`;
  const some = isList(parcel.failed) ? parcel.failed : null;
  const all = isList(parcel.failed) ? null : parcel.failed;
  const reasons = some
    ? `JOIN json_to_recordset(${next(JSON.stringify(some))}::text::json) AS f(n bigint, state text, message text) ON f.n = e.ord - 1`
    : `CROSS JOIN (SELECT ${next(all?.code ?? "")}::text AS state, ${next(all?.message ?? "")}::text AS message) AS f`;
  const rows = await connection.query<{ id: string; n: string }>(
    `WITH w AS MATERIALIZED (
  SELECT e.ord - 1 AS n, md5(${next(source)} || ':' || p.epoch || ':' || p.first_queue_id || ':' || (e.ord - p.first))::uuid AS event_id,
    p.*, p.first_queue_id::bigint + (e.ord - p.first) AS queue_id, e.value, f.state, f.message,
    CASE WHEN json_array_length(p.key) = 1 THEN e.value->>(p.key->>0)
         ELSE (SELECT json_object_agg(k, e.value->k)::text FROM json_array_elements_text(p.key) k) END AS record_id
  FROM json_array_elements(${sourceJson(parcel.source, schema)}) WITH ORDINALITY AS e(value, ord)
  JOIN json_to_recordset(${next(JSON.stringify(places(parcel.pieces)))}::text::json)
    AS p(first bigint, last bigint, epoch bigint, sequence bigint, cut_no bigint, transaction text, first_queue_id text,
         schema text, "table" text, operation text, key json, version_column text, captured_at timestamptz)
    ON e.ord BETWEEN p.first AND p.last
  ${reasons}),
i AS (
  INSERT INTO ${schema}.inbox (event_id, source_contour, channel, partition, epoch, sequence, cut_no, transaction_id, queue_id,
    schema_name, table_name, operation, record_id, version, data, error_code, error, next_attempt_at, captured_at)
  SELECT w.event_id, ${next(source)}, ${next(channel)}, ${next(partition)}::int, w.epoch, w.sequence, w.cut_no, w.transaction,
    w.queue_id, w.schema, w."table", w.operation, w.record_id,
    CASE WHEN w.value->>w.version_column ~ '^-?[0-9]{1,18}$' THEN (w.value->>w.version_column)::bigint END,
    w.value::text, w.state, w.message, clock_timestamp() + interval '${FIRST_PAUSE_S} s', w.captured_at
  FROM w ORDER BY w.n
  ON CONFLICT (event_id) DO UPDATE SET error_code = excluded.error_code, error = excluded.error
  RETURNING id, event_id)
SELECT i.id, w.n FROM i JOIN w USING (event_id) ORDER BY w.n`,
    params,
    { action: "park changes" },
  );
  return rows.map((row) => ({ id: row.id, n: Number(row.n) }));
}

/** After another failed attempt: the error of each, and the pause doubled where the attempt was one of its own. */
export async function notePending(
  connection: Connection,
  schema: string,
  errors: readonly { readonly id: string; readonly state: string; readonly message: string }[],
  countAttempt: boolean,
): Promise<void> {
  const attempt = countAttempt
    ? `, attempts = attempts + 1, next_attempt_at = clock_timestamp()
         + least(${LONGEST_PAUSE_S}, ${FIRST_PAUSE_S} * 2 ^ least(attempts, 20)) * interval '1 s'`
    : "";
  await connection.execute(
    `UPDATE ${schema}.inbox i SET error_code = e.state, error = e.message${attempt}
FROM json_to_recordset($1::text::json) AS e(id bigint, state text, message text) WHERE i.id = e.id`,
    [JSON.stringify(errors)],
    { action: "note why changes stay parked" },
  );
}

function isList<T>(value: readonly T[] | object): value is readonly T[] {
  return Array.isArray(value);
}

/** Which ordinals (from 1) of a source belong to which chunk. */
function places(pieces: readonly Piece[]) {
  let last = 0;
  return pieces.map(({ header, batch }) => {
    const first = last + 1;
    last += header.rows;
    const { transaction, first_queue_id, schema, table, operation, key, captured_at } = header;
    const origin = { epoch: batch.epoch, sequence: batch.sequence, cut_no: batch.cutNo };
    const row = { transaction, first_queue_id, schema, table, operation, key, captured_at };
    return { first, last, ...origin, ...row, version_column: header.stamp[0] };
  });
}
