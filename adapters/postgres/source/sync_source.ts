/** The Sync port on PostgreSQL: sql/02h_periodic.sql does the work, one call of it is one transaction. */

import { type Clock, systemClock } from "../../../src/core/clock.ts";
import { ReplicatorError } from "../../../src/core/errors.ts";
import type { Lease } from "../../../src/core/lease.ts";
import type { Logger } from "../../../src/core/logger.ts";
import type { SyncBatch, SyncSource, SyncState } from "../../../src/core/sync_source.ts";
import { type Database, type DatabaseOptions, openDatabase, type Row, textArray } from "../connection.ts";
import { sqlState } from "../errors.ts";
import { Leases } from "./leases.ts";

export interface SyncSourceOptions {
  /** applicationName must not be `replicator_consumer`: what a poll lifts would go unstamped. */
  readonly database: Omit<DatabaseOptions, "logger" | "clock" | "max">;
  readonly logger: Logger;
  readonly clock?: Clock | undefined;
  /** Tables polled at the same time, a connection each; the others wait. Default 4. */
  readonly connections?: number | undefined;
}

/** A batch without an index that serves reads the whole table; comparing keys always does. */
const BATCH_MS = 600_000;

const TABLE = `
SELECT t.table_id, t.capture
FROM (SELECT parse_ident($1) AS parts) AS p
JOIN "replicator".replicated_table AS t
  ON t.table_name = p.parts[cardinality(p.parts)]
 AND t.schema_name = CASE WHEN cardinality(p.parts) > 1 THEN p.parts[1] ELSE 'public' END
WHERE cardinality(p.parts) <= 2 AND t.removed_at IS NULL`;

const BEGIN = `SELECT run_no FROM "replicator".sync_begin($1, $2::bigint * interval '1 ms')`;
const BATCH = `SELECT rows, (finished_at IS NOT NULL)::text AS finished FROM "replicator".sync_batch($1, $2)`;
const COMPARE = `SELECT "replicator".sync_compare_keys($1, $2::bigint * interval '1 ms') AS gone`;
const CONFIRM = `SELECT name FROM "replicator".sync_confirm() AS t(name)`;

const UTC = `AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'`;
const STATES = `
SELECT n.name AS "table", to_char(max(r.finished_at) FILTER (WHERE r.confirmed_at IS NOT NULL) ${UTC}) AS confirmed_run,
       to_char(max(r.finished_at) ${UTC}) AS last_run,
       coalesce((array_agg(r.rows ORDER BY r.run_no DESC) FILTER (WHERE r.finished_at IS NOT NULL))[1], 0) AS rows,
       coalesce(bool_or(r.finished_at IS NULL), false)::text AS running
FROM unnest($1::text[]) AS n(name)
CROSS JOIN LATERAL parse_ident(n.name) AS p(parts)
JOIN "replicator".replicated_table AS t
  ON t.table_name = p.parts[cardinality(p.parts)] AND t.removed_at IS NULL
 AND t.schema_name = CASE WHEN cardinality(p.parts) > 1 THEN p.parts[1] ELSE 'public' END
LEFT JOIN "replicator".sync_run AS r ON r.table_id = t.table_id AND r.run_no > 0
GROUP BY n.name`;

/** Nothing connects before the first call. */
export function createSyncSource(options: SyncSourceOptions): SyncSource {
  return new PostgresSyncSource(options);
}

class PostgresSyncSource implements SyncSource {
  readonly #control: Database;
  readonly #polls: Database;
  readonly #leases: Leases;

  constructor({ database, logger, clock = systemClock, connections = 4 }: SyncSourceOptions) {
    const shared = { ...database, logger, clock };
    this.#control = openDatabase({ ...shared, max: 2 });
    // A mark that was acted on must not be lost in a crash.
    const sessionSettings = { ...database.sessionSettings, synchronous_commit: "on" };
    this.#polls = openDatabase({ ...shared, max: connections, queryTimeoutMs: BATCH_MS, sessionSettings });
    this.#leases = new Leases(this.#control, clock);
  }

  lease(table: string, owner: string, ttlMs: number): Promise<Lease | null> {
    return this.#leases.take("sync", table, owner, ttlMs);
  }

  releaseLease(table: string, lease: Lease): Promise<void> {
    return this.#leases.giveUp("sync", table, lease);
  }

  async begin(table: string, overlapMs: number): Promise<void> {
    await this.#run(table, "begin to poll", BEGIN, Math.round(overlapMs));
  }

  async batch(table: string, size: number): Promise<SyncBatch> {
    const row = await this.#run<{ rows: string | null; finished: string }>(table, "poll", BATCH, size);
    return { rows: Number(row?.rows ?? 0), finished: row?.rows === null || row?.finished === "true" };
  }

  async compareKeys(table: string, pauseMs: number): Promise<number | null> {
    const row = await this.#run<{ gone: string | null }>(table, "compare the keys of", COMPARE, Math.round(pauseMs));
    return row?.gone == null ? null : Number(row.gone);
  }

  async confirm(): Promise<readonly string[]> {
    const action = "let sync_state follow";
    const rows = await this.#control.query<{ name: string }>(this.#control.ours(CONFIRM), [], { action });
    return rows.map(({ name }) => name);
  }

  async states(tables: readonly string[]): Promise<readonly SyncState[]> {
    type StateRow = Readonly<
      Record<"table" | "rows" | "running", string> & Record<"confirmed_run" | "last_run", string | null>
    >;
    const action = "read the state of the polls";
    const rows = await this.#control.query<StateRow>(this.#control.ours(STATES), [textArray(tables)], { action });
    return rows.map((row) => ({
      table: row.table,
      confirmedRun: row.confirmed_run,
      lastRun: row.last_run,
      rows: Number(row.rows),
      running: row.running === "true",
    }));
  }

  async close(): Promise<void> {
    await Promise.all([this.#control.close(), this.#polls.close()]);
  }

  async #run<R extends Row>(table: string, verb: string, text: string, parameter: number): Promise<R | undefined> {
    const action = `${verb} table ${table}`;
    const db = this.#polls;
    try {
      // Looked up each time: a table that is taken out and put back may have another id.
      const [known] = await db.query<{ table_id: string; capture: string }>(db.ours(TABLE), [table], { action });
      if (known?.capture !== "none") throw notPolled(table, db.label, known?.capture ?? null);
      const [row] = await db.query<R>(db.ours(text), [known.table_id, parameter], { action });
      return row;
    } catch (error) {
      throw explained(error, table);
    }
  }
}

/** What a person has to mend is said with the command; it is tried on all the same. */
function explained(error: unknown, table: string): unknown {
  if (!(error instanceof ReplicatorError)) return error;
  const state = sqlState(error);
  if (state !== "42P01" && state !== "42703" && state !== "42704" && state !== "42883") return error;
  return new ReplicatorError({
    code: "sync.table_changed",
    message: error.message,
    retry: "never",
    fault: "environment",
    remedy: `Run: replicator tables add ${table}  (as the owner, after the change of its columns)`,
    facts: error.facts,
    cause: error,
  });
}

function notPolled(table: string, label: string, capture: string | null): ReplicatorError {
  const found = capture === null ? "it is not under replication" : `triggers capture it (${capture})`;
  return new ReplicatorError({
    code: "sync.not_polled",
    message: `Cannot poll table ${table} of ${label}: ${found}`,
    retry: "never",
    fault: "environment",
    remedy: `Run: replicator tables add ${table}  (or take it out of non_critical_tables)`,
    facts: { table },
  });
}
