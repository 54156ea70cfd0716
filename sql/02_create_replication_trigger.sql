-- Capture: the generators of the functions and triggers that stand on a replicated table.
-- Each table gets static functions of its own (a generic one costs four times as much): no catalog look-ups and no
-- EXECUTE in the hot path; the contour, the table's id and its oid are baked in. The input is a plan (02a).
--
-- Who is captured: the setting replicator.capture decides (on | off); where it is unset or empty, everything but a session
-- whose application_name is replicator_consumer (I9). Every statement copies the WHEN clauses of all triggers of its table
-- and parses those of its own (3 to 6 µs each, by their length), so only row triggers that read or write have one, and only
-- for "off", which apply sets for every transaction: a row of apply calls nothing. The rest is tested inside the functions.

-- A table registered as table_id may call its functions under another oid: as a partition of the root, or under its
-- registered name after a dump and restore. Anything else is a forged trigger (review B7).
CREATE OR REPLACE FUNCTION "replicator".verify_relation(id int, relation oid) RETURNS void
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path TO pg_catalog, pg_temp AS $function$
BEGIN
    IF NOT EXISTS (
        SELECT FROM "replicator".replicated_table r
          JOIN pg_class c ON c.oid = coalesce(pg_partition_root(relation), relation)
          JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE r.table_id = id AND r.removed_at IS NULL
           AND (r.relid = c.oid OR (r.schema_name = n.nspname AND r.table_name = c.relname))) THEN
        RAISE EXCEPTION 'relation % is not the replicated table %: its trigger was not made by setup_table_for_replication',
            relation::regclass, id USING ERRCODE = 'insufficient_privilege',
            HINT = 'Drop the trigger, or run setup_table_for_replication for the table.';
    END IF;
END $function$;

-- Condition: what the session does is not captured. NULL is as good as false.
CREATE OR REPLACE FUNCTION "replicator".marked_sql() RETURNS text
LANGUAGE sql IMMUTABLE SET search_path TO pg_catalog, pg_temp AS $function$
    SELECT $sql$pg_catalog.current_setting('replicator.capture', true) OPERATOR(pg_catalog.=) 'off'
       OR pg_catalog.current_setting('application_name') OPERATOR(pg_catalog.=) 'replicator_consumer'
          AND coalesce(pg_catalog.current_setting('replicator.capture', true), '') OPERATOR(pg_catalog.=) ''$sql$
$function$;

-- One line in bypass_log per transaction for a session that carries the consumer's mark and is no consumer.
CREATE OR REPLACE FUNCTION "replicator".note_bypass_of(relation regclass) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path TO pg_catalog, pg_temp AS $function$
BEGIN
    IF NOT EXISTS (SELECT FROM "replicator".consumer_role WHERE role_name = session_user) THEN
        INSERT INTO "replicator".bypass_log (table_name) VALUES (relation::text) ON CONFLICT DO NOTHING;
    END IF;
END $function$;

-- The same as a trigger, for tables that have no other function called for every statement; and apply's DELETE brings
-- tombstones: see mark_floor(). The table is the trigger's own, whatever it is: there is nothing to forge.
DO $do$ BEGIN EXECUTE format($format$
CREATE OR REPLACE FUNCTION "replicator".note_bypass() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path TO pg_catalog, pg_temp AS $function$
BEGIN
    IF %s THEN
        PERFORM "replicator".note_bypass_of(TG_RELID);
        IF TG_OP = 'DELETE' AND pg_sequence_last_value(to_regclass('"replicator".floor_mark_' || TG_ARGV[0])) IS NULL THEN
            PERFORM nextval(to_regclass('"replicator".floor_mark_' || TG_ARGV[0]));
        END IF;
    END IF;
    RETURN NULL;
END $function$$format$, "replicator".marked_sql()); END $do$;

-- Every insert asks whether its table has a floor or a tombstone; a sequence per table answers without a query, for a tenth
-- of what the query costs. Its last value: NULL neither, below a million tombstones, else a floor. Whoever writes a floor
-- (TRUNCATE here, apply, collection of tombstones) passes this trigger; whoever writes a tombstone runs mark_sql() or, as apply,
-- deletes from the table in the same statement, whose trigger does. Not transactional, on the safe side: it stands before
-- the tombstone is committed, and it is never taken back.
CREATE OR REPLACE FUNCTION "replicator".mark_floor() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path TO pg_catalog, pg_temp AS $function$
BEGIN
    IF to_regclass('"replicator".floor_mark_' || NEW.table_id) IS NOT NULL THEN
        PERFORM setval(to_regclass('"replicator".floor_mark_' || NEW.table_id), 1000000);
    END IF;
    RETURN NULL;
END $function$;
CREATE OR REPLACE TRIGGER mark_floor AFTER INSERT ON "replicator".floor FOR EACH ROW EXECUTE FUNCTION "replicator".mark_floor();
ALTER TABLE "replicator".floor ENABLE ALWAYS TRIGGER mark_floor;

-- Statement: marks that the table has tombstones. Two at a time count twice, which does no harm.
CREATE OR REPLACE FUNCTION "replicator".mark_sql(id text) RETURNS text
LANGUAGE sql IMMUTABLE SET search_path TO pg_catalog, pg_temp AS $function$
    SELECT format($sql$IF pg_sequence_last_value('"replicator".floor_mark_%1$s'::regclass) IS NULL THEN PERFORM nextval('"replicator".floor_mark_%1$s'); END IF;$sql$, id)
$function$;

-- A quoted identifier, always: a record's field called by, loop, if or strict must be quoted in PL/pgSQL though not in SQL.
CREATE OR REPLACE FUNCTION "replicator".quoted(name text) RETURNS text
LANGUAGE sql IMMUTABLE SET search_path TO pg_catalog, pg_temp AS $function$
    SELECT '"' || replace(name, '"', '""') || '"'
$function$;

-- A row whose table changed since the functions were made: as PostgreSQL renders it by itself, without what must not leave.
CREATE OR REPLACE FUNCTION "replicator".fallback_line(line json, unsent text[]) RETURNS text
LANGUAGE sql STABLE SET search_path TO pg_catalog, pg_temp AS $function$
    SELECT '{' || string_agg(to_json(e.key) || ':' || e.value, ',') || '}' FROM json_each(line) e WHERE e.key <> ALL (unsent)
$function$;

-- Text of CREATE FUNCTION; the body is dollar-quoted unless a hostile column name forbids it.
CREATE OR REPLACE FUNCTION "replicator".function_sql(signature text, attributes text, body text) RETURNS text
LANGUAGE sql IMMUTABLE SET search_path TO pg_catalog, pg_temp AS $function$
    SELECT format('CREATE OR REPLACE FUNCTION "replicator".%s LANGUAGE plpgsql %s AS %s', signature, attributes,
                  CASE WHEN body LIKE '%$replicator$%' THEN quote_literal(body) ELSE '$replicator$' || body || '$replicator$' END)
$function$;

-- Expression of the JSON line of a row (text), of the tombstone's line, of "same key", of "these settings are plain".
CREATE OR REPLACE FUNCTION "replicator".line_sql(plan jsonb, source text) RETURNS text
LANGUAGE sql IMMUTABLE SET search_path TO pg_catalog, pg_temp AS $function$
    SELECT CASE WHEN (plan->>'whole')::boolean
                THEN format('row_to_json(%s)::text', CASE WHEN source IN ('NEW', 'OLD', 'source') THEN source ELSE source || '.*' END)
                ELSE format('row_to_json(ROW(%s)::"replicator".line_%s)::text',
                            (SELECT string_agg(format('%s.%s%s', source, "replicator".quoted(c->>'name'), CASE WHEN (c->>'cast')::boolean THEN '::text' ELSE '' END), ', ' ORDER BY n)
                               FROM jsonb_array_elements(plan->'columns') WITH ORDINALITY AS e(c, n)), plan->>'id') END
$function$;
CREATE OR REPLACE FUNCTION "replicator".key_line_sql(plan jsonb, source text) RETURNS text
LANGUAGE sql IMMUTABLE SET search_path TO pg_catalog, pg_temp AS $function$
    SELECT CASE WHEN source <> 'source' AND jsonb_array_length(plan->'key_settings') > 0
                THEN format('"replicator".careful_key_line_%s(%s.*)', plan->>'id', source)
                ELSE format('row_to_json(ROW(%s, %s)::"replicator".key_line_%s)::text',
                  (SELECT string_agg(format('%s.%s%s', source, "replicator".quoted(k->>'name'), CASE WHEN (k->>'cast')::boolean THEN '::text' ELSE '' END), ', ' ORDER BY n)
                     FROM jsonb_array_elements(plan->'key') WITH ORDINALITY AS e(k, n)),
                  (SELECT string_agg(format('%s.%s', source, "replicator".quoted(s)), ', ' ORDER BY n) FROM jsonb_array_elements_text(plan->'stamp') WITH ORDINALITY AS e(s, n)),
                  plan->>'id') END
$function$;
CREATE OR REPLACE FUNCTION "replicator".same_key_sql(plan jsonb, a text, b text) RETURNS text
LANGUAGE sql IMMUTABLE SET search_path TO pg_catalog, pg_temp AS $function$
    SELECT string_agg(format('%1$s.%2$s %3$s %4$s.%2$s', a, "replicator".quoted(k->>'name'), k->>'equality', b), ' AND ' ORDER BY n)
      FROM jsonb_array_elements(plan->'key') WITH ORDINALITY AS e(k, n)
$function$;
CREATE OR REPLACE FUNCTION "replicator".settings_sql(plan jsonb, pin boolean) RETURNS text
LANGUAGE sql IMMUTABLE SET search_path TO pg_catalog, pg_temp AS $function$
    -- setting by setting: what to pin, or the test that the session has it already
    SELECT coalesce(string_agg(CASE
               WHEN pin THEN format('SET %s TO %L', s, CASE s WHEN 'extra_float_digits' THEN '1' WHEN 'IntervalStyle' THEN 'postgres'
                                    WHEN 'bytea_output' THEN 'hex' WHEN 'lc_monetary' THEN 'C' ELSE 'ISO, MDY' END)
               WHEN s = 'extra_float_digits' THEN 'current_setting(''extra_float_digits'')::int > 0'
               WHEN s = 'DateStyle' THEN 'current_setting(''DateStyle'') LIKE ''ISO%'''
               ELSE format('current_setting(%L) = %L', s, CASE s WHEN 'IntervalStyle' THEN 'postgres' WHEN 'bytea_output' THEN 'hex' ELSE 'C' END)
           END, CASE WHEN pin THEN ' ' ELSE ' AND ' END), CASE WHEN pin THEN '' ELSE 'true' END)
      FROM jsonb_array_elements_text(plan->'settings') s
$function$;

-- Composite types that give the JSON lines their names: a row expression cast to one is a simple expression, and no
-- column's name can be mistaken for anything else. Made anew with the functions when the columns changed.
CREATE OR REPLACE FUNCTION "replicator".line_type_sql(plan jsonb) RETURNS SETOF text
LANGUAGE sql IMMUTABLE SET search_path TO pg_catalog, pg_temp AS $function$
    SELECT format('DROP TYPE IF EXISTS "replicator".key_line_%1$s, "replicator".line_%1$s', plan->>'id')
    UNION ALL
    SELECT format('CREATE TYPE "replicator".key_line_%s AS (%s, %I pg_catalog.int8, %I pg_catalog.timestamptz, %I pg_catalog.text)', plan->>'id',
                  (SELECT string_agg(format('%I %s', k->>'name', k->>'line'), ', ' ORDER BY n) FROM jsonb_array_elements(plan->'key') WITH ORDINALITY AS e(k, n)),
                  plan->'stamp'->>0, plan->'stamp'->>1, plan->'stamp'->>2)
    UNION ALL
    SELECT format('CREATE TYPE "replicator".line_%s AS (%s)', plan->>'id',
                  (SELECT string_agg(format('%I %s', c->>'name', c->>'type'), ', ' ORDER BY n) FROM jsonb_array_elements(plan->'columns') WITH ORDINALITY AS e(c, n)))
     WHERE NOT (plan->>'whole')::boolean
$function$;

-- The stamp functions: architecture §6.1. Every local write gets a stamp greater than any this contour knows for the key.
CREATE OR REPLACE FUNCTION "replicator".stamp_functions_sql(plan jsonb) RETURNS SETOF text
LANGUAGE plpgsql STABLE SET search_path TO pg_catalog, pg_temp AS $function$
DECLARE
    id text := plan->>'id';
    v text := "replicator".quoted(plan->'stamp'->>0);
    u text := "replicator".quoted(plan->'stamp'->>1);
    b text := "replicator".quoted(plan->'stamp'->>2);
    contour text := quote_literal(plan->>'contour');
    keys text := (SELECT string_agg("replicator".quoted(k->>'name'), ', ' ORDER BY n) FROM jsonb_array_elements(plan->'key') WITH ORDINALITY AS e(k, n));
    old_keys text := (SELECT string_agg('OLD.' || "replicator".quoted(k->>'name'), ', ' ORDER BY n) FROM jsonb_array_elements(plan->'key') WITH ORDINALITY AS e(k, n));
    guard text := "replicator".guard_sql(plan, 'NEW');
    definer text := 'SECURITY DEFINER SET search_path TO pg_catalog, pg_temp';
    -- the trigger's WHEN clause holds the keys only
    off text := E'    IF current_setting(''replicator.capture'', true) = ''off'' THEN RETURN NEW; END IF;\n';
    -- a polled table: the xid comes before the clock, or a late commit could hide below the scan's bound (review A7)
    early_xid text := "replicator".early_xid_sql(plan);
    clock text := "replicator".clock_sql(plan);
    -- a transaction whose snapshot is older than its statement does not see what apply has deleted since: apply looks again
    recheck text := format($sql$IF current_setting('transaction_isolation') NOT IN ('read committed', 'read uncommitted') THEN
        INSERT INTO "replicator".recheck (table_id, keys) VALUES (%s, '[' || %s || ']');
    END IF;$sql$, id, "replicator".key_line_sql(plan, 'NEW'));
    known text := format($sql$SELECT max(s.v), max(s.u) INTO bound.v, bound.u
      FROM (SELECT t.%1$s AS v, t.%2$s AS u FROM "replicator".tombstone_%3$s t WHERE %4$s
            UNION ALL SELECT f.version, f.updated_at FROM "replicator".floor f WHERE f.table_id = %3$s) s;$sql$,
                         v, u, id, "replicator".same_key_sql(plan, 't', 'NEW'));
    -- %8$s, %9$s: version and updated_at of the tombstone
    bury text := "replicator".mark_sql(id) || $sql$
    INSERT INTO "replicator".tombstone_%1$s AS t (%2$s, %3$s, %4$s, %5$s)
    VALUES (%6$s, %8$s, %9$s, %7$s)
    ON CONFLICT (%2$s) DO UPDATE SET %3$s = greatest(t.%3$s, EXCLUDED.%3$s), %4$s = greatest(t.%4$s, EXCLUDED.%4$s), %5$s = EXCLUDED.%5$s;$sql$;
BEGIN
    RETURN NEXT "replicator".function_sql(format('stamp_insert_%s() RETURNS trigger', id), definer, format($body$
#variable_conflict use_column
<<bound>>
DECLARE v bigint; u timestamptz; xid xid8;
BEGIN
%1$s    -- the xid comes before the look at the tombstones: apply waits with its second look for all that are under way
    bound.xid := pg_catalog.pg_current_xact_id();
    IF pg_sequence_last_value('"replicator".floor_mark_%8$s'::regclass) IS NOT NULL THEN
        IF pg_sequence_last_value('"replicator".floor_mark_%8$s'::regclass) < 1000000 THEN
            SELECT t.%4$s, t.%5$s INTO bound.v, bound.u FROM "replicator".tombstone_%8$s t WHERE %9$s;
        ELSE
            %3$s
        END IF;
    END IF;
    NEW.%4$s := coalesce(bound.v + 1, 1);
    NEW.%5$s := greatest(%10$s, bound.u + interval '1 microsecond');
    NEW.%6$s := %7$s;
    %2$s
    RETURN NEW;
END $body$, guard, recheck, known, v, u, b, contour, id, "replicator".same_key_sql(plan, 't', 'NEW'), clock));

    -- reads nothing but the row: runs as the caller, everything named in full; of a polled table also the mark
    RETURN NEXT "replicator".function_sql(format('stamp_update_%s() RETURNS trigger', id), CASE WHEN plan->>'capture' = 'none' THEN definer ELSE '' END, format($body$
BEGIN
    IF %7$s THEN RETURN NEW; END IF;
%1$s    NEW.%2$s := OLD.%2$s OPERATOR(pg_catalog.+) 1;
    NEW.%3$s := greatest(%6$s, OLD.%3$s OPERATOR(pg_catalog.+) pg_catalog.interval '1 microsecond');
    NEW.%4$s := %5$s;
    RETURN NEW;
END $body$, early_xid, v, u, b, contour, clock, "replicator".marked_sql()));

    -- a key change is DELETE(old key) + INSERT(new key): the old key is buried before another row of the same statement
    -- can take it, the new one gets a stamp above whatever was buried under it
    RETURN NEXT "replicator".function_sql(format('change_key_%s() RETURNS trigger', id), definer, format($body$
#variable_conflict use_column
<<bound>>
DECLARE v bigint; u timestamptz;
BEGIN
%1$s    %2$s
    %3$s
    NEW.%4$s := greatest(NEW.%4$s, bound.v + 1);
    NEW.%5$s := greatest(NEW.%5$s, bound.u + interval '1 microsecond');
    %6$s
    RETURN NEW;
END $body$, off || guard, format(bury, id, keys, v, u, b, old_keys, contour, 'NEW.' || v, 'NEW.' || u), known, v, u, recheck));

    RETURN NEXT "replicator".function_sql(format('stamp_delete_%s() RETURNS trigger', id), definer, format($body$
#variable_conflict use_column
BEGIN
%1$s%2$s    %3$s
    RETURN OLD;
END $body$, "replicator".guard_sql(plan, 'OLD'), early_xid, format(bury, id, keys, v, u, b, old_keys, contour, 'OLD.' || v || ' + 1', format('greatest(%s, OLD.%s + interval ''1 microsecond'')', clock, u))));
END $function$;

-- First lines of a SECURITY DEFINER trigger function: returns at once for a marked session; knows its table's oid, or a
-- partition's, from when it was made.
CREATE OR REPLACE FUNCTION "replicator".guard_sql(plan jsonb, unchanged text) RETURNS text
LANGUAGE sql IMMUTABLE SET search_path TO pg_catalog, pg_temp AS $function$
    SELECT format($sql$    IF current_setting('application_name') = 'replicator_consumer' AND coalesce(current_setting('replicator.capture', true), '') = '' THEN RETURN %s; END IF;
    IF TG_RELID <> %s%s THEN PERFORM "replicator".verify_relation(%s, TG_RELID); END IF;
$sql$, unchanged, plan->>'relid',
                  CASE WHEN jsonb_array_length(plan->'partitions') > 0
                       THEN format(' AND TG_RELID <> ALL (''{%s}''::oid[])', (SELECT string_agg(p, ',') FROM jsonb_array_elements_text(plan->'partitions') p))
                       ELSE '' END, plan->>'id')
$function$;
