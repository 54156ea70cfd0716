/** A bounded load of small transactions that counts what was committed. */
import type { Sql } from "postgres";

export interface Load {
  /** Rows committed so far. */
  committed(): number;
  /** Stops and waits for the last transaction. */
  stop(): Promise<number>;
}

/**
 * Inserts rows (id, name) into `users` from `firstId` on, one transaction each on `connections` connections, until stopped
 * or `limit` rows; a third of them is updated and a tenth deleted again. Failed transactions (the database is away) are
 * tried again with a new id: they count only when the commit was confirmed.
 */
export function startLoad(sql: Sql, options: { firstId: number; limit: number; connections?: number }): Load {
  let next = options.firstId;
  let committed = 0;
  let stopped = false;
  const worker = async () => {
    while (!stopped && next < options.firstId + options.limit) {
      const id = next++;
      try {
        await sql.begin(async (tx) => {
          await tx`INSERT INTO users (id, name) VALUES (${id}, ${`user ${id}`})`;
          if (id % 3 === 0) await tx`UPDATE users SET name = ${`user ${id} again`} WHERE id = ${id}`;
        });
        if (id % 10 === 0) await sql`DELETE FROM users WHERE id = ${id}`;
        committed++;
      } catch {
        // The outage under test: this id may or may not be there; both contours must agree about it.
        await new Promise((resolve) => setImmediate(resolve));
      }
    }
  };
  const workers = Array.from({ length: options.connections ?? 2 }, worker);
  return {
    committed: () => committed,
    stop: async () => {
      stopped = true;
      await Promise.all(workers);
      return committed;
    },
  };
}
