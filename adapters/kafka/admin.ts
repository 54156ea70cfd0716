/** The adapter's admin connection: opened on first use, dropped at the first failure, opened anew by the next call. */
import type { Admin } from "kafkajs";
import { isAbort } from "../../src/core/errors.ts";
import { withDeadline } from "./deadline.ts";
import { closedError, translate } from "./errors.ts";
import type { KafkaContext } from "./options.ts";
import { type KafkaSession, openSession } from "./session.ts";

interface OpenAdmin {
  readonly session: KafkaSession;
  readonly connected: Promise<Admin>;
}

const CALL_MS = 6_000;

export class AdminConnection {
  readonly #context: KafkaContext;
  readonly #closed = new AbortController();
  #open: OpenAdmin | null = null;

  constructor(context: KafkaContext) {
    this.#context = context;
  }

  /** Runs one call. @throws ReplicatorError, `broker.unreachable` after 6 s; the signal's reason when it aborts */
  async call<T>(action: string, signal: AbortSignal, work: (admin: Admin) => Promise<T>): Promise<T> {
    if (this.#closed.signal.aborted) throw closedError(action);
    signal.throwIfAborted();
    const open = this.#opened();
    const until = AbortSignal.any([signal, this.#closed.signal]);
    try {
      return await withDeadline(open.connected.then(work), CALL_MS, this.#context.clock, until);
    } catch (error) {
      if (this.#closed.signal.aborted) throw closedError(action);
      if (signal.aborted && isAbort(error)) throw error;
      // A client that failed once may hold stale metadata or a dead socket: the next call starts afresh.
      this.#drop(open);
      throw translate(error, action);
    }
  }

  #opened(): OpenAdmin {
    if (this.#open) return this.#open;
    const session = openSession(this.#context);
    const admin = session.kafka.admin();
    const connected = admin.connect().then(() => admin);
    connected.catch(() => undefined);
    this.#open = { session, connected };
    return this.#open;
  }

  #drop(open: OpenAdmin): void {
    if (this.#open === open) this.#open = null;
    open.session.destroy();
  }

  close(): void {
    this.#closed.abort();
    if (this.#open) this.#drop(this.#open);
  }
}
