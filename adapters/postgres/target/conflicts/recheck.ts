/**
 * The second look at applied deletions (I6, review A4): a local transaction that could not see the tombstone may have
 * inserted its key below it, and was told that it committed. Such a row is lifted above the tombstone and captured, so
 * that it lives everywhere. A row of another contour that came in below it (a retry beside the deletion) is removed as
 * the deletion meant to: nobody here was told anything. One look suffices when every transaction has ended that was under way while the deletion
 * committed: the stamp trigger takes its xid before it looks at the tombstones.
 */
import type { Connection, Queryable } from "../../connection.ts";
import type { Catalog, TargetTable } from "../catalog/catalog.ts";
import { tombstone } from "../rows/statements.ts";
import { id, keyMatches, keyPlace, keysOf, stampOf } from "../sql_names.ts";
import { isReferred, keyJson, restampStatement } from "./override_statements.ts";
import { type Cause, captured, logRows } from "./overrides.ts";
import { deletesSql, type StampSql } from "./stamp_sql.ts";

export interface RecheckContext {
  readonly connection: Connection;
  /** Our schema's quoted name. */
  readonly schema: string;
  readonly catalog: Catalog;
}

/** Entries looked at in one transaction. */
const AT_A_TIME = 50;

const CAUSE: Cause = {
  source: "",
  transaction: "",
  reason: "inserted here while it was deleted there",
  incoming: null,
};

/**
 * Whether something waits and all transactions of the snapshot `since` have ended. `now`: the snapshot to ask with next
 * time; null when nothing waits.
 */
export async function recheckDue(
  db: Queryable,
  schema: string,
  since: string | null,
): Promise<{ readonly due: boolean; readonly now: string | null }> {
  const [row] = await db.query<{ waiting: string; now: string; ended: string | null }>(
    `SELECT EXISTS (SELECT FROM ${schema}.recheck) AS waiting, pg_current_snapshot()::text AS now,
  pg_snapshot_xmin(pg_current_snapshot()) >= pg_snapshot_xmax($1::text::pg_snapshot) AS ended`,
    [since],
    { action: "look at the recheck list" },
  );
  if (row?.waiting !== "t") return { due: false, now: null };
  return row.ended === "t" ? { due: true, now: row.now } : { due: false, now: since ?? row.now };
}

/** Lifts rows found below their tombstone or floor. `since`: only entries that were visible then. Returns how many. */
export async function recheck(context: RecheckContext, since: string): Promise<number> {
  const { connection, schema, catalog } = context;
  const tables = await connection.query<{ table_id: string; whole: string }>(
    `SELECT table_id, keys IS NULL AS whole FROM ${schema}.recheck
WHERE pg_visible_in_snapshot(xid, $1::text::pg_snapshot) GROUP BY 1, 2`,
    [since],
  );
  let lifted = 0;
  for (const { table_id, whole } of tables) {
    const table = [...catalog.tables.values()].find((known) => String(known.tableId) === table_id);
    const statement = whole === "t" ? belowFloor : belowTombstone;
    if (table) lifted += await lift(context, table, statement(table, schema), since);
    // Taken out of replication, or never ours to write: nothing is left to decide.
    else await connection.execute(`DELETE FROM ${schema}.recheck WHERE table_id = $1::int`, [table_id]);
  }
  return lifted;
}

async function lift(context: RecheckContext, table: TargetTable, statement: string, since: string): Promise<number> {
  const { connection } = context;
  const action = `look again at deleted rows of ${table.label}`;
  const [row] = await connection.query<{ keys: string | null; rows: string }>(statement, [since], { action });
  const keys = row?.keys;
  if (!keys) return 0;
  await logRows(context, table, keys, CAUSE, "revived");
  await captured(connection, () => connection.execute(restampStatement(table), [keys]));
  return Number(row.rows);
}

function belowTombstone(table: TargetTable, schema: string): string {
  const sameKey = (relation: string) =>
    keyMatches(
      table,
      (name) => `${relation}.${id(name)}`,
      (name) => `k.${keyPlace(table, name)}`,
    );
  const keys = `(SELECT DISTINCT k.* FROM due, LATERAL (${keysOf(table, "due.keys::json")}) AS k) AS k`;
  const stones = `${keys} JOIN ${tombstone(table, { schema })} AS x ON ${sameKey("x")}`;
  return `${dueEntries(table, schema, "IS NOT NULL")},
${settled(table, schema, stampOf(table, "x"), stones, sameKey("c"))}`;
}

function belowFloor(table: TargetTable, schema: string): string {
  const floor = { version: "x.version", updatedAt: "x.updated_at", updatedBy: "x.updated_by" };
  const floors = `(SELECT f.* FROM ${schema}.floor f WHERE f.table_id = ${table.tableId} AND EXISTS (SELECT FROM due)) AS x`;
  return `${dueEntries(table, schema, "IS NULL")},
${settled(table, schema, floor, floors, "true")}`;
}

function dueEntries(table: TargetTable, schema: string, which: string): string {
  return `WITH due AS MATERIALIZED (
  DELETE FROM ${schema}.recheck WHERE id IN (
    SELECT id FROM ${schema}.recheck
    WHERE table_id = ${table.tableId} AND keys ${which} AND pg_visible_in_snapshot(xid, $1::text::pg_snapshot)
    ORDER BY id LIMIT ${AT_A_TIME} FOR UPDATE SKIP LOCKED)
  RETURNING keys)`;
}

/**
 * Rows written here, and those that others refer to: their stamps become at least those of what they are below, and the
 * captured UPDATE that follows goes above it. All others go.
 */
function settled(table: TargetTable, schema: string, x: StampSql, from: string, same: string): string {
  const c = stampOf(table, "c");
  const [version, updatedAt] = table.stamp;
  const own = `${c.updatedBy} = (SELECT contour FROM ${schema}.local)`;
  const kept = `(${[own, ...table.children.map(isReferred)].join(" OR ")})`;
  return `gone AS (
  DELETE FROM ${table.sql} AS c USING ${from} WHERE ${same} AND ${deletesSql(x, c, table.policy)} AND NOT ${kept}),
up AS (
  UPDATE ${table.sql} AS c
  SET ${id(version)} = greatest(${c.version}, ${x.version}), ${id(updatedAt)} = greatest(${c.updatedAt}, ${x.updatedAt})
  FROM ${from} WHERE ${same} AND ${deletesSql(x, c, table.policy)} AND ${kept}
  RETURNING ${keyJson(table, (name) => `c.${id(name)}`)} AS key)
SELECT json_agg(key)::text AS keys, count(*) AS rows FROM up`;
}
