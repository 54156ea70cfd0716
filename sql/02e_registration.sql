-- The register of replicated tables and what follows from it: rights, refresh, the contour's name, removal.

CREATE OR REPLACE FUNCTION "replicator".find_registered(target regclass) RETURNS "replicator".replicated_table
LANGUAGE sql STABLE SET search_path TO pg_catalog, pg_temp AS $function$
    -- by oid while it is the same relation; by name after a dump and restore, or when the table was dropped and made again
    SELECT r.* FROM "replicator".replicated_table r
      JOIN pg_class c ON c.oid = target JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE (r.relid = target AND NOT EXISTS (SELECT FROM "replicator".replicated_table o WHERE o.table_id <> r.table_id
                                               AND o.schema_name = n.nspname AND o.table_name = c.relname))
        OR (r.schema_name = n.nspname AND r.table_name = c.relname)
     ORDER BY (r.schema_name = n.nspname AND r.table_name = c.relname) DESC LIMIT 1
$function$;

CREATE OR REPLACE FUNCTION "replicator".stored_options(known "replicator".replicated_table) RETURNS jsonb
LANGUAGE sql STABLE SET search_path TO pg_catalog, pg_temp AS $function$
    SELECT CASE WHEN known.table_id IS NULL THEN '{}' ELSE
        jsonb_build_object('primary_key', known.key_columns, 'capture', known.capture, 'conflict', known.conflict, 'exclude_columns', known.exclude_columns, 'stamp', known.stamping,
            'columns', jsonb_build_object('version', known.stamp_columns[1], 'updated_at', known.stamp_columns[2], 'updated_by', known.stamp_columns[3])) END
$function$;

-- The id the next table will get, for a dry run: read, not taken.
CREATE OR REPLACE FUNCTION "replicator".next_table_id() RETURNS int
LANGUAGE sql STABLE SET search_path TO pg_catalog, pg_temp AS $function$
    SELECT coalesce(pg_sequence_last_value(pg_get_serial_sequence('"replicator".replicated_table', 'table_id')::regclass), 0)::int + 1
$function$;

CREATE OR REPLACE FUNCTION "replicator".register_table(plan jsonb, known "replicator".replicated_table) RETURNS "replicator".replicated_table
LANGUAGE plpgsql SET search_path TO pg_catalog, pg_temp AS $function$
#variable_conflict use_column
DECLARE
    key text[] := (SELECT array_agg(k->>'name' ORDER BY n) FROM jsonb_array_elements(plan->'key') WITH ORDINALITY AS e(k, n));
    stamp text[] := (SELECT array_agg(s ORDER BY n) FROM jsonb_array_elements_text(plan->'stamp') WITH ORDINALITY AS e(s, n));
    excluded text[] := (SELECT coalesce(array_agg(s), '{}') FROM jsonb_array_elements_text(plan->'exclude') s);
    added text[] := (SELECT coalesce(array_agg(s), '{}') FROM jsonb_array_elements_text(plan->'missing') s);
    digest text := "replicator".columns_digest((plan->>'relid')::oid);
    result "replicator".replicated_table;
BEGIN
    IF known.table_id IS NULL THEN
        INSERT INTO "replicator".replicated_table (schema_name, table_name, relid, key_columns, stamp_columns, exclude_columns, capture, conflict, stamping, columns_digest, added_columns)
        VALUES (plan->>'schema', plan->>'name', (plan->>'relid')::oid, key, stamp, excluded, plan->>'capture', plan->>'conflict', plan->>'stamping', digest, added)
        RETURNING * INTO result;
        RETURN result;
    END IF;
    -- with another key or other stamp names the tombstones' table has another shape
    IF known.key_columns <> key OR known.stamp_columns <> stamp THEN
        EXECUTE format('DROP TABLE IF EXISTS "replicator".tombstone_%1$s, "replicator".known_%1$s', known.table_id);
    END IF;
    UPDATE "replicator".replicated_table r
       SET schema_name = plan->>'schema', table_name = plan->>'name', relid = (plan->>'relid')::oid, key_columns = key, stamp_columns = stamp,
           exclude_columns = excluded, capture = plan->>'capture', conflict = plan->>'conflict', stamping = plan->>'stamping', columns_digest = digest,
           added_columns = ARRAY(SELECT DISTINCT a FROM unnest(r.added_columns || added) a WHERE r.removed_at IS NULL OR a = ANY (added)), removed_at = NULL
     WHERE r.table_id = known.table_id RETURNING * INTO result;
    RETURN result;
END $function$;

-- Rights of a table's objects: nobody executes its functions (triggers need no right), all belong to the schema's owner,
-- who must be able to read the table for TRUNCATE.
CREATE OR REPLACE FUNCTION "replicator".secure_table(plan jsonb) RETURNS void
LANGUAGE plpgsql SET search_path TO pg_catalog, pg_temp AS $function$
DECLARE
    owner name := (SELECT pg_get_userbyid(nspowner) FROM pg_namespace WHERE oid = '"replicator"'::regnamespace);
    item text;
BEGIN
    FOR item IN SELECT p.oid::regprocedure FROM pg_proc p WHERE p.pronamespace = '"replicator"'::regnamespace
                   AND p.proname ~ ('^(stamp_insert|stamp_update|stamp_delete|change_key|refuse|lift|capture|bury_key|careful_line|careful_key_line|truncate|truncate_partition|snapshot_chunk|poll|compare_keys)_' || (plan->>'id') || '$') LOOP
        EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', item);
        IF owner <> current_user THEN EXECUTE format('ALTER FUNCTION %s OWNER TO %I', item, owner); END IF;
    END LOOP;
    IF owner <> current_user THEN
        EXECUTE format('ALTER TABLE "replicator".tombstone_%s OWNER TO %I', plan->>'id', owner);
        FOR item IN SELECT format('ALTER %s "replicator".%I OWNER TO %I', CASE c.relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END, c.relname, owner) FROM pg_class c
                     WHERE c.relnamespace = '"replicator"'::regnamespace AND c.relname ~ ('^(floor_mark|sync_mark|known)_' || (plan->>'id') || '$') LOOP
            EXECUTE item;
        END LOOP;
        FOR item IN SELECT t.oid::regtype FROM pg_type t WHERE t.typnamespace = '"replicator"'::regnamespace AND t.typtype = 'c'
                       AND t.typname IN ('line_' || (plan->>'id'), 'key_line_' || (plan->>'id')) LOOP
            EXECUTE format('ALTER TYPE %s OWNER TO %I', item, owner);
        END LOOP;
        -- UPDATE: a row inserted below its tombstone is lifted above it
        IF NOT (has_table_privilege(owner, (plan->>'relid')::oid, 'SELECT') AND has_table_privilege(owner, (plan->>'relid')::oid, 'UPDATE')) THEN
            EXECUTE format('GRANT SELECT, UPDATE ON %s TO %I', plan->>'target', owner);
        END IF;
    END IF;
    PERFORM "replicator".grant_rights();
END $function$;

-- After ALTER TABLE, ATTACH PARTITION or a rename: makes functions and triggers anew, with the stored options.
CREATE OR REPLACE FUNCTION "replicator".refresh_table(target regclass) RETURNS SETOF text
LANGUAGE plpgsql SET search_path TO pg_catalog, pg_temp AS $function$
BEGIN
    IF ("replicator".find_registered(target)).table_id IS NULL OR ("replicator".find_registered(target)).removed_at IS NOT NULL THEN
        RAISE EXCEPTION 'cannot refresh %: it is not replicated', target USING ERRCODE = 'undefined_object',
            HINT = format('SELECT setup_table_for_replication(%L);', target::text);
    END IF;
    RETURN QUERY SELECT "replicator".setup_table_for_replication(target);
END $function$;

-- Replicated tables whose functions or triggers no longer fit, and why. `replicator setup` refreshes them, `check` lists them.
CREATE OR REPLACE FUNCTION "replicator".stale_tables() RETURNS TABLE (table_id int, relation regclass, reason text)
LANGUAGE sql STABLE SET search_path TO pg_catalog, pg_temp AS $function$
    SELECT * FROM (
    SELECT r.table_id, c.oid::regclass, CASE
             WHEN c.oid IS NULL THEN 'the table is gone'
             WHEN r.relid <> c.oid OR r.schema_name <> n.nspname OR r.table_name <> c.relname THEN 'it was renamed or restored'
             WHEN r.columns_digest <> "replicator".columns_digest(c.oid) THEN 'its columns changed'
             WHEN to_regprocedure(format('"replicator".refuse_%s(json, text)', r.table_id)) IS NULL
               OR to_regprocedure(format('"replicator".lift_%s(regclass, text)', r.table_id)) IS NULL
               OR (r.capture = 'none' AND to_regprocedure(format('"replicator".poll_%s("replicator".sync_run, int)', r.table_id)) IS NULL)
               OR to_regprocedure(format('"replicator".snapshot_chunk_%s(text, int, bigint)', r.table_id)) IS NULL THEN 'its functions are from an earlier version'
             WHEN EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = c.oid AND t.tgname = 'zz_replicator_3_truncate' AND t.tgqual IS NOT NULL)
                 THEN 'its triggers are from an earlier version'
             -- as trigger_list() makes them: one that is missing loses changes without a word
             WHEN r.stamping <> 'application' AND EXISTS (SELECT FROM unnest('{1_stamp_insert,1_stamp_update,1_stamp_delete,2_change_key,3_truncate}'::text[]
                                     || CASE r.capture WHEN 'row' THEN '{4_capture,6_bypass}'::text[] WHEN 'none' THEN '{6_bypass}'
                                                       ELSE '{4_bury_key,5_capture_insert,5_capture_update,5_capture_delete}' END
                                     || CASE c.relkind WHEN 'p' THEN '{7_truncated}'::text[] ELSE '{}' END) AS wanted(name)
                           WHERE NOT EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = c.oid AND t.tgname = 'zz_replicator_' || wanted.name AND t.tgenabled = 'A'))
                 THEN 'its triggers are gone or disabled'
             WHEN r.stamping <> 'application' AND EXISTS (SELECT FROM pg_partition_tree(c.oid) p WHERE p.isleaf AND p.relid <> c.oid
                             AND NOT EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = p.relid AND t.tgname = 'zz_replicator_3_truncate'))
                 THEN 'a partition has no trigger for TRUNCATE' END AS reason
      FROM "replicator".replicated_table r
      LEFT JOIN LATERAL (SELECT x.* FROM pg_class x
                          WHERE x.oid = coalesce((SELECT y.oid FROM pg_class y WHERE y.oid = r.relid AND y.relkind IN ('r', 'p')
                                                     AND NOT EXISTS (SELECT FROM "replicator".replicated_table o WHERE o.relid = r.relid AND o.table_id <> r.table_id)),
                                                 to_regclass(format('%I.%I', r.schema_name, r.table_name)))) c ON true
      LEFT JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE r.removed_at IS NULL) s
     WHERE s.reason IS NOT NULL
$function$;

CREATE OR REPLACE FUNCTION "replicator".refresh_stale_tables() RETURNS SETOF text
LANGUAGE plpgsql SET search_path TO pg_catalog, pg_temp AS $function$
DECLARE
    stale record;
BEGIN
    FOR stale IN SELECT * FROM "replicator".stale_tables() WHERE relation IS NOT NULL LOOP
        RETURN QUERY SELECT "replicator".refresh_table(stale.relation);
    END LOOP;
END $function$;

-- Names this contour; the name is a literal in every trigger function, so all of them are made anew (no table is locked).
CREATE OR REPLACE FUNCTION "replicator".set_contour(name text) RETURNS void
LANGUAGE plpgsql SET search_path TO pg_catalog, pg_temp SET client_min_messages TO warning AS $function$
DECLARE
    known "replicator".replicated_table;
    plan jsonb;
    statement text;
BEGIN
    IF name IS NULL OR name !~ '^[a-z0-9_-]{1,32}$' THEN
        RAISE EXCEPTION 'a contour cannot be called "%": expected 1 to 32 of a-z 0-9 _ -', name USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF (SELECT contour FROM "replicator".local) = name THEN RETURN; END IF;
    UPDATE "replicator".local SET contour = name;
    FOR known IN SELECT r.* FROM "replicator".replicated_table r JOIN pg_class c ON c.oid = r.relid WHERE r.removed_at IS NULL LOOP
        IF EXISTS (SELECT FROM "replicator".stale_tables() s WHERE s.table_id = known.table_id) THEN
            PERFORM "replicator".refresh_table(known.relid);
            CONTINUE;
        END IF;
        plan := "replicator".plan_table(known.relid, "replicator".stored_options(known), known.table_id) || jsonb_build_object('digest', known.columns_digest);
        FOR statement IN SELECT "replicator".functions_of_table_sql(plan) LOOP
            EXECUTE statement;
        END LOOP;
        PERFORM "replicator".secure_table(plan);
    END LOOP;
END $function$;

-- Takes a table out of replication: its triggers, functions and tombstones, and the columns setup added (unless they are
-- to stay). The register keeps its line with removed_at, so that changes captured before are still published.
CREATE OR REPLACE FUNCTION "replicator".remove_table_from_replication(target regclass, drop_columns boolean DEFAULT true) RETURNS SETOF text
LANGUAGE plpgsql SET search_path TO pg_catalog, pg_temp SET client_min_messages TO warning AS $function$
DECLARE
    known "replicator".replicated_table := "replicator".find_registered(target);
    item text;
    dropped text[] := '{}';
BEGIN
    IF known.table_id IS NULL OR known.removed_at IS NOT NULL THEN
        RETURN NEXT format('%s: is not replicated', target);
        RETURN;
    END IF;
    PERFORM "replicator".lock_table(target);
    -- as with changes that were captured before: what was polled once is sent to its end
    IF known.capture = 'none' AND EXISTS (SELECT FROM "replicator".sync_run r WHERE r.table_id = known.table_id AND r.run_no > 0) THEN
        PERFORM "replicator".sync_drain(known.table_id);
    END IF;
    FOR item IN SELECT format('DROP TRIGGER %I ON %s', t.trigger, t.relation::regclass) FROM "replicator".triggers_of_table(known.table_id, target) t LOOP
        EXECUTE item;
    END LOOP;
    PERFORM "replicator".drop_table_objects(known.table_id);
    IF drop_columns THEN
        FOREACH item IN ARRAY known.added_columns LOOP
            IF EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = target AND a.attname = item AND NOT a.attisdropped) THEN
                EXECUTE format('ALTER TABLE %s DROP COLUMN %I', target, item);
                dropped := dropped || item;
            END IF;
        END LOOP;
    END IF;
    UPDATE "replicator".replicated_table r SET removed_at = clock_timestamp(), capture = 'none', columns_digest = '',
           added_columns = CASE WHEN drop_columns THEN '{}' ELSE r.added_columns END WHERE r.table_id = known.table_id;
    RETURN NEXT format('%s: no longer replicated%s', target,
                       CASE WHEN dropped = '{}' THEN '' ELSE '; dropped ' || array_to_string(dropped, ', ') END);
END $function$;

-- For a table that was dropped without that: there is no regclass of it any more.
CREATE OR REPLACE FUNCTION "replicator".remove_dropped_table(schema_of text, name_of text) RETURNS SETOF text
LANGUAGE plpgsql SET search_path TO pg_catalog, pg_temp SET client_min_messages TO warning AS $function$
DECLARE
    known record;
BEGIN
    FOR known IN SELECT r.table_id FROM "replicator".replicated_table r JOIN "replicator".stale_tables() s ON s.table_id = r.table_id
                  WHERE s.relation IS NULL AND r.schema_name = schema_of AND r.table_name = name_of LOOP
        PERFORM "replicator".drop_table_objects(known.table_id);
        UPDATE "replicator".replicated_table r SET removed_at = clock_timestamp(), capture = 'none', columns_digest = '', added_columns = '{}'
         WHERE r.table_id = known.table_id;
        RETURN NEXT format('%I.%I: no longer replicated; the table itself is gone', schema_of, name_of);
    END LOOP;
END $function$;

CREATE OR REPLACE FUNCTION "replicator".drop_table_objects(id int) RETURNS void
LANGUAGE plpgsql SET search_path TO pg_catalog, pg_temp AS $function$
DECLARE
    item text;
BEGIN
    FOR item IN SELECT p.oid::regprocedure FROM pg_proc p WHERE p.pronamespace = '"replicator"'::regnamespace
                   AND p.proname ~ ('^(stamp_insert|stamp_update|stamp_delete|change_key|refuse|lift|capture|bury_key|careful_line|careful_key_line|truncate|truncate_partition|snapshot_chunk|poll|compare_keys)_' || id || '$') LOOP
        EXECUTE 'DROP FUNCTION ' || item;
    END LOOP;
    EXECUTE format('DROP TYPE IF EXISTS "replicator".line_%1$s, "replicator".key_line_%1$s', id);
    EXECUTE format('DROP TABLE IF EXISTS "replicator".tombstone_%s', id);
    EXECUTE format('DROP TABLE IF EXISTS "replicator".known_%s', id);
    EXECUTE format('DROP SEQUENCE IF EXISTS "replicator".floor_mark_%1$s, "replicator".sync_mark_%1$s', id);
    DELETE FROM "replicator".sync_run WHERE table_id = id;
    DELETE FROM "replicator".sync_sent WHERE table_id = id;
    DELETE FROM "replicator".sync_table WHERE table_id = id;
    DELETE FROM "replicator".floor WHERE table_id = id;
END $function$;
