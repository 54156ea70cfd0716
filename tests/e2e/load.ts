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
        // One text, so one transaction: sql.begin() would roll back on a connection that the outage has closed, and the
        // client library throws then where nobody can catch it.
        const again = id % 3 === 0 ? `; UPDATE users SET name = 'user ${id} again' WHERE id = ${id}` : "";
        await sql.unsafe(`INSERT INTO users (id, name) VALUES (${id}, 'user ${id}')${again}`).simple();
        if (id % 10 === 0) await sql`DELETE FROM users WHERE id = ${id}`;
        committed++;
      } catch (error) {
        if ((error as { code?: unknown }).code === "CONNECTION_ENDED") return;
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
