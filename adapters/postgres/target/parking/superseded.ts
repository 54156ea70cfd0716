/**
 * Parked changes that something newer of their key has overtaken (architecture §7.4): a row, a tombstone or a floor here
 * with a stamp that beats theirs. They are closed without being tried; stamps here only ever grow (I6).
 */
import { type Database, rollback, textArray } from "../../connection.ts";
import type { Column, TargetTable } from "../catalog/catalog.ts";
import { compareStampSql, deletesSql, type StampSql } from "../conflicts/stamp_sql.ts";
import { rowFailure } from "../rows/failures.ts";
import { literal } from "../rows/row_block.ts";
import { aliasOf, id, keyMatches, rowsOf, type Shape, stampAlias, stampOf } from "../sql_names.ts";

export interface ParkedTable {
  readonly table: TargetTable;
  /** What their source calls the stamp's columns. */
  readonly stamp: readonly [string, string, string];
}

const FLOOR: StampSql = { version: "f.version", updatedAt: "f.updated_at", updatedBy: "f.updated_by" };

/** Closes what is overtaken of one table, set-wise; returns how many. What is just being tried is passed over. */
export async function closeSuperseded(db: Database, schema: string, parked: ParkedTable): Promise<number> {
  const action = `close superseded changes of ${parked.table.label}`;
  try {
    return await db.execute(closing(schema, parked, ""), [], { action });
  } catch (error) {
    if (rowFailure(error) === null) throw error;
    // Some key or stamp is not even of its type: the others are closed without it.
    return await oneByOne(db, schema, parked);
  }
}

function closing(schema: string, { table, stamp }: ParkedTable, only: string): string {
  const stamps = table.stamp.map((name, place) => ({
    json: stamp[place] ?? name,
    column: table.columns.get(name) as Column,
  }));
  const columns = [...table.key.map((column) => ({ json: column.name, column })), ...stamps];
  const shape: Shape = { table, ties: false, columns };
  const incoming = stampAlias(shape, "q");
  const same = (alias: string) =>
    keyMatches(
      table,
      (name) => `${alias}.${id(name)}`,
      (name) => `q.${aliasOf(shape, name)}`,
    );
  const greater = compareStampSql(stampOf(table, "c"), ">", incoming, table.policy);
  // Equal stamps are the same change, but for rows older than setup: those are decided by their text when they are tried.
  const equal = compareStampSql(stampOf(table, "c"), "=", incoming, table.policy);
  const buried = deletesSql(stampOf(table, "x"), incoming, table.policy);
  return `
WITH found AS MATERIALIZED (
  SELECT i.id FROM ${schema}.inbox i CROSS JOIN LATERAL (${rowsOf(shape, "('[' || i.data || ']')::json")}) AS q
  WHERE i.schema_name = ${literal(table.schema)} AND i.table_name = ${literal(table.name)} ${only}
    AND coalesce(i.stamp_columns, ${names(table.stamp)}) = ${names(stamp)}
    AND (EXISTS (SELECT FROM ${schema}.floor f WHERE f.table_id = ${table.tableId} AND ${deletesSql(FLOOR, incoming, table.policy)})
      OR i.operation <> 'TRUNCATE' AND (
        EXISTS (SELECT FROM ${schema}.tombstone_${table.tableId} x WHERE ${same("x")} AND ${buried})
        OR EXISTS (SELECT FROM ${table.sql} c WHERE ${same("c")} AND (${greater} OR i.operation IN ('INSERT', 'UPDATE') AND ${equal})))))
DELETE FROM ${schema}.inbox WHERE id IN (
  SELECT i.id FROM ${schema}.inbox i JOIN found USING (id) FOR UPDATE OF i SKIP LOCKED)`;
}

async function oneByOne(db: Database, schema: string, parked: ParkedTable): Promise<number> {
  const { table } = parked;
  const body = `
DECLARE
  replicator_id bigint;
  replicator_rows bigint;
  replicator_closed bigint := 0;
BEGIN
  FOR replicator_id IN SELECT i.id FROM ${schema}.inbox i
    WHERE i.schema_name = ${literal(table.schema)} AND i.table_name = ${literal(table.name)} LOOP
    BEGIN
      ${closing(schema, parked, "AND i.id = replicator_id")};
      GET DIAGNOSTICS replicator_rows = ROW_COUNT;
      replicator_closed := replicator_closed + replicator_rows;
    EXCEPTION WHEN data_exception THEN
      NULL; -- it is parked for just that
    END;
  END LOOP;
  PERFORM set_config('replicator.result', replicator_closed::text, true);
END`;
  const connection = await db.reserve();
  try {
    await connection.script(`BEGIN; DO ${literal(body)}`, { action: `close superseded changes of ${table.label}` });
    const [row] = await connection.query<{ closed: string }>("SELECT current_setting('replicator.result') AS closed");
    await connection.script("COMMIT");
    return Number(row?.closed);
  } catch (error) {
    await rollback(connection);
    throw error;
  } finally {
    connection.release();
  }
}

function names(columns: readonly string[]): string {
  return `${literal(textArray(columns))}::text[]`;
}
