-- Which triggers stand where. Names sort after RI_… (a foreign key's own trigger) and last among the table's own, so
-- that a user's `updated_at = now()` cannot undo the stamp. All are ENABLE ALWAYS: replica sessions look at the mark.

-- (relation, trigger, definition after the name), in the order of making.
CREATE OR REPLACE FUNCTION "replicator".trigger_list(plan jsonb) RETURNS TABLE (relation regclass, trigger text, events text, action text)
LANGUAGE plpgsql STABLE SET search_path TO pg_catalog, pg_temp AS $function$
DECLARE
    id text := plan->>'id';
    root regclass := (plan->>'relid')::oid;
    captured text := $when$current_setting('replicator.capture', true) IS DISTINCT FROM 'off'$when$;
    bypassed text := $when$current_setting('replicator.capture', true) = 'off' OR current_setting('application_name') = 'replicator_consumer'$when$;
    moved text := 'NOT (' || "replicator".same_key_sql(plan, 'OLD', 'NEW') || ')';
    each_row text := ' FOR EACH ROW WHEN (';
    each_statement text := ' FOR EACH STATEMENT WHEN (';
BEGIN
    RETURN QUERY
    SELECT root, t.name, t.events, t.action || CASE WHEN t.action LIKE '%WHEN (%' THEN ')' ELSE '' END || format(' EXECUTE FUNCTION "replicator".%s', t.call)
      FROM (VALUES
        ('zz_replicator_1_stamp_insert', 'BEFORE INSERT', each_row || captured, format('stamp_insert_%s()', id), true),
        ('zz_replicator_1_stamp_update', 'BEFORE UPDATE', ' FOR EACH ROW', format('stamp_update_%s()', id), true),
        ('zz_replicator_1_stamp_delete', 'BEFORE DELETE', each_row || captured, format('stamp_delete_%s()', id), true),
        ('zz_replicator_2_change_key', 'BEFORE UPDATE', each_row || moved, format('change_key_%s()', id), true),
        ('zz_replicator_3_truncate', 'BEFORE TRUNCATE', each_statement || captured, format('truncate_%s()', id), true),
        ('zz_replicator_4_capture', 'AFTER INSERT OR UPDATE OR DELETE', each_row || captured, format('capture_%s()', id), plan->>'capture' = 'row'),
        ('zz_replicator_4_bury_key', 'AFTER UPDATE', each_row || moved, format('bury_key_%s()', id), plan->>'capture' = 'statement'),
        ('zz_replicator_5_capture_insert', 'AFTER INSERT', ' REFERENCING NEW TABLE AS new_rows' || each_statement || captured, format('capture_%s()', id), plan->>'capture' = 'statement'),
        ('zz_replicator_5_capture_update', 'AFTER UPDATE', ' REFERENCING NEW TABLE AS new_rows' || each_statement || captured, format('capture_%s()', id), plan->>'capture' = 'statement'),
        ('zz_replicator_5_capture_delete', 'AFTER DELETE', ' REFERENCING OLD TABLE AS old_rows' || each_statement || captured, format('capture_%s()', id), plan->>'capture' = 'statement'),
        ('zz_replicator_6_bypass', 'AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE', each_statement || bypassed, format('note_bypass(%L)', id), true),
        ('zz_replicator_7_truncated', 'AFTER TRUNCATE', each_statement || captured, 'truncate_done()', plan->>'kind' = 'p')
      ) AS t(name, events, action, call, wanted) WHERE t.wanted AND plan->>'stamping' <> 'application';
    RETURN QUERY
    SELECT p.p::oid::regclass, t.name, t.events, t.action || format(') EXECUTE FUNCTION "replicator".%s', t.call)
      FROM jsonb_array_elements_text(plan->'partitions') p(p), (VALUES
        ('zz_replicator_3_truncate', 'BEFORE TRUNCATE', each_statement || captured, format('truncate_partition_%s()', id)),
        ('zz_replicator_6_bypass', 'AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE', each_statement || bypassed, format('note_bypass(%L)', id))
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
