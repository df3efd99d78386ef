-- The application reads the money path's tables and calls its functions; the gateway only calls the few it needs.
REVOKE ALL ON epochs, counters, counter_subjects, grants, hold_resolutions, ledger_entries FROM PUBLIC;
DO $$
DECLARE
    f regprocedure;
BEGIN
    FOR f IN SELECT p.oid::regprocedure FROM pg_proc p
        WHERE p.pronamespace = 'public'::regnamespace AND p.proname LIKE 'nb\_%'
            AND pg_get_userbyid(p.proowner) = current_user
    LOOP
        EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', f);
        IF to_regrole('noburn_app') IS NOT NULL THEN EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO noburn_app', f); END IF;
    END LOOP;
    IF to_regrole('noburn_app') IS NOT NULL THEN
        REVOKE ALL ON epochs, counters, counter_subjects, grants, hold_resolutions, ledger_entries FROM noburn_app;
        GRANT SELECT ON epochs, counters, counter_subjects, grants, hold_resolutions, ledger_entries TO noburn_app;
    END IF;
    IF to_regrole('noburn_gateway') IS NOT NULL THEN
        REVOKE ALL ON epochs, counters, counter_subjects, grants, hold_resolutions, ledger_entries FROM noburn_gateway;
        GRANT SELECT ON epochs TO noburn_gateway;
        GRANT EXECUTE ON FUNCTION nb_grant(jsonb), nb_peek(jsonb), nb_ack(jsonb), nb_unacked(interval, integer), nb_resolve(jsonb),
            nb_policy_by_key(bytea), nb_policies_newer(uuid[], bigint[]), nb_touch_subjects(uuid, text[], text[])
            TO noburn_gateway;
    END IF;
END $$;
