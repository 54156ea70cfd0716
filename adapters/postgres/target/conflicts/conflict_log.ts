/**
 * The conflict log (architecture §6.8): one statement a unit, before the unit is applied, writes a line for each of its
 * changes that meets another contour's row, tombstone or floor it has not seen (conflict_watch.ts). It locks the rows it
 * has looked at, so that they are the ones the unit meets, and notes their keys, at which the unit's statement then does
 * not stop. Answers with one row:
 *   lines  how many conflicts there are; one that was logged before counts too and is not logged again
 *   lost   ordinals from 0 of the incoming rows that lose
 *   seen   how many keys were looked at
 */
import type { Column, TargetTable } from "../catalog/catalog.ts";
import type { UnitKind } from "../rows/plan.ts";
import { literal } from "../rows/row_block.ts";
import { FLOOR, floorOf, type StatementOptions, tombstone } from "../rows/statements.ts";
import { aliasOf, id, keyAliases, keyMatches, rowsOf, type Shape, stampAlias, stampOf, textOf } from "../sql_names.ts";
import { keyTextOf, seenSetting, unseen, unstampedTie, writersDiffer } from "./conflict_watch.ts";
import { originsOf } from "./origins.ts";
import { recordId } from "./override_statements.ts";
import { deletesSql, greatestFirst, replacesSql, type StampSql, stampList } from "./stamp_sql.ts";

/** `source`: the rows, an SQL expression of type json. `origins`: their origins (origins.ts), likewise. */
export function logStatement(
  kind: UnitKind,
  shape: Shape,
  source: string,
  origins: string,
  options: StatementOptions,
): string {
  const { table } = shape;
  const setting = literal(seenSetting(table));
  const meetings = kind === "truncate" ? truncated(shape) : met(kind, keysOnly(kind, shape), options);
  return `
WITH r AS MATERIALIZED (${rowsOf(keysOnly(kind, shape), source)}),
o AS MATERIALIZED (${originsOf(origins)}),
${meetings},
lines AS MATERIALIZED (
  SELECT m.* FROM (
    SELECT m.*, o.event, o.source, o.transaction,
      row_number() OVER (PARTITION BY m.record, m.wins ORDER BY ${stampList(MET, table.policy).join(", ")}, m.ord) AS nth
    FROM m JOIN o ON o.ord = m.ord
    WHERE CASE WHEN o.operation = 'SNAPSHOT' THEN m.replaces OR m.unseen AND NOT m.stale ELSE m.unseen END) AS m
  -- the first one that wins over what stands here; those after it meet a change of their own contour
  WHERE ${kind === "truncate" ? "true" : "NOT m.wins OR m.nth = 1"}
),
written AS (
  INSERT INTO ${options.schema}.conflict_log
    (event_id, source_contour, schema_name, table_name, record_id, policy, winner, reason, local_row, incoming_row, transaction_id)
  SELECT m.event, m.source, ${literal(table.schema)}, ${literal(table.name)}, m.record, ${literal(table.policy)},
    CASE WHEN m.wins THEN 'incoming' ELSE 'local' END, m.reason, m.image, e.value::text, m.transaction
  FROM lines AS m JOIN json_array_elements(${source}) WITH ORDINALITY AS e(value, ord) ON e.ord = m.ord
  ORDER BY m.ord
  ON CONFLICT DO NOTHING
)
SELECT (SELECT count(*) FROM lines) AS lines,
  (SELECT string_agg((m.ord - 1)::text, ',' ORDER BY m.ord) FROM (SELECT DISTINCT ord FROM lines WHERE NOT wins) AS m) AS lost,
  (SELECT count(*) FROM seen) AS seen,
  set_config(${setting}, concat_ws(',', nullif(current_setting(${setting}, true), ''),
    (SELECT string_agg(to_json(key)::text, ',') FROM seen)), true) IS NOT NULL AS noted`;
}

/** Of a line's incoming change. */
const MET: StampSql = { version: "m.version", updatedAt: "m.updated_at", updatedBy: "m.updated_by" };

/** What stands here as JSON text, rendered as capture does: what travels as PostgreSQL's text is text here too. */
export function imageOf(table: TargetTable, alias: string): string {
  return image(
    [...table.columns.values()].filter(({ generated }) => !generated).map((column) => member(alias, column)),
  );
}

/** Types that capture leaves to JSON; the others travel as PostgreSQL's text (friendly_type in 02a_table_plan.sql). */
const FRIENDLY =
  /^(boolean|smallint|integer|bigint|real|double precision|numeric|text|character varying|character|bpchar|uuid|date|name|timestamp)(\([\d,-]+\))?( with(out)? time zone)?$/;

function member(alias: string, { name, type }: Column): string {
  return `${alias}.${id(name)}${FRIENDLY.test(type) ? "" : "::text"} AS ${id(name)}`;
}

function image(columns: readonly string[]): string {
  return `(SELECT row_to_json(q.*)::text FROM (SELECT ${columns.join(", ")}) AS q)`;
}

/** Key and stamp are all that is compared, but for ties. */
function keysOnly(kind: UnitKind, shape: Shape): Shape {
  if (kind !== "upsert" || shape.ties) return shape;
  const { table } = shape;
  const used = shape.columns.filter(({ column }) => table.key.includes(column) || table.stamp.includes(column.name));
  return { ...shape, columns: used };
}

/** `m`: each incoming row beside what it meets; `seen`: the keys that were looked at. */
function met(kind: "upsert" | "delete", shape: Shape, options: StatementOptions): string {
  const { table } = shape;
  const { policy } = table;
  const incoming = stampAlias(shape, "r");
  const current = stampOf(table, "c");
  const stone = stampOf(table, "x");
  const differ = writersDiffer(incoming, current);
  const sameKey = (alias: string) =>
    keyMatches(
      table,
      (name) => `${alias}.${id(name)}`,
      (name) => `r.${aliasOf(shape, name)}`,
    );
  const texts = {
    incoming: { ...incoming, text: kind === "upsert" ? textOf(shape, (name) => `r.${aliasOf(shape, name)}`) : "''" },
    current: { ...current, text: kind === "upsert" ? textOf(shape, (name) => `c.${id(name)}`) : "''" },
  };
  const tie = kind === "upsert" ? unstampedTie(shape, texts.incoming, texts.current) : null;
  const wins =
    kind === "delete" ? deletesSql(incoming, current, policy) : replacesSql(texts.incoming, texts.current, policy);
  const late = unseen(incoming, current, policy);
  const isUnseen = `(${differ} AND ${late}${tie ? ` OR ${tie}` : ""})`;
  // A snapshot's row need not have seen what it replaces (upsertStatement).
  const replaces = kind === "upsert" && shape.ties ? `(${differ} AND ${wins})` : "false";
  const rows = `l AS MATERIALIZED (
  SELECT ${incomingSql(shape)}, ${isUnseen} AS unseen, ${staleSql(incoming, current)} AS stale, ${wins} AS wins,
    ${kind === "delete" ? "'deleted there, ' || " : ""}${decidedBy(incoming, current, policy)} AS reason,
    CASE WHEN ${isUnseen} OR ${replaces} THEN ${imageOf(table, "c")} END AS image, ${replaces} AS replaces
  FROM r JOIN ${table.sql} AS c ON ${sameKey("c")}
  WHERE ${differ}${tie ? ` OR ${tie}` : ""}
  -- in the order in which the statement of the unit locks them
  ORDER BY ${keyAliases(shape, "r.")}
  FOR NO KEY UPDATE OF c
)`;
  // Two deletions of one row are no conflict: both contours wanted the same.
  if (kind === "delete") {
    return `${rows},
m AS MATERIALIZED (SELECT * FROM l),
seen AS MATERIALIZED (
  SELECT key FROM l UNION
  SELECT ${keyTextOf(shape, "r")} FROM r JOIN ${tombstone(table, options)} AS x ON ${sameKey("x")} WHERE ${writersDiffer(incoming, stone)}
)`;
  }
  const dead = (from: string, stamp: StampSql, what: string, columns: readonly string[]) => `
  SELECT ${incomingSql(shape)}, NOT EXISTS (SELECT FROM ${table.sql} AS c WHERE ${sameKey("c")}) AS unseen,
    ${staleSql(incoming, stamp)} AS stale, NOT (${deletesSql(stamp, incoming, policy)}) AS wins,
    '${what}, ' || ${decidedBy(incoming, stamp, policy)} AS reason, ${image(columns)} AS image,
    ${stamp.version} AS dead_version, ${stamp.updatedAt} AS dead_at, ${stamp.updatedBy} AS dead_by
  FROM ${from} WHERE ${writersDiffer(incoming, stamp)} AND ${unseen(incoming, stamp, policy)}`;
  const key = table.key.map((column) => member("x", column));
  const stamps = ({ version, updatedAt, updatedBy }: StampSql) =>
    [version, updatedAt, updatedBy].map((value, n) => `${value} AS ${id(table.stamp[n] ?? "")}`);
  const died = { version: "d.dead_version", updatedAt: "d.dead_at", updatedBy: "d.dead_by" };
  return `${rows},
${floorOf(table, options)},
d AS MATERIALIZED (${dead(`r JOIN ${tombstone(table, options)} AS x ON ${sameKey("x")}`, stone, "deleted here", [...key, ...stamps(stone)])}
  UNION ALL${dead("r CROSS JOIN f", FLOOR, "truncated here", stamps(FLOOR))}
),
m AS MATERIALIZED (
  SELECT * FROM l UNION ALL
  (SELECT DISTINCT ON (d.ord) d.ord, d.key, d.record, d.version, d.updated_at, d.updated_by, d.unseen, d.stale, d.wins, d.reason, d.image, false
   FROM d ORDER BY d.ord, ${greatestFirst(died, policy)})
),
seen AS MATERIALIZED (SELECT key FROM l UNION SELECT key FROM d)`;
}

/** A TRUNCATE meets every row of another contour that is not below it by version. */
function truncated(shape: Shape): string {
  const { table } = shape;
  const incoming = stampAlias(shape, "r");
  const current = stampOf(table, "c");
  const key = table.key.map(({ name }) => `c.${id(name)}`).join(", ");
  return `m AS MATERIALIZED (
  SELECT r.ord, ROW(${key})::text AS key, ${recordId(table, (name) => `c.${id(name)}`)} AS record,
    ${incoming.version} AS version, ${incoming.updatedAt} AS updated_at, ${incoming.updatedBy} AS updated_by,
    true AS unseen, false AS stale, ${deletesSql(incoming, current, table.policy)} AS wins,
    'truncated there, ' || ${decidedBy(incoming, current, table.policy)} AS reason, ${imageOf(table, "c")} AS image, false AS replaces
  FROM r JOIN ${table.sql} AS c ON ${writersDiffer(incoming, current)} AND ${unseen(incoming, current, table.policy)}
  FOR NO KEY UPDATE OF c
),
seen AS MATERIALIZED (SELECT DISTINCT key FROM m)`;
}

function incomingSql(shape: Shape): string {
  const { version, updatedAt, updatedBy } = stampAlias(shape, "r");
  const record = recordId(shape.table, (name) => `r.${aliasOf(shape, name)}`);
  return `r.ord, ${keyTextOf(shape, "r")} AS key, ${record} AS record,
    ${version} AS version, ${updatedAt} AS updated_at, ${updatedBy} AS updated_by`;
}

/** A snapshot brings rows as they were: one that is older in every way may have been seen long ago. */
function staleSql(incoming: StampSql, current: StampSql): string {
  return `(${incoming.version} < ${current.version} AND ${incoming.updatedAt} < ${current.updatedAt})`;
}

/** What made the difference, whoever won. */
function decidedBy(a: StampSql, b: StampSql, policy: "version" | "latest"): string {
  const version = `WHEN ${a.version} <> ${b.version} THEN 'greater version'`;
  const time = `WHEN ${a.updatedAt} <> ${b.updatedAt} THEN 'later updated_at'`;
  const first = policy === "version" ? `${version} ${time}` : `${time} ${version}`;
  return `CASE ${first} WHEN ${writersDiffer(a, b)} THEN 'greater updated_by' ELSE 'row text' END`;
}
