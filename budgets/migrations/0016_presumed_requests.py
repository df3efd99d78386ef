"""Counts, in every sum of usage, how many of its requests are presumed: billing prices requests that were settled alone.

Sums that hold a presumption get their count from the ledger, day by day, while the roller waits. Repeatable.
"""

from pathlib import Path

from django.db import migrations

SQL = Path(__file__).resolve().parent.parent / "stores" / "postgres" / "sql"
LOCK_SECONDS = 5

COUNT = """
SELECT position FROM usage_cursor FOR UPDATE;
UPDATE usage_rollups u SET presumed_requests = s.presumed_requests
FROM (SELECT DISTINCT l.tenant_id, date_trunc('day', l.placed_at, 'UTC') AS day
    FROM ledger_entries l WHERE l.kind = 'presumed') AS d
CROSS JOIN usage_cursor c
CROSS JOIN LATERAL nb_usage_sums(d.tenant_id, d.day, d.day + interval '24 hours', NULL, c.position, c.hours_from) AS s
WHERE u.tenant_id = s.tenant_id AND u.bucket = s.bucket AND u.key = s.key AND u.grain = s.grain
    AND u.presumed_requests <> s.presumed_requests;
"""


def read(name: str) -> str:
    """The text of one file of SQL, which can be run again over what it made."""
    return (SQL / f"{name}.sql").read_text()


class Migration(migrations.Migration):
    dependencies = [("budgets", "0015_verify_changes")]
    operations = [
        migrations.RunSQL(
            f"SET LOCAL lock_timeout = '{LOCK_SECONDS}s';\n{read('metering')}", migrations.RunSQL.noop
        ),
        migrations.RunSQL(read("metering_upkeep"), migrations.RunSQL.noop),
        migrations.RunSQL(COUNT, migrations.RunSQL.noop),
    ]
