"""The checker's minute: sums of the ledger that grow with it. Source: budgets/stores/postgres/sql/verify_changes.sql."""

from pathlib import Path

from django.db import migrations

SQL = Path(__file__).resolve().parent.parent / "stores" / "postgres" / "sql"


def read(name: str) -> migrations.RunSQL:
    """Runs one file whole; there is no way back but to run an older one."""
    return migrations.RunSQL((SQL / f"{name}.sql").read_text(), migrations.RunSQL.noop)


class Migration(migrations.Migration):
    dependencies = [("budgets", "0014_reratings")]
    operations = [read("verify_changes"), read("partitions"), read("retention")]
