/**
 * Captured writes of apply itself (law 3, architecture §6.3 §6.7): removing a row with what depends on it, lifting a row
 * above a deletion, refusing a row that is not here. The stamp triggers give each a stamp greater than any known, the
 * queue carries it to every contour.
 */
import type { Connection } from "../../connection.ts";
import type { Catalog, TargetTable } from "../catalog/catalog.ts";
import type { Unit } from "../rows/plan.ts";
import { sourceJson, sourceParams } from "../sources.ts";
import { aliasOf, id, keysOf, rowsOf } from "../sql_names.ts";
import {
  childrenStatement,
  childTable,
  countChildrenStatement,
  detachStatement,
  liftReferredStatement,
  liftStatement,
  recordId,
  refuseStatement,
  removeStatement,
  restampStatement,
  restricting,
} from "./override_statements.ts";

export interface OverrideContext {
  readonly connection: Connection;
  /** Our schema's quoted name. */
  readonly schema: string;
  readonly catalog: Catalog;
}

/** Why a row was overridden, and by which incoming change: what the conflict log says. */
export interface Cause {
  readonly source: string;
  readonly transaction: string;
  readonly reason: string;
  /** The incoming row's JSON; null where it is not at hand any more. */
  readonly incoming: string | null;
}

/** Runs statements whose writes are captured: the mark that hides apply's own is taken away for as long. */
export async function captured<T>(connection: Connection, work: () => Promise<T>): Promise<T> {
  await connection.script("SET LOCAL replicator.capture = 'on'");
  const result = await work();
  // After an error the savepoint that is rolled back to brings the mark back.
  await connection.script("SET LOCAL replicator.capture = 'off'");
  return result;
}

/**
 * Removes rows here and what refers to them, children first: by each foreign key's own ON DELETE, and where that leaves
 * them to the application, with their parent. `keys`: a JSON array of key objects. Each row goes to the conflict log.
 */
export async function removeRows(
  context: OverrideContext,
  table: TargetTable,
  keys: string,
  cause: Cause,
): Promise<void> {
  await clearChildren(context, table, keys, cause, new Set([table.label]));
  await logRows(context, table, keys, cause, "removed");
  await captured(context.connection, () => context.connection.execute(removeStatement(table), [keys]));
}

/** Does what ON DELETE says to rows that refer to `keys`, captured; `visited`: tables under way, for cycles. */
export async function clearChildren(
  context: OverrideContext,
  table: TargetTable,
  keys: string,
  cause: Cause,
  visited: ReadonlySet<string>,
): Promise<void> {
  const { connection, catalog } = context;
  for (const fk of table.children) {
    const child = childTable(catalog, fk);
    // A table that is not replicated is PostgreSQL's to clear: replica mode is not used then.
    if (!child || visited.has(child.label)) continue;
    const [row] = await connection.query<{ keys: string | null }>(childrenStatement(table, fk, child), [keys]);
    const children = row?.keys;
    if (!children) continue;
    const why = { ...cause, reason: `refers to a removed row of ${table.label}` };
    if (fk.onDelete === "n" || fk.onDelete === "d") {
      await logRows(context, child, children, why, "detached");
      await captured(connection, () => connection.execute(detachStatement(table, fk), [keys]));
      continue;
    }
    await clearChildren(context, child, children, why, new Set([...visited, child.label]));
    await logRows(context, child, children, why, "removed");
    await captured(connection, () => connection.execute(removeStatement(child), [children]));
  }
}

/** Whether rows refer to `keys` by a foreign key that forbids their deletion. */
export async function isHeld(context: OverrideContext, table: TargetTable, keys: string): Promise<boolean> {
  for (const fk of restricting(table)) {
    const [row] = await context.connection.query<{ children: string }>(countChildrenStatement(table, fk), [keys]);
    if (Number(row?.children) > 0) return true;
  }
  return false;
}

/**
 * Gives rows here a stamp above their own and above those of `unit`, captured: the rows it names, or, of a TRUNCATE, those
 * to which others refer. False when there is none.
 */
export async function restampAbove(context: OverrideContext, unit: Unit, cause: Cause): Promise<boolean> {
  const { connection, schema } = context;
  const { table } = unit.shape;
  const lift = unit.kind === "truncate" ? liftReferredStatement : liftStatement;
  const [row] = await connection.query<{ keys: string | null }>(
    lift(unit.shape, sourceJson(unit.source, schema)),
    sourceParams(unit.source),
  );
  const keys = row?.keys;
  if (!keys) return false;
  await logRows(context, table, keys, cause, "revived");
  await captured(connection, () => connection.execute(restampStatement(table), [keys]));
  return true;
}

/**
 * Overrides an incoming row by a captured DELETE above its stamp: of the row here, if its key is here, with what refers to
 * it. `holder`: the row that stands in its way, as JSON.
 */
export async function refuseRow(context: OverrideContext, unit: Unit, cause: Cause, holder: string): Promise<void> {
  const { connection, schema } = context;
  const { shape, source } = unit;
  const rows = sourceJson(source, schema);
  const lift = liftStatement(shape, rows);
  const [row] = await connection.query<{ keys: string | null }>(lift, sourceParams(source));
  await logRefused(context, unit, cause, holder);
  const keys = row?.keys;
  if (!keys) {
    await connection.query(refuseStatement(shape, rows, schema), sourceParams(source));
    return;
  }
  await clearChildren(context, shape.table, keys, cause, new Set([shape.table.label]));
  await captured(connection, () => connection.execute(removeStatement(shape.table), [keys]));
}

async function logRefused(context: OverrideContext, unit: Unit, cause: Cause, holder: string): Promise<void> {
  const { connection, schema } = context;
  const { shape, source } = unit;
  const { table } = shape;
  const params = [...sourceParams(source)];
  const next = (value: string | null) => `$${params.push(value)}`;
  await connection.execute(
    `INSERT INTO ${schema}.conflict_log (source_contour, schema_name, table_name, record_id, policy, winner, reason, override, local_row, incoming_row, transaction_id)
SELECT ${next(cause.source)}, ${next(table.schema)}, ${next(table.name)}, ${recordId(table, (name) => `n.${aliasOf(shape, name)}`)},
  ${next(table.policy)}, 'local', ${next(cause.reason)}, 'refused', ${next(holder)}, ${next(cause.incoming)}, ${next(cause.transaction)}
FROM (${rowsOf(shape, sourceJson(source, schema))}) AS n`,
    params,
    { action: "write the conflict log" },
  );
}

/** What the captured change that follows does to the rows. */
export type Override = "removed" | "refused" | "revived" | "detached";

/** A line of the conflict log for each override, about the row as it stands here now. */
export async function logRows(
  { connection, schema }: OverrideContext,
  table: TargetTable,
  keys: string,
  cause: Cause,
  override: Override,
): Promise<void> {
  const winner = override === "removed" || override === "detached" ? "incoming" : "local";
  const matches = table.key.map((column, n) => `c.${id(column.name)} ${column.equals} k.k${n + 1}`).join(" AND ");
  await connection.execute(
    `INSERT INTO ${schema}.conflict_log (source_contour, schema_name, table_name, record_id, policy, winner, reason, override, local_row, incoming_row, transaction_id)
SELECT $2, $3, $4, ${recordId(table, (name) => `c.${id(name)}`)}, $5, $6, $7, $8, row_to_json(c.*)::text, $9, $10
FROM (${keysOf(table, "$1::text::json")}) AS k JOIN ${table.sql} AS c ON ${matches}`,
    [
      keys,
      cause.source,
      table.schema,
      table.name,
      table.policy,
      winner,
      cause.reason,
      override,
      cause.incoming,
      cause.transaction,
    ],
    { action: "write the conflict log" },
  );
}
