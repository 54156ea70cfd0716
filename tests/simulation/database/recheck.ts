/**
 * The second look at applied deletions (architecture §6.5): a transaction that was open then may have committed a row below
 * a tombstone or a floor since. Nobody else keeps that row. If it was written here, its user was told that it is there: it
 * is lifted above the deletion by a captured update. If it came from elsewhere, by another channel or out of the inbox, the
 * deletion beats it here as it does everywhere.
 */
import { stampAbove } from "../../../src/core/arbitration.ts";
import type { Stamp } from "../../../src/core/stamp.ts";
import { type ApplyContext, applyGroup } from "./apply.ts";
import type { Incoming } from "./incoming.ts";
import { capture, keysOf, lockRow, lockTable, write } from "./local.ts";
import { Row } from "./row.ts";
import type { TableDefinition } from "./schema.ts";
import type { SecondLook } from "./second_looks.ts";
import type { Work } from "./task.ts";

export function* lookAgain(context: ApplyContext, due: readonly SecondLook[]): Work<void> {
  const { db, tx } = context;
  for (const { table, key } of due) {
    yield* lockTable(db, tx, table);
    for (const one of key === null ? keysOf(db, tx, table) : [key]) yield* judge(context, table, one);
  }
  tx.later(() => db.secondLooks.done(due));
}

function* judge(context: ApplyContext, table: TableDefinition, key: string): Work<void> {
  const { db, tx, rules } = context;
  if (!db.row(table, key).read(tx)) return;
  yield* lockRow(db, tx, table, key, "update");
  const row = db.row(table, key).read(tx);
  if (!row) return;
  const tombstone = db.tombstone(table, key).read(tx);
  const known = [...(tombstone ? [tombstone] : []), ...db.floors(table, tx)];
  const deletion = known.find((stamp) => rules.deletes(stamp, row.stamp, db.policy(table)));
  if (!deletion) return;
  if (row.stamp.updatedBy !== db.contour) {
    yield* applyGroup(context, [deletionOf(table, key, deletion)]);
    return;
  }
  const stamp = stampAbove([row.stamp, ...known], { contour: db.contour, clock: db.clock() });
  const lifted = new Row(key, stamp, row.values);
  yield* write(db, tx, table, key, lifted);
  capture(db, tx, table, "UPDATE", lifted, true);
}

function deletionOf(table: TableDefinition, key: string, stamp: Stamp): Incoming {
  return { source: stamp.updatedBy, event: "", transaction: "", table, operation: "DELETE", key, stamp, row: null };
}
