-- The log of decisions: what POST /v1/preflight answered, and why. It is no money: see docs/decisions.md.
--
-- Ids are UUIDs of version 7 that the database gives while it holds the one row of decision_clock, so their order is the
-- order in which batches become visible: whoever has read up to an id misses nothing that is logged later. Partitions are
-- the days of those ids. decided_at is up to an hour earlier than its id says (a batch that waited for the database).

CREATE TABLE IF NOT EXISTS decisions (
    tenant_id uuid NOT NULL,
    id uuid NOT NULL,
    decided_at timestamptz NOT NULL,
    reason text,
    hold_id uuid,
    api_key uuid NOT NULL,
    policy_version bigint NOT NULL,
    project text,
    customer text,
    end_user text,
    run text,
    plan text,
    tags jsonb,
    provider text,
    model text,
    price_id text,
    input_tokens bigint NOT NULL,
    cached_input_tokens bigint,
    cap_asked bigint,
    cap bigint,
    n smallint NOT NULL,
    images integer NOT NULL,
    audio boolean NOT NULL,
    tools jsonb,
    service_tier text,
    fingerprint text,
    estimate_nano bigint,
    own_nano bigint,
    fit boolean NOT NULL,
    wait_ms integer NOT NULL,
    waited_ms integer NOT NULL,
    ttl_seconds integer NOT NULL,
    budget_id uuid,
    subject text,
    metric text,
    limit_amount bigint,
    remaining bigint,
    room bigint,
    shadow uuid[],
    guard_id uuid,
    guards_observed uuid[],
    PRIMARY KEY (tenant_id, id)
) PARTITION BY RANGE (id);
CREATE TABLE IF NOT EXISTS decisions_default PARTITION OF decisions DEFAULT;
CREATE INDEX IF NOT EXISTS decisions_by_customer ON decisions (tenant_id, customer, id);
CREATE INDEX IF NOT EXISTS decisions_refusing ON decisions (tenant_id, id) WHERE reason IS NOT NULL OR shadow IS NOT NULL;

-- Decisions that were made and are not in the log: its gaps, of which it tells.
CREATE TABLE IF NOT EXISTS decision_gaps (
    tenant_id uuid NOT NULL,
    id uuid NOT NULL,
    started_at timestamptz NOT NULL,
    ended_at timestamptz NOT NULL,
    dropped bigint NOT NULL CHECK (dropped > 0),
    why text NOT NULL CHECK (why IN ('full', 'late', 'refused')),
    PRIMARY KEY (tenant_id, id)
);

-- The last batch of each gateway process, so that one whose answer was lost can be sent again.
CREATE TABLE IF NOT EXISTS decision_writers (
    writer uuid PRIMARY KEY,
    batch bigint NOT NULL,
    written_at timestamptz NOT NULL DEFAULT now()
);

-- The millisecond of the newest batch.
CREATE TABLE IF NOT EXISTS decision_clock (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    ms bigint NOT NULL
);
INSERT INTO decision_clock (ms) VALUES (0) ON CONFLICT DO NOTHING;

-- How a call came to its model, and what policies may look at beside: {asked, policy, rule, budget, task, output, steps,
-- used_ppm}, each where there is something to say.
ALTER TABLE decisions ADD COLUMN IF NOT EXISTS routed jsonb;

-- The smallest id of an instant.
CREATE OR REPLACE FUNCTION nb_decision_floor(p_at timestamptz) RETURNS uuid
LANGUAGE sql IMMUTABLE SET search_path = public, pg_temp AS $$
    SELECT (lpad(to_hex(greatest(0, floor(extract(epoch FROM p_at) * 1000))::bigint), 12, '0') || repeat('0', 20))::uuid
$$;

-- Writes one batch of a gateway's records, and notes when their API keys were last used. rows: [{the columns, with at_us for decided_at}], where what is left out is the
-- default; lost: [{tenant, dropped, from_us, to_us, why}]. Times are microseconds of the clock that said p_now_us a moment
-- ago, so that only this server's clock counts. False: this batch was written before.
-- An id says: the batch's millisecond, how long after p_from_us (the batch's oldest) it was decided, 32 random bits.
CREATE OR REPLACE FUNCTION nb_log_decisions(p_writer uuid, p_batch bigint, p_rows json, p_lost json, p_from_us bigint,
    p_now_us bigint) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    v_ms text;
BEGIN
    -- A log may lose its last moments where the server dies; then it loses the writers' rows as well, and stays consistent.
    PERFORM set_config('synchronous_commit', 'off', true);
    INSERT INTO decision_writers AS w (writer, batch) VALUES (p_writer, p_batch)
    ON CONFLICT (writer) DO UPDATE SET batch = EXCLUDED.batch, written_at = now() WHERE w.batch < EXCLUDED.batch;
    IF NOT FOUND THEN RETURN false; END IF;
    -- Batches queue up here until the one before is visible.
    UPDATE decision_clock SET ms = greatest(ms + 1, floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint)
    RETURNING lpad(to_hex(ms), 12, '0') INTO STRICT v_ms;
    INSERT INTO decisions (tenant_id, id, decided_at, reason, hold_id, api_key, policy_version, project, customer, end_user,
        run, plan, tags, provider, model, price_id, input_tokens, cached_input_tokens, cap_asked, cap, n, images, audio, tools,
        service_tier, fingerprint, estimate_nano, own_nano, fit, wait_ms, waited_ms, ttl_seconds, budget_id, subject, metric,
        limit_amount, remaining, room, shadow, guard_id, guards_observed, routed)
    SELECT r.tenant_id,
        (v_ms || '7' || left(q.us, 3) || '8' || right(q.us, 6) || substr(gen_random_uuid()::text, 1, 8) || '0')::uuid,
        now() - make_interval(secs => (p_now_us - r.at_us) / 1e6), r.reason, r.hold_id, r.api_key, r.policy_version,
        r.project, r.customer, r.end_user, r.run, r.plan, r.tags, r.provider, r.model, r.price_id,
        coalesce(r.input_tokens, 0), r.cached_input_tokens, r.cap_asked, r.cap, coalesce(r.n, 1), coalesce(r.images, 0),
        coalesce(r.audio, false), r.tools, r.service_tier, r.fingerprint, r.estimate_nano, r.own_nano,
        coalesce(r.fit, false), coalesce(r.wait_ms, 0), coalesce(r.waited_ms, 0), coalesce(r.ttl_seconds, 0), r.budget_id,
        r.subject, r.metric, r.limit_amount, r.remaining, r.room, r.shadow, r.guard_id, r.guards_observed, r.routed
    FROM json_to_recordset(p_rows) AS r(tenant_id uuid, at_us bigint, reason text, hold_id uuid, api_key uuid,
        policy_version bigint, project text, customer text, end_user text, run text, plan text, tags jsonb, provider text,
        model text, price_id text, input_tokens bigint, cached_input_tokens bigint, cap_asked bigint, cap bigint, n smallint,
        images integer, audio boolean, tools jsonb, service_tier text, fingerprint text, estimate_nano bigint,
        own_nano bigint, fit boolean, wait_ms integer, waited_ms integer, ttl_seconds integer, budget_id uuid, subject text,
        metric text, limit_amount bigint, remaining bigint, room bigint, shadow uuid[], guard_id uuid,
        guards_observed uuid[], routed jsonb),
        LATERAL (SELECT lpad(to_hex(greatest(0, r.at_us - p_from_us)), 9, '0') AS us) AS q;
    INSERT INTO decision_gaps (tenant_id, id, started_at, ended_at, dropped, why)
    SELECT l.tenant, (v_ms || '7' || substr(replace(gen_random_uuid()::text, '-', ''), 14))::uuid,
        now() - make_interval(secs => (p_now_us - l.from_us) / 1e6), now() - make_interval(secs => (p_now_us - l.to_us) / 1e6),
        l.dropped, l.why
    FROM json_to_recordset(p_lost) AS l(tenant uuid, dropped bigint, from_us bigint, to_us bigint, why text);
    -- Coarse, and passing by keys that an edit holds: nobody waits for a note of when a key was used.
    UPDATE tenants_apikey k SET last_used_at = now()
    FROM (SELECT a.id FROM tenants_apikey a
        WHERE a.id IN (SELECT r.api_key FROM json_to_recordset(p_rows) AS r(api_key uuid))
            AND (a.last_used_at IS NULL OR a.last_used_at < now() - interval '5 minutes')
        ORDER BY a.id FOR NO KEY UPDATE SKIP LOCKED) AS used
    WHERE k.id = used.id;
    RETURN true;
END $$;

-- The application reads the log and prunes it through functions; the gateway can only add to it. Partitions say so
-- themselves, since what default privileges grant on them does not pass through their parent.
CREATE OR REPLACE FUNCTION nb_close_decisions() RETURNS void
LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
DECLARE
    v_table regclass;
    v_partition boolean;
BEGIN
    FOR v_table, v_partition IN
        SELECT t, false FROM unnest(ARRAY['decisions', 'decision_gaps', 'decision_writers', 'decision_clock']::regclass[]) AS t
        UNION ALL SELECT inhrelid::regclass, true FROM pg_inherits WHERE inhparent = 'decisions'::regclass
    LOOP
        EXECUTE format('REVOKE ALL ON %s FROM PUBLIC', v_table);
        IF to_regrole('noburn_app') IS NOT NULL THEN
            EXECUTE format('REVOKE ALL ON %s FROM noburn_app', v_table);
            EXECUTE format('GRANT SELECT ON %s TO noburn_app', v_table);
        END IF;
        IF to_regrole('noburn_across') IS NOT NULL THEN
            EXECUTE format('REVOKE ALL ON %s FROM noburn_across', v_table);
            EXECUTE format('GRANT SELECT ON %s TO noburn_across', v_table);
        END IF;
        IF to_regrole('noburn_gateway') IS NOT NULL THEN
            EXECUTE format('REVOKE ALL ON %s FROM noburn_gateway', v_table);
        END IF;
        IF v_partition AND to_regprocedure('nb_isolate(regclass)') IS NOT NULL THEN PERFORM nb_isolate(v_table); END IF;
    END LOOP;
END $$;

-- Makes the partitions of p_days days from p_from on. Repeatable. A day whose rows lie in the default partition already
-- stays there: moving them would keep every reader and writer waiting.
CREATE OR REPLACE FUNCTION nb_make_decision_partitions(p_from date, p_days integer) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp SET lock_timeout = '3s' AS $$
DECLARE
    v_day date := p_from;
    v_made integer := 0;
BEGIN
    IF p_days NOT BETWEEN 1 AND 90 THEN RAISE EXCEPTION 'p_days: between 1 and 90, not %', p_days; END IF;
    PERFORM pg_advisory_xact_lock(420019);
    FOR i IN 1 .. p_days LOOP
        IF to_regclass('decisions_' || to_char(v_day, 'YYYYMMDD')) IS NULL THEN
            BEGIN
                EXECUTE format('CREATE TABLE %I PARTITION OF decisions FOR VALUES FROM (%L) TO (%L)',
                    'decisions_' || to_char(v_day, 'YYYYMMDD'), nb_decision_floor(v_day::timestamp AT TIME ZONE 'UTC'),
                    nb_decision_floor((v_day + 1)::timestamp AT TIME ZONE 'UTC'));
                v_made := v_made + 1;
            EXCEPTION WHEN check_violation THEN
                RAISE NOTICE 'decisions of % stay in the default partition', v_day;
            END;
        END IF;
        v_day := v_day + 1;
    END LOOP;
    IF v_made > 0 THEN PERFORM nb_close_decisions(); END IF;
    RETURN v_made;
END $$;
