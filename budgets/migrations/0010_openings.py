"""Openings of counters: from rollups, and anew where a tenant changed its time zone and changed it back."""

from pathlib import Path

from django.db import migrations

SQL = Path(__file__).resolve().parent.parent / "stores" / "postgres" / "sql"


def read(name: str) -> migrations.RunSQL:
    """Runs one file whole."""
    return migrations.RunSQL((SQL / f"{name}.sql").read_text(), migrations.RunSQL.noop)


class Migration(migrations.Migration):
    dependencies = [("budgets", "0009_closed_partitions")]
    operations = [
        read("grant"),
        read("privileges"),
    ]
