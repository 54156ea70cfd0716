/**
 * Groups that meet other contours' writes. The first one of a table is found out by its statement and tried again after its
 * conflicts are logged (contested_group.ts); the next ones of that table are logged at once, so that under concurrent
 * writing nothing is done twice.
 */
import type { Connection } from "../../connection.ts";
import type { TargetTable } from "../catalog/catalog.ts";
import type { Unit } from "../rows/plan.ts";
import { sourceParams } from "../sources.ts";
import { originsParams } from "./origins.ts";

/** What the conflict log got for a unit. */
export interface Logged {
  readonly lines: number;
  /** Ordinals within the unit of the incoming rows that lost, in order. */
  readonly lost: readonly number[];
  /** Keys that were looked at: those another contour wrote last. */
  readonly seen: number;
}

/** Groups without a conflict after which a table's next ones are not logged at once any more. */
const PATIENCE = 16;

export class ContestedTables {
  readonly #left = new Map<number, number>();

  has(table: TargetTable): boolean {
    return this.#left.has(table.tableId);
  }

  /** After a group: what was logged of each unit, null where it was not asked. */
  note(units: readonly Unit[], logged: readonly (Logged | null)[]): void {
    units.forEach(({ shape }, n) => {
      const found = logged[n];
      if (!found) return;
      const { tableId } = shape.table;
      const left = this.#left.get(tableId);
      if (found.lines > 0 || (left === undefined && found.seen > 0)) this.#left.set(tableId, PATIENCE);
      else if (left !== undefined && left > 1) this.#left.set(tableId, left - 1);
      else this.#left.delete(tableId);
    });
  }
}

/** Runs the log statement of a unit (conflict_log.ts). `source`: the contour whose changes these are. */
export async function sendLog(connection: Connection, unit: Unit, statement: string, source: string): Promise<Logged> {
  const params = [...sourceParams(unit.source), ...originsParams(unit, source)];
  const action = `log conflicts of ${unit.shape.table.label}`;
  const [row] = await connection.query<Record<"lines" | "seen", string> & { readonly lost: string | null }>(
    statement,
    params,
    { action },
  );
  const lost = row?.lost ? row.lost.split(",").map(Number) : [];
  return { lines: Number(row?.lines), lost, seen: Number(row?.seen) };
}
