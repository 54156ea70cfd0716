/** A client of a contour's database: transactions one after the other, of several operations, some of them rolled back. */
import type { Database } from "../database/database.ts";
import { SqlError } from "../database/sql_error.ts";
import type { Work } from "../database/task.ts";
import type { Random } from "../kernel/random.ts";
import type { Profile } from "../profile.ts";
import { OPERATIONS, type Operation, type OperationName } from "./operations.ts";

export interface SessionOptions {
  readonly db: Database;
  readonly profile: Profile;
  readonly random: Random;
  readonly name: string;
  readonly isFirstContour: boolean;
}

/** Of a transaction that stays open for long. */
const LONGEST_PAUSE_MS = 3_000;

/** Never throws what the database may say; @throws programming errors of the model */
export function* runSession(options: SessionOptions): Work<void> {
  const { profile, random } = options;
  for (let n = 1; n <= profile.transactions; n++) {
    yield { pauseMs: random.next() ** 3 * profile.pauseMs };
    yield* transact(options, n);
  }
}

function* transact({ db, profile, random, name, isFirstContour }: SessionOptions, n: number): Work<void> {
  const tx = db.begin(`${name} tx ${n}`, random.chance(profile.repeatableRead));
  const done: string[] = [];
  let values = 0;
  const fresh = () => `${name}.${n}.${++values}`;
  try {
    for (
      let left = random.weighted([
        [5, 1],
        [3, 2],
        [2, 4],
      ]);
      left > 0;
      left--
    ) {
      const operation = random.weighted(profile.operations);
      if (!mayRun(operation, isFirstContour)) continue;
      const savepoint = tx.savepoint;
      try {
        yield* OPERATIONS[operation].run({ db, tx, random, keys: profile.keys, fresh });
        done.push(operation);
      } catch (error) {
        // What a constraint refuses is undone alone; the transaction goes on.
        if (!(error instanceof SqlError) || !error.state.startsWith("23")) throw error;
        tx.rollbackTo(savepoint);
      }
      yield {
        pauseMs: random.chance(profile.lingering)
          ? random.next() ** 2 * LONGEST_PAUSE_MS * profile.tempo
          : random.next() ** 3 * 100,
      };
    }
    if (random.chance(0.08)) throw new SqlError("57014", "the application rolled back");
    db.trace(
      () =>
        `${tx.label} (xid ${tx.xid}) commits ${done.join(", ")}: ${tx.captured.map((row) => `#${row.id} ${row.operation} ${row.table.name} ${row.line}`).join("; ")}`,
    );
    db.commit(tx);
  } catch (error) {
    if (!(error instanceof SqlError)) throw error;
    db.trace(() => `${tx.label} rolls back: ${error.state} ${error.message}`);
    db.rollback(tx);
  }
}

function mayRun(name: OperationName, isFirstContour: boolean): boolean {
  const operation: Operation = OPERATIONS[name];
  return isFirstContour || operation.onlyFirstContour !== true;
}
