-- What replication has to know about a table, read from the catalog: the input of the generators in 02.
-- Nothing here writes; all of it is SECURITY INVOKER.

-- The JSON-friendly scalar a type is (or is a domain over): row_to_json renders these exactly and any session does it
-- alike. NULL for every other type: those travel as PostgreSQL's own text (I7).
CREATE OR REPLACE FUNCTION "replicator".friendly_type(type oid) RETURNS text
LANGUAGE sql STABLE SET search_path TO pg_catalog, pg_temp AS $function$
    WITH RECURSIVE base(oid, kind, next) AS (
        SELECT t.oid, t.typtype, t.typbasetype FROM pg_type t WHERE t.oid = type
        UNION ALL
        SELECT t.oid, t.typtype, t.typbasetype FROM pg_type t JOIN base b ON b.kind = 'd' AND t.oid = b.next)
    SELECT CASE WHEN t.oid IN ('bool'::regtype, 'int2'::regtype, 'int4'::regtype, 'int8'::regtype, 'float4'::regtype,
                               'float8'::regtype, 'numeric'::regtype, 'text'::regtype, 'varchar'::regtype, 'bpchar'::regtype,
                               'uuid'::regtype, 'date'::regtype, 'timestamp'::regtype, 'timestamptz'::regtype, 'name'::regtype)
                THEN format_type(t.oid, -1) END
      FROM base b JOIN pg_type t ON t.oid = b.oid WHERE b.kind <> 'd'
$function$;

-- The session settings that change a type's text, as (setting, value to pin). TimeZone is not among them: with
-- DateStyle ISO every time carries its offset, the value is the same in any zone.
CREATE OR REPLACE FUNCTION "replicator".type_settings(type oid) RETURNS text[]
LANGUAGE sql STABLE SET search_path TO pg_catalog, pg_temp AS $function$
    WITH RECURSIVE reached(oid, depth) AS (
        SELECT type, 0
        UNION
        SELECT n.oid, r.depth + 1
          FROM reached r JOIN pg_type t ON t.oid = r.oid
          CROSS JOIN LATERAL (
               SELECT t.typbasetype WHERE t.typtype = 'd'
               UNION ALL SELECT t.typelem WHERE t.typelem <> 0
               UNION ALL SELECT g.rngsubtype FROM pg_range g WHERE t.oid IN (g.rngtypid, g.rngmultitypid)
               UNION ALL SELECT a.atttypid FROM pg_attribute a
                          WHERE a.attrelid = t.typrelid AND t.typrelid <> 0 AND a.attnum > 0 AND NOT a.attisdropped
               ) n(oid)
         WHERE r.depth < 16)
    SELECT coalesce(array_agg(DISTINCT s.setting ORDER BY s.setting), '{}')
      FROM reached r JOIN pg_type t ON t.oid = r.oid
      CROSS JOIN LATERAL (
           SELECT 'extra_float_digits' WHERE t.oid IN ('float4'::regtype, 'float8'::regtype) OR t.typcategory = 'G'
           UNION ALL SELECT 'IntervalStyle' WHERE t.oid = 'interval'::regtype
           UNION ALL SELECT 'bytea_output' WHERE t.oid = 'bytea'::regtype
           UNION ALL SELECT 'lc_monetary' WHERE t.oid = 'money'::regtype
           -- a bare date or timestamp is ISO in JSON whatever the session says; inside another type it is not
           UNION ALL SELECT 'DateStyle' WHERE t.oid IN ('date'::regtype, 'timestamp'::regtype, 'timestamptz'::regtype)
                                          AND "replicator".friendly_type(type) IS NULL
           -- base types of extensions: nothing is known of them, everything is pinned
           UNION ALL SELECT unnest('{extra_float_digits,IntervalStyle,bytea_output,DateStyle}'::text[])
                      WHERE t.typtype = 'b' AND t.typelem = 0 AND t.oid >= 16384
           ) s(setting)
$function$;

-- The columns as the generated functions see them. A change of it means: generate them anew ("replicator".refresh_table).
CREATE OR REPLACE FUNCTION "replicator".columns_digest(relation oid) RETURNS text
LANGUAGE sql STABLE SET search_path TO pg_catalog, pg_temp AS $function$
    SELECT md5(coalesce(string_agg(a.attname || ' ' || a.atttypid || ' ' || a.attgenerated::text, ',' ORDER BY a.attnum), ''))
      FROM pg_attribute a WHERE a.attrelid = relation AND a.attnum > 0 AND NOT a.attisdropped
$function$;

-- Key columns of the index that identifies rows: the one whose columns were asked for, else the primary key, else the
-- replica identity, else the narrowest usable unique index. NULL when none can serve.
CREATE OR REPLACE FUNCTION "replicator".find_key(relation oid, wanted text[]) RETURNS text[]
LANGUAGE sql STABLE SET search_path TO pg_catalog, pg_temp AS $function$
    SELECT k.names
      FROM pg_index i
      CROSS JOIN LATERAL (
           SELECT array_agg(a.attname::text ORDER BY p.n) AS names, bool_and(a.attnotnull AND a.attgenerated = '') AS usable
             FROM generate_series(0, i.indnkeyatts - 1) AS p(n)
             LEFT JOIN pg_attribute a ON a.attrelid = relation AND a.attnum = i.indkey[p.n]) k
     WHERE i.indrelid = relation AND i.indisunique AND i.indimmediate AND i.indisvalid
       AND i.indpred IS NULL AND i.indexprs IS NULL AND k.usable
       AND (wanted IS NULL OR (k.names @> wanted AND k.names <@ wanted))
     ORDER BY i.indisprimary DESC, i.indisreplident DESC, i.indnkeyatts, i.indexrelid
     LIMIT 1
$function$;

-- The equality operator of a key column as its index has it (citext and others live outside pg_catalog).
CREATE OR REPLACE FUNCTION "replicator".key_equality(relation oid, key_column text) RETURNS text
LANGUAGE sql STABLE SET search_path TO pg_catalog, pg_temp AS $function$
    SELECT CASE WHEN n.nspname = 'pg_catalog' THEN o.oprname::text
                ELSE format('OPERATOR(%I.%s)', n.nspname, o.oprname) END
      FROM pg_attribute a
      JOIN pg_index i ON i.indrelid = a.attrelid AND i.indisunique AND i.indimmediate AND i.indpred IS NULL
      CROSS JOIN LATERAL generate_series(0, i.indnkeyatts - 1) AS p(n)
      JOIN pg_opclass c ON c.oid = i.indclass[p.n]
      JOIN pg_amop m ON m.amopfamily = c.opcfamily AND m.amopstrategy = 3
                    AND m.amoplefttype = c.opcintype AND m.amoprighttype = c.opcintype
      JOIN pg_operator o ON o.oid = m.amopopr
      JOIN pg_namespace n ON n.oid = o.oprnamespace
     WHERE a.attrelid = relation AND a.attname = key_column AND i.indkey[p.n] = a.attnum
     ORDER BY i.indisprimary DESC, i.indexrelid LIMIT 1
$function$;

-- Refuses what cannot be replicated, with the remedy. Returns nothing.
CREATE OR REPLACE FUNCTION "replicator".refuse_unfit(target regclass) RETURNS void
LANGUAGE plpgsql STABLE SET search_path TO pg_catalog, pg_temp AS $function$
DECLARE
    relation pg_class;
BEGIN
    SELECT * INTO STRICT relation FROM pg_class WHERE oid = target;
    IF relation.relispartition THEN
        RAISE EXCEPTION 'cannot replicate %: it is a partition', target USING ERRCODE = 'wrong_object_type',
            HINT = format('Set up its root: SELECT setup_table_for_replication(%L);', pg_partition_root(target)::text);
    ELSIF relation.relkind NOT IN ('r', 'p') THEN
        RAISE EXCEPTION 'cannot replicate %: it is a %', target,
            CASE relation.relkind WHEN 'v' THEN 'view' WHEN 'm' THEN 'materialized view' WHEN 'f' THEN 'foreign table'
                                  WHEN 'S' THEN 'sequence' ELSE 'relation that holds no rows of its own' END
            USING ERRCODE = 'wrong_object_type', HINT = 'Replicate the ordinary table that holds the rows.';
    ELSIF relation.relpersistence = 't' THEN
        RAISE EXCEPTION 'cannot replicate %: it is a temporary table', target USING ERRCODE = 'wrong_object_type',
            HINT = 'Its rows are gone with the session; create an ordinary table.';
    ELSIF relation.relpersistence = 'u' THEN
        RAISE EXCEPTION 'cannot replicate %: it is unlogged, a crash empties it while its changes have been sent', target
            USING ERRCODE = 'wrong_object_type', HINT = format('ALTER TABLE %s SET LOGGED;', target);
    ELSIF relation.relnamespace = 'pg_catalog'::regnamespace OR relation.relnamespace = '"replicator"'::regnamespace THEN
        RAISE EXCEPTION 'cannot replicate %: it belongs to the system or to the replicator', target
            USING ERRCODE = 'wrong_object_type', HINT = 'Name a table of your application.';
    ELSIF EXISTS (SELECT FROM pg_inherits WHERE inhrelid = target OR (inhparent = target AND relation.relkind = 'r')) THEN
        RAISE EXCEPTION 'cannot replicate %: it takes part in table inheritance, which has no common key', target
            USING ERRCODE = 'wrong_object_type',
            HINT = format('Use declarative partitioning, or detach it: ALTER TABLE … NO INHERIT %s;', target);
    END IF;
END $function$;

-- The whole plan of a table as JSON: what the generators need, and what setup still has to add. `known` is the row of
-- replicated_table when there is one; `options` are those of setup_table_for_replication, checked.
CREATE OR REPLACE FUNCTION "replicator".plan_table(target regclass, options jsonb, id int) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path TO pg_catalog, pg_temp AS $function$
#variable_conflict use_variable
DECLARE
    site "replicator".local;
    stamp text[];
    wanted text[];
    key text[];
    excluded text[];
    missing text[] := '{}';
    nullable text[] := '{}';
    stamp_types oid[] := '{int8,timestamptz,text}'::regtype[]::oid[];
    col record;
    capture text := coalesce(options->>'capture', 'auto');
    stamping text := coalesce(options->>'stamp', 'trigger');
    kind "char" := (SELECT relkind FROM pg_class WHERE oid = target);
    columns jsonb;
    settings text[];
    plain boolean;
BEGIN
    PERFORM "replicator".refuse_unfit(target);
    SELECT * INTO STRICT site FROM "replicator".local;
    stamp := ARRAY[coalesce(options->'columns'->>'version', site.version_column),
                   coalesce(options->'columns'->>'updated_at', site.updated_at_column),
                   coalesce(options->'columns'->>'updated_by', site.updated_by_column)];
    IF (SELECT count(DISTINCT s) FROM unnest(stamp) s) < 3 THEN
        RAISE EXCEPTION 'cannot replicate %: the three stamp columns need three names, found %', target, stamp
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Set options.columns, for example {"columns":{"version":"row_version"}}.';
    END IF;
    wanted := (SELECT array_agg(e) FROM jsonb_array_elements_text(options->'primary_key') e);
    excluded := coalesce((SELECT array_agg(e) FROM jsonb_array_elements_text(options->'exclude_columns') e), '{}');

    key := "replicator".find_key(target, wanted);
    IF key IS NULL THEN
        RAISE EXCEPTION 'cannot replicate %: no usable key%', target, coalesce(' on ' || wanted::text, '')
            USING ERRCODE = 'invalid_table_definition',
            DETAIL = 'A key is a unique index over plain NOT NULL columns that is not partial, not DEFERRABLE, not over generated columns.',
            HINT = format('ALTER TABLE %s ADD PRIMARY KEY (…); or make the columns of a unique index NOT NULL.', target);
    END IF;
    SELECT coalesce(array_agg(e), '{}') INTO excluded FROM unnest(excluded) e;
    FOR col IN SELECT e AS name FROM unnest(excluded) e LOOP
        IF col.name = ANY (key || stamp) THEN
            RAISE EXCEPTION 'cannot exclude column % of %: it belongs to the key or the stamp', quote_ident(col.name), target
                USING ERRCODE = 'invalid_parameter_value', HINT = 'Take it out of options.exclude_columns.';
        ELSIF NOT EXISTS (SELECT FROM pg_attribute WHERE attrelid = target AND attname = col.name AND attnum > 0 AND NOT attisdropped) THEN
            RAISE EXCEPTION 'cannot exclude column % of %: there is no such column', quote_ident(col.name), target
                USING ERRCODE = 'undefined_column', HINT = 'Take it out of options.exclude_columns.';
        END IF;
    END LOOP;

    FOR col IN SELECT s.name, s.n, a.attnum, a.attnotnull, a.attgenerated, a.atttypid, a.atttypmod
                 FROM unnest(stamp) WITH ORDINALITY s(name, n)
                 LEFT JOIN pg_attribute a ON a.attrelid = target AND a.attname = s.name AND a.attnum > 0 AND NOT a.attisdropped
                ORDER BY s.n LOOP
        IF col.attnum IS NULL THEN
            IF stamping = 'application' AND col.n > 1 THEN
                RAISE EXCEPTION 'cannot replicate % with stamp "application": there is no column %', target, quote_ident(col.name) USING ERRCODE = 'undefined_column',
                    HINT = 'The application has to write it with every change. Name the column it writes in options.columns, or let our trigger do it: stamp "trigger".';
            END IF;
            missing := missing || col.name;
        ELSIF col.attgenerated <> '' OR col.name = ANY (key)
              OR NOT (col.atttypid = stamp_types[col.n] OR (col.n = 3 AND col.atttypid = 'varchar'::regtype))
              OR (col.n = 2 AND col.atttypmod BETWEEN 0 AND 5) OR (col.n = 3 AND col.atttypmod BETWEEN 0 AND 35) THEN
            RAISE EXCEPTION 'cannot replicate %: column % exists and cannot hold the stamp: found %, expected %', target,
                quote_ident(col.name), format_type(col.atttypid, col.atttypmod) || CASE WHEN col.name = ANY (key) THEN ' in the key' ELSE '' END,
                (ARRAY['bigint', 'timestamp with time zone', 'text (or varchar of 32 and more)'])[col.n]
                USING ERRCODE = 'datatype_mismatch',
                HINT = format('Give the stamp another column: setup_table_for_replication(%L, ''{"columns":{"%s":"replicated_%s"}}'')',
                              target::text, (ARRAY['version', 'updated_at', 'updated_by'])[col.n], (ARRAY['version', 'at', 'by'])[col.n]);
        ELSIF NOT col.attnotnull THEN
            nullable := nullable || col.name;
        END IF;
    END LOOP;

    SELECT jsonb_agg(jsonb_build_object('name', c.name, 'type', coalesce(c.friendly, 'text'), 'cast', c.friendly IS NULL, 'oid', c.oid::bigint) ORDER BY c.n),
           bool_and(c.friendly IS NOT NULL)
      INTO columns, plain
      FROM (SELECT a.attname::text AS name, a.attnum::int AS n, "replicator".friendly_type(a.atttypid) AS friendly, a.atttypid AS oid
              FROM pg_attribute a
             WHERE a.attrelid = target AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = '' AND a.attname <> ALL (excluded)
            UNION ALL
            SELECT m, 10000 + array_position(stamp, m), format_type(stamp_types[array_position(stamp, m)], -1), stamp_types[array_position(stamp, m)]
              FROM unnest(missing) m) c;
    settings := (SELECT coalesce(array_agg(DISTINCT s), '{}')
                   FROM pg_attribute a, unnest("replicator".type_settings(a.atttypid)) s
                  WHERE a.attrelid = target AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = '' AND a.attname <> ALL (excluded));

    RETURN jsonb_build_object(
        'id', id, 'relid', target::oid::bigint, 'target', target::text, 'kind', kind,
        'schema', (SELECT n.nspname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = target),
        'name', (SELECT relname FROM pg_class WHERE oid = target),
        'contour', site.contour, 'stamp', stamp, 'stamping', stamping, 'columns', columns, 'settings', settings,
        'key_settings', (SELECT coalesce(array_agg(DISTINCT s), '{}') FROM pg_attribute a, unnest("replicator".type_settings(a.atttypid)) s
                          WHERE a.attrelid = target AND a.attname = ANY (key)),
        'key', (SELECT jsonb_agg(jsonb_build_object(
                    'name', a.attname, 'type', format_type(a.atttypid, a.atttypmod),
                    'collation', CASE WHEN a.attcollation <> t.typcollation
                                      THEN (SELECT format(' COLLATE %I.%I', n.nspname, l.collname)
                                              FROM pg_collation l JOIN pg_namespace n ON n.oid = l.collnamespace WHERE l.oid = a.attcollation)
                                      ELSE '' END,
                    'line', coalesce("replicator".friendly_type(a.atttypid), 'text'),
                    'cast', "replicator".friendly_type(a.atttypid) IS NULL,
                    'equality', "replicator".key_equality(target, a.attname)) ORDER BY array_position(key, a.attname::text))
                  FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
                 WHERE a.attrelid = target AND a.attname = ANY (key) AND a.attnum > 0),
        'whole', plain AND excluded = '{}' AND NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = target AND a.attnum > 0
                                                            AND NOT a.attisdropped AND a.attgenerated <> ''),
        'unsent', (SELECT coalesce(array_agg(a.attname::text), '{}') FROM pg_attribute a WHERE a.attrelid = target AND a.attnum > 0
                    AND NOT a.attisdropped AND (a.attgenerated <> '' OR a.attname = ANY (excluded))),
        'attributes', (SELECT relnatts FROM pg_class WHERE oid = target) + cardinality(missing),
        'partitions', (SELECT coalesce(array_agg(t.relid::oid::bigint), '{}') FROM pg_partition_tree(target) t WHERE t.isleaf AND t.relid <> target),
        -- I12: row triggers until the bench says when to take which; direct writes to partitions fire row triggers only
        'capture', CASE WHEN capture = 'auto' OR (capture = 'statement' AND kind = 'p') THEN 'row' ELSE capture END,
        'conflict', coalesce(options->>'conflict', CASE WHEN capture = 'none' THEN 'latest' ELSE 'version' END),
        'exclude', excluded, 'missing', missing, 'nullable', nullable);
END $function$;
