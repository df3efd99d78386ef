-- The recovery controller's steps; docs/escrow.md, section 3. An epoch changes its state only under its shard's exclusive
-- lock, so no grant or resolution sees it change half-way. An `opening` epoch belongs to the one attempt that inserted it:
-- scripts are loaded and the key is set at most once for an id, and whoever takes over replaces it.

CREATE OR REPLACE FUNCTION nb_epoch_lock(p_shard integer) RETURNS void
LANGUAGE sql SET search_path = public, pg_temp AS $$ SELECT pg_advisory_xact_lock(420017, p_shard) $$;

-- The shard's epoch p_old (NULL: none yet) is lost or done: closes it and prepares p_new, valid for p_validity.
-- p_scripts: EVALSHA's names of its scripts, by which programs of every version call them.
-- Returns the shard's current epoch: p_new, or another's if a second controller was faster.
CREATE OR REPLACE FUNCTION nb_epoch_replace(p_shard integer, p_old uuid, p_new uuid, p_validity interval, p_reason text,
    p_scripts jsonb) RETURNS uuid
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    v_current uuid;
BEGIN
    PERFORM nb_epoch_lock(p_shard);
    SELECT epoch_id INTO v_current FROM epochs WHERE shard = p_shard AND state <> 'closed';
    IF v_current IS DISTINCT FROM p_old THEN RETURN v_current; END IF;
    UPDATE epochs SET state = 'closed', closed_at = now(), reason = p_reason WHERE epoch_id = v_current;
    INSERT INTO epochs (epoch_id, shard, state, valid_until, scripts)
    VALUES (p_new, p_shard, 'opening', now() + p_validity, p_scripts);
    RETURN p_new;
END $$;

-- Records the latest permitted valid_until before it is sent to Redis. Returns {epoch: ms} of those still in use.
-- No key changes: a stronger lock would wait for every grant's reference to its epoch, and could deadlock with two.
CREATE OR REPLACE FUNCTION nb_epoch_renew(p_epochs uuid[], p_validity interval) RETURNS jsonb
LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS $$
    WITH locked AS (
        SELECT epoch_id FROM epochs WHERE epoch_id = ANY (p_epochs) AND state IN ('opening', 'open')
        ORDER BY epoch_id FOR NO KEY UPDATE),
    renewed AS (
        UPDATE epochs e SET valid_until = greatest(e.valid_until, now() + p_validity)
        FROM locked l WHERE e.epoch_id = l.epoch_id
        RETURNING e.epoch_id, e.valid_until)
    SELECT coalesce(jsonb_object_agg(epoch_id, floor(extract(epoch FROM valid_until) * 1000)::bigint), '{}') FROM renewed
$$;

-- The scripts are loaded and the key is set: grants may begin. False if the epoch is no longer `opening`.
CREATE OR REPLACE FUNCTION nb_epoch_opened(p_epoch uuid) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    PERFORM nb_epoch_lock(shard) FROM epochs WHERE epoch_id = p_epoch;
    UPDATE epochs SET state = 'open', opened_at = now() WHERE epoch_id = p_epoch AND state = 'opening';
    RETURN FOUND;
END $$;

-- A planned close begins: no more grants, resolutions take the closed branch. False if it is not open.
CREATE OR REPLACE FUNCTION nb_epoch_closing(p_epoch uuid) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    PERFORM nb_epoch_lock(shard) FROM epochs WHERE epoch_id = p_epoch;
    UPDATE epochs SET state = 'closing' WHERE epoch_id = p_epoch AND state IN ('open', 'closing');
    RETURN FOUND;
END $$;

-- Redis holds nothing of this closed epoch any more.
CREATE OR REPLACE FUNCTION nb_epoch_cleaned(p_epoch uuid) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    UPDATE epochs SET cleaned_at = now() WHERE epoch_id = p_epoch AND state = 'closed';
    RETURN FOUND;
END $$;

-- Marks incarnations as retired before Redis is told. rows: [{tenant, counter, epoch, inc}].
CREATE OR REPLACE FUNCTION nb_retire(p_shard integer, p_rows jsonb) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    v_count integer;
BEGIN
    PERFORM nb_epoch_lock(p_shard);
    PERFORM 1 FROM counters c
    JOIN jsonb_to_recordset(p_rows) AS x(tenant uuid, counter uuid) ON c.tenant_id = x.tenant AND c.counter_id = x.counter
    ORDER BY c.counter_id FOR UPDATE OF c;
    UPDATE grants g SET state = 'retired', left_at = now()
    FROM jsonb_to_recordset(p_rows) AS x(tenant uuid, counter uuid, epoch uuid, inc integer)
    WHERE g.tenant_id = x.tenant AND g.counter_id = x.counter AND g.epoch_id = x.epoch AND g.incarnation = x.inc
        AND g.state = 'live';
    GET DIAGNOSTICS v_count = ROW_COUNT;
    RETURN v_count;
END $$;

-- Books what Redis answered to a retire: what was never used goes back. rows: [{tenant, counter, epoch, inc, used}], used
-- null for MISSING: then all of it stays locked. An answer that comes twice, or after a write-off, frees nothing.
-- Returns load messages for the counters' live rows, whose headroom rose.
CREATE OR REPLACE FUNCTION nb_retired(p_rows jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    v_messages jsonb;
BEGIN
    PERFORM 1 FROM counters c
    JOIN jsonb_to_recordset(p_rows) AS x(tenant uuid, counter uuid) ON c.tenant_id = x.tenant AND c.counter_id = x.counter
    ORDER BY c.counter_id FOR UPDATE OF c;
    UPDATE grants g SET answered_at = coalesce(g.answered_at, now()),
        authority = CASE WHEN f.frees THEN g.authority - (g.granted - x.used) ELSE g.authority END,
        granted = CASE WHEN f.frees THEN x.used ELSE g.granted END,
        target = CASE WHEN f.frees THEN x.used ELSE g.target END
    FROM jsonb_to_recordset(p_rows) AS x(tenant uuid, counter uuid, epoch uuid, inc integer, used bigint), grants o,
        LATERAL (SELECT x.used IS NOT NULL AND o.granted > x.used AND o.authority >= o.granted - x.used AS frees) AS f
    WHERE o.tenant_id = x.tenant AND o.counter_id = x.counter AND o.epoch_id = x.epoch AND o.incarnation = x.inc
        AND g.tenant_id = o.tenant_id AND g.counter_id = o.counter_id AND g.epoch_id = o.epoch_id
        AND g.incarnation = o.incarnation AND g.state = 'retired';
    SELECT jsonb_agg(q.message) INTO v_messages
    FROM (SELECT nb_publish(t.tenant_id, t.counter_id) AS message
        FROM (SELECT DISTINCT g.tenant_id, g.counter_id
            FROM jsonb_to_recordset(p_rows) AS x(tenant uuid, counter uuid)
            JOIN grants g ON g.tenant_id = x.tenant AND g.counter_id = x.counter AND g.state = 'live'
            JOIN epochs e ON e.epoch_id = g.epoch_id AND e.state = 'open'
            ORDER BY 1, 2) AS t) AS q
    WHERE q.message IS NOT NULL;
    RETURN coalesce(v_messages, '[]');
END $$;

-- Writes off locked authority that nothing can resolve any more; a person's or a timer's name stays on it.
-- Refused (an exception, ERRCODE 55000) before recorded valid_until + p_wait. Returns {amount, message}.
CREATE OR REPLACE FUNCTION nb_writeoff(p_tenant uuid, p_counter uuid, p_epoch uuid, p_incarnation integer, p_hold uuid, p_wait interval,
    p_actor text, p_reason text) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    e epochs;
    g grants;
    v_from timestamptz;
    v_month date := date_trunc('month', now() AT TIME ZONE 'UTC')::date;
BEGIN
    IF coalesce(p_actor, '') = '' THEN RAISE EXCEPTION 'a write-off needs the name of who decided it'; END IF;
    SELECT * INTO STRICT e FROM epochs WHERE epoch_id = p_epoch;
    PERFORM pg_advisory_xact_lock_shared(420017, e.shard);
    SELECT * INTO STRICT e FROM epochs WHERE epoch_id = p_epoch;
    PERFORM 1 FROM counters WHERE tenant_id = p_tenant AND counter_id = p_counter FOR UPDATE;
    SELECT * INTO STRICT g FROM grants WHERE tenant_id = p_tenant AND counter_id = p_counter AND epoch_id = p_epoch
        AND incarnation = p_incarnation FOR UPDATE;
    IF e.state <> 'closed' AND g.state = 'live' THEN
        RAISE EXCEPTION 'epoch % is %: its authority is in use, not stranded', p_epoch, e.state USING ERRCODE = '55000';
    END IF;
    v_from := (CASE WHEN e.state = 'closed' THEN e.valid_until ELSE g.left_at + interval '60 seconds' END) + p_wait;
    IF now() < v_from THEN
        RAISE EXCEPTION 'holds of this epoch may still be settled until %: write off after that', v_from
            USING ERRCODE = '55000';
    END IF;
    IF g.authority = 0 THEN RETURN jsonb_build_object('amount', 0, 'message', NULL); END IF;
    INSERT INTO hold_resolutions (hold_id, placed_month, tenant_id, epoch_id, state, flags, counters, incarnations, held,
        live, first, posted, held_cost_nano, cost_nano, tokens, requests, usage_digest)
    VALUES (p_hold, v_month, p_tenant, p_epoch, 'written_off', '{}', ARRAY[p_counter], ARRAY[p_incarnation],
        ARRAY[g.authority], '{false}', '{0}', '{0}', 0, 0, 0, 0, '');
    INSERT INTO ledger_entries (hold_id, placed_month, revision, tenant_id, kind, placed_at, cost_nano, tokens, requests,
        note, counters, deltas)
    VALUES (p_hold, v_month, 1, p_tenant, 'written_off', now(), 0, 0, 0, p_actor || ': ' || p_reason, ARRAY[p_counter], '{0}');
    UPDATE grants SET authority = 0 WHERE tenant_id = p_tenant AND counter_id = p_counter AND epoch_id = p_epoch
        AND incarnation = p_incarnation;
    RETURN jsonb_build_object('amount', g.authority, 'message', nb_publish(p_tenant, p_counter));
END $$;
