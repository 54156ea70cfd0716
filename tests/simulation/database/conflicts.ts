/**
 * Law 3 in the model (architecture §6.3 §6.7): what stands between incoming rows and this database's constraints is
 * decided by src/core/arbitration.ts and carried out here, by writes that are captured.
 */
import { restampAbove, stampAbove } from "../../../src/core/arbitration.ts";
import type { Stamp } from "../../../src/core/stamp.ts";
import type { ApplyContext, Written } from "./apply.ts";
import type { Database } from "./database.ts";
import type { Outcomes } from "./incoming.ts";
import { bury, capture, holdersOf, lockRow, lockTable, referring, write } from "./local.ts";
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
    const stamp = restampAbove(row.stamp, deletion, db.policy(table), hereOf(db));
    if (!rules.overrides || !stamp) return;
    yield* this.#rewrite(table, new Row(row.key, stamp, row.values), true);
  }

  /** Rows that this group wrote and that share unique values with others: the lesser go, captured. */
  *settleUnique(): Work<void> {
    const { db, tx } = this.#context;
    for (const { change } of this.#written.values()) {
      const { table, key } = change;
      const row = db.row(table, key).read(tx);
      const holders = row ? holdersOf(db, tx, table, row) : [];
      if (!row || holders.length === 0) continue;
      for (const holder of holders) yield* lockRow(db, tx, table, holder.key, "all");
      yield* this.#arbitrate(table, row, holders);
    }
  }

  *#arbitrate(table: TableDefinition, incoming: Row, holders: readonly Row[]): Work<void> {
    const { db, tx, rules } = this.#context;
    const contender = ({ stamp, key }: Row, replaced: Stamp | null) => {
      return { stamp, table: table.name, key, replaced, tombstone: db.tombstone(table, key).read(tx) };
    };
    const verdict = rules.arbitrate(
      holders.map((holder) => contender(holder, null)),
      contender(incoming, this.#written.get(`${table.name} ${incoming.key}`)?.before?.stamp ?? null),
      db.policy(table),
      hereOf(db),
    );
    const losers = verdict.removed === "incoming" ? [incoming] : holders;
    for (const [at, { key }] of losers.entries()) {
      const stamp = verdict.stamps[at];
      if (!stamp) throw new Error(`${table.name} ${key} loses without a stamp`);
      yield* this.clearChildren(table, key, rules.overrides);
      yield* this.#remove(table, key, stamp, rules.overrides);
      const losing = this.#written.get(`${table.name} ${key}`);
      if (losing) this.#outcomes.set(losing.change, "overridden");
    }
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
        const stamp = stampAbove([row.stamp], hereOf(db));
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
}

function hereOf(db: Database) {
  return { contour: db.contour, clock: db.clock() };
}

function tableOf(name: string): TableDefinition {
  const table = TABLES.find((one) => one.name === name);
  if (!table) throw new Error(`The model has no table "${name}"`);
  return table;
}
