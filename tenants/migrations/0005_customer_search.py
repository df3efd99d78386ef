"""The index by which customers are found by any part of their id or name.

Not atomic, since the index is made without locking out calls that meet new customers; every step may be repeated. The
tenant stands in the index, so that one tenant's search does not look at the names of others.
"""

from django.contrib.postgres.operations import BtreeGinExtension, TrigramExtension
from django.db import migrations

# A half-made one of an interrupted run goes first.
DROP = "DROP INDEX CONCURRENTLY IF EXISTS tenants_customer_search"
# As Django writes `icontains`.
MAKE = """
CREATE INDEX CONCURRENTLY tenants_customer_search ON tenants_customer
    USING gin (tenant_id, upper(external_id::text) gin_trgm_ops, upper(name::text) gin_trgm_ops)
"""


class Migration(migrations.Migration):
    atomic = False
    dependencies = [
        ("tenants", "0004_cache"),
    ]

    operations = [
        TrigramExtension(),
        BtreeGinExtension(),
        migrations.RunSQL(DROP, migrations.RunSQL.noop),
        migrations.RunSQL(MAKE, DROP),
    ]
