/**
 * Law 3 (architecture §6.3): an incoming change is applied, loses to a greater stamp, or is overridden by a captured
 * local change. What is left of a group when rows in every order, and together, are refused by a unique value, an exclusion
 * constraint or a foreign key is decided here. Refusing without an override diverges (review A3: 86 to 168 of 4,000
 * simulated histories; with it 0 of 16,000).
 *
 * It is not decided before everything that could clear the way has been seen: the whole cut in all partitions of the
 * table's channel for unique values, in all channels of the source for foreign keys. In a channel of events a refusal
 * may be mere reordering.
 */
import { textArray } from "../../connection.ts";
import type { TargetTable } from "../catalog/catalog.ts";
import type { Executor, SessionMode } from "../rows/execute.ts";
import { rowFailure, throwable } from "../rows/failures.ts";
import type { Unit } from "../rows/plan.ts";
import { sourceJson, sourceParams } from "../sources.ts";
import { holdersStatement, keysStatement } from "./override_statements.ts";
import {
  type Cause,
  clearChildren,
  isHeld,
  type OverrideContext,
  refuseRow,
  removeRows,
  restampAbove,
} from "./overrides.ts";

/** A change in the inbox that a constraint refuses. */
export interface Disputed {
  readonly id: string;
  /** The row alone, from the inbox. */
  readonly unit: Unit;
  /** SQLSTATE of the last refusal. */
  state: string;
  message: string;
  readonly source: string;
  readonly transaction: string;
}

export interface ArbitrationContext extends OverrideContext {
  readonly executor: Executor;
  readonly mode: SessionMode;
  /** The ledger whose position is about to be committed, and up to which cut it is whole then; null: none. */
  readonly completes: { readonly ledgerId: number; readonly epoch: number; readonly cutNo: number } | null;
  /** Whether unique conflicts of a table are left to a person (on_unique_conflict: park). */
  leavesUnique(table: TargetTable): boolean;
}

/** A partition that has nothing to say cannot be waited for for ever; the control channel will tell (architecture §5). */
const GRACE_S = 30;

const SAVEPOINT = "replicator_arbitration";

/** What became of a change: written after all, or overridden by a captured change above it. */
export type Decision = "applied" | "overridden";

/** Decides what may be decided, by inbox id; the others keep their new state. */
export async function arbitrate(
  context: ArbitrationContext,
  disputed: readonly Disputed[],
): Promise<ReadonlyMap<string, Decision>> {
  const done = new Map<string, Decision>();
  const unique = disputed.filter(({ unit, state }) => isUnique(state) && !context.leavesUnique(unit.shape.table));
  const ripe = await ripeOf(context, unique, "channel");
  for (const row of unique) {
    const decision = ripe.has(row.id) ? await attempt(context, row, () => decideUnique(context, row)) : null;
    if (decision) done.set(row.id, decision);
  }
  const held = disputed.filter(({ id, unit, state }) => !done.has(id) && state === "23503" && unit.kind !== "upsert");
  const ready = await ripeOf(context, held, "source");
  for (const row of held) {
    const decide = () => (row.unit.kind === "delete" ? decideDelete : decideTruncate)(context, row, ready.has(row.id));
    const decision = await attempt(context, row, decide);
    if (decision) done.set(row.id, decision);
  }
  return done;
}

export function isArbitrable(state: string): boolean {
  return isUnique(state) || state === "23503";
}

function isUnique(state: string): boolean {
  return state === "23505" || state === "23P01";
}

/** Those for which nothing of their cut is outstanding that could clear the way. */
async function ripeOf(
  { connection, schema, completes }: ArbitrationContext,
  rows: readonly Disputed[],
  scope: "channel" | "source",
): Promise<ReadonlySet<string>> {
  if (rows.length === 0) return new Set();
  const ripe = await connection.query<{ id: string }>(
    `SELECT i.id FROM ${schema}.inbox i
WHERE i.id = ANY ($1::text::bigint[]) AND (
  i.created_at < clock_timestamp() - interval '${GRACE_S} s'
  OR NOT EXISTS (
    SELECT FROM ${schema}.ledger l
    LEFT JOIN LATERAL (SELECT a.epoch, a.cut_no, a.cut_complete FROM ${schema}.applied a WHERE a.ledger_id = l.ledger_id
                       ORDER BY a.epoch DESC, a.sequence DESC LIMIT 1) a ON true
    WHERE l.source = i.source_contour${scope === "channel" ? " AND l.channel = i.channel" : ""}
      AND NOT (l.ledger_id = $2::int AND (i.epoch, i.cut_no) <= ($3::bigint, $4::bigint))
      AND NOT coalesce((a.epoch, a.cut_no, a.cut_complete) >= (i.epoch, i.cut_no, true), false)))`,
    [textArray(rows.map((row) => row.id)), completes?.ledgerId ?? 0, completes?.epoch ?? 0, completes?.cutNo ?? 0],
    { action: "look whether refused changes may be decided" },
  );
  return new Set(ripe.map((row) => row.id));
}

/** One decision in a savepoint of its own: whole or not at all. */
async function attempt(
  { connection }: ArbitrationContext,
  row: Disputed,
  decide: () => Promise<Decision | null>,
): Promise<Decision | null> {
  await connection.script(`SAVEPOINT ${SAVEPOINT}`);
  try {
    const decision = await decide();
    if (decision) {
      await connection.script(`RELEASE SAVEPOINT ${SAVEPOINT}`);
      return decision;
    }
  } catch (error) {
    const state = rowFailure(error);
    if (state === null) throw throwable(error);
    row.state = state;
    row.message = error instanceof Error ? error.message : String(error);
  }
  await connection.script(`ROLLBACK TO SAVEPOINT ${SAVEPOINT}; RELEASE SAVEPOINT ${SAVEPOINT}`);
  return null;
}

/** The lowest of the rows that cannot stand together go, by a captured DELETE; the row itself is one of them. */
async function decideUnique(context: ArbitrationContext, row: Disputed): Promise<Decision | null> {
  const { connection, schema } = context;
  const { shape, source } = row.unit;
  if (shape.table.rules.length === 0) return null;
  const statement = holdersStatement(shape, sourceJson(source, schema));
  const holders = await connection.query<{ key: string; greater: string; line: string }>(
    statement,
    sourceParams(source),
  );
  if (holders.length === 0) return apply(context, row);
  const cause = await causeOf(context, row, "unique value");
  const greater = holders.find((holder) => holder.greater === "t");
  if (greater) {
    const why = { ...cause, reason: "unique value: a greater row holds it" };
    await refuseRow(context, row.unit, why, greater.line);
    return "overridden";
  }
  await removeRows(context, shape.table, arrayOf(holders), {
    ...cause,
    reason: "unique value: a lower row held it",
  });
  return apply(context, row);
}

/**
 * A row deleted there to which rows here refer: what ON DELETE says is done here, captured, before it goes. Where it
 * says nothing the row stays, above the deletion: it comes back everywhere (a parent is revived).
 */
async function decideDelete(context: ArbitrationContext, row: Disputed, ripe: boolean): Promise<Decision | null> {
  const { table } = row.unit.shape;
  const keys = await keysOfRow(context, row);
  if (await isHeld(context, table, keys)) {
    if (!ripe) return null;
    const cause = await causeOf(context, row, "deleted there while rows here refer to it");
    return (await restampAbove(context, row.unit, cause)) ? "overridden" : null;
  }
  await clearChildren(context, table, keys, await causeOf(context, row, "cascade"), new Set([table.label]));
  return apply(context, row);
}

/** A TRUNCATE there: rows to which rows here still refer stay, above its floor. */
async function decideTruncate(context: ArbitrationContext, row: Disputed, ripe: boolean): Promise<Decision | null> {
  if (!ripe) return null;
  await restampAbove(context, row.unit, await causeOf(context, row, "truncated there while rows here refer to it"));
  return apply(context, row);
}

/** Tries the row once more. A refusal leaves its reason in `row`. */
async function apply({ connection, executor, mode }: ArbitrationContext, row: Disputed): Promise<Decision | null> {
  const { failed } = await executor.rowByRow(connection, row.unit, mode);
  const [failure] = failed;
  if (!failure) return "applied";
  row.state = failure.state;
  row.message = failure.message;
  return null;
}

async function causeOf({ connection, schema }: ArbitrationContext, row: Disputed, reason: string): Promise<Cause> {
  const [found] = await connection.query<{ data: string }>(`SELECT data FROM ${schema}.inbox WHERE id = $1::bigint`, [
    row.id,
  ]);
  return { source: row.source, transaction: row.transaction, reason, incoming: found?.data ?? "" };
}

async function keysOfRow({ connection, schema }: ArbitrationContext, row: Disputed): Promise<string> {
  const { shape, source } = row.unit;
  const [found] = await connection.query<{ keys: string }>(
    keysStatement(shape, sourceJson(source, schema)),
    sourceParams(source),
  );
  return found?.keys ?? "[]";
}

function arrayOf(holders: readonly { readonly key: string }[]): string {
  return `[${[...new Set(holders.map(({ key }) => key))].join(",")}]`;
}
