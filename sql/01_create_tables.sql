-- Tables of the replicator. Part of 00_master_setup.sql; running it twice does no harm.
-- Schema name: every object lives in schema "replicator"; `replicator setup` can install the same text under another
-- name by replacing the quoted identifier "replicator" (always written with quotes in these files for that purpose).
--
-- Two kinds of table, and why:
--   * rings (queue, cut, confirmed, applied) are only ever appended to and emptied by TRUNCATE, slot by slot, so that
--     an old transaction elsewhere in the cluster bloats nothing and VACUUM is never behind;
--   * the rest is small and changes seldom.

CREATE SCHEMA IF NOT EXISTS "replicator";

-- One row: who we are. contour is '' until `replicator setup` (or "replicator".set_contour) has named the site.
CREATE TABLE IF NOT EXISTS "replicator".local (
    one              boolean PRIMARY KEY DEFAULT true CHECK (one),
    contour          text   NOT NULL DEFAULT '' CHECK (contour = '' OR contour ~ '^[a-z0-9_-]{1,32}$'),
    schema_version   int    NOT NULL DEFAULT 1,
    compat_schema    text   DEFAULT 'public',            -- where the thin names stand; NULL = none
    version_column    text  NOT NULL DEFAULT 'version',  -- default names of the stamp columns
    updated_at_column text  NOT NULL DEFAULT 'updated_at',
    updated_by_column text  NOT NULL DEFAULT 'updated_by',
    created_at       timestamptz NOT NULL DEFAULT clock_timestamp()
);
INSERT INTO "replicator".local DEFAULT VALUES ON CONFLICT DO NOTHING;

-- A table under replication. table_id is baked into its trigger functions and into queue rows.
CREATE TABLE IF NOT EXISTS "replicator".replicated_table (
    table_id      int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    schema_name   text    NOT NULL,
    table_name    text    NOT NULL,
    relid         oid     NOT NULL,                       -- stale after a dump and restore: names decide, setup mends it
    key_columns   text[]  NOT NULL,
    stamp_columns text[]  NOT NULL CHECK (cardinality(stamp_columns) = 3),  -- version, updated_at, updated_by
    exclude_columns text[] NOT NULL DEFAULT '{}',
    capture       text    NOT NULL DEFAULT 'row' CHECK (capture IN ('row', 'statement', 'none')),
    conflict      text    NOT NULL DEFAULT 'version' CHECK (conflict IN ('version', 'latest')),
    columns_digest text   NOT NULL DEFAULT '',            -- of the columns the functions were made for
    added_columns text[]  NOT NULL DEFAULT '{}',          -- what setup added to the table: removal takes just these
    created_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    removed_at    timestamptz,                            -- taken out of replication; kept while queue rows name it
    UNIQUE (schema_name, table_name)
);

DO $$
BEGIN
    -- of a polled table (capture 'none'): our triggers stamp its rows, or the application does and no trigger of ours is there
    IF NOT EXISTS (SELECT FROM pg_attribute WHERE attrelid = '"replicator".replicated_table'::regclass AND attname = 'stamping') THEN
        ALTER TABLE "replicator".replicated_table ADD COLUMN stamping text NOT NULL DEFAULT 'trigger' CHECK (stamping IN ('trigger', 'application'));
    END IF;
END $$;

-- The queue: what the triggers write and nobody updates. A ring of eight static partitions; a slot is emptied whole.
-- Slots are 2^28 ids wide and are changed by time, not by filling up: release sets the sequence on to the next slot when
-- that one is empty and the current one is old enough. (A narrow slot comes round again before the retention has
-- passed, and is then never free.) The numbers of cuts go on the same way, 2^28 to a slot.
-- operation: I, U, D, T (TRUNCATE), S (snapshot). data: `rows` JSON objects joined by E',\n' (I/U/S: the row; D: key and stamp columns;
-- T: the floor's stamp columns). old: for D the old rows, joined likewise. A row-trigger row has rows = 1, packed = false.
-- The queue id of the n-th (from 0) row is id * 2^20 + n.
CREATE SEQUENCE IF NOT EXISTS "replicator".queue_id_seq CACHE 1;
CREATE TABLE IF NOT EXISTS "replicator".queue (
    id          bigint      NOT NULL DEFAULT nextval('"replicator".queue_id_seq'),
    xid         xid8        NOT NULL DEFAULT pg_current_xact_id(),
    table_id    int         NOT NULL,
    operation   "char"      NOT NULL,
    rows        int         NOT NULL,
    captured_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    data        text        NOT NULL,
    old         text
) PARTITION BY LIST (((id / 268435456) % 8));
DO $$
BEGIN
    FOR slot IN 0..7 LOOP
        EXECUTE format('CREATE TABLE IF NOT EXISTS "replicator".queue_%s PARTITION OF "replicator".queue FOR VALUES IN (%s)
                        WITH (autovacuum_vacuum_insert_threshold = -1)', slot, slot);
    END LOOP;
END $$;
-- Chunks are compressed in the application's statement: lz4, where the server has it, costs it a third of what pglz does.
DO $$
DECLARE
    slow record;
BEGIN
    FOR slow IN SELECT a.attrelid::regclass AS slot, a.attname FROM pg_partition_tree('"replicator".queue') t
                  JOIN pg_attribute a ON a.attrelid = t.relid AND a.attname IN ('data', 'old') AND a.attcompression <> 'l'
                 WHERE EXISTS (SELECT FROM pg_settings WHERE name = 'default_toast_compression' AND 'lz4' = ANY (enumvals)) LOOP
        EXECUTE format('ALTER TABLE ONLY %s ALTER COLUMN %I SET COMPRESSION lz4', slow.slot, slow.attname);
    END LOOP;
END $$;
CREATE INDEX IF NOT EXISTS queue_xid_id ON "replicator".queue (xid, id);

-- Which table goes to which channel. Append-only: a cut names the version it was taken under, so that what a cut
-- holds for a channel is decided by committed data alone (I13). A table absent from a version goes to channel 'changes'.
CREATE TABLE IF NOT EXISTS "replicator".layout (
    layout_version int  NOT NULL,
    channel        text NOT NULL,                  -- 'changes' is the default channel of frames
    partitions     int  NOT NULL CHECK (partitions > 0),
    table_ids      int[] NOT NULL,                 -- tables of this channel; for 'changes' the tables named elsewhere are left out
    PRIMARY KEY (layout_version, channel)
);
INSERT INTO "replicator".layout VALUES (1, 'changes', 1, '{}') ON CONFLICT DO NOTHING;

-- One numbering of this contour's channels, and the cluster it belongs to. A row is added when history broke.
CREATE TABLE IF NOT EXISTS "replicator".epoch (
    epoch             bigint PRIMARY KEY,
    system_identifier text   NOT NULL,
    timeline          bigint NOT NULL,
    reason            text   NOT NULL,
    opened_at         timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- Cuts: (snap_from, snap_to) decides which queue rows, frame_bytes and splitter how they are framed. Committed with
-- synchronous_commit = on before the first byte of it leaves (I1 I13).
CREATE TABLE IF NOT EXISTS "replicator".cut (
    cut_no         bigint      NOT NULL,
    epoch          bigint      NOT NULL,
    snap_from      pg_snapshot NOT NULL,
    snap_to        pg_snapshot NOT NULL,
    layout_version int         NOT NULL,
    frame_bytes    int         NOT NULL,
    splitter       text        NOT NULL,
    term           bigint      NOT NULL,
    taken_at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (cut_no, slot),
    slot           int         NOT NULL
) PARTITION BY LIST (slot);
-- slot = (cut_no / 268435456) % 4
-- For the view replication_queue: where a layout's cuts begin, and which cut holds a transaction.
CREATE INDEX IF NOT EXISTS cut_layout ON "replicator".cut (layout_version, cut_no);
CREATE INDEX IF NOT EXISTS cut_xmax ON "replicator".cut (pg_snapshot_xmax(snap_to), cut_no);

-- What each channel has had confirmed by the broker: the last row of a channel is its position. sequences[p + 1] is the
-- last sequence number of partition p.
CREATE TABLE IF NOT EXISTS "replicator".confirmed (
    channel      text        NOT NULL,
    cut_no       bigint      NOT NULL,
    epoch        bigint      NOT NULL,
    sequences    bigint[]    NOT NULL,
    term         bigint      NOT NULL,
    confirmed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    slot         int         NOT NULL,
    PRIMARY KEY (channel, cut_no, slot)
) PARTITION BY LIST (slot);
DO $$
BEGIN
    FOR slot IN 0..3 LOOP
        EXECUTE format('CREATE TABLE IF NOT EXISTS "replicator".cut_%s PARTITION OF "replicator".cut FOR VALUES IN (%s)', slot, slot);
        EXECUTE format('CREATE TABLE IF NOT EXISTS "replicator".confirmed_%s PARTITION OF "replicator".confirmed FOR VALUES IN (%s)', slot, slot);
    END LOOP;
END $$;

-- Leases: kind 'cutter' (name ''), 'snapshot' (name ''), 'channel' (name = channel), 'sync' (name = polled table), 'feed' (name = broker log and partition, at the target).
CREATE TABLE IF NOT EXISTS "replicator".lease (
    kind       text   NOT NULL,
    name       text   NOT NULL,
    owner      text   NOT NULL DEFAULT '',
    term       bigint NOT NULL DEFAULT 0,
    expires_at timestamptz NOT NULL DEFAULT '-infinity',
    PRIMARY KEY (kind, name)
) WITH (fillfactor = 50);

-- The ledger's fence: one row per (source, channel, partition), locked FOR UPDATE at the start of every apply
-- transaction and hardly ever written. The position itself is the newest row in `applied`.
CREATE TABLE IF NOT EXISTS "replicator".ledger (
    ledger_id   int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    source      text NOT NULL,
    channel     text NOT NULL,
    partition   int  NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- folded copy of the position, written only when a slot of `applied` is emptied
    epoch       bigint NOT NULL DEFAULT 0,
    sequence    bigint NOT NULL DEFAULT 0,
    cut_no      bigint NOT NULL DEFAULT 0,
    broker_identity text,
    broker_offset   text,
    -- what of the message after the position is applied already: the whole transactions before one that halted the channel
    ahead       text,
    UNIQUE (source, channel, partition)
);
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_attribute WHERE attrelid = '"replicator".ledger'::regclass AND attname = 'ahead') THEN
        ALTER TABLE "replicator".ledger ADD COLUMN ahead text;
    END IF;
END $$;

-- One row per applied frame (or batch of events), appended in the transaction that applied it.
-- chunks: JSON array of {table, operation, first_queue_id, rows, transaction}; versions: of every row, in order;
-- exceptions: JSON object ordinal -> outcome for the rows that were not simply applied (beaten, parked, duplicate).
CREATE TABLE IF NOT EXISTS "replicator".applied (
    ledger_id       int         NOT NULL,
    epoch           bigint      NOT NULL,
    sequence        bigint      NOT NULL,
    cut_no          bigint      NOT NULL,
    broker_identity text,
    broker_offset   text,
    chunks          text,
    versions        bigint[],
    exceptions      text,
    captured_at     timestamptz,                 -- of the newest change in it: the lag
    applied_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    cut_complete    boolean     NOT NULL DEFAULT false,  -- nothing more of its cut follows in this partition
    slot            int         NOT NULL,        -- (sequence / 65536) % 4
    PRIMARY KEY (ledger_id, epoch, sequence, slot)
) PARTITION BY LIST (slot);
DO $$
BEGIN
    FOR slot IN 0..3 LOOP
        EXECUTE format('CREATE TABLE IF NOT EXISTS "replicator".applied_%s PARTITION OF "replicator".applied FOR VALUES IN (%s)', slot, slot);
    END LOOP;
END $$;

DO $$
BEGIN
    -- Asked first, as for the inbox below.
    IF NOT EXISTS (SELECT FROM pg_attribute WHERE attrelid = '"replicator".applied'::regclass AND attname = 'cut_complete') THEN
        ALTER TABLE "replicator".applied ADD COLUMN cut_complete boolean NOT NULL DEFAULT false;
    END IF;
END $$;

-- Fragments of a row too large for one message, inside the transaction that receives them; empty when it commits.
CREATE TABLE IF NOT EXISTS "replicator".fragment (
    ledger_id int    NOT NULL,
    sequence  bigint NOT NULL,
    data      text   NOT NULL,
    PRIMARY KEY (ledger_id, sequence)
);

-- Parked changes and dead letters (architecture §7.4). key_columns and stamp_columns are called as at the source. facts:
-- what PostgreSQL said beside its message (constraint, column, type, function). waits: only a change of this database's
-- schema can mend it; such a change is tried for ever and never becomes a dead letter. catalog: digest of what the catalog
-- said about the table at the last attempt; another one now makes the change due. next_attempt_at infinity: a dead letter,
-- or one of many that wait for the same thing while some of them are tried.
CREATE TABLE IF NOT EXISTS "replicator".inbox (
    id              bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    event_id        uuid   NOT NULL UNIQUE,
    source_contour  text   NOT NULL,
    channel         text   NOT NULL,
    partition       int    NOT NULL,
    epoch           bigint NOT NULL,
    sequence        bigint NOT NULL,
    cut_no          bigint NOT NULL,
    transaction_id  text   NOT NULL,
    queue_id        bigint NOT NULL,
    schema_name     text   NOT NULL,
    table_name      text   NOT NULL,
    operation       text   NOT NULL,
    record_id       text,
    version         bigint,
    data            text   NOT NULL,             -- the JSON object as captured
    status          text   NOT NULL DEFAULT 'parked' CHECK (status IN ('parked', 'dead')),
    error_code      text   NOT NULL,             -- SQLSTATE or our dotted code
    error           text   NOT NULL,             -- the message, and the remedy where one is known
    attempts        int    NOT NULL DEFAULT 1,   -- counted anew when the schema stops being the cause
    next_attempt_at timestamptz NOT NULL,
    captured_at     timestamptz,
    created_at      timestamptz NOT NULL DEFAULT clock_timestamp()
);
DO $$
BEGIN
    -- Asked first: even an ALTER TABLE that finds nothing to do waits for everybody who is writing.
    IF NOT EXISTS (SELECT FROM pg_attribute WHERE attrelid = '"replicator".inbox'::regclass AND attname = 'catalog') THEN
        ALTER TABLE "replicator".inbox
            ADD COLUMN key_columns   text[],
            ADD COLUMN stamp_columns text[],
            ADD COLUMN facts         json,
            ADD COLUMN remedy        text,       -- the statement, or the act, that unblocks it
            ADD COLUMN waits         boolean NOT NULL DEFAULT false,
            ADD COLUMN catalog       text;
        DROP INDEX IF EXISTS "replicator".inbox_due;
    END IF;
END $$;
CREATE INDEX IF NOT EXISTS inbox_next ON "replicator".inbox (next_attempt_at, id);
CREATE INDEX IF NOT EXISTS inbox_table ON "replicator".inbox (schema_name, table_name, error_code, id);

-- The stamp below which a whole table's rows count as deleted (TRUNCATE). One row per TRUNCATE seen; the greatest counts.
CREATE TABLE IF NOT EXISTS "replicator".floor (
    table_id   int         NOT NULL,
    version    bigint      NOT NULL,
    updated_at timestamptz NOT NULL,
    updated_by text        NOT NULL COLLATE "C",
    PRIMARY KEY (table_id, version, updated_at, updated_by)
);

-- Keys of rows whose deletion was applied, until no transaction is left that could not see it: such a one may insert the
-- key below its tombstone, and no cheap lock closes that race (review A4). Apply looks again and lifts the row above it.
-- keys: JSON array of rows with the key's columns; NULL: the whole table (TRUNCATE).
CREATE TABLE IF NOT EXISTS "replicator".recheck (
    id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    xid      xid8 NOT NULL DEFAULT pg_current_xact_id(),
    table_id int  NOT NULL,
    keys     text
);
-- they are short-lived: compressing them costs more than their place
ALTER TABLE "replicator".recheck ALTER COLUMN keys SET STORAGE EXTERNAL;

CREATE TABLE IF NOT EXISTS "replicator".sync_state (
    table_name          text PRIMARY KEY,
    last_sync_timestamp timestamptz NOT NULL,
    last_sync_version   bigint,
    updated_at          timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- Two contours wrote a row and neither had seen the other: one line for each incoming change that met such a row, tombstone
-- or floor here, whoever won; and one for each override (law 3). local_row, incoming_row: JSON text, of a deletion its key and
-- stamp. reason: what decided. torn: some rows of its source transaction were beaten here, others not. event_id: of the
-- incoming change, as in processed_events. xid: the transaction that wrote the line.
CREATE TABLE IF NOT EXISTS "replicator".conflict_log (
    id             bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    occurred_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    source_contour text NOT NULL,
    schema_name    text NOT NULL,
    table_name     text NOT NULL,
    record_id      text NOT NULL,
    policy         text NOT NULL,
    winner         text NOT NULL CHECK (winner IN ('local', 'incoming')),
    reason         text NOT NULL,
    local_row      text,
    incoming_row   text,
    transaction_id text
);
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_attribute WHERE attrelid = '"replicator".conflict_log'::regclass AND attname = 'torn') THEN
        ALTER TABLE "replicator".conflict_log
            -- the captured change that settled it
            ADD COLUMN IF NOT EXISTS override text CHECK (override IN ('removed', 'refused', 'revived', 'detached')),
            ADD COLUMN event_id uuid,
            ADD COLUMN xid      xid8,
            ADD COLUMN torn     boolean NOT NULL DEFAULT false;
        -- apart from ADD COLUMN, which would write it into every line there is
        ALTER TABLE "replicator".conflict_log ALTER COLUMN xid SET DEFAULT pg_current_xact_id();
    END IF;
END $$;
-- A change that comes again is not logged again. A TRUNCATE has a line for each row it met.
CREATE UNIQUE INDEX IF NOT EXISTS conflict_log_once ON "replicator".conflict_log (event_id, (md5(record_id)::uuid)) WHERE event_id IS NOT NULL;
-- For the retention, and for those who look at the newest lines.
CREATE INDEX IF NOT EXISTS conflict_log_time ON "replicator".conflict_log (occurred_at, id);

-- Apply's set-wise statements call it where an incoming change meets another contour's write that it has not seen. The
-- statement ends there; the conflicts of its group are logged before it is tried again. STABLE, or it could not stand in
-- the condition of an anti join.
CREATE OR REPLACE FUNCTION "replicator".conflict_found() RETURNS boolean
LANGUAGE plpgsql STABLE SET search_path TO pg_catalog, pg_temp AS $function$
BEGIN
    IF current_setting('replicator.conflicts', true) = 'off' THEN RETURN false; END IF;
    RAISE EXCEPTION 'an incoming change meets a write of another contour' USING ERRCODE = 'RPB02';
END $function$;

-- A session that carries the consumer's mark and is not a consumer: one row per transaction.
CREATE TABLE IF NOT EXISTS "replicator".bypass_log (
    xid              xid8 PRIMARY KEY DEFAULT pg_current_xact_id(),
    session_role     text NOT NULL DEFAULT session_user,
    application_name text NOT NULL DEFAULT current_setting('application_name'),
    table_name       text NOT NULL,
    occurred_at      timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- Roles whose sessions may carry the consumer's mark; a consumer registers its own at start.
CREATE TABLE IF NOT EXISTS "replicator".consumer_role (
    role_name text PRIMARY KEY
);
