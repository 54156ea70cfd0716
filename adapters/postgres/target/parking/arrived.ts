/**
 * Parked rows that refer to parents which were not here: made due as soon as all of them are. In channels of events a child
 * often overtakes its parent; it must not wait out a long pause, nor stay a dead letter, once the parent has come.
 */
import type { Database } from "../../connection.ts";
import { type ForeignKey, qualified, type TargetTable } from "../catalog/catalog.ts";
import { rowFailure } from "../rows/failures.ts";
import { literal } from "../rows/row_block.ts";
import { id } from "../sql_names.ts";

/** Returns how many rows of the table are due now that were not. */
export async function wakeChildren(db: Database, schema: string, table: TargetTable): Promise<number> {
  if (table.parents.length === 0) return 0;
  try {
    return await db.execute(waking(schema, table), [], { action: `look for parents of parked rows of ${table.label}` });
  } catch (error) {
    // Some value is not of its column's type: the clock brings them all.
    if (rowFailure(error) === null) throw error;
    return 0;
  }
}

function waking(schema: string, table: TargetTable): string {
  const names = [...new Set(table.parents.flatMap((fk) => fk.childColumns))];
  const columns = names.map((name) => `${id(name)} ${table.columns.get(name)?.type ?? "text"}`);
  return `
UPDATE ${schema}.inbox i
SET next_attempt_at = clock_timestamp(), attempts = CASE i.status WHEN 'dead' THEN 0 ELSE i.attempts END, status = 'parked'
FROM (SELECT w.id FROM ${schema}.inbox w
      CROSS JOIN LATERAL json_to_recordset(('[' || w.data || ']')::json) AS q(${columns.join(", ")})
      WHERE w.schema_name = ${literal(table.schema)} AND w.table_name = ${literal(table.name)} AND w.error_code = '23503'
        AND w.operation IN ('INSERT', 'UPDATE', 'SNAPSHOT') AND w.next_attempt_at > clock_timestamp()
        AND ${table.parents.map(isThere).join(" AND ")}
      FOR UPDATE OF w SKIP LOCKED) AS f
WHERE i.id = f.id`;
}

function isThere(fk: ForeignKey): string {
  const absent = fk.childColumns.map((name) => `q.${id(name)} IS NULL`).join(" OR ");
  const same = fk.parentColumns
    .map((name, n) => `p.${id(name)} ${fk.equals[n]} q.${id(fk.childColumns[n] ?? "")}`)
    .join(" AND ");
  return `(${absent} OR EXISTS (SELECT FROM ${qualified(fk.parentSchema, fk.parentTable)} p WHERE ${same}))`;
}
