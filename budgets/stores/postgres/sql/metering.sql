-- Metering: what the ledger adds up to, by hour and by day; docs/metering.md. Nobody but the functions of this file and of
-- metering_upkeep.sql writes these tables.

-- Where an entry stands in the order in which transactions began to write: their id, shifted (see nb_rebuild_usage_begin).
-- Entries made before the column existed are numbered below zero, by nb_number_entries.
DO $$
BEGIN
    -- Once only: a rebuild may have changed the default since.
    IF NOT EXISTS (SELECT FROM pg_attribute WHERE attrelid = 'ledger_entries'::regclass AND attname = 'position') THEN
        ALTER TABLE ledger_entries ADD COLUMN position bigint NOT NULL DEFAULT 0;
        ALTER TABLE ONLY ledger_entries ALTER COLUMN position SET DEFAULT pg_current_xact_id()::text::bigint;
    END IF;
END $$;

CREATE TABLE IF NOT EXISTS usage_cursor (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    position bigint NOT NULL,           -- every entry below it is rolled up, none at or above it is
    shift bigint NOT NULL DEFAULT 0,    -- an entry's position is its transaction's id and this
    through_at timestamptz,             -- every entry committed before it is rolled up
    pending_position bigint,            -- once the cursor is here, through_at is pending_at
    pending_at timestamptz,
    hours_from timestamptz NOT NULL DEFAULT '1970-01-01 00:00:00+00',   -- older hours are pruned; days are kept
    rebuild_began_at timestamptz,       -- a rebuild is under way, and has done the days up to here
    rebuild_tenant uuid,
    rebuild_day date
);

-- A row that names the transaction that wrote it. A copy of the data into another server, where transaction ids mean
-- something else, writes it anew, and its name is wrong there; pg_upgrade, replicas and restored base backups keep it.
CREATE TABLE IF NOT EXISTS usage_home (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    written_by text NOT NULL
);

-- One row for each combination of names in one hour or day (UTC). A grain leaves out, as '', what it does not tell apart.
CREATE TABLE IF NOT EXISTS usage_rollups (
    grain text NOT NULL,
    tenant_id uuid NOT NULL,
    bucket timestamptz NOT NULL,
    key uuid NOT NULL,                  -- a digest of the names: they may be too long for an index
    project text COLLATE "C" NOT NULL,
    customer text COLLATE "C" NOT NULL,
    end_user text COLLATE "C" NOT NULL,
    plan text COLLATE "C" NOT NULL,
    api_key text COLLATE "C" NOT NULL,
    provider text COLLATE "C" NOT NULL,
    model text COLLATE "C" NOT NULL,
    tag text COLLATE "C" NOT NULL,
    value text COLLATE "C" NOT NULL,
    cost_nano bigint NOT NULL,
    presumed_nano bigint NOT NULL,      -- the part of the cost that is presumed, until somebody settles or voids it
    requests bigint NOT NULL,
    errors bigint NOT NULL,
    tokens bigint NOT NULL,
    input_tokens bigint NOT NULL,
    output_tokens bigint NOT NULL,
    cache_read_tokens bigint NOT NULL,
    cache_write_tokens bigint NOT NULL,
    cache_write_1h_tokens bigint NOT NULL,
    reasoning_tokens bigint NOT NULL,
    audio_input_tokens bigint NOT NULL,
    audio_output_tokens bigint NOT NULL,
    images bigint NOT NULL,
    tool_calls bigint NOT NULL,
    latency_ms bigint NOT NULL,         -- a sum, over so many calls that told it:
    latencies bigint NOT NULL,
    PRIMARY KEY (tenant_id, bucket, key, grain)
) PARTITION BY LIST (grain);
-- How many of the requests are presumed. Added later, so it is the last column, here and in nb_usage_sums.
ALTER TABLE usage_rollups ADD COLUMN IF NOT EXISTS presumed_requests bigint NOT NULL DEFAULT 0;
-- Rows are updated while their hour or day lasts: room on the page keeps their indexes out of it.
CREATE TABLE IF NOT EXISTS usage_hours PARTITION OF usage_rollups FOR VALUES IN ('hours') WITH (fillfactor = 80);
CREATE TABLE IF NOT EXISTS usage_days PARTITION OF usage_rollups FOR VALUES IN ('days') WITH (fillfactor = 80);
CREATE TABLE IF NOT EXISTS usage_total_hours PARTITION OF usage_rollups FOR VALUES IN ('total_hours') WITH (fillfactor = 50);
CREATE TABLE IF NOT EXISTS usage_total_days PARTITION OF usage_rollups FOR VALUES IN ('total_days') WITH (fillfactor = 50);
CREATE TABLE IF NOT EXISTS usage_tag_hours PARTITION OF usage_rollups FOR VALUES IN ('tag_hours') WITH (fillfactor = 80);
CREATE TABLE IF NOT EXISTS usage_tag_days PARTITION OF usage_rollups FOR VALUES IN ('tag_days') WITH (fillfactor = 80);
CREATE INDEX IF NOT EXISTS usage_hours_by_customer ON usage_hours (tenant_id, customer, bucket);
CREATE INDEX IF NOT EXISTS usage_days_by_customer ON usage_days (tenant_id, customer, bucket);
CREATE INDEX IF NOT EXISTS usage_hours_by_user ON usage_hours (tenant_id, end_user, bucket) WHERE end_user <> '';
CREATE INDEX IF NOT EXISTS usage_days_by_user ON usage_days (tenant_id, end_user, bucket) WHERE end_user <> '';
CREATE INDEX IF NOT EXISTS usage_tag_hours_by_tag ON usage_tag_hours (tenant_id, tag, value, bucket);
CREATE INDEX IF NOT EXISTS usage_tag_days_by_tag ON usage_tag_days (tenant_id, tag, value, bucket);
CREATE INDEX IF NOT EXISTS usage_hours_by_bucket ON usage_hours (bucket);
CREATE INDEX IF NOT EXISTS usage_total_hours_by_bucket ON usage_total_hours (bucket);
CREATE INDEX IF NOT EXISTS usage_tag_hours_by_bucket ON usage_tag_hours (bucket);

-- A sum of costs, held at what a column can hold: costs that a client told, beyond all reason, must not stop everybody's sums.
CREATE OR REPLACE FUNCTION nb_usage_bounded(p_sum numeric) RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT least(greatest(p_sum, -9223372036854775807), 9223372036854775807)::bigint
$$;

-- What entries add to the rollups: the one place that says what an entry counts for. Entries of p_tenant (NULL: of all)
-- placed in [p_from, p_until) with a position in [p_after, p_before). Hours before p_hours_from are left out.
-- A correction carries differences, and so do these sums: it takes back what revision 1 had presumed.
CREATE OR REPLACE FUNCTION nb_usage_sums(p_tenant uuid, p_from timestamptz, p_until timestamptz, p_after bigint,
    p_before bigint, p_hours_from timestamptz) RETURNS SETOF usage_rollups
LANGUAGE plpgsql STABLE SET search_path = public, pg_temp AS $$
BEGIN
    -- EXECUTE: it is planned with the values at hand, some of which choose the index.
    RETURN QUERY EXECUTE $q$
    WITH told AS (
        SELECT l.tenant_id, date_trunc('hour', l.placed_at, 'UTC') AS hour, l.project, l.customer, l.end_user, l.plan,
            l.api_key, l.provider, l.model, l.tags,
            sum(l.cost_nano) AS cost_nano,
            sum(CASE WHEN l.revision = 1 AND l.kind = 'presumed' THEN l.cost_nano ELSE coalesce(-b.before[1], 0) END)
                AS presumed_nano,
            sum(CASE WHEN l.revision = 1 AND l.kind = 'presumed' THEN l.requests ELSE coalesce(-b.before[3], 0) END)
                AS presumed_requests,
            sum(l.requests) AS requests,
            sum((l.kind <> 'voided' AND l.outcome IN ('error', 'cut'))::integer - coalesce(b.before[2], 0)) AS errors,
            sum(l.tokens) AS tokens, sum(u.input_tokens) AS input_tokens, sum(u.output_tokens) AS output_tokens,
            sum(u.cache_read_tokens) AS cache_read_tokens, sum(u.cache_write_tokens) AS cache_write_tokens,
            sum(u.cache_write_1h_tokens) AS cache_write_1h_tokens, sum(u.reasoning_tokens) AS reasoning_tokens,
            sum(u.audio_input_tokens) AS audio_input_tokens, sum(u.audio_output_tokens) AS audio_output_tokens,
            sum(u.images) AS images,
            sum(CASE WHEN u.tool_calls <> '{}' THEN
                (SELECT sum(c.count::bigint) FROM jsonb_each_text(u.tool_calls) AS c (tool, count)) END) AS tool_calls,
            sum(l.latency_ms) AS latency_ms, count(l.latency_ms) AS latencies
        FROM ledger_entries l
        LEFT JOIN LATERAL jsonb_to_record(l.usage) AS u(input_tokens bigint, output_tokens bigint, cache_read_tokens bigint,
            cache_write_tokens bigint, cache_write_1h_tokens bigint, reasoning_tokens bigint, audio_input_tokens bigint,
            audio_output_tokens bigint, images bigint, tool_calls jsonb) ON true
        -- Only a second revision can follow a presumption; so few that each looks for its first by itself.
        CROSS JOIN LATERAL (SELECT CASE WHEN l.revision = 2 THEN
            (SELECT ARRAY[f.cost_nano, (f.outcome IN ('error', 'cut'))::integer, f.requests] FROM ledger_entries f
             WHERE f.hold_id = l.hold_id AND f.placed_month = l.placed_month AND f.revision = 1 AND f.kind = 'presumed')
            END) AS b (before)
        WHERE ($4 IS NULL OR l.position >= $4) AND l.position < $5 AND ($1 IS NULL OR l.tenant_id = $1)
            AND ($2 IS NULL OR l.placed_at >= $2) AND ($3 IS NULL OR l.placed_at < $3)
            -- A write-off and the void of a call of which nothing was recorded before add nothing.
            AND l.kind <> 'written_off' AND NOT (l.kind = 'voided' AND l.revision = 1)
        GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9, 10)
    SELECT x.grain, t.tenant_id, x.bucket,
        encode(substring(sha256(convert_to(ROW(t.project, x.customer, x.end_user, x.plan, x.api_key, t.provider, t.model,
            x.tag, x.value)::text, 'UTF8')) FROM 1 FOR 16), 'hex')::uuid,
        t.project, x.customer, x.end_user, x.plan, x.api_key, t.provider, t.model, x.tag, x.value,
        nb_usage_bounded(sum(t.cost_nano)), nb_usage_bounded(sum(t.presumed_nano)), sum(t.requests)::bigint, sum(t.errors)::bigint,
        sum(t.tokens)::bigint, coalesce(sum(t.input_tokens), 0)::bigint, coalesce(sum(t.output_tokens), 0)::bigint,
        coalesce(sum(t.cache_read_tokens), 0)::bigint, coalesce(sum(t.cache_write_tokens), 0)::bigint,
        coalesce(sum(t.cache_write_1h_tokens), 0)::bigint, coalesce(sum(t.reasoning_tokens), 0)::bigint,
        coalesce(sum(t.audio_input_tokens), 0)::bigint, coalesce(sum(t.audio_output_tokens), 0)::bigint,
        coalesce(sum(t.images), 0)::bigint, coalesce(sum(t.tool_calls), 0)::bigint,
        coalesce(sum(t.latency_ms), 0)::bigint, sum(t.latencies)::bigint, sum(t.presumed_requests)::bigint
    FROM told t
    CROSS JOIN LATERAL (
        SELECT g.grain, g.bucket, g.customer, g.end_user, g.plan, g.api_key, '' AS tag, '' AS value
        FROM (VALUES ('hours', t.hour, t.customer, t.end_user, t.plan, t.api_key),
            ('days', date_trunc('day', t.hour, 'UTC'), t.customer, t.end_user, t.plan, t.api_key),
            ('total_hours', t.hour, '', '', t.plan, t.api_key),
            ('total_days', date_trunc('day', t.hour, 'UTC'), '', '', t.plan, t.api_key))
            AS g (grain, bucket, customer, end_user, plan, api_key)
        UNION ALL
        SELECT g.grain, g.bucket, t.customer, '', '', '', l.tag, l.value
        FROM jsonb_each_text(t.tags) AS l (tag, value),
            (VALUES ('tag_hours', t.hour), ('tag_days', date_trunc('day', t.hour, 'UTC'))) AS g (grain, bucket)) AS x
    WHERE x.bucket >= $6 OR x.grain IN ('days', 'total_days', 'tag_days')
    GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13$q$
    USING p_tenant, p_from, p_until, p_after, p_before, p_hours_from;
END $$;

-- Refuses to go on where positions mean nothing: after a restored dump.
CREATE OR REPLACE FUNCTION nb_usage_at_home(p_cursor usage_cursor) RETURNS boolean
LANGUAGE sql STABLE SET search_path = public, pg_temp AS $$
    SELECT EXISTS (SELECT FROM usage_home h WHERE h.written_by = h.xmin::text)
        AND p_cursor.position <= pg_snapshot_xmax(pg_current_snapshot())::text::bigint + p_cursor.shift
$$;

CREATE OR REPLACE FUNCTION nb_usage_check_home(p_cursor usage_cursor) RETURNS void
LANGUAGE plpgsql STABLE SET search_path = public, pg_temp AS $$
BEGIN
    IF NOT nb_usage_at_home(p_cursor) THEN
        RAISE EXCEPTION 'this database was restored from a dump: run manage.py usage rebuild' USING ERRCODE = '55000';
    END IF;
END $$;

-- Rolls up about p_limit entries (all of a transaction, or none), oldest first. One call at a time: another returns at once.
-- An entry is taken when every transaction that began to write no later has ended: none can appear below the cursor.
-- Returns {busy} or {entries, more, counters: [[tenant, counter]] whose spending changed, presumed: {tenant: nano newly
-- presumed}, through_ms}.
CREATE OR REPLACE FUNCTION nb_roll_usage(p_limit integer) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp SET plan_cache_mode = force_custom_plan AS $$
DECLARE
    c usage_cursor;
    v_at timestamptz := clock_timestamp();
    v_snapshot pg_snapshot;
    v_horizon bigint;
    v_newest bigint;
    v_until bigint;
    v_more boolean := true;
    v_entries bigint;
    v_counters jsonb;
    v_presumed jsonb;
BEGIN
    IF p_limit NOT BETWEEN 1 AND 100000 THEN RAISE EXCEPTION 'p_limit: between 1 and 100000, not %', p_limit; END IF;
    -- Before the lock, which gives this very transaction an id that others would have to wait for.
    SELECT pg_current_snapshot() INTO v_snapshot;
    SELECT * INTO c FROM usage_cursor FOR UPDATE SKIP LOCKED;
    IF NOT FOUND THEN RETURN jsonb_build_object('busy', true); END IF;
    PERFORM nb_usage_check_home(c);
    v_newest := pg_snapshot_xmax(v_snapshot)::text::bigint + c.shift;
    -- Another call may have gone further between our snapshot and our lock.
    v_horizon := greatest(c.position, pg_snapshot_xmin(v_snapshot)::text::bigint + c.shift);

    SELECT l.position INTO v_until FROM ledger_entries l WHERE l.position >= c.position AND l.position < v_horizon
    ORDER BY l.position OFFSET p_limit LIMIT 1;
    IF v_until IS NULL THEN
        v_until := v_horizon;
        v_more := false;
    ELSIF NOT EXISTS (SELECT FROM ledger_entries l WHERE l.position >= c.position AND l.position < v_until) THEN
        -- One transaction wrote more than p_limit: it is taken whole.
        v_until := v_until + 1;
    END IF;

    SELECT coalesce(sum(e.entries), 0), jsonb_object_agg(e.tenant_id, e.presumed) FILTER (WHERE e.presumed > 0)
    INTO v_entries, v_presumed
    FROM (SELECT l.tenant_id, count(*) AS entries,
            sum(l.cost_nano) FILTER (WHERE l.kind = 'presumed' AND l.revision = 1) AS presumed
        FROM ledger_entries l WHERE l.position >= c.position AND l.position < v_until GROUP BY 1) AS e;
    IF v_entries > 0 THEN
        SELECT jsonb_agg(jsonb_build_array(t.tenant_id, t.counter)) INTO v_counters
        FROM (SELECT DISTINCT l.tenant_id, d.counter
            FROM ledger_entries l, unnest(l.counters, l.deltas) AS d (counter, delta)
            WHERE l.position >= c.position AND l.position < v_until AND d.delta <> 0) AS t;

        INSERT INTO usage_rollups AS u
        SELECT * FROM nb_usage_sums(NULL, NULL, NULL, c.position, v_until, c.hours_from)
        ON CONFLICT (tenant_id, bucket, key, grain) DO UPDATE SET
            cost_nano = nb_usage_bounded(u.cost_nano::numeric + EXCLUDED.cost_nano),
            presumed_nano = nb_usage_bounded(u.presumed_nano::numeric + EXCLUDED.presumed_nano),
            requests = u.requests + EXCLUDED.requests,
            errors = u.errors + EXCLUDED.errors,
            tokens = u.tokens + EXCLUDED.tokens,
            input_tokens = u.input_tokens + EXCLUDED.input_tokens,
            output_tokens = u.output_tokens + EXCLUDED.output_tokens,
            cache_read_tokens = u.cache_read_tokens + EXCLUDED.cache_read_tokens,
            cache_write_tokens = u.cache_write_tokens + EXCLUDED.cache_write_tokens,
            cache_write_1h_tokens = u.cache_write_1h_tokens + EXCLUDED.cache_write_1h_tokens,
            reasoning_tokens = u.reasoning_tokens + EXCLUDED.reasoning_tokens,
            audio_input_tokens = u.audio_input_tokens + EXCLUDED.audio_input_tokens,
            audio_output_tokens = u.audio_output_tokens + EXCLUDED.audio_output_tokens,
            images = u.images + EXCLUDED.images,
            tool_calls = u.tool_calls + EXCLUDED.tool_calls,
            latency_ms = u.latency_ms + EXCLUDED.latency_ms,
            latencies = u.latencies + EXCLUDED.latencies,
            presumed_requests = u.presumed_requests + EXCLUDED.presumed_requests;
    END IF;

    -- What had committed at v_at has ids below v_newest: it is all rolled up once the cursor is there.
    UPDATE usage_cursor SET position = v_until,
        through_at = greatest(c.through_at,
            CASE WHEN v_until >= v_newest THEN v_at WHEN v_until >= c.pending_position THEN c.pending_at END),
        pending_position = CASE WHEN v_until >= v_newest THEN NULL
            WHEN v_until >= c.pending_position OR c.pending_position IS NULL THEN v_newest ELSE c.pending_position END,
        pending_at = CASE WHEN v_until >= v_newest THEN NULL
            WHEN v_until >= c.pending_position OR c.pending_position IS NULL THEN v_at ELSE c.pending_at END
    RETURNING * INTO c;
    RETURN jsonb_build_object('entries', v_entries, 'more', v_more, 'counters', coalesce(v_counters, '[]'),
        'presumed', coalesce(v_presumed, '{}'), 'through_ms', floor(extract(epoch FROM c.through_at) * 1000)::bigint);
END $$;
