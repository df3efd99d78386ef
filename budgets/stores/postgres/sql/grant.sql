-- What the ledger holds for one subject of a budget, of calls placed in [p_from, p_until): entries with a position in
-- [p_after, p_before) (NULL: without an end), besides those that were posted on the counter p_besides.
CREATE OR REPLACE FUNCTION nb_ledger_sum(b budgets_budget, p_subject text, p_from timestamptz, p_until timestamptz,
    p_after bigint, p_before bigint, p_besides uuid) RETURNS bigint
LANGUAGE plpgsql STABLE SET search_path = public, pg_temp SET plan_cache_mode = force_custom_plan AS $$
BEGIN
    RETURN (
        SELECT coalesce(sum(CASE b.metric WHEN 'usd' THEN l.cost_nano WHEN 'tokens' THEN l.tokens ELSE l.requests END), 0)::bigint
        FROM ledger_entries l
        WHERE l.tenant_id = b.tenant_id
            AND l.placed_month >= date_trunc('month', p_from AT TIME ZONE 'UTC')::date
            AND l.placed_at >= p_from AND (p_until IS NULL OR l.placed_at < p_until)
            AND (p_after IS NULL OR l.position >= p_after) AND (p_before IS NULL OR l.position < p_before)
            AND (p_besides IS NULL OR p_besides <> ALL (l.counters)) AND (b.plan IS NULL OR l.plan = b.plan)
            AND CASE b.scope
                WHEN 'tenant' THEN true
                WHEN 'project' THEN l.project = p_subject
                WHEN 'customer' THEN l.customer = p_subject
                WHEN 'user' THEN l.end_user = p_subject
                WHEN 'run' THEN l.run = p_subject
                WHEN 'plan' THEN l.plan = p_subject
                WHEN 'api_key' THEN l.api_key = p_subject
                WHEN 'provider' THEN l.provider = p_subject
                WHEN 'model' THEN l.model = p_subject
                WHEN 'tag' THEN l.tags ->> b.tag = p_subject
            END);
END $$;

-- What calls that are in the ledger already count for a budget made inside its window. Whole days and hours come from the
-- rollups, and from the ledger only what they do not tell: parts of hours at the window's ends, in zones at half hours, and
-- what is not rolled up yet. So a new counter of a tenant with millions of calls costs no more than one of another.
CREATE OR REPLACE FUNCTION nb_opening(b budgets_budget, p_subject text, p_starts timestamptz, p_ends timestamptz) RETURNS bigint
LANGUAGE plpgsql STABLE SET search_path = public, pg_temp SET plan_cache_mode = force_custom_plan AS $$
DECLARE
    v_rolled bigint;
    v_hours_from timestamptz;
    v_hours text := CASE b.scope WHEN 'customer' THEN 'hours' WHEN 'user' THEN 'hours' WHEN 'tag' THEN 'tag_hours'
        ELSE 'total_hours' END;
    v_days text := replace(v_hours, 'hours', 'days');
    v_ends timestamptz := coalesce(p_ends, 'infinity');
    v_hour timestamptz := date_trunc('hour', p_starts + interval '1 hour' - interval '1 microsecond', 'UTC');
    v_last_hour timestamptz := CASE WHEN p_ends IS NULL THEN 'infinity' ELSE date_trunc('hour', p_ends, 'UTC') END;
    v_day timestamptz;
    v_last_day timestamptz;
    v_sum bigint;
BEGIN
    SELECT c.position, c.hours_from INTO v_rolled, v_hours_from FROM usage_cursor c
    WHERE c.rebuild_began_at IS NULL AND nb_usage_at_home(c);
    -- Runs are not rolled up; rollups that are being counted anew, or whose hours are gone, do not tell.
    IF b.scope = 'run' OR v_rolled IS NULL OR v_hour >= v_last_hour THEN
        RETURN nb_ledger_sum(b, p_subject, p_starts, p_ends, NULL, NULL, NULL);
    END IF;
    v_day := least(date_trunc('day', v_hour + interval '1 day' - interval '1 microsecond', 'UTC'), v_last_hour);
    v_last_day := greatest(CASE WHEN p_ends IS NULL THEN 'infinity' ELSE date_trunc('day', v_last_hour, 'UTC') END, v_day);
    IF v_hour < v_day AND v_hour < v_hours_from OR v_last_day < v_last_hour AND v_last_day < v_hours_from THEN
        RETURN nb_ledger_sum(b, p_subject, p_starts, p_ends, NULL, NULL, NULL);
    END IF;
    SELECT coalesce(sum(CASE b.metric WHEN 'usd' THEN u.cost_nano WHEN 'tokens' THEN u.tokens ELSE u.requests END), 0)::bigint
    INTO v_sum
    FROM usage_rollups u
    WHERE u.tenant_id = b.tenant_id
        AND (u.grain = v_days AND u.bucket >= v_day AND u.bucket < v_last_day
            OR u.grain = v_hours AND (u.bucket >= v_hour AND u.bucket < v_day OR u.bucket >= v_last_day AND u.bucket < v_last_hour))
        AND (b.scope <> 'customer' OR u.customer = p_subject) AND (b.scope <> 'user' OR u.end_user = p_subject)
        AND (b.scope <> 'tag' OR u.tag = b.tag AND u.value = p_subject) AND (b.plan IS NULL OR u.plan = b.plan)
        AND CASE b.scope
            WHEN 'project' THEN u.project = p_subject
            WHEN 'plan' THEN u.plan = p_subject
            WHEN 'api_key' THEN u.api_key = p_subject
            WHEN 'provider' THEN u.provider = p_subject
            WHEN 'model' THEN u.model = p_subject
            ELSE true
        END;
    RETURN v_sum + nb_ledger_sum(b, p_subject, p_starts, p_ends, v_rolled, NULL, NULL)
        + CASE WHEN p_starts < v_hour THEN nb_ledger_sum(b, p_subject, p_starts, v_hour, NULL, v_rolled, NULL) ELSE 0 END
        + CASE WHEN v_last_hour < v_ends
            THEN nb_ledger_sum(b, p_subject, v_last_hour, p_ends, NULL, v_rolled, NULL) ELSE 0 END;
END $$;

-- What a counter has spent under its budget's present version. A counter that is older than its budget's last move to
-- another time zone, and is in use again since the zone was changed back, lacks what was posted elsewhere meanwhile.
CREATE OR REPLACE FUNCTION nb_spent(c counters, b budgets_budget) RETURNS bigint
LANGUAGE sql STABLE SET search_path = public, pg_temp AS $$
    SELECT CASE WHEN c.budget_version <> b.version AND c.created_at < b.effective_at AND c.starts_at < b.effective_at
        THEN c.spent - c.opening + nb_ledger_sum(b, c.subject, c.starts_at, c.ends_at, NULL, NULL, c.counter_id) ELSE c.spent END
$$;

-- The limit of one subject of a budget at a time: its override, else the budget's own, and the increases in force; at most
-- the largest limit. An increase that is marked as started or ended is so whatever the clock says: the mark was written
-- together with the budget's next version, so a counter that is loaded under that version agrees with it for good.
CREATE OR REPLACE FUNCTION nb_limit(b budgets_budget, p_subject text, p_at timestamptz) RETURNS bigint
LANGUAGE plpgsql STABLE SET search_path = public, pg_temp AS $$
BEGIN
    RETURN least(9007199254740992,
        coalesce((SELECT o.limit_amount FROM budgets_budgetoverride o
            WHERE o.tenant_id = b.tenant_id AND o.budget_id = b.id AND o.subject = p_subject), b.limit_amount)
        + coalesce((SELECT sum(i.amount) FROM budgets_budgetincrease i
            WHERE i.tenant_id = b.tenant_id AND i.budget_id = b.id AND i.subject IN ('*', p_subject)
                AND i.ended_at IS NULL AND i.cancelled_at IS NULL
                AND (i.started_at IS NOT NULL OR i.starts_at <= p_at) AND i.ends_at > p_at), 0));
END $$;

-- Grants authority to the open epoch for all counters that the waiting calls lack; docs/escrow.md, "Asking".
-- asks: [{tenant, shard, epoch, budget, counter, subject, starts, ends (ms, ends null: never), need, lost,
--         chunk, used}]
--   need: sum of the waiting calls' amounts; chunk, used: as Redis showed them (0 when the key is missing);
--   lost: the incarnation whose load, sent without the right to create, Redis answered with MISSING or RETIRED; else 0.
-- Returns [{counter, status: "ok"|"epoch_closed"|"no_budget"|"no_wallet"|"too_many_subjects", and the message if ok}].
CREATE OR REPLACE FUNCTION nb_grant(p_asks jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    a record;
    b budgets_budget;
    c counters;
    g grants;
    v_out jsonb := '[]';
    v_shown bigint;
    v_until timestamptz;
    v_free bigint;
    v_want bigint;
    v_chunk bigint;
    v_limit bigint;
    v_spent bigint;
    v_starts timestamptz;
    v_ends timestamptz;
    v_subjects bigint;
BEGIN
    PERFORM nb_lock_shards(ARRAY(SELECT (x ->> 'shard')::integer FROM jsonb_array_elements(p_asks) AS x));
    -- What counts new subjects is locked before any counter: between counters, two batches could wait for each other.
    INSERT INTO counter_subjects AS s
    SELECT DISTINCT x.tenant, x.budget, to_timestamp(x.starts / 1000.0), 0
    FROM jsonb_to_recordset(p_asks) AS x(tenant uuid, budget uuid, counter uuid, starts bigint)
    JOIN budgets_budget t ON t.tenant_id = x.tenant AND t.id = x.budget AND t.subject = '*' AND t.archived_at IS NULL
        AND t.scope NOT IN ('wallet', 'run_cap')
    WHERE NOT EXISTS (SELECT 1 FROM counters k WHERE k.tenant_id = x.tenant AND k.counter_id = x.counter)
    ORDER BY 1, 2, 3
    ON CONFLICT (tenant_id, budget_id, starts_at) DO UPDATE SET subjects = s.subjects;
    FOR a IN
        SELECT * FROM jsonb_to_recordset(p_asks) AS x(tenant uuid, shard integer, epoch uuid, budget uuid, counter uuid,
            subject text, starts bigint, ends bigint, need bigint, lost integer, chunk bigint, used bigint)
        ORDER BY x.counter
    LOOP
        PERFORM 1 FROM epochs WHERE epoch_id = a.epoch AND shard = a.shard AND state = 'open';
        IF NOT FOUND THEN
            v_out := v_out || jsonb_build_object('counter', a.counter, 'status', 'epoch_closed');
            CONTINUE;
        END IF;
        SELECT * INTO b FROM budgets_budget WHERE tenant_id = a.tenant AND id = a.budget AND archived_at IS NULL;
        IF NOT FOUND THEN
            v_out := v_out || jsonb_build_object('counter', a.counter, 'status', 'no_budget');
            CONTINUE;
        END IF;
        v_starts := to_timestamp(a.starts / 1000.0);
        v_ends := to_timestamp(a.ends / 1000.0);
        -- Reckoned after the budget was read, so that a limit is never older than the version that it is kept under. Redis's
        -- clock decides the window: ours may still be in the one before, whose increases are over where this one starts.
        v_shown := NULL;
        v_until := NULL;
        IF b.scope = 'wallet' THEN
            -- Held until the end: whoever changes it meanwhile waits, and then finds the counter that is made here.
            PERFORM 1 FROM wallet_limits WHERE tenant_id = a.tenant AND counter_id = a.counter FOR SHARE;
            IF NOT FOUND THEN
                v_out := v_out || jsonb_build_object('counter', a.counter, 'status', 'no_wallet');
                CONTINUE;
            END IF;
            SELECT l.amount, l.shown, l.until INTO v_limit, v_shown, v_until
            FROM wallet_limits w, nb_wallet_limit(w, clock_timestamp()) AS l
            WHERE w.tenant_id = a.tenant AND w.counter_id = a.counter;
        ELSIF b.scope = 'run_cap' THEN
            -- Written before the run's first call, and never changed. A run that is over gets nothing more.
            SELECT CASE b.metric WHEN 'usd' THEN r.cap_nano ELSE r.cap_steps END INTO v_limit
            FROM budgets_run r WHERE r.tenant_id = a.tenant AND r.run = a.subject AND r.state = 'open';
            IF v_limit IS NULL THEN
                v_out := v_out || jsonb_build_object('counter', a.counter, 'status', 'no_budget');
                CONTINUE;
            END IF;
        ELSE
            v_limit := nb_limit(b, a.subject, greatest(clock_timestamp(), v_starts));
        END IF;

        SELECT * INTO c FROM counters WHERE tenant_id = a.tenant AND counter_id = a.counter FOR UPDATE;
        IF NOT FOUND THEN
            -- Wallets are made one by one, by people; how many runs are open has a bound of its own.
            IF b.subject = '*' AND b.scope NOT IN ('wallet', 'run_cap') THEN
                INSERT INTO counter_subjects AS s VALUES (a.tenant, a.budget, v_starts, 1)
                ON CONFLICT (tenant_id, budget_id, starts_at) DO UPDATE SET subjects = s.subjects + 1
                    WHERE s.subjects < (SELECT t.subject_limit FROM tenants_tenant t WHERE t.id = a.tenant)
                RETURNING s.subjects INTO v_subjects;
                IF NOT FOUND THEN
                    v_out := v_out || jsonb_build_object('counter', a.counter, 'status', 'too_many_subjects');
                    CONTINUE;
                END IF;
            END IF;
            INSERT INTO counters (tenant_id, counter_id, budget_id, subject, starts_at, ends_at, limit_amount,
                budget_version, spent, opening, shown_limit, limit_until)
            SELECT a.tenant, a.counter, a.budget, a.subject, v_starts, v_ends, v_limit, b.version, o, o, v_shown, v_until
            -- Credit pays for no call from before its wallet, a run's cap for none from before its start.
            FROM (SELECT CASE WHEN b.effective_at > v_starts AND b.scope NOT IN ('wallet', 'run_cap')
                THEN nb_opening(b, a.subject, v_starts, v_ends) ELSE 0 END AS o) AS opening
            ON CONFLICT DO NOTHING;
            SELECT * INTO STRICT c FROM counters WHERE tenant_id = a.tenant AND counter_id = a.counter FOR UPDATE;
        END IF;
        IF c.limit_amount <> v_limit OR c.budget_version <> b.version OR c.shown_limit IS DISTINCT FROM v_shown
            OR c.limit_until IS DISTINCT FROM v_until THEN
            v_spent := nb_spent(c, b);
            UPDATE counters SET limit_amount = v_limit, budget_version = b.version, spent = v_spent,
                opening = opening + v_spent - spent, shown_limit = v_shown, limit_until = v_until
            WHERE tenant_id = a.tenant AND counter_id = a.counter RETURNING * INTO c;
        END IF;

        SELECT * INTO g FROM grants WHERE tenant_id = a.tenant AND counter_id = a.counter AND epoch_id = a.epoch
        ORDER BY incarnation DESC LIMIT 1 FOR UPDATE;
        IF FOUND AND g.state = 'live' AND a.lost = g.incarnation THEN
            -- Redis had this key and has it no more: what it may have spent stays locked.
            UPDATE grants SET state = 'lost', left_at = now()
            WHERE tenant_id = a.tenant AND counter_id = a.counter AND epoch_id = a.epoch AND incarnation = g.incarnation
            RETURNING * INTO g;
        END IF;
        IF g.counter_id IS NULL OR g.state <> 'live' THEN
            INSERT INTO grants (tenant_id, counter_id, epoch_id, incarnation)
            VALUES (a.tenant, a.counter, a.epoch, coalesce(g.incarnation, 0) + 1) RETURNING * INTO g;
        END IF;

        v_free := nb_parent_free(c);
        -- What was granted beyond the chunk that Redis showed is on its way already.
        v_want := a.need - (a.chunk - a.used) - (g.granted - a.chunk);
        v_chunk := 0;
        IF v_want > 0 AND v_free > 0 THEN
            v_chunk := least(v_free, greatest(coalesce(c.shown_limit, c.limit_amount) / 8, v_want,
                CASE WHEN g.chunk_at > now() - interval '5 seconds' THEN 2 * g.chunk ELSE 0 END));
        END IF;
        UPDATE grants SET authority = authority + v_chunk, granted = granted + v_chunk, seq = seq + 1,
            target = greatest(0, granted + v_chunk + least(0, v_free - v_chunk)), sent_at = now(),
            chunk = CASE WHEN v_chunk > 0 THEN v_chunk ELSE chunk END,
            chunk_at = CASE WHEN v_chunk > 0 THEN now() ELSE chunk_at END
        WHERE tenant_id = a.tenant AND counter_id = a.counter AND epoch_id = a.epoch AND incarnation = g.incarnation
        RETURNING * INTO g;
        v_out := v_out || (nb_message(g, c, v_free - v_chunk) || '{"status": "ok"}');
    END LOOP;
    RETURN v_out;
END $$;

-- Books acknowledgements of load messages; completes shrinks, which count only for the latest sequence.
-- acks: [{tenant, counter, epoch, inc, seq, chunk}], what Redis has. A shrink needs no further message: Redis knows already.
CREATE OR REPLACE FUNCTION nb_ack(p_acks jsonb) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    a record;
    g grants;
BEGIN
    FOR a IN
        SELECT * FROM jsonb_to_recordset(p_acks)
            AS x(tenant uuid, counter uuid, epoch uuid, inc integer, seq integer, chunk bigint)
        ORDER BY x.counter, x.epoch, x.inc, x.seq
    LOOP
        PERFORM 1 FROM counters WHERE tenant_id = a.tenant AND counter_id = a.counter FOR UPDATE;
        SELECT * INTO g FROM grants WHERE tenant_id = a.tenant AND counter_id = a.counter AND epoch_id = a.epoch
            AND incarnation = a.inc FOR UPDATE;
        CONTINUE WHEN NOT FOUND OR a.seq > g.seq;
        UPDATE grants SET acked_seq = greatest(acked_seq, a.seq)
        WHERE tenant_id = a.tenant AND counter_id = a.counter AND epoch_id = a.epoch AND incarnation = a.inc;
        -- A closed epoch's rows change by resolutions and write-offs alone; a late answer must not free them twice.
        IF a.seq = g.seq AND g.state = 'live' AND a.chunk < g.granted AND g.authority >= g.granted - a.chunk
            AND EXISTS (SELECT 1 FROM epochs e WHERE e.epoch_id = a.epoch AND e.state <> 'closed') THEN
            UPDATE grants SET authority = authority - (granted - a.chunk), granted = a.chunk, target = a.chunk
            WHERE tenant_id = a.tenant AND counter_id = a.counter AND epoch_id = a.epoch AND incarnation = a.inc;
        END IF;
    END LOOP;
END $$;

-- What subjects have that no call has touched yet; reads only, so that a question never makes a counter.
-- asks: as nb_grant's. Returns [{counter, limit, remaining}].
CREATE OR REPLACE FUNCTION nb_peek(p_asks jsonb) RETURNS jsonb
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    RETURN (SELECT coalesce(jsonb_agg(jsonb_build_object('counter', a.counter, 'limit', l.shown, 'remaining', l.amount
        - coalesce(nb_spent(c, b), CASE WHEN b.scope IN ('wallet', 'run_cap') THEN 0
            WHEN b.effective_at > to_timestamp(a.starts / 1000.0) THEN nb_opening(b, a.subject,
            to_timestamp(a.starts / 1000.0), to_timestamp(a.ends / 1000.0)) ELSE 0 END)
        - coalesce((SELECT sum(g.authority) FROM grants g JOIN epochs e ON e.epoch_id = g.epoch_id
            WHERE g.tenant_id = a.tenant AND g.counter_id = a.counter AND NOT (g.state = 'live' AND e.state = 'open')), 0))),
        '[]')
    FROM jsonb_to_recordset(p_asks) AS a(tenant uuid, budget uuid, counter uuid, subject text, starts bigint, ends bigint)
    JOIN budgets_budget b ON b.tenant_id = a.tenant AND b.id = a.budget
    LEFT JOIN counters c ON c.tenant_id = a.tenant AND c.counter_id = a.counter
    LEFT JOIN wallet_limits w ON b.scope = 'wallet' AND w.tenant_id = a.tenant AND w.counter_id = a.counter
    -- A customer without a wallet is left out.
    CROSS JOIN LATERAL (
        SELECT n.amount, n.amount AS shown
        FROM (SELECT nb_limit(b, a.subject, greatest(clock_timestamp(), to_timestamp(a.starts / 1000.0))) AS amount
            WHERE b.scope NOT IN ('wallet', 'run_cap')
            UNION ALL
            SELECT CASE b.metric WHEN 'usd' THEN r.cap_nano ELSE r.cap_steps END
            FROM budgets_run r WHERE b.scope = 'run_cap' AND r.tenant_id = a.tenant AND r.run = a.subject) AS n
        UNION ALL
        SELECT x.amount, x.shown FROM nb_wallet_limit(w, clock_timestamp()) AS x WHERE w.counter_id IS NOT NULL) AS l);
END $$;

-- Messages of open epochs that nobody acknowledged for p_age, to be sent again as they stand now. Each is then at the end
-- of the line, so that what can never be acknowledged keeps nothing else back.
CREATE OR REPLACE FUNCTION nb_unacked(p_age interval, p_limit integer) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    v_out jsonb;
BEGIN
    WITH due AS (
        SELECT g.tenant_id, g.counter_id, g.epoch_id, g.incarnation
        FROM grants g JOIN epochs e ON e.epoch_id = g.epoch_id AND e.state = 'open'
        WHERE g.state = 'live' AND g.acked_seq < g.seq AND g.sent_at < now() - p_age
        ORDER BY g.sent_at LIMIT p_limit
        FOR NO KEY UPDATE OF g SKIP LOCKED),
    sent AS (
        UPDATE grants g SET sent_at = now() FROM due d
        WHERE g.tenant_id = d.tenant_id AND g.counter_id = d.counter_id AND g.epoch_id = d.epoch_id
            AND g.incarnation = d.incarnation
        RETURNING g.*)
    SELECT coalesce(jsonb_agg(nb_message(s::grants, c, nb_parent_free(c))), '[]') INTO v_out
    FROM sent s JOIN counters c ON c.tenant_id = s.tenant_id AND c.counter_id = s.counter_id;
    RETURN v_out;
END $$;
