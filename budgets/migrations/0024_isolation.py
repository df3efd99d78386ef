"""Partitions made from now on have their row-level policies from the start. Source: partitions.sql, decisions.sql."""

from pathlib import Path

from django.db import migrations

SQL = Path(__file__).resolve().parent.parent / "stores" / "postgres" / "sql"
LOCK_SECONDS = 5


def read(name: str) -> migrations.RunSQL:
    """Runs one file whole; there is no way back but to run an older one."""
    return migrations.RunSQL((SQL / f"{name}.sql").read_text(), migrations.RunSQL.noop)


class Migration(migrations.Migration):
    dependencies = [("budgets", "0023_quotas"), ("tenants", "0006_isolation")]
    operations = [
        # A lock that is not had soon is given up: the log waits behind it.
        migrations.RunSQL(f"SET LOCAL lock_timeout = '{LOCK_SECONDS}s'", migrations.RunSQL.noop),
        read("partitions"),
        read("decisions"),
        read("privileges"),
    ]
