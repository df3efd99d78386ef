"""Prices that wait for an operator, and what approving one does."""

from __future__ import annotations

import re
from datetime import timedelta
from decimal import Decimal

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client
from django.urls import reverse

from budgets.models import PriceImport, PriceProposal, PriceRow
from budgets.services.price_proposals import NewProposal, propose
from budgets.services.price_seed import seed_prices
from noburn.kit.clock import utc_now
from tests.support.operators import staff, superuser
from tests.tenants.cast import unique

pytestmark = pytest.mark.real_db

BOTH = ("budgets.view_priceproposal", "budgets.change_priceproposal")


@pytest.fixture
def proposal() -> PriceProposal:
    seed_prices()
    now = utc_now()
    return propose(
        proposal=NewProposal(
            provider="openai",
            model=unique("model"),
            unit="input_tokens",
            price=Decimal("0.000002"),
            effective_from=now + timedelta(days=1),
            source="https://example.com/prices",
            new_model=True,
        ),
        actor="user:alice",
        now=now,
    )


def decide(client: Client, proposal: PriceProposal, action: str, **fields: str) -> str:
    answer = client.post(
        reverse("admin:budgets_priceproposal_changelist"),
        {"action": action, "_selected_action": [str(proposal.pk)], **fields},
        follow=True,
    )
    assert answer.status_code == 200
    return answer.content.decode()


def rows_of(proposal: PriceProposal) -> int:
    return PriceRow.objects.filter(price_model__model=proposal.model).count()


class TestProposals:
    def test_are_asked_about_before_they_are_approved(self, proposal: PriceProposal) -> None:
        assert "Approve these prices?" in decide(superuser(), proposal, "approve")
        assert rows_of(proposal) == 0

    def test_are_approved_into_the_book(self, proposal: PriceProposal) -> None:
        decide(staff(*BOTH), proposal, "approve", confirmed="yes")
        proposal.refresh_from_db()
        logged = LogEntry.objects.get(object_id=str(proposal.pk))
        assert (proposal.state, proposal.decided_by) == ("approved", f"operator:{logged.user_id}")
        assert rows_of(proposal) == 1

    def test_are_rejected_without_a_trace_in_the_book(self, proposal: PriceProposal) -> None:
        decide(superuser(), proposal, "reject", confirmed="yes")
        proposal.refresh_from_db()
        assert proposal.state == "rejected"
        assert rows_of(proposal) == 0

    def test_are_decided_once(self, proposal: PriceProposal) -> None:
        operator = superuser()
        decide(operator, proposal, "reject", confirmed="yes")
        assert "already" in decide(operator, proposal, "approve", confirmed="yes")
        assert rows_of(proposal) == 0

    def test_are_not_decided_by_who_may_only_look(self, proposal: PriceProposal) -> None:
        decide(staff("budgets.view_priceproposal"), proposal, "approve", confirmed="yes")
        proposal.refresh_from_db()
        assert proposal.state == "proposed"


class TestSources:
    def test_stand_beside_each_other_with_what_the_book_says(self, proposal: PriceProposal) -> None:
        now = utc_now()
        disputed = PriceProposal.objects.create(
            provider="openai", model=unique("model"), unit="input_tokens", price=Decimal("0.000003"),
            effective_from=now, source="litellm 1.106.2, m", proposed_by="command:prices import", proposed_at=now,
            book_price=Decimal("0.0000015"), genai_price=Decimal("0.00000175"), litellm_price=Decimal("0.000003"),
        )  # fmt: skip
        operator = superuser()
        page = operator.get(
            reverse("admin:budgets_priceproposal_changelist"), {"from": "sources", "q": disputed.model}
        ).content.decode()
        cells = re.findall(r"field-(in_the_book|by_genai|by_litellm)\b.*?>\s*([0-9.]+)\s*<", page, re.DOTALL)
        assert dict(cells) == {"in_the_book": "1.5", "by_genai": "1.75", "by_litellm": "3"}
        others = operator.get(
            reverse("admin:budgets_priceproposal_changelist"), {"from": "sources", "q": proposal.model}
        ).content.decode()
        assert f"/{proposal.pk}/" not in others

    def test_and_what_came_of_reading_them_are_a_page(self) -> None:
        name = unique("litellm")
        PriceImport.objects.create(
            actor="command:prices import",
            ran_at=utc_now(),
            sources=name,
            found={"appended": 17, "proposed": 4},
        )
        page = superuser().get(reverse("admin:budgets_priceimport_changelist")).content.decode()
        assert name in page
        assert re.search(r"field-appended\b[^>]*>\s*17\b", page)
