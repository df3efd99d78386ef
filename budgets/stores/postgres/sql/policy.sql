-- What a gateway may read of a tenant, and the subjects it may register.

-- The policy of the tenant that owns an API key, revoked keys included. One row or none.
CREATE OR REPLACE FUNCTION nb_policy_by_key(p_digest bytea)
RETURNS TABLE (tenant_id uuid, version bigint, body bytea)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
    SELECT s.tenant_id, s.version, s.body
    FROM tenants_apikey k JOIN budgets_policysnapshot s ON s.tenant_id = k.tenant_id
    WHERE k.digest = p_digest
$$;

-- The policies among p_tenants that are newer than what the gateway holds (p_versions, in the same order).
CREATE OR REPLACE FUNCTION nb_policies_newer(p_tenants uuid[], p_versions bigint[])
RETURNS TABLE (tenant_id uuid, version bigint, body bytea)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
    SELECT s.tenant_id, s.version, s.body
    FROM unnest(p_tenants, p_versions) AS held (tenant, version)
    JOIN budgets_policysnapshot s ON s.tenant_id = held.tenant AND s.version > held.version
$$;

-- Registers customers and users on their first call, up to the tenant's limit. Returns how many were new.
CREATE OR REPLACE FUNCTION nb_touch_subjects(p_tenant uuid, p_customers text[], p_users text[]) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    v_room bigint;
    v_new integer;
    v_users integer;
BEGIN
    SELECT t.subject_limit - (SELECT count(*) FROM tenants_customer WHERE tenant_id = p_tenant)
            - (SELECT count(*) FROM tenants_enduser WHERE tenant_id = p_tenant)
        INTO STRICT v_room FROM tenants_tenant t WHERE t.id = p_tenant;
    IF v_room <= 0 THEN RETURN 0; END IF;
    INSERT INTO tenants_customer (id, tenant_id, external_id, name)
    SELECT gen_random_uuid(), p_tenant, s, '' FROM (SELECT DISTINCT s FROM unnest(p_customers) AS s ORDER BY s LIMIT v_room) AS q
    ON CONFLICT DO NOTHING;
    GET DIAGNOSTICS v_new = ROW_COUNT;
    INSERT INTO tenants_enduser (id, tenant_id, external_id)
    SELECT gen_random_uuid(), p_tenant, s FROM (SELECT DISTINCT s FROM unnest(p_users) AS s ORDER BY s LIMIT v_room - v_new) AS q
    ON CONFLICT DO NOTHING;
    GET DIAGNOSTICS v_users = ROW_COUNT;
    RETURN v_new + v_users;
END $$;
