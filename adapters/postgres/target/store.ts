/** The TargetStore port over PostgreSQL: sessions, modes, the catalog, and one apply transaction at a time per ledger. */
import { type Clock, systemClock } from "../../../src/core/clock.ts";
import { ReplicatorError } from "../../../src/core/errors.ts";
import type { Lease } from "../../../src/core/lease.ts";
import type { Logger } from "../../../src/core/logger.ts";
import type { ApplyTransaction, LedgerKey, LedgerPosition, TargetStore } from "../../../src/core/target_store.ts";
import {
  type Connection,
  type Database,
  type DatabaseOptions,
  openDatabase,
  quoteIdentifier,
  rollback,
} from "../connection.ts";
import { absentFrom } from "./catalog.ts";
import { CatalogCache } from "./catalog_cache.ts";
import { Executor, type SessionMode } from "./execute.ts";
import { giveUpLease, leaseName, takeLease } from "./leases.ts";
import { emptyNextSlot, fence, ledgerId, lockLedger, readPosition, slotOf } from "./ledger.ts";
import { retryInbox } from "./retry.ts";
import { chooseMode, verifyTarget } from "./session.ts";
import { GROUP_SAVEPOINT, PostgresApply } from "./transaction.ts";

export interface TargetStoreOptions {
  /** Where, and as whom; application_name and session settings are ours to choose. */
  readonly database: Omit<DatabaseOptions, "logger" | "clock" | "max">;
  /** The tables that may be written, as SQL writes them (`users`, `sales.orders`); null: all that are set up (I10). */
  readonly tables: readonly string[] | null;
  /** The contours whose changes are accepted; null: any (the caller then reads from known ones only). */
  readonly contours?: readonly string[] | null | undefined;
  readonly session: "auto" | "replica" | "origin";
  readonly maxSkewMs: number;
  readonly logger: Logger;
  readonly clock?: Clock | undefined;
  /** Apply transactions at a time, a connection each; default 4. */
  readonly connections?: number | undefined;
}

const APPLICATION_NAME = "replicator_consumer";
const CATALOG_MS = 5_000;
/** Parked changes of at most this many bytes are tried in one transaction. */
const RETRY_BYTES = 16_000_000;
/** Of one set-wise statement: a TRUNCATE deletes the rows of a whole table. */
const STATEMENT_MS = 600_000;

/** Connects nowhere before open(). */
export function createTargetStore(options: TargetStoreOptions): TargetStore {
  return new PostgresTargetStore(options);
}

class PostgresTargetStore implements TargetStore {
  readonly #options: TargetStoreOptions;
  readonly #clock: Clock;
  readonly #executor: Executor;
  readonly #schema: string;
  readonly #control: Database;
  /** Of apply transactions; made by open(), when the mode is known. */
  #apply: Database | null = null;
  #sessionMode: SessionMode = "origin";
  readonly #catalog: CatalogCache;
  readonly #ledgers = new Map<string, number>();
  /** Ledgers whose next transaction checks constraints after each group. */
  readonly #careful = new Set<number>();
  /** Slots of `applied` that were entered, the next of which is to be emptied. */
  readonly #entered = new Set<number>();

  constructor(options: TargetStoreOptions) {
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
    this.#schema = quoteIdentifier(options.database.schema ?? "replicator");
    this.#executor = new Executor({ schema: this.#schema, maxSkewMs: options.maxSkewMs });
    this.#control = this.#database("origin", 4, options.database.queryTimeoutMs);
    const allowed = options.tables === null ? null : new Set(options.tables);
    this.#catalog = new CatalogCache(this.#control, allowed, this.#clock, CATALOG_MS);
  }

  async open(signal: AbortSignal): Promise<void> {
    await verifyTarget(this.#control, signal);
    const catalog = await this.#catalog.fresh();
    const { logger, session, tables } = this.#options;
    const absent = absentFrom(catalog, new Set(tables ?? []));
    if (absent.length > 0) throw notReplicated(this.#control.label, absent);
    const { mode, because } = await chooseMode(this.#control, session, catalog.replicaForbidden, signal);
    this.#sessionMode = mode;
    logger.info({ session: mode, because, tables: catalog.tables.size }, `Applies changes in ${mode} mode`);
    this.#apply ??= this.#database(mode, this.#options.connections ?? 4, STATEMENT_MS);
  }

  lease(feed: string, partition: number, owner: string, ttlMs: number): Promise<Lease | null> {
    return takeLease(this.#control, this.#clock, leaseName(feed, partition), owner, ttlMs);
  }

  releaseLease(feed: string, partition: number, lease: Lease): Promise<void> {
    return giveUpLease(this.#control, leaseName(feed, partition), lease);
  }

  async position(key: LedgerKey): Promise<LedgerPosition | null> {
    const db = this.#control;
    return readPosition(db, (text) => db.ours(text), await this.#ledgerId(key));
  }

  async begin(key: LedgerKey, expected: LedgerPosition | null, feed: string, lease: Lease): Promise<ApplyTransaction> {
    this.#assertKnown(key.source);
    const db = this.#open();
    const id = await this.#ledgerId(key);
    const catalog = await this.#catalog.current();
    const connection = await db.reserve();
    const mode = this.#modeFor(catalog.replicaForbidden);
    const deferred = mode === "origin" && catalog.deferrable;
    const lock = `; ${lockLedger((text) => db.ours(text), id)}; SAVEPOINT ${GROUP_SAVEPOINT}`;
    const begun = this.#begin(connection, mode, deferred, lock, () =>
      fence(connection, (text) => db.ours(text), id, expected, {
        name: leaseName(feed, key.partition),
        lease,
      }),
    );
    return new PostgresApply(
      {
        db,
        schema: this.#schema,
        executor: this.#executor,
        mode,
        ledgerId: id,
        source: key.source,
        channel: key.channel,
        partition: key.partition,
        catalog,
        reloadCatalog: () => this.#catalog.fresh(),
        careful: this.#careful.has(id),
        askForCare: () => this.#careful.add(id),
        onCommitted: (sequence) => {
          this.#careful.delete(id);
          if (sequence === 0 || slotOf(sequence) !== slotOf(Math.max(0, sequence - 4_096)))
            this.#entered.add(slotOf(sequence));
        },
      },
      connection,
      begun,
    );
  }

  async retryParked(limit: number): Promise<{ readonly tried: number; readonly resolved: number }> {
    await this.#emptySlots();
    const db = this.#open();
    const catalog = await this.#catalog.current();
    const mode = this.#modeFor(catalog.replicaForbidden);
    const connection = await db.reserve();
    try {
      await this.#begin(connection, mode, false, "", () => Promise.resolve());
      const due = await connection.query<{ id: string; bytes: string }>(
        `SELECT id, octet_length(data) AS bytes FROM ${this.#schema}.inbox
WHERE status = 'parked' AND next_attempt_at <= clock_timestamp() ORDER BY next_attempt_at, id LIMIT $1::int FOR UPDATE SKIP LOCKED`,
        [limit],
        { action: "find parked changes that are due" },
      );
      const ids = withinBytes(due);
      const context = { connection, schema: this.#schema, executor: this.#executor, mode, catalog };
      const left = ids.length === 0 ? new Set<string>() : await retryInbox(context, ids, true);
      await connection.query("COMMIT", [], { action: "commit retried changes" });
      return { tried: ids.length, resolved: ids.length - left.size };
    } catch (error) {
      await rollback(connection);
      throw error;
    } finally {
      connection.release();
    }
  }

  async counts(): Promise<{ readonly parked: number; readonly dead: number; readonly conflicts: number }> {
    const [row] = await this.#control.query<Record<"parked" | "dead" | "conflicts", string>>(
      `SELECT (SELECT count(*) FROM ${this.#schema}.inbox WHERE status = 'parked') AS parked,
  (SELECT count(*) FROM ${this.#schema}.inbox WHERE status = 'dead') AS dead,
  (SELECT count(*) FROM ${this.#schema}.conflict_log) AS conflicts`,
      [],
      { action: "count parked changes" },
    );
    return { parked: Number(row?.parked), dead: Number(row?.dead), conflicts: Number(row?.conflicts) };
  }

  ping(signal: AbortSignal): Promise<void> {
    return this.#control.ping(signal);
  }

  async close(): Promise<void> {
    await this.#apply?.close();
    await this.#control.close();
  }

  /** BEGIN, our marks and the fence: sent, not awaited. */
  async #begin(
    connection: Connection,
    mode: SessionMode,
    deferred: boolean,
    more: string,
    next: () => Promise<void>,
  ): Promise<void> {
    // I9: transaction-local, so that no pooler can leak it. The role differs from the session's only after DDL.
    const role = mode === this.#sessionMode ? "" : `; SET LOCAL session_replication_role = ${mode}`;
    const constraints = deferred ? "; SET CONSTRAINTS ALL DEFERRED" : "";
    const begin = connection.script(`BEGIN; SET LOCAL replicator.capture = 'off'${role}${constraints}${more}`);
    await Promise.all([begin, next()]);
  }

  async #emptySlots(): Promise<void> {
    for (const slot of this.#entered) {
      try {
        if (await emptyNextSlot(this.#control, slot)) this.#entered.delete(slot);
      } catch (error) {
        // The ring only grows meanwhile; it is tried again with the next retry.
        this.#options.logger.debug({ slot, reason: String(error) }, "A slot of the ledger's ring could not be emptied");
      }
    }
  }

  #modeFor(replicaForbidden: string | null): SessionMode {
    return replicaForbidden === null ? this.#sessionMode : "origin";
  }

  async #ledgerId(key: LedgerKey): Promise<number> {
    const name = JSON.stringify([key.source, key.channel, key.partition]);
    const known = this.#ledgers.get(name);
    if (known !== undefined) return known;
    const id = await ledgerId(this.#control, key);
    this.#ledgers.set(name, id);
    return id;
  }

  #assertKnown(contour: string): void {
    const { contours } = this.#options;
    if (!contours || contours.includes(contour)) return;
    throw new ReplicatorError({
      code: "apply.unknown_contour",
      message: `Cannot apply changes of contour "${contour}": accepted are ${contours.map((name) => `"${name}"`).join(", ")}`,
      retry: "never",
      fault: "input",
      remedy: `Add it to consumer.from: [${[...contours, contour].join(", ")}]`,
    });
  }

  #open(): Database {
    if (this.#apply) return this.#apply;
    throw new ReplicatorError({
      code: "store.not_open",
      message: "The target store was used before open()",
      retry: "never",
      fault: "internal",
    });
  }

  #database(mode: SessionMode, max: number, queryTimeoutMs: number | undefined): Database {
    const { database, logger } = this.#options;
    const settings: Record<string, string> = {
      // What a statement's rows are cannot be known when it is planned: one generic plan each.
      plan_cache_mode: "force_generic_plan",
      lc_monetary: "C",
      // A consumer that vanished without a word must not keep its locks for hours (I8).
      tcp_keepalives_idle: "10",
      tcp_keepalives_interval: "5",
      tcp_keepalives_count: "3",
      ...database.sessionSettings,
    };
    if (mode === "replica") settings.session_replication_role = "replica";
    const shared = { ...database, applicationName: APPLICATION_NAME, logger, max, queryTimeoutMs };
    return openDatabase({ ...shared, sessionSettings: settings });
  }
}

function notReplicated(label: string, tables: readonly string[]): ReplicatorError {
  const names = tables.join(", ");
  return new ReplicatorError({
    code: "target.table_unknown",
    message: `Cannot apply changes to ${names}: not under replication in ${label}`,
    retry: "never",
    fault: "environment",
    remedy: `Run: replicator tables add ${tables.join(" ")}  (or take it out of critical_tables)`,
    facts: { tables: names },
  });
}

function withinBytes(due: readonly { readonly id: string; readonly bytes: string }[]): readonly string[] {
  let bytes = 0;
  const fits = due.filter((row, n) => {
    bytes += Number(row.bytes);
    return bytes <= RETRY_BYTES || n === 0;
  });
  return fits.map((row) => row.id);
}
