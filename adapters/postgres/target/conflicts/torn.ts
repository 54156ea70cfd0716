/**
 * Source transactions of which some rows lost to another contour's while others were applied (architecture §6.8): readers
 * here see a part of what was one transaction there. Counted over all groups of one apply transaction, which holds every
 * row of a source transaction of a channel of frames (I12).
 */
import type { Piece } from "../rows/plan.ts";

/** What became of the rows of one unit; ordinals within it. */
export interface RowsOfUnit {
  readonly pieces: readonly Piece[];
  readonly lost: readonly number[];
  readonly failed: readonly number[];
  /** Those that met a conflict and lost it. */
  readonly contested: readonly number[];
}

export class TornTransactions {
  readonly #applied = new Set<string>();
  readonly #beaten = new Set<string>();

  add({ pieces, lost, failed, contested }: RowsOfUnit): void {
    const without = new Set([...lost, ...failed]);
    const beaten = new Set(contested.filter((n) => without.has(n)));
    let first = 0;
    for (const { header } of pieces) {
      const { transaction, rows } = header;
      if (without.size === 0) this.#applied.add(transaction);
      else {
        for (let n = first; n < first + rows; n++) {
          if (beaten.has(n)) this.#beaten.add(transaction);
          else if (!without.has(n)) this.#applied.add(transaction);
        }
      }
      first += rows;
    }
  }

  /** A row that had failed, `n` within its unit, and was decided at the end of the transaction. */
  decided(pieces: readonly Piece[], n: number, became: "applied" | "overridden"): void {
    let first = 0;
    for (const { header } of pieces) {
      first += header.rows;
      if (n < first) {
        (became === "applied" ? this.#applied : this.#beaten).add(header.transaction);
        return;
      }
    }
  }

  /** Their ids at the source. */
  list(): readonly string[] {
    return [...this.#beaten].filter((transaction) => this.#applied.has(transaction));
  }
}
