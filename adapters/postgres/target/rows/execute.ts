/** Runs units: set-wise and pipelined, or row by row. */
import { ReplicatorError } from "../../../../src/core/errors.ts";
import type { Connection, Param } from "../../connection.ts";
import { sqlState } from "../../errors.ts";
import { CONFLICTS_OFF, seenSetting } from "../conflicts/conflict_watch.ts";
import { ContestedTables, type Logged, sendLog } from "../conflicts/contested.ts";
import { originsParams, originsText } from "../conflicts/origins.ts";
import { sourceParams, sourceText } from "../sources.ts";
import { constraintMessage, type LateCheck } from "./checks.ts";
import { GroupFailure, isConstraintFailure, rowFailure, rowRefusal } from "./failures.ts";
import type { Unit } from "./plan.ts";
import { BAD_STAMP, type FailedRow, parseRowResults } from "./row_block.ts";
import type { StatementOptions } from "./statements.ts";
import { type SessionMode, StatementsOfUnits } from "./unit_statements.ts";

export type { SessionMode } from "./unit_statements.ts";

/** What became of the rows of one unit. */
export interface UnitOutcome {
  readonly unit: Unit;
  /** Of every row, joined by commas. */
  readonly versions: string;
  /** Ordinals within the unit. */
  readonly lost: readonly number[];
  readonly failed: readonly FailedRow[];
  /** What the conflict log got for it; null: nothing was looked for, or nothing found. */
  readonly conflicts: Logged | null;
}

/**
 * watch: stop at the first conflict that is not logged (SQLSTATE RPB02); log: write the conflict log first, and stop only at
 * a conflict that has come about since; ignore: write no log.
 */
export type ConflictMode = "watch" | "log" | "ignore";

export interface SetWiseOptions {
  /** The contour whose changes these are; the inbox knows it by itself. */
  readonly source?: string;
  readonly conflicts?: ConflictMode;
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
  readonly #schema: string;
  readonly #statements: StatementsOfUnits;
  readonly #contested = new ContestedTables();

  constructor(options: StatementOptions) {
    this.#schema = options.schema;
    this.#statements = new StatementsOfUnits(options);
  }

  /**
   * Everything is sent before anything is awaited; late checks after all units. The outcomes are in the order of `units`.
   * @throws GroupFailure, or what the database threw first: then the transaction is to be rolled back to its savepoint
   */
  async setWise(
    connection: Connection,
    units: readonly Unit[],
    mode: SessionMode,
    { source = "", conflicts = "log" }: SetWiseOptions = {},
  ): Promise<UnitOutcome[]> {
    const answers: Promise<readonly ResultRow[]>[] = [];
    const others: Promise<unknown>[] = [];
    const checks: (() => void)[] = [];
    const unswept: number[] = [];
    // Before anything is applied: what stood here when the group began.
    const logs = units.map((unit) =>
      conflicts === "log" || (conflicts === "watch" && this.#contested.has(unit.shape.table))
        ? sendLog(connection, unit, this.#statements.log(unit), source)
        : null,
    );
    const reset = settingsOf(units.filter((_, n) => logs[n]));
    if (conflicts === "ignore") others.push(connection.script(`SET LOCAL replicator.conflicts = '${CONFLICTS_OFF}'`));
    units.forEach((unit, n) => {
      const { main, sweep, early, late } = this.#statements.of(unit, mode, isMixed(units, n));
      const params = sourceParams(unit.source);
      for (const check of early) others.push(runCheck(connection, check, params));
      answers.push(connection.query<ResultRow>(main, params, { action: `apply changes of ${unit.shape.table.label}` }));
      // Rows of UPDATEs are hardly ever inserted: the answer tells whether they were.
      if (sweep && hasInserts(unit)) others.push(runSweep(connection, sweep, unit));
      else if (sweep) unswept.push(n);
      for (const check of late) checks.push(() => others.push(runCheck(connection, check, params)));
    });
    for (const send of checks) send();
    if (reset.length > 0 || conflicts === "ignore")
      others.push(
        connection.script([...reset, "replicator.conflicts"].map((name) => `SET LOCAL ${name} = ''`).join("; ")),
      );
    await allOrFirst([...logs, ...answers, ...others]);
    const rows = (await Promise.all(answers)).map(([row], n) => checked(units[n] as Unit, row));
    const logged = await Promise.all(logs);
    this.#contested.note(units, logged);
    const late = unswept.filter((n) => Number(rows[n]?.fresh) > 0).map((n) => units[n] as Unit);
    await allOrFirst(
      late.map((unit) => runSweep(connection, this.#statements.of(unit, mode, false).sweep ?? "", unit)),
    );
    return rows.map((row, n) => outcome(units[n] as Unit, row, logged[n] ?? null));
  }

  /** One unit, each row in a subtransaction of its own, conflicts logged. `source`: as in SetWiseOptions. */
  async rowByRow(connection: Connection, unit: Unit, mode: SessionMode, source = ""): Promise<UnitOutcome> {
    const alone = unit.rows === 1 ? await this.#oneRow(connection, unit, mode, source) : null;
    return alone ?? this.#inBlock(connection, unit, mode, source);
  }

  /**
   * A row alone: the set-wise statements, which are prepared, in a savepoint. Planning a block for it takes ten times as
   * long. Null where the block has more to say: what else than a constraint was the matter, a deletion that came between.
   */
  async #oneRow(connection: Connection, unit: Unit, mode: SessionMode, source: string): Promise<UnitOutcome | null> {
    const marked = connection.script("SAVEPOINT replicator_row");
    try {
      const [[outcome]] = await Promise.all([
        this.setWise(connection, [unit], mode, { source, conflicts: "watch" }),
        marked,
      ]);
      await connection.script("RELEASE SAVEPOINT replicator_row");
      return outcome ?? null;
    } catch (error) {
      const state = rowFailure(error);
      if (state === null) throw error;
      await connection.script("ROLLBACK TO SAVEPOINT replicator_row; RELEASE SAVEPOINT replicator_row");
      if (!isConstraintFailure(state)) return null;
      return { unit, versions: "NULL", lost: [], failed: [{ n: 0, state, ...rowRefusal(error) }], conflicts: null };
    }
  }

  /** All rows in one round trip. */
  async #inBlock(connection: Connection, unit: Unit, mode: SessionMode, source: string): Promise<UnitOutcome> {
    const schema = this.#schema;
    const rows = `SELECT set_config('replicator.rows', ${sourceText(unit.source, schema)}, true) IS NULL,
  set_config('replicator.origins', ${originsText(unit.source, schema)}, true) IS NULL`;
    const params = [...sourceParams(unit.source), ...originsParams(unit, source)];
    const action = `apply changes of ${unit.shape.table.label} row by row`;
    const [, , answer] = await Promise.all([
      connection.query(rows, params, { action }),
      connection.script(this.#statements.block(unit, mode), { action }),
      connection.query("SELECT current_setting('replicator.result', true) AS result", [], { action }),
    ]);
    return { unit, ...parseRowResults(answer[0]?.result) };
  }
}

/** State of a GroupFailure: a row was inserted below a tombstone that its statement could not see. */
const TOMBSTONE_RACE = "apply.tombstone_race";

/** Whether changes of the other kind follow for the same table: of a key, too, it may be the later ones. */
function isMixed(units: readonly Unit[], n: number): boolean {
  const unit = units[n];
  return units.some(
    (other, m) =>
      m > n && other.shape.table === unit?.shape.table && other.kind !== unit.kind && unit.kind !== "truncate",
  );
}

function settingsOf(units: readonly Unit[]): readonly string[] {
  return [...new Set(units.map(({ shape }) => seenSetting(shape.table)))];
}

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
async function allOrFirst(work: readonly (Promise<unknown> | null)[]): Promise<void> {
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
  if (Number(row.bad) > 0)
    throw new GroupFailure(
      BAD_STAMP,
      "the stamp is out of range: version above 2^53, or updated_at further ahead than max_skew",
    );
  if (Number(row.missing) > 0) throw new GroupFailure("23503", "the row refers to a parent that is not there");
  return row;
}

function outcome(unit: Unit, row: ResultRow, logged: Logged | null): UnitOutcome {
  const lost = row.lost === null ? [] : row.lost.split(",").map(Number);
  return { unit, versions: row.versions ?? "", lost, failed: [], conflicts: logged?.lines ? logged : null };
}
