/**
 * One PostgreSQL connection: a porsager instance of max 1 around a socket of ours, thrown away when it breaks. So a
 * deadline can always destroy the socket (porsager has no query deadline and end() may never return: traps page), and
 * nothing reconnects behind our back in the middle of a transaction.
 */
import type net from "node:net";
import postgres from "postgres";
import { ReplicatorError } from "../../src/core/errors.ts";
import type { Logger } from "../../src/core/logger.ts";
import type { Address } from "./address.ts";
import { databaseError } from "./errors.ts";
import { noteSilence } from "./silence.ts";
import { openSocket } from "./socket.ts";

/** Everything is sent as text; `null` is SQL NULL. Arrays: see textArray. */
export type Param = string | number | bigint | boolean | null;
/** Every value is PostgreSQL's text, booleans too ("t", "f"); NULL is null (I7). */
export type Row = Readonly<Record<string, string | null>>;

export interface QueryOptions {
  /** Own deadline; when it passes the connection is destroyed and the error is `database.timeout`. */
  readonly timeoutMs?: number | undefined;
  /** Aborting destroys the connection: what the statement did is unknown then. */
  readonly signal?: AbortSignal | undefined;
  /** What is attempted, for the error's message: "take a cut". */
  readonly action?: string | undefined;
  /** Default true: parsed once a connection. False for statements whose text is hardly ever repeated. */
  readonly prepare?: boolean | undefined;
}

export interface SessionOptions {
  readonly address: Address;
  readonly applicationName: string;
  readonly settings: Readonly<Record<string, string>>;
  readonly schema: string;
  readonly connectTimeoutMs: number;
  readonly queryTimeoutMs: number;
  readonly logger: Logger;
}

interface Answer<R> {
  readonly rows: readonly R[];
  /** Rows affected, as the command tag says; 0 when it says nothing. */
  readonly count: number;
}

/** OIDs that porsager would parse or serialize: bool, bytea, int8/2/4, text, oid, json, float4/8, date and times, jsonb. */
const PARSED_TYPES = [16, 17, 20, 21, 23, 25, 26, 114, 700, 701, 1082, 1114, 1184, 3802];
/** A statement given up sooner than this says nothing about the network. */
const SILENT_MS = 1_000;
const AS_TEXT = { text: { to: 25, from: PARSED_TYPES, serialize: (x: unknown) => x, parse: (x: string) => x } };

export class Session {
  readonly #sql: postgres.Sql;
  readonly #socket: net.Socket;
  readonly #options: SessionOptions;
  /** Statements without an answer, oldest first, by their serial number. */
  readonly #outstanding = new Map<number, { readonly sentAt: number; fail(error: Error): void }>();
  #serial = 0;
  #pid: string | null = null;
  #heardAt = performance.now();
  #failure: Error | null = null;

  private constructor(options: SessionOptions, socket: net.Socket) {
    this.#options = options;
    this.#socket = socket;
    this.#sql = openClient(options, socket);
    socket.on("close", () => this.destroy(this.#error("CONNECTION_CLOSED", "the server closed the connection")));
  }

  /** Connects, authenticates and pins the session's settings. @throws ReplicatorError */
  static async open(options: SessionOptions, signal?: AbortSignal): Promise<Session> {
    const action = `connect to ${options.address.label}`;
    const deadline = AbortSignal.timeout(options.connectTimeoutMs);
    const either = signal ? AbortSignal.any([signal, deadline]) : deadline;
    let session: Session | null = null;
    try {
      session = new Session(options, await openSocket(options.address, either));
      const timeoutMs = options.connectTimeoutMs;
      const asked = { timeoutMs, signal, prepare: false, action };
      const [own] = await session.query<{ pid: string }>(settingsQuery(options.settings), [], asked);
      session.#pid = own?.pid ?? null;
      return session;
    } catch (error) {
      session?.destroy();
      if (signal?.aborted) throw signal.reason;
      if (deadline.aborted && !(error instanceof ReplicatorError)) throw unreachable(options, action);
      const failed = databaseError(error, action, options.schema);
      throw session && options.address.ssl.cert !== undefined ? hintAtCertificate(failed) : failed;
    }
  }

  get broken(): boolean {
    return this.#failure !== null;
  }

  /** Number of the backend at the server. */
  get pid(): string | null {
    return this.#pid;
  }

  /** The statement that has waited for its answer longest; times are performance.now(). */
  get waiting(): { readonly serial: number; readonly since: number } | null {
    for (const [serial, { sentAt }] of this.#outstanding) return { serial, since: sentAt };
    return null;
  }

  /** Bytes that came from the server so far. */
  get received(): number {
    return this.#socket.bytesRead;
  }

  /** When the server last answered a statement; performance.now(). */
  get heardAt(): number {
    return this.#heardAt;
  }

  /** Runs one statement. Several calls without awaiting are pipelined and answered in order. @throws ReplicatorError */
  async query<R extends Row = Row>(
    text: string,
    params: readonly Param[] = [],
    options: QueryOptions = {},
  ): Promise<readonly R[]> {
    return (await this.#run<R>(text, params, options, false)).rows;
  }

  /** The same; returns how many rows the command tag counts. */
  async execute(text: string, params: readonly Param[] = [], options: QueryOptions = {}): Promise<number> {
    return (await this.#run(text, params, options, false)).count;
  }

  /** Several statements in one text, without parameters (setup files). One implicit transaction unless the text says BEGIN. */
  async script(text: string, options: QueryOptions = {}): Promise<void> {
    await this.#run(text, [], options, true);
  }

  /** Ends the connection at once; what is under way rejects with `reason`. Safe to call twice. */
  destroy(reason: Error = this.#error("CONNECTION_DESTROYED", "the connection was given up")): void {
    if (this.#failure) return;
    this.#failure = reason;
    this.#socket.destroy();
    for (const { fail } of [...this.#outstanding.values()]) fail(reason);
  }

  /** Says goodbye to the server and closes; never waits longer than a second. Safe to call twice. */
  async close(): Promise<void> {
    if (this.#failure) return;
    let timer: ReturnType<typeof setTimeout> | undefined;
    const late = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, 1_000);
    });
    await Promise.race([this.#sql.end({ timeout: 1 }), late]);
    clearTimeout(timer);
    this.destroy();
  }

  #run<R extends Row>(
    text: string,
    params: readonly Param[],
    options: QueryOptions,
    simple: boolean,
  ): Promise<Answer<R>> {
    const action = options.action ?? "run a statement";
    const { schema, queryTimeoutMs, address } = this.#options;
    const { label } = address;
    return new Promise<Answer<R>>((resolve, reject) => {
      const { signal, timeoutMs = queryTimeoutMs } = options;
      if (signal?.aborted) return reject(signal.reason);
      const serial = ++this.#serial;
      const sentAt = performance.now();
      const finish = () => {
        this.#outstanding.delete(serial);
        clearTimeout(timer);
        signal?.removeEventListener("abort", onAbort);
      };
      const fail = (error: unknown) => {
        finish();
        reject(databaseError(error, action, schema));
      };
      const heard = (act: () => void) => {
        this.#heardAt = performance.now();
        finish();
        act();
      };
      const giveUp = (error: Error | undefined, rejection: unknown) => {
        finish();
        reject(rejection);
        if (this.#failure === null && performance.now() - sentAt > SILENT_MS) noteSilence(label, sentAt);
        this.destroy(error);
      };
      const onAbort = () => giveUp(undefined, signal?.reason);
      const onDeadline = () => {
        const error = timedOut(action, this.#options.address, timeoutMs);
        giveUp(error, error);
      };
      const timer = setTimeout(onDeadline, timeoutMs);
      if (this.#failure) return fail(this.#failure);
      this.#outstanding.set(serial, { sentAt, fail });
      signal?.addEventListener("abort", onAbort, { once: true });
      const prepare = !simple && (options.prepare ?? true);
      const values = params.map((value) => (value === null ? null : String(value)));
      // AS_TEXT makes every value text or null, which is what R is made of; its names are the caller's statement's.
      this.#sql.unsafe<R[]>(text, values, { prepare, simple } as postgres.UnsafeQueryOptions).then(
        (rows) => heard(() => resolve({ rows, count: rows.count ?? 0 })),
        (error: unknown) => heard(() => fail(error)),
      );
    });
  }

  #error(code: string, message: string): Error {
    return Object.assign(new Error(message), { code });
  }
}

function openClient(options: SessionOptions, socket: net.Socket): postgres.Sql {
  const { address, applicationName, logger } = options;
  let used = false;
  const client = {
    host: address.host,
    port: address.port,
    database: address.database,
    username: address.user,
    password: address.password,
    max: 1,
    idle_timeout: 0,
    connect_timeout: 0,
    max_lifetime: null,
    fetch_types: false,
    ssl: false,
    types: AS_TEXT,
    connection: { application_name: applicationName },
    onnotice: (notice: postgres.Notice) => logger.debug({ notice: notice.message }, "PostgreSQL says"),
    // Called again when porsager wants to reconnect: a broken session stays broken.
    socket: () => {
      if (used) throw Object.assign(new Error("the server closed the connection"), { code: "CONNECTION_CLOSED" });
      used = true;
      return socket;
    },
  };
  return postgres(client as postgres.Options<Record<string, postgres.PostgresType>>);
}

function settingsQuery(settings: Readonly<Record<string, string>>): string {
  const quote = (text: string) => `'${text.replaceAll("'", "''")}'`;
  const calls = Object.entries(settings).map(([name, value]) => `set_config(${quote(name)}, ${quote(value)}, false)`);
  return `SELECT ${["pg_backend_pid() AS pid", ...calls].join(", ")}`;
}

function timedOut(action: string, address: Address, timeoutMs: number): ReplicatorError {
  return new ReplicatorError({
    code: "database.timeout",
    message: `Cannot ${action}: ${address.label} did not answer within ${timeoutMs} ms`,
    retry: "backoff",
    fault: "environment",
    facts: { timeout_ms: timeoutMs },
  });
}

/**
 * With TLS 1.3 a server that does not accept our certificate closes after the handshake, without a word. It may have
 * crashed just then, so it is still tried again.
 */
function hintAtCertificate(error: Error): Error {
  if (!(error instanceof ReplicatorError) || error.facts.error_code !== "CONNECTION_CLOSED") return error;
  return new ReplicatorError({
    code: error.code,
    message: `${error.message} right after the TLS handshake, as for a client certificate it does not accept`,
    retry: error.retry,
    fault: error.fault,
    remedy: "Check database.sslcert and sslkey, and the authority the server trusts for clients (ssl_ca_file)",
    facts: error.facts,
    cause: error.cause,
  });
}

function unreachable(options: SessionOptions, action: string): ReplicatorError {
  return new ReplicatorError({
    code: "database.unreachable",
    message: `Cannot ${action}: no answer within ${options.connectTimeoutMs} ms`,
    retry: "backoff",
    fault: "environment",
  });
}
