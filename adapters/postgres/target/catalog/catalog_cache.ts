/** The catalog, read again every few seconds, and at once when a statement or a row says that it is out of date. */
import type { Clock } from "../../../../src/core/clock.ts";
import type { Database } from "../../connection.ts";
import { catalogDigests, type TableDigest, type TableNamed } from "../parking/catalog_digest.ts";
import { type Catalog, loadCatalog, tableKey } from "./catalog.ts";

const MOST_SEEN = 1_000;

export class CatalogCache {
  readonly #db: Database;
  readonly #allowed: ReadonlySet<string> | null;
  readonly #clock: Clock;
  readonly #maxAgeMs: number;
  #catalog: Catalog | null = null;
  #readAt = Number.NEGATIVE_INFINITY;
  #reading: Promise<Catalog> | null = null;
  readonly #seen = new Map<string, string>();

  constructor(db: Database, allowed: ReadonlySet<string> | null, clock: Clock, maxAgeMs: number) {
    this.#db = db;
    this.#allowed = allowed;
    this.#clock = clock;
    this.#maxAgeMs = maxAgeMs;
  }

  /** What is known, read again in the background when it is older than `maxAgeMs`: nobody waits for it but the first. */
  async current(): Promise<Catalog> {
    if (!this.#catalog) return this.fresh();
    if (this.#clock.monotonic() - this.#readAt >= this.#maxAgeMs) {
      // A database that is away says so to the statements that need it; the next call reads again.
      this.fresh().catch(() => undefined);
    }
    return this.#catalog;
  }

  /** Read now; concurrent callers share one reading that began after none of their calls ended. */
  async fresh(): Promise<Catalog> {
    this.#reading ??= this.#read().finally(() => {
      this.#reading = null;
    });
    return this.#reading;
  }

  /**
   * Read now for the sake of tables that refuse something, unless the catalog says of them what it said the last time
   * somebody asked for their sake: what waits for DDL comes with every group, and a whole reading is dear.
   */
  async freshFor(tables: readonly TableNamed[]): Promise<Catalog> {
    // Taken before the reading: what changes in between is another digest the next time.
    const digests = await catalogDigests(this.#db, (text) => this.#db.ours(text), tables);
    const known = ({ schema, table, digest }: TableDigest) => this.#seen.get(tableKey(schema, table)) === digest;
    if (this.#catalog && digests.every(known)) return this.#catalog;
    // Names come from the wire: a hostile writer must not fill the memory.
    if (this.#seen.size > MOST_SEEN) this.#seen.clear();
    for (const { schema, table, digest } of digests) this.#seen.set(tableKey(schema, table), digest);
    return this.fresh();
  }

  async #read(): Promise<Catalog> {
    const at = this.#clock.monotonic();
    this.#catalog = await loadCatalog(this.#db, (text) => this.#db.ours(text), this.#allowed, this.#catalog);
    this.#readAt = at;
    return this.#catalog;
  }
}
