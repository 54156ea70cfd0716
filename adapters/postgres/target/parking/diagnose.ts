/**
 * What unblocks a change that could not be applied, as one SQL expression: the statement to run here, or the act, worked
 * out from the catalog, the row and what PostgreSQL said beside its message; never from the message's wording, which has
 * a language. What only the source knows (a type, a function's body) stands behind `--` as a note.
 *
 * It is over a row `r`: code, message, facts (json), schema_name, table_name, operation, data (the row's JSON as
 * text), key_columns, stamp_columns, source_contour. NULL where nothing is known. It reads catalogs only and casts nothing
 * that can fail, so that it cannot turn a parked row into a failed transaction.
 */
import { COLUMN_TYPE_REMEDY, ENUM_LABEL_REMEDY, LENGTH_REMEDY, RANGE_REMEDY } from "./diagnose_types.ts";
import { likelyType, named } from "./diagnose_words.ts";

const CONTOUR = "quote_ident(r.source_contour)";
const FACT = (name: string) => `(r.facts->>'${name}')`;

const CREATE_TABLE = `(
  SELECT format('CREATE TABLE %s (%s%s); -- with the types it has at contour %s; then run: replicator tables add %1$s', t.label,
    string_agg(format('%I %s', e.key, ${likelyType("e.value")}), ', ' ORDER BY e.place),
    ', PRIMARY KEY (' || (SELECT string_agg(quote_ident(k), ', ') FROM unnest(r.key_columns) k) || ')', ${CONTOUR})
  FROM json_each(r.data::json) WITH ORDINALITY AS e(key, value, place)
  WHERE NOT e.key = ANY (coalesce(r.stamp_columns, '{}')))`;

const UNKNOWN_TABLE = `CASE
  WHEN t.oid IS NOT NULL OR r.operation = 'TRUNCATE' THEN format('replicator tables add %s', t.label)
  ELSE ${CREATE_TABLE} END`;

/** Columns that are missing, and columns that are generated here and not there. A virtual one cannot be made plain. */
const UNKNOWN_COLUMN = `(
  SELECT format('ALTER TABLE %s %s; -- or with the types they have at contour %s', t.label,
    string_agg(CASE a.attgenerated
      WHEN 's' THEN format('ALTER COLUMN %I DROP EXPRESSION', e.key)
      WHEN 'v' THEN format('DROP COLUMN %I, ADD COLUMN %1$I %s', e.key, format_type(a.atttypid, a.atttypmod))
      ELSE format('ADD COLUMN %I %s', e.key, ${likelyType("e.value")}) END, ', ' ORDER BY e.place), ${CONTOUR})
  FROM json_each(r.data::json) WITH ORDINALITY AS e(key, value, place)
  LEFT JOIN pg_attribute a ON a.attrelid = t.oid AND a.attname = e.key AND a.attnum > 0 AND NOT a.attisdropped
  WHERE (a.attname IS NULL OR a.attgenerated <> '') AND NOT e.key = ANY (coalesce(r.stamp_columns, '{}'))
  HAVING count(*) > 0)`;

const KEY_DIFFERS = `(
  SELECT format('ALTER TABLE %s %sADD PRIMARY KEY (%s); SELECT setup_table_for_replication(%L, %L)', t.label,
    (SELECT format('DROP CONSTRAINT %I, ', k.conname) FROM pg_constraint k WHERE k.conrelid = t.oid AND k.contype = 'p'),
    string_agg(quote_ident(k), ', '), t.label, json_build_object('primary_key', json_agg(k)))
  FROM unnest(r.key_columns) k)`;

const SKEW = `CASE
  WHEN r.data::json->>(r.stamp_columns)[1] ~ '^[0-9]{1,15}$'
  THEN format('It is applied once its time is no further ahead than consumer.max_skew: look at the clock of contour %s', ${CONTOUR})
  ELSE format('Give the row a version below 2^53 at contour %s', ${CONTOUR}) END`;

/** The table the error is about: the leaf of a partitioned one, or another one that a trigger writes to. */
const ERROR_TABLE = `coalesce((
  SELECT ${named("n.nspname", "c.relname")} FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE n.nspname = ${FACT("schema")} AND c.relname = ${FACT("table")}), t.label)`;
const ERROR_TYPE = named(FACT("schema"), FACT("type"));

const NOT_NULL = `CASE
  WHEN ${FACT("column")} IS NOT NULL THEN format('ALTER TABLE %s ALTER COLUMN %I DROP NOT NULL; -- or SET DEFAULT', ${ERROR_TABLE}, ${FACT("column")})
  WHEN ${FACT("type")} IS NOT NULL THEN format('ALTER DOMAIN %s DROP NOT NULL', ${ERROR_TYPE}) END`;

const CHECK = `CASE
  WHEN ${FACT("type")} IS NOT NULL THEN format('ALTER DOMAIN %s DROP CONSTRAINT %I; -- %s', ${ERROR_TYPE}, ${FACT("constraint")}, (
    SELECT pg_get_constraintdef(k.oid) FROM pg_constraint k JOIN pg_type y ON y.oid = k.contypid
    JOIN pg_namespace n ON n.oid = y.typnamespace
    WHERE n.nspname = ${FACT("schema")} AND y.typname = ${FACT("type")} AND k.conname = ${FACT("constraint")}))
  WHEN ${FACT("constraint")} IS NOT NULL THEN format('ALTER TABLE %s DROP CONSTRAINT %I; -- %s', ${ERROR_TABLE}, ${FACT("constraint")}, (
    SELECT pg_get_constraintdef(k.oid) FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid
    JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = ${FACT("schema")} AND c.relname = ${FACT("table")} AND k.conname = ${FACT("constraint")}))
  WHEN (SELECT c.relkind FROM pg_class c WHERE c.oid = t.oid) = 'p'
  THEN format('CREATE TABLE %s PARTITION OF %s DEFAULT; -- or a partition for the row, as at contour %s',
         ${named("r.schema_name", "r.table_name || '_default'")}, t.label, ${CONTOUR}) END`;

const PARENT = `CASE WHEN r.operation IN ('DELETE', 'TRUNCATE') THEN (
    SELECT format('It waits until no row of %s refers to it', string_agg(DISTINCT ${named("n.nspname", "c.relname")}, ', '))
    FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE k.confrelid = t.oid AND k.contype = 'f' HAVING count(*) > 0)
  ELSE (
    SELECT format('It waits for its parent: %s', string_agg(format('%s (%s) = (%s)', ${named("n.nspname", "c.relname")}, v.names, v.there), ', '
      ORDER BY k.conname))
    FROM pg_constraint k JOIN pg_class c ON c.oid = k.confrelid JOIN pg_namespace n ON n.oid = c.relnamespace
    CROSS JOIN LATERAL (
      SELECT string_agg(quote_ident(q.attname), ', ' ORDER BY p.place) AS names,
        string_agg(r.data::json->>a.attname, ', ' ORDER BY p.place) AS there, count(r.data::json->>a.attname) = count(*) AS whole
      FROM unnest(k.conkey, k.confkey) WITH ORDINALITY AS p(child, parent, place)
      JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = p.child
      JOIN pg_attribute q ON q.attrelid = k.confrelid AND q.attnum = p.parent) v
    WHERE k.conrelid = t.oid AND k.contype = 'f' AND k.conparentid = 0 AND v.whole
      AND (${FACT("constraint")} IS NULL OR k.conname = ${FACT("constraint")}) HAVING count(*) > 0) END`;

const TAKEN = `format('Another row of %s here is in the way: change or delete it%s', ${ERROR_TABLE}, (
  SELECT format(' (%s: %s)', quote_ident(c.relname), substring(pg_get_indexdef(c.oid) FROM ' USING (.*)$'))
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE n.nspname = ${FACT("schema")} AND c.relname = ${FACT("constraint")} AND c.relkind IN ('i', 'I')))`;

const RIGHTS = `CASE
  WHEN t.oid IS NULL THEN NULL
  WHEN NOT has_schema_privilege(r.schema_name, 'USAGE') THEN format('GRANT USAGE ON SCHEMA %I TO %I', r.schema_name, current_user)
  WHEN NOT (has_table_privilege(t.oid, 'SELECT') AND has_table_privilege(t.oid, 'INSERT') AND has_table_privilege(t.oid, 'UPDATE')
            AND has_table_privilege(t.oid, 'DELETE'))
  THEN format('GRANT SELECT, INSERT, UPDATE, DELETE ON %s TO %I', t.label, current_user)
  WHEN row_security_active(t.oid)
  THEN format('ALTER ROLE %I BYPASSRLS; -- or: CREATE POLICY replicator ON %s TO %1$I USING (true) WITH CHECK (true)', current_user, t.label)
  END`;

/** `schema.name` where something of that name stands somewhere: apply runs with an empty search path. */
const CALLER = `coalesce('ALTER FUNCTION ' || ${FACT("function")}, 'ALTER FUNCTION of the function that names it')`;
const SIGNATURE = `substring(r.message FROM '([^[:space:]"»«„“]+\\([^()]*\\))')`;
const MISSING_FUNCTION = `(
  SELECT CASE
    WHEN f.signature IS NULL THEN NULL
    WHEN strpos(split_part(f.signature, '(', 1), '.') = 0 AND f.home IS NOT NULL
    THEN format('%s SET search_path TO %I; -- %s stands there, and apply has no search path', ${CALLER}, f.home, f.signature)
    ELSE format('CREATE FUNCTION %s …; -- as at contour %s', f.signature, ${CONTOUR}) END
  FROM (SELECT s.signature, (
          SELECT min(n.nspname) FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
          WHERE p.proname = split_part(s.signature, '(', 1) AND n.nspname NOT LIKE 'pg\\_%') AS home
        FROM (SELECT ${SIGNATURE} AS signature) s) f)`;

const QUOTED = `substring(r.message FROM '["»„“]([^"«»„“”]+)["«“”]')`;
const MISSING_RELATION = `(
  SELECT CASE
    WHEN m.name IS NULL THEN NULL
    WHEN m.home IS NOT NULL
    THEN format('%s SET search_path TO %I; -- %s stands there, and apply has no search path', ${CALLER}, m.home, m.name)
    ELSE format('CREATE TABLE %s …; -- as at contour %s', m.name, ${CONTOUR}) END
  FROM (SELECT q.name, (
          SELECT min(n.nspname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
          WHERE c.relname = q.name AND c.relkind IN ('r', 'p', 'v', 'm', 'f') AND n.nspname NOT LIKE 'pg\\_%') AS home
        FROM (SELECT ${QUOTED} AS name) q) m)`;

/** Raised by a trigger of the table, directly; or by a function that something here calls. */
const RAISED = `coalesce((
  SELECT format('ALTER TABLE %s DISABLE TRIGGER %I; -- or consumer.session: replica, which silences it', t.label, g.tgname)
  FROM pg_trigger g JOIN pg_proc p ON p.oid = g.tgfoid JOIN pg_namespace n ON n.oid = p.pronamespace
  WHERE g.tgrelid = t.oid AND NOT g.tgisinternal
    AND quote_ident(n.nspname) || '.' || quote_ident(p.proname) || '()' = ${FACT("function")} LIMIT 1),
  'Look at the function that raised it: ' || ${FACT("function")})`;

/** The same for every code that is not here. */
const OTHER = `CASE WHEN ${FACT("function")} IS NOT NULL THEN ${RAISED} END`;

const BY_CODE: Readonly<Record<string, string>> = {
  "apply.unknown_table": UNKNOWN_TABLE,
  "apply.unknown_column": UNKNOWN_COLUMN,
  "apply.key_differs": KEY_DIFFERS,
  "apply.stamp_out_of_range": SKEW,
  "22001": `coalesce(${LENGTH_REMEDY}, ${COLUMN_TYPE_REMEDY})`,
  "22003": `coalesce(${RANGE_REMEDY}, ${COLUMN_TYPE_REMEDY})`,
  "22007": COLUMN_TYPE_REMEDY,
  "22008": COLUMN_TYPE_REMEDY,
  "22026": LENGTH_REMEDY,
  "22P02": `coalesce(${ENUM_LABEL_REMEDY}, ${COLUMN_TYPE_REMEDY})`,
  "22P03": COLUMN_TYPE_REMEDY,
  "22P05": COLUMN_TYPE_REMEDY,
  "23502": NOT_NULL,
  "23503": PARENT,
  "23505": TAKEN,
  "23514": CHECK,
  "23P01": TAKEN,
  "3F000": `'CREATE SCHEMA ' || quote_ident(${QUOTED})`,
  "42501": RIGHTS,
  "42883": MISSING_FUNCTION,
  "42P01": MISSING_RELATION,
  "42P10": `format('ALTER TABLE %s ADD PRIMARY KEY (%s)', t.label, (SELECT string_agg(quote_ident(k), ', ') FROM unnest(r.key_columns) k))`,
};

const ANY = `CASE r.code ${Object.entries(BY_CODE)
  .map(([code, remedy]) => `WHEN '${code}' THEN ${remedy}`)
  .join("\n")} ELSE ${OTHER} END`;

/**
 * The expression for rows with these codes. For one code it is small; the one for all takes the server milliseconds to
 * get ready, however few rows there are.
 */
export function remedySql(codes: readonly string[]): string {
  const [only, ...more] = [...new Set(codes)];
  const remedy = only === undefined || more.length > 0 ? ANY : (BY_CODE[only] ?? OTHER);
  return `(SELECT ${remedy}
  FROM (SELECT ${named("r.schema_name", "r.table_name")} AS label, (
          SELECT c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
          WHERE n.nspname = r.schema_name AND c.relname = r.table_name) AS oid) AS t)`;
}
