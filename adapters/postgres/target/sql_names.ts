/**
 * Names inside generated statements. A row's values travel through a statement as c1, c2 … : whatever a user calls a
 * column, it can clash with nothing of ours.
 */
import { quoteIdentifier } from "../connection.ts";
import type { Column, TargetTable } from "./catalog/catalog.ts";
import { rowText, type StampSql } from "./conflicts/stamp_sql.ts";
import { readingOf } from "./readings.ts";

/** The columns one statement writes: what a chunk's rows have, in their order. */
export interface Shape {
  readonly table: TargetTable;
  /** Name in the JSON rows, and the column it goes to; they differ only where the stamp columns are called otherwise. */
  readonly columns: readonly { readonly json: string; readonly column: Column }[];
  /**
   * Rows of a snapshot are among them: equal stamps with different rows may come in one group (rows older than setup), decided by row text;
   * and a row that wins need not have seen the one it replaces.
   */
  readonly ties: boolean;
}

export const id = quoteIdentifier;

/** `c3` for a column of the shape. */
export function aliasOf(shape: Shape, name: string): string {
  return `c${shape.columns.findIndex((used) => used.column.name === name) + 1}`;
}

/** The key's aliases with an optional prefix: `r.c1, r.c2`. */
export function keyAliases(shape: Shape, prefix = ""): string {
  return shape.table.key.map((column) => prefix + aliasOf(shape, column.name)).join(", ");
}

/** `r.c1 = c."id" AND …` over the key. */
export function keyMatches(
  table: TargetTable,
  left: (name: string) => string,
  right: (name: string) => string,
): string {
  return table.key.map((column) => `${left(column.name)} ${column.equals} ${right(column.name)}`).join(" AND ");
}

/** The stamp of a relation with the table's own column names. */
export function stampOf(table: TargetTable, prefix: string): StampSql {
  const [version, updatedAt, updatedBy] = table.stamp;
  return {
    version: `${prefix}.${id(version)}`,
    updatedAt: `${prefix}.${id(updatedAt)}`,
    updatedBy: `${prefix}.${id(updatedBy)}`,
  };
}

/** The stamp inside `r`. */
export function stampAlias(shape: Shape, prefix: string): StampSql {
  const [version, updatedAt, updatedBy] = shape.table.stamp;
  return {
    version: `${prefix}.${aliasOf(shape, version)}`,
    updatedAt: `${prefix}.${aliasOf(shape, updatedAt)}`,
    updatedBy: `${prefix}.${aliasOf(shape, updatedBy)}`,
  };
}

/** The text of a row for ties; `expression` gives the SQL of a column. */
export function textOf(shape: Shape, expression: (name: string) => string): string {
  return rowText(new Map(shape.columns.map(({ column }) => [column.name, expression(column.name)])));
}

/** `SELECT c1 …, ord FROM` the rows of a JSON array: `source` is an SQL expression of type json; ord counts from 1. */
export function rowsOf(shape: Shape, source: string): string {
  const readings = shape.columns.map(({ column }) => readingOf(column));
  const defined = shape.columns.map(({ json }, place) => `${id(json)} ${readings[place]?.as}`);
  const aliases = shape.columns.map((_, place) => `c${place + 1}`);
  const selected = aliases.map((alias, place) => `${readings[place]?.value(`q.${alias}`)} AS ${alias}`);
  return `SELECT ${selected.join(", ")}, q.ord
    FROM ROWS FROM (json_to_recordset(${source}) AS (${defined.join(", ")})) WITH ORDINALITY AS q(${aliases.join(", ")}, ord)`;
}

/** Only the keys of the rows of a JSON array, as k1, k2 … */
export function keysOf(table: TargetTable, source: string): string {
  const defined = table.key.map((column) => `${id(column.name)} ${column.type}`);
  const selected = table.key.map((column, place) => `q.${id(column.name)} AS k${place + 1}`);
  return `SELECT ${selected.join(", ")} FROM json_to_recordset(${source}) AS q(${defined.join(", ")})`;
}

/** `k1` … for a key column's name. */
export function keyPlace(table: TargetTable, name: string): string {
  return `k${table.key.findIndex((column) => column.name === name) + 1}`;
}
