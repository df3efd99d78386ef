-- The checker's minute: what the ledger got since the last one is added to sums kept here, and the counters and grants that
-- it touched are compared with those sums; docs/reliability.md, "The checker". So a minute costs what a minute brought, not
-- what the ledger holds. nb_verify stays the judge: it recomputes a tenant from nothing. Nobody but these functions writes
-- these tables, and nothing here ever mends a figure.

CREATE TABLE IF NOT EXISTS verify_cursor (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    position bigint NOT NULL,   -- every entry below it is in the sums, none at or above it is
    shift bigint NOT NULL       -- usage_cursor's, under which positions were counted: another one begins anew
);
CREATE TABLE IF NOT EXISTS verified_counters (
    tenant_id uuid NOT NULL,
    counter_id uuid NOT NULL,
    posted bigint NOT NULL,                 -- the sum of the ledger's deltas below the cursor
    due boolean NOT NULL DEFAULT true,      -- to be compared; stays so while it differs
    PRIMARY KEY (tenant_id, counter_id)
) WITH (fillfactor = 70);
CREATE INDEX IF NOT EXISTS verified_counters_due ON verified_counters (tenant_id) WHERE due;
CREATE TABLE IF NOT EXISTS verified_grants (
    tenant_id uuid NOT NULL,
    counter_id uuid NOT NULL,
    epoch_id uuid NOT NULL,
    incarnation integer NOT NULL,
    consumed bigint NOT NULL,               -- what first postings took of its authority
    due boolean NOT NULL DEFAULT true,
    PRIMARY KEY (tenant_id, counter_id, epoch_id, incarnation)
) WITH (fillfactor = 70);
CREATE INDEX IF NOT EXISTS verified_grants_due ON verified_grants (tenant_id) WHERE due;
-- Holds whose resolution is not what their entries add up to: kept until it is.
CREATE TABLE IF NOT EXISTS verified_holds (
    tenant_id uuid NOT NULL,
    hold_id uuid NOT NULL,
    placed_month date NOT NULL,
    PRIMARY KEY (hold_id, placed_month)
);
-- When each tenant was last recomputed from nothing, and with how many differences.
CREATE TABLE IF NOT EXISTS verify_turns (
    tenant_id uuid PRIMARY KEY,
    tried_at timestamptz NOT NULL,
    recounted_at timestamptz,               -- NULL: not done in time yet
    differences integer NOT NULL DEFAULT 0
);
-- The last round of each part, for whoever watches.
CREATE TABLE IF NOT EXISTS verify_checks (
    part text PRIMARY KEY CHECK (part IN ('changes', 'redis', 'recount')),
    finished_at timestamptz NOT NULL,
    took_ms bigint NOT NULL,
    looked_at bigint NOT NULL,
    differences bigint NOT NULL,
    behind bigint NOT NULL,                 -- what was due and not looked at
    details jsonb NOT NULL
);

-- Adds about p_limit entries (all of a transaction, or none) to the sums; compares what is due once nothing more is to be
-- added. One call at a time. An entry is taken when every transaction that began to write no later has ended.
-- Returns {busy} | {moved}: a restored dump, see nb_usage_check_home | {entries, more, compared, wrong: [[tenant, object,
-- figure, stored, derived]]}; compared is NULL while more is to be added.
CREATE OR REPLACE FUNCTION nb_verify_changes(p_limit integer) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp SET plan_cache_mode = force_custom_plan AS $$
DECLARE
    c verify_cursor;
    u usage_cursor;
    v_snapshot pg_snapshot;
    v_until bigint;
    v_horizon bigint;
    v_entries bigint;
    v_compared bigint;
    v_wrong jsonb;
    v_holds jsonb;
BEGIN
    IF p_limit NOT BETWEEN 1 AND 100000 THEN RAISE EXCEPTION 'p_limit: between 1 and 100000, not %', p_limit; END IF;
    -- Before the lock, which gives this very transaction an id that it would have to wait for.
    SELECT pg_current_snapshot() INTO v_snapshot;
    SELECT * INTO c FROM verify_cursor FOR UPDATE SKIP LOCKED;
    IF NOT FOUND THEN RETURN jsonb_build_object('busy', true); END IF;
    SELECT * INTO STRICT u FROM usage_cursor;
    IF NOT nb_usage_at_home(u) THEN RETURN jsonb_build_object('moved', true); END IF;
    IF c.shift <> u.shift THEN
        TRUNCATE verified_counters, verified_grants, verified_holds;
        c.position := -9223372036854775808;
    END IF;
    v_horizon := greatest(c.position, pg_snapshot_xmin(v_snapshot)::text::bigint + u.shift);
    SELECT l.position INTO v_until FROM ledger_entries l WHERE l.position >= c.position AND l.position < v_horizon
    ORDER BY l.position OFFSET p_limit LIMIT 1;
    IF v_until IS NOT NULL
        AND NOT EXISTS (SELECT FROM ledger_entries l WHERE l.position >= c.position AND l.position < v_until) THEN
        v_until := v_until + 1;
    END IF;

    WITH fresh AS MATERIALIZED (
        SELECT l.tenant_id, l.hold_id, l.placed_month, l.revision, l.counters, l.deltas FROM ledger_entries l
        WHERE l.position >= c.position AND l.position < coalesce(v_until, v_horizon)),
    posted AS (
        INSERT INTO verified_counters AS v (tenant_id, counter_id, posted)
        SELECT f.tenant_id, d.counter, sum(d.delta)::bigint FROM fresh f, unnest(f.counters, f.deltas) AS d (counter, delta)
        GROUP BY 1, 2
        ON CONFLICT (tenant_id, counter_id) DO UPDATE SET posted = v.posted + EXCLUDED.posted, due = true),
    consumed AS (
        INSERT INTO verified_grants AS v (tenant_id, counter_id, epoch_id, incarnation, consumed)
        SELECT r.tenant_id, p.counter, r.epoch_id, p.inc,
            sum(CASE WHEN p.live THEN least(p.first, p.held) ELSE p.held END)::bigint
        FROM fresh f JOIN hold_resolutions r ON r.hold_id = f.hold_id AND r.placed_month = f.placed_month,
            unnest(r.counters, r.incarnations, r.live, r.first, r.held) AS p (counter, inc, live, first, held)
        WHERE f.revision = 1 GROUP BY 1, 2, 3, 4
        ON CONFLICT (tenant_id, counter_id, epoch_id, incarnation) DO UPDATE SET
            consumed = v.consumed + EXCLUDED.consumed, due = true),
    wrong AS (
        INSERT INTO verified_holds (tenant_id, hold_id, placed_month)
        SELECT h.tenant_id, h.hold_id, h.placed_month
        FROM (SELECT DISTINCT f.tenant_id, f.hold_id, f.placed_month FROM fresh f) AS h
        WHERE nb_verify_hold(h.tenant_id, h.hold_id, h.placed_month) IS NOT NULL
        ON CONFLICT DO NOTHING)
    SELECT count(*) INTO v_entries FROM fresh;
    UPDATE verify_cursor SET position = coalesce(v_until, v_horizon), shift = u.shift;
    IF v_until IS NOT NULL THEN
        RETURN jsonb_build_object('entries', v_entries, 'more', true, 'compared', NULL, 'wrong', '[]'::jsonb);
    END IF;

    -- One snapshot of figures, sums and the entries that are not in the sums yet: whatever is in flight, they agree.
    WITH tail AS MATERIALIZED (
        SELECT l.tenant_id, l.hold_id, l.placed_month, l.revision, l.counters, l.deltas
        FROM ledger_entries l WHERE l.position >= v_horizon),
    tail_posted AS (
        SELECT t.tenant_id, d.counter, sum(d.delta)::bigint AS delta FROM tail t, unnest(t.counters, t.deltas) AS d (counter, delta)
        GROUP BY 1, 2),
    tail_consumed AS (
        SELECT r.tenant_id, p.counter, r.epoch_id, p.inc,
            sum(CASE WHEN p.live THEN least(p.first, p.held) ELSE p.held END)::bigint AS amount
        FROM tail t JOIN hold_resolutions r ON r.hold_id = t.hold_id AND r.placed_month = t.placed_month,
            unnest(r.counters, r.incarnations, r.live, r.first, r.held) AS p (counter, inc, live, first, held)
        WHERE t.revision = 1 GROUP BY 1, 2, 3, 4),
    counted AS MATERIALIZED (
        SELECT v.tenant_id, v.counter_id, k.spent, k.opening + v.posted + coalesce(t.delta, 0) AS derived
        FROM verified_counters v
        LEFT JOIN counters k ON k.tenant_id = v.tenant_id AND k.counter_id = v.counter_id
        LEFT JOIN tail_posted t ON t.tenant_id = v.tenant_id AND t.counter = v.counter_id
        WHERE v.due),
    granted AS MATERIALIZED (
        SELECT v.tenant_id, v.counter_id, v.epoch_id, v.incarnation, g.authority,
            g.granted + g.clamped - v.consumed - coalesce(t.amount, 0) AS derived
        FROM verified_grants v
        LEFT JOIN grants g ON g.tenant_id = v.tenant_id AND g.counter_id = v.counter_id AND g.epoch_id = v.epoch_id
            AND g.incarnation = v.incarnation
        LEFT JOIN tail_consumed t ON t.tenant_id = v.tenant_id AND t.counter = v.counter_id AND t.epoch_id = v.epoch_id
            AND t.inc = v.incarnation
        WHERE v.due),
    right_counters AS (
        UPDATE verified_counters v SET due = false FROM counted x
        WHERE v.tenant_id = x.tenant_id AND v.counter_id = x.counter_id AND x.spent = x.derived),
    right_grants AS (
        UPDATE verified_grants v SET due = false FROM granted x
        WHERE v.tenant_id = x.tenant_id AND v.counter_id = x.counter_id AND v.epoch_id = x.epoch_id
            AND v.incarnation = x.incarnation AND x.authority = x.derived),
    -- Counters of hours are pruned once they are long over.
    pruned_counters AS (
        DELETE FROM verified_counters v USING counted x
        WHERE v.tenant_id = x.tenant_id AND v.counter_id = x.counter_id AND x.spent IS NULL),
    pruned_grants AS (
        DELETE FROM verified_grants v USING granted x
        WHERE v.tenant_id = x.tenant_id AND v.counter_id = x.counter_id AND v.epoch_id = x.epoch_id
            AND v.incarnation = x.incarnation AND x.authority IS NULL)
    SELECT (SELECT count(*) FROM counted) + (SELECT count(*) FROM granted),
        (SELECT jsonb_agg(jsonb_build_array(w.tenant_id, w.object, w.figure, w.stored, w.derived)) FROM (
            SELECT x.tenant_id, x.counter_id::text AS object, 'spent' AS figure, x.spent AS stored, x.derived
            FROM counted x WHERE x.spent <> x.derived
            UNION ALL
            SELECT x.tenant_id, format('%s epoch %s incarnation %s', x.counter_id, x.epoch_id, x.incarnation), 'authority',
                x.authority, x.derived
            FROM granted x WHERE x.authority <> x.derived
            LIMIT 1000) AS w)
    INTO v_compared, v_wrong;
    DELETE FROM verified_holds h WHERE nb_verify_hold(h.tenant_id, h.hold_id, h.placed_month) IS NULL;
    SELECT jsonb_agg(jsonb_build_array(h.tenant_id, 'hold ' || h.hold_id, 'ledger cost_nano', w.figures[1], w.figures[2]))
    INTO v_holds
    FROM (SELECT * FROM verified_holds LIMIT 1000) AS h, nb_verify_hold(h.tenant_id, h.hold_id, h.placed_month) AS w (figures)
    WHERE w.figures IS NOT NULL;
    RETURN jsonb_build_object('entries', v_entries, 'more', false, 'compared', v_compared,
        'wrong', coalesce(v_wrong, '[]') || coalesce(v_holds, '[]'));
END $$;

-- {stored, derived} cost of a hold's resolution if it is not what its entries add up to, one a revision; else NULL.
CREATE OR REPLACE FUNCTION nb_verify_hold(p_tenant uuid, p_hold uuid, p_month date) RETURNS bigint[]
LANGUAGE sql STABLE SET search_path = public, pg_temp AS $$
    SELECT ARRAY[coalesce(r.cost_nano, 0), e.cost]
    FROM (SELECT coalesce(sum(l.cost_nano), 0)::bigint AS cost, count(*) AS entries FROM ledger_entries l
        WHERE l.hold_id = p_hold AND l.placed_month = p_month AND l.tenant_id = p_tenant) AS e
    LEFT JOIN hold_resolutions r ON r.hold_id = p_hold AND r.placed_month = p_month AND r.tenant_id = p_tenant
    WHERE r.cost_nano IS DISTINCT FROM e.cost OR r.revision <> e.entries
$$;

-- The tenants whose turn it is to be recomputed from nothing: those that differed, then those that waited longest.
CREATE OR REPLACE FUNCTION nb_verify_next(p_limit integer) RETURNS SETOF uuid
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
    SELECT t.id FROM tenants_tenant t LEFT JOIN verify_turns v ON v.tenant_id = t.id
    ORDER BY coalesce(v.differences, 0) > 0 DESC, v.tried_at NULLS FIRST, t.id LIMIT p_limit
$$;

-- Notes a turn; p_differences NULL: it was not done in time.
CREATE OR REPLACE FUNCTION nb_verify_turn(p_tenant uuid, p_differences integer) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS $$
    INSERT INTO verify_turns AS v (tenant_id, tried_at, recounted_at, differences)
    VALUES (p_tenant, now(), CASE WHEN p_differences IS NULL THEN NULL ELSE now() END, coalesce(p_differences, 0))
    ON CONFLICT (tenant_id) DO UPDATE SET tried_at = now(),
        recounted_at = coalesce(EXCLUDED.recounted_at, v.recounted_at),
        differences = CASE WHEN p_differences IS NULL THEN v.differences ELSE p_differences END
$$;

-- Notes the end of one part of a round.
CREATE OR REPLACE FUNCTION nb_verify_note(p_part text, p_took_ms bigint, p_looked_at bigint, p_differences bigint,
    p_behind bigint, p_details jsonb) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS $$
    INSERT INTO verify_checks VALUES (p_part, now(), p_took_ms, p_looked_at, p_differences, p_behind, p_details)
    ON CONFLICT (part) DO UPDATE SET finished_at = EXCLUDED.finished_at, took_ms = EXCLUDED.took_ms,
        looked_at = EXCLUDED.looked_at, differences = EXCLUDED.differences, behind = EXCLUDED.behind,
        details = EXCLUDED.details
$$;

INSERT INTO verify_cursor (position, shift)
SELECT -9223372036854775808, u.shift FROM usage_cursor u ON CONFLICT DO NOTHING;

DO $$
DECLARE
    f text;
BEGIN
    REVOKE ALL ON verify_cursor, verified_counters, verified_grants, verified_holds, verify_turns, verify_checks FROM PUBLIC;
    FOREACH f IN ARRAY ARRAY['noburn_app', 'noburn_gateway'] LOOP
        IF to_regrole(f) IS NOT NULL THEN
            EXECUTE format('REVOKE ALL ON verify_cursor, verified_counters, verified_grants, verified_holds, verify_turns,'
                ' verify_checks FROM %I', f);
        END IF;
    END LOOP;
    IF to_regrole('noburn_app') IS NOT NULL THEN
        GRANT SELECT ON verify_turns, verify_checks TO noburn_app;
    END IF;
    FOREACH f IN ARRAY ARRAY['nb_verify_changes(integer)', 'nb_verify_hold(uuid, uuid, date)', 'nb_verify_next(integer)',
        'nb_verify_turn(uuid, integer)', 'nb_verify_note(text, bigint, bigint, bigint, bigint, jsonb)']
    LOOP
        EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', f);
        IF to_regrole('noburn_app') IS NOT NULL AND f NOT LIKE 'nb_verify_hold%' THEN
            EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO noburn_app', f);
        END IF;
    END LOOP;
END $$;
