/** Leases by the database's own clock, as rows that a short statement takes, renews or gives up. */
import type { Lease } from "../../../src/core/lease.ts";
import type { Database } from "./database.ts";

interface Held {
  owner: string;
  term: number;
  expiresAt: number;
}

export class Leases {
  readonly #db: Database;
  readonly #held = new Map<string, Held>();

  constructor(db: Database) {
    this.#db = db;
  }

  /** Null when somebody else holds it. The term grows when the owner changes. @param askedAt the owner's own clock */
  take(name: string, owner: string, ttlMs: number, askedAt: number): Lease | null {
    const now = this.#db.clockMs();
    const held = this.#held.get(name);
    if (held && held.owner !== owner && held.expiresAt > now) return null;
    const term = held ? held.term + (held.owner === owner ? 0 : 1) : 1;
    this.#held.set(name, { owner, term, expiresAt: now + ttlMs });
    return { owner, term, expiresAt: askedAt + ttlMs };
  }

  giveUp(name: string, { owner, term }: Lease): void {
    const held = this.#held.get(name);
    if (held?.owner === owner && held.term === term) held.expiresAt = Number.NEGATIVE_INFINITY;
  }

  /** Whether the lease stands; `inTime`: and has not run out. */
  holds(name: string, { owner, term }: Lease, inTime: boolean): boolean {
    const held = this.#held.get(name);
    return held?.owner === owner && held.term === term && (!inTime || held.expiresAt > this.#db.clockMs());
  }
}
