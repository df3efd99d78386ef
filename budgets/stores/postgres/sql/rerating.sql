-- Re-rating: settled calls get another cost by compensating entries; docs/escrow.md, "Re-rating".

-- The calls of a re-rating, as its preview saw them: revision and old_nano are what must still be so when it is applied.
CREATE TABLE IF NOT EXISTS rerating_items (
    tenant_id uuid NOT NULL,
    rerating_id uuid NOT NULL,
    hold_id uuid NOT NULL,
    placed_month date NOT NULL,
    revision integer NOT NULL CHECK (revision >= 1),
    old_nano bigint NOT NULL,
    new_nano bigint NOT NULL CHECK (new_nano BETWEEN 0 AND 9007199254740992 AND new_nano <> old_nano),
    price_id text NOT NULL,             -- the name of the rates that new_nano comes of
    provider text NOT NULL,
    model text NOT NULL,
    customer text NOT NULL,
    PRIMARY KEY (rerating_id, hold_id),
    FOREIGN KEY (tenant_id, rerating_id) REFERENCES reratings (tenant_id, id)
);

-- Applies the next p_limit calls of a re-rating that is being applied, by hold; one transaction, one call at a time. Where it
-- stands is written with it, so that a killed one is gone on with, and nothing is applied twice. p_shard is the tenant's.
-- Returns {busy} if another call is at it, else {done, applied, moved, nano}: whether nothing is left, how many calls got
-- their new cost, how many were left as they are since something had happened to them, and the sum of the differences.
-- Load messages are numbered and left to the sweep, as a write-off's are.
CREATE OR REPLACE FUNCTION nb_rerate(p_rerating uuid, p_shard integer, p_limit integer) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    x reratings;
    v_items integer;
    v_through uuid;
    v_holds uuid[];
    v_months date[];
    v_old bigint[];
    v_new bigint[];
    v_prices text[];
    v_usd uuid[];
    v_nano bigint;
BEGIN
    IF p_limit NOT BETWEEN 1 AND 10000 THEN RAISE EXCEPTION 'p_limit: between 1 and 10000, not %', p_limit; END IF;
    SELECT * INTO x FROM reratings WHERE id = p_rerating FOR UPDATE SKIP LOCKED;
    IF NOT FOUND THEN RETURN jsonb_build_object('busy', true); END IF;
    IF x.state <> 'applying' THEN
        RETURN jsonb_build_object('done', true, 'applied', 0, 'moved', 0, 'nano', 0);
    END IF;
    PERFORM nb_lock_shards(ARRAY[p_shard]);

    -- Locked in the order of holds, as settlements do, and looked at under the lock: what moved is left as it is. So is what
    -- has a hundred entries: readers show no more of one hold.
    SELECT count(*), (array_agg(q.hold_id ORDER BY q.hold_id DESC))[1],
        array_agg(q.hold_id ORDER BY q.hold_id) FILTER (WHERE q.as_seen),
        array_agg(q.placed_month ORDER BY q.hold_id) FILTER (WHERE q.as_seen),
        array_agg(q.old_nano ORDER BY q.hold_id) FILTER (WHERE q.as_seen),
        array_agg(q.new_nano ORDER BY q.hold_id) FILTER (WHERE q.as_seen),
        array_agg(q.price_id ORDER BY q.hold_id) FILTER (WHERE q.as_seen),
        coalesce(sum(q.new_nano - q.old_nano) FILTER (WHERE q.as_seen), 0)
    INTO v_items, v_through, v_holds, v_months, v_old, v_new, v_prices, v_nano
    FROM (SELECT i.*, r.tenant_id = x.tenant_id AND r.state = 'settled' AND r.revision = i.revision AND r.revision < 100
            AND r.cost_nano = i.old_nano
            AND EXISTS (SELECT FROM ledger_entries l WHERE l.hold_id = i.hold_id AND l.placed_month = i.placed_month
                AND l.kind = 'settled' AND l.cost_origin = 'priced') AS as_seen
        FROM (SELECT * FROM rerating_items
            WHERE rerating_id = x.id AND (x.applied_through IS NULL OR hold_id > x.applied_through)
            ORDER BY hold_id LIMIT p_limit) AS i
        -- One after the other by its key, here and below: joined freely, a table that grew since it was last analysed may be
        -- read whole for each.
        CROSS JOIN LATERAL (SELECT * FROM hold_resolutions WHERE hold_id = i.hold_id AND placed_month = i.placed_month
            FOR UPDATE) AS r) AS q;

    IF v_holds IS NOT NULL THEN
        -- A counter that was pruned is not among them, and gets nothing.
        SELECT coalesce(array_agg(q.counter_id), '{}') INTO v_usd
        FROM (SELECT c.counter_id
            FROM (SELECT DISTINCT p.counter FROM unnest(v_holds, v_months) AS d (hold, month)
                CROSS JOIN LATERAL (SELECT counters FROM hold_resolutions WHERE hold_id = d.hold AND placed_month = d.month
                    OFFSET 0) AS r,
                unnest(r.counters) AS p (counter)) AS t
            JOIN counters c ON c.tenant_id = x.tenant_id AND c.counter_id = t.counter
            JOIN budgets_budget b ON b.tenant_id = c.tenant_id AND b.id = c.budget_id AND b.metric = 'usd'
            ORDER BY c.counter_id FOR UPDATE OF c) AS q;

        UPDATE hold_resolutions r SET revision = r.revision + 1, updated_at = now(),
            cost_before_nano = r.cost_nano, cost_nano = d.new,
            tokens_before = r.tokens, requests_before = r.requests,
            rerated_nano = r.rerated_nano + d.new - d.old, reratings = r.reratings + 1,
            posted_before = r.posted,
            posted = ARRAY(SELECT CASE WHEN p.counter = ANY (v_usd) THEN p.posted + d.new - d.old ELSE p.posted END
                FROM unnest(r.counters, r.posted) WITH ORDINALITY AS p (counter, posted, at) ORDER BY p.at)
        FROM unnest(v_holds, v_months, v_old, v_new) AS d (hold, month, old, new)
        WHERE r.hold_id = d.hold AND r.placed_month = d.month;

        INSERT INTO ledger_entries (hold_id, placed_month, revision, tenant_id, kind, placed_at, api_key, project, customer,
            end_user, run, plan, tags, provider, model, reported_model, price_id, cost_origin, cost_nano, tokens, requests,
            counters, deltas, rerating_id)
        SELECT l.hold_id, l.placed_month, r.revision, l.tenant_id, 'rerated', l.placed_at, l.api_key, l.project,
            l.customer, l.end_user, l.run, l.plan, l.tags, l.provider, l.model, l.reported_model, d.price, l.cost_origin,
            d.new - d.old, 0, 0, r.counters,
            ARRAY(SELECT CASE WHEN p.counter = ANY (v_usd) THEN d.new - d.old ELSE 0 END
                FROM unnest(r.counters) WITH ORDINALITY AS p (counter, at) ORDER BY p.at),
            x.id
        FROM unnest(v_holds, v_months, v_old, v_new, v_prices) AS d (hold, month, old, new, price)
        CROSS JOIN LATERAL (SELECT * FROM hold_resolutions WHERE hold_id = d.hold AND placed_month = d.month OFFSET 0) AS r
        CROSS JOIN LATERAL (SELECT * FROM ledger_entries WHERE hold_id = d.hold AND placed_month = d.month
            AND kind = 'settled' OFFSET 0) AS l;

        UPDATE counters c SET spent = c.spent + t.delta
        FROM (SELECT p.counter, sum(d.new - d.old)::bigint AS delta
            FROM unnest(v_holds, v_months, v_old, v_new) AS d (hold, month, old, new)
            CROSS JOIN LATERAL (SELECT counters FROM hold_resolutions WHERE hold_id = d.hold AND placed_month = d.month
                OFFSET 0) AS r,
            unnest(r.counters) AS p (counter)
            WHERE p.counter = ANY (v_usd) GROUP BY 1) AS t
        WHERE c.tenant_id = x.tenant_id AND c.counter_id = t.counter AND t.delta <> 0;

        PERFORM nb_publish(x.tenant_id, t.counter)
        FROM (SELECT u AS counter FROM unnest(v_usd) AS u ORDER BY 1) AS t;
        -- Nobody sends these now: the next sweep is to find them overdue.
        UPDATE grants SET sent_at = now() - interval '1 hour'
        WHERE tenant_id = x.tenant_id AND counter_id = ANY (v_usd) AND state = 'live' AND acked_seq < seq;
    END IF;

    UPDATE reratings SET applied_through = coalesce(v_through, applied_through),
        applied_calls = applied_calls + coalesce(cardinality(v_holds), 0),
        moved_calls = moved_calls + v_items - coalesce(cardinality(v_holds), 0),
        applied_nano = applied_nano + v_nano,
        state = CASE WHEN v_items < p_limit THEN 'applied' ELSE state END,
        finished_at = CASE WHEN v_items < p_limit THEN now() END
    WHERE id = x.id;
    RETURN jsonb_build_object('done', v_items < p_limit, 'applied', coalesce(cardinality(v_holds), 0),
        'moved', v_items - coalesce(cardinality(v_holds), 0), 'nano', v_nano);
END $$;

-- Deletes at most p_limit items of re-ratings that were over before p_before: their entries are in the ledger. Returns how many.
CREATE OR REPLACE FUNCTION nb_prune_rerating_items(p_before timestamptz, p_limit integer) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    v_gone integer;
BEGIN
    IF p_limit NOT BETWEEN 1 AND 100000 THEN RAISE EXCEPTION 'p_limit: between 1 and 100000, not %', p_limit; END IF;
    DELETE FROM rerating_items WHERE ctid = ANY (ARRAY(SELECT i.ctid FROM reratings x
        JOIN rerating_items i ON i.rerating_id = x.id
        WHERE x.state IN ('applied', 'expired', 'failed') AND x.finished_at < p_before LIMIT p_limit));
    GET DIAGNOSTICS v_gone = ROW_COUNT;
    RETURN v_gone;
END $$;

-- The application makes previews and applies them; nobody deletes a re-rating, and only the function an item.
REVOKE ALL ON rerating_items FROM PUBLIC;
DO $$
BEGIN
    IF to_regrole('noburn_app') IS NOT NULL THEN
        REVOKE ALL ON rerating_items FROM noburn_app;
        GRANT SELECT, INSERT ON rerating_items TO noburn_app;
        REVOKE DELETE ON reratings FROM noburn_app;
    END IF;
    IF to_regrole('noburn_gateway') IS NOT NULL THEN
        REVOKE ALL ON rerating_items, reratings FROM noburn_gateway;
    END IF;
END $$;
