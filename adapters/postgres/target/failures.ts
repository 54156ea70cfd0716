/** What an error of a statement means for the group: a row's fault, or nothing about the rows at all. */
import { ReplicatorError } from "../../../src/core/errors.ts";
import { sqlState } from "../errors.ts";
import { GroupFailure } from "./execute.ts";

/** Connection, transaction state, serialization, resources, locks, operator, system: retried, never parked (architecture §7.3). */
const NOT_OF_ROWS = new Set(["08", "25", "40", "53", "55", "57", "58"]);

/** The SQLSTATE (or our code) when the rows themselves are refused; null when it is about something else. */
export function rowFailure(error: unknown): string | null {
  if (isDeferredConflict(error)) return null;
  const state = error instanceof GroupFailure ? error.state : sqlState(error);
  return state === null || NOT_OF_ROWS.has(state.slice(0, 2)) ? null : state;
}

const DEFERRED_CONFLICT = "apply.deferred_conflict";

/** A deferred constraint fails and the row may be an earlier group's, which is no longer at hand: once more, with care. */
export function deferredConflict(error: unknown): ReplicatorError {
  return new ReplicatorError({
    code: DEFERRED_CONFLICT,
    message: `A deferred constraint fails at the end of a large transaction: ${error instanceof Error ? error.message : String(error)}`,
    retry: "now",
    fault: "environment",
    cause: error,
  });
}

function isDeferredConflict(error: unknown): boolean {
  return error instanceof ReplicatorError && error.code === DEFERRED_CONFLICT;
}

/** Foreign key, unique, exclusion: another order may help. */
export function isConstraintFailure(state: string): boolean {
  return state === "23503" || state === "23505" || state === "23P01";
}

/** The table is not what the catalog said. */
export function isCatalogFailure(state: string): boolean {
  return state.startsWith("42") || state === "0A000";
}

/** Deadlocks and serialization failures are tried again at once. */
export function throwable(error: unknown): unknown {
  const state = sqlState(error);
  if (state === null || !state.startsWith("40")) return error;
  return new ReplicatorError({
    code: "apply.serialization",
    message: `Applying changes met a concurrent transaction: ${error instanceof Error ? error.message : String(error)}`,
    retry: "now",
    fault: "environment",
    facts: { sqlstate: state },
    cause: error,
  });
}
