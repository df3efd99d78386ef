"""Closes the partitions of the ledger and of resolutions, which default privileges had left open to the application."""

from pathlib import Path

from django.db import migrations

SQL = Path(__file__).resolve().parent.parent / "stores" / "postgres" / "sql"


def read(name: str) -> migrations.RunSQL:
    """Runs one file whole; taking back a right needs no way back."""
    return migrations.RunSQL((SQL / f"{name}.sql").read_text(), migrations.RunSQL.noop)


class Migration(migrations.Migration):
    dependencies = [("budgets", "0008_learned")]
    operations = [
        read("partitions"),
        read("privileges"),
        migrations.RunSQL(
            "SELECT nb_close_partitions('hold_resolutions'), nb_close_partitions('ledger_entries')",
            migrations.RunSQL.noop,
        ),
    ]
