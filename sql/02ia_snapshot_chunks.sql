-- The snapshot, continued: the generator of a table's function that puts its next chunk into the queue, in the order of the
-- key's own index. Called by setup_table_for_replication like those of capture (02b).

-- How the index of a table's key orders it, column by column: the operators of its operator classes (citext and others live
-- outside pg_catalog), its collations, its directions. `beyond` is the operator of what comes later in the index.
CREATE OR REPLACE FUNCTION "replicator".key_order(relation oid, key text[])
RETURNS TABLE (n int, name text, collation text, same text, beyond text, sort text)
LANGUAGE sql STABLE SET search_path TO pg_catalog, pg_temp AS $function$
    WITH index AS (
        SELECT i.* FROM pg_index i
          CROSS JOIN LATERAL (
               SELECT array_agg(a.attname::text) AS names
                 FROM generate_series(0, i.indnkeyatts - 1) AS p(n)
                 LEFT JOIN pg_attribute a ON a.attrelid = relation AND a.attnum = i.indkey[p.n]) k
         WHERE i.indrelid = relation AND i.indisunique AND i.indimmediate AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL
           AND k.names @> key AND k.names <@ key
         ORDER BY i.indisprimary DESC, i.indisreplident DESC, i.indexrelid LIMIT 1)
    SELECT p.n + 1, a.attname::text,
           coalesce((SELECT format(' COLLATE %I.%I', n.nspname, l.collname) FROM pg_collation l JOIN pg_namespace n ON n.oid = l.collnamespace
                      WHERE l.oid = i.indcollation[p.n]), ''),
           o.equal, CASE WHEN d.descending THEN o.less ELSE o.greater END,
           format('USING %s NULLS %s', CASE WHEN d.descending THEN o.greater ELSE o.less END, CASE WHEN i.indoption[p.n] & 2 = 2 THEN 'FIRST' ELSE 'LAST' END)
      FROM index i
      CROSS JOIN LATERAL generate_series(0, i.indnkeyatts - 1) AS p(n)
      JOIN pg_attribute a ON a.attrelid = relation AND a.attnum = i.indkey[p.n]
      CROSS JOIN LATERAL (SELECT i.indoption[p.n] & 1 = 1 AS descending) d
      CROSS JOIN LATERAL (
           SELECT max(w.name) FILTER (WHERE w.strategy = 1) AS less, max(w.name) FILTER (WHERE w.strategy = 3) AS equal,
                  max(w.name) FILTER (WHERE w.strategy = 5) AS greater
             FROM (SELECT m.amopstrategy AS strategy, format('OPERATOR(%I.%s)', s.nspname, t.oprname) AS name
                     FROM pg_opclass c
                     JOIN pg_amop m ON m.amopfamily = c.opcfamily AND m.amoplefttype = c.opcintype AND m.amoprighttype = c.opcintype
                     JOIN pg_operator t ON t.oid = m.amopopr JOIN pg_namespace s ON s.oid = t.oprnamespace
                    WHERE c.oid = i.indclass[p.n]) w) o
$function$;

-- What the order hangs on, in one text.
CREATE OR REPLACE FUNCTION "replicator".key_order_digest(relation oid, key text[]) RETURNS text
LANGUAGE sql STABLE SET search_path TO pg_catalog, pg_temp AS $function$
    SELECT md5(coalesce(string_agg(concat_ws(' ', o.name, format_type(a.atttypid, a.atttypmod), o.collation, o.beyond, o.sort), ',' ORDER BY o.n), ''))
      FROM "replicator".key_order(relation, key) o
      JOIN pg_attribute a ON a.attrelid = relation AND a.attname = o.name AND a.attnum > 0
$function$;

-- Conditions that together hold for what comes after the key in chunk.place, in as many parts as the index needs to be walked in
-- its own order: one row comparison where all columns have one operator, else a part for each column, the last one first.
CREATE OR REPLACE FUNCTION "replicator".beyond_sql(plan jsonb, source text) RETURNS TABLE (part int, condition text)
LANGUAGE plpgsql STABLE SET search_path TO pg_catalog, pg_temp AS $function$
DECLARE
    keys text[] := (SELECT array_agg(k->>'name' ORDER BY n) FROM jsonb_array_elements(plan->'key') WITH ORDINALITY AS e(k, n));
BEGIN
    IF (SELECT count(DISTINCT o.beyond) = 1 FROM "replicator".key_order((plan->>'relid')::oid, keys) o) THEN
        RETURN QUERY SELECT 1, format('ROW(%s) %s ROW(%s)',
                   string_agg(format('%s.%s%s', source, "replicator".quoted(o.name), o.collation), ', ' ORDER BY o.n), min(o.beyond),
                   string_agg(format('(chunk.place).%s', "replicator".quoted(o.name)), ', ' ORDER BY o.n))
          FROM "replicator".key_order((plan->>'relid')::oid, keys) o;
    ELSE
        RETURN QUERY SELECT last.n, string_agg(format('%1$s.%2$s%3$s %4$s (chunk.place).%2$s', source,
                   "replicator".quoted(o.name), o.collation, CASE WHEN o.n = last.n THEN o.beyond ELSE o.same END), ' AND ' ORDER BY o.n)
          FROM "replicator".key_order((plan->>'relid')::oid, keys) last
          JOIN "replicator".key_order((plan->>'relid')::oid, keys) o ON o.n <= last.n
         GROUP BY last.n;
    END IF;
END $function$;

-- Statements that open the cursor of a chunk, a part each; part 0 is the whole table. `what` is selected from `source`.
CREATE OR REPLACE FUNCTION "replicator".keyset_sql(plan jsonb, what text, source text) RETURNS TABLE (part int, statement text)
LANGUAGE sql STABLE SET search_path TO pg_catalog, pg_temp AS $function$
    SELECT b.part, concat('SELECT ', what, ' FROM ', source, ' AS replicator_row', ' WHERE ' || b.condition, ' ORDER BY ', o.sorted, ' LIMIT most_rows')
      FROM (SELECT 0 AS part, NULL::text AS condition UNION ALL SELECT x.part, x.condition FROM "replicator".beyond_sql(plan, 'replicator_row') x) b
      CROSS JOIN (SELECT string_agg(format('replicator_row.%s%s %s', "replicator".quoted(k.name), k.collation, k.sort), ', ' ORDER BY k.n) AS sorted
                    FROM "replicator".key_order((plan->>'relid')::oid, (SELECT array_agg(e->>'name') FROM jsonb_array_elements(plan->'key') e)) k) o
$function$;

-- Statement that puts the rows which the chunk's rows refer to in their own table, directly or not, into the queue with them:
-- those the snapshot has not come to yet. Else half of a tree would be parked at the targets until its parents come. NULL
-- where the table does not refer to itself.
CREATE OR REPLACE FUNCTION "replicator".snapshot_parents_sql(plan jsonb) RETURNS text
LANGUAGE sql STABLE SET search_path TO pg_catalog, pg_temp AS $function$
    WITH refers AS (
        SELECT c.oid, c.conkey, c.conrelid,
               string_agg(format('p.%s OPERATOR(%I.%s) c.%s', "replicator".quoted(r.attname), n.nspname, o.oprname, "replicator".quoted(f.attname)), ' AND ' ORDER BY k.n) AS condition
          FROM pg_constraint c
          CROSS JOIN LATERAL ROWS FROM (unnest(c.conkey), unnest(c.confkey), unnest(c.conpfeqop)) WITH ORDINALITY AS k(own, other, equal, n)
          JOIN pg_attribute f ON f.attrelid = c.conrelid AND f.attnum = k.own
          JOIN pg_attribute r ON r.attrelid = c.confrelid AND r.attnum = k.other
          JOIN pg_operator o ON o.oid = k.equal JOIN pg_namespace n ON n.oid = o.oprnamespace
         WHERE c.contype = 'f' AND c.conrelid = (plan->>'relid')::oid AND c.confrelid = c.conrelid
         GROUP BY c.oid, c.conkey, c.conrelid
    ), columns AS (
        SELECT string_agg(DISTINCT format('%s %s', "replicator".quoted(f.attname), format_type(f.atttypid, f.atttypmod)), ', ') AS list
          FROM refers c JOIN pg_attribute f ON f.attrelid = c.conrelid AND f.attnum = ANY (c.conkey)
    ), parents AS (
        SELECT string_agg(format('SELECT p.* FROM %s AS p WHERE %s', plan->>'target', r.condition), ' UNION ALL ' ORDER BY r.oid) AS one FROM refers r
    ), names AS (
        SELECT string_agg("replicator".quoted(k->>'name'), ', ' ORDER BY n) AS list, string_agg('p.' || "replicator".quoted(k->>'name'), ', ' ORDER BY n) AS of_p
          FROM jsonb_array_elements(plan->'key') WITH ORDINALITY AS e(k, n)
    )
    SELECT "replicator".pack_sql(plan, '''S''', format($sql$(WITH RECURSIVE above(%1$s) AS (
            SELECT %2$s FROM json_to_recordset(('[' || array_to_string(chunk.all_lines, ',') || ']')::json) AS c(%3$s) CROSS JOIN LATERAL (%4$s) AS p WHERE %5$s
            UNION
            SELECT %2$s FROM above AS a JOIN %6$s AS c ON %7$s CROSS JOIN LATERAL (%4$s) AS p WHERE %5$s)
            SELECT c.* FROM above AS a JOIN %6$s AS c ON %7$s)$sql$,
            names.list, names.of_p, columns.list, parents.one, (SELECT '(' || string_agg(b.condition, ' OR ') || ')' FROM "replicator".beyond_sql(plan, 'p') b),
            plan->>'target', "replicator".same_key_sql(plan, 'a', 'c')), "replicator".line_sql(plan, 'replicator_row'), false)
      FROM parents, names, columns WHERE parents.one IS NOT NULL
$function$;

-- The function of a table that puts its next chunk into the queue: the rows after the key `after` (JSON text; NULL: from the
-- beginning), at most so many rows, and bytes up to the row that reaches most_bytes. Lines and settings are capture's own.
-- row_security off: a policy that would hide rows from us is an error, not a hole.
CREATE OR REPLACE FUNCTION "replicator".snapshot_function_sql(plan jsonb) RETURNS text
LANGUAGE plpgsql STABLE SET search_path TO pg_catalog, pg_temp AS $function$
DECLARE
    id text := plan->>'id';
    line text := "replicator".line_sql(plan, 'replicator_row');
    parents text := "replicator".snapshot_parents_sql(plan);
    place text := (SELECT string_agg(format('chunk.place.%s := (chunk.held ->> %L)::%s;', "replicator".quoted(k->>'name'), k->>'name', k->>'type'), ' ' ORDER BY n)
                     FROM jsonb_array_elements(plan->'key') WITH ORDINALITY AS e(k, n));
    -- by input functions: out of JSON a jsonb key would come as a string
    values_of text := (SELECT string_agg(format('(chunk.held ->> %L)::%s AS %s', k->>'name', k->>'type', "replicator".quoted(k->>'name')), ', ' ORDER BY n)
                         FROM jsonb_array_elements(plan->'key') WITH ORDINALITY AS e(k, n));
    stamps_of text := format('(chunk.held ->> %L)::pg_catalog.int8 AS %s, (chunk.held ->> %L)::pg_catalog.timestamptz AS %s, chunk.held ->> %L AS %s',
        plan->'stamp'->>0, "replicator".quoted(plan->'stamp'->>0), plan->'stamp'->>1, "replicator".quoted(plan->'stamp'->>1), plan->'stamp'->>2, "replicator".quoted(plan->'stamp'->>2));
BEGIN
    RETURN "replicator".function_sql(
        format('snapshot_chunk_%s(after text, most_rows int, most_bytes bigint, OUT sent int, OUT bytes bigint, OUT last text, OUT ended boolean)', id),
        'SECURITY DEFINER SET search_path TO pg_catalog, pg_temp SET row_security TO off SET enable_seqscan TO off SET enable_bitmapscan TO off'
        || ' SET enable_sort TO off SET enable_incremental_sort TO off SET max_parallel_workers_per_gather TO 0 ' || "replicator".settings_sql(plan, true),
        format($body$
#variable_conflict use_variable
<<chunk>>
DECLARE
    place "replicator".tombstone_%1$s;
    held json := after;
    found_rows refcursor;
    next text;
    line text;
    lines text[] := '{}';
    all_lines text[] := '{}';
    size bigint := 0;
    part int := %2$s;
BEGIN
    IF "replicator".columns_digest(%3$s::oid) <> %4$L THEN
        RAISE EXCEPTION 'the columns of %5$s changed since its functions were made' USING ERRCODE = 'RPS01',
            HINT = %6$L;
    END IF;
    sent := 0;
    bytes := 0;
    last := after;
    ended := false;
    IF after IS NULL THEN chunk.part := 0;
    ELSE %9$s
    END IF;
    LOOP
        %7$s
        LOOP
            FETCH chunk.found_rows INTO chunk.next;
            EXIT WHEN NOT FOUND;
            chunk.line := chunk.next;
            chunk.lines := chunk.lines || chunk.line;%11$s
            chunk.size := chunk.size + octet_length(chunk.line);
            bytes := bytes + octet_length(chunk.line);
            sent := sent + 1;
            IF chunk.size >= 65536 THEN
                INSERT INTO "replicator".queue (table_id, operation, rows, data) VALUES (%1$s, 'S', cardinality(chunk.lines), array_to_string(chunk.lines, E',\n'));
                chunk.lines := '{}';
                chunk.size := 0;
            END IF;
            EXIT WHEN sent >= most_rows OR bytes >= most_bytes;
        END LOOP;
        CLOSE chunk.found_rows;
        EXIT WHEN sent >= most_rows OR bytes >= most_bytes;
        ended := chunk.part <= 1;
        EXIT WHEN ended;
        chunk.part := chunk.part - 1;
    END LOOP;
    IF chunk.lines <> '{}' THEN
        INSERT INTO "replicator".queue (table_id, operation, rows, data) VALUES (%1$s, 'S', cardinality(chunk.lines), array_to_string(chunk.lines, E',\n'));
    END IF;
    IF sent > 0 THEN
        chunk.held := chunk.line;%12$s
        last := (SELECT %8$s FROM (SELECT %10$s) AS source);
    END IF;
END $body$, id,
            (SELECT max(k.part) FROM "replicator".keyset_sql(plan, '', '') k), plan->>'relid', plan->>'digest',
            replace(replace(plan->>'target', '%', '%%'), '''', ''''''),
            format('Run replicator tables add %s and then the snapshot again: it goes on where it was.', plan->>'target'),
            (SELECT string_agg(format('%s chunk.part = %s THEN OPEN chunk.found_rows NO SCROLL FOR %s;', CASE WHEN k.part = 0 THEN 'IF' ELSE 'ELSIF' END, k.part, k.statement),
                               E'\n        ' ORDER BY k.part)
               FROM "replicator".keyset_sql(plan, line, plan->>'target') k) || ' END IF;',
            "replicator".key_line_sql(plan, 'source'),
            place,
            values_of || ', ' || stamps_of, CASE WHEN parents IS NOT NULL THEN E'\n            chunk.all_lines := chunk.all_lines || chunk.line;' END,
            E'\n        ' || place || E'\n        ' || parents));
END $function$;
