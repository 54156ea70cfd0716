-- The generators of a polled table's functions: one batch of a run, and the comparison of keys. What a run is: 02h.

-- The operator of a key column that says "greater" in the order of ORDER BY, and whether it is one of pg_catalog's.
CREATE OR REPLACE FUNCTION "replicator".key_greater(key_type regtype) RETURNS text
LANGUAGE sql STABLE SET search_path TO pg_catalog, pg_temp AS $function$
    WITH RECURSIVE step(oid, kind, next) AS (
        SELECT t.oid, t.typtype, t.typbasetype FROM pg_type t WHERE t.oid = key_type
        UNION ALL
        SELECT t.oid, t.typtype, t.typbasetype FROM pg_type t JOIN step s ON s.kind = 'd' AND t.oid = s.next)
    SELECT coalesce((SELECT format('OPERATOR(%I.%s)', n.nspname, o.oprname)
                       FROM step s JOIN pg_opclass c ON c.opcmethod = 403 AND c.opcdefault AND c.opcintype = s.oid
                       JOIN pg_amop m ON m.amopfamily = c.opcfamily AND m.amopstrategy = 5 AND m.amoplefttype = c.opcintype AND m.amoprighttype = c.opcintype
                       JOIN pg_operator o ON o.oid = m.amopopr JOIN pg_namespace n ON n.oid = o.oprnamespace
                      WHERE s.kind <> 'd' AND n.nspname <> 'pg_catalog'), '>')
$function$;

-- Condition: the row `source` comes after the position $3. A row comparison, which an index can follow; where a key's
-- operator is not PostgreSQL's own, column by column.
CREATE OR REPLACE FUNCTION "replicator".after_sql(plan jsonb, source text, by_time boolean) RETURNS text
LANGUAGE plpgsql STABLE SET search_path TO pg_catalog, pg_temp AS $function$
DECLARE
    names text[] := (SELECT array_agg(k->>'name' ORDER BY n) FROM jsonb_array_elements(plan->'key') WITH ORDINALITY AS e(k, n));
    operators text[] := (SELECT array_agg("replicator".key_greater(a.atttypid) ORDER BY n) FROM jsonb_array_elements(plan->'key') WITH ORDINALITY AS e(k, n)
                           JOIN pg_attribute a ON a.attrelid = (plan->>'relid')::oid AND a.attname = k->>'name');
    equals text[] := (SELECT array_agg(k->>'equality' ORDER BY n) FROM jsonb_array_elements(plan->'key') WITH ORDINALITY AS e(k, n));
    result text := 'false';
BEGIN
    IF by_time THEN
        names := (plan->'stamp'->>1) || names;
        operators := '>'::text || operators;
        equals := '='::text || equals;
    END IF;
    IF operators = array_fill('>'::text, ARRAY[cardinality(operators)]) THEN
        RETURN (SELECT format('(%s) > (%s)', string_agg(source || '.' || "replicator".quoted(n), ', ' ORDER BY o),
                                             string_agg('($3).' || "replicator".quoted(n), ', ' ORDER BY o)) FROM unnest(names) WITH ORDINALITY AS e(n, o));
    END IF;
    FOR n IN REVERSE cardinality(names)..1 LOOP
        result := format('(%1$s.%2$s %3$s ($3).%2$s OR %1$s.%2$s %4$s ($3).%2$s AND %5$s)', source, "replicator".quoted(names[n]), operators[n], equals[n], result);
    END LOOP;
    RETURN result;
END $function$;

-- Condition: key and stamp of this line were not sent yet.
CREATE OR REPLACE FUNCTION "replicator".unsent_line_sql(id text, at text, line text) RETURNS text
LANGUAGE sql IMMUTABLE SET search_path TO pg_catalog, pg_temp AS $function$
    SELECT format('NOT EXISTS (SELECT FROM "replicator".sync_sent x WHERE x.table_id = %s AND x.at = %s AND x.digest = sha256(convert_to(%s, ''UTF8'')))', id, at, line)
$function$;

-- The function that does one batch of a table's run, and the one that compares keys.
-- Parameters of its statements: $1 scan_from or the position's stamp, $2 rows of a batch, $3 position, $4 scan_to, $5 keep_from.
CREATE OR REPLACE FUNCTION "replicator".poll_functions_sql(plan jsonb) RETURNS SETOF text
LANGUAGE plpgsql STABLE SET search_path TO pg_catalog, pg_temp AS $function$
DECLARE
    id text := plan->>'id';
    target text := format('%I.%I', plan->>'schema', plan->>'name');
    v text := "replicator".quoted(plan->'stamp'->>0);
    u text := "replicator".quoted(plan->'stamp'->>1);
    b text := "replicator".quoted(plan->'stamp'->>2);
    contour text := quote_literal(plan->>'contour');
    application boolean := plan->>'stamping' = 'application';
    keys text := (SELECT string_agg("replicator".quoted(k->>'name'), ', ' ORDER BY n) FROM jsonb_array_elements(plan->'key') WITH ORDINALITY AS e(k, n));
    row_keys text := (SELECT string_agg('r.' || "replicator".quoted(k->>'name'), ', ' ORDER BY n) FROM jsonb_array_elements(plan->'key') WITH ORDINALITY AS e(k, n));
    stone_keys text := (SELECT string_agg('t.' || "replicator".quoted(k->>'name'), ', ' ORDER BY n) FROM jsonb_array_elements(plan->'key') WITH ORDINALITY AS e(k, n));
    missing_keys text := (SELECT string_agg('m.' || "replicator".quoted(k->>'name'), ', ' ORDER BY n) FROM jsonb_array_elements(plan->'key') WITH ORDINALITY AS e(k, n));
    definer text := 'SECURITY DEFINER SET search_path TO pg_catalog, pg_temp SET row_security TO off SET TimeZone TO ''UTC'' ' || "replicator".settings_sql(plan, true);
    line text := "replicator".line_sql(plan, 'replicator_row');
    fallback text := format('"replicator".fallback_line(row_to_json(replicator_row.*), %s)', "replicator".unsent_sql(plan));
    key_line text := "replicator".key_line_sql(plan, 'replicator_row');
    stone_line text := "replicator".key_line_sql(plan, 's');
    ordered text := CASE WHEN plan->>'conflict' = 'latest' THEN '(%1$s.%3$s, %1$s.%2$s) %5$s (%4$s.%3$s, %4$s.%2$s)' ELSE '(%1$s.%2$s, %1$s.%3$s) %5$s (%4$s.%2$s, %4$s.%3$s)' END;
    -- below its tombstone every other contour would take the row for deleted
    below text := CASE WHEN application THEN format(ordered, '%1$s', v, u, 't', '<=') ELSE "replicator".not_above_sql(plan, '%1$s', 't') END;
    low text := format('replicator_row.%s = %s AND EXISTS (SELECT FROM "replicator".tombstone_%s t WHERE %s AND %s)', b, contour, id,
                       "replicator".same_key_sql(plan, 't', 'replicator_row'), replace(below, '%1$s', 'replicator_row'));
    tail text;
    stones text;
    floors text;
    lift text;
BEGIN
    tail := format($sql$,
        fresh AS MATERIALIZED (SELECT p.* FROM page p WHERE NOT p.low AND %1$s),
        remembered AS (INSERT INTO "replicator".sync_sent (table_id, at, digest)
            SELECT %2$s, f.at, sha256(convert_to(f.key_line, 'UTF8')) FROM fresh f WHERE f.at >= $5 ON CONFLICT DO NOTHING)%3$s,
        queued AS (%4$s RETURNING rows)
        SELECT (SELECT count(*) FROM page) AS seen, (SELECT coalesce(sum(rows), 0) FROM queued) AS sent,
               (SELECT p.key_line FROM page p ORDER BY p.n DESC LIMIT 1) AS position,
               (SELECT f.at FROM fresh f ORDER BY f.at DESC, f.version DESC LIMIT 1) AS newest_at,
               (SELECT f.version FROM fresh f ORDER BY f.at DESC, f.version DESC LIMIT 1) AS newest_version,
               (SELECT '[' || string_agg(p.key_line, ',') || ']' FROM page p WHERE p.low) AS low$sql$,
        "replicator".unsent_line_sql(id, 'p.at', 'p.key_line'), id,
        CASE WHEN application THEN format($sql$,
        seen_keys AS (INSERT INTO "replicator".known_%1$s AS k SELECT j.* FROM fresh f CROSS JOIN LATERAL json_populate_record(NULL::"replicator".known_%1$s, f.key_line::json) j
            ON CONFLICT (%2$s) DO UPDATE SET %3$s = EXCLUDED.%3$s, %4$s = EXCLUDED.%4$s, %5$s = EXCLUDED.%5$s)$sql$, id, keys, v, u, b) ELSE '' END,
        rtrim("replicator".pack_sql(plan, '''U''', 'fresh', 'replicator_row.line', false), ';'));
    stones := format($sql$,
        remembered AS (INSERT INTO "replicator".sync_sent (table_id, at, digest)
            SELECT %1$s, s.%2$s, sha256(convert_to(%3$s, 'UTF8')) FROM stones s WHERE s.%2$s >= $5 ON CONFLICT DO NOTHING),
        queued AS (%4$s RETURNING rows)
        SELECT (SELECT count(*) FROM stones) AS seen, (SELECT coalesce(sum(rows), 0) FROM queued) AS sent,
               (SELECT %3$s FROM stones s ORDER BY s.nth DESC LIMIT 1) AS position,
               (SELECT s.%2$s FROM stones s ORDER BY s.nth DESC LIMIT 1) AS newest_at,
               (SELECT s.%5$s FROM stones s ORDER BY s.nth DESC LIMIT 1) AS newest_version, NULL::text AS low$sql$,
        id, u, stone_line,
        rtrim("replicator".pack_sql(plan, '''D''', format('(SELECT s.* FROM stones s WHERE %s)', "replicator".unsent_line_sql(id, 's.' || u, stone_line)), '''null''::text', true), ';'), v);
    stones := replace(stones, 's.nth', 's."replicator nth"');
    floors := format($sql$WITH page AS MATERIALIZED (
            SELECT f.updated_at AS at, f.version, json_build_object(%2$L, f.version, %3$L, f.updated_at, %4$L, f.updated_by)::text AS line
              FROM "replicator".floor f WHERE f.table_id = %1$s AND f.updated_by = %5$s AND f.updated_at >= $1 AND f.updated_at <= $4),
        fresh AS MATERIALIZED (SELECT p.* FROM page p WHERE %6$s),
        remembered AS (INSERT INTO "replicator".sync_sent (table_id, at, digest)
            SELECT %1$s, f.at, sha256(convert_to(f.line, 'UTF8')) FROM fresh f WHERE f.at >= $5 ON CONFLICT DO NOTHING),
        queued AS (INSERT INTO "replicator".queue (table_id, operation, rows, data) SELECT %1$s, 'T', 1, f.line FROM fresh f RETURNING rows)
        SELECT 0::bigint AS seen, (SELECT coalesce(sum(rows), 0) FROM queued) AS sent, NULL::text AS position,
               (SELECT f.at FROM fresh f ORDER BY f.at DESC LIMIT 1) AS newest_at,
               (SELECT f.version FROM fresh f ORDER BY f.at DESC LIMIT 1) AS newest_version, NULL::text AS low$sql$,
        id, plan->'stamp'->>0, plan->'stamp'->>1, plan->'stamp'->>2, contour, "replicator".unsent_line_sql(id, 'p.at', 'p.line'));
    -- stamped here and not through the trigger, which knows nothing of the tombstone
    lift := format($sql$UPDATE %1$s c SET %2$s = greatest(c.%2$s, t.%2$s) + 1, %3$s = greatest(%4$s, c.%3$s + interval '1 microsecond', t.%3$s + interval '1 microsecond')
          FROM json_populate_recordset(NULL::"replicator".tombstone_%5$s, got.low::json) k JOIN "replicator".tombstone_%5$s t ON %6$s
         WHERE %7$s AND c.%8$s = %9$s AND %10$s;$sql$, target, v, u, "replicator".clock_sql(plan), id,
        "replicator".same_key_sql(plan, 't', 'k'), "replicator".same_key_sql(plan, 'c', 'k'), b, contour, replace(below, '%1$s', 'c'));

    RETURN NEXT "replicator".function_sql(format('poll_%s(run "replicator".sync_run, batch int) RETURNS "replicator".sync_run', id), definer, format($body$
#variable_conflict use_column
<<bound>>
DECLARE
    place "replicator".tombstone_%1$s;
    begin_at timestamptz := run.scan_from;
    whole boolean := run.scan_from = '-infinity';
    same boolean;
    mark text := coalesce(current_setting('replicator.capture', true), '');
    xid xid8;
    got record;
BEGIN
    IF to_regclass(%2$L) IS DISTINCT FROM %3$s::oid::regclass THEN
        RAISE EXCEPTION 'table %% was renamed, dropped or restored since it was set up', %2$L USING ERRCODE = 'undefined_table';
    END IF;
    bound.same := "replicator".columns_digest(%3$s) = %4$L;
    IF run.position IS NOT NULL THEN
        bound.place := json_populate_record(NULL::"replicator".tombstone_%1$s, run.position::json);
        bound.begin_at := (bound.place).%5$s;
    END IF;
    IF run.scan_to IS NULL THEN
        SELECT greatest(run.marked_at, (SELECT max(r.%5$s) FROM %2$s r), (SELECT max(t.%5$s) FROM "replicator".tombstone_%1$s t),
                        (SELECT max(f.updated_at) FROM "replicator".floor f WHERE f.table_id = %1$s)) INTO run.scan_to;
    END IF;
    IF run.phase = 'floors' THEN
        EXECUTE %6$L INTO bound.got USING bound.begin_at, batch, bound.place, run.scan_to, run.keep_from;
    ELSIF run.phase = 'deletions' THEN
        EXECUTE %7$L || CASE WHEN run.position IS NULL THEN '' ELSE %8$L END || %9$L INTO bound.got
          USING bound.begin_at, batch, bound.place, run.scan_to, run.keep_from;
    ELSE
        EXECUTE 'WITH page AS MATERIALIZED (SELECT x.*, row_number() OVER () AS n FROM (SELECT ' || CASE WHEN bound.same THEN %10$L ELSE %11$L END || %12$L
             || CASE WHEN bound.whole THEN %13$L ELSE %14$L END
             || CASE WHEN run.position IS NULL THEN '' WHEN bound.whole THEN %15$L ELSE %16$L END
             || CASE WHEN bound.whole THEN %17$L ELSE %18$L END || ' LIMIT $2) AS replicator_row) x)' || %19$L INTO bound.got
          USING bound.begin_at, batch, bound.place, run.scan_to, run.keep_from;
        IF bound.got.low IS NOT NULL THEN
            PERFORM pg_current_xact_id();
            PERFORM set_config('replicator.capture', 'off', true);
            %20$s
            PERFORM set_config('replicator.capture', bound.mark, true);
            -- this transaction is ours alone: nobody went past the capture
            DELETE FROM "replicator".bypass_log l WHERE l.xid = pg_current_xact_id();
        END IF;
    END IF;
    run.rows := run.rows + bound.got.sent;
    IF bound.got.sent > 0 THEN
        run.last_xid := pg_current_xact_id();
        IF run.newest_at IS NULL OR bound.got.newest_at >= run.newest_at THEN
            run.newest_at := bound.got.newest_at;
            run.newest_version := bound.got.newest_version;
        END IF;
    END IF;
    run.position := bound.got.position;
    IF bound.got.seen < batch THEN
        run.position := NULL;
        run.phase := CASE run.phase WHEN 'floors' THEN 'deletions' WHEN 'deletions' THEN 'rows' ELSE 'done' END;
    END IF;
    RETURN run;
END $body$, id, target, plan->>'relid', plan->>'digest', u, floors,
        format('WITH stones AS MATERIALIZED (SELECT x.*, row_number() OVER () AS "replicator nth" FROM (SELECT t.* FROM "replicator".tombstone_%s t WHERE t.%s = %s AND t.%s >= $1 AND t.%s <= $4', id, b, contour, u, u),
        ' AND ' || "replicator".after_sql(plan, 't', true), format(' ORDER BY t.%s, %s LIMIT $2) x)', u, stone_keys) || stones,
        line, fallback,
        format(' AS line, %s AS key_line, replicator_row.%s AS at, replicator_row.%s AS version, %s AS low FROM (SELECT r.* FROM %s r WHERE r.%s <= $4', key_line, u, v, low, target, u),
        format(' AND (r.%1$s = %2$s OR r.%1$s = '''')', b, contour), format(' AND r.%1$s >= $1 AND r.%2$s = %3$s', u, b, contour),
        ' AND ' || "replicator".after_sql(plan, 'r', false), ' AND ' || "replicator".after_sql(plan, 'r', true),
        format(' ORDER BY %s', row_keys), format(' ORDER BY r.%s, %s', u, row_keys), tail, replace(lift, 'got.low', 'bound.got.low')));

    IF NOT application THEN RETURN; END IF;
    RETURN NEXT "replicator".function_sql(format('compare_keys_%s() RETURNS bigint', id), definer, format($body$
#variable_conflict use_column
DECLARE
    gone bigint;
BEGIN
    IF to_regclass(%2$L) IS DISTINCT FROM %3$s::oid::regclass THEN
        RAISE EXCEPTION 'table %% was renamed, dropped or restored since it was set up', %2$L USING ERRCODE = 'undefined_table';
    END IF;
    -- what apply deleted has a tombstone above the stamp the row had: that is no deletion of ours
    WITH missing AS MATERIALIZED (
        SELECT k.* FROM "replicator".known_%1$s k WHERE NOT EXISTS (SELECT FROM %2$s r WHERE %4$s)),
    forgotten AS (DELETE FROM "replicator".known_%1$s k USING missing m WHERE %5$s),
    buried AS (INSERT INTO "replicator".tombstone_%1$s AS t (%6$s, %7$s, %8$s, %9$s)
        SELECT %10$s, m.%7$s + 1, greatest(clock_timestamp(), m.%8$s + interval '1 microsecond'), %11$s FROM missing m
         WHERE NOT EXISTS (SELECT FROM "replicator".tombstone_%1$s t WHERE %12$s AND %13$s)
           AND NOT EXISTS (SELECT FROM (SELECT f.version AS %7$s, f.updated_at AS %8$s FROM "replicator".floor f WHERE f.table_id = %1$s) t WHERE %13$s)
        ON CONFLICT (%6$s) DO UPDATE SET %7$s = greatest(t.%7$s, EXCLUDED.%7$s), %8$s = greatest(t.%8$s + interval '1 microsecond', EXCLUDED.%8$s), %9$s = EXCLUDED.%9$s
        RETURNING 1)
    SELECT count(*) INTO gone FROM buried;
    INSERT INTO "replicator".known_%1$s AS k (%6$s, %7$s, %8$s, %9$s) SELECT %14$s, r.%7$s, r.%8$s, r.%9$s FROM %2$s r
    ON CONFLICT (%6$s) DO UPDATE SET %7$s = EXCLUDED.%7$s, %8$s = EXCLUDED.%8$s, %9$s = EXCLUDED.%9$s
     WHERE (k.%7$s, k.%8$s, k.%9$s) IS DISTINCT FROM (EXCLUDED.%7$s, EXCLUDED.%8$s, EXCLUDED.%9$s);
    RETURN gone;
END $body$, id, target, plan->>'relid', "replicator".same_key_sql(plan, 'r', 'k'), "replicator".same_key_sql(plan, 'k', 'm'),
        keys, v, u, b, missing_keys, contour, "replicator".same_key_sql(plan, 't', 'm'), format(ordered, 't', v, u, 'm', '>'), row_keys));
END $function$;
