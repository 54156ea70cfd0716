/**
 * The statements that read a cut, put together from few parts: which rows (a whole small cut, some transactions, a page
 * of a large one) and what they become (chunks, events). All are pure functions of the cut and of committed rows (I13).
 */
import type { Membership } from "./layout.ts";

/** Queue rows a page may hold, and what they may cost in bytes; a single row above it is a page of its own (I11). */
export const PAGE_ROWS = 4_096;
export const PAGE_BYTES = 4_194_304;
/** A cut up to this is read in one round trip. Below PAGE_ROWS and PAGE_BYTES, so that no transaction of it is large. */
export const SMALL_ROWS = 1_024;
export const SMALL_BYTES = 1_048_576;
/** Transactions of one page, and of one page of the directory. */
export const PAGE_TRANSACTIONS = 2_000;
/** Row-form rows are put together by 64 queue ids; a row above CHUNK_ROW_BYTES, and a packed one, is a chunk of its own. */
const CHUNK_IDS = 64;
const CHUNK_ROW_BYTES = 8_192;
/** Ordinals of a packed row: queue id = id * 2^20 + ordinal. */
const ORDINALS = 1_048_576;

const BYTES = "octet_length(data) + coalesce(octet_length(old), 0)";

function ofChannel(membership: Membership, parameter: string): string {
  return membership.kind === "named" ? `table_id = ANY (${parameter})` : `table_id <> ALL (${parameter})`;
}

/** Rows of a cut: $1 xmax(from), $2 xmax(to), $3 to, $4 late commits, $5 table ids. The halves share no row. */
function membersOfCut(membership: Membership, columns: string): string {
  return `
  SELECT ${columns} FROM "replicator".queue
  WHERE xid >= $1::xid8 AND xid < $2::xid8 AND pg_visible_in_snapshot(xid, $3::pg_snapshot) AND ${ofChannel(membership, "$5::int[]")}
  UNION ALL
  SELECT ${columns} FROM "replicator".queue
  WHERE xid = ANY ($4::xid8[]) AND xid < $1::xid8 AND ${ofChannel(membership, "$5::int[]")}`;
}

/** One line a transaction, in the cut's order; for a cursor, so parameters are put in as literals. */
export function directoryQuery(membership: Membership, literals: readonly string[], rowCost: number): string {
  const text = `
SELECT xid::text, count(*)::text AS queue_rows, sum(${BYTES} + rows * ${rowCost})::text AS cost
FROM (${membersOfCut(membership, "id, xid, rows, data, old")}) AS q
GROUP BY xid ORDER BY max(id)`;
  return text.replace(/\$([1-5])/g, (_, n: string) => `'${literals[Number(n) - 1]}'`);
}

export type Shape = "chunks" | "events";

/** Everything of a small cut; a single row with fits = f when it is not small. Parameters as membersOfCut, for events $6 … */
export function smallCutQuery(membership: Membership, shape: Shape): string {
  return `
WITH members AS MATERIALIZED (
  SELECT *, ${BYTES} AS bytes
  FROM (${membersOfCut(membership, "id, xid, table_id, operation, rows, captured_at, data, old")}) AS q
  LIMIT ${SMALL_ROWS + 1}
), size AS MATERIALIZED (
  SELECT count(*) <= ${SMALL_ROWS} AND coalesce(sum(bytes), 0) <= ${SMALL_BYTES} AS fits FROM members
), page AS (
  SELECT max(id) OVER (PARTITION BY xid) AS place, * FROM members WHERE (SELECT fits FROM size)
)
SELECT size.fits, made.* FROM size LEFT JOIN (${shaped(shape, 6)}) AS made ON true`;
}

/** All rows of some transactions: $1 their xids in order, $2 table ids. */
export function runQuery(membership: Membership, shape: Shape): string {
  return `
WITH page AS (
  SELECT run.place, q.*, ${BYTES} AS bytes
  FROM unnest($1::xid8[]) WITH ORDINALITY AS run(xid, place)
  CROSS JOIN LATERAL (SELECT id, xid, table_id, operation, rows, captured_at, data, old
                      FROM "replicator".queue AS one
                      WHERE one.xid = run.xid AND ${ofChannel(membership, "$2::int[]")}) AS q
)
SELECT true AS fits, made.* FROM (${shaped(shape, 3)}) AS made`;
}

/** A page of one large transaction: $1 xid, $2 the last id read, $3 table ids. last_id of its lines says where to go on. */
export function largeQuery(membership: Membership, shape: Shape, rowCost: number): string {
  return `
WITH page AS (
  SELECT 1 AS place, id, xid, table_id, operation, rows, captured_at, data, old, bytes
  FROM (SELECT *, sum(bytes + rows * ${rowCost}) OVER (ORDER BY id ROWS UNBOUNDED PRECEDING) AS cost
        FROM (SELECT id, xid, table_id, operation, rows, captured_at, data, old, ${BYTES} AS bytes
              FROM "replicator".queue
              WHERE xid = $1::xid8 AND id > $2::bigint AND ${ofChannel(membership, "$3::int[]")}
              ORDER BY id LIMIT ${PAGE_ROWS}) AS next) AS counted
  -- The second half: the first row always, however large.
  WHERE cost <= ${PAGE_BYTES} OR cost = bytes + rows * ${rowCost}
)
SELECT true AS fits, made.* FROM (${shaped(shape, 4)}) AS made`;
}

function shaped(shape: Shape, parameter: number): string {
  return shape === "chunks" ? CHUNKS : events(parameter);
}

const UTC = `'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'`;

// Rows of one transaction, table, operation and stretch of ids become one chunk. A row trigger's rows of a bulk statement
// so become lines together; the order inside a transaction is not needed, apply goes by stamp.
const CHUNKS = `
  SELECT xid::text AS transaction, table_id::text, operation::text, sum(rows)::text AS rows,
         (min(id) * ${ORDINALS})::text AS first_queue_id, max(id)::text AS last_id,
         to_char(max(captured_at) AT TIME ZONE 'UTC', ${UTC}) AS captured_at,
         string_agg(data, E',\\n' ORDER BY id) AS data,
         string_agg(coalesce(old, 'null'), E',\\n' ORDER BY id) FILTER (WHERE operation = 'D') AS old
  FROM page
  GROUP BY place, xid, table_id, operation,
           CASE WHEN rows > 1 OR bytes > ${CHUNK_ROW_BYTES} THEN -id ELSE id / ${CHUNK_IDS} END
  ORDER BY place, min(id)`;

// json (not jsonb) keeps each element's and field's text, digit for digit (I7). $n contour, $n+1 epoch, $n+2 cut_no.
function events(n: number): string {
  return `
  SELECT page.id::text AS last_id, made.queue_id, quote_ident(t.schema_name) || '.' || quote_ident(t.table_name) AS table_name, page.operation::text, made.key,
         '{"event_id":"' || md5($${n}::text || ':' || $${n + 1}::text || ':' || made.queue_id || ':0')::uuid
         || '","schema":' || to_json(t.schema_name) || ',"table":' || to_json(t.table_name)
         || ',"operation":"' || CASE page.operation WHEN 'I' THEN 'INSERT' WHEN 'U' THEN 'UPDATE' WHEN 'D' THEN 'DELETE' WHEN 'S' THEN 'SNAPSHOT' ELSE 'TRUNCATE' END
         || '","source":{"contour":"' || $${n}::text || '","transaction":"' || page.xid || '","queue_id":"' || made.queue_id
         || '","cut_no":"' || $${n + 2}::text || '","captured_at":"' || to_char(page.captured_at AT TIME ZONE 'UTC', ${UTC})
         || '"},"key":' || made.key
         || ',"version":' || (made.line -> t.stamp_columns[1])::text
         || ',"updated_at":' || (made.line -> t.stamp_columns[2])::text
         || ',"updated_by":' || (made.line -> t.stamp_columns[3])::text
         || CASE WHEN t.stamp_columns = '{version,updated_at,updated_by}'::text[] THEN '' ELSE ',"stamp":' || to_json(t.stamp_columns) END
         || CASE WHEN page.operation IN ('I', 'U', 'S') THEN ',"data":' || made.line::text ELSE '' END
         || CASE WHEN page.operation = 'D' THEN ',"old":' || coalesce(made.old::text, 'null') ELSE '' END
         || '}' AS body
  FROM page
  LEFT JOIN "replicator".replicated_table AS t ON t.table_id = page.table_id
  CROSS JOIN LATERAL (
    SELECT one.line, one.old, one.ordinal, (page.id * ${ORDINALS} + one.ordinal - 1)::text AS queue_id,
           CASE WHEN page.operation = 'T' THEN '{}' ELSE
             (SELECT '{' || string_agg(to_json(k.name) || ':' || (one.line -> k.name)::text, ',' ORDER BY k.place) || '}'
              FROM unnest(t.key_columns) WITH ORDINALITY AS k(name, place)) END AS key
    FROM ROWS FROM (json_array_elements(('[' || page.data || ']')::json),
                    json_array_elements(('[' || page.old || ']')::json)) WITH ORDINALITY AS one(line, old, ordinal)
  ) AS made
  ORDER BY page.place, page.id, made.ordinal`;
}
