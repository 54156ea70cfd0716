/** Columns and key of a table, to be compared with those of its namesake in another database. */
import type { TableShape } from "../../../src/core/admin.ts";
import type { Database } from "../connection.ts";
import { names, resolveName } from "./tables.ts";

const FOUND = "SELECT to_regclass($1)::oid::text AS oid";

const COLUMNS = `
SELECT a.attname AS name, format_type(a.atttypid, a.atttypmod) AS type, a.attnotnull AS not_null,
       (a.atthasdef OR a.attidentity <> '') AS filled, a.attgenerated <> '' AS generated
  FROM pg_attribute a WHERE a.attrelid = $1::oid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum`;

const KEY = `
SELECT coalesce(array_to_json(array_agg(a.attname ORDER BY k.place)), '[]')::text AS key
  FROM pg_index i CROSS JOIN LATERAL unnest(i.indkey) WITH ORDINALITY AS k(attnum, place)
  JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
 WHERE i.indrelid = $1::oid AND i.indisprimary`;

type ColumnRow = Readonly<Record<"name" | "type" | "not_null" | "filled" | "generated", string>>;

/** Null when there is no such table. @throws ReplicatorError `tables.bad_name` */
export async function tableShape(db: Database, table: string, signal: AbortSignal): Promise<TableShape | null> {
  const options = { action: `read the columns of ${table}`, signal };
  const name = await resolveName(db, table, options);
  const [found] = await db.query<{ oid: string | null }>(FOUND, [name], options);
  if (!found?.oid) return null;
  const columns = await db.query<ColumnRow>(COLUMNS, [found.oid], options);
  const [key] = await db.query<{ key: string }>(KEY, [found.oid], options);
  return {
    columns: columns.map((row) => ({
      name: row.name,
      type: row.type,
      notNull: row.not_null === "t",
      filled: row.filled === "t",
      generated: row.generated === "t",
    })),
    key: names(key?.key ?? "[]"),
  };
}
