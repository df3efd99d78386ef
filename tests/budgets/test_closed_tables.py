from __future__ import annotations

import psycopg
import pytest

CLOSED = (
    "epochs",
    "counters",
    "counter_subjects",
    "grants",
    "hold_resolutions",
    "ledger_entries",
    "usage_cursor",
    "usage_home",
    "usage_rollups",
    "decisions",
    "decision_gaps",
    "decision_writers",
    "decision_clock",
)
"""What only the functions beside the SQL write."""

TABLES = """
    WITH RECURSIVE closed AS (
        SELECT unnest(%s::text[])::regclass AS t
        UNION ALL SELECT inhrelid::regclass FROM pg_inherits JOIN closed ON inhparent = t)
    SELECT t::text FROM closed ORDER BY 1"""


@pytest.mark.usefixtures("real_database")
class TestClosedTables:
    @pytest.mark.parametrize("role", ["noburn_app", "noburn_across", "noburn_gateway"])
    def test_let_no_program_write_them_nor_their_partitions(self, owner_database_url: str, role: str) -> None:
        with psycopg.connect(owner_database_url) as owner:
            owner.execute("SELECT nb_make_partitions(current_date + 400, 2)")
            tables = [row[0] for row in owner.execute(TABLES, [list(CLOSED)]).fetchall()]
            assert len([t for t in tables if t.startswith("ledger_entries_")]) >= 7
            open_to = [
                (table, right)
                for table in tables
                for right in ("INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER")
                if owner.execute("SELECT has_table_privilege(%s, %s, %s)", [role, table, right]).fetchone()
                == (True,)
            ]
            owner.rollback()
        assert open_to == []

    def test_are_read_by_the_application_through_their_parents(self, database_url: str) -> None:
        with psycopg.connect(database_url) as app:
            for table in CLOSED[:6]:
                app.execute(f"SELECT 1 FROM {table} LIMIT 1".encode())
            app.execute("SELECT nb_make_partitions(current_date, 4)")
