/** Opens the database: a small pool of sessions that speak text (I7) and never wait for ever. What the adapters import. */
import { Backoff } from "../../src/core/backoff.ts";
import { type Clock, systemClock } from "../../src/core/clock.ts";
import { ReplicatorError } from "../../src/core/errors.ts";
import type { Logger } from "../../src/core/logger.ts";
import { resolveAddress } from "./address.ts";
import type { Database, DatabaseOptions } from "./database.ts";
import { Pool } from "./pool.ts";

export type { AddressOptions, SslMode, SslOptions } from "./address.ts";
export type { Connection, Database, DatabaseOptions, Queryable } from "./database.ts";
export { CONTROL_TIMEOUT_MS } from "./database.ts";
export { rollback } from "./pool.ts";
export type { Param, QueryOptions, Row } from "./session.ts";
export { quoteIdentifier, textArray } from "./text.ts";

/** Makes the pool; nothing connects before the first query. @throws ReplicatorError `config.bad_database_url` */
export function openDatabase(options: DatabaseOptions): Database {
  return new Pool(options, resolveAddress(options));
}

/** Waits for the database for ever; says so once. @throws ReplicatorError with retry "never", or the signal's reason */
export async function waitForDatabase(
  db: Database,
  signal: AbortSignal,
  logger: Logger,
  clock: Clock = systemClock,
): Promise<void> {
  const backoff = new Backoff({ firstMs: 100, maxMs: 5_000 });
  for (;;) {
    signal.throwIfAborted();
    try {
      await db.ping(signal);
      if (backoff.attempts > 0) logger.info({ database: db.label }, "Database answers");
      return;
    } catch (error) {
      if (!(error instanceof ReplicatorError) || error.retry === "never") throw error;
      if (backoff.attempts === 0) {
        logger.warn(
          { database: db.label, code: error.code, reason: error.message },
          "Database is away, waiting for it",
        );
      }
      await clock.sleep(backoff.next(), signal);
    }
  }
}
