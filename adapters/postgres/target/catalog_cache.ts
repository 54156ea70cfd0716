/** The catalog, read again every few seconds, and at once when a statement or a row says that it is out of date. */
import type { Clock } from "../../../src/core/clock.ts";
import type { Database } from "../connection.ts";
import { type Catalog, loadCatalog } from "./catalog.ts";

export class CatalogCache {
  readonly #db: Database;
  readonly #allowed: ReadonlySet<string> | null;
  readonly #clock: Clock;
  readonly #maxAgeMs: number;
  #catalog: Catalog | null = null;
  #readAt = Number.NEGATIVE_INFINITY;
  #reading: Promise<Catalog> | null = null;

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

  async #read(): Promise<Catalog> {
    const at = this.#clock.monotonic();
    this.#catalog = await loadCatalog(this.#db, (text) => this.#db.ours(text), this.#allowed, this.#catalog);
    this.#readAt = at;
    return this.#catalog;
  }
}
