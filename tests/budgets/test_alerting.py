"""Thresholds, presumed spending, drift and lost epochs are told once, and a storm is one message."""

from __future__ import annotations

import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from threading import Barrier
from typing import Any
from uuid import UUID

import pytest
from django.db import connection, transaction

from alerts.models import Alert, Delivery
from alerts.services.destinations import NewDestination, create_destination
from budgets.services import alerting
from budgets.services.verification import Difference
from noburn.kit import ids
from tests.support.world import Account, World

pytestmark = pytest.mark.real_db


@pytest.fixture
def told(alice: Account) -> Told:
    return Told(alice)


class Told:
    """What a tenant was told. It has one destination, so that each message is one delivery."""

    def __init__(self, account: Account) -> None:
        self.account = account
        create_destination(
            tenant_id=account.tenant_id,
            destination=NewDestination(kind="email", target="alice@example.com"),
            actor="test",
            now=datetime.now(UTC),
        )

    def counter(self, name: str) -> tuple[UUID, UUID]:
        return self.account.tenant_id, self.account.counter(name)["id"]

    def spend(self, amount: str, name: str = "acme") -> None:
        self.account.settle(self.account.place(amount, customer=name), amount)

    def post(self, *names: str, now: datetime | None = None, presumed: int = 0) -> int:
        with transaction.atomic():
            return alerting.posted(
                counters=[self.counter(name) for name in names or ("acme",)],
                presumed={self.account.tenant_id: presumed} if presumed else {},
                now=now or datetime.now(UTC),
            )

    def messages(self, kind: str = "threshold") -> list[dict[str, Any]]:
        found = Delivery.objects.filter(tenant_id=self.account.tenant_id, alert__kind=kind)
        return [
            delivery.alert.details for delivery in found.select_related("alert").order_by("created_at", "pk")
        ]

    def percents(self) -> list[int]:
        return [details["percent"] for details in self.messages()]

    def noted(self) -> set[tuple[int, bool]]:
        rows = Alert.objects.filter(tenant_id=self.account.tenant_id, kind="threshold")
        return {(row.details["percent"], row.silent) for row in rows}


class TestThreshold:
    def test_is_told_when_spending_passes_it_and_not_again(self, told: Told) -> None:
        told.account.budget("acme", "$1.00", window="month")
        told.spend("$0.49")
        assert told.post() == 0
        told.spend("$0.01")
        assert told.post() == 1
        assert told.post() == 0
        told.spend("$0.10")
        assert told.post() == 0
        (details,) = told.messages()
        budget = told.account.budgets["acme"]
        assert details | {"starts_at": "", "resets_at": ""} == {
            "budget": ids.encode(ids.BUDGET, budget.pk),
            "budget_name": "acme",
            "scope": "customer",
            "subject": "acme",
            "metric": "usd",
            "action": "block",
            "percent": 50,
            "limit": "1",
            "spent": "0.5",
            "window": "month",
            "starts_at": "",
            "resets_at": "",
        }
        assert details["starts_at"] < details["resets_at"]

    def test_is_told_for_the_highest_of_several_passed_at_once(self, told: Told) -> None:
        told.account.budget("acme", "$1.00")
        told.spend("$0.85")
        assert told.post() == 2
        assert told.percents() == [80]
        assert told.noted() == {(50, True), (80, False)}
        told.spend("$0.15")
        assert told.post() == 1
        assert told.percents() == [80, 100]

    def test_below_one_that_was_told_is_noted_in_silence(self, told: Told) -> None:
        told.account.budget("acme", "$1.00", thresholds=[80])
        told.spend("$0.85")
        told.post()
        told.account.edit("acme", thresholds=[60, 80])
        assert told.post() == 1
        assert told.percents() == [80]

    def test_is_told_for_budgets_that_only_warn(self, told: Told) -> None:
        told.account.budget("acme", "$1.00", action="warn")
        told.spend("$2.50")
        told.post()
        (details,) = told.messages()
        assert (details["percent"], details["action"], details["spent"]) == (100, "warn", "2.5")

    def test_counts_in_the_budget_s_own_unit(self, told: Told) -> None:
        told.account.budget("acme", 2, metric="requests")
        told.spend("$0.10")
        told.post()
        (details,) = told.messages()
        assert (details["percent"], details["limit"], details["spent"]) == (50, "2", "1")

    def test_is_measured_by_the_limit_as_it_is_now(self, told: Told) -> None:
        told.account.budget("acme", "$1.00")
        told.spend("$0.60")
        told.account.limit("acme", "$10.00")
        assert told.post() == 0
        told.account.limit("acme", "$0.70")
        assert told.post() == 2
        assert told.percents() == [80]

    def test_of_a_limit_of_nothing_is_passed_by_anything(self, told: Told) -> None:
        told.account.budget("acme", "$0", action="warn")
        told.spend("$0.000001")
        told.post()
        assert told.percents() == [100]

    def test_of_a_window_that_is_over_is_not_told(self, told: Told) -> None:
        told.account.budget("acme", "$1.00", window="day")
        told.spend("$0.90")
        assert told.post(now=datetime.now(UTC) + timedelta(days=2)) == 0

    def test_of_an_archived_budget_is_not_told(self, told: Told, world: World) -> None:
        told.account.budget("acme", "$1.00")
        told.spend("$0.90")
        world.sql(
            "UPDATE budgets_budget SET archived_at = now() WHERE id = %s", told.account.budgets["acme"].pk
        )
        assert told.post() == 0

    def test_keeps_its_key_as_long_as_its_window_may_last(self, told: Told) -> None:
        told.account.budget("acme", "$1.00")
        told.spend("$0.60")
        told.post()
        assert Alert.objects.get(tenant_id=told.account.tenant_id).keep_until is None

    def test_asks_once_for_thousands_of_counters(self, told: Told, world: World) -> None:
        told.account.budget("each", "$1.00", subject="*")
        told.spend("$0.10", "first")
        budget = told.account.budgets["each"]
        world.sql(
            """INSERT INTO counters (tenant_id, counter_id, budget_id, subject, starts_at, ends_at, limit_amount,
                budget_version, spent, opening)
            SELECT tenant_id, gen_random_uuid(), budget_id, 'c' || n, starts_at, ends_at, limit_amount, budget_version,
                (n %% 101) * 10000000, 0
            FROM counters, generate_series(1, 5000) AS n WHERE budget_id = %s""",
            budget.pk,
        )
        counters = [
            (told.account.tenant_id, row[0])
            for row in world.sql("SELECT counter_id FROM counters WHERE budget_id = %s", budget.pk)
        ]
        from django.test.utils import CaptureQueriesContext

        with CaptureQueriesContext(connection) as asked, transaction.atomic():
            new = alerting.posted(counters=counters * 2, presumed={}, now=datetime.now(UTC))
        statements = [
            q["sql"] for q in asked if not q["sql"].startswith(("SAVEPOINT", "RELEASE", "BEGIN", "COMMIT"))
        ]
        assert len(statements) == 2
        passed = {p: sum(n % 101 >= p for n in range(1, 5001)) for p in (50, 80, 100)}
        assert new == sum(passed.values())
        assert len(told.messages()) == passed[50]


class TestStorm:
    def test_of_settlements_from_everywhere_sends_one_message_a_threshold(self, told: Told) -> None:
        names = [f"c{number}" for number in range(5)]
        for name in names:
            told.account.budget(name, "$1.000001")
            told.spend("$0.000001", name)
        start, callers, steps = Barrier(6), 6, 340
        counters = [told.counter(name) for name in names]

        def settle_all() -> None:
            for _ in range(10):
                for name in names:
                    told.spend("$0.1", name)

        def post(seed: int) -> int:
            own, crossings = random.Random(seed), 0
            try:
                start.wait()
                for _ in range(steps):
                    some = own.sample(counters, len(counters))
                    with transaction.atomic():
                        alerting.posted(counters=some, presumed={}, now=datetime.now(UTC))
                    crossings += len(some)
                return crossings
            finally:
                connection.close()

        with ThreadPoolExecutor(callers) as pool:
            posting = [pool.submit(post, seed) for seed in range(callers)]
            settle_all()
            total = sum(one.result() for one in posting)
        told.post(*names)
        assert total >= 10_000
        sent: dict[tuple[str, int], int] = {}
        for details in told.messages():
            key = details["subject"], details["percent"]
            sent[key] = sent.get(key, 0) + 1
        assert set(sent.values()) == {1}
        assert {(name, 100) for name in names} <= set(sent)
        assert len(told.noted()) <= 6


class TestPresumedSpending:
    def test_is_told_once_a_day_with_its_amount(self, told: Told) -> None:
        told.account.budget("acme", "$1.00")
        told.spend("$0.01")
        now = datetime(2026, 11, 22, 23, 59, tzinfo=UTC)
        assert told.post(presumed=250_000_000, now=now) == 1
        assert told.post(presumed=10, now=now) == 0
        assert told.post(presumed=10, now=now + timedelta(minutes=1)) == 1
        days = [(details["day"], details["amount_usd"]) for details in told.messages("presumed_spending")]
        assert days == [("2026-11-22", "0.25"), ("2026-11-23", "0.00000001")]

    def test_of_nothing_is_not_told(self, told: Told) -> None:
        with transaction.atomic():
            presumed = {told.account.tenant_id: 0}
            assert alerting.posted(counters=[], presumed=presumed, now=datetime.now(UTC)) == 0


class TestDrift:
    def test_is_told_to_operators_once_a_day_for_a_tenant(self, alice: Account) -> None:
        now = datetime(2026, 11, 22, 12, tzinfo=UTC)
        difference = Difference(alice.tenant_id, "c1", "spent", 10, 7)
        found = [difference, difference]
        assert alerting.drift(found=found, now=now) == 1
        assert alerting.drift(found=found, now=now + timedelta(hours=6)) == 0
        assert alerting.drift(found=found, now=now + timedelta(days=1)) == 1
        whose = ids.encode(ids.TENANT, alice.tenant_id)
        alert = Alert.objects.filter(tenant=None, kind="drift", subject=whose).order_by("raised_at")[0]
        assert alert.details == {
            "tenant": whose,
            "differences": 2,
            "first": "c1: spent is 10, its sources say 7",
        }


class TestLostEpochs:
    @pytest.fixture(autouse=True)
    def _nothing_told_yet(self, world: World) -> Iterator[None]:
        def forget() -> None:
            world.sql("UPDATE epochs SET closed_at = closed_at - interval '3 days' WHERE state = 'closed'")
            world.sql("DELETE FROM alerts_alert WHERE tenant_id IS NULL AND kind = 'epoch_opened'")

        forget()
        yield
        forget()

    def operators(self) -> list[dict[str, Any]]:
        return [row.details for row in Alert.objects.filter(tenant=None, kind="epoch_opened")]

    def test_are_told_to_operators_and_to_tenants_with_stranded_authority(
        self, told: Told, world: World
    ) -> None:
        told.account.budget("acme", "$1.00")
        told.spend("$0.10")
        stranger = Told(world.account("charlie"))
        world.lose_redis()
        world.recover()
        now = datetime.now(UTC)
        alerting.epochs_lost(now=now)
        assert alerting.epochs_lost(now=now) == 0
        assert alerting.epochs_lost(now=now + timedelta(hours=1)) == 0
        assert sum(details["shards"] for details in self.operators()) == 64
        stranded = told.account.counter("acme")["stranded"]
        (details,) = told.messages("epoch_opened")
        assert details["stranded_counters"] == 1
        assert float(details["stranded_usd"]) == stranded / 1e9 > 0
        assert stranger.messages("epoch_opened") == []

    def test_are_not_told_when_the_close_was_planned(self, told: Told, world: World) -> None:
        told.account.budget("acme", "$1.00")
        told.spend("$0.10")
        world.run(world.operations.close(told.account.shard))
        assert alerting.epochs_lost(now=datetime.now(UTC)) == 0
        assert self.operators() == []
