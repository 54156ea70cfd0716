/**
 * How a target applies a group of changes: the statements of architecture §7.3 in the order of replica mode, each with its
 * own snapshot, each waiting for rows that others hold. What wins is the rules' affair; here is only when who sees what.
 */
import type { Stamp } from "../../../src/core/stamp.ts";
import { Conflicts } from "./conflicts.ts";
import type { Database } from "./database.ts";
import type { Incoming, Outcomes } from "./incoming.ts";
import { keysOf, lockRow, lockTable, write } from "./local.ts";
import type { Row } from "./row.ts";
import type { Rules } from "./rules.ts";
import { childrenOf, TABLES, type TableDefinition } from "./schema.ts";
import type { Work } from "./task.ts";
import type { Transaction } from "./transaction.ts";

export interface ApplyContext {
  readonly db: Database;
  readonly tx: Transaction;
  readonly rules: Rules;
  /** A CHECK that this contour has and others have not. */
  refuses(row: Row): boolean;
}

/** A row the group has written: what was there before, for those that must go back. */
export interface Written {
  readonly change: Incoming;
  readonly before: Row | null;
}

/** Applies a group, whole transactions of one source; what cannot be applied yet comes out as parked. */
export function* applyGroup(context: ApplyContext, changes: readonly Incoming[]): Work<Outcomes> {
  const group = new Group(context);
  yield* group.apply(changes);
  return group.outcomes;
}

class Group {
  readonly outcomes: Outcomes = new Map();
  readonly #context: ApplyContext;
  /** By table and key. */
  readonly #written = new Map<string, Written>();

  constructor(context: ApplyContext) {
    this.#context = context;
  }

  *apply(changes: readonly Incoming[]): Work<void> {
    const of = (table: TableDefinition, deletions: boolean) =>
      changes.filter((change) => change.table === table && isDelete(change) === deletions && !isTruncate(change));
    for (const change of changes) if (isTruncate(change)) yield* this.#truncate(change);
    const isParent = ({ name }: TableDefinition) => childrenOf(name).length > 0;
    for (const table of [...TABLES].reverse()) if (!isParent(table)) yield* this.#delete(table, of(table, true));
    for (const table of TABLES) yield* this.#upsert(table, of(table, false));
    const conflicts = new Conflicts(this.#context, this.outcomes, this.#written);
    yield* conflicts.parkOrphans();
    // Parents are deleted last: children that go or come in this group count as they will be. Unique values are settled
    // before a parent is revived, by the stamp it had: lifted above its deletion it would win over every rival, here as
    // there, and the contours would revive and remove for ever.
    const parents = TABLES.filter(isParent);
    for (const table of parents) yield* this.#deleteParents(table, of(table, true), conflicts, false);
    if (this.#context.rules.settlesBeforeReviving) yield* conflicts.settleUnique();
    for (const table of parents) yield* this.#deleteParents(table, of(table, true), conflicts, true);
    yield* conflicts.settleUnique();
  }

  /** A floor, and everything at or below it goes. */
  *#truncate(change: Incoming): Work<void> {
    const { db, tx, rules } = this.#context;
    const { table, stamp } = change;
    yield* lockTable(db, tx, table);
    if (rules.floors) db.addFloor(tx, table, stamp);
    for (const key of this.#beatenRows(table, () => stamp)) yield* this.#removeBeaten(table, key, stamp);
    this.outcomes.set(change, "applied");
  }

  *#delete(table: TableDefinition, changes: readonly Incoming[]): Work<void> {
    if (changes.length === 0) return;
    const { db, tx } = this.#context;
    yield* lockTable(db, tx, table);
    const greatest = this.#greatestDeletions(table, changes);
    // The statement's snapshot: a row that somebody commits from now on is not seen by it.
    const beaten = new Set(this.#beatenRows(table, (key) => greatest.get(key) ?? null));
    for (const [key, stamp] of greatest) yield* this.#bury(table, key, stamp);
    for (const [key, stamp] of greatest) if (beaten.has(key)) yield* this.#removeBeaten(table, key, stamp);
    this.#judgeDeletions(table, changes);
  }

  /** @param revives whether parents that children hold are lifted now, or left for later */
  *#deleteParents(
    table: TableDefinition,
    changes: readonly Incoming[],
    conflicts: Conflicts,
    revives: boolean,
  ): Work<void> {
    const left = changes.filter((change) => !this.outcomes.has(change));
    if (left.length === 0) return;
    const { db, tx } = this.#context;
    yield* lockTable(db, tx, table);
    const greatest = this.#greatestDeletions(table, left);
    const beaten = new Set(this.#beatenRows(table, (key) => greatest.get(key) ?? null));
    for (const [key, stamp] of greatest) {
      // Whoever inserts a child holds the parent FOR KEY SHARE: from here on the children are known.
      yield* lockRow(db, tx, table, key, "all");
      const row = db.row(table, key).read(tx);
      const goes = row !== null && beaten.has(key) && this.#deletes(stamp, row.stamp, table);
      const same = left.filter((change) => change.key === key);
      if (goes && conflicts.isHeld(table, key)) {
        if (!revives) continue;
        yield* conflicts.revive(table, row, stamp);
        for (const change of same) this.outcomes.set(change, "overridden");
        continue;
      }
      if (goes) yield* conflicts.clearChildren(table, key, this.#context.rules.capturesCascades);
      yield* this.#bury(table, key, stamp);
      if (goes) yield* this.#removeBeaten(table, key, stamp);
      this.#judgeDeletions(table, same);
    }
  }

  *#upsert(table: TableDefinition, changes: readonly Incoming[]): Work<void> {
    if (changes.length === 0) return;
    const { db, tx, rules } = this.#context;
    const policy = db.policy(table);
    yield* lockTable(db, tx, table);
    const byKey = new Map<string, Incoming[]>();
    for (const change of changes) byKey.set(change.key, [...(byKey.get(change.key) ?? []), change]);
    const candidates: Incoming[] = [];
    for (const key of [...byKey.keys()].sort()) {
      const same = byKey.get(key) ?? [];
      const best = rules.greatestRow(
        same.flatMap(({ row }) => (row ? [row] : [])),
        policy,
      );
      for (const change of same) this.outcomes.set(change, "beaten");
      const winner = same.find(({ row }) => row === best);
      // Tombstones and floors are looked at once, by the statement's snapshot.
      if (winner?.row && !this.#isBuried(table, key, winner.row)) candidates.push(winner);
    }
    for (const change of candidates) {
      const { row, key } = change;
      yield* lockRow(db, tx, table, key, "all");
      const there = db.row(table, key).read(tx);
      if (!row || (there && !rules.replaces(row, there, policy))) continue;
      if (this.#context.refuses(row)) {
        this.outcomes.set(change, "parked");
        continue;
      }
      yield* write(db, tx, table, key, row);
      this.#written.set(`${table.name} ${key}`, { change, before: there });
      this.outcomes.set(change, "applied");
    }
    if (rules.sweeps) yield* this.#sweep(table, candidates);
  }

  /**
   * A statement of its own: it sees the tombstones that were committed while the upsert waited. Only rows of the group go:
   * one that was here under its tombstone was committed by somebody who was told so, and may be a parent.
   */
  *#sweep(table: TableDefinition, changes: readonly Incoming[]): Work<void> {
    const { db, tx } = this.#context;
    for (const change of changes) {
      const row = db.row(table, change.key).read(tx);
      if (!row || row !== change.row || !this.#isBuried(table, change.key, row)) continue;
      const name = `${table.name} ${change.key}`;
      // As the group's second try does: what the upsert replaced comes back.
      yield* write(db, tx, table, change.key, this.#written.get(name)?.before ?? null);
      this.#written.delete(name);
      this.outcomes.set(change, "beaten");
    }
  }

  *#bury(table: TableDefinition, key: string, stamp: Stamp): Work<void> {
    const { db, tx, rules } = this.#context;
    if (!rules.tombstones) return;
    yield* db.lock(tx, `tombstone ${table.name} ${key}`, "all");
    const cell = db.tombstone(table, key);
    const there = cell.read(tx);
    if (!there || !this.#deletes(there, stamp, table)) cell.write(tx, stamp);
  }

  /** Waits for the row and looks at it again, as EvalPlanQual does. */
  *#removeBeaten(table: TableDefinition, key: string, stamp: Stamp): Work<void> {
    const { db, tx } = this.#context;
    yield* lockRow(db, tx, table, key, "all");
    const row = db.row(table, key).read(tx);
    if (row && this.#deletes(stamp, row.stamp, table)) yield* write(db, tx, table, key, null);
  }

  #beatenRows(table: TableDefinition, by: (key: string) => Stamp | null): string[] {
    const { db, tx } = this.#context;
    return keysOf(db, tx, table).filter((key) => {
      const stamp = by(key);
      const row = db.row(table, key).read(tx);
      return stamp !== null && row !== null && this.#deletes(stamp, row.stamp, table);
    });
  }

  #greatestDeletions(table: TableDefinition, changes: readonly Incoming[]): ReadonlyMap<string, Stamp> {
    const policy = this.#context.db.policy(table);
    const greatest = new Map<string, Stamp>();
    for (const key of [...new Set(changes.map((change) => change.key))].sort()) {
      const stamps = changes.filter((change) => change.key === key).map(({ stamp }) => stamp);
      const stamp = this.#context.rules.greatestStamp(stamps, policy);
      if (stamp) greatest.set(key, stamp);
    }
    return greatest;
  }

  #judgeDeletions(table: TableDefinition, changes: readonly Incoming[]): void {
    const { db, tx } = this.#context;
    for (const change of changes) {
      const row = db.row(table, change.key).read(tx);
      if (!this.outcomes.has(change)) this.outcomes.set(change, row ? "beaten" : "applied");
    }
  }

  #isBuried(table: TableDefinition, key: string, row: Row): boolean {
    const { db, tx } = this.#context;
    const tombstone = db.tombstone(table, key).read(tx);
    const deletions = [...(tombstone ? [tombstone] : []), ...db.floors(table, tx)];
    return deletions.some((stamp) => this.#deletes(stamp, row.stamp, table));
  }

  #deletes(deletion: Stamp, row: Stamp, table: TableDefinition): boolean {
    return this.#context.rules.deletes(deletion, row, this.#context.db.policy(table));
  }
}

function isDelete({ operation }: Incoming): boolean {
  return operation === "DELETE";
}

function isTruncate({ operation }: Incoming): boolean {
  return operation === "TRUNCATE";
}
