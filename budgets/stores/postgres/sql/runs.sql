-- Runs: what started them may use, which of them go on, and what they used. Rules: docs/runs.md.
--
-- A run's caps are written at its start and never change; its USD and its steps are counters of the escrow, one for each,
-- of the two rows of budgets_budget with the scope run_cap (their ids are the caller's, made of the tenant's).
-- A record, as gateways hold it: {run, version, state, parents, caps: [{run, metric, limit}], ends (ms), ends_by, depth,
-- reason}: caps are those of the run and of all runs above it; depth: how many levels of runs may still be below.
-- Locks: a run's rows from the root on; never after counters.

CREATE OR REPLACE FUNCTION nb_run_record(r budgets_run) RETURNS jsonb
LANGUAGE sql STABLE SET search_path = public, pg_temp AS $$
    SELECT jsonb_build_object('run', r.run, 'version', r.version, 'state', r.state, 'parents', r.parents,
        'ends', (extract(epoch FROM r.ends_at) * 1000)::bigint, 'ends_by', r.ends_by, 'depth', r.depth_left,
        'reason', r.reason, 'caps', (
            SELECT coalesce(jsonb_agg(jsonb_build_object('run', q.run, 'metric', k.metric, 'limit', k.amount)
                ORDER BY cardinality(q.parents) DESC, k.metric DESC), '[]')
            FROM budgets_run q, LATERAL (VALUES ('usd', q.cap_nano), ('requests', q.cap_steps)) AS k (metric, amount)
            WHERE q.tenant_id = r.tenant_id AND (q.run = r.run OR q.run = ANY (r.parents)) AND k.amount IS NOT NULL))
$$;

-- A run as people see it.
CREATE OR REPLACE FUNCTION nb_run_shown(r budgets_run) RETURNS jsonb
LANGUAGE sql STABLE SET search_path = public, pg_temp AS $$
    SELECT jsonb_build_object('id', r.id, 'parent', r.parent, 'cap_nano', r.cap_nano, 'cap_steps', r.cap_steps,
        'cap_seconds', r.cap_seconds, 'cap_depth', r.cap_depth, 'started', (extract(epoch FROM r.started_at) * 1000)::bigint,
        'closed', (extract(epoch FROM r.closed_at) * 1000)::bigint)
$$;

-- Starts a run. p: {id, run, parent, digest, project, customer, user, metadata, cap_nano, cap_steps, cap_seconds, cap_depth,
-- idle_seconds}; p_budgets: the ids of the rows for USD and for steps.
-- Returns {outcome, record, shown}: started | replayed (the same request) | conflict (another request, or other calls'
-- stopped run) | no_parent | parent_over | depth | too_many; where a parent stands in the way, the record is its.
CREATE OR REPLACE FUNCTION nb_run_start(p_tenant uuid, p jsonb, p_budgets uuid[], p_open_max integer) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    r budgets_run;
    parent budgets_run;
    v_now timestamptz := clock_timestamp();
    v_ends timestamptz;
    v_ends_by text := '';
    v_depth smallint;
BEGIN
    SELECT * INTO r FROM budgets_run WHERE tenant_id = p_tenant AND run = p ->> 'run';
    IF FOUND THEN
        RETURN jsonb_build_object('outcome', CASE WHEN r.digest = p ->> 'digest' THEN 'replayed' ELSE 'conflict' END,
            'record', nb_run_record(r), 'shown', nb_run_shown(r));
    END IF;
    IF p ->> 'parent' IS NOT NULL THEN
        SELECT * INTO parent FROM budgets_run WHERE tenant_id = p_tenant AND run = p ->> 'parent';
        IF NOT FOUND OR (p ->> 'project' <> '' AND parent.project <> '' AND parent.project <> p ->> 'project') THEN
            RETURN '{"outcome": "no_parent"}';
        END IF;
        -- Whoever closes one of them waits, and then finds the run that is made here.
        PERFORM 1 FROM budgets_run WHERE tenant_id = p_tenant AND run = ANY (parent.parents || parent.run)
        ORDER BY cardinality(parents) FOR SHARE;
        SELECT * INTO parent FROM budgets_run WHERE tenant_id = p_tenant AND run = p ->> 'parent';
        IF parent.state <> 'open' OR parent.ends_at <= v_now THEN
            RETURN jsonb_build_object('outcome', 'parent_over', 'record', nb_run_record(parent), 'shown', nb_run_shown(parent));
        END IF;
        IF parent.depth_left <= 0 THEN
            RETURN jsonb_build_object('outcome', 'depth', 'record', nb_run_record(parent), 'shown', nb_run_shown(parent));
        END IF;
        v_ends := parent.ends_at;
        v_ends_by := parent.ends_by;
    END IF;
    IF (SELECT count(*) FROM (SELECT 1 FROM budgets_run WHERE tenant_id = p_tenant AND state = 'open' LIMIT p_open_max) AS o)
        >= p_open_max THEN
        RETURN '{"outcome": "too_many"}';
    END IF;
    INSERT INTO budgets_budget (tenant_id, id, version, name, scope, subject, metric, window_kind, limit_amount, action,
        estimate, on_expiry, on_epoch_close, thresholds, effective_at)
    SELECT p_tenant, k.id, 1, k.name, 'run_cap', '*', k.metric, 'total', 0, 'block', 'ceiling', 'presume', 'strict', '{}', v_now
    FROM (VALUES (p_budgets[1], 'USD of runs', 'usd'), (p_budgets[2], 'Steps of runs', 'requests')) AS k (id, name, metric)
    WHERE NOT EXISTS (SELECT 1 FROM budgets_budget b WHERE b.tenant_id = p_tenant AND b.id = k.id)
    ORDER BY k.id
    ON CONFLICT DO NOTHING;
    IF p ->> 'cap_seconds' IS NOT NULL
        AND (v_ends IS NULL OR v_now + make_interval(secs => (p ->> 'cap_seconds')::integer) < v_ends) THEN
        v_ends := v_now + make_interval(secs => (p ->> 'cap_seconds')::integer);
        v_ends_by := p ->> 'run';
    END IF;
    v_depth := least((p ->> 'cap_depth')::smallint, coalesce(parent.depth_left - 1, 7));
    INSERT INTO budgets_run (id, tenant_id, run, version, state, parent, parents, depth_left, cap_nano, cap_steps, cap_seconds,
        cap_depth, ends_at, ends_by, idle_seconds, project, customer, end_user, metadata, digest, started_at, last_seen_at,
        reason, closed_by)
    VALUES ((p ->> 'id')::uuid, p_tenant, p ->> 'run', 1, 'open', p ->> 'parent',
        CASE WHEN parent.run IS NULL THEN '{}' ELSE parent.parents || parent.run END, v_depth, (p ->> 'cap_nano')::bigint,
        (p ->> 'cap_steps')::bigint, (p ->> 'cap_seconds')::integer, (p ->> 'cap_depth')::smallint, v_ends, v_ends_by,
        (p ->> 'idle_seconds')::integer, p ->> 'project', p ->> 'customer', p ->> 'user', p -> 'metadata', p ->> 'digest',
        v_now, v_now, '', '')
    ON CONFLICT (tenant_id, run) DO NOTHING RETURNING * INTO r;
    IF NOT FOUND THEN
        SELECT * INTO r FROM budgets_run WHERE tenant_id = p_tenant AND run = p ->> 'run';
        RETURN jsonb_build_object('outcome', CASE WHEN r.digest = p ->> 'digest' THEN 'replayed' ELSE 'conflict' END,
            'record', nb_run_record(r), 'shown', nb_run_shown(r));
    END IF;
    RETURN jsonb_build_object('outcome', 'started', 'record', nb_run_record(r), 'shown', nb_run_shown(r));
END $$;

-- The record of a run that is being used; NULL: nobody started or stopped it. Notes that it and the runs above it live.
CREATE OR REPLACE FUNCTION nb_run_seen(p_tenant uuid, p_run text) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    r budgets_run;
BEGIN
    SELECT * INTO r FROM budgets_run WHERE tenant_id = p_tenant AND run = p_run;
    IF NOT FOUND THEN RETURN NULL; END IF;
    IF r.state = 'open' AND r.last_seen_at < now() - interval '30 seconds' THEN
        UPDATE budgets_run q SET last_seen_at = now()
        FROM (SELECT id FROM budgets_run
            WHERE tenant_id = p_tenant AND run = ANY (r.parents || r.run) AND state = 'open'
            ORDER BY cardinality(parents) FOR NO KEY UPDATE SKIP LOCKED) AS o
        WHERE q.id = o.id;
    END IF;
    RETURN nb_run_record(r);
END $$;

-- Closes a run and every run below it that is open. p_state: stopped or ended. p_project: only a run of this project ('':
-- any). A run that nobody started can be stopped all the same: calls name it. A run that is closed stays as it is.
-- Returns {now: whether this call closed it, records: [those closed, the run itself first], shown}, or NULL: no such run.
CREATE OR REPLACE FUNCTION nb_run_close(p_tenant uuid, p_run text, p_state text, p_reason text, p_by text, p_project text,
    p_id uuid, p_budgets uuid[]) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    r budgets_run;
    v_runs text[];
BEGIN
    IF p_state NOT IN ('stopped', 'ended') THEN RAISE EXCEPTION 'p_state: stopped or ended, not %', p_state; END IF;
    SELECT * INTO r FROM budgets_run WHERE tenant_id = p_tenant AND run = p_run FOR UPDATE;
    IF NOT FOUND THEN
        IF p_state = 'ended' THEN RETURN NULL; END IF;
        INSERT INTO budgets_run (id, tenant_id, run, version, state, parents, depth_left, ends_by, idle_seconds, project, customer,
            end_user, metadata, digest, started_at, last_seen_at, closed_at, reason, closed_by)
        VALUES (p_id, p_tenant, p_run, 1, 'stopped', '{}', 0, '', 3600, p_project, '', '', '{}', '', now(), now(), now(),
            p_reason, p_by)
        ON CONFLICT (tenant_id, run) DO NOTHING RETURNING * INTO r;
        IF FOUND THEN
            RETURN jsonb_build_object('now', true, 'records', jsonb_build_array(nb_run_record(r)), 'shown', nb_run_shown(r));
        END IF;
        SELECT * INTO STRICT r FROM budgets_run WHERE tenant_id = p_tenant AND run = p_run FOR UPDATE;
    END IF;
    IF p_project <> '' AND r.project <> p_project THEN RETURN NULL; END IF;
    IF r.state <> 'open' THEN
        RETURN jsonb_build_object('now', false, 'records', jsonb_build_array(nb_run_record(r)), 'shown', nb_run_shown(r));
    END IF;
    PERFORM 1 FROM budgets_run WHERE tenant_id = p_tenant AND parents @> ARRAY[p_run]::varchar[] AND state = 'open'
    ORDER BY cardinality(parents), run FOR UPDATE;
    WITH closed AS (
        UPDATE budgets_run SET version = version + 1, state = p_state, closed_at = now(), closed_by = p_by,
            reason = CASE WHEN run = p_run THEN p_reason ELSE 'parent' END
        WHERE tenant_id = p_tenant AND state = 'open' AND (run = p_run OR parents @> ARRAY[p_run]::varchar[])
        RETURNING run)
    SELECT array_agg(run) INTO v_runs FROM closed;
    -- From here on their counters are as those of a window that is over: the sweep retires them once no hold can be open.
    PERFORM 1 FROM counters WHERE tenant_id = p_tenant AND budget_id = ANY (p_budgets) AND subject = ANY (v_runs)
    ORDER BY counter_id FOR UPDATE;
    UPDATE counters SET ends_at = now()
    WHERE tenant_id = p_tenant AND budget_id = ANY (p_budgets) AND subject = ANY (v_runs) AND ends_at IS NULL;
    SELECT * INTO STRICT r FROM budgets_run WHERE tenant_id = p_tenant AND run = p_run;
    RETURN jsonb_build_object('now', true, 'shown', nb_run_shown(r), 'records', (
        SELECT jsonb_agg(nb_run_record(q) ORDER BY cardinality(q.parents)) FROM budgets_run q
        WHERE q.tenant_id = p_tenant AND q.run = ANY (v_runs)));
END $$;

-- Runs whose time is over: idle, or past their seconds. Returns [{tenant, run, why}], those that wait longest first.
CREATE OR REPLACE FUNCTION nb_run_due(p_limit integer) RETURNS jsonb
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
    SELECT coalesce(jsonb_agg(d), '[]') FROM (
        SELECT tenant_id AS tenant, run, CASE WHEN ends_at < now() THEN 'seconds' ELSE 'idle' END AS why
        FROM budgets_run
        WHERE state = 'open' AND (ends_at < now() - interval '1 minute'
            OR last_seen_at < now() - make_interval(secs => idle_seconds))
        ORDER BY last_seen_at, id LIMIT p_limit) AS d
$$;

-- What a run and all below it used, and what was refused of them, as ledger and log of decisions have it now.
CREATE OR REPLACE FUNCTION nb_run_summary(p_tenant uuid, p_run text) RETURNS jsonb
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp SET plan_cache_mode = force_custom_plan AS $$
    WITH r AS (SELECT * FROM budgets_run WHERE tenant_id = p_tenant AND run = p_run),
    runs AS (SELECT run FROM budgets_run WHERE tenant_id = p_tenant AND (run = p_run OR parents @> ARRAY[p_run]::varchar[])),
    used AS (
        SELECT l.model, sum(l.requests) AS calls, sum(l.cost_nano) AS cost_nano, sum(l.tokens) AS tokens
        FROM ledger_entries l, r
        WHERE l.tenant_id = p_tenant AND l.run IN (SELECT run FROM runs)
            AND l.placed_at >= r.started_at - interval '1 minute'
            AND l.placed_at < coalesce(r.closed_at, now()) + interval '1 minute'
            AND l.placed_month >= date_trunc('month', (r.started_at - interval '1 minute') AT TIME ZONE 'UTC')::date
        GROUP BY l.model),
    refused AS (
        SELECT d.reason, count(*) AS calls FROM decisions d, r
        WHERE d.tenant_id = p_tenant AND d.id >= nb_decision_floor(r.started_at - interval '1 minute')
            AND d.id < nb_decision_floor(coalesce(r.closed_at, now()) + interval '1 hour')
            AND d.reason IS NOT NULL AND d.run IN (SELECT run FROM runs)
        GROUP BY d.reason)
    SELECT jsonb_build_object('calls', coalesce((SELECT sum(calls) FROM used), 0),
        'cost_nano', coalesce((SELECT sum(cost_nano) FROM used), 0),
        'tokens', coalesce((SELECT sum(tokens) FROM used), 0),
        'runs', (SELECT count(*) FROM runs),
        'models', coalesce((SELECT jsonb_agg(jsonb_build_object('model', m.model, 'calls', m.calls, 'cost_nano', m.cost_nano,
            'tokens', m.tokens)) FROM (SELECT * FROM used ORDER BY cost_nano DESC, model LIMIT 50) AS m), '[]'),
        'refused', coalesce((SELECT jsonb_object_agg(reason, calls) FROM refused), '{}'))
$$;

DO $$
BEGIN
    IF to_regrole('noburn_gateway') IS NOT NULL THEN
        GRANT EXECUTE ON FUNCTION nb_run_start(uuid, jsonb, uuid[], integer), nb_run_seen(uuid, text),
            nb_run_close(uuid, text, text, text, text, text, uuid, uuid[]), nb_run_summary(uuid, text) TO noburn_gateway;
    END IF;
END $$;
