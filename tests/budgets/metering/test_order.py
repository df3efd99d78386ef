"""Entries are taken in the order in which transactions began to write, once all of those have ended."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from django.db import OperationalError, connection

from budgets.services import alerting, metering
from budgets.stores.postgres import metering as store
from tests.budgets.metering.ledger import RandomLedger, counted, resolve, rollups

pytestmark = pytest.mark.real_db

COUNT = 40
Connection = psycopg.Connection[Any]


def _ledger(tenant_id: UUID) -> RandomLedger:
    return RandomLedger([tenant_id], seed=tenant_id.int, now=datetime.now(UTC))


def _book(connection: Connection, ledger: RandomLedger) -> None:
    items, outcomes = ledger.batch(COUNT)
    assert resolve(connection, items) == outcomes


def _roll(**options: Any) -> metering.Rolled:
    return metering.roll(now=datetime.now(UTC), **options)


def _clock(connection: Connection) -> datetime:
    row = connection.execute("SELECT clock_timestamp()").fetchone()
    assert row is not None
    at: datetime = row[0]
    return at


class TestRoll:
    def test_waits_for_a_transaction_that_began_earlier_and_commits_later(
        self, owner: Connection, owner_database_url: str, tenant: Callable[[str], UUID]
    ) -> None:
        early, late = _ledger(tenant("alice")), _ledger(tenant("bob"))
        with psycopg.connect(owner_database_url) as slow:
            _book(slow, early)
            _book(owner, late)
            _roll()
            who = [early.lives[0].tenant_id, late.lives[0].tenant_id]
            assert rollups(owner, who) == {}
        _roll()
        assert rollups(owner, who) == counted(owner, early, late)
        _roll()
        assert rollups(owner, who) == counted(owner, early, late)

    def test_takes_nothing_of_a_transaction_that_was_rolled_back(
        self, owner: Connection, owner_database_url: str, tenant: Callable[[str], UUID]
    ) -> None:
        early, late = _ledger(tenant("alice")), _ledger(tenant("bob"))
        with psycopg.connect(owner_database_url) as slow:
            _book(slow, early)
            _book(owner, late)
            slow.rollback()
        _roll()
        assert rollups(owner, [early.lives[0].tenant_id]) == {}
        assert rollups(owner, [late.lives[0].tenant_id]) == counted(owner, late)

    def test_is_not_held_up_by_a_reader(
        self, owner: Connection, owner_database_url: str, tenant: Callable[[str], UUID]
    ) -> None:
        ledger = _ledger(tenant("alice"))
        with psycopg.connect(owner_database_url) as reader:
            reader.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            reader.execute("SELECT count(*) FROM ledger_entries")
            _book(owner, ledger)
            _roll()
            assert rollups(owner, [ledger.lives[0].tenant_id]) == counted(owner, ledger)

    def test_takes_whole_transactions_and_stops_at_its_bound(
        self, owner: Connection, tenant: Callable[[str], UUID]
    ) -> None:
        _roll()
        ledger = _ledger(tenant("alice"))
        for _ in range(3):
            _book(owner, ledger)
        entries = ledger.tallies["first"] + ledger.tallies["corrected"]
        done = [_roll(step_entries=1, steps_max=1) for _ in range(4)]
        assert sum(one.entries for one in done) == entries
        assert [one.entries > 1 for one in done] == [True, True, True, False]
        assert [one.more for one in done] == [True, True, True, False]
        assert rollups(owner, [ledger.lives[0].tenant_id]) == counted(owner, ledger)

    def test_returns_at_once_when_another_is_at_it(self, across_database_url: str, owner: Connection) -> None:
        with psycopg.connect(across_database_url) as other, other.cursor() as cursor:
            assert store.roll_step(cursor, 10) is not None
            assert _roll().busy
        assert not _roll().busy

    def test_tells_whose_counters_moved_and_what_was_newly_presumed(
        self, owner: Connection, across_database_url: str, tenant: Callable[[str], UUID]
    ) -> None:
        _roll()
        alice, bob = tenant("alice"), tenant("bob")
        one, two, still = sorted(uuid4() for _ in range(3))
        ledger = RandomLedger([alice, bob], seed=1, now=datetime.now(UTC))
        items, _ = ledger.batch(COUNT)
        for item in items:
            counted = item["state"] != "voided" and item["cost"] > 0
            item |= {
                "counters": [one if item["tenant"] == alice else two, still],
                "incs": [1, 1],
                "held": [9, 9],
            }
            item["posted"] = [1 if counted else 0, 0]
        resolve(owner, items)
        with psycopg.connect(across_database_url) as app, app.cursor() as cursor:
            step = store.roll_step(cursor, 10_000)
        assert step is not None
        assert sorted(step.counters) == sorted([(alice, one), (bob, two)])
        newly: dict[UUID, int] = {}
        for life in ledger.lives:
            first = next(item for item in items if item["hold"] == life.hold_id)
            if first["state"] == "presumed":
                newly[life.tenant_id] = newly.get(life.tenant_id, 0) + first["cost"]
        assert step.presumed == newly


class TestAlerting:
    def test_is_told_of_each_step_in_its_own_transaction(
        self, owner: Connection, tenant: Callable[[str], UUID], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        _roll()
        ledger, told = _ledger(tenant("alice")), []

        def posted(**what: Any) -> int:
            told.append(what)
            assert connection.in_atomic_block
            if len(told) == 1:
                raise OperationalError("the connection is gone")
            return 0

        _book(owner, ledger)
        monkeypatch.setattr(alerting, "posted", posted)
        with pytest.raises(OperationalError):
            _roll()
        assert rollups(owner, [ledger.lives[0].tenant_id]) == {}
        _roll()
        assert rollups(owner, [ledger.lives[0].tenant_id]) == counted(owner, ledger)
        assert [one["presumed"].keys() for one in told] == [{ledger.lives[0].tenant_id}] * 2

    def test_does_not_stop_usage_by_a_defect(
        self,
        owner: Connection,
        tenant: Callable[[str], UUID],
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        def posted(**_: Any) -> int:
            connection.cursor().execute("SELECT 1 / 0")
            return 0

        ledger = _ledger(tenant("alice"))
        _book(owner, ledger)
        monkeypatch.setattr(alerting, "posted", posted)
        _roll()
        assert rollups(owner, [ledger.lives[0].tenant_id]) == counted(owner, ledger)
        assert "alerting failed" in caplog.text


class TestThroughAt:
    """Everything that was committed before it is rolled up."""

    def test_moves_on_though_nothing_is_recorded(self, owner: Connection) -> None:
        before = _clock(owner)
        _roll()
        through = metering.status().through_at
        assert through is not None
        assert through > before

    def test_stands_still_before_what_could_not_be_taken_yet(
        self, owner: Connection, owner_database_url: str, tenant: Callable[[str], UUID]
    ) -> None:
        early, late = _ledger(tenant("alice")), _ledger(tenant("bob"))
        with psycopg.connect(owner_database_url) as slow:
            _book(slow, early)
            _book(owner, late)
            committed = _clock(owner)
            for _ in range(3):
                assert _roll().entries == 0
                through = metering.status().through_at
                assert through is None or through < committed
            assert metering.status().waiting >= late.tallies["first"]
        _roll()
        through = metering.status().through_at
        assert through is not None
        assert through > committed
        assert metering.status().waiting == 0
