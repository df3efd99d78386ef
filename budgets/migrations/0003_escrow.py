"""The money path: its tables, its functions and who may use them. Source: budgets/stores/postgres/sql/.

tables.sql is final once released. A later change to a function edits its file (CREATE OR REPLACE) and adds a migration
that runs that file, then privileges.sql, again.
"""

from pathlib import Path

from django.db import migrations

SQL = Path(__file__).resolve().parent.parent / "stores" / "postgres" / "sql"
FILES = ("tables", "partitions", "publish", "grant", "resolve", "epochs", "policy", "verify")


def read(name: str) -> migrations.RunSQL:
    """Runs one file whole; there is no way back but to drop what it made, and ledgers are not dropped."""
    return migrations.RunSQL((SQL / f"{name}.sql").read_text(), migrations.RunSQL.noop)


class Migration(migrations.Migration):
    dependencies = [("budgets", "0002_prices"), ("tenants", "0001_tenancy")]
    operations = [
        *(read(name) for name in FILES),
        migrations.RunSQL("SELECT nb_make_partitions(current_date - 31, 5)", migrations.RunSQL.noop),
        read("privileges"),
    ]
