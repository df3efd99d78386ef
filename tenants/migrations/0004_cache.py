"""The table of Django's cache: counts of attempts to sign in, which all processes share."""

from django.db import migrations

MAKE = """
CREATE TABLE noburn_cache (
    cache_key varchar(255) PRIMARY KEY,
    value text NOT NULL,
    expires timestamptz NOT NULL
);
CREATE INDEX noburn_cache_expires ON noburn_cache (expires);
"""


class Migration(migrations.Migration):
    dependencies = [
        ("tenants", "0003_calls_refused"),
    ]

    operations = [migrations.RunSQL(MAKE, "DROP TABLE noburn_cache")]
