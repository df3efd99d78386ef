"""Customers of whom nothing new is owed are looked at together, and nothing else changes by it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from billing.services import freezing, quiet
from tests.billing.push.till import HOUR, MINUTE, START

if TYPE_CHECKING:
    from billing.models import StripeLink
    from tests.billing.push.till import Till

pytestmark = pytest.mark.real_db

NOON = START + 12 * HOUR
FAR = NOON + 40 * HOUR
FEW = ["acme", "globex", "initech"]
MANY = [*FEW, *(f"customer-{at}" for at in range(9))]


def questions(till: Till) -> int:
    """How many statements the next hour's look at everybody takes."""
    till.later(hours=1)
    till.book.roll()
    with CaptureQueriesContext(connection) as asked:
        while freezing.freeze_due(now=till.now):
            continue
    return len(asked.captured_queries)


def seen(link: StripeLink, till: Till) -> list[Any]:
    """What a look notes of a customer."""
    name = link.customer.external_id
    periods = [(row.starts_at, row.ends_at, row.owed_nano, row.owed_until) for row in till.periods(name)]
    return [link.frozen_until, link.next_freeze_at, periods, till.values(name)]


class TestQuietCustomers:
    def test_cost_no_question_each(self, till: Till) -> None:
        for name in MANY:
            till.link(name)
        till.live(NOON)
        from billing.models import StripeLink

        links = StripeLink.objects.filter(tenant_id=till.tenant_id)
        others = links.exclude(customer__external_id__in=FEW)
        others.update(next_freeze_at=FAR)
        few = questions(till)
        others.update(next_freeze_at=till.now)
        assert questions(till) == few
        assert not links.filter(next_freeze_at__lte=till.now).exists()

    def test_are_noted_as_a_look_at_each_notes_them(
        self, till: Till, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in FEW:
            till.link(name)
            till.use(5_000, START + HOUR, name)
        till.live(NOON)
        till.to(NOON + HOUR + 21 * MINUTE)
        till.book.roll()
        links = [till.link_of(name).pk for name in FEW]
        passed = quiet.pass_over(links=links, now=till.now, followed=freezing.FOLLOWED)
        assert passed == set(links)
        together = [seen(till.link_of(name), till) for name in FEW]
        monkeypatch.setattr(freezing, "pass_over", lambda **_: set())
        type(till.link_of()).objects.filter(pk__in=links).update(next_freeze_at=till.now)
        till.freeze()
        assert [seen(till.link_of(name), till) for name in FEW] == together

    def test_leave_those_that_owe_something_to_be_frozen(self, till: Till) -> None:
        for name in FEW:
            till.link(name)
        till.live(NOON)
        till.use(700, NOON - 3 * HOUR, "globex")
        till.to(NOON + HOUR)
        till.book.roll()
        links = {name: till.link_of(name).pk for name in FEW}
        passed = quiet.pass_over(links=[*links.values()], now=till.now, followed=freezing.FOLLOWED)
        assert passed == {links["acme"], links["initech"]}
        till.work()
        assert (till.values("globex"), till.counted("globex")) == ([700], 700)

    def test_are_not_those_of_whom_more_may_come(self, till: Till) -> None:
        till.link()
        till.live(NOON)
        # Nothing was added up since: whether anything was used is not known.
        till.to(NOON + HOUR)
        links = [till.link_of().pk]
        till.book.owner.execute("UPDATE usage_cursor SET through_at = %s", [NOON - HOUR])
        assert quiet.pass_over(links=links, now=till.now, followed=freezing.FOLLOWED) == set()
        till.book.roll()
        assert quiet.pass_over(links=links, now=till.now, followed=freezing.FOLLOWED) == set(links)
