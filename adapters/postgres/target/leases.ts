/** Leases on partitions of broker logs: one consumer at a time per partition, by the database's clock (architecture §7.1). */
import type { Clock } from "../../../src/core/clock.ts";
import type { Lease } from "../../../src/core/lease.ts";
import { CONTROL_TIMEOUT_MS, type Database } from "../connection.ts";

// One statement: ours is renewed, an expired one is taken with a new term, somebody else's is left alone.
const TAKE = `
INSERT INTO "replicator".lease AS l (kind, name, owner, term, expires_at)
VALUES ('feed', $1, $2, 1, clock_timestamp() + $3::int * interval '1 ms')
ON CONFLICT (kind, name) DO UPDATE
SET owner = excluded.owner, term = l.term + (l.owner <> excluded.owner)::int, expires_at = excluded.expires_at
WHERE l.owner = excluded.owner OR l.expires_at <= clock_timestamp()
RETURNING l.term`;

const GIVE_UP = `
UPDATE "replicator".lease SET expires_at = '-infinity'
WHERE kind = 'feed' AND name = $1 AND owner = $2 AND term = $3::bigint`;

export function leaseName(feed: string, partition: number): string {
  return `${feed}/${partition}`;
}

/** Takes or renews; null when somebody else holds it. */
export async function takeLease(
  db: Database,
  clock: Clock,
  name: string,
  owner: string,
  ttlMs: number,
): Promise<Lease | null> {
  // From before the request: the server starts counting later than we do, never earlier.
  const asked = clock.monotonic();
  const params = [name, owner, Math.round(ttlMs)];
  // An answer that comes when the lease has run out is worth nothing.
  const options = { action: `take the lease of ${name}`, timeoutMs: Math.min(ttlMs, CONTROL_TIMEOUT_MS) };
  const [row] = await db.query<{ term: string }>(db.ours(TAKE), params, options);
  return row ? { owner, term: Number(row.term), expiresAt: asked + ttlMs } : null;
}

/** Gives it up at once, if it is still ours. */
export async function giveUpLease(db: Database, name: string, lease: Lease): Promise<void> {
  const options = { action: `give up the lease of ${name}`, timeoutMs: CONTROL_TIMEOUT_MS };
  await db.execute(db.ours(GIVE_UP), [name, lease.owner, lease.term], options);
}
