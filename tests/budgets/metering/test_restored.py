"""A dump restored into another server, whose transaction ids begin anew."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import psycopg
import pytest

from budgets.services import metering
from budgets.stores.postgres import metering as store
from noburn.runtime.names import APP, OWNER
from tests.budgets.metering.elsewhere import Elsewhere
from tests.budgets.metering.ledger import RandomLedger, counted, resolve, rollups

pytestmark = pytest.mark.real_db

Connection = psycopg.Connection[Any]
ENTRIES = 600


def _book(connection: Connection, ledger: RandomLedger) -> None:
    items, outcomes = ledger.batch(100)
    assert resolve(connection, items) == outcomes


def _steps(app: Connection, take: Callable[[psycopg.Cursor[Any]], Any]) -> list[Any]:
    done: list[Any] = []
    for _ in range(2_000):
        with app.transaction(), app.cursor() as cursor:
            step = take(cursor)
        if step is None or getattr(step, "more", True) is False:
            return done
        done.append(step)
    raise AssertionError("it does not come to an end")


class TestARestoredDump:
    def test_is_refused_by_rollers_settled_on_by_gateways_and_exact_after_a_rebuild(
        self,
        owner: Connection,
        owner_database_url: str,
        tenant: Callable[[str], UUID],
        elsewhere: Elsewhere,
    ) -> None:
        ledger = RandomLedger([tenant("alice"), tenant("bob")], seed=5, now=datetime.now(UTC))
        # The copy's transaction ids must fall short of what the original's were.
        for _ in range(ENTRIES):
            owner.execute("SELECT pg_current_xact_id()")
        for _ in range(3):
            _book(owner, ledger)
        metering.roll(now=datetime.now(UTC))
        for _ in range(3):
            # These are dumped before they are rolled up.
            _book(owner, ledger)
        elsewhere.restore(owner_database_url)

        with elsewhere.connect(OWNER) as there, elsewhere.connect(APP) as app, app.cursor() as cursor:
            assert not store.status(cursor).at_home
            for _ in range(2):
                with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="usage rebuild"):
                    store.roll_step(cursor, 100)
                # A settlement needs no rollups: it goes on, with ids that the old cursor has passed long ago.
                _book(there, ledger)

            with app.transaction(), app.cursor() as inside:
                assert store.begin_rebuild(inside, 500)
            assert store.status(cursor).at_home
            _book(there, ledger)
            rebuilt = _steps(app, store.rebuild_step)
            _book(there, ledger)
            _steps(app, lambda inside: store.roll_step(inside, 100))

            who = sorted({life.tenant_id for life in ledger.lives})
            assert {step[0] for step in rebuilt} >= set(who)
            assert rollups(there, who) == counted(there, ledger)
            assert there.execute("SELECT * FROM nb_verify_usage(NULL)").fetchall() == []
            assert store.status(cursor).waiting == 0

    def test_is_told_from_a_database_that_only_moved_its_rows(self, owner: Connection) -> None:
        # What pg_upgrade, replicas and base backups keep is kept by a vacuum of everything as well.
        owner.execute("VACUUM (FREEZE) usage_home")
        assert metering.status().at_home
        owner.execute("VACUUM (FULL) usage_home")
        assert metering.status().at_home
