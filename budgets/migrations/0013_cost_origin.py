"""Whose word a cost is, and room for re-ratings, in the ledger and its resolutions. Rules: docs/escrow.md, "Re-rating".

Settlements go on meanwhile: columns are added without a rewrite, and constraints are checked against what is there
afterwards, under a lock that lets everybody write. Nothing here is in one transaction, so all of it can be repeated.
Entries that are there already keep no origin: whether noburn priced them or their caller told the cost, nobody knows.
"""

from pathlib import Path

from django.db import migrations

SQL = Path(__file__).resolve().parent.parent / "stores" / "postgres" / "sql"
LOCK_SECONDS = 5
NOTHING = migrations.RunSQL.noop

COLUMNS = """
ALTER TABLE hold_resolutions
    ADD COLUMN IF NOT EXISTS rerated_nano bigint NOT NULL DEFAULT 0,
    ADD COLUMN IF NOT EXISTS reratings integer NOT NULL DEFAULT 0;
ALTER TABLE ledger_entries
    ADD COLUMN IF NOT EXISTS cost_origin text,
    ADD COLUMN IF NOT EXISTS rerating_id uuid;
"""
CONSTRAINTS = """
ALTER TABLE ledger_entries
    DROP CONSTRAINT IF EXISTS ledger_entries_kind_check,
    DROP CONSTRAINT IF EXISTS ledger_entries_kind,
    DROP CONSTRAINT IF EXISTS ledger_entries_cost_origin,
    DROP CONSTRAINT IF EXISTS ledger_entries_rerated,
    ADD CONSTRAINT ledger_entries_kind
        CHECK (kind IN ('settled', 'voided', 'presumed', 'written_off', 'rerated')) NOT VALID,
    ADD CONSTRAINT ledger_entries_cost_origin CHECK (cost_origin IN ('priced', 'told', 'estimated')) NOT VALID,
    ADD CONSTRAINT ledger_entries_rerated CHECK ((kind = 'rerated') = (rerating_id IS NOT NULL)) NOT VALID;
"""


def locked(text: str) -> migrations.RunSQL:
    """Runs statements in one transaction. A lock that is not had soon is given up: settlements wait behind it."""
    return migrations.RunSQL(f"BEGIN; SET LOCAL lock_timeout = '{LOCK_SECONDS}s';\n{text}\nCOMMIT;", NOTHING)


def read(name: str) -> migrations.RunSQL:
    """Runs one file whole; there is no way back but to run an older one."""
    return locked((SQL / f"{name}.sql").read_text())


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("budgets", "0012_price_sources")]
    operations = [
        locked(COLUMNS),
        locked(CONSTRAINTS),
        *(
            migrations.RunSQL(
                f"ALTER TABLE ledger_entries VALIDATE CONSTRAINT ledger_entries_{name}", NOTHING
            )
            for name in ("kind", "cost_origin", "rerated")
        ),
        read("resolve"),
        read("privileges"),
    ]
