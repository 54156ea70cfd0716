/**
 * Law 3 in the model (architecture §6.3 §6.7): what stands between incoming rows and this database's constraints is
 * decided by src/core/arbitration.ts and carried out here, by writes that are captured.
 */
import { restampAbove, stampAbove } from "../../../src/core/arbitration.ts";
import type { Stamp } from "../../../src/core/stamp.ts";
import type { ApplyContext, Written } from "./apply.ts";
import type { Database } from "./database.ts";
import type { Incoming, Outcomes } from "./incoming.ts";
import { bury, capture, holderOf, lockRow, lockTable, referring, write } from "./local.ts";
import { Row } from "./row.ts";
import { childrenOf, TABLES, type TableDefinition } from "./schema.ts";
import type { Work } from "./task.ts";

export class Conflicts {
  readonly #context: ApplyContext;
  readonly #outcomes: Outcomes;
  readonly #written: Map<string, Written>;

  constructor(context: ApplyContext, outcomes: Outcomes, written: Map<string, Written>) {
    this.#context = context;
    this.#outcomes = outcomes;
    this.#written = written;
  }

  /** A child whose parent is not here is kept for later; what was under its key comes back. */
  *parkOrphans(): Work<void> {
    const { db, tx } = this.#context;
    for (const [name, { change, before }] of this.#written) {
      const { reference } = change.table;
      const parent = reference ? change.row?.values[reference.column] : null;
      if (!reference || !parent) continue;
      const parents = tableOf(reference.parent);
      yield* lockRow(db, tx, parents, parent, "share");
      if (db.row(parents, parent).read(tx)) continue;
      yield* write(db, tx, change.table, change.key, before);
      this.#written.delete(name);
      this.#outcomes.set(change, "parked");
    }
  }

  /** Whether children that forbid a parent's deletion are here. */
  isHeld(table: TableDefinition, key: string): boolean {
    const { db, tx } = this.#context;
    return childrenOf(table.name).some(
      (child) => child.reference?.onDelete === "restrict" && referring(db, tx, child, key).length > 0,
    );
  }

  /** Lifts a parent above the deletion that its children forbid, captured: it comes back everywhere. */
  *revive(table: TableDefinition, row: Row, deletion: Stamp): Work<void> {
    const { db, rules } = this.#context;
    const above = restampAbove(row.stamp, deletion, db.policy(table), hereOf(db));
    if (!rules.overrides || !above) return;
    const stamp = stampAbove([above, ...this.#known(table, row.key)], hereOf(db));
    yield* this.#rewrite(table, new Row(row.key, stamp, row.values), true);
  }

  /** Rows that this group wrote and that share a unique value with others: the lesser of each two goes, captured. */
  *settleUnique(): Work<void> {
    const { db, tx } = this.#context;
    for (const { change } of this.#written.values()) {
      const { table, key } = change;
      for (;;) {
        const row = db.row(table, key).read(tx);
        const holder = row && holderOf(db, tx, table, row);
        if (!row || !holder) break;
        yield* lockRow(db, tx, table, holder.key, "all");
        yield* this.#arbitrate(change, row, holder);
      }
    }
  }

  *#arbitrate(change: Incoming, incoming: Row, holder: Row): Work<void> {
    const { db, rules } = this.#context;
    const { table } = change;
    const contender = (row: Row) => {
      const before = this.#written.get(`${table.name} ${row.key}`)?.before;
      const known = [...this.#known(table, row.key), ...(before ? [before.stamp] : [])];
      return { stamp: row.stamp, table: table.name, key: row.key, known };
    };
    const { removed, stamp } = rules.arbitrate(contender(holder), contender(incoming), db.policy(table), hereOf(db));
    const loser = removed === "holder" ? holder : incoming;
    yield* this.clearChildren(table, loser.key, rules.overrides);
    yield* this.#remove(table, loser.key, stamp, rules.overrides);
    const losing = this.#written.get(`${table.name} ${loser.key}`);
    if (losing) this.#outcomes.set(losing.change, "overridden");
  }

  /** Children of a row that goes: by ON DELETE, and where that leaves them to the application, with their parent. */
  *clearChildren(table: TableDefinition, key: string, captured: boolean): Work<void> {
    const { db, tx } = this.#context;
    for (const child of childrenOf(table.name)) {
      yield* lockTable(db, tx, child);
      for (const { key: childKey } of referring(db, tx, child, key)) {
        yield* lockRow(db, tx, child, childKey, "all");
        const row = db.row(child, childKey).read(tx);
        if (!row) continue;
        const stamp = stampAbove([row.stamp, ...this.#known(child, childKey)], hereOf(db));
        const losing = this.#written.get(`${child.name} ${childKey}`);
        if (losing) this.#outcomes.set(losing.change, "overridden");
        if (child.reference?.onDelete === "set null")
          yield* this.#rewrite(child, new Row(childKey, stamp, { ...row.values, parent: null }), captured);
        else yield* this.#remove(child, childKey, stamp, captured);
      }
    }
  }

  *#remove(table: TableDefinition, key: string, stamp: Stamp, captured: boolean): Work<void> {
    const { db, tx } = this.#context;
    if (captured) {
      const kept = yield* bury(db, tx, table, key, stamp);
      capture(db, tx, table, "DELETE", { key, stamp: kept, values: {} }, true);
    }
    yield* write(db, tx, table, key, null);
  }

  *#rewrite(table: TableDefinition, row: Row, captured: boolean): Work<void> {
    const { db, tx } = this.#context;
    yield* write(db, tx, table, row.key, row);
    if (captured) capture(db, tx, table, "UPDATE", row, true);
  }

  #known(table: TableDefinition, key: string): Stamp[] {
    const { db, tx } = this.#context;
    const tombstone = db.tombstone(table, key).read(tx);
    return [...(tombstone ? [tombstone] : []), ...db.floors(table, tx)];
  }
}

function hereOf(db: Database) {
  return { contour: db.contour, clock: db.clock() };
}

function tableOf(name: string): TableDefinition {
  const table = TABLES.find((one) => one.name === name);
  if (!table) throw new Error(`The model has no table "${name}"`);
  return table;
}
