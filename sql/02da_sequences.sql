-- Sequences are not replicated: where several contours insert, each needs values of its own. Contour `slot` of `slots`
-- takes the values v with v mod slots = slot mod slots: INCREMENT BY a multiple of `slots`, from a value of that class.

-- Which columns a sequence feeds: identities, defaults (also those of domains), and the column that owns a sequence which
-- the application asks itself. A partition's column counts as its root's.
CREATE OR REPLACE FUNCTION "replicator".sequence_feeds() RETURNS TABLE (sequence oid, relation oid, column_name name, identity boolean)
LANGUAGE sql STABLE SET search_path TO pg_catalog, pg_temp AS $function$
    SELECT f.sequence, coalesce(pg_partition_root(f.relation)::oid, f.relation), a.attname, bool_or(f.internal)
      FROM (SELECT d.refobjid, e.adrelid, e.adnum, false FROM pg_depend d JOIN pg_attrdef e ON e.oid = d.objid
             WHERE d.classid = 'pg_attrdef'::regclass AND d.refclassid = 'pg_class'::regclass
            UNION
            SELECT d.objid, d.refobjid, d.refobjsubid, d.deptype = 'i' FROM pg_depend d
             WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND d.deptype IN ('a', 'i') AND d.refobjsubid > 0
            UNION
            SELECT d.refobjid, u.attrelid, u.attnum, false FROM pg_depend d JOIN pg_attribute u ON u.atttypid = d.objid AND NOT u.atthasdef
             WHERE d.classid = 'pg_type'::regclass AND d.refclassid = 'pg_class'::regclass) f(sequence, relation, number, internal)
      JOIN pg_class s ON s.oid = f.sequence AND s.relkind = 'S'
      JOIN pg_class r ON r.oid = f.relation AND r.relkind IN ('r', 'p')
      JOIN pg_attribute a ON a.attrelid = f.relation AND a.attnum = f.number AND NOT a.attisdropped
     GROUP BY 1, 2, 3
$function$;

-- Those of a table whose column travels to other contours.
CREATE OR REPLACE FUNCTION "replicator".table_sequences(target regclass) RETURNS TABLE (sequence regclass, column_name name)
LANGUAGE sql STABLE SET search_path TO pg_catalog, pg_temp AS $function$
    SELECT f.sequence::regclass, f.column_name FROM "replicator".sequence_feeds() f
     WHERE f.relation = target
       AND NOT EXISTS (SELECT FROM "replicator".replicated_table r JOIN pg_class c ON c.oid = target JOIN pg_namespace n ON n.oid = c.relnamespace
                        WHERE r.removed_at IS NULL AND f.column_name = ANY (r.exclude_columns)
                          AND (r.relid = target OR (r.schema_name = n.nspname AND r.table_name = c.relname)))
$function$;

-- For a person who adds a table: the sequences that count by one, as they come.
CREATE OR REPLACE FUNCTION "replicator".sequence_notes(target regclass) RETURNS SETOF text
LANGUAGE sql STABLE SET search_path TO pg_catalog, pg_temp AS $function$
    SELECT format('note: column %I of %s takes its values from sequence %s, which is not replicated; where several contours insert, give each values of its own: replicator tables add %2$s --sequence-slot <place>/<contours>',
                  t.column_name, target, t.sequence)
      FROM "replicator".table_sequences(target) t JOIN pg_sequence s ON s.seqrelid = t.sequence
     WHERE abs(s.seqincrement) = 1
$function$;

-- DDL that makes a column a bigint. A key column is named in conditions of our triggers: those go and come again.
CREATE OR REPLACE FUNCTION "replicator".widen_sql(target regclass, name name) RETURNS text
LANGUAGE sql STABLE SET search_path TO pg_catalog, pg_temp AS $function$
    SELECT CASE WHEN EXISTS (SELECT FROM "replicator".replicated_table r WHERE r.relid = target AND r.removed_at IS NULL AND name = ANY (r.key_columns))
                THEN format('DROP TRIGGER IF EXISTS zz_replicator_2_change_key ON %1$s; DROP TRIGGER IF EXISTS zz_replicator_4_bury_key ON %1$s; ALTER TABLE %1$s ALTER COLUMN %2$I TYPE bigint; SELECT "replicator".refresh_table(%1$L)', target, name)
                ELSE format('ALTER TABLE %s ALTER COLUMN %I TYPE bigint', target, name) END
$function$;

-- What a sequence needs so that it gives values of its slot only.
--   feeds        the columns it feeds, of all tables
--   problem      why another contour may give the same values; NULL when none may. Rows that hold its next values count:
--                they have come from elsewhere. Asked of a thousand values, so that it is a matter of index look-ups.
--   statement    what mends it, for a person; command: the same as it is run here. NULL where a person has to decide
--   hint         what that person should do
--   first_value  where it goes on, counting by step
CREATE OR REPLACE FUNCTION "replicator".plan_sequence(sequence regclass, slot int, slots int,
    OUT feeds text, OUT problem text, OUT statement text, OUT command text, OUT hint text, OUT first_value numeric, OUT step bigint)
LANGUAGE plpgsql STABLE SET search_path TO pg_catalog, pg_temp AS $function$
DECLARE
    s pg_sequence;
    feed record;
    identity_of regclass;
    identity_name name;
    last numeric;
    called boolean;
    following numeric;
    highest numeric;
    reached numeric;
    taken boolean := false;
    top numeric;
    start numeric;
    options text[];
    widen text[] := '{}';
BEGIN
    SELECT * INTO STRICT s FROM pg_sequence WHERE seqrelid = plan_sequence.sequence;
    EXECUTE format('SELECT last_value, is_called FROM %s', sequence) INTO STRICT last, called;
    following := CASE WHEN called THEN last + s.seqincrement ELSE last END;
    -- with CACHE it is the last one of the last block that a session has taken
    highest := CASE WHEN called THEN last ELSE last - 1 END;
    top := s.seqmax;
    FOR feed IN SELECT f.relation::regclass AS relation, f.column_name AS name, "replicator".friendly_type(a.atttypid) AS type, f.identity
                  FROM "replicator".sequence_feeds() f JOIN pg_attribute a ON a.attrelid = f.relation AND a.attname = f.column_name
                 WHERE f.sequence = plan_sequence.sequence ORDER BY f.relation::regclass::text, f.column_name LOOP
        feeds := concat_ws(', ', feeds, format('%s.%I', feed.relation, feed.name));
        IF feed.identity THEN
            identity_of := feed.relation;
            identity_name := feed.name;
        END IF;
        CONTINUE WHEN s.seqincrement < 0 OR feed.type IS NULL OR feed.type NOT IN ('smallint', 'integer', 'bigint', 'numeric');
        IF feed.type IN ('smallint', 'integer') THEN
            top := least(top, CASE feed.type WHEN 'smallint' THEN 32767 ELSE 2147483647 END);
            widen := widen || "replicator".widen_sql(feed.relation, feed.name);
        END IF;
        EXECUTE format('SELECT max(%1$I) FROM %2$s WHERE %1$I <= %3$s', feed.name, feed.relation, s.seqmax) INTO reached;
        highest := greatest(highest, floor(reached));
        IF reached >= following AND NOT taken THEN
            EXECUTE format('SELECT EXISTS (SELECT FROM %s WHERE %I = ANY (ARRAY(SELECT v::%s FROM generate_series($1, $2, $3) v)))',
                           feed.relation, feed.name, feed.type)
               INTO taken USING following, least(following + 999 * s.seqincrement::numeric, top), s.seqincrement::numeric;
        END IF;
    END LOOP;

    problem := CASE
        WHEN mod(s.seqincrement, slots) <> 0 THEN format('it counts by %s, which is no multiple of %s', s.seqincrement, slots)
        WHEN mod(following - slot, slots) <> 0 THEN format('its next value is %s', following)
        WHEN mod(s.seqstart - slot, slots) <> 0 THEN format('it starts at %s, which TRUNCATE … RESTART IDENTITY goes back to', s.seqstart)
        WHEN s.seqcycle AND mod(CASE WHEN s.seqincrement > 0 THEN s.seqmin ELSE s.seqmax END - slot, slots) <> 0
            THEN format('it cycles to %s', CASE WHEN s.seqincrement > 0 THEN s.seqmin ELSE s.seqmax END)
        WHEN taken THEN format('rows hold values it would give from %s on', following) END;
    IF problem IS NULL THEN
        RETURN;
    ELSIF s.seqincrement < 0 THEN
        hint := 'It counts down and is left alone: let it count up, or give each contour a range of its own by hand';
        RETURN;
    END IF;
    step := CASE WHEN mod(s.seqincrement, slots) = 0 THEN s.seqincrement ELSE slots END;
    first_value := highest + 1 + mod(mod(slot - highest - 1, slots) + slots, slots);
    IF first_value > top THEN
        hint := format('BEGIN; %s; COMMIT;', array_to_string(widen || format('ALTER SEQUENCE %s AS bigint NO MAXVALUE', sequence), '; '));
        RETURN;
    END IF;
    start := s.seqstart + mod(mod(slot - s.seqstart, slots) + slots, slots);
    options := ARRAY[format('START WITH %s', CASE WHEN start > top THEN first_value ELSE start END), format('INCREMENT BY %s', step)];
    IF s.seqcycle THEN
        options := format('MINVALUE %s', s.seqmin + mod(mod(slot - s.seqmin, slots) + slots, slots)) || options;
    END IF;
    command := format('ALTER SEQUENCE %s %s RESTART WITH %s', sequence, array_to_string(options, ' '), first_value);
    statement := CASE WHEN identity_of IS NULL THEN command
                      ELSE format('ALTER TABLE %s ALTER COLUMN %I SET %s RESTART WITH %s', identity_of, identity_name,
                                  array_to_string(options, ' SET '), first_value) END;
END $function$;

-- The sequences of the replicated tables that other contours may meet, each once.
CREATE OR REPLACE FUNCTION "replicator".sequence_findings(slot int, slots int)
RETURNS TABLE (sequence text, feeds text, table_name text, problem text, statement text, hint text)
LANGUAGE sql STABLE SET search_path TO pg_catalog, pg_temp AS $function$
    SELECT q.sequence::text, p.feeds, q.first_table, p.problem, p.statement, p.hint
      FROM (SELECT t.sequence, min(c.oid::regclass::text) AS first_table
              FROM "replicator".replicated_table r
              JOIN pg_namespace n ON n.nspname = r.schema_name
              JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = r.table_name
             CROSS JOIN LATERAL "replicator".table_sequences(c.oid) t
             WHERE r.removed_at IS NULL GROUP BY t.sequence) q
     CROSS JOIN LATERAL "replicator".plan_sequence(q.sequence, slot, slots) p
     WHERE p.problem IS NOT NULL ORDER BY 1
$function$;

-- Gives every sequence of a table values of slot `slot` of `slots` only; one that has them already is left as it is. Each is
-- locked before its last value is read, in short tries, for nextval() waits for that lock: so no value is given twice.
CREATE OR REPLACE FUNCTION "replicator".set_sequence_slot(target regclass, slot int, slots int, dry_run boolean DEFAULT false) RETURNS SETOF text
LANGUAGE plpgsql SET search_path TO pg_catalog, pg_temp SET lock_timeout TO '500ms' AS $function$
DECLARE
    item record;
    plan record;
    lines text[];
BEGIN
    IF slot IS NULL OR slots IS NULL OR slot < 1 OR slot > slots THEN
        RAISE EXCEPTION 'there is no slot %/%', slot, slots USING ERRCODE = 'invalid_parameter_value',
            HINT = 'A slot is the place of this contour among all: 1/2 and 2/2 for two contours.';
    END IF;
    FOR attempt IN 1..30 LOOP
        BEGIN
            lines := '{}';
            FOR item IN SELECT DISTINCT t.sequence, s.seqincrement FROM "replicator".table_sequences(target) t
                          JOIN pg_sequence s ON s.seqrelid = t.sequence ORDER BY 1 LOOP
                SELECT * INTO plan FROM "replicator".plan_sequence(item.sequence, slot, slots);
                IF plan.command IS NOT NULL AND NOT dry_run THEN
                    -- changes nothing and takes the lock
                    EXECUTE format('ALTER SEQUENCE %s INCREMENT BY %s', item.sequence, item.seqincrement);
                    SELECT * INTO plan FROM "replicator".plan_sequence(item.sequence, slot, slots);
                END IF;
                IF plan.problem IS NULL THEN
                    lines := lines || format('%s: sequence %s gives values of slot %s/%s only', target, item.sequence, slot, slots);
                ELSIF plan.command IS NULL AND plan.first_value IS NULL THEN
                    lines := lines || format('note: sequence %s, which feeds %s, was not changed; %s: %s', item.sequence, plan.feeds, plan.problem, plan.hint);
                ELSIF plan.command IS NULL THEN
                    RAISE EXCEPTION 'cannot give sequence % slot %/%: it would go on at %, above the largest value it or its column can hold',
                        item.sequence, slot, slots, plan.first_value USING ERRCODE = 'sequence_generator_limit_exceeded', HINT = plan.hint;
                ELSIF dry_run THEN
                    lines := lines || (plan.command || ';');
                ELSE
                    EXECUTE plan.command;
                    lines := lines || format('%s: sequence %s goes on at %s, counting by %s (slot %s/%s)', target, item.sequence, plan.first_value, plan.step, slot, slots);
                END IF;
            END LOOP;
            IF lines = '{}' THEN
                lines := ARRAY[format('%s: no sequence feeds a column of it', target)];
            END IF;
            RETURN QUERY SELECT unnest(lines);
            RETURN;
        EXCEPTION WHEN lock_not_available THEN
            PERFORM pg_sleep(0.2 + random() * 0.6);
        END;
    END LOOP;
    RAISE EXCEPTION 'cannot lock the sequences of %: other transactions hold them since % tries', target, 30 USING ERRCODE = 'lock_not_available',
        HINT = 'End the long transaction (pg_stat_activity, pg_locks) and run it again; nothing was changed.';
END $function$;
