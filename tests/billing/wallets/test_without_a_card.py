"""Calls of wallets at times without a rate card cost what the model costs, whenever somebody looks."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from tests.billing.push.till import HOUR, MINUTE

if TYPE_CHECKING:
    from tests.billing.book import Book
    from tests.billing.wallets.keeper import Keeper

pytestmark = pytest.mark.real_db

NANO = 10**9


@pytest.fixture
def keeper(book: Book) -> Keeper:
    """A customer of Alice's, without a card."""
    from tests.billing.wallets.keeper import Keeper

    return Keeper(book)


def card_for_everybody(keeper: Keeper, markup_percent: str) -> None:
    """A card for everybody from the next full hour on."""
    from billing.domain.rate_card_reading import read_terms
    from billing.services.rate_cards import NewVersion, assign_card, create_rate_card

    begins = keeper.now.replace(minute=0, second=0, microsecond=0) + HOUR
    made, _ = create_rate_card(
        tenant_id=keeper.tenant_id,
        name=uuid4().hex,
        version=NewVersion(terms=read_terms({"markup_percent": markup_percent}), effective_from=begins),
        actor="test",
        now=keeper.now,
    )
    assign_card(
        tenant_id=keeper.tenant_id,
        card_id=made.pk,
        customers=None,
        effective_from=begins,
        actor="test",
        now=keeper.now,
    )
    keeper.now = begins + MINUTE


class TestACallWithoutACard:
    def test_is_charged_its_cost_also_when_it_is_rerated_under_a_later_card(self, keeper: Keeper) -> None:
        keeper.open(20 * NANO)
        hold = keeper.call(4 * NANO)
        keeper.work(keeper.now + 21 * MINUTE)
        assert keeper.paid() == 4 * NANO
        card_for_everybody(keeper, "50")
        keeper.book.rerate(hold, -1 * NANO)
        keeper.work(keeper.now + 21 * MINUTE)
        assert keeper.paid() == 3 * NANO
        keeper.call(2 * NANO)
        keeper.end()
        # The later call is charged by the card; the earlier one is in no charge, and stays as it was.
        assert keeper.paid() == 3 * NANO + 3 * NANO
        assert keeper.charge().total_nano == 3 * NANO
        keeper.check()

    def test_is_held_at_its_cost_until_a_card_begins(self, keeper: Keeper) -> None:
        from billing.services.wallet_charges import rules_of
        from budgets.domain.charging import AT_COST

        keeper.open(20 * NANO)
        card_for_everybody(keeper, "50")
        rules = rules_of(tenant_id=keeper.tenant_id, now=keeper.now - 2 * HOUR)
        most = [table[0].ceiling for place in rules.default for table in [rules.tables[place]]]
        assert AT_COST in most
