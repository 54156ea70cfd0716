-- What a DBA calls: put a table under replication, refresh it after ALTER TABLE, name the contour, take it out again.
-- All of it is SECURITY INVOKER: the caller needs to own the table and the schema "replicator" (or be a superuser).

-- Statements that bring a table's columns into shape: no rewrite, constant defaults, existing rows below every later stamp.
CREATE OR REPLACE FUNCTION "replicator".column_sql(plan jsonb) RETURNS SETOF text
LANGUAGE plpgsql STABLE SET search_path TO pg_catalog, pg_temp AS $function$
DECLARE
    target text := plan->>'target';
    types text[] := ARRAY['bigint NOT NULL DEFAULT 1', 'timestamptz NOT NULL DEFAULT ''1970-01-01 00:00:00+00''', 'text COLLATE "C" NOT NULL DEFAULT '''''];
    empty text[] := ARRAY['1', '''1970-01-01 00:00:00+00''', ''''''];
    stamp text[] := (SELECT array_agg(s ORDER BY n) FROM jsonb_array_elements_text(plan->'stamp') WITH ORDINALITY e(s, n));
    missing text[] := (SELECT array_agg(m ORDER BY n) FROM jsonb_array_elements_text(plan->'missing') WITH ORDINALITY e(m, n));
    nullable text[] := (SELECT array_agg(m ORDER BY n) FROM jsonb_array_elements_text(plan->'nullable') WITH ORDINALITY e(m, n));
BEGIN
    IF missing IS NOT NULL THEN
        RETURN NEXT format('ALTER TABLE %s %s', target,
            (SELECT string_agg(format('ADD COLUMN %I %s', m, types[array_position(stamp, m)]), ', ') FROM unnest(missing) m));
        IF stamp[2] = ANY (missing) THEN
            RETURN NEXT format('ALTER TABLE %s ALTER COLUMN %I SET DEFAULT now()', target, stamp[2]);
        END IF;
    END IF;
    IF nullable IS NOT NULL THEN
        RETURN NEXT format('UPDATE %s SET %s WHERE %s', target,
            (SELECT string_agg(format('%1$I = coalesce(%1$I, %2$s)', m, empty[array_position(stamp, m)]), ', ') FROM unnest(nullable) m),
            (SELECT string_agg(format('%I IS NULL', m), ' OR ') FROM unnest(nullable) m));
        -- an application that leaves one out must not fail for it
        RETURN QUERY SELECT format('ALTER TABLE %s ALTER COLUMN %I SET DEFAULT %s', target, m, (ARRAY['1', 'now()', quote_literal(plan->>'contour')])[array_position(stamp, m)])
          FROM unnest(nullable) m JOIN pg_attribute a ON a.attrelid = (plan->>'relid')::oid AND a.attname = m AND NOT a.atthasdef
         WHERE plan->>'stamping' = 'application';
        RETURN NEXT format('ALTER TABLE %s %s', target, (SELECT string_agg(format('ALTER COLUMN %I SET NOT NULL', m), ', ') FROM unnest(nullable) m));
    END IF;
END $function$;

-- The remembered stamps of deleted rows: the table's key under its own names and types, and the stamp. And the mark that
-- says whether the table has one, or a floor.
CREATE OR REPLACE FUNCTION "replicator".tombstone_sql(plan jsonb) RETURNS SETOF text
LANGUAGE sql STABLE SET search_path TO pg_catalog, pg_temp AS $function$
    SELECT format('CREATE TABLE IF NOT EXISTS "replicator".tombstone_%s (%s, %I bigint NOT NULL, %I timestamptz NOT NULL, %I text COLLATE "C" NOT NULL, PRIMARY KEY (%s))',
                  plan->>'id', string_agg(format('%I %s%s NOT NULL', k->>'name', k->>'type', k->>'collation'), ', ' ORDER BY n),
                  plan->'stamp'->>0, plan->'stamp'->>1, plan->'stamp'->>2, string_agg(quote_ident(k->>'name'), ', ' ORDER BY n))
      FROM jsonb_array_elements(plan->'key') WITH ORDINALITY AS e(k, n)
    UNION ALL
    -- the key was given another type since: a deleted row's key must fit as the row's did
    SELECT format('ALTER TABLE "replicator".tombstone_%s ALTER COLUMN %I TYPE %s%s USING %2$I::%3$s', plan->>'id', k->>'name', k->>'type', k->>'collation')
      FROM jsonb_array_elements(plan->'key') AS e(k)
      JOIN pg_attribute a ON a.attrelid = to_regclass(format('"replicator".tombstone_%s', plan->>'id')) AND a.attname = k->>'name' AND NOT a.attisdropped
     WHERE format_type(a.atttypid, a.atttypmod) <> k->>'type'
    UNION ALL
    SELECT format('CREATE SEQUENCE IF NOT EXISTS "replicator".floor_mark_%s', plan->>'id')
    UNION ALL
    SELECT format(s, plan->>'id') FROM unnest(ARRAY[
        'SELECT nextval(''"replicator".floor_mark_%1$s'') FROM "replicator".tombstone_%1$s LIMIT 1',
        'SELECT setval(''"replicator".floor_mark_%1$s'', 1000000) FROM "replicator".floor WHERE table_id = %1$s LIMIT 1']) s
$function$;

CREATE OR REPLACE FUNCTION "replicator".functions_of_table_sql(plan jsonb) RETURNS SETOF text
LANGUAGE plpgsql STABLE SET search_path TO pg_catalog, pg_temp AS $function$
BEGIN
    RETURN QUERY SELECT "replicator".stamp_functions_sql(plan);
    RETURN NEXT "replicator".refuse_function_sql(plan);
    -- the careful line serves every form; the last definition of capture_<id> is the one of the form in use
    RETURN QUERY SELECT "replicator".row_capture_sql(plan);
    IF plan->>'capture' = 'statement' THEN
        RETURN QUERY SELECT "replicator".statement_capture_sql(plan);
    END IF;
    RETURN QUERY SELECT "replicator".truncate_functions_sql(plan);
    RETURN NEXT "replicator".snapshot_function_sql(plan);
    IF plan->>'capture' = 'none' THEN RETURN QUERY SELECT "replicator".poll_functions_sql(plan); END IF;
END $function$;

-- What may break in the application, or disturb replication: for a person to read before and after.
CREATE OR REPLACE FUNCTION "replicator".table_findings(target regclass, missing jsonb) RETURNS SETOF text
LANGUAGE plpgsql STABLE SET search_path TO pg_catalog, pg_temp AS $function$
BEGIN
    IF jsonb_array_length(missing) > 0 THEN
        RETURN NEXT format('note: %s gets the columns %s: INSERT INTO … SELECT * and COPY … FROM without a column list will fail, a strict ORM may refuse the unknown columns (Hibernate @Version counts from 0, this one from 1: name another column in options.columns)',
                           target, (SELECT string_agg(quote_ident(m), ', ') FROM jsonb_array_elements_text(missing) m));
        RETURN QUERY SELECT DISTINCT format('note: view %s reads %s: if it was written with *, it keeps the old columns until it is created anew', r.ev_class::regclass, target)
          FROM pg_depend d JOIN pg_rewrite r ON r.oid = d.objid
         WHERE d.classid = 'pg_rewrite'::regclass AND d.refobjid = target AND r.ev_class <> target;
        RETURN QUERY SELECT format('note: function %s inserts into %s without a column list', p.oid::regprocedure, target)
          FROM pg_proc p JOIN pg_class c ON c.oid = target
         WHERE p.pronamespace NOT IN ('pg_catalog'::regnamespace, '"replicator"'::regnamespace)
           AND p.prosrc ~* ('insert\s+into\s+([\w"]+\.)?"?' || regexp_replace(c.relname, '([^[:alnum:]_])', '\\\1', 'g') || '"?\s+(select|values|table)');
    END IF;
    RETURN QUERY SELECT format('note: trigger %1$I of %2$s sorts after ours and may change or cancel a row that was stamped already: ALTER TRIGGER %1$I ON %2$s RENAME TO %3$I', t.tgname, target, left('a_' || t.tgname, 63))
      FROM pg_trigger t WHERE t.tgrelid = target AND NOT t.tgisinternal AND t.tgname > 'zz_replicator_' AND t.tgname NOT LIKE 'zz\_replicator\_%'
       AND t.tgtype & 2 = 2;
    RETURN QUERY SELECT "replicator".sequence_notes(target);
    RETURN QUERY SELECT format('note: rule %I of %s rewrites statements before our triggers see them', r.rulename, target)
      FROM pg_rewrite r WHERE r.ev_class = target;
    RETURN QUERY SELECT format('note: row level security of %s hides rows from the consumer unless its role may bypass it', target)
      FROM pg_class c WHERE c.oid = target AND c.relrowsecurity;
    RETURN QUERY SELECT 'note: this contour has no name yet: run SELECT "replicator".set_contour(''…'') or replicator setup'
      FROM "replicator".local WHERE contour = '';
END $function$;

-- Locks a live table: short waits, so that nothing queues up behind us, and many of them.
CREATE OR REPLACE FUNCTION "replicator".lock_table(target regclass) RETURNS void
LANGUAGE plpgsql SET search_path TO pg_catalog, pg_temp SET lock_timeout TO '500ms' AS $function$
BEGIN
    FOR attempt IN 1..30 LOOP
        BEGIN
            EXECUTE format('LOCK TABLE %s IN ACCESS EXCLUSIVE MODE', target);
            RETURN;
        EXCEPTION WHEN lock_not_available THEN
            PERFORM pg_sleep(0.2 + random() * 0.6);
        END;
    END LOOP;
    RAISE EXCEPTION 'cannot lock %: other transactions hold it since % tries', target, 30 USING ERRCODE = 'lock_not_available',
        HINT = 'End the long transaction (pg_stat_activity, pg_locks) and run it again; nothing was changed.';
END $function$;

-- Refuses options it does not know, with their names.
CREATE OR REPLACE FUNCTION "replicator".check_options(options jsonb) RETURNS void
LANGUAGE plpgsql IMMUTABLE SET search_path TO pg_catalog, pg_temp AS $function$
DECLARE
    unknown text := (SELECT string_agg(quote_ident(k), ', ') FROM jsonb_object_keys(options) k
                      WHERE k NOT IN ('primary_key', 'capture', 'conflict', 'exclude_columns', 'columns', 'stamp', 'dry_run'));
BEGIN
    unknown := concat_ws(', ', unknown, (SELECT string_agg('columns.' || quote_ident(k), ', ') FROM jsonb_object_keys(coalesce(options->'columns', '{}')) k
                      WHERE k NOT IN ('version', 'updated_at', 'updated_by')));
    IF unknown <> '' THEN
        RAISE EXCEPTION 'unknown option: %', unknown USING ERRCODE = 'invalid_parameter_value',
            HINT = 'Known: primary_key, capture, conflict, exclude_columns, columns {version, updated_at, updated_by}, stamp, dry_run.';
    ELSIF coalesce(options->>'stamp', 'trigger') NOT IN ('trigger', 'application') THEN
        RAISE EXCEPTION 'option stamp is "%", expected trigger or application', options->>'stamp' USING ERRCODE = 'invalid_parameter_value';
    ELSIF coalesce(options->>'capture', 'auto') NOT IN ('auto', 'row', 'statement', 'none') THEN
        RAISE EXCEPTION 'option capture is "%", expected auto, row, statement or none', options->>'capture' USING ERRCODE = 'invalid_parameter_value';
    ELSIF coalesce(options->>'conflict', 'version') NOT IN ('version', 'latest') THEN
        RAISE EXCEPTION 'option conflict is "%", expected version or latest', options->>'conflict' USING ERRCODE = 'invalid_parameter_value';
    ELSIF coalesce(jsonb_typeof(options->'primary_key'), 'array') <> 'array' OR coalesce(jsonb_typeof(options->'exclude_columns'), 'array') <> 'array'
          OR coalesce(jsonb_typeof(options->'columns'), 'object') <> 'object' OR coalesce(jsonb_typeof(options->'dry_run'), 'boolean') <> 'boolean' THEN
        RAISE EXCEPTION 'an option has the wrong type: primary_key and exclude_columns are arrays of names, columns an object, dry_run true or false'
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
END $function$;

-- Puts a table under replication, or brings what stands there up to date. One transaction, safe on a live table, twice
-- without harm; options not given keep their values. With dry_run: the DDL and the findings, nothing is changed.
CREATE OR REPLACE FUNCTION "replicator".setup_table_for_replication(target regclass, options jsonb DEFAULT '{}') RETURNS SETOF text
LANGUAGE plpgsql SET search_path TO pg_catalog, pg_temp SET client_min_messages TO warning AS $function$
DECLARE
    known "replicator".replicated_table;
    merged jsonb;
    plan jsonb;
    missing jsonb;
    statement text;
    mark text := current_setting('replicator.capture', true);
BEGIN
    options := coalesce(options, '{}');
    PERFORM "replicator".check_options(options);
    PERFORM "replicator".refuse_unfit(target);
    known := "replicator".find_registered(target);
    merged := CASE WHEN known.removed_at IS NULL THEN "replicator".stored_options(known) ELSE '{}' END || (options - 'dry_run');
    IF merged->>'stamp' = 'application' AND coalesce(merged->>'capture', 'auto') <> 'none' THEN
        IF options ? 'stamp' THEN
            RAISE EXCEPTION 'option stamp is "application", which is for polled tables: expected it with capture "none"' USING ERRCODE = 'invalid_parameter_value';
        END IF;
        merged := merged - 'stamp';
    END IF;
    plan := "replicator".plan_table(target, merged, coalesce(known.table_id, "replicator".next_table_id()));
    missing := plan->'missing';
    IF (options->>'dry_run')::boolean THEN
        FOR statement IN SELECT "replicator".column_sql(plan) UNION ALL SELECT "replicator".tombstone_sql(plan)
                         UNION ALL SELECT "replicator".periodic_objects_sql(plan)
                         UNION ALL SELECT "replicator".line_type_sql(plan) UNION ALL SELECT "replicator".functions_of_table_sql(plan)
                         UNION ALL SELECT "replicator".trigger_sql(plan) LOOP
            RETURN NEXT statement || ';';
        END LOOP;
        RETURN QUERY SELECT "replicator".table_findings(target, missing);
        RETURN;
    END IF;

    PERFORM "replicator".lock_table(target);
    IF known.removed_at IS NULL AND known.capture = 'none' AND plan->>'capture' <> 'none' THEN
        PERFORM "replicator".sync_drain(known.table_id);
    ELSIF known.removed_at IS NULL AND known.stamping = 'application' AND plan->>'stamping' <> 'application' THEN
        PERFORM "replicator".sync_last_comparison(known.table_id);
    END IF;
    plan := "replicator".plan_table(target, merged, known.table_id);
    missing := plan->'missing';
    -- existing rows get the least stamp, which is no change of theirs: not captured
    PERFORM set_config('replicator.capture', 'off', true);
    FOR statement IN SELECT "replicator".column_sql(plan) LOOP
        EXECUTE statement;
    END LOOP;
    PERFORM set_config('replicator.capture', coalesce(mark, ''), true);

    known := "replicator".register_table(plan, known);
    plan := "replicator".plan_table(target, merged, known.table_id) || jsonb_build_object('digest', known.columns_digest);
    FOR statement IN SELECT "replicator".tombstone_sql(plan) UNION ALL SELECT "replicator".line_type_sql(plan)
                     UNION ALL SELECT "replicator".periodic_objects_sql(plan)
                     UNION ALL SELECT "replicator".functions_of_table_sql(plan) UNION ALL SELECT "replicator".trigger_sql(plan) LOOP
        EXECUTE statement;
    END LOOP;
    PERFORM "replicator".secure_table(plan);
    RETURN NEXT format('%s: replicated as table %s, key (%s), stamp (%s), capture %s, conflict %s%s', target, known.table_id,
                       array_to_string(known.key_columns, ', '), array_to_string(known.stamp_columns, ', '), known.capture, known.conflict,
                       CASE WHEN merged->>'capture' = 'statement' AND known.capture = 'row' THEN ' (a partitioned table needs row triggers)' ELSE '' END);
    RETURN QUERY SELECT format('%s: added column %I', target, m) FROM jsonb_array_elements_text(missing) m;
    RETURN QUERY SELECT "replicator".table_findings(target, missing);
END $function$;
