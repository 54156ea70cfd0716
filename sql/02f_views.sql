-- What is published, what is not, and the readable views over the queue and the ledger.

-- The channel a table's rows travel in under a layout; 'changes' is the default channel.
CREATE OR REPLACE FUNCTION "replicator".channel_of(version int, id int) RETURNS text
LANGUAGE sql STABLE SECURITY DEFINER SET search_path TO pg_catalog, pg_temp AS $function$
    SELECT coalesce((SELECT l.channel FROM "replicator".layout l
                      WHERE l.layout_version = version AND l.channel <> 'changes' AND id = ANY (l.table_ids) LIMIT 1), 'changes')
$function$;

-- Per channel what the broker has not confirmed: rows visible in `upto` (NULL: no bound, the newest layout) and not in
-- `since`. `tables` are the channel's; for the default channel those that are not its own.
CREATE OR REPLACE FUNCTION "replicator".pending_ranges()
RETURNS TABLE (channel text, inverse boolean, tables int[], since pg_snapshot, upto pg_snapshot)
LANGUAGE plpgsql STABLE SECURITY DEFINER ROWS 2 SET search_path TO pg_catalog, pg_temp AS $function$
#variable_conflict use_column
DECLARE
    part record;
    newest int := (SELECT max(layout_version) FROM "replicator".layout);
    done bigint;
BEGIN
    FOR part IN SELECT l.layout_version, l.channel, l.channel = 'changes' AS inverse,
                       CASE WHEN l.channel = 'changes'
                            THEN coalesce((SELECT array_agg(t) FROM "replicator".layout o, unnest(o.table_ids) t
                                            WHERE o.layout_version = l.layout_version AND o.channel <> 'changes'), '{}')
                            ELSE l.table_ids END AS tables
                  FROM "replicator".layout l LOOP
        done := coalesce((SELECT c.cut_no FROM "replicator".confirmed c WHERE c.channel = part.channel ORDER BY c.cut_no DESC LIMIT 1), 0);
        -- the first cut of this layout that the channel has not confirmed; numbers of cuts may jump
        since := (SELECT c.snap_from FROM "replicator".cut c WHERE c.layout_version = part.layout_version AND c.cut_no > done ORDER BY c.cut_no LIMIT 1);
        upto := NULL;
        IF part.layout_version < newest THEN
            CONTINUE WHEN since IS NULL;
            upto := (SELECT c.snap_to FROM "replicator".cut c WHERE c.layout_version = part.layout_version ORDER BY c.cut_no DESC LIMIT 1);
        ELSIF since IS NULL THEN  -- all cuts confirmed, or none taken yet under this layout: what comes after the last cut
            since := coalesce((SELECT c.snap_to FROM "replicator".cut c ORDER BY c.cut_no DESC LIMIT 1), '1:1:');
        END IF;
        channel := part.channel;
        inverse := part.inverse;
        tables := part.tables;
        RETURN NEXT;
    END LOOP;
END $function$;

-- Queue rows not yet confirmed, found by the index on xid: milliseconds whatever the size of the queue (review C1).
CREATE OR REPLACE FUNCTION "replicator".pending_rows() RETURNS SETOF "replicator".queue
LANGUAGE plpgsql STABLE SECURITY DEFINER ROWS 100 SET search_path TO pg_catalog, pg_temp AS $function$
DECLARE
    range record;
    lower xid8;
    open_xids xid8[];
BEGIN
    FOR range IN SELECT * FROM "replicator".pending_ranges() LOOP
        lower := pg_snapshot_xmax(range.since);
        open_xids := ARRAY(SELECT pg_snapshot_xip(range.since));
        RETURN QUERY SELECT q.* FROM "replicator".queue q
             WHERE q.xid >= lower AND (q.table_id = ANY (range.tables)) <> range.inverse
               AND (range.upto IS NULL OR pg_visible_in_snapshot(q.xid, range.upto));
        IF cardinality(open_xids) > 0 THEN
            RETURN QUERY SELECT q.* FROM "replicator".queue q
                 WHERE q.xid = ANY (open_xids) AND (q.table_id = ANY (range.tables)) <> range.inverse
                   AND (range.upto IS NULL OR pg_visible_in_snapshot(q.xid, range.upto));
        END IF;
    END LOOP;
END $function$;

-- When the broker confirmed the cut that holds a transaction's rows of a table; NULL when not yet, or when the record of
-- that cut has been rotated out.
CREATE OR REPLACE FUNCTION "replicator".published_at(row_xid xid8, id int) RETURNS timestamptz
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path TO pg_catalog, pg_temp AS $function$
DECLARE
    holder record;
BEGIN
    SELECT c.cut_no, c.layout_version INTO holder FROM "replicator".cut c
     WHERE pg_snapshot_xmax(c.snap_to) > row_xid AND pg_visible_in_snapshot(row_xid, c.snap_to)
     ORDER BY pg_snapshot_xmax(c.snap_to), c.cut_no LIMIT 1;
    RETURN (SELECT f.confirmed_at FROM "replicator".confirmed f
             WHERE f.channel = "replicator".channel_of(holder.layout_version, id) AND f.cut_no >= holder.cut_no
             ORDER BY f.cut_no LIMIT 1);
END $function$;

-- Name of an operation, of a table as SQL writes it, of a key as text (composite: its JSON).
CREATE OR REPLACE FUNCTION "replicator".record_id(line json, keys text[]) RETURNS text
LANGUAGE sql IMMUTABLE SET search_path TO pg_catalog, pg_temp AS $function$
    SELECT CASE WHEN cardinality(keys) = 1 THEN line->>keys[1]
                ELSE (SELECT '{' || string_agg(to_json(k) || ':' || (line->k)::text, ',' ORDER BY n) || '}' FROM unnest(keys) WITH ORDINALITY e(k, n)) END
$function$;

-- One row per change. COUNT(*) … WHERE published = FALSE looks at the pending rows only: the other arm is a constant.
CREATE OR REPLACE VIEW "replicator".replication_queue AS
SELECT q.id * 1048576 + e.n AS id,
       CASE WHEN t.schema_name = 'public' THEN '' ELSE quote_ident(t.schema_name) || '.' END || quote_ident(t.table_name) AS table_name,
       CASE q.operation WHEN 'I' THEN 'INSERT' WHEN 'U' THEN 'UPDATE' WHEN 'D' THEN 'DELETE' WHEN 'S' THEN 'SNAPSHOT' ELSE 'TRUNCATE' END AS operation,
       CASE WHEN q.operation <> 'T' THEN "replicator".record_id(e.line, t.key_columns) END AS record_id,
       e.old AS old_data,
       CASE WHEN q.operation IN ('I', 'U', 'S') THEN e.line END AS new_data,
       q.captured_at AS created_at, q.published, q.published_at
  FROM (SELECT p.id, p.xid, p.table_id, p.operation, p.rows, p.captured_at, p.data, p.old, false AS published, NULL::timestamptz AS published_at
          FROM "replicator".pending_rows() p
        UNION ALL
        SELECT s.id, s.xid, s.table_id, s.operation, s.rows, s.captured_at, s.data, s.old, true, "replicator".published_at(s.xid, s.table_id)
          FROM "replicator".queue s
         WHERE NOT EXISTS (SELECT FROM "replicator".pending_ranges() r
                            WHERE (s.table_id = ANY (r.tables)) <> r.inverse
                              AND (s.xid >= pg_snapshot_xmax(r.since) OR NOT pg_visible_in_snapshot(s.xid, r.since))
                              AND (r.upto IS NULL OR pg_visible_in_snapshot(s.xid, r.upto)))) q
  JOIN "replicator".replicated_table t ON t.table_id = q.table_id
  CROSS JOIN LATERAL (
       SELECT 0::bigint AS n, q.data::json AS line, q.old::json AS old WHERE q.rows = 1
       UNION ALL
       SELECT d.n - 1, d.value, NULL FROM json_array_elements(('[' || q.data || ']')::json) WITH ORDINALITY d(value, n) WHERE q.rows > 1 AND q.old IS NULL
       UNION ALL
       SELECT d.n - 1, d.value, o.value
         FROM ROWS FROM (json_array_elements(('[' || q.data || ']')::json), json_array_elements(('[' || q.old || ']')::json)) WITH ORDINALITY x(value, old, n)
        CROSS JOIN LATERAL (SELECT x.n, x.value) d CROSS JOIN LATERAL (SELECT x.old AS value) o
        WHERE q.rows > 1 AND q.old IS NOT NULL) e;

-- DELETE FROM replication_queue … of the source designs runs and removes nothing: the queue is a ring whose slots are
-- emptied whole by the publisher, once everything in them is confirmed and older than the retention (I3). A row of it
-- cannot and need not go alone.
CREATE OR REPLACE FUNCTION "replicator".keep_queue_row() RETURNS trigger
LANGUAGE plpgsql SET search_path TO pg_catalog, pg_temp AS $function$
BEGIN
    RETURN NULL;
END $function$;
CREATE OR REPLACE TRIGGER keep_queue_row INSTEAD OF DELETE ON "replicator".replication_queue
    FOR EACH ROW EXECUTE FUNCTION "replicator".keep_queue_row();

-- What was applied here, change by change, out of one ledger row per frame.
CREATE OR REPLACE VIEW "replicator".processed_events AS
SELECT md5(l.source || ':' || a.epoch || ':' || c.first_queue_id || ':' || o.n)::uuid AS event_id,
       l.source AS source_contour, c."table" AS table_name, c.operation,
       a.versions[c.before + o.n + 1] AS version,
       coalesce(a.exceptions::json->>(c.before + o.n)::text, 'applied') AS outcome,
       a.applied_at AS processed_at
  FROM "replicator".applied a
  JOIN "replicator".ledger l ON l.ledger_id = a.ledger_id
  CROSS JOIN LATERAL (
       SELECT x."table", x.operation, x.first_queue_id, x.rows, (sum(x.rows) OVER (ORDER BY x.nth) - x.rows)::int AS before
         FROM (SELECT j.value->>'table' AS "table", j.value->>'operation' AS operation, j.value->>'first_queue_id' AS first_queue_id,
                      (j.value->>'rows')::int AS rows, j.nth
                 FROM json_array_elements(a.chunks::json) WITH ORDINALITY j(value, nth)) x) c
  CROSS JOIN LATERAL generate_series(0, c.rows - 1) o(n);
