/** The database as the postgres adapters see it: what a pool, a connection and a query owe. */
import type { Clock } from "../../src/core/clock.ts";
import type { Logger } from "../../src/core/logger.ts";
import type { AddressOptions } from "./address.ts";
import type { Param, QueryOptions, Row } from "./session.ts";

/**
 * Deadline of statements that only look something up or write a row of ours: leases, cuts, positions, confirmations. Behind
 * a network that swallows packets they are given up after it, and a connection made anew finds out more.
 */
export const CONTROL_TIMEOUT_MS = 10_000;

export interface DatabaseOptions extends AddressOptions {
  /** `replicator_consumer` is the consumer's mark (interface §3): use another name everywhere else. */
  readonly applicationName: string;
  /** Where our objects live; default `replicator`. */
  readonly schema?: string | undefined;
  /** Most connections at a time; default 4. */
  readonly max?: number | undefined;
  readonly logger: Logger;
  readonly clock?: Clock | undefined;
  /** Settings of every session, over the defaults below (names and values as SET takes them). */
  readonly sessionSettings?: Readonly<Record<string, string>> | undefined;
  /** Default 10 s. */
  readonly connectTimeoutMs?: number | undefined;
  /** Deadline of a query that names none; default 60 s. The server's statement_timeout is set to the same. */
  readonly queryTimeoutMs?: number | undefined;
}

/** What a statement can be sent to. */
export interface Queryable {
  query<R extends Row = Row>(text: string, params?: readonly Param[], options?: QueryOptions): Promise<readonly R[]>;
  /** Number of rows affected. */
  execute(text: string, params?: readonly Param[], options?: QueryOptions): Promise<number>;
}

/** A connection of one's own, for transactions, cursors and pipelines. Give it back with release() outside a transaction. */
export interface Connection extends Queryable {
  script(text: string, options?: QueryOptions): Promise<void>;
  readonly broken: boolean;
  /** Back into the pool, or closed when broken. Safe to call twice. */
  release(): void;
  /** Closes it without asking the server; use when its state is unknown. Safe to call twice. */
  destroy(): void;
}

export interface Database extends Queryable {
  readonly label: string;
  /** Name of our schema, unquoted. */
  readonly schema: string;
  /** Statement text with `"replicator"` replaced by our schema's quoted name. */
  ours(text: string): string;
  reserve(signal?: AbortSignal): Promise<Connection>;
  /** BEGIN … COMMIT on a connection of its own; rolled back when `work` throws. An error of COMMIT leaves the outcome unknown. */
  transaction<T>(work: (connection: Connection) => Promise<T>, signal?: AbortSignal): Promise<T>;
  /** Runs on every connection made from now on, before anybody gets it; when it throws the connection is closed. */
  onConnect(hook: (connection: Queryable) => Promise<void>): void;
  /** @throws ReplicatorError */
  ping(signal?: AbortSignal): Promise<void>;
  /** Ends what is under way within a second. Safe to call twice. */
  close(): Promise<void>;
}
