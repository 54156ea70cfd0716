-- The runs of polled tables, as the process with role sync calls them: begin, batch, confirm. What a run is: 02h.

-- Whoever works on a table's run: one at a time, whatever the leases say. A lock without an xid, or u would come before t.
CREATE OR REPLACE FUNCTION "replicator".sync_lock(id int) RETURNS void
LANGUAGE sql SET search_path TO pg_catalog, pg_temp AS $function$
    SELECT pg_advisory_xact_lock('"replicator"'::regnamespace::oid::int, id)
$function$;

-- Virtual transactions of this database but our own; their pids are everybody's to see.
CREATE OR REPLACE FUNCTION "replicator".running_transactions() RETURNS text[]
LANGUAGE sql VOLATILE SET search_path TO pg_catalog, pg_temp AS $function$
    SELECT coalesce(array_agg(l.virtualxid), '{}') FROM pg_locks l
     WHERE l.locktype = 'virtualxid' AND l.granted AND l.pid <> pg_backend_pid()
       AND NOT EXISTS (SELECT FROM pg_stat_activity a WHERE a.pid = l.pid AND a.datid <> (SELECT oid FROM pg_database WHERE datname = current_database()))
$function$;

-- The oldest xid prepared in this database; NULL when none is. recent: an xid newer than all of them. (Not from a snapshot:
-- what runs may lie at or above its xmax, which is the one after the newest that has ended.)
CREATE OR REPLACE FUNCTION "replicator".oldest_prepared(recent xid8) RETURNS xid8
LANGUAGE sql VOLATILE SET search_path TO pg_catalog, pg_temp AS $function$
    SELECT min(recent::text::numeric - (recent::text::numeric - p.transaction::text::numeric) % 4294967296)::text::xid8
      FROM pg_prepared_xacts p WHERE p.database = current_database()
$function$;

-- Begins a run, or finds the one that is under way; the first statement of its transaction. overlap: how far behind ours the
-- clocks of applications may be (stamp "application" only). A person who sets sync_state back makes it begin there.
CREATE OR REPLACE FUNCTION "replicator".sync_begin(id int, overlap interval) RETURNS "replicator".sync_run
LANGUAGE plpgsql SECURITY DEFINER SET search_path TO pg_catalog, pg_temp AS $function$
#variable_conflict use_variable
DECLARE
    known "replicator".replicated_table;
    run "replicator".sync_run;
    last "replicator".sync_run;
    shown timestamptz;
    stated timestamptz;
    epoch constant timestamptz := '1970-01-01 00:00:00+00';
    -- 1970-01-01 in any time zone
    beginning constant timestamptz := '1970-01-02 00:00:00+00';
    marked bigint;
    asked boolean := false;
    is_application boolean;
    gone_back boolean := false;
BEGIN
    IF pg_current_xact_id_if_assigned() IS NOT NULL OR current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'sync_begin must be the first statement of a READ COMMITTED transaction' USING ERRCODE = 'invalid_transaction_state';
    END IF;
    PERFORM "replicator".sync_lock(id);
    SELECT * INTO known FROM "replicator".replicated_table r WHERE r.table_id = id AND r.removed_at IS NULL AND r.capture = 'none';
    IF known.table_id IS NULL THEN
        RAISE EXCEPTION 'table % is not polled', id USING ERRCODE = 'undefined_object', HINT = 'replicator tables add';
    END IF;
    is_application := known.stamping = 'application';
    SELECT s.last_sync_timestamp INTO stated FROM "replicator".sync_state s WHERE s.table_name = "replicator".sync_name(known);
    SELECT s.shown INTO shown FROM "replicator".sync_table s WHERE s.table_id = id;
    asked := shown IS NOT NULL AND (stated IS NULL OR stated < shown);
    SELECT * INTO run FROM "replicator".sync_run r WHERE r.table_id = id AND r.finished_at IS NULL;
    IF run.run_no IS NOT NULL AND NOT asked THEN RETURN run; END IF;
    SELECT * INTO last FROM "replicator".sync_run r WHERE r.table_id = id AND r.run_no > 0 AND r.finished_at IS NOT NULL ORDER BY r.run_no DESC LIMIT 1;

    run := NULL;
    IF is_application THEN
        run.marked_at := clock_timestamp();
        run.running := "replicator".running_transactions();
        gone_back := EXISTS (SELECT FROM "replicator".sync_run r WHERE r.table_id = id AND r.marked_at > run.marked_at);
    ELSE
        marked := greatest(ceil(extract(epoch FROM clock_timestamp()) * 1000000)::bigint,
                           pg_sequence_last_value(to_regclass(format('"replicator".sync_mark_%s', id))));
        run.marked_at := timestamptz 'epoch' + marked * interval '1 microsecond';
        PERFORM setval(to_regclass(format('"replicator".sync_mark_%s', id)), marked);
    END IF;
    run.mark_xid := pg_current_xact_id();
    run.snap := (SELECT pg_current_snapshot());
    run.table_id := id;
    run.run_no := 1 + coalesce((SELECT max(r.run_no) FROM "replicator".sync_run r WHERE r.table_id = id), 0);

    IF is_application THEN
        -- marks of a clock that went back say nothing of the stamps that follow
        IF gone_back THEN UPDATE "replicator".sync_run r SET marked_at = '-infinity' WHERE r.table_id = id; END IF;
        UPDATE "replicator".sync_run r SET vacated_xid = run.mark_xid
         WHERE r.table_id = id AND r.vacated_xid IS NULL AND NOT r.running && run.running;
        IF run.running = '{}' THEN run.vacated_xid := run.mark_xid; END IF;
        run.keep_from := coalesce((
            SELECT max(m.marked_at) FROM (SELECT r.marked_at, r.vacated_xid FROM "replicator".sync_run r WHERE r.table_id = id
                                          UNION ALL SELECT run.marked_at, run.vacated_xid) m
             WHERE m.vacated_xid <= coalesce("replicator".oldest_prepared(run.mark_xid), m.vacated_xid)), '-infinity') - overlap;
    ELSE
        run.keep_from := coalesce((
            SELECT max(m.marked_at) FROM (SELECT r.marked_at, r.mark_xid FROM "replicator".sync_run r WHERE r.table_id = id
                                          UNION ALL SELECT run.marked_at, run.mark_xid) m
             WHERE m.mark_xid <= pg_snapshot_xmin(run.snap)), '-infinity');
    END IF;

    IF last.run_no IS NULL AND NOT asked THEN
        run.scan_from := CASE WHEN stated >= beginning THEN stated ELSE '-infinity' END;
    ELSE
        run.scan_from := CASE WHEN gone_back OR last.run_no IS NULL THEN '-infinity' ELSE last.keep_from END;
        IF asked THEN
            run.scan_from := least(run.scan_from, CASE WHEN stated >= beginning THEN stated ELSE '-infinity' END);
            DELETE FROM "replicator".sync_sent s WHERE s.table_id = id AND s.at >= run.scan_from;
        END IF;
    END IF;
    INSERT INTO "replicator".sync_state AS s (table_name, last_sync_timestamp) VALUES ("replicator".sync_name(known), epoch) ON CONFLICT DO NOTHING;
    INSERT INTO "replicator".sync_table AS s (table_id, shown) VALUES (id, coalesce(stated, epoch))
        ON CONFLICT (table_id) DO UPDATE SET shown = EXCLUDED.shown WHERE asked;

    -- a run that was broken off is started anew; its mark goes with it. Marks below the one in use are never asked for again.
    DELETE FROM "replicator".sync_run r WHERE r.table_id = id AND r.finished_at IS NULL;
    DELETE FROM "replicator".sync_sent s WHERE s.table_id = id AND s.at < run.scan_from;
    DELETE FROM "replicator".sync_run r WHERE r.table_id = id AND r.run_no < last.run_no AND r.confirmed_at IS NOT NULL
        AND r.marked_at < run.keep_from + CASE WHEN is_application THEN overlap ELSE interval '0' END;
    INSERT INTO "replicator".sync_run (table_id, run_no, marked_at, mark_xid, snap, running, vacated_xid, scan_from, keep_from)
        VALUES (id, run.run_no, run.marked_at, run.mark_xid, run.snap, run.running, run.vacated_xid, run.scan_from, run.keep_from) RETURNING * INTO run;
    RETURN run;
END $function$;

-- One batch of the run that is under way; phase 'done' in what comes back: it is finished. NULL: none is under way.
CREATE OR REPLACE FUNCTION "replicator".sync_batch(id int, batch int) RETURNS "replicator".sync_run
LANGUAGE plpgsql SECURITY DEFINER SET search_path TO pg_catalog, pg_temp AS $function$
DECLARE
    run "replicator".sync_run;
BEGIN
    PERFORM "replicator".sync_lock(id);
    SELECT * INTO run FROM "replicator".sync_run r WHERE r.table_id = id AND r.finished_at IS NULL;
    IF run.run_no IS NULL THEN RETURN NULL; END IF;
    EXECUTE format('SELECT * FROM "replicator".poll_%s($1, $2)', id) INTO run USING run, batch;
    IF run.phase = 'done' THEN run.finished_at := clock_timestamp(); END IF;
    UPDATE "replicator".sync_run r SET scan_to = run.scan_to, phase = run.phase, position = run.position, rows = run.rows, newest_at = run.newest_at,
           newest_version = run.newest_version, last_xid = run.last_xid, finished_at = run.finished_at
     WHERE r.table_id = id AND r.run_no = run.run_no;
    RETURN run;
END $function$;

-- stamp "application": deletions are the keys seen before that are gone; each gets a tombstone, which the next run sends.
-- Not before `pause` has passed since the last comparison. Returns their number, NULL when it was not due.
CREATE OR REPLACE FUNCTION "replicator".sync_compare_keys(id int, pause interval) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path TO pg_catalog, pg_temp AS $function$
DECLARE
    gone bigint;
BEGIN
    PERFORM "replicator".sync_lock(id);
    IF NOT EXISTS (SELECT FROM "replicator".replicated_table r WHERE r.table_id = id AND r.removed_at IS NULL AND r.capture = 'none' AND r.stamping = 'application')
       -- a time ahead of the clock: it was set back since
       OR EXISTS (SELECT FROM "replicator".sync_table s WHERE s.table_id = id AND s.keys_compared_at > clock_timestamp() - pause AND s.keys_compared_at <= clock_timestamp())
       OR NOT EXISTS (SELECT FROM "replicator".sync_table s WHERE s.table_id = id) THEN
        RETURN NULL;
    END IF;
    EXECUTE format('SELECT "replicator".compare_keys_%s()', id) INTO gone;
    UPDATE "replicator".sync_table s SET keys_compared_at = clock_timestamp() WHERE s.table_id = id;
    RETURN gone;
END $function$;

-- Before the keys seen are given up: what was deleted since the last comparison gets its tombstones.
CREATE OR REPLACE FUNCTION "replicator".sync_last_comparison(id int) RETURNS void
LANGUAGE plpgsql SET search_path TO pg_catalog, pg_temp AS $function$
BEGIN
    IF to_regprocedure(format('"replicator".compare_keys_%s()', id)) IS NOT NULL AND to_regclass(format('"replicator".known_%s', id)) IS NOT NULL THEN
        EXECUTE format('SELECT "replicator".compare_keys_%s()', id);
    END IF;
END $function$;

-- What a polled table has not sent yet, before triggers capture it from now on: in setup's transaction, under its lock.
CREATE OR REPLACE FUNCTION "replicator".sync_drain(id int) RETURNS void
LANGUAGE plpgsql SET search_path TO pg_catalog, pg_temp AS $function$
DECLARE
    run "replicator".sync_run;
BEGIN
    IF to_regprocedure(format('"replicator".poll_%s("replicator".sync_run, int)', id)) IS NULL THEN RETURN; END IF;
    PERFORM "replicator".sync_last_comparison(id);
    SELECT * INTO run FROM "replicator".sync_run r WHERE r.table_id = id AND r.finished_at IS NULL;
    IF run.run_no IS NULL THEN
        run.table_id := id;
        run.phase := 'floors';
        run.rows := 0;
        run.scan_from := coalesce((SELECT r.keep_from FROM "replicator".sync_run r WHERE r.table_id = id AND r.run_no > 0 ORDER BY r.run_no DESC LIMIT 1), '-infinity');
        run.keep_from := 'infinity';
    END IF;
    -- nothing comes after it
    run.scan_to := 'infinity';
    WHILE run.phase <> 'done' LOOP
        EXECUTE format('SELECT * FROM "replicator".poll_%s($1, 10000)', id) INTO run USING run;
    END LOOP;
END $function$;

-- Marks finished runs whose rows the broker has confirmed, and lets sync_state follow; a value a person set there stays for
-- the next run to see. Returns the tables that moved.
CREATE OR REPLACE FUNCTION "replicator".sync_confirm() RETURNS SETOF text
LANGUAGE plpgsql SECURITY DEFINER SET search_path TO pg_catalog, pg_temp AS $function$
DECLARE
    run "replicator".sync_run;
    name text;
BEGIN
    FOR run IN SELECT r.* FROM "replicator".sync_run r WHERE r.finished_at IS NOT NULL AND r.confirmed_at IS NULL ORDER BY r.table_id, r.run_no FOR UPDATE SKIP LOCKED LOOP
        -- rows that are no longer in the queue were confirmed: nothing else empties it
        CONTINUE WHEN run.last_xid IS NOT NULL AND "replicator".published_at(run.last_xid, run.table_id) IS NULL
                  AND EXISTS (SELECT FROM "replicator".queue q WHERE q.xid = run.last_xid);
        UPDATE "replicator".sync_run r SET confirmed_at = clock_timestamp() WHERE r.table_id = run.table_id AND r.run_no = run.run_no;
        SELECT "replicator".sync_name(t) INTO name FROM "replicator".replicated_table t WHERE t.table_id = run.table_id;
        UPDATE "replicator".sync_state s SET updated_at = clock_timestamp(), last_sync_timestamp = greatest(s.last_sync_timestamp, run.newest_at),
               last_sync_version = CASE WHEN run.newest_at >= s.last_sync_timestamp THEN run.newest_version ELSE s.last_sync_version END
          FROM "replicator".sync_table k WHERE s.table_name = name AND k.table_id = run.table_id AND k.shown = s.last_sync_timestamp;
        IF FOUND THEN
            UPDATE "replicator".sync_table k SET shown = greatest(k.shown, run.newest_at) WHERE k.table_id = run.table_id;
            RETURN NEXT name;
        END IF;
    END LOOP;
END $function$;
