/** The statements of a unit, generated once for each table and set of columns. */
import type { TargetTable } from "../catalog/catalog.ts";
import { logStatement } from "../conflicts/conflict_log.ts";
import { seenSetting } from "../conflicts/conflict_watch.ts";
import { originsText } from "../conflicts/origins.ts";
import { sourceJson } from "../sources.ts";
import {
  cascadeChecks,
  deleteChecks,
  type LateCheck,
  type ParentCheck,
  truncateChecks,
  upsertChecks,
} from "./checks.ts";
import type { Unit } from "./plan.ts";
import { ROW_ORIGIN, ROW_SOURCE, rowBlock } from "./row_block.ts";
import {
  deleteStatement,
  type StatementOptions,
  sweepStatement,
  truncateStatement,
  upsertStatement,
} from "./statements.ts";

/** replica: foreign keys and deferrable unique constraints are ours to check (architecture §7.7). */
export type SessionMode = "replica" | "origin";

export interface UnitStatements {
  readonly main: string;
  readonly sweep: string | null;
  /** Before the main statement. */
  readonly early: readonly LateCheck[];
  /** After the statements of all units. */
  readonly late: readonly LateCheck[];
}

export class StatementsOfUnits {
  readonly #options: StatementOptions;
  /** Per table object: a changed catalog makes new ones. */
  readonly #cache = new WeakMap<TargetTable, Map<string, UnitStatements | string>>();

  constructor(options: StatementOptions) {
    this.#options = options;
  }

  /** Set-wise. `mixed`: changes of the other kind follow for the same table. */
  of(unit: Unit, mode: SessionMode, mixed: boolean): UnitStatements {
    return this.#cached(unit, `${mode} ${unit.source.kind}${mixed ? " mixed" : ""}`, () =>
      this.#generate(unit, sourceJson(unit.source, this.#options.schema), mode, "ranked", mixed),
    );
  }

  /** What writes the conflict log (conflict_log.ts). */
  log(unit: Unit): string {
    const { schema } = this.#options;
    return this.#cached(unit, `log ${unit.source.kind}`, () => {
      const origins = `${originsText(unit.source, schema)}::json`;
      return logStatement(unit.kind, unit.shape, sourceJson(unit.source, schema), origins, this.#options);
    });
  }

  /** Row by row (row_block.ts). */
  block(unit: Unit, mode: SessionMode): string {
    return this.#cached(unit, `${mode} rows`, () => {
      const { main, sweep, early, late } = this.#generate(unit, ROW_SOURCE, mode, "all", false);
      const log = logStatement(unit.kind, unit.shape, ROW_SOURCE, ROW_ORIGIN, this.#options);
      // Parents are all checked by the statement itself here, so of the late checks only the others are left.
      const parents = new Set(unit.shape.table.parents.map((fk) => fk.name));
      const others = unit.kind === "upsert" ? late.filter((check) => !parents.has(check.constraint)) : late;
      return rowBlock({ main, sweep, log, seen: seenSetting(unit.shape.table), early, late: others });
    });
  }

  #generate(unit: Unit, source: string, mode: SessionMode, parents: ParentCheck, mixed: boolean): UnitStatements {
    const { shape, kind } = unit;
    const ours = mode === "replica";
    switch (kind) {
      case "upsert":
        return {
          main: upsertStatement(shape, source, ours ? parents : "none", this.#options, mixed),
          sweep: sweepStatement(shape, source, this.#options),
          early: [],
          late: ours ? upsertChecks(shape.table, source) : [],
        };
      case "delete":
        return {
          main: deleteStatement(shape, source, this.#options, mixed),
          sweep: null,
          early: ours ? [] : cascadeChecks(shape, source),
          late: ours ? deleteChecks(shape.table, source) : [],
        };
      case "truncate":
        return {
          main: truncateStatement(shape, source, this.#options),
          sweep: null,
          early: ours ? [] : cascadeChecks(shape, source),
          late: ours ? truncateChecks(shape.table) : [],
        };
    }
  }

  #cached<T extends UnitStatements | string>(unit: Unit, variant: string, make: () => T): T {
    const { table, columns, ties } = unit.shape;
    const known = this.#cache.get(table) ?? new Map<string, UnitStatements | string>();
    this.#cache.set(table, known);
    const names = columns.flatMap(({ json, column }) => (json === column.name ? json : [json, column.name]));
    const key = `${unit.kind} ${variant} ${ties} ${JSON.stringify(names)}`;
    const found = known.get(key);
    if (found !== undefined) return found as T;
    const made = make();
    // Column sets change with DDL only; a hostile writer must not fill the memory.
    if (known.size > 200) known.clear();
    known.set(key, made);
    return made;
  }
}
