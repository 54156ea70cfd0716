/** A load of so many single-row transactions a second, as far as the machine allows. */
import type { Sql } from "postgres";

export interface PacedLoad {
  /** Transactions committed so far. */
  committed(): number;
  /** Stops, waits for what is under way. */
  stop(): Promise<number>;
}

const TICK_MS = 20;
/** Under way at most: a database that is slow is not flooded. */
const MOST_OPEN = 200;

/**
 * Inserts rows (id, name) into `users` from `firstId` on; every third transaction updates one of the last rows instead,
 * every tenth deletes one. Nothing is expected to fail: the outages are the broker's.
 */
export function startPacedLoad(sql: Sql, options: { firstId: number; perSecond: number }): PacedLoad {
  let next = options.firstId;
  let committed = 0;
  let due = 0;
  let turn = 0;
  let failure: unknown = null;
  const open = new Set<Promise<void>>();
  const transaction = async () => {
    const n = turn++;
    const earlier = next - 1 - (n % 50);
    if (n % 10 === 9) await sql`DELETE FROM users WHERE id = ${earlier}`;
    else if (n % 3 === 2) await sql`UPDATE users SET name = ${`again ${n}`} WHERE id = ${earlier}`;
    else await sql`INSERT INTO users (id, name) VALUES (${next++}, ${`user ${n}`})`;
    committed++;
  };
  let before = performance.now();
  const timer = setInterval(() => {
    const now = performance.now();
    due = Math.min(due + ((now - before) * options.perSecond) / 1_000, MOST_OPEN);
    before = now;
    for (; due >= 1 && open.size < MOST_OPEN; due--) {
      const one: Promise<void> = transaction()
        .catch((error) => {
          failure ??= error;
        })
        .finally(() => open.delete(one));
      open.add(one);
    }
  }, TICK_MS);
  return {
    committed: () => committed,
    stop: async () => {
      clearInterval(timer);
      await Promise.all(open);
      if (failure !== null) throw failure;
      return committed;
    },
  };
}
