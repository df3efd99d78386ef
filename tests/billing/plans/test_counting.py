"""Requests are counted once, warned of, and refused beyond the grace; a self-hosted noburn limits nothing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from pytest_django.fixtures import Settings

from billing.domain.plans import CATALOGUE, Standing, forecast, month_of, offer_at, offers_at
from tests.billing.plans.seller import START

if TYPE_CHECKING:
    from tests.billing.plans.seller import Seller

pytestmark = pytest.mark.real_db

END = month_of(START)[1]


class TestCount:
    def test_warns_and_then_refuses_each_once(self, seller: Seller) -> None:
        seen = []
        for requests in (39_999, 1, 9_999, 1, 9_999, 1, 5):
            seller.use(requests)
            account = seller.count()
            seller.count()
            seen.append((account.counted, len(seller.alerts()), account.refused_until))
        assert seen == [
            (39_999, 0, None),
            (40_000, 1, None),
            (49_999, 1, None),
            (50_000, 2, None),
            (59_999, 2, None),
            (60_000, 3, END),
            (60_005, 3, END),
        ]
        assert [each["percent"] for each in seller.alerts()] == ["80", "100", "120"]
        assert [each.get("refused") for each in seller.alerts()] == [None, None, "yes"]

    def test_tells_the_highest_of_what_was_passed_at_once(self, seller: Seller) -> None:
        seller.use(70_000)
        seller.count()
        assert [each["percent"] for each in seller.alerts()] == ["120"]

    def test_writes_the_refusal_into_the_policy(self, seller: Seller) -> None:
        from budgets.domain.policy import decode
        from budgets.models import PolicySnapshot

        seller.use(60_000)
        seller.count()
        body = PolicySnapshot.objects.get(pk=seller.tenant_id).body
        assert decode(bytes(body)).refused_until == END

    def test_takes_what_comes_late_into_its_own_month(self, seller: Seller) -> None:
        seller.use(60_000)
        seller.count()
        seller.to(END + timedelta(days=2))
        seller.use(7, at=END - timedelta(hours=1))
        seller.use(11, at=END + timedelta(hours=1))
        account = seller.count()
        assert (account.counted, account.counted_from, account.refused_until) == (11, END, None)

    def test_leaves_out_what_never_reached_a_provider(self, seller: Seller) -> None:
        hold = seller.book.call("acme", START, state="presumed")
        seller.book.call("acme", START, state="voided")
        seller.book.roll()
        assert seller.count().counted == 1
        seller.book.call("acme", START, state="voided", hold=hold)
        seller.book.roll()
        assert seller.count().counted == 0

    def test_counts_nothing_where_noburn_is_self_hosted(self, seller: Seller, settings: Settings) -> None:
        settings.NOBURN_PLANS = ""
        seller.use(70_000)
        account = seller.count()
        assert (account.counted, account.refused_until, seller.alerts()) == (0, None, [])

    def test_looks_at_everybody_again_who_was_not_looked_at_for_long(self, seller: Seller) -> None:
        seller.use(60_000)
        seller.count()
        seller.to(END + timedelta(minutes=1))
        assert (seller.count().counted, seller.account().refused_until) == (0, None)


class TestOffers:
    def test_keep_what_was_sold(self) -> None:
        assert len({offer.key for offer in CATALOGUE}) == len(CATALOGUE)
        assert [offer.code for offer in offers_at(datetime(2026, 12, 1, tzinfo=UTC))] == [
            "free",
            "team",
            "scale",
        ]

    def test_say_where_a_count_stands(self) -> None:
        free = offer_at("free", START)
        team = offer_at("team", START)
        assert free is not None
        assert team is not None
        assert [free.standing(count) for count in (0, 40_000, 50_000, 59_999, 60_000)] == [
            Standing.OK,
            Standing.NEAR,
            Standing.OVER,
            Standing.OVER,
            Standing.REFUSED,
        ]
        assert team.standing(10**9) is Standing.OVER
        assert (team.overage(1_000_000), team.overage(1_000_100), team.overage(1_500_000)) == (0, 1, 2_500)

    def test_forecast_goes_on_as_it_did(self) -> None:
        ends_at = START + timedelta(days=30)
        assert forecast(1_000, START, ends_at, START + timedelta(days=10)) == 3_000
        assert forecast(0, START, ends_at, START) == 0
