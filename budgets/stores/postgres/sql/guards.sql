-- What guards ask of PostgreSQL: since when a customer is known. Rules: docs/guards.md.

-- The millisecond at which a customer was registered; NULL: nobody knows it yet.
CREATE OR REPLACE FUNCTION nb_first_seen(p_tenant uuid, p_customer text) RETURNS bigint
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
    SELECT (extract(epoch FROM created_at) * 1000)::bigint FROM tenants_customer
    WHERE tenant_id = p_tenant AND external_id = p_customer
$$;

DO $$
BEGIN
    REVOKE ALL ON FUNCTION nb_first_seen(uuid, text) FROM PUBLIC;
    IF to_regrole('noburn_app') IS NOT NULL THEN GRANT EXECUTE ON FUNCTION nb_first_seen(uuid, text) TO noburn_app; END IF;
    IF to_regrole('noburn_gateway') IS NOT NULL THEN
        GRANT EXECUTE ON FUNCTION nb_first_seen(uuid, text) TO noburn_gateway;
    END IF;
END $$;
