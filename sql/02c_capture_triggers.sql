-- Capture, continued: TRUNCATE, and which triggers stand where.

-- TRUNCATE is a floor above every row's version. Under REPEATABLE READ the rows seen may be older than the rows that
-- go, so the floor is lifted by a margin no row can have outrun meanwhile. On a partition: its rows as deletes.
CREATE OR REPLACE FUNCTION "replicator".truncate_functions_sql(plan jsonb) RETURNS SETOF text
LANGUAGE plpgsql STABLE SET search_path TO pg_catalog, pg_temp AS $function$
DECLARE
    id text := plan->>'id';
    v text := quote_ident(plan->'stamp'->>0);
    u text := quote_ident(plan->'stamp'->>1);
    b text := quote_ident(plan->'stamp'->>2);
    queued boolean := plan->>'capture' <> 'none';
    keys text := (SELECT string_agg(quote_ident(k->>'name'), ', ' ORDER BY n) FROM jsonb_array_elements(plan->'key') WITH ORDINALITY AS e(k, n));
    definer text := 'SECURITY DEFINER SET search_path TO pg_catalog, pg_temp ' || "replicator".settings_sql(plan, true);
    marked text := format('    IF %s THEN PERFORM "replicator".note_bypass_of(TG_RELID); RETURN NULL; END IF;', "replicator".marked_sql()) || E'\n';
    line text := format('"replicator".careful_line_%s(replicator_row.*)', id);
BEGIN
    RETURN NEXT "replicator".function_sql(format('truncate_%s() RETURNS trigger', id), definer, format($body$
<<bound>>
DECLARE v bigint; u timestamptz;
BEGIN
%1$s    -- by oid, so that it goes on working after the table was renamed
    EXECUTE format('SELECT max(s.v), max(s.u) FROM (SELECT max(r.%%I) AS v, max(r.%%I) AS u FROM %%s r
        UNION ALL SELECT max(t.%%1$I), max(t.%%2$I) FROM "replicator".tombstone_%2$s t
        UNION ALL SELECT max(f.version), max(f.updated_at) FROM "replicator".floor f WHERE f.table_id = %2$s) s',
        %3$L, %4$L, TG_RELID::regclass) INTO bound.v, bound.u;
    bound.v := coalesce(bound.v, 0) + CASE WHEN current_setting('transaction_isolation') = 'read committed' THEN 1 ELSE 1048576 END;
%7$s    bound.u := greatest(%8$s, bound.u + interval '1 microsecond');
    DELETE FROM "replicator".floor AS f WHERE f.table_id = %2$s AND f.version < bound.v AND f.updated_at < bound.u;
    INSERT INTO "replicator".floor VALUES (%2$s, bound.v, bound.u, %5$L);
    PERFORM set_config('replicator.truncating', '%2$s', true);
    %6$s
    RETURN NULL;
END $body$, marked || "replicator".guard_sql(plan, 'NULL'), id, plan->'stamp'->>0, plan->'stamp'->>1, plan->>'contour',
            CASE WHEN queued THEN format('INSERT INTO "replicator".queue (table_id, operation, rows, data)
        VALUES (%s, ''T'', 1, json_build_object(%L, bound.v, %L, bound.u, %L, %L)::text);',
                 id, plan->'stamp'->>0, plan->'stamp'->>1, plan->'stamp'->>2, plan->>'contour') ELSE '' END,
            "replicator".early_xid_sql(plan), "replicator".clock_sql(plan)));

    IF plan->>'kind' = 'p' THEN
        RETURN NEXT "replicator".function_sql(format('truncate_partition_%s() RETURNS trigger', id), definer, format($body$
BEGIN
%1$s    -- a detached partition is a table of its own; when the root is being truncated, its floor says it all
    IF pg_partition_root(TG_RELID) IS NULL THEN RETURN NULL; END IF;
    IF current_setting('replicator.truncating', true) = '%2$s' THEN RETURN NULL; END IF;
    %6$s
%5$s    EXECUTE format(%3$L, TG_RELID::regclass);
    %4$s
    RETURN NULL;
END $body$, marked || "replicator".guard_sql(plan, 'NULL'), id,
            replace(replace(format($sql$INSERT INTO "replicator".tombstone_%1$s AS t (%2$s, %3$s, %4$s, %5$s)
                SELECT %2$s, %3$s + 1, greatest(%7$s, %4$s + interval '1 microsecond'), %6$L FROM ONLY <part>
                ON CONFLICT (%2$s) DO UPDATE SET %3$s = greatest(t.%3$s, EXCLUDED.%3$s), %4$s = greatest(t.%4$s, EXCLUDED.%4$s), %5$s = EXCLUDED.%5$s$sql$,
                id, keys, v, u, b, plan->>'contour', "replicator".clock_sql(plan)), '%', '%%'), '<part>', '%1$s'),
            CASE WHEN queued THEN format('EXECUTE format(%L, TG_RELID::regclass);',
                replace(replace("replicator".pack_sql(plan, '''D''', 'ONLY <part>', line, true), '%', '%%'), '<part>', '%1$s')) ELSE '' END,
            "replicator".early_xid_sql(plan), "replicator".mark_sql(id)));
    END IF;
END $function$;

-- After the root's TRUNCATE: a partition truncated later in the transaction is captured again.
CREATE OR REPLACE FUNCTION "replicator".truncate_done() RETURNS trigger
LANGUAGE plpgsql SET search_path TO pg_catalog, pg_temp AS $function$
BEGIN
    PERFORM set_config('replicator.truncating', '', true);
    RETURN NULL;
END $function$;

-- Names sort after RI_… (a foreign key's own trigger) and last among the table's own, so
-- that a user's `updated_at = now()` cannot undo the stamp. All are ENABLE ALWAYS: replica sessions look at the mark.

-- (relation, trigger, definition after the name), in the order of making.
CREATE OR REPLACE FUNCTION "replicator".trigger_list(plan jsonb) RETURNS TABLE (relation regclass, trigger text, events text, action text)
LANGUAGE plpgsql STABLE SET search_path TO pg_catalog, pg_temp AS $function$
DECLARE
    id text := plan->>'id';
    root regclass := (plan->>'relid')::oid;
    captured text := $when$current_setting('replicator.capture', true) IS DISTINCT FROM 'off'$when$;
    moved text := 'NOT (' || "replicator".same_key_sql(plan, 'OLD', 'NEW') || ')';
    each_row text := ' FOR EACH ROW WHEN (';
    each_statement text := ' FOR EACH STATEMENT';
BEGIN
    RETURN QUERY
    SELECT root, t.name, t.events, t.action || CASE WHEN t.action LIKE '%WHEN (%' THEN ')' ELSE '' END || format(' EXECUTE FUNCTION "replicator".%s', t.call)
      FROM (VALUES
        ('zz_replicator_1_stamp_insert', 'BEFORE INSERT', each_row || captured, format('stamp_insert_%s()', id), true),
        ('zz_replicator_1_stamp_update', 'BEFORE UPDATE', ' FOR EACH ROW', format('stamp_update_%s()', id), true),
        ('zz_replicator_1_stamp_delete', 'BEFORE DELETE', each_row || captured, format('stamp_delete_%s()', id), true),
        ('zz_replicator_2_change_key', 'BEFORE UPDATE', each_row || moved, format('change_key_%s()', id), true),
        ('zz_replicator_3_truncate', 'BEFORE TRUNCATE', each_statement, format('truncate_%s()', id), true),
        ('zz_replicator_4_capture', 'AFTER INSERT OR UPDATE OR DELETE', each_row || captured, format('capture_%s()', id), plan->>'capture' = 'row'),
        ('zz_replicator_4_bury_key', 'AFTER UPDATE', each_row || moved, format('bury_key_%s()', id), plan->>'capture' = 'statement'),
        ('zz_replicator_5_capture_insert', 'AFTER INSERT', ' REFERENCING NEW TABLE AS new_rows' || each_statement, format('capture_%s()', id), plan->>'capture' = 'statement'),
        ('zz_replicator_5_capture_update', 'AFTER UPDATE', ' REFERENCING NEW TABLE AS new_rows' || each_statement, format('capture_%s()', id), plan->>'capture' = 'statement'),
        ('zz_replicator_5_capture_delete', 'AFTER DELETE', ' REFERENCING OLD TABLE AS old_rows' || each_statement, format('capture_%s()', id), plan->>'capture' = 'statement'),
        ('zz_replicator_6_bypass', 'BEFORE INSERT OR UPDATE OR DELETE', each_statement, format('note_bypass(%L)', id), plan->>'capture' <> 'statement'),
        ('zz_replicator_7_truncated', 'AFTER TRUNCATE', each_statement, 'truncate_done()', plan->>'kind' = 'p')
      ) AS t(name, events, action, call, wanted) WHERE t.wanted AND plan->>'stamping' <> 'application';
    RETURN QUERY
    SELECT p.p::oid::regclass, t.name, t.events, t.action || format(' EXECUTE FUNCTION "replicator".%s', t.call)
      FROM jsonb_array_elements_text(plan->'partitions') p(p), (VALUES
        ('zz_replicator_3_truncate', 'BEFORE TRUNCATE', each_statement, format('truncate_partition_%s()', id)),
        ('zz_replicator_6_bypass', 'BEFORE INSERT OR UPDATE OR DELETE', each_statement, format('note_bypass(%L)', id))
      ) AS t(name, events, action, call) WHERE plan->>'stamping' <> 'application';
END $function$;

-- Our triggers of a table as they stand: on the root, on its partitions, on partitions detached since.
CREATE OR REPLACE FUNCTION "replicator".triggers_of_table(id int, root oid) RETURNS TABLE (relation oid, trigger name)
LANGUAGE sql STABLE SET search_path TO pg_catalog, pg_temp AS $function$
    SELECT t.tgrelid, t.tgname FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid AND p.pronamespace = '"replicator"'::regnamespace
     WHERE t.tgname LIKE 'zz\_replicator\_%' AND NOT t.tgisinternal AND t.tgparentid = 0
       AND (t.tgrelid = root OR p.proname ~ ('_' || id || '$') OR (p.proname = 'note_bypass' AND encode(t.tgargs, 'escape') = id || '\000'))
     ORDER BY t.tgrelid, t.tgname
$function$;

-- DDL of the triggers: those that are no longer wanted go, the wanted ones are made or made anew.
CREATE OR REPLACE FUNCTION "replicator".trigger_sql(plan jsonb) RETURNS SETOF text
LANGUAGE sql STABLE SET search_path TO pg_catalog, pg_temp AS $function$
    WITH wanted AS MATERIALIZED (SELECT * FROM "replicator".trigger_list(plan))
    SELECT format('DROP TRIGGER %I ON %s', t.trigger, t.relation::regclass)
      FROM "replicator".triggers_of_table((plan->>'id')::int, (plan->>'relid')::oid) t
     WHERE NOT EXISTS (SELECT FROM wanted w WHERE w.relation = t.relation AND w.trigger = t.trigger)
    UNION ALL
    SELECT s.statement FROM wanted w CROSS JOIN LATERAL (VALUES
        (1, format('CREATE OR REPLACE TRIGGER %s %s ON %s%s', w.trigger, w.events, w.relation, w.action)),
        (2, format('ALTER TABLE %s ENABLE ALWAYS TRIGGER %s', w.relation, w.trigger))) s(n, statement)
$function$;
