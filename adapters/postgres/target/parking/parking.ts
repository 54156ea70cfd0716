/**
 * What becomes of parked changes (architecture §7.4), a look and an attempt at a time: closes what something newer has
 * overtaken, makes due what the catalog may have mended, tries what is due, knows how much room is left.
 */
import type { Clock } from "../../../../src/core/clock.ts";
import type { Logger } from "../../../../src/core/logger.ts";
import type { ParkedRetry } from "../../../../src/core/target_store.ts";
import type { Connection, Database } from "../../connection.ts";
import type { Catalog } from "../catalog/catalog.ts";
import { tableKey } from "../catalog/catalog.ts";
import type { CatalogCache } from "../catalog/catalog_cache.ts";
import { countConflicts } from "../conflicts/conflict_totals.ts";
import { rowFailure } from "../rows/failures.ts";
import type { Retried } from "../rows/retry.ts";
import { wakeChildren } from "./arrived.ts";
import { catalogDigests, type TableDigest } from "./catalog_digest.ts";
import type { DeadLetter } from "./inbox.ts";
import { type Group, groupName, InboxLooks, type ParkedGroup } from "./inbox_looks.ts";
import { closeSuperseded, type ParkedTable } from "./superseded.ts";

export interface ParkingLimits {
  /** After so many attempts a change that does not wait for the schema is a dead letter. */
  readonly maxAttempts: number;
  /** Above either the channel stops instead of parking more. */
  readonly entries: number;
  readonly bytes: number;
}

export interface ParkingOptions {
  readonly db: Database;
  /** Our schema's quoted name. */
  readonly schema: string;
  readonly catalog: CatalogCache;
  readonly limits: ParkingLimits;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Runs `work` in a transaction of apply's kind (session mode, marks) and commits. */
  transaction<T>(catalog: Catalog, work: (connection: Connection) => Promise<T>): Promise<T>;
  /** Tries what is in the inbox again, counting the attempt. */
  retry(connection: Connection, catalog: Catalog, ids: readonly string[]): Promise<Retried>;
}

/** A look that took long is followed by a rest of so many times its duration: an inbox at its limit costs a twentieth of a core. */
const REST = 20;
const LONG_MS = 50;
const LONGEST_REST_MS = 30_000;

export class Parking {
  readonly #options: ParkingOptions;
  readonly #looks: InboxLooks;
  readonly #digests = new Map<string, string>();
  /** Groups of which one has just gone, or the catalog has changed: the resting ones are tried too. */
  readonly #open = new Map<string, Group>();
  #lookAt = Number.NEGATIVE_INFINITY;
  #known = { entries: 0, bytes: 0 };
  #suspended: boolean | null = null;

  constructor(options: ParkingOptions) {
    this.#options = options;
    this.#looks = new InboxLooks(options.db, options.schema);
  }

  /** Tries at most `limit` changes; `tried` and `resolved` count those that were closed without a try as well. */
  async tick(limit: number): Promise<ParkedRetry> {
    const { closed, changed } = await this.#look();
    const { tried, resolved, ...rest } = await this.#attempt(limit, changed);
    return { tried: closed + tried, resolved: closed + resolved, ...rest };
  }

  /** How much more may be parked, as of the last look and what was parked since. */
  get room(): { readonly entries: number; readonly bytes: number } {
    const { entries, bytes } = this.#options.limits;
    return { entries: entries - this.#known.entries, bytes: bytes - this.#known.bytes };
  }

  /** What was committed into the inbox since the last look. */
  added(entries: number, bytes: number): void {
    this.#known = { entries: this.#known.entries + entries, bytes: this.#known.bytes + bytes };
  }

  /** The catalog's digest of a table at the last look, where anything of it is parked. */
  readonly digestOf = (schema: string, table: string): string | null =>
    this.#digests.get(tableKey(schema, table)) ?? null;

  async #look(): Promise<{ readonly closed: number; readonly changed: boolean }> {
    const { clock } = this.#options;
    const startedAt = clock.monotonic();
    if (startedAt < this.#lookAt) return { closed: 0, changed: false };
    const groups = await this.#looks.groups();
    this.#count(groups);
    if (groups.length === 0) {
      this.#open.clear();
      return { closed: 0, changed: false };
    }
    const changed = await this.#followCatalog(groups);
    const closed = await this.#closeSuperseded(groups);
    if (groups.some(({ waiting }) => waiting > 0)) await this.#looks.rest();
    const took = clock.monotonic() - startedAt;
    this.#lookAt =
      took > LONG_MS ? clock.monotonic() + Math.min(REST * took, LONGEST_REST_MS) : Number.NEGATIVE_INFINITY;
    return { closed, changed };
  }

  #count(groups: readonly ParkedGroup[]): void {
    const { logger } = this.#options;
    const entries = groups.reduce((sum, group) => sum + group.entries, 0);
    this.#known = { entries, bytes: groups.reduce((sum, group) => sum + group.bytes, 0) };
    const suspended = entries > 0;
    if (suspended && this.#suspended !== true) {
      const tables = [...new Set(groups.map(({ label }) => label))].join(", ");
      logger.warn({ parked: entries, tables }, `I12 is suspended: ${entries} parked changes in ${tables}`);
    }
    if (!suspended && this.#suspended === true) logger.info({}, "Nothing is parked any more: I12 holds again");
    this.#suspended = suspended;
  }

  async #followCatalog(groups: readonly ParkedGroup[]): Promise<boolean> {
    const { db } = this.#options;
    const tables = new Map(groups.map((group) => [tableKey(group.schema, group.table), group]));
    const digests: readonly TableDigest[] = await catalogDigests(db, (text) => db.ours(text), [...tables.values()]);
    this.#digests.clear();
    for (const { schema, table, digest } of digests) this.#digests.set(tableKey(schema, table), digest);
    const changed = await this.#looks.follow(digests);
    for (const group of changed) if (group.waits) this.#open.set(groupName(group), group);
    return changed.length > 0;
  }

  async #closeSuperseded(groups: readonly ParkedGroup[]): Promise<number> {
    const { tables } = await this.#options.catalog.current();
    let closed = 0;
    for (const group of groups) {
      const table = tables.get(tableKey(group.schema, group.table));
      if (!table) continue;
      closed += await this.#close({ table, stamp: group.stamp ?? table.stamp });
      await wakeChildren(this.#options.db, this.#options.schema, table);
    }
    return closed;
  }

  async #close(parked: ParkedTable): Promise<number> {
    const { db, schema, logger } = this.#options;
    try {
      return await closeSuperseded(db, schema, parked);
    } catch (error) {
      if (rowFailure(error) === null) throw error;
      // The table is not what the catalog said a moment ago.
      logger.debug({ table: parked.table.label, reason: String(error) }, "Superseded changes could not be looked for");
      return 0;
    }
  }

  async #attempt(limit: number, changed: boolean): Promise<ParkedRetry> {
    if (this.#suspended !== true) return { tried: 0, resolved: 0 };
    const { catalog: cache, limits } = this.#options;
    const catalog = changed ? await cache.fresh() : await cache.current();
    const { picked, seen, retried, conflicts } = await this.#options.transaction(catalog, async (connection) => {
      const { picked, seen } = await this.#looks.pick(connection, limit, [...this.#open.values()]);
      const ids = picked.map(({ id }) => id);
      const retried = ids.length > 0 ? await this.#options.retry(connection, catalog, ids) : null;
      const gone = ids.some((id) => retried && !retried.pending.has(id));
      // Only what is decided is logged.
      return { picked, seen, retried, conflicts: gone ? await countConflicts(connection, this.#options.schema) : [] };
    });
    const gone = picked.filter(({ id }) => !retried?.pending.has(id));
    // A group that has nothing to show for it is left to the few of it that are tried by the clock.
    for (const group of seen) this.#open.delete(groupName(group));
    const moving = picked.filter(({ id, waits }) => waits && (!retried?.pending.has(id) || retried.moved.has(id)));
    for (const group of moving) this.#open.set(groupName(group), group);
    this.#announce(retried?.dead ?? [], limits.maxAttempts);
    return { tried: picked.length, resolved: gone.length, ...(conflicts.length > 0 ? { conflicts } : {}) };
  }

  #announce(dead: readonly DeadLetter[], attempts: number): void {
    const groups = new Map<string, DeadLetter[]>();
    for (const letter of dead) {
      const name = `${letter.table} ${letter.code}`;
      groups.set(name, [...(groups.get(name) ?? []), letter]);
    }
    for (const letters of groups.values()) {
      const { table, record, code, error, remedy } = letters[0] as DeadLetter;
      const ids = letters.map(({ id }) => id).join(" ");
      const what =
        letters.length === 1
          ? `A change of ${table} (${record ?? "whole table"})`
          : `${letters.length} changes of ${table}`;
      this.#options.logger.error(
        {
          table,
          code,
          ids: ids.slice(0, 200),
          remedy: `${remedy ? `${remedy}; then: ` : ""}replicator parked retry ${ids.slice(0, 200)}`,
        },
        `${what} failed ${attempts} times and will not be tried again by itself: ${error}`,
      );
    }
  }
}
