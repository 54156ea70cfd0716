/** Transactions of the model: MVCC by cells, undo for savepoints, what becomes visible at the commit. */
import type { LockHolder, Mode } from "./locks.ts";
import type { QueueRow } from "./queue.ts";

/** A value with versions. One transaction at a time may have an uncommitted one: whoever writes holds the lock. */
export class Cell<T> {
  #committed: T | null = null;
  #pending: T | null = null;
  #writer: Transaction | null = null;
  /** Former values, and the commit that replaced them: what an old snapshot sees. */
  readonly #former: { readonly until: number; readonly value: T | null }[] = [];

  get committed(): T | null {
    return this.#committed;
  }

  /** As a new statement of the transaction sees it. */
  read(transaction: Transaction): T | null {
    return this.#writer === transaction ? this.#pending : this.#committed;
  }

  /** As the snapshot taken after commit number `at` sees it. */
  readAt(transaction: Transaction, at: number): T | null {
    if (this.#writer === transaction) return this.#pending;
    const former = this.#former.find(({ until }) => until > at);
    return former ? former.value : this.#committed;
  }

  write(transaction: Transaction, value: T | null): void {
    if (this.#writer !== null && this.#writer !== transaction)
      throw new Error(`${transaction.label} writes what ${this.#writer.label} has not committed`);
    const [writer, pending] = [this.#writer, this.#pending];
    if (writer === null) transaction.touched.add(this);
    this.#writer = transaction;
    this.#pending = value;
    transaction.undo.push(() => {
      this.#writer = writer;
      this.#pending = pending;
      if (writer === null) transaction.touched.delete(this);
    });
  }

  end(commit: number | null): void {
    if (commit !== null) {
      this.#former.push({ until: commit, value: this.#committed });
      this.#committed = this.#pending;
    }
    this.#writer = null;
    this.#pending = null;
  }

  /** A value that was there before everything. */
  seed(value: T): void {
    this.#committed = value;
  }
}

export class Transaction implements LockHolder {
  readonly label: string;
  readonly held = new Map<string, Mode>();
  waiting: LockHolder["waiting"] = null;
  readonly touched = new Set<Pick<Cell<unknown>, "end">>();
  readonly undo: (() => void)[] = [];
  /** Done when it commits, in order. */
  readonly atCommit: (() => void)[] = [];
  readonly captured: QueueRow[] = [];
  /** Null until it writes or locks a row. */
  xid: number | null = null;
  /** REPEATABLE READ: the number of the last commit it sees. */
  readonly snapshot: number | null;
  state: "open" | "committed" | "aborted" = "open";

  constructor(label: string, snapshot: number | null) {
    this.label = label;
    this.snapshot = snapshot;
  }

  /** Registers what is to be done at the commit; undone with the savepoint. */
  later(run: () => void): void {
    this.atCommit.push(run);
    this.undo.push(() => {
      this.atCommit.splice(this.atCommit.indexOf(run), 1);
    });
  }

  capture(row: QueueRow): void {
    this.captured.push(row);
    this.undo.push(() => {
      this.captured.splice(this.captured.indexOf(row), 1);
    });
  }

  get savepoint(): number {
    return this.undo.length;
  }

  rollbackTo(savepoint: number): void {
    for (const undo of this.undo.splice(savepoint).reverse()) undo();
  }
}
