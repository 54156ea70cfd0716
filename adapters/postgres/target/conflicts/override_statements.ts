/**
 * Statements of law 3 (architecture §6.3): what apply does with captured writes of its own where a constraint stands
 * between an incoming row and this database. Rows are named by `$1`: a JSON array of objects with the key's columns as
 * text. Whoever runs a statement that is said to be captured has set replicator.capture to "on".
 */
import { type Catalog, type ForeignKey, qualified, type TargetTable, type UniqueRule } from "../catalog/catalog.ts";
import { literal } from "../rows/row_block.ts";
import { aliasOf, id, keyMatches, keyPlace, keysOf, rowsOf, type Shape, stampAlias, stampOf } from "../sql_names.ts";
import { deletesSql, stampList } from "./stamp_sql.ts";

const KEYS = "$1::text::json";

/** The key of `alias` as a JSON object, every value as PostgreSQL's text. */
export function keyJson(table: TargetTable, column: (name: string) => string): string {
  return `json_build_object(${table.key.map(({ name }) => `${literal(name)}, ${column(name)}::text`).join(", ")})`;
}

/** As record_id in the inbox and the queue: the value of a single key, else JSON. */
export function recordId(table: TargetTable, column: (name: string) => string): string {
  const [only] = table.key;
  return table.key.length === 1 && only ? `${column(only.name)}::text` : `${keyJson(table, column)}::text`;
}

/**
 * Rows here that stand in the way of the one incoming row of `source`, by any unique index or exclusion constraint beside
 * the key. One each: `key`; `greater`: it beats the incoming row, by stamp, then by key; `line`: the row as JSON.
 */
export function holdersStatement(shape: Shape, source: string): string {
  const { table } = shape;
  const own = [
    ...stampList(stampAlias(shape, "n"), table.policy),
    keyText(table, (name) => `n.${aliasOf(shape, name)}`),
  ];
  const theirs = [
    ...stampList(stampOf(table, "replicator_row"), table.policy),
    keyText(table, (name) => `replicator_row.${id(name)}`),
  ];
  const otherKey = keyMatches(
    table,
    (name) => `replicator_row.${id(name)}`,
    (name) => `n.${aliasOf(shape, name)}`,
  );
  const arms = table.rules.map((rule) => {
    const clash = rule.operators.map((operator, n) => clashes(rule, operator, n)).join(" AND ");
    return `SELECT ${keyJson(table, (name) => `replicator_row.${id(name)}`)}::text AS key,
  (${theirs.join(", ")}) > (${own.join(", ")}) AS greater, replicator_row.replicator_line AS line
FROM i AS n
JOIN LATERAL (SELECT ${named(rule.expressions, "x")} FROM (${wholeRow(shape)}) AS s${where(rule.predicate)}) AS v ON true
JOIN (SELECT r.*, row_to_json(r.*)::text AS replicator_line, ${named(rule.expressions, "replicator_y")} FROM ${table.sql} AS r${where(rule.predicate)}) AS replicator_row ON ${clash}
WHERE NOT (${otherKey})`;
  });
  return `WITH i AS MATERIALIZED (${rowsOf(shape, source)})
${arms.join("\nUNION\n")}`;
}

/** The stamp and key of the incoming row of `source`, and the row itself: what "replicator".refuse_N takes; captured. */
export function refuseStatement(shape: Shape, source: string, schema: string): string {
  const { table } = shape;
  const [version, updatedAt, updatedBy] = table.stamp;
  const stamp = stampAlias(shape, "n");
  const members = [
    ...table.key.map(({ name }) => `${literal(name)}, n.${aliasOf(shape, name)}::text`),
    `${literal(version)}, ${stamp.version}`,
    `${literal(updatedAt)}, ${stamp.updatedAt}`,
    `${literal(updatedBy)}, ${stamp.updatedBy}`,
  ];
  return `SELECT ${schema}.refuse_${table.tableId}(json_build_object(${members.join(", ")}), (${source}->0)::text)
FROM (${rowsOf(shape, source)}) AS n`;
}

/** The keys of the rows of `source`, as one JSON array. */
export function keysStatement(shape: Shape, source: string): string {
  return `SELECT json_agg(${keyJson(shape.table, (name) => `n.${aliasOf(shape, name)}`)})::text AS keys FROM (${rowsOf(shape, source)}) AS n`;
}

/**
 * Lifts the stamps of rows here to at least those of the rows of `source`; not captured. The captured write that follows
 * is then above both. Returns the keys of the rows that are here, as one JSON array, or null.
 */
export function liftStatement(shape: Shape, source: string): string {
  const { table } = shape;
  const [version, updatedAt] = table.stamp;
  const stamp = stampAlias(shape, "n");
  const here = keyMatches(
    table,
    (name) => `c.${id(name)}`,
    (name) => `n.${aliasOf(shape, name)}`,
  );
  return `WITH up AS (
  UPDATE ${table.sql} AS c
  SET ${id(version)} = greatest(c.${id(version)}, ${stamp.version}), ${id(updatedAt)} = greatest(c.${id(updatedAt)}, ${stamp.updatedAt})
  FROM (${rowsOf(shape, source)}) AS n WHERE ${here}
  RETURNING ${keyJson(table, (name) => `c.${id(name)}`)} AS key)
SELECT json_agg(key)::text AS keys FROM up`;
}

/** A captured UPDATE that changes nothing but the stamp. Where no trigger of ours stands it is stamped here, for the poll. */
export function restampStatement(table: TargetTable): string {
  const [version, updatedAt, updatedBy] = table.stamp.map((name) => id(name));
  const here = `FROM (${keysOf(table, KEYS)}) AS k WHERE ${hereIs(table)}`;
  if (table.stampedAs === null) return `UPDATE ${table.sql} AS c SET ${version} = c.${version} ${here}`;
  return `UPDATE ${table.sql} AS c SET ${version} = c.${version} + 1, ${updatedBy} = ${literal(table.stampedAs)},
  ${updatedAt} = greatest(clock_timestamp(), c.${updatedAt} + interval '1 microsecond') ${here}`;
}

/** A captured DELETE. */
export function removeStatement(table: TargetTable): string {
  return `DELETE FROM ${table.sql} AS c USING (${keysOf(table, KEYS)}) AS k WHERE ${hereIs(table)}`;
}

/** Rows of a child that refer to the named parents, as one JSON array of keys, or null. */
export function childrenStatement(table: TargetTable, fk: ForeignKey, child: TargetTable): string {
  return `SELECT json_agg(${keyJson(child, (name) => `ch.${id(name)}`)})::text AS keys FROM ${referring(table, fk)}`;
}

/** How many rows refer to the named parents, of a table that is not replicated as well. */
export function countChildrenStatement(table: TargetTable, fk: ForeignKey): string {
  return `SELECT count(*) AS children FROM ${referring(table, fk)}`;
}

/** ON DELETE SET NULL and SET DEFAULT as a captured UPDATE. */
export function detachStatement(table: TargetTable, fk: ForeignKey): string {
  const value = fk.onDelete === "n" ? "NULL" : "DEFAULT";
  const set = (fk.setColumns ?? fk.childColumns).map((name) => `${id(name)} = ${value}`).join(", ");
  return `UPDATE ${qualified(fk.childSchema, fk.childTable)} AS ch SET ${set}
FROM (${keysOf(table, KEYS)}) AS k JOIN ${table.sql} AS c ON ${hereIs(table)} WHERE ${refers(fk)}`;
}

/** The same for a TRUNCATE: the rows at or below its stamp to which rows here refer. */
export function liftReferredStatement(shape: Shape, source: string): string {
  const { table } = shape;
  const [version, updatedAt] = table.stamp;
  const stamp = stampAlias(shape, "n");
  const below = deletesSql(stamp, stampOf(table, "c"), table.policy);
  const referred = table.children.map(isReferred);
  return `WITH up AS (
  UPDATE ${table.sql} AS c
  SET ${id(version)} = greatest(c.${id(version)}, ${stamp.version}), ${id(updatedAt)} = greatest(c.${id(updatedAt)}, ${stamp.updatedAt})
  FROM (${rowsOf(shape, source)}) AS n WHERE ${below} AND (${["false", ...referred].join(" OR ")})
  RETURNING ${keyJson(table, (name) => `c.${id(name)}`)} AS key)
SELECT json_agg(key)::text AS keys FROM up`;
}

/** Whether a row refers to `c` by this foreign key. */
export function isReferred(fk: ForeignKey): string {
  return `EXISTS (SELECT FROM ${qualified(fk.childSchema, fk.childTable)} AS ch WHERE ${refers(fk)})`;
}

/** The foreign keys whose ON DELETE leaves the children to the application. */
export function restricting(table: TargetTable): readonly ForeignKey[] {
  return table.children.filter((fk) => fk.onDelete === "a" || fk.onDelete === "r");
}

export function childTable(catalog: Catalog, fk: ForeignKey): TargetTable | undefined {
  return catalog.tables.get(`${fk.childSchema}\u0000${fk.childTable}`);
}

function referring(table: TargetTable, fk: ForeignKey): string {
  return `(${keysOf(table, KEYS)}) AS k JOIN ${table.sql} AS c ON ${hereIs(table)}
JOIN ${qualified(fk.childSchema, fk.childTable)} AS ch ON ${refers(fk)}`;
}

function refers(fk: ForeignKey): string {
  return fk.parentColumns
    .map((name, n) => `c.${id(name)} ${fk.equals[n]} ch.${id(fk.childColumns[n] ?? "")}`)
    .join(" AND ");
}

function hereIs(table: TargetTable): string {
  return keyMatches(
    table,
    (name) => `c.${id(name)}`,
    (name) => `k.${keyPlace(table, name)}`,
  );
}

/** The incoming row under the table's column names; columns it does not carry are NULL, generated ones are computed. */
function wholeRow(shape: Shape): string {
  const { table } = shape;
  const carried = new Map(shape.columns.map(({ column }, n) => [column.name, `n.c${n + 1}`]));
  const plain = [...table.columns.values()].filter((column) => !column.generated);
  const generated = [...table.columns.values()].filter((column) => column.generated);
  const values = plain.map((column) => `${carried.get(column.name) ?? `NULL::${column.type}`} AS ${id(column.name)}`);
  const base = `SELECT ${values.join(", ")}`;
  if (generated.length === 0) return base;
  const computed = generated.map((column) => `(${column.expression ?? "NULL"})::${column.type} AS ${id(column.name)}`);
  return `SELECT b.*, ${computed.join(", ")} FROM (${base}) AS b`;
}

function clashes(rule: UniqueRule, operator: string, n: number): string {
  const both = `v.x${n + 1} ${operator} replicator_row.replicator_y${n + 1}`;
  return rule.nullsEqual ? `(${both} OR (v.x${n + 1} IS NULL AND replicator_row.replicator_y${n + 1} IS NULL))` : both;
}

function named(expressions: readonly string[], prefix: string): string {
  return expressions.map((expression, n) => `${expression} AS ${prefix}${n + 1}`).join(", ");
}

function where(predicate: string | null): string {
  return predicate === null ? "" : ` WHERE ${predicate}`;
}

function keyText(table: TargetTable, column: (name: string) => string): string {
  return `ROW(${table.key.map(({ name }) => column(name)).join(", ")})::text COLLATE pg_catalog."C"`;
}
