/** The TargetStore port as one process sees it. A transaction lives on a connection: what breaks that, ends the transaction. */

import { ReplicatorError } from "../../../src/core/errors.ts";
import type { Lease } from "../../../src/core/lease.ts";
import type {
  ApplyBatch,
  ApplyOutcome,
  ApplyTransaction,
  LedgerKey,
  LedgerPosition,
  TargetStore,
} from "../../../src/core/target_store.ts";
import type { Host } from "../kernel/host.ts";
import type { Answer, Network } from "../kernel/network.ts";
import type { Random } from "../kernel/random.ts";
import type { Scheduler } from "../kernel/scheduler.ts";
import { type Incoming, type Outcome, Pieces } from "./incoming.ts";
import { SqlError } from "./sql_error.ts";
import type { TargetServer } from "./target.ts";
import type { Task, Work } from "./task.ts";
import type { Transaction } from "./transaction.ts";

export interface TargetPortOptions {
  readonly server: TargetServer;
  readonly host: Host;
  readonly network: Network;
  readonly scheduler: Scheduler;
  readonly random: Random;
}

/** A statement that waits longer is cancelled by its deadline. */
const STATEMENT_MS = 12_000;

export class TargetPort implements TargetStore {
  readonly #options: TargetPortOptions;

  constructor(options: TargetPortOptions) {
    this.#options = options;
  }

  open(): Promise<void> {
    return this.#ask("open the target", () => undefined);
  }

  lease(feed: string, partition: number, owner: string, ttlMs: number): Promise<Lease | null> {
    const { server, host } = this.#options;
    const askedAt = host.clock.monotonic();
    const name = leaseName(feed, partition);
    return this.#ask(`lease of ${name}`, () => server.leases.take(name, owner, ttlMs, askedAt));
  }

  releaseLease(feed: string, partition: number, lease: Lease): Promise<void> {
    const name = leaseName(feed, partition);
    return this.#ask(`give up ${name}`, () => this.#options.server.leases.giveUp(name, lease));
  }

  position(key: LedgerKey): Promise<LedgerPosition | null> {
    return this.#ask(`position of ${key.source}/${key.channel}`, () => this.#options.server.position(key));
  }

  async begin(key: LedgerKey, expected: LedgerPosition | null, feed: string, lease: Lease): Promise<ApplyTransaction> {
    const { server, random } = this.#options;
    const connection = new Connection(this.#options, `apply of ${key.source}/${key.channel}`);
    const name = leaseName(feed, key.partition);
    const begun = connection.run("begin", (tx) => server.fence(tx, key, expected, name, lease));
    begun.catch(() => undefined);
    // The answer may be awaited later (the port says so).
    if (random.chance(0.5)) {
      try {
        await begun;
      } catch (error) {
        connection.close();
        throw error;
      }
    }
    return new PortTransaction(this.#options, connection, begun, key);
  }

  retryParked(limit: number): Promise<{ readonly tried: number; readonly resolved: number }> {
    return this.#transact("try parked changes", (tx) => this.#options.server.retry(tx, limit));
  }

  recheckDeletes(): Promise<number> {
    return this.#transact("look at deletions again", (tx) => this.#options.server.recheck(tx));
  }

  trimConflictLog(): Promise<number> {
    return Promise.resolve(0);
  }

  counts() {
    const { server } = this.#options;
    const unknown = { dead: 0, conflicts: 0, parkedSince: null, parkedTables: [] };
    return this.#ask("counts", () => ({ parked: server.inbox.size, ...unknown }));
  }

  ping(): Promise<void> {
    return this.#ask("ping", () => undefined);
  }

  async close(): Promise<void> {}

  async #transact<T>(what: string, work: (tx: Transaction) => Work<T>): Promise<T> {
    const connection = new Connection(this.#options, what);
    try {
      const { db } = this.#options.server;
      return await connection.run(what, function* (tx) {
        const result = yield* work(tx);
        db.commit(tx);
        return result;
      });
    } finally {
      connection.close();
    }
  }

  #ask<T>(what: string, serve: () => T): Promise<T> {
    const { network, host, server } = this.#options;
    return network.ask(host, `database ${server.db.contour}`, what, serve);
  }
}

/** A session of the server. Its transaction ends with it; a process that dies lets go of its sessions. */
class Connection {
  readonly #options: TargetPortOptions;
  readonly #transaction: Transaction;
  /** Ends the statement that waits. */
  #cancel: () => void = () => undefined;
  #closed = false;
  readonly #underWay = new Set<(reason: unknown) => void>();

  constructor(options: TargetPortOptions, what: string) {
    this.#options = options;
    this.#transaction = options.server.db.begin(`${options.host.name} ${what}`);
    options.host.atDeath(() => this.close());
  }

  /** Runs a statement; it may wait for others' locks, up to its deadline. */
  run<T>(what: string, work: (transaction: Transaction) => Work<T>): Promise<T> {
    return this.#call(what, (answer: Answer<T>) => {
      const { scheduler, server } = this.#options;
      if (this.#transaction.state !== "open") return answer.failed(brokenConnection(what));
      this.#cancel = () => {
        if (task.ended) return;
        task.cancel();
        deadline.run = null;
        answer.failed(brokenConnection(what));
      };
      const deadline = scheduler.after(STATEMENT_MS, null, () => {
        this.#cancel();
        server.db.rollback(this.#transaction);
      });
      const task: Task<T> = server.db.run(work(this.#transaction), {
        done: (value) => {
          deadline.run = null;
          answer.done(value);
        },
        failed: (error) => {
          deadline.run = null;
          server.db.rollback(this.#transaction);
          answer.failed(error instanceof SqlError ? refused(error, what) : error);
        },
      });
    });
  }

  /** A statement that ends the transaction. */
  end<T>(what: string, serve: (transaction: Transaction) => T): Promise<T> {
    return this.#call(what, (answer: Answer<T>) => {
      if (this.#transaction.state !== "open") return answer.failed(brokenConnection(what));
      answer.done(serve(this.#transaction));
    });
  }

  /** Calls under way reject at once, whatever the server does. */
  abandon(): void {
    const { host, scheduler } = this.#options;
    for (const reject of this.#underWay) scheduler.after(0, host, () => reject(brokenConnection("given up")));
    this.#underWay.clear();
    this.close();
  }

  /** The server notices a little later, and rolls back what is not committed. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    const { scheduler, random, server } = this.#options;
    const notices = random.chance(0.9) ? random.between(0.1, 3) : random.between(3, 4_000);
    scheduler.after(notices, null, () => {
      this.#cancel();
      server.db.rollback(this.#transaction);
    });
  }

  #call<T>(what: string, serve: (answer: Answer<T>) => void): Promise<T> {
    const { network, host, server } = this.#options;
    const answered = network.call(host, `database ${server.db.contour}`, what, serve);
    return new Promise<T>((resolve, reject) => {
      this.#underWay.add(reject);
      const settle = () => this.#underWay.delete(reject);
      answered.finally(settle).then(resolve, reject);
    });
  }
}

class PortTransaction implements ApplyTransaction {
  readonly #options: TargetPortOptions;
  readonly #connection: Connection;
  readonly #begun: Promise<void>;
  readonly #key: LedgerKey;
  readonly #pieces = new Pieces();
  readonly #batches: ApplyBatch[] = [];
  readonly #outcomes: (readonly [Incoming, Outcome])[] = [];

  constructor(options: TargetPortOptions, connection: Connection, begun: Promise<void>, key: LedgerKey) {
    this.#options = options;
    this.#connection = connection;
    this.#begun = begun;
    this.#key = key;
  }

  async apply(batches: readonly ApplyBatch[]): Promise<void> {
    await this.#begun;
    const { source, channel } = this.#key;
    const changes = batches.flatMap((batch) => this.#pieces.take(source, batch));
    const what = `apply ${source}/${channel} ${batches.map(({ sequence }) => sequence).join()}`;
    const outcomes = await this.#connection.run(what, (tx) => this.#options.server.apply(tx, changes));
    this.#batches.push(...batches);
    this.#outcomes.push(...outcomes);
  }

  async commit(): Promise<ApplyOutcome> {
    await this.#begun;
    const { server, host } = this.#options;
    const last = this.#batches.at(-1);
    const what = `commit ${this.#key.source}/${this.#key.channel} ${last?.sequence}`;
    try {
      return await this.#connection.end(what, (tx) => {
        server.db.trace(() => `${host.name} ${what}: ${this.#outcomes.map(outcomeText).join("; ")}`);
        return server.commit(tx, this.#key, this.#batches, this.#outcomes);
      });
    } catch (error) {
      this.#connection.close();
      return await this.#lookUp(error);
    }
  }

  async rollback(): Promise<void> {
    this.#connection.close();
  }

  abandon(): void {
    this.#connection.abandon();
  }

  /** A lost answer is looked up in the ledger, not guessed. @throws `reason` when it was not committed */
  async #lookUp(reason: unknown): Promise<ApplyOutcome> {
    const connection = new Connection(this.#options, "look up");
    const last = this.#batches.at(-1);
    try {
      const found = await connection.run("look the ledger up", (tx) => this.#options.server.lookUp(tx, this.#key));
      if (!last || found?.epoch !== last.epoch || found.sequence !== last.sequence) throw reason;
      const changes = this.#outcomes.length;
      return { changes, applied: changes, beaten: 0, overridden: 0, parked: 0 };
    } finally {
      connection.close();
    }
  }
}

function outcomeText([change, outcome]: readonly [Incoming, Outcome]): string {
  return `${outcome} ${change.event} ${change.operation} ${change.table.name} ${change.row ?? change.key}`;
}

function leaseName(feed: string, partition: number): string {
  return `${feed}/${partition}`;
}

function brokenConnection(what: string): ReplicatorError {
  return new ReplicatorError({
    code: "simulation.broken",
    message: `The connection broke during: ${what}`,
    retry: "backoff",
    fault: "environment",
  });
}

/** Deadlocks and the like: the adapter calls them retryable. */
function refused({ state, message }: SqlError, what: string): ReplicatorError {
  return new ReplicatorError({
    code: `simulation.${state}`,
    message: `${what}: ${message}`,
    retry: "backoff",
    fault: "environment",
  });
}
