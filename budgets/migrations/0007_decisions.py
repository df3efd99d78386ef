"""The log of decisions, and what prunes it and old counters. Source: budgets/stores/postgres/sql/.

Not atomic, since the index is made without locking out the money path; every step may be repeated.
"""

from pathlib import Path

from django.db import migrations

SQL = Path(__file__).resolve().parent.parent / "stores" / "postgres" / "sql"
NOTHING = migrations.RunSQL.noop


def read(name: str) -> migrations.RunSQL:
    """Runs one file whole; there is no way back but to run an older one."""
    return migrations.RunSQL((SQL / f"{name}.sql").read_text(), NOTHING)


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("budgets", "0006_price_overrides"), ("tenants", "0002_management_api")]
    operations = [
        read("decisions"),
        read("retention"),
        migrations.RunSQL("SELECT nb_close_decisions()", NOTHING),
        migrations.RunSQL("SELECT nb_make_decision_partitions(current_date - 1, 15)", NOTHING),
        # Made ready for nb_prune_counters; a half-made one of an interrupted run goes first.
        migrations.RunSQL("DROP INDEX CONCURRENTLY IF EXISTS counters_of_short_windows", NOTHING),
        migrations.RunSQL(
            """CREATE INDEX CONCURRENTLY counters_of_short_windows ON counters (ends_at)
            WHERE ends_at - starts_at <= interval '1 hour'""",
            NOTHING,
        ),
    ]
