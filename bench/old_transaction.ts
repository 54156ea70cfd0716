/** A transaction as a forgotten session leaves it open: it has an xid and a snapshot, and does nothing. */
import postgres from "postgres";

/** @returns what ends it */
export async function holdTransaction(url: string): Promise<() => Promise<void>> {
  const sql = postgres(url, { max: 1, onnotice: () => undefined });
  await sql.unsafe("BEGIN ISOLATION LEVEL REPEATABLE READ");
  await sql.unsafe("SELECT pg_current_xact_id()");
  return async () => {
    await sql.unsafe("ROLLBACK");
    await sql.end({ timeout: 2 });
  };
}
