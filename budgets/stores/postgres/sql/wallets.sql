-- Wallets: the limits of counters that hold a customer's prepaid credit; docs/escrow.md, "Wallets". Billing says what is in
-- a wallet; nobody but these functions writes the table.

-- What one wallet's counter may be used for: base (credit that does not end, less what is owed; it may be negative), what of
-- its `spent` was burnt already, and credit that ends: falls[n] at falls_at[n].
CREATE TABLE IF NOT EXISTS wallet_limits (
    tenant_id uuid NOT NULL,
    counter_id uuid NOT NULL,
    budget_id uuid NOT NULL,
    subject text NOT NULL,
    base bigint NOT NULL,
    burnt bigint NOT NULL CHECK (burnt BETWEEN 0 AND 9007199254740992),
    falls_at timestamptz[] NOT NULL,
    falls bigint[] NOT NULL,
    changed_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, counter_id),
    FOREIGN KEY (tenant_id, budget_id) REFERENCES budgets_budget (tenant_id, id),
    CHECK (cardinality(falls) = cardinality(falls_at) AND cardinality(falls) <= 1000)
) WITH (fillfactor = 70);

-- For wallets alone: what is shown as the limit, and until when the limit is what it is.
ALTER TABLE counters ADD COLUMN IF NOT EXISTS shown_limit bigint;
ALTER TABLE counters ADD COLUMN IF NOT EXISTS limit_until timestamptz;

-- The limit of a wallet's counter at a time by this server's clock, what is shown as such, and when it falls by itself (NULL:
-- never). Credit counts as ended two seconds before its instant, so that an ask which Redis sends at the instant finds it
-- ended here as well, whoever's clock is behind by less.
CREATE OR REPLACE FUNCTION nb_wallet_limit(w wallet_limits, p_at timestamptz, OUT amount bigint, OUT shown bigint,
    OUT until timestamptz)
LANGUAGE sql STABLE SET search_path = public, pg_temp AS $$
    SELECT least(9007199254740992, greatest(0, w.base + w.burnt + coalesce(sum(f.fall), 0)))::bigint,
        least(9007199254740992, greatest(0, w.base + coalesce(sum(f.fall), 0)))::bigint, min(f.at)
    FROM unnest(w.falls_at, w.falls) AS f (at, fall)
    WHERE f.at > p_at + interval '2 seconds'
$$;

-- Says what is in a wallet, in the transaction that changed it; makes the wallet's limit, or replaces it. Numbers a load
-- message where the counter is loaded, and returns it (else NULL); what does not arrive is sent again by the sweep.
-- Lock order: the wallet's limit just before its own counter, as nb_grant does.
CREATE OR REPLACE FUNCTION nb_wallet_set(p_tenant uuid, p_shard integer, p_budget uuid, p_subject text, p_counter uuid,
    p_base bigint, p_burnt bigint, p_falls_at timestamptz[], p_falls bigint[]) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    w wallet_limits;
    c counters;
    v_limit bigint;
    v_shown bigint;
    v_until timestamptz;
BEGIN
    PERFORM nb_lock_shards(ARRAY[p_shard]);
    PERFORM 1 FROM budgets_budget WHERE tenant_id = p_tenant AND id = p_budget AND scope = 'wallet';
    IF NOT FOUND THEN RAISE EXCEPTION 'budget % is not over the wallets of tenant %', p_budget, p_tenant; END IF;
    INSERT INTO wallet_limits AS x (tenant_id, counter_id, budget_id, subject, base, burnt, falls_at, falls)
    VALUES (p_tenant, p_counter, p_budget, p_subject, p_base, p_burnt, p_falls_at, p_falls)
    ON CONFLICT (tenant_id, counter_id) DO UPDATE SET base = EXCLUDED.base, burnt = EXCLUDED.burnt,
        falls_at = EXCLUDED.falls_at, falls = EXCLUDED.falls, changed_at = now()
    RETURNING x.* INTO w;
    SELECT * INTO c FROM counters WHERE tenant_id = p_tenant AND counter_id = p_counter FOR UPDATE;
    IF NOT FOUND THEN RETURN NULL; END IF;
    SELECT l.amount, l.shown, l.until INTO v_limit, v_shown, v_until FROM nb_wallet_limit(w, clock_timestamp()) AS l;
    UPDATE counters SET limit_amount = v_limit, shown_limit = v_shown, limit_until = v_until
    WHERE tenant_id = p_tenant AND counter_id = p_counter;
    RETURN nb_publish(p_tenant, p_counter);
END $$;

-- Takes a wallet's limit away: its customer's calls are held on nothing any more, once the policy was published.
CREATE OR REPLACE FUNCTION nb_wallet_drop(p_tenant uuid, p_counter uuid) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS $$
    DELETE FROM wallet_limits WHERE tenant_id = p_tenant AND counter_id = p_counter
$$;

-- Ledger entries of calls that were held on a wallet, in the order of their positions: those below the horizon with a
-- position from p_after on, about p_limit of them (all of a transaction, or none). Returns NULL for a restored dump, see
-- nb_usage_check_home; else {next, shift, more, entries: [{wallet, tenant, hold, month, revision, position}]}. A shift
-- other than p_shift begins anew.
CREATE OR REPLACE FUNCTION nb_wallet_entries(p_after bigint, p_shift bigint, p_limit integer) RETURNS jsonb
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = public, pg_temp SET plan_cache_mode = force_custom_plan AS $$
DECLARE
    u usage_cursor;
    v_after bigint := p_after;
    v_until bigint;
    v_horizon bigint;
    v_entries jsonb;
BEGIN
    IF p_limit NOT BETWEEN 1 AND 100000 THEN RAISE EXCEPTION 'p_limit: between 1 and 100000, not %', p_limit; END IF;
    SELECT * INTO STRICT u FROM usage_cursor;
    IF NOT nb_usage_at_home(u) THEN RETURN NULL; END IF;
    IF p_shift IS DISTINCT FROM u.shift THEN v_after := -9223372036854775808; END IF;
    v_horizon := greatest(v_after, pg_snapshot_xmin(pg_current_snapshot())::text::bigint + u.shift);
    -- Before the first wallet there is nothing to read, however long the ledger is: no entry below the horizon can be of one
    -- that this snapshot does not see.
    IF NOT EXISTS (SELECT FROM budgets_budget w WHERE w.scope = 'wallet') THEN
        RETURN jsonb_build_object('next', v_horizon, 'shift', u.shift, 'more', false, 'entries', '[]'::jsonb);
    END IF;
    SELECT l.position INTO v_until FROM ledger_entries l WHERE l.position >= v_after AND l.position < v_horizon
    ORDER BY l.position OFFSET p_limit LIMIT 1;
    IF v_until IS NOT NULL
        AND NOT EXISTS (SELECT FROM ledger_entries l WHERE l.position >= v_after AND l.position < v_until) THEN
        v_until := v_until + 1;
    END IF;
    SELECT jsonb_agg(jsonb_build_object('wallet', b.id, 'tenant', l.tenant_id, 'hold', l.hold_id, 'month', l.placed_month,
        'revision', l.revision, 'position', l.position) ORDER BY l.position, l.hold_id, l.revision)
    INTO v_entries
    FROM ledger_entries l
    CROSS JOIN LATERAL (SELECT c.counter_id AS id FROM unnest(l.counters) AS p (counter)
        JOIN counters c ON c.tenant_id = l.tenant_id AND c.counter_id = p.counter
        JOIN budgets_budget w ON w.tenant_id = c.tenant_id AND w.id = c.budget_id AND w.scope = 'wallet' LIMIT 1) AS b
    WHERE l.position >= v_after AND l.position < coalesce(v_until, v_horizon)
        AND EXISTS (SELECT FROM budgets_budget w WHERE w.tenant_id = l.tenant_id AND w.scope = 'wallet');
    RETURN jsonb_build_object('next', coalesce(v_until, v_horizon), 'shift', u.shift, 'more', v_until IS NOT NULL,
        'entries', coalesce(v_entries, '[]'));
END $$;

DO $$
BEGIN
    REVOKE ALL ON wallet_limits FROM PUBLIC;
    IF to_regrole('noburn_app') IS NOT NULL THEN
        REVOKE ALL ON wallet_limits FROM noburn_app;
        GRANT SELECT ON wallet_limits TO noburn_app;
    END IF;
    IF to_regrole('noburn_gateway') IS NOT NULL THEN
        REVOKE ALL ON wallet_limits FROM noburn_gateway;
    END IF;
END $$;
