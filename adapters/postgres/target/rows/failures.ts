/** What an error of a statement means for the group: a row's fault, or nothing about the rows at all. */
import { ReplicatorError } from "../../../../src/core/errors.ts";
import { sqlState } from "../../errors.ts";
import type { FailedRow } from "./row_block.ts";

/** A set-wise attempt that must be undone though PostgreSQL did not object: a check of ours did. */
export class GroupFailure extends Error {
  readonly state: string;
  constructor(state: string, message: string) {
    super(message);
    this.state = state;
  }
}

/** Connection, transaction state, serialization, resources, locks, operator, system: retried, never parked (architecture §7.3). */
const NOT_OF_ROWS = new Set(["08", "25", "40", "53", "55", "57", "58"]);

/** The SQLSTATE (or our code) when the rows themselves are refused; null when it is about something else. */
export function rowFailure(error: unknown): string | null {
  if (isDeferredConflict(error)) return null;
  const state = error instanceof GroupFailure ? error.state : sqlState(error);
  return state === null || NOT_OF_ROWS.has(state.slice(0, 2)) ? null : state;
}

/** What PostgreSQL, or a check of ours, said of a row it refused. */
export function rowRefusal(error: unknown): Pick<FailedRow, "message" | "facts"> {
  if (!(error instanceof ReplicatorError)) return { message: error instanceof Error ? error.message : String(error) };
  const message = error.cause instanceof Error ? error.cause.message : error.message;
  const { schema, table, constraint } = error.facts as Record<string, string | undefined>;
  const facts = Object.entries({ schema, table, constraint }).filter(([, value]) => value !== undefined);
  return { message, facts: Object.fromEntries(facts) };
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

/** Values that the column's type does not take: too long, out of range, not of its form, an enum label that is not there. */
const OF_TYPES = new Set(["22001", "22003", "22007", "22008", "22026", "22P02", "22P03"]);
const OF_SCHEMA = new Set(["3F000", "apply.unknown_table", "apply.unknown_column", "apply.key_differs"]);

/** Only DDL here can mend it (or a newer change of the row): no number of attempts makes it a dead letter. */
export function waitsForSchema(state: string): boolean {
  return isCatalogFailure(state) || OF_TYPES.has(state) || OF_SCHEMA.has(state);
}

/** Of the row alone: NOT NULL, CHECK. */
const OF_ROW = new Set(["23502", "23514"]);

/** What came later in the same transaction may have cleared the way. */
export function dependsOnOrder(state: string): boolean {
  return !(waitsForSchema(state) || state.startsWith("22") || state.startsWith("apply.") || OF_ROW.has(state));
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
