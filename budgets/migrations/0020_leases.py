"""Leases: their rows among the resolutions, and what books draws. Source: budgets/stores/postgres/sql/leases.sql.

Settlements go on meanwhile: columns are added without a rewrite, and the condition is checked against what is there
afterwards. Nothing here is in one transaction, so all of it can be repeated.
"""

from pathlib import Path

from django.db import migrations

SQL = Path(__file__).resolve().parent.parent / "stores" / "postgres" / "sql"
LOCK_SECONDS = 5
NOTHING = migrations.RunSQL.noop

COLUMNS = """
ALTER TABLE hold_resolutions
    ADD COLUMN IF NOT EXISTS leased bigint[],
    ADD COLUMN IF NOT EXISTS draws integer NOT NULL DEFAULT 0,
    ADD COLUMN IF NOT EXISTS rest uuid;
"""
CONSTRAINTS = """
ALTER TABLE hold_resolutions
    DROP CONSTRAINT IF EXISTS hold_resolutions_state_check,
    DROP CONSTRAINT IF EXISTS hold_resolutions_state,
    ADD CONSTRAINT hold_resolutions_state
        CHECK (state IN ('leased', 'settled', 'voided', 'presumed', 'written_off')) NOT VALID;
"""


def locked(text: str) -> migrations.RunSQL:
    """Runs statements in one transaction. A lock that is not had soon is given up: settlements wait behind it."""
    return migrations.RunSQL(f"BEGIN; SET LOCAL lock_timeout = '{LOCK_SECONDS}s';\n{text}\nCOMMIT;", NOTHING)


def read(name: str) -> migrations.RunSQL:
    """Runs one file whole; there is no way back but to run an older one."""
    return locked((SQL / f"{name}.sql").read_text())


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("budgets", "0019_figures")]
    operations = [
        locked(COLUMNS),
        locked(CONSTRAINTS),
        migrations.RunSQL("ALTER TABLE hold_resolutions VALIDATE CONSTRAINT hold_resolutions_state", NOTHING),
        read("leases"),
        read("resolve"),
        read("privileges"),
    ]
