/** The conflict log's retention. */
import type { Queryable } from "../../connection.ts";

/** Deleted at a time: short enough to be in nobody's way. */
const AT_A_TIME = 1_000;

/** Deletes the oldest lines that are older than `retentionMs`. `schema`: ours, quoted. Returns how many; safe side by side. */
export function trimConflictLog(db: Queryable, schema: string, retentionMs: number): Promise<number> {
  return db.execute(
    `DELETE FROM ${schema}.conflict_log WHERE id IN (
  SELECT id FROM ${schema}.conflict_log WHERE occurred_at < clock_timestamp() - $1::float8 * interval '1 ms'
  ORDER BY occurred_at, id LIMIT ${AT_A_TIME} FOR UPDATE SKIP LOCKED)`,
    [retentionMs],
    { action: "delete old lines of the conflict log" },
  );
}
