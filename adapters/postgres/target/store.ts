/** The TargetStore port over PostgreSQL: sessions, modes, the catalog, and one apply transaction at a time per ledger. */
import { type Clock, systemClock } from "../../../src/core/clock.ts";
import { ReplicatorError } from "../../../src/core/errors.ts";
import type { Lease } from "../../../src/core/lease.ts";
import type { Logger } from "../../../src/core/logger.ts";
import { parseTableName, type TableName } from "../../../src/core/table_name.ts";
import type {
  ApplyTransaction,
  LedgerKey,
  LedgerPosition,
  ParkedRetry,
  TargetCounts,
  TargetStore,
} from "../../../src/core/target_store.ts";
import {
  CONTROL_TIMEOUT_MS,
  type Connection,
  type Database,
  type DatabaseOptions,
  openDatabase,
  quoteIdentifier,
  rollback,
} from "../connection.ts";
import { absentFrom, type Catalog, keyOfName, type TargetTable, tableKey } from "./catalog/catalog.ts";
import { CatalogCache } from "./catalog/catalog_cache.ts";
import { trimConflictLog } from "./conflicts/conflict_retention.ts";
import { recheck, recheckDue } from "./conflicts/recheck.ts";
import { giveUpLease, leaseName, takeLease } from "./leases.ts";
import { emptyNextSlot, fence, ledgerId, lockLedger, readPosition, slotOf } from "./ledger.ts";
import { type Ahead, readAhead } from "./parking/ahead.ts";
import { weigh } from "./parking/halt.ts";
import { Parking, type ParkingLimits } from "./parking/parking.ts";
import { inboxCounts } from "./parking/parking_counts.ts";
import { Executor, type SessionMode } from "./rows/execute.ts";
import { type Retried, retryInbox } from "./rows/retry.ts";
import { chooseMode, verifyTarget } from "./session.ts";
import { GROUP_SAVEPOINT, IDLE_AFTER_BEGIN, PostgresApply } from "./transaction.ts";
import { type Turn, Turns } from "./turns.ts";

export interface TargetStoreOptions {
  /** Where, and as whom; application_name and session settings are ours to choose. */
  readonly database: Omit<DatabaseOptions, "logger" | "clock" | "max">;
  /** The tables that may be written, as SQL writes them (`users`, `sales.orders`); null: all that are set up (I10). */
  readonly tables: readonly string[] | null;
  /** The contours whose changes are accepted; null: any (the caller then reads from known ones only). */
  readonly contours?: readonly string[] | null | undefined;
  /** Those of them, named likewise, whose unique conflicts are left to a person (on_unique_conflict: park). */
  readonly leaveUnique?: readonly string[] | undefined;
  /** Those of them, named likewise, of which nothing is parked: what cannot be applied stops its channel (on_error: stop). */
  readonly stopOnError?: readonly string[] | undefined;
  /** Default: 100 attempts, 100,000 changes, 256 MB. */
  readonly parking?: Partial<ParkingLimits> | undefined;
  readonly session: "auto" | "replica" | "origin";
  readonly maxSkewMs: number;
  /** How long the conflict log keeps a line; default: for ever. */
  readonly conflictRetentionMs?: number | undefined;
  readonly logger: Logger;
  readonly clock?: Clock | undefined;
  /** Apply transactions at a time, a connection each; default 4. */
  readonly connections?: number | undefined;
}

const APPLICATION_NAME = "replicator_consumer";
const CATALOG_MS = 5_000;
const LIMITS: ParkingLimits = { maxAttempts: 100, entries: 100_000, bytes: 256_000_000 };
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
  readonly #limits: ParkingLimits;
  readonly #parking: Parking;
  readonly #stops: readonly TableName[];
  readonly #turns: Turns;
  readonly #leaveUnique: ReadonlySet<string>;
  readonly #ledgers = new Map<string, number>();
  /** Of ledgers whose last message was halted; as of the last position() or transaction of ours, whose lease keeps others off. */
  readonly #ahead = new Map<number, Ahead | null>();
  /** Ledgers whose next transaction checks constraints after each group. */
  readonly #careful = new Set<number>();
  /** The snapshot whose transactions must end before the recheck list is looked at; null: nothing is waiting. */
  #recheckSince: string | null = null;
  /** Slots of `applied` that were entered, the next of which is to be emptied. */
  readonly #entered = new Set<number>();

  constructor(options: TargetStoreOptions) {
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
    this.#schema = quoteIdentifier(options.database.schema ?? "replicator");
    this.#executor = new Executor({ schema: this.#schema, maxSkewMs: options.maxSkewMs });
    this.#turns = new Turns(this.#schema, this.#clock);
    this.#leaveUnique = new Set((options.leaveUnique ?? []).map(keyOfName));
    this.#control = this.#database("origin", 4, options.database.queryTimeoutMs);
    const allowed = options.tables === null ? null : new Set(options.tables);
    this.#catalog = new CatalogCache(this.#control, allowed, this.#clock, CATALOG_MS);
    this.#limits = { ...LIMITS, ...options.parking };
    this.#stops = (options.stopOnError ?? []).flatMap((name) => parseTableName(name) ?? []);
    this.#parking = new Parking({
      db: this.#control,
      schema: this.#schema,
      catalog: this.#catalog,
      limits: this.#limits,
      clock: this.#clock,
      logger: options.logger,
      transaction: this.#aside,
      retry: this.#retry,
    });
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
    const id = await this.#ledgerId(key);
    this.#ahead.set(id, await readAhead(db, (text) => db.ours(text), id));
    return readPosition(db, (text) => db.ours(text), id);
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
    const turn = await this.#turns.take(connection).catch(async (error: unknown) => {
      await rollback(connection);
      connection.release();
      throw error;
    });
    const begun = this.#begin(connection, turn.opening, mode, deferred, lock, () =>
      fence(connection, (text) => db.ours(text), id, expected, {
        name: leaseName(feed, key.partition),
        lease,
      }),
    );
    const rules = { schema: this.#schema, ...key, stops: this.#stops, limits: this.#limits };
    const transaction = new PostgresApply(
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
        leavesUnique: this.#leavesUnique,
        reloadCatalog: (refusing) => (refusing ? this.#catalog.freshFor(refusing) : this.#catalog.fresh()),
        careful: this.#careful.has(id),
        askForCare: () => this.#careful.add(id),
        digestOf: this.#parking.digestOf,
        weigh: (connection, ids) => weigh(connection, { ...rules, room: this.#parking.room }, ids),
        room: () => this.#parking.room,
        onParked: ({ entries, bytes }) => this.#parking.added(entries, bytes),
        ahead: this.#ahead.get(id) ?? null,
        onAhead: (ahead) => this.#ahead.set(id, ahead),
        onCommitted: (sequence) => {
          this.#careful.delete(id);
          this.#ahead.delete(id);
          if (sequence === 0 || slotOf(sequence) !== slotOf(Math.max(0, sequence - 4_096)))
            this.#entered.add(slotOf(sequence));
        },
      },
      connection,
      begun,
    );
    return this.#turns.watching(transaction, turn);
  }

  async recheckDeletes(): Promise<number> {
    const since = this.#recheckSince;
    const { due, now } = await recheckDue(this.#control, this.#schema, since);
    this.#recheckSince = now;
    if (!due || since === null) return 0;
    const catalog = await this.#catalog.current();
    const schema = this.#schema;
    return this.#aside(catalog, (connection) => recheck({ connection, schema, catalog }, since));
  }

  async retryParked(limit: number): Promise<ParkedRetry> {
    await this.#emptySlots();
    return this.#parking.tick(limit);
  }

  async trimConflictLog(): Promise<number> {
    const { conflictRetentionMs } = this.#options;
    return conflictRetentionMs === undefined ? 0 : trimConflictLog(this.#control, this.#schema, conflictRetentionMs);
  }

  counts(): Promise<TargetCounts> {
    return inboxCounts(this.#control, this.#schema, CONTROL_TIMEOUT_MS);
  }

  ping(signal: AbortSignal): Promise<void> {
    return this.#control.ping(signal);
  }

  async close(): Promise<void> {
    await this.#apply?.close();
    await this.#control.close();
  }

  /** Goes on from a turn's `opening`: our marks and the fence, sent, not awaited. */
  async #begin(
    connection: Connection,
    opening: string,
    mode: SessionMode,
    deferred: boolean,
    more: string,
    next: () => Promise<void>,
  ): Promise<void> {
    // I9: transaction-local, so that no pooler can leak it. The role differs from the session's only after DDL.
    const role = mode === this.#sessionMode ? "" : `; SET LOCAL session_replication_role = ${mode}`;
    const constraints = deferred ? "; SET CONSTRAINTS ALL DEFERRED" : "";
    const marks = `SET LOCAL replicator.capture = 'off'; ${IDLE_AFTER_BEGIN}${role}${constraints}`;
    // Not waited for longer: behind a lock that a vanished consumer still holds, a new try is as good.
    const begin = connection.script(`${opening}; ${marks}${more}`, {
      action: "begin to apply",
      timeoutMs: CONTROL_TIMEOUT_MS,
    });
    await Promise.all([begin, next()]);
  }

  /** A transaction of apply's kind that moves no position. */
  readonly #aside = async <T>(catalog: Catalog, work: (connection: Connection) => Promise<T>): Promise<T> => {
    const connection = await this.#open().reserve();
    let turn: Turn | null = null;
    try {
      turn = await this.#turns.take(connection);
      const mode = this.#modeFor(catalog.replicaForbidden);
      await this.#begin(connection, turn.opening, mode, false, "", () => Promise.resolve());
      const result = await this.#turns.watch(work(connection));
      await connection.query("COMMIT", [], { action: "commit changes tried again" });
      return result;
    } finally {
      await rollback(connection);
      connection.release();
      turn?.end();
    }
  };

  readonly #retry = (connection: Connection, catalog: Catalog, ids: readonly string[]): Promise<Retried> => {
    const mode = this.#modeFor(catalog.replicaForbidden);
    const shared = { connection, schema: this.#schema, executor: this.#executor, mode, catalog };
    const context = { ...shared, completes: null, leavesUnique: this.#leavesUnique };
    return retryInbox(context, ids, this.#limits.maxAttempts);
  };

  readonly #leavesUnique = ({ schema, name }: TargetTable): boolean => this.#leaveUnique.has(tableKey(schema, name));

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
