/** An application's statements, with what the triggers do to them (sql/02*): stamps, tombstones, floors, the queue. */
import { stampAbove } from "../../../src/core/arbitration.ts";
import type { Operation } from "../../../src/core/chunk.ts";
import type { Stamp } from "../../../src/core/stamp.ts";
import type { Database } from "./database.ts";
import { encodeLine, Row, type Values } from "./row.ts";
import { childrenOf, type TableDefinition } from "./schema.ts";
import { SqlError } from "./sql_error.ts";
import type { Work } from "./task.ts";
import type { Transaction } from "./transaction.ts";

/** A queue row. The trigger runs after the row is written: its id is taken then. */
export function capture(
  db: Database,
  tx: Transaction,
  table: TableDefinition,
  operation: Operation,
  row: { readonly key: string; readonly stamp: Stamp; readonly values: Values },
  override = false,
): void {
  const id = db.nextQueueId();
  const { key, stamp, values } = row;
  const line = encodeLine({ id, key, stamp, values });
  tx.capture({ id, xid: db.assignXid(tx), table, operation, key, stamp, line, override });
}

export function lockTable(db: Database, tx: Transaction, table: TableDefinition): Work<void> {
  return db.lock(tx, `table ${table.name}`, "share");
}

export function lockRow(
  db: Database,
  tx: Transaction,
  table: TableDefinition,
  key: string,
  mode: "share" | "update" | "all",
): Work<void> {
  return db.lock(tx, `${table.name} ${key}`, mode);
}

/** Writes a row whose lock is held; waits for whoever holds its unique value. */
export function* write(
  db: Database,
  tx: Transaction,
  table: TableDefinition,
  key: string,
  row: Row | null,
): Work<void> {
  const cell = db.row(table, key);
  for (const unique of table.unique) {
    const values = new Set([cell.read(tx)?.values[unique], row?.values[unique]]);
    for (const value of [...values].sort()) if (value) yield* db.lock(tx, `${table.name}.${unique} ${value}`, "all");
  }
  cell.write(tx, row);
}

/** Keys of the rows a new statement sees. */
export function keysOf(db: Database, tx: Transaction, table: TableDefinition): string[] {
  return [...db.rows(table)].flatMap(([key, cell]) => (cell.read(tx) ? [key] : [])).sort();
}

/** Rows that refer to a parent, as a new statement sees them. */
export function referring(db: Database, tx: Transaction, table: TableDefinition, parent: string): Row[] {
  const { reference } = table;
  if (!reference) return [];
  return keysOf(db, tx, table).flatMap((key) => {
    const row = db.row(table, key).read(tx);
    return row?.values[reference.column] === parent ? [row] : [];
  });
}

/** The rows that hold a unique value of this one under another key, as a new statement sees them. */
export function holdersOf(db: Database, tx: Transaction, table: TableDefinition, row: Row): Row[] {
  const taken = table.unique.filter((column) => row.values[column]);
  if (taken.length === 0) return [];
  return keysOf(db, tx, table).flatMap((key) => {
    const other = db.row(table, key).read(tx);
    const holds = other && key !== row.key && taken.some((column) => other.values[column] === row.values[column]);
    return holds ? [other] : [];
  });
}

/** The greatest tombstone is kept, component by component, as the trigger's ON CONFLICT does. */
export function* bury(db: Database, tx: Transaction, table: TableDefinition, key: string, stamp: Stamp): Work<Stamp> {
  yield* db.lock(tx, `tombstone ${table.name} ${key}`, "all");
  const cell = db.tombstone(table, key);
  const there = cell.read(tx);
  const version = there && there.version > stamp.version ? there.version : stamp.version;
  const updatedAt = there && there.updatedAt > stamp.updatedAt ? there.updatedAt : stamp.updatedAt;
  const kept = { version, updatedAt, updatedBy: stamp.updatedBy };
  cell.write(tx, kept);
  return kept;
}

/** What the BEFORE INSERT trigger knows of a key: under REPEATABLE READ, what was known when the transaction began. */
function knownOf(db: Database, tx: Transaction, table: TableDefinition, key: string): Stamp[] {
  const cell = db.tombstone(table, key);
  const tombstone = tx.snapshot === null ? cell.read(tx) : cell.readAt(tx, tx.snapshot);
  return [...(tombstone ? [tombstone] : []), ...db.floors(table, tx, tx.snapshot ?? undefined)];
}

function here(db: Database) {
  return { contour: db.contour, clock: db.clock() };
}

/**
 * Where an UPDATE or a DELETE begins: its row, locked, as whoever held it before has left it; null when it is not there.
 * @throws SqlError 40001 under REPEATABLE READ, when somebody has changed it
 */
function* rowToChange(
  db: Database,
  tx: Transaction,
  table: TableDefinition,
  key: string,
  mode: "update" | "all",
): Work<Row | null> {
  const cell = db.row(table, key);
  yield* lockTable(db, tx, table);
  if (!cell.read(tx)) return null;
  yield* lockRow(db, tx, table, key, mode);
  if (tx.snapshot !== null && cell.readAt(tx, tx.snapshot) !== cell.read(tx))
    throw new SqlError("40001", `could not serialize access to ${table.name} ${key}`);
  return cell.read(tx);
}

/** Unique value free, parent there. @throws SqlError 23505, 23503 */
function* checkRow(db: Database, tx: Transaction, table: TableDefinition, row: Row): Work<void> {
  const { reference } = table;
  const [holder] = holdersOf(db, tx, table, row);
  if (holder) throw new SqlError("23505", `${table.name} ${row} shares a unique value with ${holder}`);
  const parent = reference ? row.values[reference.column] : null;
  if (!reference || !parent) return;
  const parents = { ...table, name: reference.parent };
  yield* lockRow(db, tx, parents, parent, "share");
  if (!db.row(parents, parent).read(tx)) throw new SqlError("23503", `${reference.parent} ${parent} is not there`);
}

export function* insert(
  db: Database,
  tx: Transaction,
  table: TableDefinition,
  key: string,
  values: Values,
): Work<void> {
  yield* lockTable(db, tx, table);
  const early = stampAbove(knownOf(db, tx, table, key), here(db));
  yield* lockRow(db, tx, table, key, "all");
  if (db.row(table, key).read(tx)) throw new SqlError("23505", `${table.name} ${key} is there already`);
  // After the wait: whoever held the key may have buried it, and a stamp from before would be below that (law 1).
  const stamp = db.stampsBeforeWaiting ? early : stampAbove(knownOf(db, tx, table, key), here(db));
  const row = new Row(key, stamp, values);
  yield* write(db, tx, table, key, row);
  yield* checkRow(db, tx, table, row);
  capture(db, tx, table, "INSERT", row);
  lookAgainIfStale(db, tx, table, key);
}

/** A snapshot older than the statement does not show what has been deleted since. */
function lookAgainIfStale(db: Database, tx: Transaction, table: TableDefinition, key: string): void {
  if (tx.snapshot !== null) db.lookAgain(tx, table, key);
}

/** False when there is no such row. `twice`: an AFTER trigger of the user's changes the row once more, captured first. */
export function* update(
  db: Database,
  tx: Transaction,
  table: TableDefinition,
  key: string,
  change: (values: Values) => Values,
  twice = false,
): Work<boolean> {
  const old = yield* rowToChange(db, tx, table, key, "update");
  if (!old) return false;
  const row = new Row(key, stampAbove([old.stamp], here(db)), change(old.values));
  yield* write(db, tx, table, key, row);
  yield* checkRow(db, tx, table, row);
  if (twice) {
    // The inner UPDATE's trigger comes first: the queue holds the later version before the earlier (review B1).
    const again = new Row(key, stampAbove([row.stamp], here(db)), change(row.values));
    yield* write(db, tx, table, key, again);
    capture(db, tx, table, "UPDATE", again);
  }
  capture(db, tx, table, "UPDATE", row);
  return true;
}

/** False when there is no such row. */
export function* remove(db: Database, tx: Transaction, table: TableDefinition, key: string): Work<boolean> {
  const old = yield* rowToChange(db, tx, table, key, "all");
  if (!old) return false;
  const stamp = yield* bury(db, tx, table, key, stampAbove([old.stamp], here(db)));
  yield* write(db, tx, table, key, null);
  // The parent's own line comes first: its trigger runs before those of the cascade (review A6).
  capture(db, tx, table, "DELETE", { key, stamp, values: {} });
  for (const child of childrenOf(table.name)) {
    for (const row of referring(db, tx, child, key)) {
      if (child.reference?.onDelete === "restrict")
        throw new SqlError("23503", `${child.name} ${row.key} refers to ${table.name} ${key}`);
      if (child.reference?.onDelete === "cascade") yield* remove(db, tx, child, row.key);
      else yield* update(db, tx, child, row.key, (values) => ({ ...values, parent: null }));
    }
  }
  return true;
}

/** DELETE of the old key and INSERT of the new one, in one statement. */
export function* changeKey(
  db: Database,
  tx: Transaction,
  table: TableDefinition,
  key: string,
  to: string,
): Work<boolean> {
  const old = yield* rowToChange(db, tx, table, key, "all");
  if (!old) return false;
  const moved = stampAbove([old.stamp], here(db));
  const gone = yield* bury(db, tx, table, key, moved);
  yield* lockRow(db, tx, table, to, "all");
  const known = knownOf(db, tx, table, to);
  if (db.row(table, to).read(tx)) throw new SqlError("23505", `${table.name} ${to} is there already`);
  yield* write(db, tx, table, key, null);
  const row = new Row(to, stampAbove([old.stamp, ...known], here(db)), old.values);
  yield* write(db, tx, table, to, row);
  capture(db, tx, table, "DELETE", { key, stamp: gone, values: {} });
  capture(db, tx, table, "INSERT", row);
  lookAgainIfStale(db, tx, table, to);
  return true;
}

export function* truncate(db: Database, tx: Transaction, table: TableDefinition): Work<void> {
  yield* db.lock(tx, `table ${table.name}`, "all");
  const stamps: Stamp[] = [...db.floors(table, tx)];
  for (const cell of db.rows(table).values()) stamps.push(...stampOf(cell.read(tx)?.stamp));
  for (const cell of db.tombstones(table).values()) stamps.push(...stampOf(cell.read(tx)));
  const stamp = stampAbove(stamps, here(db));
  db.addFloor(tx, table, stamp);
  for (const key of keysOf(db, tx, table)) yield* write(db, tx, table, key, null);
  capture(db, tx, table, "TRUNCATE", { key: "", stamp, values: {} });
}

function stampOf(stamp: Stamp | null | undefined): Stamp[] {
  return stamp ? [stamp] : [];
}

/** Sends rows as they are, with their own stamps: those older than setup among them. */
export function* sendSnapshot(db: Database, tx: Transaction, table: TableDefinition): Work<void> {
  yield* lockTable(db, tx, table);
  for (const key of keysOf(db, tx, table)) {
    yield* lockRow(db, tx, table, key, "share");
    const row = db.row(table, key).read(tx);
    if (row) capture(db, tx, table, "SNAPSHOT", row);
  }
}
