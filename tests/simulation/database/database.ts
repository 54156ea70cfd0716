/** One contour's database: rows, tombstones and floors under transactions, the queue, a clock of its own. */
import type { ConflictPolicy, Stamp } from "../../../src/core/stamp.ts";
import type { Random } from "../kernel/random.ts";
import type { Scheduler } from "../kernel/scheduler.ts";
import { Locks, type Mode } from "./locks.ts";
import { Queue } from "./queue.ts";
import type { Row } from "./row.ts";
import { type Policies, TABLES, type TableDefinition } from "./schema.ts";
import { SecondLooks } from "./second_looks.ts";
import { type Settled, Task, type Work } from "./task.ts";
import { Cell, Transaction } from "./transaction.ts";

export interface DatabaseOptions {
  readonly contour: string;
  readonly scheduler: Scheduler;
  readonly random: Random;
  readonly policies: Policies;
  /** Planted fault: the stamp of an INSERT is made before it waits for whoever holds its key. */
  readonly stampsBeforeWaiting: boolean;
  /** Called when a transaction has committed. */
  onCommit(transaction: Transaction): void;
  trace(line: () => string): void;
}

interface Floor {
  readonly stamp: Stamp;
  /** Null once it is committed. */
  writer: Transaction | null;
  /** Number of the commit that brought it. */
  commit: number;
}

interface Content {
  readonly rows: Map<string, Cell<Row>>;
  readonly tombstones: Map<string, Cell<Stamp>>;
  readonly floors: Floor[];
}

/** A task that waits for a lock. */
type Sleeper = Pick<Task<never>, "advance">;

/** 2026-01-01, in microseconds: where every clock of the model begins. */
const BEGINNING_US = 1_767_225_600_000_000n;

export class Database {
  readonly contour: string;
  readonly policies: Policies;
  readonly stampsBeforeWaiting: boolean;
  readonly queue = new Queue();
  readonly secondLooks = new SecondLooks();
  readonly open = new Set<Transaction>();
  /** Number of commits so far. */
  commits = 0;
  /** How far its clock is from true time, in ms. */
  skewMs = 0;
  readonly #options: DatabaseOptions;
  readonly #content: ReadonlyMap<string, Content>;
  readonly #locks = new Locks();
  readonly #waiters = new Map<string, Sleeper[]>();
  #nextXid = 3;
  #nextId = 1;

  constructor(options: DatabaseOptions) {
    this.#options = options;
    this.contour = options.contour;
    this.policies = options.policies;
    this.stampsBeforeWaiting = options.stampsBeforeWaiting;
    this.#content = new Map(
      TABLES.map(({ name }) => [name, { rows: new Map(), tombstones: new Map(), floors: [] } satisfies Content]),
    );
  }

  policy(table: TableDefinition): ConflictPolicy {
    return this.policies[table.name] ?? "version";
  }

  /** clock_timestamp(), in microseconds since 1970. */
  clock(): bigint {
    return BEGINNING_US + BigInt(Math.floor((this.#options.scheduler.now + this.skewMs) * 1_000));
  }

  /** The same in ms since the beginning: for leases and attempts. */
  clockMs(): number {
    return this.#options.scheduler.now + this.skewMs;
  }

  row(table: TableDefinition, key: string): Cell<Row> {
    return cellOf(this.#of(table).rows, key);
  }

  rows(table: TableDefinition): ReadonlyMap<string, Cell<Row>> {
    return this.#of(table).rows;
  }

  tombstone(table: TableDefinition, key: string): Cell<Stamp> {
    return cellOf(this.#of(table).tombstones, key);
  }

  tombstones(table: TableDefinition): ReadonlyMap<string, Cell<Stamp>> {
    return this.#of(table).tombstones;
  }

  /** The floors a new statement of the transaction sees, or one with the snapshot taken after commit `at`. */
  floors(table: TableDefinition, transaction: Transaction, at = Number.POSITIVE_INFINITY): readonly Stamp[] {
    const seen = this.#of(table).floors.filter(
      ({ writer, commit }) => writer === transaction || (writer === null && commit <= at),
    );
    return seen.map(({ stamp }) => stamp);
  }

  addFloor(transaction: Transaction, table: TableDefinition, stamp: Stamp): void {
    const { floors } = this.#of(table);
    const floor: Floor = { stamp, writer: transaction, commit: 0 };
    floors.push(floor);
    transaction.undo.push(() => {
      floors.splice(floors.indexOf(floor), 1);
    });
    transaction.later(() => {
      floor.writer = null;
      floor.commit = this.commits;
    });
  }

  /** A key, or with null a whole table, to be looked at again after the transaction's commit. */
  lookAgain(transaction: Transaction, table: TableDefinition, key: string | null): void {
    transaction.later(() => this.secondLooks.add(transaction, this.open, table, key));
  }

  /** @param repeatableRead it sees what is committed now, and no more */
  begin(label: string, repeatableRead = false): Transaction {
    const transaction = new Transaction(label, repeatableRead ? this.commits : null);
    this.open.add(transaction);
    return transaction;
  }

  assignXid(transaction: Transaction): number {
    transaction.xid ??= this.#nextXid++;
    return transaction.xid;
  }

  nextQueueId(): number {
    return this.#nextId++;
  }

  /** pg_current_snapshot(), as text. */
  snapshot(): string {
    const xip = [...this.open].flatMap(({ xid }) => (xid === null ? [] : [xid])).sort((a, b) => a - b);
    return `${xip[0] ?? this.#nextXid}:${this.#nextXid}:${xip.join(",")}`;
  }

  *lock(transaction: Transaction, resource: string, mode: Mode): Work<void> {
    this.assignXid(transaction);
    while (!this.#locks.take(transaction, resource, mode)) yield { waitFor: resource };
  }

  /** Runs work at once until it waits; it goes on by itself. */
  run<T>(work: Work<T>, settled: Settled<T>): Task<T> {
    const { scheduler } = this.#options;
    const task = new Task(scheduler, work, settled, (resource, waiting) => {
      const waiters = this.#waiters.get(resource);
      if (waiters) waiters.push(waiting);
      else this.#waiters.set(resource, [waiting]);
    });
    task.advance();
    return task;
  }

  commit(transaction: Transaction): void {
    if (transaction.state !== "open") throw new Error(`${transaction.label} has ended already`);
    this.commits++;
    for (const cell of transaction.touched) cell.end(this.commits);
    for (const run of transaction.atCommit) run();
    this.queue.add(transaction.captured);
    transaction.state = "committed";
    this.#end(transaction);
    this.#options.onCommit(transaction);
  }

  rollback(transaction: Transaction): void {
    if (transaction.state !== "open") return;
    transaction.rollbackTo(0);
    transaction.state = "aborted";
    this.#end(transaction);
  }

  trace(line: () => string): void {
    this.#options.trace(line);
  }

  #end(transaction: Transaction): void {
    this.open.delete(transaction);
    const { scheduler, random } = this.#options;
    for (const resource of this.#locks.release(transaction)) {
      const waiters = this.#waiters.get(resource);
      this.#waiters.delete(resource);
      for (const task of waiters ?? []) scheduler.after(random.between(0.01, 0.3), null, () => task.advance());
    }
  }

  #of({ name }: TableDefinition): Content {
    const content = this.#content.get(name);
    if (!content) throw new Error(`The model has no table "${name}"`);
    return content;
  }
}

function cellOf<T>(cells: Map<string, Cell<T>>, key: string): Cell<T> {
  let cell = cells.get(key);
  if (!cell) {
    cell = new Cell<T>();
    cells.set(key, cell);
  }
  return cell;
}
