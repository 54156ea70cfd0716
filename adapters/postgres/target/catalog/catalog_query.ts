/** One statement that answers with the whole catalog of the replicated tables as JSON text; see catalog.ts for its shape. */

const EQUALITY = `coalesce((
    SELECT format('OPERATOR(%I.%s)', n.nspname, o.oprname)
    FROM pg_opclass oc
    JOIN pg_amop ao ON ao.amopfamily = oc.opcfamily AND ao.amopstrategy = 3
                   AND ao.amoplefttype = oc.opcintype AND ao.amoprighttype = oc.opcintype
    JOIN pg_operator o ON o.oid = ao.amopopr
    JOIN pg_namespace n ON n.oid = o.oprnamespace
    WHERE oc.opcmethod = 403 AND oc.opcdefault AND oc.opcintype = base.id AND n.nspname <> 'pg_catalog'), '=')`;

const COLUMNS = `(
  SELECT json_agg(json_build_object(
      'name', a.attname,
      'type', format_type(a.atttypid, a.atttypmod),
      'json', base.id IN ('json'::regtype, 'jsonb'::regtype),
      'generated', a.attgenerated <> '',
      'expression', CASE WHEN a.attgenerated <> '' THEN
        (SELECT pg_get_expr(d.adbin, d.adrelid) FROM pg_attrdef d WHERE d.adrelid = a.attrelid AND d.adnum = a.attnum) END,
      'identityAlways', a.attidentity = 'a',
      'equals', ${EQUALITY}) ORDER BY a.attnum)
  FROM pg_attribute a
  CROSS JOIN LATERAL (
    WITH RECURSIVE step AS (
      SELECT a.atttypid AS id
      UNION ALL
      SELECT t.typbasetype FROM step JOIN pg_type t ON t.oid = step.id WHERE t.typtype = 'd')
    SELECT step.id FROM step JOIN pg_type t ON t.oid = step.id WHERE t.typtype <> 'd') AS base
  WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped)`;

const NAMES_OF = (relation: string, numbers: string) => `(
  SELECT json_agg(a.attname ORDER BY n.place)
  FROM unnest(${numbers}) WITH ORDINALITY AS n(attnum, place)
  JOIN pg_attribute a ON a.attrelid = ${relation} AND a.attnum = n.attnum)`;

const FOREIGN_KEY = `json_build_object(
  'name', k.conname,
  'childSchema', (SELECT nspname FROM pg_namespace n WHERE n.oid = child.relnamespace),
  'childTable', child.relname,
  'childColumns', ${NAMES_OF("k.conrelid", "k.conkey")},
  'parentSchema', (SELECT nspname FROM pg_namespace n WHERE n.oid = parent.relnamespace),
  'parentTable', parent.relname,
  'parentColumns', ${NAMES_OF("k.confrelid", "k.confkey")},
  'equals', (SELECT json_agg(format('OPERATOR(%I.%s)', n.nspname, o.oprname) ORDER BY e.place)
             FROM unnest(k.conpfeqop) WITH ORDINALITY AS e(id, place)
             JOIN pg_operator o ON o.oid = e.id JOIN pg_namespace n ON n.oid = o.oprnamespace),
  'replicated', EXISTS (SELECT FROM "replicator".replicated_table r3
    JOIN pg_namespace n3 ON n3.nspname = r3.schema_name WHERE n3.oid = child.relnamespace AND r3.table_name = child.relname AND r3.removed_at IS NULL),
  'onDelete', k.confdeltype,
  -- ON DELETE SET NULL (column, …) is known from PostgreSQL 15 on
  'setColumns', (SELECT json_agg(a.attname ORDER BY a.attnum) FROM pg_attribute a
                 WHERE a.attrelid = k.conrelid
                   AND a.attnum::text IN (SELECT json_array_elements_text(CASE json_typeof(to_json(k)->'confdelsetcols')
                                            WHEN 'array' THEN to_json(k)->'confdelsetcols' ELSE '[]' END))))`;

// A constraint declared NOT ENFORCED (PostgreSQL 18) is nobody's to check.
const ENFORCED = "k.contype = 'f' AND k.conparentid = 0 AND coalesce(to_json(k)->>'conenforced', 'true') = 'true'";

/** A column or expression of an index as it is compared, with the index's collation. */
const INDEX_EXPRESSION = `pg_get_indexdef(i.indexrelid, p.n::int, false) || coalesce((
      SELECT format(' COLLATE %I.%I', n.nspname, l.collname)
      FROM pg_collation l JOIN pg_namespace n ON n.oid = l.collnamespace WHERE l.oid = i.indcollation[p.n - 1]), '')`;

/** What makes two rows clash: the exclusion constraint's operator, or equality by the index's own operator class. */
const INDEX_OPERATOR = `(
      SELECT format('OPERATOR(%I.%s)', n.nspname, o.oprname)
      FROM pg_operator o JOIN pg_namespace n ON n.oid = o.oprnamespace
      WHERE o.oid = coalesce(
        (SELECT k.conexclop[p.n] FROM pg_constraint k WHERE k.conindid = i.indexrelid AND k.contype IN ('x', 'u', 'p') AND k.conexclop IS NOT NULL),
        (SELECT ao.amopopr FROM pg_opclass oc JOIN pg_amop ao ON ao.amopfamily = oc.opcfamily AND ao.amopstrategy = 3
           AND ao.amoplefttype = oc.opcintype AND ao.amoprighttype = oc.opcintype WHERE oc.oid = i.indclass[p.n - 1])))`;

/** Unique and exclusion rules beside the key: what two contours can break together (architecture §6.3). */
const RULES = `(
  SELECT json_agg(json_build_object(
      'name', i.indexrelid::regclass::text,
      'expressions', (SELECT json_agg(${INDEX_EXPRESSION} ORDER BY p.n) FROM generate_series(1, i.indnkeyatts) AS p(n)),
      'operators', (SELECT json_agg(${INDEX_OPERATOR} ORDER BY p.n) FROM generate_series(1, i.indnkeyatts) AS p(n)),
      'predicate', pg_get_expr(i.indpred, i.indrelid),
      'nullsEqual', coalesce((to_json(i)->>'indnullsnotdistinct')::boolean, false)) ORDER BY i.indexrelid::regclass::text COLLATE "C")
  FROM pg_index i
  WHERE i.indrelid = c.oid AND (i.indisunique OR i.indisexclusion) AND i.indislive
    AND NOT (i.indisunique AND i.indpred IS NULL AND i.indexprs IS NULL
             AND (SELECT array_agg(a.attname::text ORDER BY a.attname) FROM pg_attribute a
                  WHERE a.attrelid = c.oid AND a.attnum = ANY ((i.indkey::int2[])[0:i.indnkeyatts - 1]))
               = (SELECT array_agg(x ORDER BY x COLLATE "C") FROM unnest(rt.key_columns) x)))`;

/** Why foreign keys or constraints around this table need PostgreSQL's own checks, that is origin mode. */
const FORBIDS = `coalesce(
  (SELECT format('%s references %s and is not replicated', k.conrelid::regclass, c.oid::regclass)
   FROM pg_constraint k
   WHERE k.confrelid = c.oid AND ${ENFORCED}
     AND NOT EXISTS (SELECT FROM "replicator".replicated_table r2 JOIN pg_class c2 ON c2.relname = r2.table_name
                     JOIN pg_namespace n2 ON n2.oid = c2.relnamespace AND n2.nspname = r2.schema_name
                     WHERE c2.oid = k.conrelid AND r2.removed_at IS NULL) LIMIT 1),
  (SELECT format('%s of %s references columns that are not the key of %s', k.conname, k.conrelid::regclass, c.oid::regclass)
   FROM pg_constraint k
   WHERE k.confrelid = c.oid AND ${ENFORCED}
     AND (SELECT array_agg(a.attname::text ORDER BY a.attname) FROM pg_attribute a
          WHERE a.attrelid = c.oid AND a.attnum = ANY (k.confkey))
      <> (SELECT array_agg(x ORDER BY x COLLATE "C") FROM unnest(rt.key_columns) x) LIMIT 1),
  (SELECT format('the rows of %s cannot be locked: GRANT SELECT, UPDATE ON it', k.confrelid::regclass)
   FROM pg_constraint k
   WHERE k.conrelid = c.oid AND ${ENFORCED}
     AND NOT (has_table_privilege(k.confrelid, 'SELECT') AND has_table_privilege(k.confrelid, 'UPDATE')) LIMIT 1),
  (SELECT format('%s of %s is a deferrable exclusion constraint', k.conname, c.oid::regclass)
   FROM pg_constraint k WHERE k.conrelid = c.oid AND k.contype = 'x' AND k.condeferrable LIMIT 1))`;

export const CATALOG_QUERY = `
SELECT json_agg(t ORDER BY t.id)::text AS tables FROM (
  SELECT rt.table_id AS id, rt.schema_name AS schema, rt.table_name AS name,
    CASE WHEN rt.schema_name = 'public' THEN quote_ident(rt.table_name)
         ELSE quote_ident(rt.schema_name) || '.' || quote_ident(rt.table_name) END AS label,
    rt.key_columns AS key, rt.stamp_columns AS stamp, rt.conflict AS policy,
    CASE rt.stamping WHEN 'application' THEN (SELECT contour FROM "replicator".local) END AS "stampedAs",
    ${COLUMNS} AS columns,
    (SELECT json_agg(${FOREIGN_KEY} ORDER BY k.conname)
     FROM pg_constraint k JOIN pg_class child ON child.oid = k.conrelid JOIN pg_class parent ON parent.oid = k.confrelid
     WHERE k.conrelid = c.oid AND ${ENFORCED}) AS parents,
    (SELECT json_agg(${FOREIGN_KEY} ORDER BY k.conname)
     FROM pg_constraint k JOIN pg_class child ON child.oid = k.conrelid JOIN pg_class parent ON parent.oid = k.confrelid
     WHERE k.confrelid = c.oid AND ${ENFORCED}) AS children,
    (SELECT json_agg(${NAMES_OF("k.conrelid", "k.conkey")} ORDER BY k.conname)
     FROM pg_constraint k WHERE k.conrelid = c.oid AND k.contype = 'u' AND k.condeferrable) AS "unique",
    ${RULES} AS rules,
    c.relkind = 'p' AS partitioned,
    EXISTS (SELECT FROM pg_constraint k WHERE k.conrelid = c.oid AND k.condeferrable) AS deferrable,
    ${FORBIDS} AS forbids
  FROM "replicator".replicated_table rt
  JOIN pg_namespace ns ON ns.nspname = rt.schema_name
  JOIN pg_class c ON c.relnamespace = ns.oid AND c.relname = rt.table_name
  WHERE rt.removed_at IS NULL
) t`;
