-- Tables that are polled instead of captured: what a run of the poll reads, in which order, and what it remembers.
--
-- A run of a table goes from the begin ("replicator".sync_begin, one transaction) through batches ("replicator".sync_batch,
-- one transaction each) that put lines into the queue, ready as the triggers would have written them. What follows is the
-- way of every captured change: cuts, numbers, broker (I1 I13). The position stands in the same transaction as the lines,
-- so a process may die anywhere; the next one goes on with the run.
--
-- Where a run begins (architecture §8, review A7). Run k has a mark (t_k, u_k): a time, then an own xid. A transaction that
-- got its xid after u_k stamps at or above t_k: the stamp triggers take their xid first and then read the clock and the
-- mark, which is a sequence and seen by everybody at once. So a server clock that steps back changes nothing. The run after
-- the one that looked at snapshot S begins at max{t_j : u_j <= xmin(S)}: what is stamped below it belongs to transactions
-- that had ended in S, prepared ones too, and was read. What was sent at or above it is remembered and not sent again.
-- Setup makes mark 0 under its lock: whatever was written before has ended then.
--
-- stamp "application" (no trigger of ours on the table): an application may have taken its stamp before it had an xid, so
-- the mark is settled when every transaction that ran at t_k has ended: virtual transactions, which everybody may see in
-- pg_locks, and then prepared ones, by their xid.

-- A run. run_no 0 is the mark of setup. The run that is under way has no finished_at.
CREATE TABLE IF NOT EXISTS "replicator".sync_run (
    table_id     int         NOT NULL,
    run_no       bigint      NOT NULL,
    marked_at    timestamptz NOT NULL,            -- t
    mark_xid     xid8        NOT NULL,            -- u
    snap         pg_snapshot,                     -- S: all that had ended in it is read by this run or was before
    running      text[],                          -- stamp "application": virtual transactions at t that had not ended when last looked
    vacated_xid  xid8,                            -- and the mark's xid of the run that found them ended
    scan_from    timestamptz NOT NULL DEFAULT '-infinity',  -- -infinity: the whole table, in the order of its key
    scan_to      timestamptz,                     -- the newest stamp at the begin: what comes later is the next run's
    keep_from    timestamptz NOT NULL DEFAULT '-infinity',  -- where the next run begins
    phase        text        NOT NULL DEFAULT 'floors' CHECK (phase IN ('floors', 'deletions', 'rows', 'done')),
    position     text,                            -- key and stamp of the last row of the batch before, as JSON
    rows         bigint      NOT NULL DEFAULT 0,  -- changes put into the queue
    newest_at    timestamptz,                     -- the newest stamp among them
    newest_version bigint,
    last_xid     xid8,                            -- of the last batch that put something into the queue
    started_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    finished_at  timestamptz,
    confirmed_at timestamptz,                     -- the broker has confirmed everything of it
    PRIMARY KEY (table_id, run_no)
);

-- What was sent at or above the beginning of the next run: digest of key and stamp.
CREATE TABLE IF NOT EXISTS "replicator".sync_sent (
    table_id int         NOT NULL,
    at       timestamptz NOT NULL,
    digest   bytea       NOT NULL,
    PRIMARY KEY (table_id, at, digest)
);

-- What sync_state showed when we last wrote it: another value there is a person's.
CREATE TABLE IF NOT EXISTS "replicator".sync_table (
    table_id      int PRIMARY KEY,
    shown         timestamptz NOT NULL,
    keys_compared_at timestamptz
);

-- Expression: the time of a stamp. For a polled table never below the last run's mark.
CREATE OR REPLACE FUNCTION "replicator".clock_sql(plan jsonb) RETURNS text
LANGUAGE sql IMMUTABLE SET search_path TO pg_catalog, pg_temp AS $function$
    SELECT CASE WHEN plan->>'capture' <> 'none' THEN 'pg_catalog.clock_timestamp()'
                ELSE format('greatest(clock_timestamp(), timestamptz ''epoch'' + coalesce(pg_sequence_last_value(''"replicator".sync_mark_%s''::regclass), 0) * interval ''1 microsecond'')', plan->>'id') END
$function$;

-- Statement of a function with a variable bound.xid: the xid comes before the clock.
CREATE OR REPLACE FUNCTION "replicator".early_xid_sql(plan jsonb) RETURNS text
LANGUAGE sql IMMUTABLE SET search_path TO pg_catalog, pg_temp AS $function$
    SELECT CASE WHEN plan->>'capture' = 'none' THEN E'    PERFORM pg_catalog.pg_current_xact_id();\n' ELSE '' END
$function$;

CREATE OR REPLACE FUNCTION "replicator".sync_name(known "replicator".replicated_table) RETURNS text
LANGUAGE sql STABLE SET search_path TO pg_catalog, pg_temp AS $function$
    SELECT CASE WHEN known.schema_name = 'public' THEN '' ELSE quote_ident(known.schema_name) || '.' END || quote_ident(known.table_name)
$function$;

-- What a polled table has besides its tombstones: the mark, the index its deletions are read by, the keys last seen where
-- no trigger tells of deletions. Another table has none of it.
CREATE OR REPLACE FUNCTION "replicator".periodic_objects_sql(plan jsonb) RETURNS SETOF text
LANGUAGE plpgsql STABLE SET search_path TO pg_catalog, pg_temp AS $function$
DECLARE
    id text := plan->>'id';
    keys text := (SELECT string_agg(quote_ident(k->>'name'), ', ' ORDER BY n) FROM jsonb_array_elements(plan->'key') WITH ORDINALITY AS e(k, n));
BEGIN
    IF plan->>'capture' <> 'none' THEN
        RETURN QUERY SELECT s.statement FROM (VALUES
            (format('DROP FUNCTION IF EXISTS "replicator".poll_%1$s("replicator".sync_run, int), "replicator".compare_keys_%1$s()', id)),
            (format('DROP SEQUENCE IF EXISTS "replicator".sync_mark_%s', id)),
            (format('DROP INDEX IF EXISTS "replicator".tombstone_%s_at', id)),
            (format('DROP TABLE IF EXISTS "replicator".known_%s', id)),
            (format('DELETE FROM "replicator".sync_run WHERE table_id = %s', id)),
            (format('DELETE FROM "replicator".sync_table WHERE table_id = %s', id)),
            (format('DELETE FROM "replicator".sync_sent WHERE table_id = %s', id))) s(statement)
         WHERE to_regclass(format('"replicator".sync_mark_%s', id)) IS NOT NULL;
        RETURN;
    ELSE
        RETURN NEXT format('CREATE SEQUENCE IF NOT EXISTS "replicator".sync_mark_%s', id);
        RETURN NEXT format('CREATE INDEX IF NOT EXISTS tombstone_%1$s_at ON "replicator".tombstone_%1$s (%2$I, %3$s)', id, plan->'stamp'->>1, keys);
        -- a row's key is looked for while the run goes on: the position is of no use with another key
        RETURN NEXT format('UPDATE "replicator".sync_run SET position = NULL WHERE table_id = %s AND finished_at IS NULL AND position IS NOT NULL', id);
    END IF;
    IF plan->>'capture' = 'none' AND plan->>'stamping' = 'application' THEN
        RETURN NEXT format('CREATE TABLE IF NOT EXISTS "replicator".known_%1$s (LIKE "replicator".tombstone_%1$s, PRIMARY KEY (%2$s))', id, keys);
        RETURN QUERY SELECT format('ALTER TABLE "replicator".known_%s ALTER COLUMN %I TYPE %s%s USING %2$I::%3$s', id, k->>'name', k->>'type', k->>'collation')
          FROM jsonb_array_elements(plan->'key') AS e(k)
          JOIN pg_attribute a ON a.attrelid = to_regclass(format('"replicator".known_%s', id)) AND a.attname = k->>'name' AND NOT a.attisdropped
         WHERE format_type(a.atttypid, a.atttypmod) <> k->>'type';
        -- runs of a time with our triggers prove nothing about the stamps of applications
        RETURN NEXT format('DELETE FROM "replicator".sync_run WHERE table_id = %s AND running IS NULL', id);
    ELSE
        RETURN QUERY SELECT s.statement FROM (VALUES (format('DROP TABLE "replicator".known_%s', id)), (format('DROP FUNCTION IF EXISTS "replicator".compare_keys_%s()', id))) s(statement)
         WHERE to_regclass(format('"replicator".known_%s', id)) IS NOT NULL;
        IF plan->>'capture' = 'none' THEN
            -- under setup's lock: what was written before has ended, what is written from now on is stamped above. The runs of
            -- a time without our triggers prove nothing about it.
            RETURN NEXT format('DELETE FROM "replicator".sync_run r WHERE r.table_id = %1$s AND r.running IS NOT NULL', id);
            RETURN NEXT format('INSERT INTO "replicator".sync_run (table_id, run_no, marked_at, mark_xid, phase, finished_at, confirmed_at)
                SELECT %1$s, 0, timestamptz ''epoch'' + setval(''"replicator".sync_mark_%1$s'', ceil(extract(epoch FROM clock_timestamp()) * 1000000)::bigint) * interval ''1 microsecond'',
                       ''0'', ''done'', clock_timestamp(), clock_timestamp()
                 WHERE NOT EXISTS (SELECT FROM "replicator".sync_run WHERE table_id = %1$s)', id);
        END IF;
    END IF;
END $function$;
