/** The captured changes of a contour, by transaction, and the cuts that frame them. */
import { endedBetween, hadEnded, parseSnapshot } from "../../../adapters/postgres/source/snapshot.ts";
import type { Operation } from "../../../src/core/chunk.ts";
import type { Stamp } from "../../../src/core/stamp.ts";
import type { TableDefinition } from "./schema.ts";

export interface QueueRow {
  readonly id: number;
  readonly xid: number;
  readonly table: TableDefinition;
  readonly operation: Operation;
  readonly key: string;
  readonly stamp: Stamp;
  readonly line: string;
  /** True when apply wrote it (law 3), false when an application did. */
  readonly override: boolean;
}

export class Queue {
  readonly #byXid = new Map<number, readonly QueueRow[]>();
  /** Committed rows, released ones included. */
  readonly all: QueueRow[] = [];
  #newest = 0;

  /** At the commit of its transaction. */
  add(rows: readonly QueueRow[]): void {
    const [first] = rows;
    if (!first) return;
    this.#byXid.set(first.xid, rows);
    this.all.push(...rows);
    this.#newest = Math.max(this.#newest, first.xid);
  }

  /** Whether a committed row has this xid or a later one. */
  hasFrom(xid: number): boolean {
    return this.#newest >= xid;
  }

  has(xid: number): boolean {
    return this.#byXid.has(xid);
  }

  /** The rows of a cut (architecture §4.2), transactions in the order of their last queue id. */
  between(snapFrom: string, snapTo: string): QueueRow[] {
    const from = parseSnapshot(snapFrom);
    const to = parseSnapshot(snapTo);
    const xids = endedBetween(from, to).filter((xid) => xid < from.xmax);
    for (let xid = from.xmax; xid < to.xmax; xid++) if (hadEnded(xid, to)) xids.push(xid);
    const transactions = xids.flatMap((xid) => {
      const rows = this.#byXid.get(Number(xid));
      return rows ? [rows] : [];
    });
    transactions.sort((a, b) => (a.at(-1)?.id ?? 0) - (b.at(-1)?.id ?? 0));
    return transactions.flat();
  }

  /** Drops a transaction's rows from what can be read (I3). */
  release(xid: number): void {
    this.#byXid.delete(xid);
  }

  get xids(): IterableIterator<number> {
    return this.#byXid.keys();
  }
}
