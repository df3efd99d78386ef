-- Row-level security of one table, and the rights of the role that spans tenants. docs/adr/0053.
--
-- A table is a tenant's where it has a column tenant_id; tenants_tenant is by its own id. On each:
--   nb_tenant  noburn_app    sees and writes the rows of the tenant that the transaction names (SET LOCAL noburn.tenant)
--   nb_across  noburn_across sees and writes all; noburn_app becomes it by SET LOCAL ROLE
--   nb_owner   the owner     sees and writes all: migrations, and the functions of the money path, which take the tenant
-- ENABLE alone would leave the owner out, and with it every function of its: FORCE has it pass a policy that says so.
-- Example: SELECT nb_isolate('budgets_budget').  Repeatable; touches a table only where something is missing.
CREATE OR REPLACE FUNCTION nb_isolate(p_table regclass) RETURNS void
LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
DECLARE
    v_key text := CASE WHEN p_table = to_regclass('tenants_tenant') THEN 'id' ELSE 'tenant_id' END;
    v_owner name;
    v_on boolean;
BEGIN
    SELECT pg_get_userbyid(relowner), relrowsecurity AND relforcerowsecurity INTO STRICT v_owner, v_on
    FROM pg_class WHERE oid = p_table;
    -- Policies first: a table with security on and none of them shows nothing to anybody.
    IF NOT EXISTS (SELECT FROM pg_policy WHERE polrelid = p_table AND polname = 'nb_owner') THEN
        EXECUTE format('CREATE POLICY nb_owner ON %s TO %I USING (true) WITH CHECK (true)', p_table, v_owner);
    END IF;
    IF NOT EXISTS (SELECT FROM pg_policy WHERE polrelid = p_table AND polname = 'nb_across') THEN
        EXECUTE format('CREATE POLICY nb_across ON %s TO noburn_across USING (true) WITH CHECK (true)', p_table);
    END IF;
    IF NOT EXISTS (SELECT FROM pg_policy WHERE polrelid = p_table AND polname = 'nb_tenant') THEN
        -- '' and not NULL is what a setting reads as, once it was set in a transaction before.
        EXECUTE format('CREATE POLICY nb_tenant ON %1$s TO noburn_app'
            ' USING (%2$I = nullif(current_setting(''noburn.tenant'', true), '''')::uuid)'
            ' WITH CHECK (%2$I = nullif(current_setting(''noburn.tenant'', true), '''')::uuid)', p_table, v_key);
    END IF;
    IF NOT v_on THEN
        EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY', p_table);
    END IF;
END $$;

-- Gives noburn_across what noburn_app may, and nothing else: by migrations rights are granted and taken by that name.
CREATE OR REPLACE FUNCTION nb_span_rights() RETURNS void
LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
DECLARE
    v_app oid := to_regrole('noburn_app')::oid;
    v_across oid := to_regrole('noburn_across')::oid;
    v_missing boolean;
    r record;
BEGIN
    -- What is too much goes first, since to take a right on a table takes it on each of its columns.
    FOREACH v_missing IN ARRAY ARRAY[false, true] LOOP
        FOR r IN
            WITH held AS (
                SELECT c.oid, CASE c.relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END AS kind, c.oid::regclass::text AS name,
                    a.grantee, a.privilege_type AS may, NULL::text AS col
                FROM pg_class c, aclexplode(c.relacl) a
                WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
                UNION ALL
                SELECT c.oid, 'TABLE', c.oid::regclass::text, a.grantee, a.privilege_type, quote_ident(t.attname)
                FROM pg_class c JOIN pg_attribute t ON t.attrelid = c.oid AND NOT t.attisdropped, aclexplode(t.attacl) a
                WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
                UNION ALL
                SELECT p.oid, 'FUNCTION', p.oid::regprocedure::text, a.grantee, a.privilege_type, NULL
                FROM pg_proc p, aclexplode(p.proacl) a
                WHERE p.pronamespace = 'public'::regnamespace AND p.proowner = current_user::regrole)
            SELECT coalesce(mine.kind, its.kind) AS kind, coalesce(mine.name, its.name) AS name,
                coalesce(mine.may, its.may) || coalesce(' (' || coalesce(mine.col, its.col) || ')', '') AS may
            FROM (SELECT * FROM held WHERE grantee = v_app) AS mine
            FULL JOIN (SELECT * FROM held WHERE grantee = v_across) AS its
                ON its.oid = mine.oid AND its.kind = mine.kind AND its.may = mine.may AND its.col IS NOT DISTINCT FROM mine.col
            WHERE CASE WHEN v_missing THEN its.oid IS NULL ELSE mine.oid IS NULL END
        LOOP
            IF v_missing THEN
                EXECUTE format('GRANT %s ON %s %s TO noburn_across', r.may, r.kind, r.name);
            ELSE
                EXECUTE format('REVOKE %s ON %s %s FROM noburn_across', r.may, r.kind, r.name);
            END IF;
        END LOOP;
    END LOOP;
END $$;
