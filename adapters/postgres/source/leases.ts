/** Ownership as a lease: granted in one short statement by the server's clock, never a lock held open (architecture §4.3). */
import type { Clock } from "../../../src/core/clock.ts";
import { ReplicatorError } from "../../../src/core/errors.ts";
import type { Lease } from "../../../src/core/lease.ts";
import { CONTROL_TIMEOUT_MS, type Database, type QueryOptions } from "../connection.ts";

// Ours already: nobody else can lock the row but a claimer that finds it expired, and that one is quick.
const RENEW = `
UPDATE "replicator".lease SET expires_at = clock_timestamp() + $4::int * interval '1 ms'
WHERE kind = $1 AND name = $2 AND owner = $3
RETURNING term`;

// Somebody else's, run out: SKIP LOCKED, so that claimers do not queue up behind each other. The term grows only when
// the owner changes; the row's own state is checked again after it was locked.
const CLAIM = `
UPDATE "replicator".lease AS l
SET owner = $3, term = l.term + 1, expires_at = clock_timestamp() + $4::int * interval '1 ms'
FROM (SELECT kind, name FROM "replicator".lease
      WHERE kind = $1 AND name = $2 AND expires_at <= clock_timestamp()
      FOR UPDATE SKIP LOCKED) AS free
WHERE l.kind = free.kind AND l.name = free.name
RETURNING l.term`;

const MAKE = `INSERT INTO "replicator".lease (kind, name) VALUES ($1, $2) ON CONFLICT DO NOTHING`;

const GIVE_UP = `
UPDATE "replicator".lease SET expires_at = '-infinity'
WHERE kind = $1 AND name = $2 AND owner = $3 AND term = $4`;

export type LeaseKind = "cutter" | "channel" | "sync";

export class Leases {
  readonly #db: Database;
  readonly #clock: Clock;
  readonly #made = new Set<string>();

  constructor(db: Database, clock: Clock) {
    this.#db = db;
    this.#clock = clock;
  }

  /** Takes or renews; null when somebody else holds it. `owner` must be unique to the process. */
  async take(kind: LeaseKind, name: string, owner: string, ttlMs: number): Promise<Lease | null> {
    const action = `take the lease of the ${label(kind, name)}`;
    // From before the request: the server's clock starts counting later than ours, never earlier.
    const asked = this.#clock.monotonic();
    // An answer that comes when the lease has run out is worth nothing.
    const timeoutMs = Math.min(ttlMs, CONTROL_TIMEOUT_MS);
    await this.#make(kind, name, { action, timeoutMs });
    const params = [kind, name, owner, Math.round(ttlMs)];
    const renewed = await this.#db.query<{ term: string }>(this.#db.ours(RENEW), params, { action, timeoutMs });
    const granted =
      renewed[0] ?? (await this.#db.query<{ term: string }>(this.#db.ours(CLAIM), params, { action, timeoutMs }))[0];
    return granted ? { owner, term: Number(granted.term), expiresAt: asked + ttlMs } : null;
  }

  /** Gives it up at once, if it is still ours. */
  async giveUp(kind: LeaseKind, name: string, lease: Lease): Promise<void> {
    const action = `give up the lease of the ${label(kind, name)}`;
    const timeoutMs = CONTROL_TIMEOUT_MS;
    await this.#db.execute(this.#db.ours(GIVE_UP), [kind, name, lease.owner, lease.term], { action, timeoutMs });
  }

  async #make(kind: LeaseKind, name: string, options: QueryOptions): Promise<void> {
    const key = `${kind} ${name}`;
    if (this.#made.has(key)) return;
    await this.#db.execute(this.#db.ours(MAKE), [kind, name], options);
    this.#made.add(key);
  }
}

export function leaseLost(kind: LeaseKind, name: string, lease: Lease): ReplicatorError {
  return new ReplicatorError({
    code: "lease.lost",
    message: `The lease of the ${label(kind, name)} is no longer held by "${lease.owner}" (term ${lease.term})`,
    retry: "now",
    fault: "environment",
    facts: { kind, name, term: lease.term },
  });
}

function label(kind: LeaseKind, name: string): string {
  return kind === "cutter" ? "cutter" : kind === "sync" ? `polls of table ${name}` : `channel "${name}"`;
}
