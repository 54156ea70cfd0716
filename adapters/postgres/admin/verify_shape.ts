/** A table as the catalog has it: columns, key and how its columns compare, size. Works where our objects are not installed. */
import type { TableName } from "../../../src/core/table_name.ts";
import type { TableShape, VerifiedColumn } from "../../../src/core/verify.ts";
import { type Database, textArray } from "../connection.ts";
import { names } from "./tables.ts";

export interface KeyColumn {
  readonly name: string;
  /** With its length and precision, as SQL writes it. */
  readonly type: string;
  /** Operators of the index that holds the key: nothing is found by a search path (citext lives outside pg_catalog). */
  readonly equal: string;
  readonly greater: string;
}

/** How our objects know a table that is polled. */
export interface Polled {
  /** table_id, digits. */
  readonly id: string;
  /** Whether deleted rows leave a tombstone. */
  readonly tombstones: boolean;
}

export interface DatabaseShape extends TableShape {
  readonly keyColumns: readonly KeyColumn[];
  /** Null for a table that triggers capture. */
  readonly polled: Polled | null;
}

const TABLE = `
SELECT c.oid::text AS oid,
       CASE WHEN n.nspname = 'public' THEN '' ELSE quote_ident(n.nspname) || '.' END || quote_ident(c.relname) AS written,
       greatest(coalesce((SELECT sum(greatest(p.reltuples, 0)) FROM pg_partition_tree(c.oid) t JOIN pg_class p ON p.oid = t.relid WHERE t.isleaf),
                         c.reltuples), 0)::bigint::text AS rows,
       coalesce((SELECT sum(pg_table_size(t.relid)) FROM pg_partition_tree(c.oid) t WHERE t.isleaf), pg_table_size(c.oid))::bigint::text AS bytes
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE n.nspname = $1 AND c.relname = $2 AND c.relkind IN ('r', 'p')`;

const COLUMNS = `
SELECT a.attname AS name, format_type(a.atttypid, NULL) AS type, (a.attgenerated <> '')::text AS generated
  FROM pg_attribute a WHERE a.attrelid = $1::text::oid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum`;

const REGISTERED = `
SELECT array_to_json(key_columns)::text AS key, array_to_json(stamp_columns)::text AS stamp, array_to_json(exclude_columns)::text AS excluded, capture, table_id::text AS id,
       (to_regclass('"replicator".tombstone_' || table_id) IS NOT NULL)::text AS tombstones
  FROM "replicator".replicated_table WHERE schema_name = $1 AND table_name = $2 AND removed_at IS NULL`;

const PRIMARY = `
SELECT array_to_json(array_agg(a.attname ORDER BY p.n))::text AS key
  FROM pg_index i CROSS JOIN LATERAL generate_series(0, i.indnkeyatts - 1) AS p(n)
  JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[p.n]
 WHERE i.indrelid = $1::text::oid AND i.indisprimary`;

const KEY = `
SELECT w.name, format_type(a.atttypid, a.atttypmod) AS type,
       coalesce(CASE WHEN o.namespace = 'pg_catalog' THEN o.equal ELSE format('OPERATOR(%I.%s)', o.namespace, o.equal) END, '=') AS equal,
       coalesce(CASE WHEN o.namespace = 'pg_catalog' THEN o.greater ELSE format('OPERATOR(%I.%s)', o.namespace, o.greater) END, '>') AS greater
  FROM unnest($2::text::text[]) WITH ORDINALITY AS w(name, n)
  JOIN pg_attribute a ON a.attrelid = $1::text::oid AND a.attname = w.name AND a.attnum > 0 AND NOT a.attisdropped
  LEFT JOIN LATERAL (
       SELECT e.oprname AS equal, g.oprname AS greater, s.nspname AS namespace
         FROM pg_index i CROSS JOIN LATERAL generate_series(0, i.indnkeyatts - 1) AS p(n)
         JOIN pg_opclass c ON c.oid = i.indclass[p.n]
         JOIN pg_amop m ON m.amopfamily = c.opcfamily AND m.amopstrategy = 3 AND m.amoplefttype = c.opcintype AND m.amoprighttype = c.opcintype
         JOIN pg_amop h ON h.amopfamily = c.opcfamily AND h.amopstrategy = 5 AND h.amoplefttype = c.opcintype AND h.amoprighttype = c.opcintype
         JOIN pg_operator e ON e.oid = m.amopopr
         JOIN pg_operator g ON g.oid = h.amopopr AND g.oprnamespace = e.oprnamespace
         JOIN pg_namespace s ON s.oid = e.oprnamespace
        WHERE i.indrelid = a.attrelid AND i.indkey[p.n] = a.attnum AND i.indisunique
        ORDER BY i.indisprimary DESC, i.indexrelid LIMIT 1) o ON true
 ORDER BY w.n`;

/** Null: there is no such table. `key`: the columns to identify rows by; null: those of its registration, else the primary key's. */
export async function readShape(
  db: Database,
  installed: boolean,
  { schema, name }: TableName,
  key: readonly string[] | null,
  signal: AbortSignal,
): Promise<DatabaseShape | null> {
  const run = { action: `look at table ${name} of ${db.label}`, signal };
  const [table] = await db.query<Record<"oid" | "written" | "rows" | "bytes", string>>(TABLE, [schema, name], run);
  if (!table) return null;
  const { oid, written, rows, bytes } = table;
  const [registered] = installed
    ? await db.query<Record<"key" | "stamp" | "excluded" | "capture" | "id" | "tombstones", string>>(
        db.ours(REGISTERED),
        [schema, name],
        run,
      )
    : [];
  const excluded = new Set(registered ? names(registered.excluded) : []);
  const found = await db.query<Record<"name" | "type" | "generated", string>>(COLUMNS, [oid], run);
  const columns = found.map(
    (column): VerifiedColumn => ({
      name: column.name,
      type: column.type,
      leftOut: column.generated === "true" || excluded.has(column.name),
    }),
  );
  const own = registered ? names(registered.key) : await primaryKey(db, oid, run);
  const wanted = key ?? own;
  const keyColumns = await db.query<Record<"name" | "type" | "equal" | "greater", string>>(
    KEY,
    [oid, textArray(wanted)],
    run,
  );
  return {
    schema,
    name,
    table: written,
    columns,
    key: wanted,
    keyColumns,
    stamp: registered ? names(registered.stamp) : null,
    estimatedRows: Number(rows),
    estimatedRowBytes: Number(rows) > 0 ? Number(bytes) / Number(rows) : 0,
    polled: registered?.capture === "none" ? { id: registered.id, tombstones: registered.tombstones === "true" } : null,
  };
}

async function primaryKey(db: Database, oid: string, run: { readonly action: string; readonly signal: AbortSignal }) {
  const [row] = await db.query<{ key: string | null }>(PRIMARY, [oid], run);
  return row?.key ? names(row.key) : [];
}
