-- One load message as the gateway sends it. `create`: no message of this incarnation was ever acknowledged. `pf` is what
-- parent_free will be once a shrink to `total` counts, or a cut would bite twice. A live row's `clamped` is what a warn
-- counter drew beyond its grant: Redis has it in `used` already. `until` (ms, NULL: never): from then on the limit is another
-- one, and Redis asks; of wallets alone, which show another limit than they count by.
CREATE OR REPLACE FUNCTION nb_message(g grants, c counters, p_parent_free bigint) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path = public, pg_temp AS $$
BEGIN
    RETURN jsonb_build_object(
        'tenant', g.tenant_id, 'counter', g.counter_id, 'epoch', g.epoch_id, 'inc', g.incarnation, 'seq', g.seq,
        'total', g.target, 'pf', p_parent_free + g.clamped + g.granted - g.target, 'bv', c.budget_version,
        'lim', coalesce(c.shown_limit, c.limit_amount), 'until', floor(extract(epoch FROM c.limit_until) * 1000)::bigint,
        'create', g.acked_seq = 0);
END $$;

-- limit - spent - Σ authority of one counter: what PostgreSQL could still grant; negative after an overrun or a cut.
CREATE OR REPLACE FUNCTION nb_parent_free(c counters) RETURNS bigint
LANGUAGE sql STABLE SET search_path = public, pg_temp AS $$
    SELECT c.limit_amount - c.spent - coalesce(sum(g.authority), 0)::bigint
    FROM grants g WHERE g.tenant_id = c.tenant_id AND g.counter_id = c.counter_id
$$;

-- Numbers a new message for the counter's live row, if it has one, and returns it (else NULL). The caller holds the
-- counter's lock. A negative parent_free asks for a shrink; authority falls only when Redis acknowledged it.
CREATE OR REPLACE FUNCTION nb_publish(p_tenant uuid, p_counter uuid) RETURNS jsonb
LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
DECLARE
    c counters;
    g grants;
    v_free bigint;
BEGIN
    SELECT * INTO STRICT c FROM counters WHERE tenant_id = p_tenant AND counter_id = p_counter;
    v_free := nb_parent_free(c);
    UPDATE grants SET seq = grants.seq + 1, target = greatest(0, granted + least(0, v_free)), sent_at = now()
    FROM epochs e
    WHERE grants.tenant_id = p_tenant AND grants.counter_id = p_counter AND grants.state = 'live'
        AND e.epoch_id = grants.epoch_id AND e.state = 'open'
    RETURNING grants.* INTO g;
    IF NOT FOUND THEN RETURN NULL; END IF;
    RETURN nb_message(g, c, v_free);
END $$;

-- Takes the shards' advisory locks in ascending order; an epoch changes its state only under the exclusive one.
CREATE OR REPLACE FUNCTION nb_lock_shards(p_shards integer[]) RETURNS void
LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
DECLARE
    v_shard integer;
BEGIN
    FOR v_shard IN SELECT DISTINCT s FROM unnest(p_shards) AS s ORDER BY s LOOP
        PERFORM pg_advisory_xact_lock_shared(420017, v_shard);
    END LOOP;
END $$;
