"""The migration on a ledger that is in use."""

from __future__ import annotations

from datetime import UTC, datetime
from importlib import import_module
from typing import Any
from uuid import uuid4

import psycopg

from budgets.stores.postgres import metering as store
from noburn.runtime.names import APP, OWNER
from tests.budgets.metering.elsewhere import Elsewhere
from tests.budgets.metering.ledger import RandomLedger, counted, resolve, rollups

BATCHES_MAX = 2_000


def _files(connection: psycopg.Connection[Any]) -> dict[str, int]:
    """The file of each partition; a rewritten table has a new one."""
    sql = "SELECT relname, relfilenode::int FROM pg_class WHERE relname LIKE 'ledger\\_entries\\_%' AND relkind = 'r'"
    return dict(connection.execute(sql).fetchall())


class TestMigration:
    def test_numbers_what_was_there_and_keeps_no_settlement_waiting(self, elsewhere: Elsewhere) -> None:
        before = elsewhere.manage("migrate", "-v", "0", "budgets", "0003_escrow")
        assert before.wait(timeout=120) == 0
        ledger = RandomLedger([uuid4(), uuid4()], seed=3, now=datetime.now(UTC))
        with elsewhere.connect(OWNER) as owner, elsewhere.connect(APP) as app:
            # Migration 0003 runs today's nb_resolve, which writes columns that later ones add, and add but once.
            for later in ("0013_cost_origin", "0020_leases"):
                owner.execute(import_module(f"budgets.migrations.{later}").COLUMNS)
            for _ in range(30):
                items, outcomes = ledger.batch(200)
                assert resolve(owner, items) == outcomes
            files = _files(owner)
            assert len(files) > 3
            migrating = elsewhere.manage("migrate", "-v", "0")
            for _ in range(BATCHES_MAX):
                items, outcomes = ledger.batch(20)
                assert resolve(owner, items) == outcomes
                if migrating.poll() is not None:
                    break
            assert migrating.wait(timeout=60) == 0

            assert _files(owner).items() >= files.items()
            index = """SELECT bool_and(x.indisvalid), count(*) FROM pg_index x
                JOIN pg_inherits h ON h.inhrelid = x.indexrelid
                WHERE h.inhparent = 'ledger_entries_by_position'::regclass"""
            assert owner.execute(index).fetchone() == (True, len(_files(owner)))
            steps = 0
            while True:
                with app.transaction(), app.cursor() as cursor:
                    step = store.roll_step(cursor, 2_500)
                assert step is not None
                steps += 1
                # What is older than its number is taken in bounded steps as well.
                assert step.entries <= 2_500
                if not step.more:
                    break
            assert steps > 1
            assert rollups(owner, sorted({life.tenant_id for life in ledger.lives})) == counted(owner, ledger)
            assert owner.execute("SELECT * FROM nb_verify_usage(NULL)").fetchall() == []
