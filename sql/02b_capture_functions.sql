-- Capture, continued: the functions that write queue rows (row form, statement form, refusals).

-- Expression: the columns have the types the line's type was made of. A cast to a former type would round the value (I7).
CREATE OR REPLACE FUNCTION "replicator".same_types_sql(plan jsonb, source text) RETURNS text
LANGUAGE sql IMMUTABLE SET search_path TO pg_catalog, pg_temp AS $function$
    SELECT coalesce(string_agg(format('pg_typeof(%s.%s) = ''%s''::regtype', source, "replicator".quoted(c->>'name'), c->>'oid'), ' AND ' ORDER BY n), 'true')
      FROM jsonb_array_elements(plan->'columns') WITH ORDINALITY AS e(c, n) WHERE NOT (c->>'cast')::boolean
$function$;

-- Statement of a trigger function that puts a row's line into captured.line. `plain`: the settings are as pinned;
-- `same`: no column was added since.
CREATE OR REPLACE FUNCTION "replicator".take_line_sql(plan jsonb, source text, plain text, same text) RETURNS text
LANGUAGE sql IMMUTABLE SET search_path TO pg_catalog, pg_temp AS $function$
    SELECT CASE
        WHEN (plan->>'whole')::boolean AND plain = 'true' THEN format('captured.line := row_to_json(%s)::text;', source)
        WHEN (plan->>'whole')::boolean THEN
            format('IF %1$s THEN captured.line := row_to_json(%2$s)::text; ELSE captured.line := "replicator".careful_line_%3$s(%2$s); END IF;',
                   plain, source, plan->>'id')
        -- the inner block writes nothing, so it costs no subtransaction id; a dropped or renamed column ends in its handler,
        -- and so does a column of another type in a session that knew the former one
        ELSE format('IF %1$s AND %2$s THEN BEGIN
            IF %6$s THEN captured.line := %3$s; ELSE captured.line := "replicator".careful_line_%4$s(%5$s); END IF;
        EXCEPTION WHEN undefined_column OR datatype_mismatch THEN captured.line := "replicator".careful_line_%4$s(%5$s); END;
        ELSE captured.line := "replicator".careful_line_%4$s(%5$s); END IF;',
                    same, plain, "replicator".line_sql(plan, source), plan->>'id', source, "replicator".same_types_sql(plan, source))
    END
$function$;

-- Expression: no column was added to the table since its functions were made. One look into the catalog cache.
CREATE OR REPLACE FUNCTION "replicator".same_columns_sql(plan jsonb) RETURNS text
LANGUAGE sql IMMUTABLE SET search_path TO pg_catalog, pg_temp AS $function$
    SELECT format('has_column_privilege(%s::oid, %s::int2, ''SELECT'') IS NULL', plan->>'relid', (plan->>'attributes')::int + 1)
$function$;
CREATE OR REPLACE FUNCTION "replicator".unsent_sql(plan jsonb) RETURNS text
LANGUAGE sql IMMUTABLE SET search_path TO pg_catalog, pg_temp AS $function$
    SELECT format('ARRAY[%s]::text[]', (SELECT string_agg(quote_literal(e), ', ') FROM jsonb_array_elements_text(plan->'unsent') e))
$function$;

-- Row form: one queue row per changed row. With it the careful line: for sessions whose settings would change the text,
-- and for a table whose columns changed since the functions were made (a write of the application never fails for that).
CREATE OR REPLACE FUNCTION "replicator".row_capture_sql(plan jsonb) RETURNS SETOF text
LANGUAGE plpgsql STABLE SET search_path TO pg_catalog, pg_temp AS $function$
DECLARE
    id text := plan->>'id';
    plain text := "replicator".settings_sql(plan, false);
    same text := "replicator".same_columns_sql(plan);
    bury text := format($sql$INSERT INTO "replicator".queue (table_id, operation, rows, data, old)
        SELECT %1$s, 'D', 1, %2$s, captured.line FROM "replicator".tombstone_%1$s t WHERE %3$s;
        IF NOT FOUND THEN RAISE EXCEPTION 'no tombstone for a row deleted from replicated table %1$s: trigger zz_replicator_1_stamp_delete did not run'; END IF;$sql$,
                        id, "replicator".key_line_sql(plan, 't'), "replicator".same_key_sql(plan, 't', 'OLD'));
BEGIN
    RETURN NEXT "replicator".function_sql(format('careful_line_%s(source record) RETURNS text', id),
        'SET search_path TO pg_catalog, pg_temp ' || "replicator".settings_sql(plan, true),
        CASE WHEN (plan->>'whole')::boolean THEN ' BEGIN RETURN row_to_json(source)::text; END ' ELSE format($body$
BEGIN
    IF %1$s AND %4$s THEN RETURN %2$s; END IF;
    RETURN "replicator".fallback_line(row_to_json(source), %3$s);
EXCEPTION WHEN undefined_column OR datatype_mismatch THEN
    RETURN "replicator".fallback_line(row_to_json(source), %3$s);
END $body$, same, "replicator".line_sql(plan, 'source'), "replicator".unsent_sql(plan), "replicator".same_types_sql(plan, 'source')) END);

    IF jsonb_array_length(plan->'key_settings') > 0 THEN
        RETURN NEXT "replicator".function_sql(format('careful_key_line_%s(source record) RETURNS text', id),
            'SET search_path TO pg_catalog, pg_temp ' || "replicator".settings_sql(plan, true),
            format(' BEGIN RETURN %s; END ', "replicator".key_line_sql(plan, 'source')));
    END IF;
    RETURN NEXT "replicator".function_sql(format('capture_%s() RETURNS trigger', id),
        'SECURITY DEFINER SET search_path TO pg_catalog, pg_temp', format($body$
#variable_conflict use_column
<<captured>>
DECLARE line text; op "char";
BEGIN
%1$s    IF TG_OP = 'DELETE' THEN
        %2$s
        %3$s
        RETURN NULL;
    ELSIF TG_OP = 'INSERT' THEN
        captured.op := 'I';
    ELSIF %4$s THEN
        captured.op := 'U';
    ELSE -- a key change: DELETE of the old key, INSERT of the new one
        %2$s
        %3$s
        captured.op := 'I';
    END IF;
    %5$s
    IF captured.op = 'I' AND pg_sequence_last_value('"replicator".floor_mark_%6$s'::regclass) IS NOT NULL THEN
        -- it was stamped before it waited for a transaction that deleted its key: see lift_sql()
        INSERT INTO "replicator".queue (table_id, operation, rows, data)
        SELECT %6$s, 'I', 1, captured.line WHERE NOT EXISTS (SELECT FROM "replicator".tombstone_%6$s t WHERE %7$s AND %8$s);
        IF FOUND THEN RETURN NULL; END IF;
        PERFORM "replicator".lift_%6$s(TG_RELID, '[' || %9$s || ']');
    END IF;
    INSERT INTO "replicator".queue (table_id, operation, rows, data) VALUES (%6$s, captured.op, 1, captured.line);
    RETURN NULL;
END $body$, "replicator".guard_sql(plan, 'NULL'), "replicator".take_line_sql(plan, 'OLD', plain, same), bury,
            "replicator".same_key_sql(plan, 'OLD', 'NEW'), "replicator".take_line_sql(plan, 'NEW', plain, same), id,
            "replicator".same_key_sql(plan, 't', 'NEW'), "replicator".not_above_sql(plan, 'NEW', 't'), "replicator".key_line_sql(plan, 'NEW')));
    RETURN NEXT "replicator".lift_sql(plan);
END $function$;

-- Expression: a row's stamp is not above a tombstone's.
CREATE OR REPLACE FUNCTION "replicator".not_above_sql(plan jsonb, source text, stone text) RETURNS text
LANGUAGE sql IMMUTABLE SET search_path TO pg_catalog, pg_temp AS $function$
    SELECT format('(%1$s.%3$s <= %2$s.%3$s OR %1$s.%4$s <= %2$s.%4$s)', source, stone,
                  "replicator".quoted(plan->'stamp'->>0), "replicator".quoted(plan->'stamp'->>1))
$function$;

-- A row is stamped before it is inserted, and the insert may wait then: for a transaction that deletes the row of its key.
-- When that commits the new row goes in below the tombstone, and every other contour would take it for deleted. Seen after
-- the insert, when the tombstone is visible and nobody else can delete the key; mended by a captured UPDATE above it.
CREATE OR REPLACE FUNCTION "replicator".lift_sql(plan jsonb) RETURNS text
LANGUAGE sql STABLE SET search_path TO pg_catalog, pg_temp AS $function$
    SELECT "replicator".function_sql(format('lift_%s(relation regclass, keys text) RETURNS void', plan->>'id'),
        -- the user's own triggers run in it and keep their plans
        'SECURITY DEFINER SET search_path TO pg_catalog, pg_temp SET enable_seqscan TO on', format($body$
DECLARE
    mark text := coalesce(current_setting('replicator.capture', true), '');
    rows text := 'json_populate_recordset(NULL::"replicator".tombstone_%1$s, $1::json)';
    noted boolean := EXISTS (SELECT FROM "replicator".bypass_log l WHERE l.xid = pg_current_xact_id());
BEGIN
    PERFORM set_config('replicator.capture', 'off', true);
    EXECUTE format('UPDATE %%s c SET %2$s = greatest(c.%2$s, t.%2$s), %3$s = greatest(c.%3$s, t.%3$s) FROM %%s k JOIN "replicator".tombstone_%1$s t ON %4$s WHERE %5$s',
                   relation, rows) USING keys;
    PERFORM set_config('replicator.capture', mark, true);
    -- the mark was ours: nobody went past the capture
    IF NOT noted THEN DELETE FROM "replicator".bypass_log l WHERE l.xid = pg_current_xact_id(); END IF;
    EXECUTE format('UPDATE %%s c SET %2$s = c.%2$s FROM %%s k WHERE %5$s', relation, rows) USING keys;
END $body$, plan->>'id',
            replace(replace("replicator".quoted(plan->'stamp'->>0), '%', '%%'), '''', ''''''), replace(replace("replicator".quoted(plan->'stamp'->>1), '%', '%%'), '''', ''''''),
            replace(replace("replicator".same_key_sql(plan, 't', 'k'), '%', '%%'), '''', ''''''), replace(replace("replicator".same_key_sql(plan, 'c', 'k'), '%', '%%'), '''', '''''')))
$function$;

-- Statement: packs the lines of a set of rows into queue rows of about 64 kB, by a running sum of their bytes.
-- `source` is a relation; its alias is replicator_row. `buried` adds the tombstone and makes D rows: looked up row by row
-- by its index, see statement_capture_sql().
CREATE OR REPLACE FUNCTION "replicator".pack_sql(plan jsonb, operation text, source text, line text, buried boolean) RETURNS text
LANGUAGE sql IMMUTABLE SET search_path TO pg_catalog, pg_temp AS $function$
    SELECT CASE WHEN buried THEN
        format($sql$INSERT INTO "replicator".queue (table_id, operation, rows, data, old)
        SELECT %1$s, %2$s, count(*), string_agg(c.gone, E',\n'), string_agg(c.line, E',\n')
          FROM (SELECT l.gone, l.line, (sum(l.size) OVER (ROWS UNBOUNDED PRECEDING) - l.size) / 65536 AS part
                  FROM (SELECT x.gone, x.line, octet_length(x.gone) + octet_length(x.line) AS size
                          FROM (SELECT (SELECT %5$s FROM "replicator".tombstone_%1$s t WHERE %6$s) AS gone, %4$s AS line
                                  FROM %3$s AS replicator_row OFFSET 0) x WHERE x.gone IS NOT NULL) l) c
         GROUP BY c.part;$sql$, plan->>'id', operation, source, line, "replicator".key_line_sql(plan, 't'), "replicator".same_key_sql(plan, 't', 'replicator_row'))
    ELSE
        format($sql$INSERT INTO "replicator".queue (table_id, operation, rows, data)
        SELECT %1$s, %2$s, count(*), string_agg(c.line, E',\n')
          FROM (SELECT l.line, (sum(l.size) OVER (ROWS UNBOUNDED PRECEDING) - l.size) / 65536 AS part
                  FROM (SELECT x.line, octet_length(x.line) AS size
                          FROM (SELECT %4$s AS line FROM %3$s AS replicator_row OFFSET 0) x) l) c
         GROUP BY c.part;$sql$, plan->>'id', operation, source, line) END
$function$;

-- Statement: captures a statement's only row; inserts nothing where there are more, or none. Packing costs a single row
-- 8 µs more.
CREATE OR REPLACE FUNCTION "replicator".single_sql(plan jsonb, operation text, source text, line text, buried boolean) RETURNS text
LANGUAGE sql IMMUTABLE SET search_path TO pg_catalog, pg_temp AS $function$
    SELECT CASE WHEN buried THEN
        format($sql$INSERT INTO "replicator".queue (table_id, operation, rows, data, old)
        SELECT %1$s, %2$s, 1, x.gone, x.line
          FROM (SELECT (SELECT %5$s FROM "replicator".tombstone_%1$s t WHERE %6$s) AS gone, %4$s AS line FROM %3$s AS replicator_row OFFSET 0) x
         WHERE x.gone IS NOT NULL AND NOT EXISTS (SELECT FROM %3$s OFFSET 1);$sql$,
               plan->>'id', operation, source, line, "replicator".key_line_sql(plan, 't'), "replicator".same_key_sql(plan, 't', 'replicator_row'))
    ELSE
        format($sql$INSERT INTO "replicator".queue (table_id, operation, rows, data)
        SELECT %1$s, %2$s, 1, %4$s FROM %3$s AS replicator_row WHERE NOT EXISTS (SELECT FROM %3$s OFFSET 1);$sql$, plan->>'id', operation, source, line) END
$function$;

-- Statement form: transition tables, a single row as it is, several packed into chunks. The settings are pinned for the
-- statement. Its trigger is called for apply's statements too (a WHEN clause would cost every other one as much as the call)
-- and keeps bypass_log. A session keeps its plans while the number of rows and of tombstones changes: a join planned for many
-- rows would read all tombstones for a single one, a scan of few tombstones would be repeated for each of many rows. Hence
-- look-ups row by row and enable_seqscan off (0.7 µs a row in bulk). A key change leaves its DELETE through a row trigger (bury_key) and a flag under which the
-- statement's new rows are called INSERT.
CREATE OR REPLACE FUNCTION "replicator".statement_capture_sql(plan jsonb) RETURNS SETOF text
LANGUAGE plpgsql STABLE SET search_path TO pg_catalog, pg_temp AS $function$
DECLARE
    id text := plan->>'id';
    whole boolean := (plan->>'whole')::boolean;
    line text := "replicator".line_sql(plan, 'replicator_row');
    fallback text := format('"replicator".fallback_line(row_to_json(replicator_row.*), %s)', "replicator".unsent_sql(plan));
    fresh text := "replicator".pack_sql(plan, 'captured.op', 'new_rows', line, false);
    gone text := "replicator".pack_sql(plan, '''D''', 'old_rows', line, true);
    -- whether the columns changed costs a query, the careful line checks it for itself
    single text := CASE WHEN whole THEN line ELSE format('"replicator".careful_line_%s(replicator_row.*)', id) END;
BEGIN
    IF NOT whole THEN
        fresh := format('IF "replicator".columns_digest(TG_RELID) = %L THEN %s ELSE %s END IF;', plan->>'digest', fresh,
                        "replicator".pack_sql(plan, 'captured.op', 'new_rows', fallback, false));
        gone := format('IF "replicator".columns_digest(TG_RELID) = %L THEN %s ELSE %s END IF;', plan->>'digest', gone,
                       "replicator".pack_sql(plan, '''D''', 'old_rows', fallback, true));
    END IF;
    RETURN NEXT "replicator".function_sql(format('capture_%s() RETURNS trigger', id),
        'SECURITY DEFINER SET search_path TO pg_catalog, pg_temp SET enable_seqscan TO off ' || "replicator".settings_sql(plan, true), format($body$
#variable_conflict use_column
<<captured>>
DECLARE op "char" := 'I'; below text;
BEGIN
    IF %1$s THEN
        PERFORM "replicator".note_bypass_of(TG_RELID);
        IF TG_OP = 'DELETE' THEN %11$s END IF; -- apply's tombstones
        RETURN NULL;
    END IF;
    IF TG_RELID <> %2$s THEN PERFORM "replicator".verify_relation(%3$s, TG_RELID); END IF;
    IF TG_OP = 'DELETE' THEN
        %4$s
        IF NOT FOUND AND EXISTS (SELECT FROM old_rows) THEN %5$s END IF;
        RETURN NULL;
    ELSIF TG_OP = 'UPDATE' THEN
        IF current_setting('replicator.key_changed', true) = '%3$s' THEN
            PERFORM set_config('replicator.key_changed', '', true);
        ELSE
            captured.op := 'U';
        END IF;
    END IF;
    %6$s
    IF NOT FOUND AND EXISTS (SELECT FROM new_rows) THEN %7$s END IF;
    -- see lift_sql(); without the mark nobody has committed a tombstone of this table
    IF captured.op = 'I' AND pg_sequence_last_value('"replicator".floor_mark_%3$s'::regclass) IS NOT NULL THEN
        SELECT '[' || string_agg(%8$s, ',') || ']' INTO captured.below
          FROM new_rows r WHERE (SELECT %10$s FROM "replicator".tombstone_%3$s t WHERE %9$s);
        IF captured.below IS NOT NULL THEN PERFORM "replicator".lift_%3$s(TG_RELID, captured.below); END IF;
    END IF;
    RETURN NULL;
END $body$, "replicator".marked_sql(), plan->>'relid', id, "replicator".single_sql(plan, '''D''', 'old_rows', single, true), gone,
            "replicator".single_sql(plan, 'captured.op', 'new_rows', single, false), fresh,
            "replicator".key_line_sql(plan, 'r'), "replicator".same_key_sql(plan, 't', 'r'), "replicator".not_above_sql(plan, 'r', 't'),
            "replicator".mark_sql(id)));

    RETURN NEXT "replicator".function_sql(format('bury_key_%s() RETURNS trigger', id),
        'SECURITY DEFINER SET search_path TO pg_catalog, pg_temp', format($body$
#variable_conflict use_column
<<captured>>
DECLARE line text;
BEGIN
    IF current_setting('replicator.capture', true) = 'off' THEN RETURN NULL; END IF;
%1$s    captured.line := "replicator".careful_line_%2$s(OLD);
    INSERT INTO "replicator".queue (table_id, operation, rows, data, old)
        SELECT %2$s, 'D', 1, %3$s, captured.line FROM "replicator".tombstone_%2$s t WHERE %4$s;
    PERFORM set_config('replicator.key_changed', '%2$s', true);
    RETURN NULL;
END $body$, "replicator".guard_sql(plan, 'NULL'), id, "replicator".key_line_sql(plan, 't'), "replicator".same_key_sql(plan, 't', 'OLD')));
END $function$;

-- What apply calls when it refuses an incoming row that is not here (a unique value taken by a greater row, law 3): the
-- refusal is a DELETE of ours above the row's stamp, with its tombstone, captured like any other. `gone`: key and stamp
-- of the row under this table's names; `line`: the row as it came.
CREATE OR REPLACE FUNCTION "replicator".refuse_function_sql(plan jsonb) RETURNS text
LANGUAGE plpgsql STABLE SET search_path TO pg_catalog, pg_temp AS $function$
DECLARE
    id text := plan->>'id';
    v text := "replicator".quoted(plan->'stamp'->>0);
    u text := "replicator".quoted(plan->'stamp'->>1);
    b text := "replicator".quoted(plan->'stamp'->>2);
    keys text := (SELECT string_agg("replicator".quoted(k->>'name'), ', ' ORDER BY n) FROM jsonb_array_elements(plan->'key') WITH ORDINALITY AS e(k, n));
    gone_keys text := (SELECT string_agg('gone.' || "replicator".quoted(k->>'name'), ', ' ORDER BY n) FROM jsonb_array_elements(plan->'key') WITH ORDINALITY AS e(k, n));
BEGIN
    RETURN "replicator".function_sql(format('refuse_%s(gone_line json, line text) RETURNS void', id),
        'SECURITY DEFINER SET search_path TO pg_catalog, pg_temp ' || "replicator".settings_sql(plan, true), format($body$
#variable_conflict use_column
DECLARE gone "replicator".tombstone_%1$s := json_populate_record(NULL::"replicator".tombstone_%1$s, gone_line);
BEGIN
    %11$s
%10$s    INSERT INTO "replicator".tombstone_%1$s AS t (%2$s, %3$s, %4$s, %5$s)
    VALUES (%6$s, gone.%3$s + 1, greatest(%9$s, gone.%4$s + interval '1 microsecond'), %7$L)
    ON CONFLICT (%2$s) DO UPDATE SET %3$s = greatest(t.%3$s + 1, EXCLUDED.%3$s),
        %4$s = greatest(t.%4$s + interval '1 microsecond', EXCLUDED.%4$s), %5$s = EXCLUDED.%5$s;
    %8$s
END $body$, id, keys, v, u, b, gone_keys, plan->>'contour',
            CASE WHEN plan->>'capture' = 'none' THEN '' ELSE format($sql$INSERT INTO "replicator".queue (table_id, operation, rows, data, old)
    SELECT %1$s, 'D', 1, %2$s, refuse_%1$s.line FROM "replicator".tombstone_%1$s t WHERE %3$s;$sql$,
                id, "replicator".key_line_sql(plan, 't'), "replicator".same_key_sql(plan, 't', 'gone')) END,
            "replicator".clock_sql(plan), "replicator".early_xid_sql(plan), "replicator".mark_sql(id)));
END $function$;
