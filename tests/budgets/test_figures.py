"""Figures of the dashboard that may take long: what they are, and that no page waits for them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from budgets.models import Figure
from budgets.queries.bounded import rows
from budgets.services import figures, metering
from noburn.kit import ids
from noburn.kit.clock import utc_now
from tenants.models import Tenant

if TYPE_CHECKING:
    from tests.support.world import Account

pytestmark = pytest.mark.real_db


@pytest.fixture
def spent(alice: Account) -> Account:
    """Alice after three customers have spent 3, 2 and 1 dollars, and one call was refused."""
    alice.budget("poor", "$0.5")
    alice.budget("each", "$4", subject="*")
    for customer, amount in (("acme", "$3"), ("globex", "$2"), ("zeta", "$1")):
        assert alice.settle(alice.place(amount, customer=customer), amount).status == 200
    assert alice.place("$0.75", customer="poor").decision == "budget_exceeded"
    alice.world.run(alice.world.app._plane.decisions.flush())
    metering.roll(now=utc_now())
    return alice


def tenant_of(account: Account) -> Tenant:
    return Tenant.objects.get(pk=account.tenant_id)


def shown(account: Account, kind: str, *, now: datetime | None = None) -> figures.Shown:
    return figures.figure(tenant=tenant_of(account), kind=kind, now=now or utc_now())


def body(account: Account, kind: str) -> dict[str, Any]:
    found = shown(account, kind).body
    assert found is not None
    return found


class TestWhatTheySay:
    @pytest.mark.parametrize("kind", ["dearest_today", "dearest_month"])
    def test_dearest_are_the_customers_that_cost_most(self, spent: Account, kind: str) -> None:
        found = body(spent, kind)
        assert [(row["customer"], row["cost_nano"]) for row in found["rows"]] == [
            ("acme", 3 * 10**9),
            ("globex", 2 * 10**9),
            ("zeta", 10**9),
        ]
        assert found["customers"] == 3

    @pytest.mark.parametrize("kind", ["refused_today", "refused_month"])
    def test_refused_are_calls_and_what_they_would_have_cost(self, spent: Account, kind: str) -> None:
        found = body(spent, kind)
        assert (found["calls"], found["estimate_nano"]) == (1, 750_000_000)
        assert [row["reason"] for row in found["rows"]] == ["budget_exceeded"]

    def test_fullest_are_subjects_of_templates_by_their_share(self, spent: Account) -> None:
        found = body(spent, "fullest")["rows"]
        assert [row["subject"] for row in found] == ["acme", "globex", "zeta"]
        assert {row["budget_id"] for row in found} == {ids.encode("bud", spent.budgets["each"].pk)}

    @pytest.mark.parametrize("kind", figures.KINDS)
    def test_are_the_tenants_own(self, spent: Account, kind: str) -> None:
        charlie = spent.world.account("charlie")
        assert body(charlie, kind)["rows"] == []

    @pytest.mark.parametrize(
        ("zone", "starts"),
        [
            ("UTC", "2026-11-22T00:00"),
            ("Asia/Kolkata", "2026-11-21T18:00"),
            ("America/New_York", "2026-11-22T05:00"),
        ],
    )
    def test_days_are_the_tenants_own_in_full_hours(self, zone: str, starts: str) -> None:
        tenant = Tenant(time_zone=zone)
        day = figures.day_of(tenant, datetime(2026, 11, 22, 12, tzinfo=UTC))
        assert day.starts_at == datetime.fromisoformat(f"{starts}:00+00:00")


class TestWaiting:
    @pytest.fixture(autouse=True)
    def _slow(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A figure that the database is still at when a page's patience ends."""
        slow = figures.KINDS["dearest_today"]

        def read(tenant: Tenant, now: datetime) -> dict[str, Any]:
            rows("SELECT pg_sleep(0.4)")
            return slow(tenant, now)

        monkeypatch.setattr(figures, "KINDS", {**figures.KINDS, "dearest_today": read})

    def test_a_page_gets_none_at_first_and_then_what_the_worker_added_up(self, spent: Account) -> None:
        first = shown(spent, "dearest_today")
        assert (first.body, first.pending) == (None, True)
        assert figures.add_up(now=utc_now) >= 1
        second = shown(spent, "dearest_today")
        assert second.body is not None
        assert (second.body["customers"], second.pending) == (3, False)

    def test_an_old_one_is_shown_while_a_new_one_is_added_up(self, spent: Account) -> None:
        shown(spent, "dearest_today")
        figures.add_up(now=utc_now)
        row = Figure.objects.get(tenant=spent.tenant_id)
        assert (row.asked_at, row.took_ms > figures.LIVE_MS) == (None, True)
        Figure.objects.filter(pk=row.pk).update(as_of=utc_now() - 2 * figures.FRESH)
        stale = shown(spent, "dearest_today")
        assert (stale.body is not None, stale.pending) == (True, True)
        row.refresh_from_db()
        assert row.asked_at is not None

    def test_one_of_another_day_is_not_shown(self, spent: Account) -> None:
        shown(spent, "dearest_today")
        figures.add_up(now=utc_now)
        tomorrow = shown(spent, "dearest_today", now=utc_now() + timedelta(days=1))
        assert (tomorrow.body, tomorrow.pending) == (None, True)

    def test_one_that_takes_too_long_for_the_worker_is_left_as_it_was(
        self, spent: Account, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        shown(spent, "dearest_today")
        monkeypatch.setattr(figures, "SLOW_MS", 100)
        figures.add_up(now=utc_now)
        row = Figure.objects.get(tenant=spent.tenant_id)
        assert (row.body, row.as_of, row.asked_at) == (None, None, None)
        assert shown(spent, "dearest_today").pending
