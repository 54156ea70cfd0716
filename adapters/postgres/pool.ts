/** The pool behind openDatabase: hands sessions out, takes them back, drops the broken ones. */
import { ReplicatorError } from "../../src/core/errors.ts";
import type { Address } from "./address.ts";
import {
  CONTROL_TIMEOUT_MS,
  type Connection,
  type Database,
  type DatabaseOptions,
  type Queryable,
} from "./database.ts";
import { LostAnswers } from "./lost_answers.ts";
import { type Param, type QueryOptions, type Row, Session } from "./session.ts";
import { sessionDefaults } from "./session_defaults.ts";
import { isSuspect } from "./silence.ts";
import { quoteIdentifier } from "./text.ts";

interface Waiter {
  readonly resolve: (session: Session | null) => void;
  readonly reject: (error: unknown) => void;
}

export class Pool implements Database {
  readonly label: string;
  readonly schema: string;
  readonly #quotedSchema: string;
  readonly #open: (signal?: AbortSignal) => Promise<Session>;
  readonly #max: number;
  readonly #idle: Session[] = [];
  readonly #all = new Set<Session>();
  readonly #waiters: Waiter[] = [];
  readonly #hooks: ((connection: Queryable) => Promise<void>)[] = [];
  readonly #closing = new AbortController();
  readonly #lostAnswers: LostAnswers;
  #opening = 0;

  constructor(options: DatabaseOptions, address: Address) {
    const queryTimeoutMs = options.queryTimeoutMs ?? 60_000;
    this.label = address.label;
    this.schema = options.schema ?? "replicator";
    this.#quotedSchema = quoteIdentifier(this.schema);
    this.#max = options.max ?? 4;
    this.#open = (signal) =>
      Session.open(
        {
          address,
          applicationName: options.applicationName,
          settings: { ...sessionDefaults(queryTimeoutMs), ...options.sessionSettings },
          schema: this.schema,
          connectTimeoutMs: options.connectTimeoutMs ?? 10_000,
          queryTimeoutMs,
          logger: options.logger,
        },
        signal ? AbortSignal.any([signal, this.#closing.signal]) : this.#closing.signal,
      );
    const { logger } = options;
    this.#lostAnswers = new LostAnswers({
      label: this.label,
      logger,
      sessions: () => this.#all,
      connect: (signal) => this.#open(signal),
    });
  }

  ours(text: string): string {
    return this.schema === "replicator" ? text : text.replaceAll('"replicator"', this.#quotedSchema);
  }

  async query<R extends Row = Row>(
    text: string,
    params?: readonly Param[],
    options?: QueryOptions,
  ): Promise<readonly R[]> {
    return this.#with((session) => session.query<R>(text, params, options), options);
  }

  async execute(text: string, params?: readonly Param[], options?: QueryOptions): Promise<number> {
    return this.#with((session) => session.execute(text, params, options), options);
  }

  async reserve(signal?: AbortSignal): Promise<Connection> {
    return new Reserved(await this.#acquire(signal), (session) => this.#release(session));
  }

  async transaction<T>(work: (connection: Connection) => Promise<T>, signal?: AbortSignal): Promise<T> {
    const connection = await this.reserve(signal);
    try {
      await connection.query("BEGIN", [], { signal });
      const result = await work(connection);
      await connection.query("COMMIT", [], { signal });
      return result;
    } catch (error) {
      await rollback(connection);
      throw error;
    } finally {
      connection.release();
    }
  }

  onConnect(hook: (connection: Queryable) => Promise<void>): void {
    this.#hooks.push(hook);
  }

  async ping(signal?: AbortSignal): Promise<void> {
    await this.query("SELECT 1", [], { signal, timeoutMs: 5_000, action: `reach ${this.label}` });
  }

  async close(): Promise<void> {
    if (this.#closing.signal.aborted) return;
    this.#closing.abort(closedError(this.label));
    this.#lostAnswers.close();
    for (const waiter of this.#waiters.splice(0)) waiter.reject(closedError(this.label));
    const idle = new Set(this.#idle.splice(0));
    for (const session of this.#all) if (!idle.has(session)) session.destroy(closedError(this.label));
    await Promise.all([...idle].map((session) => session.close()));
    this.#all.clear();
  }

  async #with<T>(work: (session: Session) => Promise<T>, options: QueryOptions = {}): Promise<T> {
    const session = this.#takeIdle() ?? (await this.#acquireWithin(options));
    try {
      return await work(session);
    } finally {
      this.#release(session);
    }
  }

  /** A connection that waits for work and may be thought alive. */
  #takeIdle(): Session | null {
    for (let idle = this.#idle.pop(); idle; idle = this.#idle.pop()) {
      if (!idle.broken && !isSuspect(this.label, idle.heardAt)) return idle;
      idle.destroy();
      this.#all.delete(idle);
    }
    return null;
  }

  /** A statement with a deadline of its own does not wait longer than that for a connection. */
  async #acquireWithin({ timeoutMs, signal, action = "run a statement" }: QueryOptions): Promise<Session> {
    if (timeoutMs === undefined) return this.#acquire(signal);
    const late = new AbortController();
    const timer = setTimeout(() => late.abort(noConnection(this.label, action, timeoutMs)), timeoutMs);
    try {
      return await this.#acquire(signal ? AbortSignal.any([signal, late.signal]) : late.signal);
    } finally {
      clearTimeout(timer);
    }
  }

  async #acquire(signal?: AbortSignal): Promise<Session> {
    for (;;) {
      signal?.throwIfAborted();
      if (this.#closing.signal.aborted) throw closedError(this.label);
      const idle = this.#takeIdle();
      if (idle) return idle;
      if (this.#all.size + this.#opening < this.#max) return this.#connect(signal);
      const handed = await this.#waitForSession(signal);
      if (handed && !handed.broken) return handed;
      if (handed) this.#all.delete(handed);
    }
  }

  async #connect(signal?: AbortSignal): Promise<Session> {
    this.#opening++;
    let session: Session | null = null;
    try {
      session = await this.#open(signal);
      for (const hook of this.#hooks) await hook(shortly(session));
      if (this.#closing.signal.aborted) throw closedError(this.label);
      this.#all.add(session);
      this.#lostAnswers.start();
      return session;
    } catch (error) {
      session?.destroy();
      throw error;
    } finally {
      this.#opening--;
      if (!session || session.broken) this.#waiters.shift()?.resolve(null);
    }
  }

  #release(session: Session): void {
    if (session.broken || this.#closing.signal.aborted) {
      session.destroy();
      this.#all.delete(session);
      // Its place is free: whoever waits may connect anew.
      this.#waiters.shift()?.resolve(null);
      return;
    }
    const waiter = this.#waiters.shift();
    if (waiter) waiter.resolve(session);
    else this.#idle.push(session);
  }

  /** A session given back, or null: look again. */
  #waitForSession(signal?: AbortSignal): Promise<Session | null> {
    return new Promise((resolve, reject) => {
      const onAbort = () => {
        const place = this.#waiters.indexOf(waiter);
        if (place >= 0) this.#waiters.splice(place, 1);
        reject(signal?.reason);
      };
      const stop = () => signal?.removeEventListener("abort", onAbort);
      const waiter: Waiter = {
        resolve: (session) => {
          stop();
          resolve(session);
        },
        reject: (error) => {
          stop();
          reject(error);
        },
      };
      signal?.addEventListener("abort", onAbort, { once: true });
      this.#waiters.push(waiter);
    });
  }
}

/** For those who look at a connection before anybody uses it: nothing they ask takes long. */
function shortly(session: Session): Queryable {
  const timeoutMs = CONTROL_TIMEOUT_MS;
  return {
    query: (text, params, options) => session.query(text, params, { timeoutMs, ...options }),
    execute: (text, params, options) => session.execute(text, params, { timeoutMs, ...options }),
  };
}

class Reserved implements Connection {
  readonly #session: Session;
  #giveBack: ((session: Session) => void) | null;

  constructor(session: Session, giveBack: (session: Session) => void) {
    this.#session = session;
    this.#giveBack = giveBack;
  }

  get broken(): boolean {
    return this.#session.broken;
  }
  query<R extends Row = Row>(text: string, params?: readonly Param[], options?: QueryOptions): Promise<readonly R[]> {
    return this.#session.query<R>(text, params, options);
  }
  execute(text: string, params?: readonly Param[], options?: QueryOptions): Promise<number> {
    return this.#session.execute(text, params, options);
  }
  script(text: string, options?: QueryOptions): Promise<void> {
    return this.#session.script(text, options);
  }
  release(): void {
    const giveBack = this.#giveBack;
    this.#giveBack = null;
    giveBack?.(this.#session);
  }
  destroy(): void {
    // Once given back it is somebody else's.
    if (this.#giveBack) this.#session.destroy();
    this.release();
  }
}

/** After a failure: the connection is clean again, or destroyed. Never throws: the failure itself is what matters. */
export async function rollback(connection: Connection): Promise<void> {
  if (connection.broken) return;
  try {
    await connection.query("ROLLBACK", [], { timeoutMs: 5_000 });
  } catch {
    connection.destroy();
  }
}

function noConnection(label: string, action: string, timeoutMs: number): ReplicatorError {
  return new ReplicatorError({
    code: "database.unreachable",
    message: `Cannot ${action}: no connection to ${label} within ${timeoutMs} ms`,
    retry: "backoff",
    fault: "environment",
    facts: { timeout_ms: timeoutMs },
  });
}

function closedError(label: string): ReplicatorError {
  return new ReplicatorError({
    code: "database.closed",
    message: `Cannot use ${label}: the connection pool is closed`,
    retry: "never",
    fault: "internal",
  });
}
