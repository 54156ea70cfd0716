/** When a group is refused set-wise: undo it, look at the catalog again, try the other order, then row by row (architecture §7.3). */
import type { Connection } from "../../connection.ts";
import type { Catalog } from "../catalog/catalog.ts";
import type { Executor, SessionMode, UnitOutcome } from "./execute.ts";
import { deferredConflict, isCatalogFailure, isConstraintFailure, rowFailure, throwable } from "./failures.ts";
import { type GroupPlan, inOrder, type Unit } from "./plan.ts";

export interface SecondTryContext {
  readonly executor: Executor;
  readonly mode: SessionMode;
  /** The contour whose changes these are. */
  readonly source: string;
  readonly catalog: Catalog;
  readonly askForCare: () => void;
}

const UNDO = "ROLLBACK TO SAVEPOINT replicator_group";

/**
 * Applies what can be applied of the group; the outcomes tell which rows failed. The connection stands in the failed
 * group's savepoint. `replan` plans the group anew from a fresh catalog. Retryable errors are thrown.
 */
export async function secondTry(
  connection: Connection,
  error: unknown,
  plan: GroupPlan,
  context: SecondTryContext,
  replan: () => Promise<GroupPlan>,
): Promise<{ readonly plan: GroupPlan; readonly outcomes: readonly UnitOutcome[] }> {
  const { executor, mode, source } = context;
  const defers = mode === "origin" && context.catalog.deferrable;
  await connection.script(UNDO);
  let current = plan;
  let state = rowFailure(error) ?? "";
  const setWise = (units: readonly Unit[]) =>
    attempt(connection, async () => {
      const outcomes = await executor.setWise(connection, units, mode, { source });
      if (defers) await connection.script("SET CONSTRAINTS ALL IMMEDIATE; SET CONSTRAINTS ALL DEFERRED");
      return outcomes;
    });
  if (isCatalogFailure(state)) {
    current = await replan();
    const again = await setWise(current.units);
    if (again.outcomes) return { plan: current, outcomes: again.outcomes };
    state = again.state;
  }
  if (mode === "origin" && isConstraintFailure(state)) {
    const again = await setWise(inOrder(current.units, "deletes-first"));
    if (again.outcomes) return { plan: current, outcomes: again.outcomes };
  }
  if (defers) await checkEarlier(connection, context);
  const outcomes: UnitOutcome[] = [];
  try {
    for (const unit of current.captured) {
      // A row alone is tried set-wise by the executor.
      const outcome = unit.rows === 1 ? null : await whole(connection, unit, context);
      outcomes.push(outcome ?? (await executor.rowByRow(connection, unit, mode, source)));
    }
  } catch (failure) {
    throw throwable(failure);
  }
  if (defers) await connection.script("SET CONSTRAINTS ALL DEFERRED");
  return { plan: current, outcomes };
}

/** A unit that has no part in the failure goes set-wise after all: the rows of other tables do not pay for it. Null: it has. */
async function whole(
  connection: Connection,
  unit: Unit,
  { executor, mode, source }: SecondTryContext,
): Promise<UnitOutcome | null> {
  await connection.script("SAVEPOINT replicator_unit");
  try {
    const [outcome] = await executor.setWise(connection, [unit], mode, { source });
    await connection.script("RELEASE SAVEPOINT replicator_unit");
    return outcome ?? null;
  } catch (error) {
    if (rowFailure(error) === null) throw error;
    await connection.script("ROLLBACK TO SAVEPOINT replicator_unit; RELEASE SAVEPOINT replicator_unit");
    return null;
  }
}

/**
 * Each row must answer for itself from here on: no constraint waits for a later row. What fails for want of one is tried at
 * commit. What still waits belongs to earlier groups.
 */
async function checkEarlier(connection: Connection, context: SecondTryContext): Promise<void> {
  try {
    await connection.script("SET CONSTRAINTS ALL IMMEDIATE");
  } catch (error) {
    if (rowFailure(error) === null) throw throwable(error);
    context.askForCare();
    throw deferredConflict(error);
  }
}

async function attempt(
  connection: Connection,
  work: () => Promise<UnitOutcome[]>,
): Promise<
  { readonly outcomes: UnitOutcome[]; readonly state: "" } | { readonly outcomes: null; readonly state: string }
> {
  try {
    return { outcomes: await work(), state: "" };
  } catch (error) {
    const state = rowFailure(error);
    if (state === null) throw throwable(error);
    await connection.script(UNDO);
    return { outcomes: null, state };
  }
}
