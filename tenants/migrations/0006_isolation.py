"""The functions by which `migrate` gives each table its row-level policies, and the search that needs its index.

Source of the former: noburn/runtime/isolation.sql.
"""

from pathlib import Path

from django.db import migrations

import noburn.runtime

SQL = Path(noburn.runtime.__file__).with_name("isolation.sql")

# LIKE may look at no row before a policy has let it through, since it may tell of it in an error, and so could use no
# index in a tenant's own request. This looks at the rows of that one tenant and no others, as the policy would have it.
SEARCH = """
CREATE FUNCTION nb_customers_like(p_tenant uuid, p_like text) RETURNS SETOF uuid
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
    SELECT id FROM tenants_customer
    WHERE tenant_id = p_tenant
        AND (upper(external_id::text) LIKE upper(p_like) OR upper(name::text) LIKE upper(p_like))
        AND (current_setting('role') = 'noburn_across'
            OR p_tenant = nullif(current_setting('noburn.tenant', true), '')::uuid)
$$;
DO $$ BEGIN
    REVOKE ALL ON FUNCTION nb_customers_like(uuid, text) FROM PUBLIC;
    IF to_regrole('noburn_app') IS NOT NULL THEN
        GRANT EXECUTE ON FUNCTION nb_customers_like(uuid, text) TO noburn_app;
    END IF;
END $$;
"""


class Migration(migrations.Migration):
    dependencies = [("tenants", "0005_customer_search")]
    operations = [
        migrations.RunSQL(SQL.read_text(), migrations.RunSQL.noop),
        migrations.RunSQL(SEARCH, "DROP FUNCTION nb_customers_like(uuid, text)"),
    ]
