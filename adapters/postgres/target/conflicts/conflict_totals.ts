/** Counting the conflict log: at the end of a transaction that wrote to it, where what is torn is marked too, and as a whole. */
import type { ConflictCount } from "../../../../src/core/target_store.ts";
import { type Connection, textArray } from "../../connection.ts";

/** Lines this transaction has written; its own xid, whatever savepoints they were written under. */
const OWN = "xid = pg_current_xact_id() AND occurred_at >= transaction_timestamp()";

/**
 * Sent at once, not awaited in between. `torn`: transactions of `source`. An xid is assigned if there was none: call it only
 * where something may have been logged.
 */
export async function closeConflicts(
  connection: Connection,
  schema: string,
  source: string,
  torn: readonly string[],
): Promise<readonly ConflictCount[]> {
  const marked =
    torn.length === 0
      ? null
      : connection.execute(
          `UPDATE ${schema}.conflict_log SET torn = true WHERE ${OWN} AND source_contour = $1 AND transaction_id = ANY ($2::text::text[])`,
          [source, textArray(torn)],
          { action: "mark torn transactions" },
        );
  const [, counts] = await Promise.all([marked, countConflicts(connection, schema)]);
  return counts;
}

/** The lines this transaction has written. As closeConflicts. */
export async function countConflicts(connection: Connection, schema: string): Promise<readonly ConflictCount[]> {
  const rows = await connection.query<Record<keyof ConflictCount, string>>(
    `SELECT CASE WHEN schema_name = 'public' THEN '' ELSE quote_ident(schema_name) || '.' END || quote_ident(table_name) AS "table",
  policy, winner, count(*) AS lines
FROM ${schema}.conflict_log WHERE ${OWN} GROUP BY schema_name, table_name, policy, winner`,
    [],
    { action: "count conflicts" },
  );
  return rows.map((row) => ({ ...row, lines: Number(row.lines) }));
}

/** Lines are counted one by one up to so many; above, PostgreSQL's own estimate does (the log may have millions). */
const COUNTED = 10_000;

/** An SQL expression: how many lines there are. */
export function conflictCount(schema: string): string {
  return `(SELECT CASE WHEN l.lines <= ${COUNTED} THEN l.lines
    ELSE greatest(l.lines, (SELECT c.reltuples::bigint FROM pg_class c WHERE c.oid = '${schema.replaceAll("'", "''")}.conflict_log'::regclass)) END
  FROM (SELECT count(*) AS lines FROM (SELECT FROM ${schema}.conflict_log LIMIT ${COUNTED + 1}) AS t) AS l)`;
}
