"""Rollups of usage: an order of the ledger, and what is counted in it. Source: budgets/stores/postgres/sql/metering*.sql.

Settlements go on meanwhile: the column is added without a rewrite, the indexes are built CONCURRENTLY, a partition at a
time, and entries that are older than the column are numbered in batches. Nothing here is in one transaction, so
everything can be repeated after a failure half-way.
"""

from pathlib import Path

from django.db import migrations

SQL = Path(__file__).resolve().parent.parent / "stores" / "postgres" / "sql"
INDEX = "ledger_entries_by_position"
NUMBERED_AT_ONCE = 2_000
LOCK_SECONDS = 5


def read(name):
    """Runs one file whole, in one transaction. A lock that is not had soon is given up: settlements wait behind it."""
    text = (SQL / f"{name}.sql").read_text()
    return migrations.RunSQL(
        f"BEGIN; SET LOCAL lock_timeout = '{LOCK_SECONDS}s';\n{text}\nCOMMIT;", migrations.RunSQL.noop
    )


def build_index(_apps, schema_editor):
    """Indexes the ledger's order: on the parent alone, then on each partition without a lock, then joined."""
    with schema_editor.connection.cursor() as cursor:
        cursor.execute(f"CREATE INDEX IF NOT EXISTS {INDEX} ON ONLY ledger_entries (position)")
        cursor.execute(
            """SELECT c.relname, i.relname, x.indisvalid, h.inhparent IS NOT NULL
            FROM pg_inherits p JOIN pg_class c ON c.oid = p.inhrelid
            LEFT JOIN pg_index x ON x.indrelid = c.oid AND x.indkey::text = (SELECT a.attnum::text FROM pg_attribute a
                WHERE a.attrelid = c.oid AND a.attname = 'position')
            LEFT JOIN pg_class i ON i.oid = x.indexrelid
            LEFT JOIN pg_inherits h ON h.inhrelid = i.oid
            WHERE p.inhparent = 'ledger_entries'::regclass ORDER BY c.relname"""
        )
        for partition, index, valid, attached in cursor.fetchall():
            if index is not None and not valid:
                cursor.execute(f'DROP INDEX CONCURRENTLY "{index}"')
                index = None
            if index is None:
                index = f"{partition}_by_position"
                cursor.execute(f'CREATE INDEX CONCURRENTLY "{index}" ON "{partition}" (position)')
            if not attached:
                cursor.execute(f'ALTER INDEX {INDEX} ATTACH PARTITION "{index}"')


def number_entries(_apps, schema_editor):
    """Numbers what was in the ledger before, a batch a transaction, so that it too is rolled up in bounded steps."""
    with schema_editor.connection.cursor() as cursor:
        while True:
            cursor.execute("SELECT nb_number_entries(%s)", [NUMBERED_AT_ONCE])
            if cursor.fetchone()[0] < NUMBERED_AT_ONCE:
                break
        cursor.execute("SELECT nb_begin_usage()")


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("budgets", "0003_escrow")]
    operations = [
        read("metering"),
        read("metering_upkeep"),
        migrations.RunPython(build_index, migrations.RunPython.noop),
        migrations.RunPython(number_entries, migrations.RunPython.noop),
    ]
