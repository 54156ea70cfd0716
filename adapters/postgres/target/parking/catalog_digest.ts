/**
 * What the catalog says about tables, as one digest each: another digest means that somebody's DDL may have mended what a
 * parked change waits for. Made of the catalog rows' own transaction ids, so that nothing a change of the schema touches
 * is forgotten: columns, defaults, types and their labels, constraints (of the parents' side and of domains too), triggers,
 * policies, indexes, partitions, rights, our register; and every user function, because what a function calls is written
 * nowhere. A digest too many costs an attempt, no more.
 */
import { type Queryable, textArray } from "../../connection.ts";

export interface TableNamed {
  readonly schema: string;
  readonly table: string;
}

export interface TableDigest extends TableNamed {
  readonly digest: string;
}

const rows = (relation: string, alias: string, where: string, more = "''") =>
  `(SELECT string_agg(${alias}.xmin::text || ${more}, ',' ORDER BY ${alias}.ctid) FROM ${relation} ${alias} WHERE ${where})`;

const DIGEST = `
SELECT w.schema_name AS schema, w.table_name AS table, md5(concat_ws('|',
  (SELECT count(*)::text || ' ' || coalesce(sum(hashtext(p.oid::text || ' ' || p.xmin::text)::bigint), 0) FROM pg_proc p WHERE p.oid >= 16384),
  n.xmin::text, c.xmin::text, c.oid::text,
  ${rows("pg_attribute", "a", "a.attrelid = c.oid AND a.attnum > 0", "'.' || a.attnum")},
  ${rows("pg_attrdef", "d", "d.adrelid = c.oid")},
  ${rows("pg_constraint", "k", "k.conrelid = ANY (p.relations) OR k.confrelid = c.oid OR k.contypid = ANY (t.types)")},
  ${rows("pg_trigger", "g", "g.tgrelid = ANY (p.relations)")},
  ${rows("pg_policy", "o", "o.polrelid = c.oid")},
  ${rows("pg_index", "i", "i.indrelid = c.oid")},
  ${rows("pg_inherits", "h", "h.inhparent = ANY (p.relations)")},
  ${rows("pg_type", "y", "y.oid = ANY (t.types)")},
  ${rows("pg_enum", "e", "e.enumtypid = ANY (t.types)")},
  ${rows('"replicator".replicated_table', "r", "r.schema_name = w.schema_name AND r.table_name = w.table_name")})) AS digest
FROM (SELECT DISTINCT * FROM unnest($1::text::text[], $2::text::text[])) AS w(schema_name, table_name)
LEFT JOIN pg_namespace n ON n.nspname = w.schema_name
LEFT JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = w.table_name
CROSS JOIN LATERAL (SELECT array_agg(x) AS relations FROM (SELECT c.oid UNION SELECT relid FROM pg_partition_tree(c.oid)) AS x(x)) AS p
CROSS JOIN LATERAL (
  WITH RECURSIVE step(id) AS (
    SELECT a.atttypid FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0
    UNION
    SELECT unnest(ARRAY[y.typbasetype, y.typelem]) FROM step s JOIN pg_type y ON y.oid = s.id)
  SELECT array_agg(id) FILTER (WHERE id >= 16384) AS types FROM step) AS t`;

/** `tables`: named twice they are looked at once. One round trip, about a millisecond. */
export async function catalogDigests(
  db: Queryable,
  ours: (text: string) => string,
  tables: readonly TableNamed[],
): Promise<readonly TableDigest[]> {
  const params = [textArray(tables.map(({ schema }) => schema)), textArray(tables.map(({ table }) => table))];
  const found = await db.query<Record<"schema" | "table" | "digest", string>>(ours(DIGEST), params, {
    action: "look whether the catalog has changed",
  });
  return found;
}
