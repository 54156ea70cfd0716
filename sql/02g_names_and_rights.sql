-- Thin names in the compatibility schema, rights of the group roles, removal of everything.

-- Makes the names of the source designs stand in a schema (NULL: nowhere), takes those made before away. A name is made
-- only where it is free, never over a foreign object; nothing is granted to PUBLIC. Returns what could not be made.
CREATE OR REPLACE FUNCTION "replicator".set_compat_schema(name text) RETURNS SETOF text
LANGUAGE plpgsql SET search_path TO pg_catalog, pg_temp SET client_min_messages TO warning AS $function$
DECLARE
    item record;
    mark constant text := 'thin name of the replicator; do not change';
    own constant oid := '"replicator"'::regnamespace;
BEGIN
    FOR item IN SELECT format('VIEW %s', c.oid::regclass) AS what FROM pg_class c
                 WHERE c.relkind = 'v' AND c.relnamespace <> own AND obj_description(c.oid, 'pg_class') = mark
                   AND pg_get_viewdef(c.oid) LIKE '%' || own::regnamespace || '.%'
                   AND c.relnamespace IS DISTINCT FROM to_regnamespace(quote_ident(name))
                UNION ALL
                SELECT format('FUNCTION %s', p.oid::regprocedure) FROM pg_proc p
                 WHERE p.pronamespace <> own AND obj_description(p.oid, 'pg_proc') = mark
                   AND p.prosrc LIKE '%"replicator".%' AND p.pronamespace IS DISTINCT FROM to_regnamespace(quote_ident(name)) LOOP
        EXECUTE 'DROP ' || item.what;
    END LOOP;
    UPDATE "replicator".local SET compat_schema = name;
    IF name IS NULL THEN RETURN; END IF;
    IF to_regnamespace(quote_ident(name)) IS NULL THEN
        RETURN NEXT format('schema %I does not exist: the thin names were not made', name);
        RETURN;
    ELSIF NOT has_schema_privilege(current_user, name, 'CREATE') THEN
        RETURN NEXT format('role %I may not create in schema %I: the thin names were not made (GRANT CREATE ON SCHEMA, or compat_schema: off)', current_user, name);
        RETURN;
    END IF;
    FOR item IN SELECT * FROM (VALUES ('replication_queue'), ('processed_events'), ('inbox'), ('sync_state'), ('conflict_log'), ('bypass_log')) v(view) LOOP
        IF to_regclass(format('%I.%I', name, item.view)) IS NOT NULL
           AND obj_description(to_regclass(format('%I.%I', name, item.view)), 'pg_class') IS DISTINCT FROM mark THEN
            RETURN NEXT format('%I.%I exists and is not ours: use "replicator".%I', name, item.view, item.view);
            CONTINUE;
        END IF;
        EXECUTE format('CREATE OR REPLACE VIEW %I.%I AS SELECT * FROM "replicator".%I', name, item.view, item.view);
        EXECUTE format('COMMENT ON VIEW %I.%I IS %L', name, item.view, mark);
    END LOOP;
    IF obj_description(to_regclass(format('%I.sync_state', name)), 'pg_class') = mark THEN
        EXECUTE format('ALTER VIEW %I.sync_state ALTER COLUMN updated_at SET DEFAULT now()', name);
    END IF;
    FOR item IN SELECT * FROM (VALUES
        ('setup_table_for_replication', 'regclass, jsonb', 'target regclass, options jsonb DEFAULT ''{}''', 'SELECT * FROM "replicator".setup_table_for_replication($1, $2)'),
        ('remove_table_from_replication', 'regclass, boolean', 'target regclass, drop_columns boolean DEFAULT true', 'SELECT * FROM "replicator".remove_table_from_replication($1, $2)')
        ) v(fn, types, arguments, body) LOOP
        -- any foreign function of that name, whatever its arguments: a second one would make calls ambiguous
        IF EXISTS (SELECT FROM pg_proc p WHERE p.pronamespace = to_regnamespace(quote_ident(name)) AND p.proname = item.fn
                     AND obj_description(p.oid, 'pg_proc') IS DISTINCT FROM mark) THEN
            RETURN NEXT format('function %I.%I exists and is not ours: use "replicator".%I', name, item.fn, item.fn);
            CONTINUE;
        END IF;
        EXECUTE format('CREATE OR REPLACE FUNCTION %I.%I(%s) RETURNS SETOF text LANGUAGE sql AS %L', name, item.fn, item.arguments, item.body);
        EXECUTE format('REVOKE ALL ON FUNCTION %I.%I(%s) FROM PUBLIC', name, item.fn, item.types);
        EXECUTE format('COMMENT ON FUNCTION %I.%I(%s) IS %L', name, item.fn, item.types, mark);
    END LOOP;
END $function$;

-- Rights of the group roles, where they exist (05 makes them). The application needs none of them.
-- Publisher: reads the queue, records cuts, confirmations and leases, empties slots. Consumer: writes the ledger and
-- what goes with it, and the replicated tables.
CREATE OR REPLACE FUNCTION "replicator".grant_rights() RETURNS void
LANGUAGE plpgsql SET search_path TO pg_catalog, pg_temp AS $function$
DECLARE
    item record;
    statement text;
BEGIN
    IF to_regrole('replicator_publisher') IS NOT NULL THEN
        FOREACH statement IN ARRAY ARRAY[
            'GRANT USAGE ON SCHEMA "replicator" TO replicator_publisher',
            'GRANT SELECT ON ALL TABLES IN SCHEMA "replicator" TO replicator_publisher',
            -- moving the ring on to its next slot sets the sequence
            'GRANT SELECT, UPDATE ON SEQUENCE "replicator".queue_id_seq TO replicator_publisher',
            'GRANT INSERT, UPDATE ON "replicator".lease TO replicator_publisher',
            'GRANT INSERT ON "replicator".cut, "replicator".confirmed, "replicator".layout, "replicator".epoch TO replicator_publisher',
            -- LOCK TABLE in a mode above ROW EXCLUSIVE asks for it
            'GRANT TRUNCATE ON "replicator".cut TO replicator_publisher',
            'GRANT INSERT, UPDATE ON "replicator".sync_state TO replicator_publisher'] LOOP
            EXECUTE statement;
        END LOOP;
        FOR item IN SELECT c.relname FROM pg_class c WHERE c.relnamespace = '"replicator"'::regnamespace AND c.relname ~ '^(queue|cut|confirmed)_[0-7]$' LOOP
            EXECUTE format('GRANT TRUNCATE ON "replicator".%I TO replicator_publisher', item.relname);
        END LOOP;
        FOR item IN SELECT p.oid::regprocedure AS f FROM pg_proc p WHERE p.pronamespace = '"replicator"'::regnamespace
                       AND p.proname IN ('channel_of', 'pending_ranges', 'pending_rows', 'published_at', 'record_id', 'keep_queue_row', 'stale_tables', 'columns_digest',
                                         'sync_begin', 'sync_batch', 'sync_compare_keys', 'sync_confirm',
                                         'snapshot_order', 'hold_snapshot', 'begin_snapshot', 'step_snapshot') LOOP
            EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO replicator_publisher', item.f);
        END LOOP;
    END IF;
    IF to_regrole('replicator_consumer') IS NOT NULL THEN
        FOREACH statement IN ARRAY ARRAY[
            'GRANT USAGE ON SCHEMA "replicator" TO replicator_consumer',
            'GRANT SELECT ON ALL TABLES IN SCHEMA "replicator" TO replicator_consumer',
            'GRANT INSERT, UPDATE, DELETE ON "replicator".lease, "replicator".ledger, "replicator".applied, "replicator".fragment, "replicator".recheck, "replicator".inbox, "replicator".floor, "replicator".conflict_log, "replicator".sync_state TO replicator_consumer',
            'GRANT INSERT ON "replicator".consumer_role TO replicator_consumer',
            'GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA "replicator" TO replicator_consumer'] LOOP
            EXECUTE statement;
        END LOOP;
        FOR item IN SELECT c.relname FROM pg_class c WHERE c.relnamespace = '"replicator"'::regnamespace AND c.relname ~ '^applied_[0-3]$' LOOP
            EXECUTE format('GRANT TRUNCATE ON "replicator".%I TO replicator_consumer', item.relname);
        END LOOP;
        FOR item IN SELECT c.relname FROM pg_class c WHERE c.relnamespace = '"replicator"'::regnamespace AND c.relname ~ '^tombstone_[0-9]+$' LOOP
            EXECUTE format('GRANT INSERT, UPDATE, DELETE ON "replicator".%I TO replicator_consumer', item.relname);
        END LOOP;
        FOR item IN SELECT p.oid::regprocedure AS f FROM pg_proc p WHERE p.pronamespace = '"replicator"'::regnamespace
                       AND (p.proname IN ('friendly_type', 'type_settings', 'columns_digest', 'record_id', 'stale_tables', 'channel_of', 'pending_ranges', 'pending_rows', 'published_at', 'conflict_found')
                            OR p.proname ~ '^refuse_[0-9]+$') LOOP
            EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO replicator_consumer', item.f);
        END LOOP;
        FOR item IN SELECT c.oid::regclass AS t FROM "replicator".replicated_table r JOIN pg_class c ON c.oid = r.relid
                     WHERE r.removed_at IS NULL AND pg_has_role(current_user, c.relowner, 'USAGE') LOOP
            EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON %s TO replicator_consumer', item.t);
        END LOOP;
        FOR item IN SELECT DISTINCT n.nspname FROM "replicator".replicated_table r JOIN pg_class c ON c.oid = r.relid JOIN pg_namespace n ON n.oid = c.relnamespace
                     WHERE r.removed_at IS NULL AND NOT has_schema_privilege('replicator_consumer', n.oid, 'USAGE') AND pg_has_role(current_user, n.nspowner, 'USAGE') LOOP
            EXECUTE format('GRANT USAGE ON SCHEMA %I TO replicator_consumer', item.nspname);
        END LOOP;
    END IF;
END $function$;

-- Removes everything: triggers, functions, thin names, the schema with the queue and the ledger. Unpublished changes are
-- gone with it. Columns added to tables stay unless drop_columns.
CREATE OR REPLACE FUNCTION "replicator".uninstall(drop_columns boolean DEFAULT false) RETURNS void
LANGUAGE plpgsql SET search_path TO pg_catalog, pg_temp SET client_min_messages TO warning AS $function$
DECLARE
    item record;
BEGIN
    FOR item IN SELECT c.oid::regclass AS t FROM "replicator".replicated_table r JOIN pg_class c ON c.oid = r.relid WHERE r.removed_at IS NULL LOOP
        PERFORM "replicator".remove_table_from_replication(item.t, drop_columns);
    END LOOP;
    -- triggers of tables the register no longer finds
    FOR item IN SELECT format('DROP TRIGGER IF EXISTS %I ON %s', t.tgname, t.tgrelid::regclass) AS statement
                  FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid
                 WHERE p.pronamespace = '"replicator"'::regnamespace AND t.tgname LIKE 'zz\_replicator\_%' AND t.tgparentid = 0 LOOP
        EXECUTE item.statement;
    END LOOP;
    PERFORM "replicator".set_compat_schema(NULL);
    DROP SCHEMA "replicator" CASCADE;
END $function$;

-- Nobody executes our functions but their owner and those named above (review B7).
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA "replicator" FROM PUBLIC;
DO $$
DECLARE
    finding text;
BEGIN
    FOR finding IN SELECT * FROM "replicator".set_compat_schema((SELECT compat_schema FROM "replicator".local)) LOOP
        RAISE WARNING '%', finding;
    END LOOP;
    PERFORM "replicator".grant_rights();
END $$;
