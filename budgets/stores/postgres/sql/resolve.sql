-- The smaller of each pair, in order.
CREATE OR REPLACE FUNCTION nb_least(p_one bigint[], p_other bigint[]) RETURNS bigint[]
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT ARRAY(SELECT least(p.one, p.other)
        FROM unnest(p_one, p_other) WITH ORDINALITY AS p (one, other, at) ORDER BY p.at)
$$;

-- What Redis keeps of a lease: what was drawn of it, and what its end posted.
CREATE OR REPLACE FUNCTION nb_kept(p_first bigint[], p_leased bigint[], p_held bigint[]) RETURNS bigint[]
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT ARRAY(SELECT p.leased - p.held + least(p.first, p.held)
        FROM unnest(p_first, p_leased, p_held) WITH ORDINALITY AS p (first, leased, held, at) ORDER BY p.at)
$$;

-- Group commit of resolutions; docs/escrow.md, "Resolving". One call, one transaction, many tenants.
-- items: at most one for a hold: {hold, month, tenant, shard, epoch, state, digest (hex), older (hex: the digest that an
--   earlier release would have made, or null), flags, counters[], incs[], held[], posted[], held_cost, cost, tokens,
--   requests, and the ledger's columns: placed_at (ms), key, project, customer, end_user, run, plan, tags, provider, model,
--   reported_model, price_id, origin (of the cost), usage, outcome, latency_ms, note}
-- Returns {results: [{hold, outcome: "first"|"corrected"|"replayed"|"conflict", state, revision, cost, held_cost, live[],
--   first[]}], messages: [load messages]}. live and first are left out where this very posting was the first and every
--   counter took the live branch: nearly always. A conflict with what another tenant holds tells nothing of it. cost and
--   revision are the resolution's own, whatever it was re-rated to since: a replay is told what the first one was told.
CREATE OR REPLACE FUNCTION nb_resolve(p_items jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    v_rows hold_resolutions[];
    v_results jsonb;
    v_messages jsonb;
BEGIN
    PERFORM nb_lock_shards(ARRAY(SELECT (x ->> 'shard')::integer FROM jsonb_array_elements(p_items) AS x));

    WITH done AS (
        INSERT INTO hold_resolutions AS r (hold_id, placed_month, tenant_id, epoch_id, state, flags, counters, incarnations,
            held, live, first, posted, held_cost_nano, cost_nano, tokens, requests, usage_digest)
        SELECT i.hold, i.month, i.tenant, i.epoch, i.state, i.flags, i.counters, i.incs, i.held,
            ARRAY(SELECT e.state IS NOT NULL AND g.state IS NOT NULL
                FROM unnest(i.counters, i.incs) WITH ORDINALITY AS p (counter, inc, at)
                LEFT JOIN epochs e ON e.epoch_id = i.epoch AND e.state = 'open'
                LEFT JOIN grants g ON g.tenant_id = i.tenant AND g.counter_id = p.counter AND g.epoch_id = i.epoch
                    AND g.incarnation = p.inc AND g.state = 'live'
                ORDER BY p.at),
            i.posted, i.posted, i.held_cost, i.cost, i.tokens, i.requests, decode(i.digest, 'hex')
        FROM jsonb_to_recordset(p_items) AS i(hold uuid, month date, tenant uuid, epoch uuid, state text, flags text[],
            counters uuid[], incs integer[], held bigint[], posted bigint[], held_cost bigint, cost bigint, tokens bigint,
            requests smallint, digest text)
        ORDER BY i.hold
        ON CONFLICT (hold_id, placed_month) DO UPDATE SET
            state = EXCLUDED.state,
            flags = r.flags || EXCLUDED.flags || CASE r.state WHEN 'voided' THEN ARRAY['after_void']
                WHEN 'leased' THEN '{}'::text[] ELSE ARRAY['late'] END,
            -- A lease of which calls were drawn: this is its first posting, of what nobody drew (its row's `held`).
            live = CASE WHEN r.state = 'leased' THEN EXCLUDED.live ELSE r.live END,
            first = CASE WHEN r.state = 'leased' THEN nb_least(EXCLUDED.posted, r.held) ELSE r.first END,
            posted_before = CASE WHEN r.state = 'leased' THEN NULL ELSE r.posted END,
            posted = CASE WHEN r.state = 'leased' THEN nb_least(EXCLUDED.posted, r.held) ELSE EXCLUDED.posted END,
            cost_before_nano = r.cost_nano,
            cost_nano = CASE WHEN r.state = 'leased' THEN least(EXCLUDED.cost_nano, r.held_cost_nano)
                ELSE EXCLUDED.cost_nano END,
            tokens_before = r.tokens, tokens = EXCLUDED.tokens,
            requests_before = r.requests, requests = EXCLUDED.requests,
            usage_digest = EXCLUDED.usage_digest, revision = r.revision + 1, updated_at = now()
        WHERE r.tenant_id = EXCLUDED.tenant_id AND cardinality(r.counters) = cardinality(EXCLUDED.counters)
            AND ((r.state = 'presumed' AND EXCLUDED.state IN ('settled', 'voided'))
                OR (r.state = 'voided' AND EXCLUDED.state = 'settled')
                OR (r.state = 'leased' AND EXCLUDED.state IN ('presumed', 'voided')))
        RETURNING r.*)
    SELECT array_agg(d::hold_resolutions) INTO v_rows FROM done AS d;

    IF v_rows IS NOT NULL THEN
        -- Sorted locks: two batches that share counters wait for each other instead of deadlocking.
        PERFORM 1 FROM counters c
        JOIN (SELECT DISTINCT d.tenant_id, p.counter FROM unnest(v_rows) AS d, unnest(d.counters) AS p (counter)) AS t
            ON c.tenant_id = t.tenant_id AND c.counter_id = t.counter
        ORDER BY c.counter_id FOR UPDATE OF c;

        UPDATE counters c SET spent = c.spent + t.delta
        FROM (SELECT d.tenant_id, p.counter, sum(p.posted - coalesce(p.before, 0))::bigint AS delta
            FROM unnest(v_rows) AS d, unnest(d.counters, d.posted, d.posted_before) AS p (counter, posted, before)
            GROUP BY 1, 2) AS t
        WHERE c.tenant_id = t.tenant_id AND c.counter_id = t.counter AND t.delta <> 0;

        UPDATE grants g SET authority = greatest(0, g.authority - t.less),
            clamped = g.clamped + greatest(0, t.less - g.authority)
        FROM (SELECT d.tenant_id, p.counter, d.epoch_id, p.inc,
                sum(CASE WHEN p.live THEN least(p.posted, p.held) ELSE p.held END)::bigint AS less
            FROM unnest(v_rows) AS d,
                unnest(d.counters, d.incarnations, d.live, d.posted, d.held) AS p (counter, inc, live, posted, held)
            WHERE d.revision = 1
            GROUP BY 1, 2, 3, 4) AS t
        WHERE g.tenant_id = t.tenant_id AND g.counter_id = t.counter AND g.epoch_id = t.epoch_id
            AND g.incarnation = t.inc;

        INSERT INTO ledger_entries (hold_id, placed_month, revision, tenant_id, kind, flags, placed_at, api_key, project,
            customer, end_user, run, plan, tags, provider, model, reported_model, price_id, cost_origin, cost_nano, tokens,
            requests, usage, outcome, latency_ms, note, counters, deltas)
        SELECT d.hold_id, d.placed_month, d.revision, d.tenant_id, d.state, d.flags, to_timestamp(i.placed_at / 1000.0),
            i.key, i.project, i.customer, i.end_user, i.run, i.plan, i.tags, i.provider, i.model, i.reported_model,
            i.price_id, i.origin, d.cost_nano - d.cost_before_nano, d.tokens - d.tokens_before, d.requests - d.requests_before,
            i.usage, i.outcome, i.latency_ms, i.note, d.counters,
            ARRAY(SELECT p.posted - coalesce(p.before, 0)
                FROM unnest(d.posted, d.posted_before) WITH ORDINALITY AS p (posted, before, at) ORDER BY p.at)
        FROM unnest(v_rows) AS d
        JOIN jsonb_to_recordset(p_items) AS i(hold uuid, placed_at bigint, key text, project text, customer text,
            end_user text, run text, plan text, tags jsonb, provider text, model text, reported_model text, price_id text,
            origin text, usage jsonb, outcome text, latency_ms integer, note text) ON i.hold = d.hold_id;

        -- Headroom changed by itself where Redis did not draw exactly what was posted.
        SELECT jsonb_agg(q.message) INTO v_messages
        FROM (SELECT nb_publish(t.tenant_id, t.counter) AS message
            FROM (SELECT DISTINCT d.tenant_id, p.counter
                FROM unnest(v_rows) AS d,
                    unnest(d.counters, d.live, d.posted, d.held) AS p (counter, live, posted, held)
                WHERE d.revision > 1 OR NOT p.live OR p.posted > p.held
                ORDER BY 1, 2) AS t
            JOIN counters c ON c.tenant_id = t.tenant_id AND c.counter_id = t.counter) AS q
        WHERE q.message IS NOT NULL;
    END IF;

    SELECT jsonb_agg(jsonb_strip_nulls(jsonb_build_object('hold', i.hold,
        'outcome', CASE WHEN d.revision = 1 THEN 'first' WHEN d.revision IS NOT NULL THEN 'corrected'
            -- A presumption finds whatever was decided before it: that is its answer, not a conflict.
            WHEN r.tenant_id = i.tenant AND (i.state = 'presumed' OR r.state = i.state
                AND r.usage_digest IN (decode(i.digest, 'hex'), decode(i.older, 'hex'))) THEN 'replayed'
            ELSE 'conflict' END,
        'state', coalesce(d.state, r.state), 'revision', coalesce(d.revision, r.revision - r.reratings),
        'cost', coalesce(d.cost_nano, r.cost_nano - r.rerated_nano), 'held_cost', coalesce(d.held_cost_nano, r.held_cost_nano),
        'live', CASE WHEN d.revision = 1 AND true = ALL (d.live) AND d.leased IS NULL THEN NULL
            ELSE to_jsonb(coalesce(d.live, r.live)) END,
        -- The apply of a lease's end carries what was drawn of it besides.
        'first', CASE WHEN d.revision = 1 AND true = ALL (d.live) AND d.leased IS NULL THEN NULL
            WHEN d.leased IS NOT NULL THEN to_jsonb(nb_kept(d.first, d.leased, d.held))
            WHEN r.leased IS NOT NULL THEN to_jsonb(nb_kept(r.first, r.leased, r.held))
            ELSE to_jsonb(coalesce(d.first, r.first)) END)))
    INTO v_results
    FROM jsonb_to_recordset(p_items) AS i(hold uuid, month date, tenant uuid, state text, digest text, older text)
    LEFT JOIN unnest(v_rows) AS d ON d.hold_id = i.hold
    LEFT JOIN hold_resolutions r ON d.hold_id IS NULL AND r.hold_id = i.hold AND r.placed_month = i.month;
    RETURN jsonb_build_object('results', coalesce(v_results, '[]'), 'messages', coalesce(v_messages, '[]'));
END $$;
