/** Runs units: set-wise and pipelined, or row by row. */
import { ReplicatorError } from "../../../src/core/errors.ts";
import type { Connection, Param } from "../connection.ts";
import { sqlState } from "../errors.ts";
import type { TargetTable } from "./catalog.ts";
import {
  constraintMessage,
  deleteChecks,
  type LateCheck,
  type ParentCheck,
  truncateChecks,
  upsertChecks,
} from "./checks.ts";
import type { Unit } from "./plan.ts";
import { BAD_STAMP, type FailedRow, parseRowResults, ROW_SOURCE, rowBlock } from "./row_block.ts";
import { sourceJson, sourceParams, sourceText } from "./sources.ts";
import {
  deleteStatement,
  type StatementOptions,
  sweepStatement,
  truncateStatement,
  upsertStatement,
} from "./statements.ts";

/** replica: foreign keys and deferrable unique constraints are ours to check (architecture §7.7). */
export type SessionMode = "replica" | "origin";

/** What became of the rows of one unit. */
export interface UnitOutcome {
  readonly unit: Unit;
  /** Of every row, joined by commas. */
  readonly versions: string;
  /** Ordinals within the unit. */
  readonly lost: readonly number[];
  readonly failed: readonly FailedRow[];
}

/** A set-wise attempt that must be undone though PostgreSQL did not object: a check of ours did. */
export class GroupFailure extends Error {
  readonly state: string;
  constructor(state: string, message: string) {
    super(message);
    this.state = state;
  }
}

interface UnitStatements {
  readonly main: string;
  readonly sweep: string | null;
  readonly late: readonly LateCheck[];
}

interface ResultRow {
  readonly versions: string | null;
  readonly lost: string | null;
  readonly bad: string;
  readonly missing: string;
  readonly fresh: string;
  readonly [column: string]: string | null;
}

export class Executor {
  readonly #options: StatementOptions;
  /** Per table object: a changed catalog makes new ones. */
  readonly #cache = new WeakMap<TargetTable, Map<string, UnitStatements | string>>();

  constructor(options: StatementOptions) {
    this.#options = options;
  }

  /**
   * Everything is sent before anything is awaited; late checks after all units. The outcomes are in the order of `units`.
   * @throws GroupFailure, or what the database threw first: then the transaction is to be rolled back to its savepoint
   */
  async setWise(connection: Connection, units: readonly Unit[], mode: SessionMode): Promise<UnitOutcome[]> {
    const answers: Promise<readonly ResultRow[]>[] = [];
    const others: Promise<unknown>[] = [];
    const checks: (() => void)[] = [];
    const unswept: number[] = [];
    units.forEach((unit, n) => {
      const { main, sweep, late } = this.#statements(unit, mode);
      const params = sourceParams(unit.source);
      answers.push(connection.query<ResultRow>(main, params, { action: `apply changes of ${unit.shape.table.label}` }));
      // Rows of UPDATEs are hardly ever inserted: the answer tells whether they were.
      if (sweep && hasInserts(unit)) others.push(runSweep(connection, sweep, unit));
      else if (sweep) unswept.push(n);
      for (const check of late) checks.push(() => others.push(runCheck(connection, check, params)));
    });
    for (const send of checks) send();
    await allOrFirst([...answers, ...others]);
    const rows = (await Promise.all(answers)).map(([row], n) => checked(units[n] as Unit, row));
    const late = unswept.filter((n) => Number(rows[n]?.fresh) > 0).map((n) => units[n] as Unit);
    await allOrFirst(late.map((unit) => runSweep(connection, this.#statements(unit, mode).sweep ?? "", unit)));
    return rows.map((row, n) => outcome(units[n] as Unit, row));
  }

  /** One unit, each row in a subtransaction of its own; one round trip. */
  async rowByRow(connection: Connection, unit: Unit, mode: SessionMode): Promise<UnitOutcome> {
    const { schema } = this.#options;
    const rows = `SELECT set_config('replicator.rows', ${sourceText(unit.source, schema)}, true) IS NULL`;
    const action = `apply changes of ${unit.shape.table.label} row by row`;
    const [, , answer] = await Promise.all([
      connection.query(rows, sourceParams(unit.source), { action }),
      connection.script(this.#block(unit, mode), { action }),
      connection.query("SELECT current_setting('replicator.result', true) AS result", [], { action }),
    ]);
    return { unit, ...parseRowResults(answer[0]?.result) };
  }

  #statements(unit: Unit, mode: SessionMode): UnitStatements {
    return this.#cached(unit, `${mode} ${unit.source.kind}`, () =>
      this.#generate(unit, sourceJson(unit.source, this.#options.schema), mode, "ranked"),
    );
  }

  #block(unit: Unit, mode: SessionMode): string {
    return this.#cached(unit, `${mode} rows`, () => {
      const { main, sweep, late } = this.#generate(unit, ROW_SOURCE, mode, "all");
      // Parents are all checked by the statement itself here, so of the late checks only the others are left.
      const parents = new Set(unit.shape.table.parents.map((fk) => fk.name));
      const others = unit.kind === "upsert" ? late.filter((check) => !parents.has(check.constraint)) : late;
      return rowBlock(main, sweep, others);
    });
  }

  #generate(unit: Unit, source: string, mode: SessionMode, parents: ParentCheck): UnitStatements {
    const { shape, kind } = unit;
    const ours = mode === "replica";
    switch (kind) {
      case "upsert":
        return {
          main: upsertStatement(shape, source, ours ? parents : "none", this.#options),
          sweep: sweepStatement(shape, source, this.#options),
          late: ours ? upsertChecks(shape.table, source) : [],
        };
      case "delete":
        return {
          main: deleteStatement(shape, source, this.#options),
          sweep: null,
          late: ours ? deleteChecks(shape.table, source) : [],
        };
      case "truncate":
        return {
          main: truncateStatement(shape, source, this.#options),
          sweep: null,
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

/** State of a GroupFailure: a row was inserted below a tombstone that its statement could not see. */
const TOMBSTONE_RACE = "apply.tombstone_race";

function hasInserts(unit: Unit): boolean {
  return unit.pieces.some(({ header }) => header.operation !== "UPDATE");
}

/** What it removes may have been somebody's parent, and was counted as applied: row by row all of it comes out right. */
async function runSweep(connection: Connection, sweep: string, unit: Unit): Promise<void> {
  const removed = await connection.execute(sweep, sourceParams(unit.source));
  if (removed > 0) throw new GroupFailure(TOMBSTONE_RACE, "a row was deleted here while its change was applied");
}

async function runCheck(connection: Connection, check: LateCheck, params: readonly Param[]): Promise<void> {
  // A check over a whole table takes no rows.
  const used = check.statement.includes("$1") ? params : [];
  const [row] = await connection.query<{ missing: string }>(check.statement, used);
  if (Number(row?.missing) > 0) throw new GroupFailure(check.sqlState, constraintMessage(check));
}

/** Waits for all. @throws the first failure that is not only the echo of another in the pipeline (25P02) */
async function allOrFirst(work: readonly Promise<unknown>[]): Promise<void> {
  const settled = await Promise.allSettled(work);
  const failures = settled.flatMap((result) => (result.status === "rejected" ? [result.reason as unknown] : []));
  if (failures.length > 0) throw failures.find((reason) => sqlState(reason) !== "25P02") ?? failures[0];
}

function checked(unit: Unit, row: ResultRow | undefined): ResultRow {
  if (!row) {
    throw new ReplicatorError({
      code: "apply.no_result",
      message: `Applied changes of ${unit.shape.table.label} and got no answer`,
      retry: "backoff",
      fault: "internal",
    });
  }
  if (Number(row.bad) > 0) throw new GroupFailure(BAD_STAMP, "a stamp is out of range");
  if (Number(row.missing) > 0) throw new GroupFailure("23503", "a parent is missing");
  return row;
}

function outcome(unit: Unit, row: ResultRow): UnitOutcome {
  const lost = row.lost === null ? [] : row.lost.split(",").map(Number);
  return { unit, versions: row.versions ?? "", lost, failed: [] };
}
