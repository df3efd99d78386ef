-- Recomputes every counter and grant of one tenant (NULL: of all) from the ledger and the resolutions, exactly.
-- Returns one row for each figure that is not what it should be: none at rest.
CREATE OR REPLACE FUNCTION nb_verify(p_tenant uuid) RETURNS TABLE (tenant_id uuid, object text, figure text, stored bigint, derived bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
    WITH posted AS (
        SELECT l.tenant_id, p.counter, sum(p.delta)::bigint AS delta
        FROM ledger_entries l, unnest(l.counters, l.deltas) AS p (counter, delta)
        WHERE p_tenant IS NULL OR l.tenant_id = p_tenant GROUP BY 1, 2),
    consumed AS (
        SELECT r.tenant_id, p.counter, r.epoch_id, p.inc,
            sum(CASE WHEN p.live THEN least(p.first, p.held) ELSE p.held END)::bigint AS amount
        FROM hold_resolutions r,
            unnest(r.counters, r.incarnations, r.live, r.first, r.held) AS p (counter, inc, live, first, held)
        WHERE p_tenant IS NULL OR r.tenant_id = p_tenant GROUP BY 1, 2, 3, 4),
    entries AS (
        SELECT l.tenant_id, l.hold_id, sum(l.cost_nano)::bigint AS cost, count(*) AS entries
        FROM ledger_entries l WHERE p_tenant IS NULL OR l.tenant_id = p_tenant GROUP BY 1, 2)
    SELECT c.tenant_id, c.counter_id::text, 'spent', c.spent, c.opening + coalesce(p.delta, 0)
    FROM counters c LEFT JOIN posted p ON p.tenant_id = c.tenant_id AND p.counter = c.counter_id
    WHERE (p_tenant IS NULL OR c.tenant_id = p_tenant) AND c.spent <> c.opening + coalesce(p.delta, 0)
    UNION ALL
    SELECT g.tenant_id, format('%s epoch %s incarnation %s', g.counter_id, g.epoch_id, g.incarnation), 'authority',
        g.authority, g.granted - coalesce(x.amount, 0) + g.clamped
    FROM grants g LEFT JOIN consumed x ON x.tenant_id = g.tenant_id AND x.counter = g.counter_id
        AND x.epoch_id = g.epoch_id AND x.inc = g.incarnation
    WHERE (p_tenant IS NULL OR g.tenant_id = p_tenant)
        AND g.authority <> g.granted - coalesce(x.amount, 0) + g.clamped
    UNION ALL
    SELECT r.tenant_id, 'hold ' || r.hold_id, 'ledger cost_nano', r.cost_nano, coalesce(e.cost, 0)
    FROM hold_resolutions r LEFT JOIN entries e ON e.tenant_id = r.tenant_id AND e.hold_id = r.hold_id
    WHERE (p_tenant IS NULL OR r.tenant_id = p_tenant)
        AND (r.cost_nano <> coalesce(e.cost, 0) OR coalesce(e.entries, 0) <> r.revision)
$$;
