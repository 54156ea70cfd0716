/**
 * Appliers of one database side by side (several sources, channels, processes) and in turn. Each apply transaction locks
 * rows in the order of its own changes, so two that write the same rows in different order deadlock; PostgreSQL notices
 * after a second and ends one of them, whose work is lost. Where that happens they go one after the other for a while:
 * within a process by a queue, between processes by an advisory lock.
 */
import type { Clock } from "../../../src/core/clock.ts";
import type { ApplyTransaction } from "../../../src/core/target_store.ts";
import { type Connection, rollback } from "../connection.ts";
import { sqlState } from "../errors.ts";

/** How long they go in turn after a deadlock: longer each time until it has been calm for as long again. */
const FIRST_MS = 10_000;
const LONGEST_MS = 300_000;
/** A transaction may be applied while it arrives, for minutes: one does not wait for its end, nor lets others wait. */
const WAIT_MS = 2_000;
/** First key of the advisory locks: "repl". */
const LOCK_CLASS = 0x7265706c;

/** Leave to apply, to be given back when the transaction has ended; twice is safe. */
export interface Turn {
  /** What the script that goes on with the transaction starts with. */
  readonly opening: string;
  end(): void;
}

export class Turns {
  readonly #clock: Clock;
  readonly #lock: string;
  #until = Number.NEGATIVE_INFINITY;
  #lasting = FIRST_MS;
  /** Resolves when all turns taken so far in this process have ended. */
  #last: Promise<void> = Promise.resolve();

  /** `schema`: ours, quoted: installations in one database do not disturb each other. */
  constructor(schema: string, clock: Clock) {
    this.#clock = clock;
    this.#lock = `(${LOCK_CLASS}, hashtext('${schema.replaceAll("'", "''")}'))`;
  }

  /** Waits for a turn where they are taken, and begins the transaction then; else nothing is sent yet. */
  async take(connection: Connection): Promise<Turn> {
    const together = { opening: `BEGIN; SELECT pg_advisory_xact_lock_shared${this.#lock}`, end: () => undefined };
    if (this.#clock.monotonic() >= this.#until) return together;
    const before = this.#last;
    let end: () => void = () => undefined;
    const ended = new Promise<void>((resolve) => {
      end = resolve;
    });
    this.#last = before.then(() => ended);
    const mine = await this.#within(before);
    try {
      const timeout = `SET LOCAL lock_timeout = '${WAIT_MS}ms'`;
      if (mine) {
        await connection.script(`BEGIN; ${timeout}; SELECT pg_advisory_xact_lock${this.#lock}`, {
          action: "wait for the turn to apply",
        });
        return { opening: "SET LOCAL lock_timeout = DEFAULT", end };
      }
    } catch (error) {
      await rollback(connection);
      end();
      if (sqlState(error) !== "55P03") throw error;
    }
    return { ...together, end };
  }

  /** Does work of an apply transaction; a deadlock puts all that follows in turn. */
  async watch<T>(work: Promise<T>): Promise<T> {
    try {
      return await work;
    } catch (error) {
      if (sqlState(error) === "40P01") this.#deadlocked();
      throw error;
    }
  }

  /** The transaction with its turn, which ends with it. */
  watching(transaction: ApplyTransaction, turn: Turn): ApplyTransaction {
    return {
      apply: (batches) => this.watch(transaction.apply(batches)),
      commit: () => this.watch(transaction.commit()).finally(() => turn.end()),
      rollback: () => transaction.rollback().finally(() => turn.end()),
      abandon: () => {
        transaction.abandon();
        turn.end();
      },
    };
  }

  #deadlocked(): void {
    const now = this.#clock.monotonic();
    const calm = now > this.#until + this.#lasting;
    this.#lasting = calm ? FIRST_MS : Math.min(2 * this.#lasting, LONGEST_MS);
    this.#until = now + this.#lasting;
  }

  async #within(before: Promise<void>): Promise<boolean> {
    const late = new AbortController();
    const timeout = this.#clock.sleep(WAIT_MS, late.signal).then(
      () => false,
      () => false,
    );
    const first = await Promise.race([before.then(() => true), timeout]);
    late.abort();
    return first;
  }
}
