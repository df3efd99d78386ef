-- Partitions by month, and who may touch them: nobody but the functions, through their parent.

-- Takes from everybody what default privileges gave on a table's partitions: a right on a partition does not pass through its
-- parent, so that a ledger whose parent is closed could be altered month by month.
CREATE OR REPLACE FUNCTION nb_close_partitions(p_parent regclass) RETURNS void
LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
DECLARE
    v_table regclass;
    v_role text;
BEGIN
    FOR v_table IN SELECT inhrelid::regclass FROM pg_inherits WHERE inhparent = p_parent LOOP
        EXECUTE format('REVOKE ALL ON %s FROM PUBLIC', v_table);
        FOREACH v_role IN ARRAY ARRAY['noburn_app', 'noburn_across', 'noburn_gateway'] LOOP
            IF to_regrole(v_role) IS NOT NULL THEN
                EXECUTE format('REVOKE ALL ON %s FROM %I', v_table, v_role);
            END IF;
        END LOOP;
        -- Nobody comes to it past its parent; should a right be given one day, its rows are a tenant's all the same.
        IF to_regprocedure('nb_isolate(regclass)') IS NOT NULL THEN PERFORM nb_isolate(v_table); END IF;
    END LOOP;
END $$;

-- Makes the partitions of the months from the one of p_from on. Repeatable; months are made ahead by a task.
-- Rows of such a month may wait in the default partition already, where the task was away for months: they are moved.
CREATE OR REPLACE FUNCTION nb_make_partitions(p_from date, p_months integer) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    v_month date := date_trunc('month', p_from);
    v_made integer := 0;
    v_table text;
    v_name text;
BEGIN
    IF p_months NOT BETWEEN 1 AND 24 THEN RAISE EXCEPTION 'p_months: between 1 and 24, not %', p_months; END IF;
    PERFORM pg_advisory_xact_lock(420018);
    FOR i IN 1 .. p_months LOOP
        FOREACH v_table IN ARRAY ARRAY['hold_resolutions', 'ledger_entries'] LOOP
            v_name := v_table || '_' || to_char(v_month, 'YYYYMM');
            IF to_regclass(v_name) IS NULL THEN
                -- Made apart, filled, then attached: a partition cannot be made over rows of the default one.
                EXECUTE format('CREATE TABLE %I (LIKE %I INCLUDING DEFAULTS INCLUDING CONSTRAINTS)', v_name, v_table);
                EXECUTE format('LOCK TABLE %I IN ACCESS EXCLUSIVE MODE', v_table || '_default');
                EXECUTE format('WITH moved AS (DELETE FROM %1$I WHERE placed_month >= %3$L AND placed_month < %4$L RETURNING *)'
                    ' INSERT INTO %2$I SELECT * FROM moved',
                    v_table || '_default', v_name, v_month, v_month + interval '1 month');
                EXECUTE format('ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)',
                    v_table, v_name, v_month, v_month + interval '1 month');
                v_made := v_made + 1;
            END IF;
        END LOOP;
        v_month := v_month + interval '1 month';
    END LOOP;
    IF v_made > 0 THEN
        PERFORM nb_close_partitions('hold_resolutions'), nb_close_partitions('ledger_entries');
    END IF;
    RETURN v_made;
END $$;
