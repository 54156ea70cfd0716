-- The snapshot: rows that exist already are put into the queue as operation S, chunk by chunk in the order of the key, and
-- travel from there as every change does: cut, numbered, sent, confirmed, retried, released. Each chunk and the place it
-- ends at are one transaction, so a snapshot that is killed goes on where it was (I8), and nothing of it is put in twice.
--
-- A chunk shows rows as they were when it was taken, with the stamps they had then. A row that is changed before or after it
-- is captured by its trigger with a greater stamp, and apply goes by stamps: the older image never wins, whichever comes
-- first. No transaction older than the triggers can hide a row from all of this: setup takes the table's strongest lock, so
-- whoever wrote to it before has ended when the triggers stand, and whoever writes after that fires them, however old its
-- snapshot is.

-- One row a table: its last snapshot, or the one under way. last_key: JSON text of the key the last chunk ended at, NULL
-- before the first. key_order: what the order of the keys hangs on; with another one the snapshot of the table begins anew.
-- last_xid: transaction of the last chunk that held rows.
CREATE TABLE IF NOT EXISTS "replicator".snapshot (
    table_id       int PRIMARY KEY,
    place          int    NOT NULL,                  -- parents before children
    state          text   NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'running', 'done')),
    last_key       text,
    key_order      text   NOT NULL DEFAULT '',
    rows_done      bigint NOT NULL DEFAULT 0,
    bytes_done     bigint NOT NULL DEFAULT 0,
    rows_estimated bigint NOT NULL,
    last_xid       xid8,
    requested_by   text   NOT NULL,
    requested_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    started_at     timestamptz,
    changed_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    finished_at    timestamptz
) WITH (fillfactor = 50);

-- The replicated tables, parents before their children. Of tables that refer to each other in a circle the one with the least
-- id goes first: its rows wait at the targets, parked, for those they refer to.
CREATE OR REPLACE FUNCTION "replicator".snapshot_order() RETURNS TABLE (place int, table_id int, circle boolean)
LANGUAGE plpgsql STABLE SET search_path TO pg_catalog, pg_temp AS $function$
#variable_conflict use_column
DECLARE
    left_ids int[] := (SELECT coalesce(array_agg(r.table_id ORDER BY r.table_id), '{}') FROM "replicator".replicated_table r WHERE r.removed_at IS NULL);
    next int;
BEGIN
    place := 0;
    WHILE cardinality(left_ids) > 0 LOOP
        next := (SELECT c.table_id FROM "replicator".replicated_table c
                  WHERE c.table_id = ANY (left_ids)
                    AND NOT EXISTS (SELECT FROM pg_constraint f JOIN "replicator".replicated_table p ON p.relid = f.confrelid AND p.table_id = ANY (left_ids)
                                     WHERE f.contype = 'f' AND f.conrelid = c.relid AND p.table_id <> c.table_id)
                  ORDER BY c.table_id LIMIT 1);
        circle := next IS NULL;
        table_id := coalesce(next, left_ids[1]);
        place := place + 1;
        left_ids := array_remove(left_ids, table_id);
        RETURN NEXT;
    END LOOP;
END $function$;

-- Takes or renews the right to run the snapshot, until `ttl` from now; false where somebody else has it. With a ttl of zero
-- it is given up.
CREATE OR REPLACE FUNCTION "replicator".hold_snapshot(holder text, ttl interval) RETURNS boolean
LANGUAGE sql SECURITY DEFINER SET search_path TO pg_catalog, pg_temp AS $function$
    WITH held AS (
        INSERT INTO "replicator".lease AS l (kind, name, owner, term, expires_at) VALUES ('snapshot', '', holder, 1, clock_timestamp() + ttl)
        ON CONFLICT (kind, name) DO UPDATE SET owner = holder, expires_at = EXCLUDED.expires_at, term = l.term + (l.owner <> holder)::int
         WHERE l.owner = holder OR l.expires_at <= clock_timestamp()
        RETURNING 1)
    SELECT EXISTS (SELECT FROM held)
$function$;

-- Prepares the snapshot of some tables. Where one of them is not finished those go on and the finished ones stay; else, and
-- with `anew`, all of them begin. `exact` counts the rows, else PostgreSQL estimates them. The caller holds the snapshot.
CREATE OR REPLACE FUNCTION "replicator".begin_snapshot(ids int[], who text, anew boolean, exact boolean) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path TO pg_catalog, pg_temp SET row_security TO off AS $function$
#variable_conflict use_column
DECLARE
    resumed boolean := NOT anew AND EXISTS (SELECT FROM "replicator".snapshot s WHERE s.table_id = ANY (ids) AND s.state <> 'done');
    item record;
    estimate bigint;
    plan json;
BEGIN
    -- what was taken out of replication is nobody's snapshot any more
    DELETE FROM "replicator".snapshot s WHERE NOT EXISTS (SELECT FROM "replicator".replicated_table r WHERE r.table_id = s.table_id AND r.removed_at IS NULL);
    FOR item IN SELECT o.place, r.table_id, r.relid, EXISTS (SELECT FROM "replicator".snapshot s WHERE s.table_id = r.table_id) AS known
                  FROM "replicator".snapshot_order() o JOIN "replicator".replicated_table r USING (table_id)
                 WHERE r.table_id = ANY (ids) ORDER BY o.place LOOP
        CONTINUE WHEN resumed AND item.known;
        estimate := 0;
        IF EXISTS (SELECT FROM pg_class c WHERE c.oid = item.relid) THEN
            IF exact THEN
                EXECUTE format('SELECT count(*) FROM %s', item.relid::regclass) INTO estimate;
            ELSE
                EXECUTE format('EXPLAIN (FORMAT JSON) SELECT FROM %s', item.relid::regclass) INTO plan;
                estimate := (plan->0->'Plan'->>'Plan Rows')::bigint;
            END IF;
        END IF;
        INSERT INTO "replicator".snapshot (table_id, place, rows_estimated, requested_by) VALUES (item.table_id, item.place, estimate, who)
        ON CONFLICT (table_id) DO UPDATE SET place = EXCLUDED.place, rows_estimated = EXCLUDED.rows_estimated, requested_by = EXCLUDED.requested_by,
            state = 'waiting', last_key = NULL, key_order = '', rows_done = 0, bytes_done = 0, last_xid = NULL, requested_at = clock_timestamp(),
            started_at = NULL, changed_at = clock_timestamp(), finished_at = NULL;
    END LOOP;
END $function$;

-- Puts the next chunk of a table into the queue and notes how far it is, in one transaction. `begun_anew`: the key's order is
-- another one than when the snapshot began, so it began again.
CREATE OR REPLACE FUNCTION "replicator".step_snapshot(id int, holder text, ttl interval, most_rows int, most_bytes bigint,
    OUT sent int, OUT bytes bigint, OUT ended boolean, OUT begun_anew boolean)
LANGUAGE plpgsql SECURITY DEFINER SET search_path TO pg_catalog, pg_temp AS $function$
#variable_conflict use_column
DECLARE
    known "replicator".replicated_table;
    progress "replicator".snapshot;
    order_now text;
    made record;
BEGIN
    IF NOT "replicator".hold_snapshot(holder, ttl) THEN
        RAISE EXCEPTION 'the snapshot is run by somebody else now: %', (SELECT l.owner FROM "replicator".lease l WHERE l.kind = 'snapshot')
            USING ERRCODE = 'RPS02', HINT = 'Wait for it to end: replicator status shows how far it is.';
    END IF;
    SELECT * INTO known FROM "replicator".replicated_table r WHERE r.table_id = step_snapshot.id;
    SELECT * INTO progress FROM "replicator".snapshot s WHERE s.table_id = step_snapshot.id FOR UPDATE;
    IF progress.table_id IS NULL OR known.removed_at IS NOT NULL
       OR NOT EXISTS (SELECT FROM pg_class c WHERE c.oid = known.relid)
       OR to_regprocedure(format('"replicator".snapshot_chunk_%s(text, int, bigint)', step_snapshot.id)) IS NULL THEN
        RAISE EXCEPTION 'table %.% %', known.schema_name, known.table_name,
            CASE WHEN known.removed_at IS NOT NULL THEN 'was taken out of replication'
                 WHEN NOT EXISTS (SELECT FROM pg_class c WHERE c.oid = known.relid) THEN 'is gone, or was made anew'
                 WHEN progress.table_id IS NULL THEN 'has no snapshot to go on with' ELSE 'has the functions of an earlier version' END
            USING ERRCODE = 'RPS01', HINT = format('Run replicator tables add %I.%I, or replicator tables remove where it is not wanted any more, and then the snapshot again.', known.schema_name, known.table_name);
    END IF;
    order_now := "replicator".key_order_digest(known.relid, known.key_columns);
    begun_anew := progress.last_key IS NOT NULL AND progress.key_order <> order_now;
    IF begun_anew THEN
        progress.last_key := NULL;
        progress.rows_done := 0;
        progress.bytes_done := 0;
    END IF;
    BEGIN
        EXECUTE format('SELECT * FROM "replicator".snapshot_chunk_%s($1, $2, $3)', step_snapshot.id) INTO made
          USING progress.last_key, most_rows, most_bytes;
    EXCEPTION WHEN undefined_table OR undefined_column OR undefined_object THEN
        RAISE EXCEPTION 'table %.% is not what its functions were made for: %', known.schema_name, known.table_name, SQLERRM USING ERRCODE = 'RPS01',
            HINT = format('Run replicator tables add with the name it has now (it was %I.%I) and then the snapshot again: it goes on where it was.', known.schema_name, known.table_name);
    END;
    sent := made.sent;
    bytes := made.bytes;
    ended := made.ended;
    UPDATE "replicator".snapshot s
       SET state = CASE WHEN made.ended THEN 'done' ELSE 'running' END, last_key = made.last, key_order = order_now,
           rows_done = progress.rows_done + made.sent, bytes_done = progress.bytes_done + made.bytes,
           last_xid = CASE WHEN made.sent > 0 THEN pg_current_xact_id() ELSE s.last_xid END,
           started_at = CASE WHEN begun_anew THEN clock_timestamp() ELSE coalesce(s.started_at, clock_timestamp()) END, changed_at = clock_timestamp(),
           finished_at = CASE WHEN made.ended THEN clock_timestamp() END
     WHERE s.table_id = step_snapshot.id;
END $function$;
