-- Tables that exist already, with rows and with applications writing. Read it, take what you need; nothing here runs by
-- itself but the survey.  psql -f sql/04_migrate_existing_tables.sql
\set ON_ERROR_STOP on

-- 1. Survey: ordinary tables, their size, whether a key can be found, what they have of the stamp columns.
SELECT c.oid::regclass AS "table", pg_size_pretty(pg_table_size(c.oid)) AS size,
       coalesce(array_to_string("replicator".find_key(c.oid, NULL), ', '), 'NONE: add a primary key') AS key,
       (SELECT string_agg(a.attname || ' ' || format_type(a.atttypid, a.atttypmod) || CASE WHEN a.attnotnull THEN '' ELSE ' NULL' END, ', ')
          FROM pg_attribute a, "replicator".local l
         WHERE a.attrelid = c.oid AND NOT a.attisdropped AND a.attname IN (l.version_column, l.updated_at_column, l.updated_by_column)) AS stamp_columns,
       r.table_id IS NOT NULL AS replicated
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  LEFT JOIN "replicator".replicated_table r ON r.relid = c.oid AND r.removed_at IS NULL
 WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relpersistence = 'p'
   AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.oid <> '"replicator"'::regnamespace
 ORDER BY 1;

-- 2. What setup would do with a table, and what may break in the application:
--      SELECT setup_table_for_replication('users', '{"dry_run": true}');
--
-- 3. Columns called version, updated_at or updated_by that mean something else (Hibernate's @Version, Rails' timestamps
--    without a zone): keep them and name others:
--      SELECT setup_table_for_replication('users', '{"columns": {"version": "row_version", "updated_at": "row_updated_at"}}');
--
-- 4. Columns made after the source designs (version BIGINT DEFAULT 1, updated_at TIMESTAMPTZ, updated_by VARCHAR(50), all
--    nullable) are taken over: setup fills NULLs and makes them NOT NULL. On a big table fill them first, in batches, so
--    that setup holds its lock for a moment only:
--      UPDATE users SET version = coalesce(version, 1), updated_at = coalesce(updated_at, '1970-01-01 00:00:00+00'),
--             updated_by = coalesce(updated_by, '')
--       WHERE id BETWEEN 1 AND 10000 AND (version IS NULL OR updated_at IS NULL OR updated_by IS NULL);
--    Contours must hold the same rows when they start: a row that differs keeps its differences until it is next written.
--
-- 5. One transaction a table. It waits for its lock in short tries, so that a live table is never blocked for long:
--      SELECT setup_table_for_replication('users');
--
-- 6. After ALTER TABLE (new, dropped or renamed columns, new partitions):
--      SELECT * FROM "replicator".stale_tables();
--      SELECT "replicator".refresh_stale_tables();
--
-- 7. Back out: SELECT remove_table_from_replication('users');
