-- Prepares a database, in one transaction, twice without harm:  psql -f sql/00_master_setup.sql
-- Needs CREATE on the database (for the schema "replicator"); no superuser. Then name the contour and add tables:
--   SELECT "replicator".set_contour('active');
--   SELECT setup_table_for_replication('users');
\set ON_ERROR_STOP on
\set QUIET on
BEGIN;
SET LOCAL client_min_messages TO warning;
\ir 01_create_tables.sql
\ir 02_create_replication_trigger.sql
\ir 02a_table_plan.sql
\ir 02b_capture_functions.sql
\ir 02c_capture_triggers.sql
\ir 02d_setup_table.sql
\ir 02da_sequences.sql
\ir 02e_registration.sql
\ir 02f_views.sql
\ir 02h_periodic.sql
\ir 02ha_poll_functions.sql
\ir 02hb_sync_runs.sql
\ir 02i_snapshot.sql
\ir 02ia_snapshot_chunks.sql
\ir 02g_names_and_rights.sql
COMMIT;
