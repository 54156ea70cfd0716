/** The server's side of the TargetStore port: the ledger and its fence, apply transactions, the inbox. */

import { ReplicatorError } from "../../../src/core/errors.ts";
import type { Lease } from "../../../src/core/lease.ts";
import { leaseLost } from "../../../src/core/lease_keeper.ts";
import type { ApplyBatch, ApplyOutcome, LedgerKey, LedgerPosition } from "../../../src/core/target_store.ts";
import { type ApplyContext, applyGroup } from "./apply.ts";
import type { Database } from "./database.ts";
import { Inbox } from "./inbox.ts";
import type { Incoming, Outcome } from "./incoming.ts";
import { Leases } from "./leases.ts";
import { lookAgain } from "./recheck.ts";
import type { Row } from "./row.ts";
import type { Rules } from "./rules.ts";
import type { Work } from "./task.ts";
import { Cell, type Transaction } from "./transaction.ts";

/** An apply transaction has committed: where the ledger stands now, and what it brought. */
export interface Applied {
  readonly contour: string;
  readonly ledger: LedgerKey;
  readonly last: ApplyBatch;
  /** The first sequence number of it, and what came of each change. */
  readonly batches: readonly ApplyBatch[];
  readonly outcomes: readonly (readonly [Incoming, Outcome])[];
}

export interface TargetServerOptions {
  readonly db: Database;
  readonly rules: Rules;
  /** A CHECK of this contour alone, until it is mended. */
  refuses(row: Row): boolean;
  onApplied(applied: Applied): void;
  /** A parked change has been settled. */
  onSettled(contour: string, change: Incoming, outcome: Outcome): void;
}

export class TargetServer {
  readonly db: Database;
  readonly leases: Leases;
  readonly inbox = new Inbox();
  readonly #options: TargetServerOptions;
  readonly #ledger = new Map<string, Cell<LedgerPosition>>();

  constructor(options: TargetServerOptions) {
    this.#options = options;
    this.db = options.db;
    this.leases = new Leases(options.db);
  }

  position(key: LedgerKey): LedgerPosition | null {
    return this.#options.rules.ledger ? this.#cell(key).committed : null;
  }

  /** Locks the ledger, then verifies position and lease. @throws `ledger.moved`, `lease.lost` */
  *fence(tx: Transaction, key: LedgerKey, expected: LedgerPosition | null, feed: string, lease: Lease): Work<void> {
    yield* this.db.lock(tx, `ledger ${nameOf(key)}`, "all");
    // Partitions go side by side; what is tried again goes by itself.
    yield* this.db.lock(tx, `apply ${key.source}/${key.channel}`, "share");
    if (!this.#options.rules.fence) return;
    if (!this.leases.holds(feed, lease, true)) throw leaseLost(feed);
    const found = this.position(key);
    if (found?.epoch === expected?.epoch && found?.sequence === expected?.sequence) return;
    throw new ReplicatorError({
      code: "ledger.moved",
      message: `The ledger ${nameOf(key)} stands at ${found?.sequence ?? "nothing"}, expected ${expected?.sequence ?? "nothing"}`,
      retry: "now",
      fault: "environment",
    });
  }

  /** One group of an apply transaction. */
  *apply(tx: Transaction, changes: readonly Incoming[]): Work<ReadonlyMap<Incoming, Outcome>> {
    const context = this.#context(tx);
    const outcomes = yield* applyGroup(context, changes);
    for (const [change, outcome] of outcomes) {
      if (outcome === "parked") yield* this.inbox.park(context, change);
      if (change.row === null) this.#recheckLater(tx, change);
    }
    return outcomes;
  }

  /** The position and all that was applied become visible together. */
  commit(
    tx: Transaction,
    ledger: LedgerKey,
    batches: readonly ApplyBatch[],
    outcomes: readonly (readonly [Incoming, Outcome])[],
  ): ApplyOutcome {
    const last = batches.at(-1);
    if (!last) throw new Error("Commits an apply transaction that has applied nothing");
    const { epoch, sequence, cutNo, next } = last;
    if (this.#options.rules.ledger) this.#cell(ledger).write(tx, { epoch, sequence, cutNo, position: next });
    this.db.commit(tx);
    this.#options.onApplied({ contour: this.db.contour, ledger, last, batches, outcomes });
    const count = (wanted: Outcome) => outcomes.filter(([, outcome]) => outcome === wanted).length;
    const [beaten, parked] = [count("beaten"), count("parked")];
    const overridden = count("overridden");
    const applied = outcomes.length - beaten - overridden - parked;
    return { changes: outcomes.length, applied, beaten, overridden, parked };
  }

  /** Waits until whoever holds the ledger has ended, then tells where it stands. */
  *lookUp(tx: Transaction, key: LedgerKey): Work<LedgerPosition | null> {
    yield* this.db.lock(tx, `ledger ${nameOf(key)}`, "all");
    return this.position(key);
  }

  /** Deletions looked at again, in a transaction of its own. Returns how many rows were lifted. */
  *recheck(tx: Transaction): Work<number> {
    const before = tx.captured.length;
    yield* lookAgain(this.#context(tx), this.db.secondLooks.due);
    return tx.captured.length - before;
  }

  /** Parked changes tried again, in a transaction of its own. */
  *retry(tx: Transaction, limit: number): Work<{ readonly tried: number; readonly resolved: number }> {
    const { db } = this;
    const settled: (readonly [Incoming, Outcome])[] = [];
    const result = yield* this.inbox.retry(this.#context(tx), limit, (change, outcome) => {
      settled.push([change, outcome]);
      if (change.row === null) this.#recheckLater(tx, change);
    });
    tx.later(() => {
      for (const [change, outcome] of settled) this.#options.onSettled(db.contour, change, outcome);
    });
    return result;
  }

  #recheckLater(tx: Transaction, { table, operation, key }: Incoming): void {
    if (this.#options.rules.looksAgain) this.db.lookAgain(tx, table, operation === "TRUNCATE" ? null : key);
  }

  #context(tx: Transaction): ApplyContext {
    const { db, rules, refuses } = this.#options;
    return { db, tx, rules, refuses };
  }

  #cell(key: LedgerKey): Cell<LedgerPosition> {
    const name = nameOf(key);
    let cell = this.#ledger.get(name);
    if (!cell) {
      cell = new Cell<LedgerPosition>();
      this.#ledger.set(name, cell);
    }
    return cell;
  }
}

function nameOf({ source, channel, partition }: LedgerKey): string {
  return `${source}/${channel}/${partition}`;
}
