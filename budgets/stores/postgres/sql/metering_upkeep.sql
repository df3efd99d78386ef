-- Upkeep of the rollups: comparing them with the ledger, counting anew, forgetting old hours; docs/metering.md.

-- Compares the rollups of whole days (UTC) with the ledger below the cursor, to the nano, also while settlements and rollers
-- are at work: all is read as of one moment. Returns a row for each figure that is not what it should be.
CREATE OR REPLACE FUNCTION nb_verify_usage(p_tenant uuid, p_from timestamptz DEFAULT NULL, p_until timestamptz DEFAULT NULL)
RETURNS TABLE (tenant_id uuid, object text, figure text, stored bigint, derived bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
    SELECT coalesce(s.tenant_id, d.tenant_id),
        format('%s %s %s', coalesce(s.grain, d.grain),
            to_char(coalesce(s.bucket, d.bucket) AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24"Z"'),
            (SELECT string_agg(n.name || '=' || n.named, ' ' ORDER BY n.at)
             FROM (VALUES (1, 'project', coalesce(s.project, d.project)), (2, 'customer', coalesce(s.customer, d.customer)),
                (3, 'user', coalesce(s.end_user, d.end_user)), (4, 'plan', coalesce(s.plan, d.plan)),
                (5, 'api_key', coalesce(s.api_key, d.api_key)), (6, 'provider', coalesce(s.provider, d.provider)),
                (7, 'model', coalesce(s.model, d.model)), (8, 'tag', coalesce(s.tag, d.tag)),
                (9, 'value', coalesce(s.value, d.value))) AS n (at, name, named)
             WHERE n.named <> '')),
        f.figure, coalesce(f.stored, 0), coalesce(f.derived, 0)
    FROM (SELECT u.* FROM usage_rollups u, usage_cursor c
        WHERE (p_tenant IS NULL OR u.tenant_id = p_tenant)
            AND (p_from IS NULL OR u.bucket >= p_from) AND (p_until IS NULL OR u.bucket < p_until)
            AND (u.bucket >= c.hours_from OR u.grain IN ('days', 'total_days', 'tag_days'))) AS s
    FULL JOIN (SELECT n.* FROM usage_cursor c,
        nb_usage_sums(p_tenant, p_from, p_until, NULL, c.position, c.hours_from) AS n) AS d
        ON d.tenant_id = s.tenant_id AND d.bucket = s.bucket AND d.key = s.key AND d.grain = s.grain
    CROSS JOIN LATERAL (VALUES ('cost_nano', s.cost_nano, d.cost_nano), ('presumed_nano', s.presumed_nano, d.presumed_nano),
        ('requests', s.requests, d.requests), ('errors', s.errors, d.errors), ('tokens', s.tokens, d.tokens),
        ('input_tokens', s.input_tokens, d.input_tokens), ('output_tokens', s.output_tokens, d.output_tokens),
        ('cache_read_tokens', s.cache_read_tokens, d.cache_read_tokens),
        ('cache_write_tokens', s.cache_write_tokens, d.cache_write_tokens),
        ('cache_write_1h_tokens', s.cache_write_1h_tokens, d.cache_write_1h_tokens),
        ('reasoning_tokens', s.reasoning_tokens, d.reasoning_tokens),
        ('audio_input_tokens', s.audio_input_tokens, d.audio_input_tokens),
        ('audio_output_tokens', s.audio_output_tokens, d.audio_output_tokens), ('images', s.images, d.images),
        ('tool_calls', s.tool_calls, d.tool_calls), ('latency_ms', s.latency_ms, d.latency_ms),
        ('latencies', s.latencies, d.latencies),
        ('presumed_requests', s.presumed_requests, d.presumed_requests)) AS f (figure, stored, derived)
    WHERE coalesce(f.stored, 0) <> coalesce(f.derived, 0)
$$;

-- The first day (UTC) after p_after (NULL: the first of all) for which a tenant has entries or rollups; NULL: none.
CREATE OR REPLACE FUNCTION nb_next_usage_day(p_tenant uuid, p_after date) RETURNS date
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
    SELECT (least(
        (SELECT min(l.placed_at) FROM ledger_entries l WHERE l.tenant_id = p_tenant AND l.placed_at >= t.since),
        (SELECT min(u.bucket) FROM usage_rollups u WHERE u.tenant_id = p_tenant AND u.bucket >= t.since))
        AT TIME ZONE 'UTC')::date
    FROM (SELECT coalesce((p_after + 1)::timestamp AT TIME ZONE 'UTC', '-infinity') AS since) AS t
$$;

-- Counts one day of one tenant anew, from the ledger below the cursor. Exact whenever it runs: the cursor stands still
-- meanwhile. Returns how many rows it wrote.
CREATE OR REPLACE FUNCTION nb_recount_usage(p_tenant uuid, p_day date) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp SET plan_cache_mode = force_custom_plan AS $$
DECLARE
    c usage_cursor;
    v_from timestamptz := p_day::timestamp AT TIME ZONE 'UTC';
    v_until timestamptz := (p_day + 1)::timestamp AT TIME ZONE 'UTC';
    v_rows bigint;
BEGIN
    SELECT * INTO STRICT c FROM usage_cursor FOR UPDATE;
    PERFORM nb_usage_check_home(c);
    DELETE FROM usage_rollups WHERE tenant_id = p_tenant AND bucket >= v_from AND bucket < v_until;
    INSERT INTO usage_rollups
    SELECT * FROM nb_usage_sums(p_tenant, v_from, v_until, NULL, c.position, c.hours_from);
    GET DIAGNOSTICS v_rows = ROW_COUNT;
    RETURN v_rows;
END $$;

-- Begins to count everything anew. After a restored dump it first draws a line: the ledger is locked for a moment, so that
-- no entry is on its way; every entry there is gets below the cursor, and those to come, by a new shift, above it.
-- Returns true where it had to. Begun twice it starts over.
CREATE OR REPLACE FUNCTION nb_rebuild_usage_begin() RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    c usage_cursor;
    v_moved boolean := false;
BEGIN
    SELECT * INTO STRICT c FROM usage_cursor FOR UPDATE;
    IF NOT nb_usage_at_home(c) THEN
        LOCK TABLE ONLY ledger_entries IN ACCESS EXCLUSIVE MODE;
        SELECT greatest(coalesce(max(l.position), 0), c.position, 0) + 1 INTO c.shift FROM ledger_entries l;
        EXECUTE format('ALTER TABLE ONLY ledger_entries ALTER COLUMN position'
            ' SET DEFAULT pg_current_xact_id()::text::bigint + %s', c.shift);
        UPDATE usage_cursor SET position = c.shift, shift = c.shift, through_at = NULL, pending_position = NULL,
            pending_at = NULL;
        PERFORM nb_usage_settle_in();
        v_moved := true;
    END IF;
    UPDATE usage_cursor SET rebuild_began_at = clock_timestamp(), rebuild_tenant = NULL, rebuild_day = NULL;
    RETURN v_moved;
END $$;

-- Writes which transaction wrote the row: the second update keeps it true, being the same transaction's.
CREATE OR REPLACE FUNCTION nb_usage_settle_in() RETURNS void
LANGUAGE sql SET search_path = public, pg_temp AS $$
    INSERT INTO usage_home (written_by) VALUES ('') ON CONFLICT (only_row) DO UPDATE SET written_by = '';
    UPDATE usage_home SET written_by = xmin::text
$$;

-- Counts the next tenant's next day anew and notes it: a rebuild that was killed goes on where it was.
-- Returns {tenant, day, rows}, or NULL when nothing is left to do.
CREATE OR REPLACE FUNCTION nb_rebuild_usage_step() RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    c usage_cursor;
    v_day date;
    v_rows bigint;
BEGIN
    SELECT * INTO STRICT c FROM usage_cursor FOR UPDATE;
    IF c.rebuild_began_at IS NULL THEN RETURN NULL; END IF;
    LOOP
        IF c.rebuild_tenant IS NOT NULL THEN
            v_day := nb_next_usage_day(c.rebuild_tenant, c.rebuild_day);
            EXIT WHEN v_day IS NOT NULL;
        END IF;
        SELECT t.id INTO c.rebuild_tenant FROM tenants_tenant t
        WHERE c.rebuild_tenant IS NULL OR t.id > c.rebuild_tenant ORDER BY t.id LIMIT 1;
        c.rebuild_day := NULL;
        EXIT WHEN c.rebuild_tenant IS NULL;
    END LOOP;
    IF c.rebuild_tenant IS NULL THEN
        UPDATE usage_cursor SET rebuild_began_at = NULL, rebuild_tenant = NULL, rebuild_day = NULL;
        RETURN NULL;
    END IF;
    v_rows := nb_recount_usage(c.rebuild_tenant, v_day);
    UPDATE usage_cursor SET rebuild_tenant = c.rebuild_tenant, rebuild_day = v_day;
    RETURN jsonb_build_object('tenant', c.rebuild_tenant, 'day', v_day, 'rows', v_rows);
END $$;

-- Forgets hours before p_before, at most p_limit rows of each kind; days are kept. From then on entries of those hours count
-- for their days alone. Returns how many rows went.
CREATE OR REPLACE FUNCTION nb_prune_usage(p_before timestamptz, p_limit integer) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    v_from timestamptz;
    v_table text;
    v_gone integer;
    v_all integer := 0;
BEGIN
    IF p_limit NOT BETWEEN 1 AND 100000 THEN RAISE EXCEPTION 'p_limit: between 1 and 100000, not %', p_limit; END IF;
    IF p_before > now() THEN RAISE EXCEPTION 'p_before: % has not come yet', p_before; END IF;
    PERFORM 1 FROM usage_cursor FOR UPDATE;
    UPDATE usage_cursor SET hours_from = greatest(hours_from, date_trunc('hour', p_before, 'UTC'))
    RETURNING hours_from INTO v_from;
    FOREACH v_table IN ARRAY ARRAY['usage_hours', 'usage_total_hours', 'usage_tag_hours'] LOOP
        EXECUTE format('DELETE FROM %1$I WHERE ctid = ANY (ARRAY(SELECT ctid FROM %1$I WHERE bucket < $1 LIMIT $2))', v_table)
            USING v_from, p_limit;
        GET DIAGNOSTICS v_gone = ROW_COUNT;
        v_all := v_all + v_gone;
    END LOOP;
    RETURN v_all;
END $$;

-- Numbers entries that are older than their column, p_limit at a time, below zero; returns how many. For the migration.
CREATE OR REPLACE FUNCTION nb_number_entries(p_limit integer) RETURNS bigint
LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
DECLARE
    v_rows bigint;
BEGIN
    UPDATE ledger_entries l SET position = n.next
    FROM (SELECT least(min(o.position), 0) - 1 AS next FROM ledger_entries o) AS n,
        (SELECT o.hold_id, o.placed_month, o.revision FROM ledger_entries o WHERE o.position = 0 LIMIT p_limit) AS old
    WHERE l.hold_id = old.hold_id AND l.placed_month = old.placed_month AND l.revision = old.revision;
    GET DIAGNOSTICS v_rows = ROW_COUNT;
    RETURN v_rows;
END $$;

-- Begins to count, once every entry has its number. Repeatable.
CREATE OR REPLACE FUNCTION nb_begin_usage() RETURNS void
LANGUAGE sql SET search_path = public, pg_temp AS $$
    SELECT nb_usage_settle_in() WHERE NOT EXISTS (SELECT FROM usage_cursor);
    INSERT INTO usage_cursor (position) VALUES (-9223372036854775807) ON CONFLICT DO NOTHING
$$;

-- The application reads the rollups and calls the functions; those that are not SECURITY DEFINER can do nothing as it.
REVOKE ALL ON usage_cursor, usage_home, usage_rollups, usage_hours, usage_days, usage_total_hours, usage_total_days,
    usage_tag_hours, usage_tag_days FROM PUBLIC;
DO $$
DECLARE
    f regprocedure;
BEGIN
    FOR f IN SELECT p.oid::regprocedure FROM pg_proc p
        WHERE p.pronamespace = 'public'::regnamespace AND p.proname ~ '^nb_(.*usage|number_entries)'
    LOOP
        EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', f);
        IF to_regrole('noburn_app') IS NOT NULL THEN EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO noburn_app', f); END IF;
    END LOOP;
    IF to_regrole('noburn_app') IS NOT NULL THEN
        REVOKE ALL ON usage_cursor, usage_home, usage_rollups, usage_hours, usage_days, usage_total_hours, usage_total_days,
            usage_tag_hours, usage_tag_days FROM noburn_app;
        GRANT SELECT ON usage_cursor, usage_home, usage_rollups TO noburn_app;
    END IF;
END $$;
