/** The conflicts of one apply transaction, from group to group, and what is said of them at its end. */
import type { ApplyOutcome } from "../../../../src/core/target_store.ts";
import type { Connection } from "../../connection.ts";
import type { UnitOutcome } from "../rows/execute.ts";
import type { Entry } from "../rows/record.ts";
import type { Retried } from "../rows/retry.ts";
import { closeConflicts } from "./conflict_totals.ts";
import { TornTransactions } from "./torn.ts";

export type ConflictReport = Pick<ApplyOutcome, "conflicts" | "torn">;

export class ConflictTally {
  readonly #torn = new TornTransactions();
  #logged = false;

  add({ unit, lost, failed, conflicts }: UnitOutcome): void {
    this.#logged ||= conflicts !== null;
    const contested = conflicts?.lost ?? [];
    this.#torn.add({ pieces: unit.pieces, lost, failed: failed.map(({ n }) => n), contested });
  }

  /**
   * Asks the database only where something may have been logged. `parked`: entries with rows that went to the inbox,
   * `retried`: what became of those at the end.
   */
  async close(
    connection: Connection,
    { schema, source }: { readonly schema: string; readonly source: string },
    parked: readonly Entry[],
    retried: Retried,
  ): Promise<ConflictReport> {
    for (const entry of parked) {
      for (const { id, n } of entry.parked) {
        if (retried.pending.has(id)) continue;
        this.#logged = true;
        this.#torn.decided(entry.pieces, n, retried.overridden.has(id) ? "overridden" : "applied");
      }
    }
    if (!this.#logged) return {};
    const torn = this.#torn.list();
    const conflicts = await closeConflicts(connection, schema, source, torn);
    return { ...(conflicts.length > 0 ? { conflicts } : {}), ...(torn.length > 0 ? { torn: torn.length } : {}) };
  }
}
