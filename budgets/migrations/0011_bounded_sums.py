"""Holds sums of usage at what their columns can hold, so that absurd costs of one tenant stop nobody's rollups."""

from pathlib import Path

from django.db import migrations

SQL = Path(__file__).resolve().parent.parent / "stores" / "postgres" / "sql"


def read(name: str) -> migrations.RunSQL:
    """Runs one file whole; what it makes is there already, so it changes functions alone."""
    return migrations.RunSQL((SQL / f"{name}.sql").read_text(), migrations.RunSQL.noop)


class Migration(migrations.Migration):
    dependencies = [("budgets", "0010_openings")]
    operations = [read("metering"), read("metering_upkeep")]
