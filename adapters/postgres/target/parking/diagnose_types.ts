/** Which column does not take its value, and the type that would (diagnose.ts): compared with the catalog, value by value. */
import { named } from "./diagnose_words.ts";

/** Columns of the row with their values as text, and the type behind domains: v (name, value, type, typmod). */
const VALUES = `(
  SELECT a.attname AS name, a.attnum AS place, e.value #>> '{}' AS value, b.id AS type, b.typmod
  FROM json_each(r.data::json) AS e(key, value)
  JOIN pg_attribute a ON a.attrelid = t.oid AND a.attname = e.key AND a.attnum > 0 AND NOT a.attisdropped
  CROSS JOIN LATERAL (
    WITH RECURSIVE step AS (
      SELECT a.atttypid AS id, a.atttypmod AS typmod
      UNION ALL
      SELECT y.typbasetype, CASE WHEN y.typtypmod <> -1 THEN y.typtypmod ELSE s.typmod END
      FROM step s JOIN pg_type y ON y.oid = s.id WHERE y.typtype = 'd')
    SELECT s.id, s.typmod FROM step s JOIN pg_type y ON y.oid = s.id WHERE y.typtype <> 'd') AS b
  WHERE e.value #>> '{}' IS NOT NULL) AS v`;

const NOTE = "'; -- or the type it has at contour ' || quote_ident(r.source_contour)";

/** `wider`: the type that takes the value, NULL where the column's own does. */
const alterColumns = (wider: string) => `(
  SELECT 'ALTER TABLE ' || t.label || ' ' || string_agg(format('ALTER COLUMN %I TYPE %s', w.name, w.wider), ', ' ORDER BY w.place) || ${NOTE}
  FROM (SELECT v.name, v.place, ${wider} AS wider FROM ${VALUES}) AS w WHERE w.wider IS NOT NULL HAVING count(*) > 0)`;

/** Too long for character(n), character varying(n), bit(n), bit varying(n). Blanks at the end are cut off, not refused. */
export const LENGTH_REMEDY = alterColumns(`CASE
    WHEN v.type IN ('varchar'::regtype, 'bpchar'::regtype) AND v.typmod >= 4 AND char_length(rtrim(v.value, ' ')) > v.typmod - 4
    THEN 'character varying'
    WHEN v.type = 'bit'::regtype AND char_length(v.value) <> v.typmod OR v.type = 'varbit'::regtype AND v.typmod > 0 AND char_length(v.value) > v.typmod
    THEN 'bit varying' END`);

const NUMBER = `(CASE WHEN v.value ~ '^[+-]?([0-9]+[.]?[0-9]*|[.][0-9]+)([eE][+-]?[0-9]{1,3})?$' THEN v.value::numeric END)`;
const SCALE = "((((v.typmod - 4) & 2047) # 1024) - 1024)";
const WHOLE_DIGITS = `((((v.typmod - 4) >> 16) & 65535) - ${SCALE})`;

/** Out of the range of a number's type. */
export const RANGE_REMEDY = alterColumns(`CASE
    WHEN v.type = 'int2'::regtype AND abs(${NUMBER}) > 32767
    THEN CASE WHEN abs(${NUMBER}) < 2147483648 THEN 'integer' WHEN abs(${NUMBER}) < 9223372036854775808 THEN 'bigint' ELSE 'numeric' END
    WHEN v.type = 'int4'::regtype AND abs(${NUMBER}) > 2147483647
    THEN CASE WHEN abs(${NUMBER}) < 9223372036854775808 THEN 'bigint' ELSE 'numeric' END
    WHEN v.type = 'int8'::regtype AND abs(${NUMBER}) > 9223372036854775807 THEN 'numeric'
    WHEN v.type = 'numeric'::regtype AND CASE WHEN v.typmod >= 4 THEN abs(round(${NUMBER}, ${SCALE})) >= 10 ^ ${WHOLE_DIGITS}::numeric END
    THEN 'numeric'
    WHEN v.type = 'float4'::regtype AND (abs(${NUMBER}) > 3.4e38 OR ${NUMBER} <> 0 AND abs(${NUMBER}) < 1.2e-38) THEN 'double precision'
    WHEN v.type = 'float8'::regtype AND (abs(${NUMBER}) > 1.79e308 OR ${NUMBER} <> 0 AND abs(${NUMBER}) < 2.3e-308) THEN 'numeric' END`);

/** Labels the enum does not have; in a plain array each of its elements is looked at. */
export const ENUM_LABEL_REMEDY = `(
  SELECT string_agg(DISTINCT format('ALTER TYPE %s ADD VALUE %L', ${named("n.nspname", "m.typname")}, l.label), '; ')
  FROM ${VALUES}
  JOIN pg_type y ON y.oid = v.type
  JOIN pg_type m ON m.oid = CASE WHEN y.typcategory = 'A' THEN y.typelem ELSE y.oid END AND m.typtype = 'e'
  JOIN pg_namespace n ON n.oid = m.typnamespace
  CROSS JOIN LATERAL unnest(CASE
    WHEN y.typcategory <> 'A' THEN ARRAY[v.value]
    WHEN v.value ~ '^[{][^{}"\\\\]+[}]$' THEN string_to_array(btrim(v.value, '{}'), ',', 'NULL') END) AS l(label)
  WHERE l.label IS NOT NULL AND NOT EXISTS (SELECT FROM pg_enum g WHERE g.enumtypid = m.oid AND g.enumlabel = l.label))`;

/** PostgreSQL mostly quotes the value it could not read, in every language, and names the type. */
export const COLUMN_TYPE_REMEDY = `(
  SELECT format('ALTER TABLE %s ALTER COLUMN %I TYPE text', t.label, m.name) || ${NOTE}
  FROM (SELECT v.name, v.place, char_length(v.value) AS size, strpos(r.message, CASE v.type WHEN 'jsonb'::regtype THEN 'json' ELSE format_type(v.type, NULL) END) > 0 AS of_type,
          strpos(r.message, CASE v.value WHEN '' THEN '""' ELSE v.value END) > 0 AS quoted FROM ${VALUES}) AS m
  WHERE m.of_type OR m.quoted ORDER BY m.of_type AND m.quoted DESC, m.quoted DESC, m.size DESC, m.place LIMIT 1)`;
