-- Pruning. Nothing here touches a ledger entry or a resolution; docs/decisions.md, "Retention".

-- Drops the days of decisions that are over for every tenant. Returns how many.
CREATE OR REPLACE FUNCTION nb_drop_decision_days(p_now timestamptz) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp SET lock_timeout = '3s' AS $$
DECLARE
    v_longest integer;
    v_table regclass;
    v_dropped integer := 0;
BEGIN
    SELECT coalesce(max(decision_retention_days), 30) INTO v_longest FROM tenants_tenant;
    PERFORM pg_advisory_xact_lock(420019);
    FOR v_table IN
        SELECT c.oid FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
        WHERE i.inhparent = 'decisions'::regclass AND c.relname ~ '^decisions_[0-9]{8}$'
            AND to_date(right(c.relname, 8), 'YYYYMMDD') + 1 <= ((p_now AT TIME ZONE 'UTC') - make_interval(days => v_longest))::date
        ORDER BY c.relname
    LOOP
        EXECUTE format('DROP TABLE %s', v_table);
        v_dropped := v_dropped + 1;
    END LOOP;
    RETURN v_dropped;
END $$;

-- The days whose partitions may hold what some tenant keeps no longer, oldest first; NULL first, for the default partition.
CREATE OR REPLACE FUNCTION nb_decision_days(p_now timestamptz) RETURNS SETOF date
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
    SELECT NULL::date
    UNION ALL
    SELECT q.day FROM (SELECT to_date(right(c.relname, 8), 'YYYYMMDD') AS day
        FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
        WHERE i.inhparent = 'decisions'::regclass AND c.relname ~ '^decisions_[0-9]{8}$' ORDER BY 1) AS q
    WHERE q.day < (p_now AT TIME ZONE 'UTC')::date
$$;

-- Deletes at most p_limit decisions of one day (NULL: of the default partition) that are older than their tenant keeps them,
-- by whole days. Returns how many: fewer than p_limit means that none is left. Looks at each tenant of the day once, by
-- stepping through the index, since most have nothing to delete. With the default partition go gaps, and forgotten writers.
CREATE OR REPLACE FUNCTION nb_prune_decisions(p_now timestamptz, p_day date, p_limit integer) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    v_table regclass := to_regclass('decisions_' || coalesce(to_char(p_day, 'YYYYMMDD'), 'default'));
    v_today timestamp := date_trunc('day', p_now AT TIME ZONE 'UTC');
    v_deleted integer;
BEGIN
    IF p_limit NOT BETWEEN 1 AND 100000 THEN RAISE EXCEPTION 'p_limit: between 1 and 100000, not %', p_limit; END IF;
    IF p_day IS NULL THEN
        DELETE FROM decision_gaps g USING tenants_tenant t WHERE t.id = g.tenant_id
            AND g.id < nb_decision_floor((v_today - make_interval(days => t.decision_retention_days)) AT TIME ZONE 'UTC');
        DELETE FROM decision_writers WHERE written_at < p_now - interval '2 days';
    END IF;
    -- Dropped meanwhile by another worker.
    IF v_table IS NULL THEN RETURN 0; END IF;
    EXECUTE format($sql$
        WITH RECURSIVE here AS (
            (SELECT tenant_id FROM %1$s ORDER BY tenant_id LIMIT 1)
            UNION ALL
            SELECT (SELECT n.tenant_id FROM %1$s n WHERE n.tenant_id > h.tenant_id ORDER BY n.tenant_id LIMIT 1)
            FROM here h WHERE h.tenant_id IS NOT NULL),
        old AS (
            SELECT t.id AS tenant_id, d.id
            FROM here h JOIN tenants_tenant t ON t.id = h.tenant_id,
                LATERAL (SELECT x.id FROM %1$s x WHERE x.tenant_id = t.id
                    AND x.id < nb_decision_floor(($1 - make_interval(days => t.decision_retention_days)) AT TIME ZONE 'UTC')
                    LIMIT $2) AS d
            LIMIT $2)
        DELETE FROM %1$s d USING old WHERE d.tenant_id = old.tenant_id AND d.id = old.id$sql$, v_table)
    USING v_today, p_limit;
    GET DIAGNOSTICS v_deleted = ROW_COUNT;
    RETURN v_deleted;
END $$;

-- Deletes at most p_limit counters, with their grants, of windows of an hour or less, and of runs, that ended before p_before. Only those
-- whose figures are final: no live incarnation, no answer from Redis outstanding, no authority that anything could still
-- resolve or a person write off. A late settlement finds no counter, and is recorded in ledger and resolutions all the
-- same; nothing else of such a window is asked for again, since no hold can be placed in one that is over. Counts of new
-- subjects of the same windows go as well. Returns how many counters went.
CREATE OR REPLACE FUNCTION nb_prune_counters(p_before timestamptz, p_limit integer) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    v_tenants uuid[];
    v_counters uuid[];
BEGIN
    IF p_limit NOT BETWEEN 1 AND 100000 THEN RAISE EXCEPTION 'p_limit: between 1 and 100000, not %', p_limit; END IF;
    IF p_before > now() - interval '1 day' THEN
        RAISE EXCEPTION 'counters are kept for a day after their window, at least' USING ERRCODE = '22023';
    END IF;
    SELECT array_agg(q.tenant_id), array_agg(q.counter_id) INTO v_tenants, v_counters
    FROM (SELECT o.tenant_id, o.counter_id
        FROM (SELECT c.tenant_id, c.counter_id FROM counters c
            WHERE c.ends_at < p_before AND (c.ends_at - c.starts_at <= interval '1 hour'
                    OR c.budget_id IN (SELECT b.id FROM budgets_budget b WHERE b.scope = 'run_cap' AND b.tenant_id = c.tenant_id))
                AND NOT EXISTS (SELECT 1 FROM grants g WHERE g.tenant_id = c.tenant_id AND g.counter_id = c.counter_id
                    AND (g.state = 'live' OR g.authority > 0 OR g.state = 'retired' AND g.answered_at IS NULL))
            ORDER BY c.ends_at LIMIT p_limit) AS o
        JOIN counters k ON k.tenant_id = o.tenant_id AND k.counter_id = o.counter_id
        ORDER BY o.counter_id FOR UPDATE OF k SKIP LOCKED) AS q;
    IF v_counters IS NOT NULL THEN
        -- Under the locks nobody adds a grant or changes one, but somebody may have before: looked at once more.
        SELECT array_agg(t), array_agg(k) INTO v_tenants, v_counters
        FROM unnest(v_tenants, v_counters) AS x (t, k)
        WHERE NOT EXISTS (SELECT 1 FROM grants g WHERE g.tenant_id = x.t AND g.counter_id = x.k
            AND (g.state = 'live' OR g.authority > 0 OR g.state = 'retired' AND g.answered_at IS NULL));
        DELETE FROM grants g USING unnest(v_tenants, v_counters) AS x (t, k)
        WHERE g.tenant_id = x.t AND g.counter_id = x.k;
        DELETE FROM counters c USING unnest(v_tenants, v_counters) AS x (t, k)
        WHERE c.tenant_id = x.t AND c.counter_id = x.k;
        -- The checker drops its sums of counters that are gone (verify_changes.sql).
        UPDATE verified_counters v SET due = true FROM unnest(v_tenants, v_counters) AS x (t, k)
        WHERE v.tenant_id = x.t AND v.counter_id = x.k;
        UPDATE verified_grants v SET due = true FROM unnest(v_tenants, v_counters) AS x (t, k)
        WHERE v.tenant_id = x.t AND v.counter_id = x.k;
    END IF;
    WITH old AS (
        SELECT s.tenant_id, s.budget_id, s.starts_at FROM budgets_budget b
        JOIN counter_subjects s ON s.tenant_id = b.tenant_id AND s.budget_id = b.id
            AND s.starts_at < p_before - interval '1 hour'
        WHERE b.window_kind = 'hour' LIMIT p_limit)
    DELETE FROM counter_subjects s USING old
    WHERE s.tenant_id = old.tenant_id AND s.budget_id = old.budget_id AND s.starts_at = old.starts_at;
    RETURN coalesce(cardinality(v_counters), 0);
END $$;

-- The owner alone executes what has no grant yet: the application prunes, the gateway does not.
DO $$
DECLARE
    f text;
BEGIN
    FOREACH f IN ARRAY ARRAY['nb_log_decisions(uuid, bigint, json, json, bigint, bigint)', 'nb_decision_floor(timestamptz)',
        'nb_close_decisions()', 'nb_make_decision_partitions(date, integer)', 'nb_drop_decision_days(timestamptz)',
        'nb_decision_days(timestamptz)', 'nb_prune_decisions(timestamptz, date, integer)', 'nb_prune_counters(timestamptz, integer)']
    LOOP
        EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', f);
        IF to_regrole('noburn_app') IS NOT NULL AND f <> 'nb_close_decisions()' THEN
            EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO noburn_app', f);
        END IF;
    END LOOP;
    IF to_regrole('noburn_gateway') IS NOT NULL THEN
        GRANT EXECUTE ON FUNCTION nb_log_decisions(uuid, bigint, json, json, bigint, bigint) TO noburn_gateway;
    END IF;
END $$;
