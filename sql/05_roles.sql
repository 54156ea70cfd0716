-- Group roles and their rights. Run once by a role that may create roles and owns the schema "replicator" (or a superuser);
-- twice does no harm. The application's role appears nowhere: it needs no right on our objects.
--
--   psql -f sql/05_roles.sql
--   CREATE ROLE replicator LOGIN PASSWORD '…' IN ROLE replicator_publisher, replicator_consumer;
--
-- Rights on tables set up later follow by themselves: setup_table_for_replication grants them where the roles exist.
DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['replicator_publisher', 'replicator_consumer'] LOOP
        IF to_regrole(name) IS NULL THEN
            EXECUTE format('CREATE ROLE %I NOLOGIN', name);
            EXECUTE format('COMMENT ON ROLE %I IS %L', name, 'replicator: group role, see sql/05_roles.sql');
        END IF;
    END LOOP;
    PERFORM "replicator".grant_rights();

    -- The consumer applies with session_replication_role = replica where it may (architecture §7.7): the right to set it
    -- can be granted from PostgreSQL 15 on, by a superuser. Without it the consumer works in origin mode.
    IF current_setting('server_version_num')::int >= 150000 THEN
        BEGIN
            EXECUTE 'GRANT SET ON PARAMETER session_replication_role TO replicator_consumer';
        EXCEPTION WHEN insufficient_privilege THEN
            RAISE WARNING 'session_replication_role was not granted to replicator_consumer: let a superuser run GRANT SET ON PARAMETER session_replication_role TO replicator_consumer';
        END;
    END IF;
END $$;
