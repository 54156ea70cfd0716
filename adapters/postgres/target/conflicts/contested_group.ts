/** A group that was stopped at a conflict (conflict_watch.ts): undone, its conflicts logged, applied. */
import type { Connection } from "../../connection.ts";
import { sqlState } from "../../errors.ts";
import type { Executor, SessionMode, UnitOutcome } from "../rows/execute.ts";
import type { Unit } from "../rows/plan.ts";
import { CONFLICT_FOUND } from "./conflict_watch.ts";

export interface ContestedGroup {
  readonly units: readonly Unit[];
  readonly executor: Executor;
  readonly mode: SessionMode;
  readonly source: string;
  /** Statement that undoes the group. */
  readonly undo: string;
}

/** Between the log and the write a local transaction may insert what was not there; not for ever. */
const MOST_TRIES = 5;

export function isConflictFound(error: unknown): boolean {
  return sqlState(error) === CONFLICT_FOUND;
}

/** @throws what the group's statements throw; the connection stands in the failed group then */
export async function applyContested(connection: Connection, group: ContestedGroup): Promise<UnitOutcome[]> {
  const { units, executor, mode, source, undo } = group;
  for (let tries = 1; ; tries++) {
    await connection.script(undo);
    try {
      return await executor.setWise(connection, units, mode, {
        source,
        conflicts: tries < MOST_TRIES ? "log" : "ignore",
      });
    } catch (error) {
      if (!isConflictFound(error)) throw error;
    }
  }
}
