/**
 * The set-wise statements of apply (architecture §7.3), generated from the catalog. Each takes the rows as a JSON array
 * (`source`, an SQL expression of type json) and answers with one row:
 *   versions  of every row, in order, joined by commas
 *   lost      ordinals from 0 of the rows a greater stamp has beaten; null when there are none
 *   bad       how many stamps are out of range (architecture §6.8): then nothing of the statement may stay
 *   missing   how many foreign keys point nowhere
 *   fresh     how many rows were inserted, not updated
 */
import { MAX_VERSION } from "../../../../src/core/stamp.ts";
import type { TargetTable } from "../catalog/catalog.ts";
import { keyText, keyTextOf, leastUnseen, repeatedKeys, unstampedTie, watched } from "../conflicts/conflict_watch.ts";
import { deletesSql, greatestFirst, replacesSql } from "../conflicts/stamp_sql.ts";
import { sourceAsText } from "../sources.ts";
import { aliasOf, id, keyAliases, keyMatches, rowsOf, type Shape, stampAlias, stampOf, textOf } from "../sql_names.ts";
import { type ParentCheck, parentChecks } from "./checks.ts";

export interface StatementOptions {
  /** Our schema's quoted name. */
  readonly schema: string;
  readonly maxSkewMs: number;
}

/** More of the keys follows in a later statement of the group, of another kind: a row of any other writer is looked at. */
export type Mixed = boolean;

/** Upserts rows that no tombstone, no floor and no greater row beats. */
export function upsertStatement(
  shape: Shape,
  source: string,
  check: ParentCheck,
  options: StatementOptions,
  mixed: Mixed = false,
): string {
  const { table } = shape;
  const { schema } = options;
  const incoming = stampAlias(shape, "r");
  const names = shape.columns.map(({ column }) => id(column.name));
  const keyNames = new Set(table.key.map((column) => column.name));
  const updated = shape.columns.filter(({ column }) => !keyNames.has(column.name) && !column.identityAlways);
  const excluded = { ...stampOf(table, "excluded"), text: textOf(shape, (name) => `excluded.${id(name)}`) };
  const current = { ...stampOf(table, "c"), text: textOf(shape, (name) => `c.${id(name)}`) };
  const ties = shape.ties ? `, ${textOf(shape, (name) => `r.${aliasOf(shape, name)}`)} DESC` : "";
  const checks = parentChecks(shape, check);
  const key = keyTextOf(shape, "r");
  const buried = stampOf(table, "x");
  const greatestKey = keyText(table.key.map(({ name }) => `excluded.${id(name)}`).join(", "));
  const wins = replacesSql(excluded, current, table.policy);
  const unseen = leastUnseen(shape, greatestKey, current);
  // A snapshot's row need not have seen what it replaces, however great its version.
  const least = shape.ties ? `(${unseen} OR ${wins})` : unseen;
  const tie = unstampedTie(shape, excluded, current);
  const replaced = { schema, table, incoming: excluded, current, key: greatestKey, least, tie, any: mixed };
  return `
WITH r AS MATERIALIZED (${rowsOf(shape, source)}),
${floorOf(table, options)},
${repeatedKeys(shape)},
up AS (
  INSERT INTO ${table.sql} AS c (${names.join(", ")})${table.hasIdentityAlways ? " OVERRIDING SYSTEM VALUE" : ""}
  SELECT DISTINCT ON (${keyAliases(shape, "r.")}) ${names.map((_, place) => `r.c${place + 1}`).join(", ")}
  FROM r
  WHERE NOT EXISTS (SELECT FROM ${tombstone(table, options)} x
                    WHERE ${keyMatches(
                      table,
                      (name) => `x.${id(name)}`,
                      (name) => `r.${aliasOf(shape, name)}`,
                    )}
                      AND ${watched(deletesSql(buried, incoming, table.policy), { schema, table, incoming, current: buried, key })})
    AND NOT EXISTS (SELECT FROM f WHERE ${watched(deletesSql(FLOOR, incoming, table.policy), { schema, table, incoming, current: FLOOR, key })})
  ORDER BY ${keyAliases(shape, "r.")}, ${greatestFirst(incoming, table.policy)}${ties}
  ON CONFLICT (${table.key.map((column) => id(column.name)).join(", ")}) DO UPDATE
  SET ${updated.map(({ column }) => `${id(column.name)} = excluded.${id(column.name)}`).join(", ")}
  WHERE ${watched(wins, replaced)}
  RETURNING ${[...table.key.map((column, place) => `c.${id(column.name)} AS k${place + 1}`), inserted(table), ...checks.returning].join(", ")}
)${checks.ctes.map((cte) => `,\n${cte}`).join("")}
SELECT ${versions(shape)} AS versions,
  CASE WHEN (SELECT count(*) FROM up) < (SELECT count(*) FROM r) THEN
    (SELECT string_agg((r.ord - 1)::text, ',') FROM r WHERE NOT EXISTS (SELECT FROM up WHERE ${matchesReturned(shape, "up")}))
  END AS lost,
  ${badStamps(shape, options)} AS bad,
  ${checks.missing} AS missing, (SELECT count(*) FROM up WHERE up.fresh) AS fresh`;
}

/**
 * Removes rows that a tombstone beats, for the keys of the batch. A statement of its own (I6): while the upsert waited
 * for a concurrent local DELETE it could not see the tombstone that DELETE has written (review A4). Needed after inserts
 * only: a row that was there to be updated is above every tombstone of its key, and we have locked it.
 */
export function sweepStatement(shape: Shape, source: string, options: StatementOptions): string {
  const { table } = shape;
  const keys = table.key.map((column) => `${id(column.name)} ${column.type}`);
  const sameKey = keyMatches(
    table,
    (name) => `x.${id(name)}`,
    (name) => `q.${id(name)}`,
  );
  return `
DELETE FROM ${table.sql} AS c
USING (SELECT x.* FROM json_to_recordset(${source}) AS q(${keys.join(", ")})
       JOIN ${tombstone(table, options)} x ON ${sameKey} OFFSET 0) AS x
WHERE ${keyMatches(
    table,
    (name) => `c.${id(name)}`,
    (name) => `x.${id(name)}`,
  )}
  AND ${deletesSql(stampOf(table, "x"), stampOf(table, "c"), table.policy)}`;
}

/** Writes tombstones and deletes the rows they beat. The shape's columns are the key and the stamp. */
export function deleteStatement(shape: Shape, source: string, options: StatementOptions, mixed: Mixed = false): string {
  const { table } = shape;
  const { schema } = options;
  const incoming = stampAlias(shape, "r");
  const columns = shape.columns.map(({ column }) => id(column.name)).join(", ");
  const aliases = shape.columns.map((_, place) => `r.c${place + 1}`).join(", ");
  const greatest = `SELECT DISTINCT ON (${keyAliases(shape, "r.")}) ${aliases}
    FROM r ORDER BY ${keyAliases(shape, "r.")}, ${greatestFirst(incoming, table.policy)}`;
  const returnedKey = table.key.map((column, place) => `c.${id(column.name)} AS k${place + 1}`).join(", ");
  const current = stampOf(table, "c");
  const excluded = stampOf(table, "excluded");
  const buries = `NOT (${deletesSql(current, excluded, table.policy)})`;
  const greatestKey = keyText(table.key.map(({ name }) => `excluded.${id(name)}`).join(", "));
  const w = stampAlias(shape, "w");
  const key = keyTextOf(shape, "w");
  const removed = { schema, table, incoming: w, current, key, least: leastUnseen(shape, key, current), any: mixed };
  const sameKey = (relation: string) =>
    keyMatches(
      table,
      (name) => `c.${id(name)}`,
      (name) => `${relation}.${aliasOf(shape, name)}`,
    );
  return `
WITH r AS MATERIALIZED (${rowsOf(shape, source)}),
${repeatedKeys(shape)},
ts AS (
  INSERT INTO ${tombstone(table, options)} AS c (${columns}) ${greatest}
  ON CONFLICT (${table.key.map((column) => id(column.name)).join(", ")}) DO UPDATE
  SET ${table.stamp.map((name) => `${id(name)} = excluded.${id(name)}`).join(", ")}
  WHERE ${mixed ? watched(buries, { schema, table, incoming: excluded, current, key: greatestKey, any: true }) : buries}
  RETURNING ${returnedKey}
),
${recheckLater(table, sourceAsText(source), options)},
del AS (
  DELETE FROM ${table.sql} AS c USING (${greatest}) AS w
  WHERE ${sameKey("w")} AND ${watched(deletesSql(w, current, table.policy), removed)}
  RETURNING ${returnedKey}
)
SELECT ${versions(shape)} AS versions,
  CASE WHEN (SELECT count(*) FROM del) < (SELECT count(*) FROM r) THEN
    (SELECT string_agg((r.ord - 1)::text, ',') FROM r
     WHERE NOT EXISTS (SELECT FROM del WHERE ${matchesReturned(shape, "del")})
       AND (NOT EXISTS (SELECT FROM ts WHERE ${matchesReturned(shape, "ts")})
            OR EXISTS (SELECT FROM ${table.sql} c WHERE ${sameKey("r")}
                       AND NOT (${deletesSql(incoming, current, table.policy)}))))
  END AS lost,
  ${badStamps(shape, options)} AS bad,
  0 AS missing, 0 AS fresh`;
}

/** A TRUNCATE is a floor: remembered, and every row below it goes. The shape's columns are the stamp. */
export function truncateStatement(shape: Shape, source: string, options: StatementOptions): string {
  const { table } = shape;
  const incoming = stampAlias(shape, "r");
  const { version, updatedAt, updatedBy } = incoming;
  const current = stampOf(table, "c");
  const key = keyText(table.key.map(({ name }) => `c.${id(name)}`).join(", "));
  const removed = { schema: options.schema, table, incoming, current, key };
  return `
WITH r AS MATERIALIZED (${rowsOf(shape, source)}),
fl AS (
  INSERT INTO ${options.schema}.floor (table_id, version, updated_at, updated_by)
  SELECT DISTINCT ${table.tableId}, ${version}, ${updatedAt}, ${updatedBy} FROM r ON CONFLICT DO NOTHING
),
${recheckLater(table, "NULL", options)},
del AS (
  DELETE FROM ${table.sql} AS c
  WHERE EXISTS (SELECT FROM r WHERE ${watched(deletesSql(incoming, current, table.policy), removed)})
)
SELECT ${versions(shape)} AS versions, NULL AS lost, ${badStamps(shape, options)} AS bad, 0 AS missing, 0 AS fresh`;
}

/** A transaction under way here may insert a key below its tombstone: recheck.ts looks again when it has ended. */
function recheckLater(table: TargetTable, keys: string, options: StatementOptions): string {
  return `rc AS (INSERT INTO ${options.schema}.recheck (table_id, keys) VALUES (${table.tableId}, ${keys}))`;
}

export function tombstone(table: TargetTable, options: Pick<StatementOptions, "schema">): string {
  return `${options.schema}.tombstone_${table.tableId}`;
}

/** The stamp of `f`. */
export const FLOOR = { version: "f.version", updatedAt: "f.updated_at", updatedBy: "f.updated_by" };

/** `f`: the table's greatest floor, if it has one. */
export function floorOf(table: TargetTable, options: StatementOptions): string {
  return `f AS MATERIALIZED (
  SELECT f.version, f.updated_at, f.updated_by FROM ${options.schema}.floor f WHERE f.table_id = ${table.tableId}
  ORDER BY ${greatestFirst(FLOOR, table.policy)} LIMIT 1)`;
}

/** In order: a CTE is read in the order it was filled, and never in parallel. */
function versions(shape: Shape): string {
  return `(SELECT string_agg(coalesce(${stampAlias(shape, "r").version}::text, 'NULL'), ',') FROM r)`;
}

function badStamps(shape: Shape, options: StatementOptions): string {
  const { version, updatedAt } = stampAlias(shape, "r");
  const skew = `statement_timestamp() + interval '${options.maxSkewMs} milliseconds'`;
  return `(SELECT count(*) FROM r WHERE ${version} > ${MAX_VERSION} OR ${updatedAt} > ${skew})`;
}

/** An updated row carries our own lock in xmax; a partitioned table's system columns cannot be asked for. */
function inserted(table: TargetTable): string {
  return `${table.partitioned ? "true" : "(c.xmax = 0)"} AS fresh`;
}

function matchesReturned(shape: Shape, relation: string): string {
  return shape.table.key
    .map((column, place) => `${relation}.k${place + 1} ${column.equals} r.${aliasOf(shape, column.name)}`)
    .join(" AND ");
}
