/** The accounts that an unthrottled load updates. */
import type { Sql } from "postgres";

/** Fills bench_accounts up to `rows` accounts; nothing when they are there. */
export async function makeAccounts(sql: Sql, rows: number): Promise<void> {
  await sql.unsafe(
    `INSERT INTO bench_accounts (id, balance, filler) SELECT g, 0, repeat('x', 84) FROM generate_series(1, ${rows}) g
       WHERE NOT EXISTS (SELECT FROM bench_accounts WHERE id = g)`,
  );
}
