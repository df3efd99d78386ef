-- Leases: draws, and the close of one; docs/escrow.md, section 8. A lease's row in hold_resolutions is `leased` from its first
-- draw until it ends: `held` is what nobody drew, `leased` the whole, `draws` how many there are, and nothing of it is in the
-- ledger. A presumption that was corrected in part goes on under the id `rest`.

-- Books draws of one lease, and closes it if p_total is how many it has then; one transaction.
-- p_lease: the item of nb_resolve that voids the lease: what it held, nothing posted. p_draws: items of nb_resolve, each of
-- another draw, in the order in which they count; what they hold is decided here. p_total NULL: the lease goes on.
-- Returns {draws: results of nb_resolve, total: how many draws the lease has, state: the lease's, closed, end: the result of
-- its close or null, messages: [load messages]}.
CREATE OR REPLACE FUNCTION nb_draw(p_lease jsonb, p_draws jsonb, p_total integer) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    r hold_resolutions;     -- the lease
    v hold_resolutions;     -- what of it is presumed, if that goes on under an id of its own
    v_zero bigint[];
    v_left bigint[];
    v_taken bigint[];
    v_cost bigint;
    v_items jsonb;
    v_fresh integer;
    v_rest uuid;
    v_done jsonb := '{"results": [], "messages": []}';
    v_end jsonb := '{"results": [], "messages": []}';
    v_late jsonb := '{"results": [], "messages": []}';
BEGIN
    PERFORM nb_lock_shards(ARRAY[(p_lease ->> 'shard')::integer]);
    -- Makes or locks the lease's row: whoever presumes it inserts or updates the same one.
    INSERT INTO hold_resolutions AS h (hold_id, placed_month, tenant_id, epoch_id, state, counters, incarnations, held, leased,
        live, first, posted, held_cost_nano, cost_nano, tokens, requests, usage_digest, revision)
    SELECT i.hold, i.month, i.tenant, i.epoch, 'leased', i.counters, i.incs, i.held, i.held,
        array_fill(true, ARRAY[cardinality(i.held)]), array_fill(0::bigint, ARRAY[cardinality(i.held)]),
        array_fill(0::bigint, ARRAY[cardinality(i.held)]), i.held_cost, 0, 0, 0, decode(i.digest, 'hex'), 0
    FROM jsonb_to_record(p_lease) AS i(hold uuid, month date, tenant uuid, epoch uuid, counters uuid[], incs integer[],
        held bigint[], held_cost bigint, digest text)
    ON CONFLICT (hold_id, placed_month) DO UPDATE SET updated_at = now() WHERE h.tenant_id = EXCLUDED.tenant_id
    RETURNING h.* INTO r;
    IF r.hold_id IS NULL THEN RAISE EXCEPTION 'a hold of another tenant has this id'; END IF;

    v_zero := array_fill(0::bigint, ARRAY[cardinality(r.counters)]);
    v := r;
    IF r.rest IS NOT NULL THEN
        SELECT * INTO STRICT v FROM hold_resolutions WHERE hold_id = r.rest AND placed_month = r.placed_month FOR UPDATE;
    END IF;
    v_left := CASE r.state WHEN 'leased' THEN r.held ELSE CASE v.state WHEN 'presumed' THEN v.posted ELSE v_zero END END;

    -- What each new draw takes, in their order, of what is left; one that is known takes nothing again.
    WITH told AS MATERIALIZED (
        SELECT x.item, x.at, NOT EXISTS (SELECT FROM hold_resolutions k WHERE k.hold_id = (x.item ->> 'hold')::uuid
            AND k.placed_month = r.placed_month) AS fresh
        FROM jsonb_array_elements(p_draws) WITH ORDINALITY AS x (item, at)),
    summed AS (
        SELECT t.at, p.ord, p.posted, t.fresh,
            sum(CASE WHEN t.fresh THEN p.posted ELSE 0 END) OVER (PARTITION BY p.ord ORDER BY t.at) AS upto
        FROM told t, LATERAL (SELECT e::bigint, o FROM jsonb_array_elements_text(t.item -> 'posted')
            WITH ORDINALITY AS y (e, o)) AS p (posted, ord)),
    taken AS (
        SELECT s.at, s.ord, CASE WHEN s.fresh
            THEN (least(s.upto, v_left[s.ord]) - least(s.upto - s.posted, v_left[s.ord]))::bigint ELSE 0 END AS amount
        FROM summed s),
    held AS (SELECT at, array_agg(amount ORDER BY ord) AS amounts FROM taken GROUP BY at)
    SELECT coalesce(jsonb_agg(t.item || jsonb_build_object('held',
            CASE WHEN r.state = 'leased' THEN coalesce(h.amounts, v_zero) ELSE v_zero END)), '[]'),
        count(*) FILTER (WHERE t.fresh),
        coalesce(sum((t.item ->> 'cost')::bigint) FILTER (WHERE t.fresh), 0),
        ARRAY(SELECT sum(amount)::bigint FROM taken GROUP BY ord ORDER BY ord)
    INTO v_items, v_fresh, v_cost, v_taken
    FROM told t LEFT JOIN held h ON h.at = t.at;
    IF jsonb_array_length(v_items) > 0 THEN v_done := nb_resolve(v_items); END IF;

    IF v_fresh > 0 THEN
        UPDATE hold_resolutions h SET draws = h.draws + v_fresh,
            held = CASE WHEN h.state <> 'leased' THEN h.held ELSE
                ARRAY(SELECT p.held - p.taken FROM unnest(h.held, v_taken) WITH ORDINALITY AS p (held, taken, at) ORDER BY p.at)
                END,
            held_cost_nano = CASE WHEN h.state <> 'leased' THEN h.held_cost_nano
                ELSE greatest(0, h.held_cost_nano - v_cost) END
        WHERE h.hold_id = r.hold_id AND h.placed_month = r.placed_month RETURNING h.* INTO r;
        IF v.state = 'presumed' AND (v.cost_nano > 0 OR v_left <> v_zero) THEN
            -- An entry is never half true: the presumption is voided, and what remains of it presumed anew.
            v_items := jsonb_build_array(p_lease || jsonb_build_object('hold', v.hold_id));
            v_left := ARRAY(SELECT p.was - p.taken FROM unnest(v_left, v_taken) WITH ORDINALITY AS p (was, taken, at)
                ORDER BY p.at);
            v_cost := greatest(0, v.cost_nano - v_cost);
            IF v_cost > 0 OR v_left <> v_zero THEN
                v_rest := encode(substring(sha256(convert_to(r.hold_id::text || ':' || r.draws, 'UTF8')) FROM 1 FOR 16),
                    'hex')::uuid;
                v_items := v_items || jsonb_build_array(p_lease || jsonb_build_object('hold', v_rest, 'state', 'presumed',
                    'held', v_zero, 'posted', v_left, 'cost', v_cost, 'outcome', 'expired'));
                UPDATE hold_resolutions SET rest = v_rest WHERE hold_id = r.hold_id AND placed_month = r.placed_month;
            END IF;
            v_late := nb_resolve(v_items);
        END IF;
    END IF;

    IF r.draws = p_total THEN
        v_end := nb_resolve(jsonb_build_array(p_lease
            || jsonb_build_object('hold', coalesce(v_rest, r.rest, r.hold_id))));
        SELECT * INTO STRICT r FROM hold_resolutions WHERE hold_id = r.hold_id AND placed_month = r.placed_month;
    END IF;
    RETURN jsonb_build_object('draws', v_done -> 'results', 'total', r.draws, 'state', r.state,
        'closed', coalesce(r.draws = p_total, false), 'end', v_end -> 'results' -> 0,
        'messages', (v_done -> 'messages') || (v_late -> 'messages') || (v_end -> 'messages'));
END $$;

DO $$
BEGIN
    REVOKE ALL ON FUNCTION nb_draw(jsonb, jsonb, integer) FROM PUBLIC;
    IF to_regrole('noburn_gateway') IS NOT NULL THEN
        GRANT EXECUTE ON FUNCTION nb_draw(jsonb, jsonb, integer) TO noburn_gateway;
    END IF;
END $$;
