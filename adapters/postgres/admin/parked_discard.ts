/** `parked discard`: a change is thrown away, and conflict_log keeps it with the row that stands here instead. */
import type { DiscardedChange } from "../../../src/core/admin.ts";
import { type Connection, type Database, quoteIdentifier, textArray } from "../connection.ts";
import { sqlState } from "../errors.ts";
import { assertKnown } from "./parked.ts";

const TAKE = `
SELECT i.id, i.schema_name AS schema, i.table_name AS name, array_to_json(i.key_columns)::text AS key,
  CASE WHEN i.schema_name = 'public' THEN '' ELSE quote_ident(i.schema_name) || '.' END || quote_ident(i.table_name) AS "table",
  i.record_id, i.source_contour
  FROM "replicator".inbox i WHERE i.id = ANY ($1::text::bigint[]) ORDER BY i.id FOR UPDATE`;

const LOG = `
WITH gone AS (DELETE FROM "replicator".inbox WHERE id = $1::bigint RETURNING *)
INSERT INTO "replicator".conflict_log (source_contour, schema_name, table_name, record_id, policy, winner, reason, local_row, incoming_row, transaction_id)
SELECT g.source_contour, g.schema_name, g.table_name, coalesce(g.record_id, ''),
  coalesce((SELECT r.conflict FROM "replicator".replicated_table r WHERE r.schema_name = g.schema_name AND r.table_name = g.table_name), 'version'),
  'local', 'discarded', $2, g.data, g.transaction_id
FROM gone g RETURNING id`;

interface TakenRow {
  readonly id: string;
  readonly schema: string;
  readonly name: string;
  readonly key: string | null;
  readonly table: string;
  readonly record_id: string | null;
  readonly source_contour: string;
  readonly [column: string]: string | null;
}

/** In one transaction: all or none. @throws ReplicatorError `parked.unknown` */
export async function discardParked(
  db: Database,
  ids: readonly string[],
  signal: AbortSignal,
): Promise<readonly DiscardedChange[]> {
  const run = { action: "discard parked changes", signal };
  return await db.transaction(async (connection) => {
    const rows = await connection.query<TakenRow>(db.ours(TAKE), [textArray(ids)], run);
    assertKnown(
      ids,
      rows.map(({ id }) => id),
    );
    const discarded: DiscardedChange[] = [];
    for (const row of rows) {
      const local = await localRow(connection, db, row);
      const [logged] = await connection.query<{ id: string }>(db.ours(LOG), [row.id, local], run);
      const { table, record_id, source_contour } = row;
      discarded.push({ id: Number(row.id), table, record_id, source_contour, conflict_id: Number(logged?.id) });
    }
    return discarded;
  }, signal);
}

/** The row of its key here as JSON text; null where there is none, or no such table. */
async function localRow(connection: Connection, db: Database, row: TakenRow): Promise<string | null> {
  const key = row.key === null ? [] : (JSON.parse(row.key) as readonly string[]);
  if (key.length === 0) return null;
  const table = `${quoteIdentifier(row.schema)}.${quoteIdentifier(row.name)}`;
  const same = key.map((name) => `c.${quoteIdentifier(name)}::text = k.${quoteIdentifier(name)}::text`).join(" AND ");
  await connection.script("SAVEPOINT replicator_local_row");
  try {
    const [found] = await connection.query<{ image: string }>(
      db.ours(`SELECT row_to_json(c.*)::text AS image FROM ${table} c
CROSS JOIN (SELECT (json_populate_record(NULL::${table}, (
  SELECT json_object_agg(n, i.data::json->n) FROM json_array_elements_text($2::text::json) n))).*
  FROM "replicator".inbox i WHERE i.id = $1::bigint) k WHERE ${same}`),
      [row.id, row.key],
      { prepare: false },
    );
    return found?.image ?? null;
  } catch (error) {
    // The table or a column of the key is what is missing here, or the key is no value of its type: then no row can be its.
    if (!/^(42|22|0A|3F)/.test(sqlState(error) ?? "")) throw error;
    await connection.script("ROLLBACK TO SAVEPOINT replicator_local_row");
    return null;
  }
}
