/** The end of an apply transaction: its answer decides; when it is lost, the ledger does (I4). */
import type { ApplyBatch } from "../../../src/core/target_store.ts";
import { type Connection, type Database, rollback } from "../connection.ts";
import { readPosition } from "./ledger.ts";
import { deferredConflict, rowFailure, throwable } from "./rows/failures.ts";

export interface Ending {
  readonly db: Database;
  readonly ledgerId: number;
  /** Constraints were checked after each group: what fails now is none that was deferred. */
  readonly careful: boolean;
  readonly askForCare: () => void;
}

/** Sends COMMIT after `writes`, which were sent before; gives the connection back. @throws unless it is committed */
export async function commitApply(
  connection: Connection,
  writes: Promise<unknown>,
  last: ApplyBatch,
  ending: Ending,
): Promise<void> {
  const commit = connection.script("COMMIT", { action: "commit applied changes" });
  const [written, committed] = await Promise.allSettled([writes, commit]);
  if (written.status === "fulfilled" && committed.status === "fulfilled") {
    connection.release();
    return;
  }
  const broken = connection.broken;
  const reason: unknown = written.status === "rejected" ? written.reason : (committed as PromiseRejectedResult).reason;
  // A statement that failed in the pipeline has turned COMMIT into ROLLBACK: nothing is unknown then.
  if (!broken) {
    await rollback(connection);
    connection.release();
    if (rowFailure(reason) === null || ending.careful) throw throwable(reason);
    ending.askForCare();
    throw deferredConflict(reason);
  }
  connection.destroy();
  if (!(await isCommitted(ending, last))) throw reason;
}

async function isCommitted({ db, ledgerId }: Ending, last: ApplyBatch): Promise<boolean> {
  return db.transaction(async (connection) => {
    // Waits until the lost transaction has ended, one way or the other.
    await connection.query(db.ours(`SELECT FROM "replicator".ledger WHERE ledger_id = $1::int FOR UPDATE`), [ledgerId]);
    const found = await readPosition(connection, (text) => db.ours(text), ledgerId);
    return found?.epoch === last.epoch && found.sequence === last.sequence;
  });
}
