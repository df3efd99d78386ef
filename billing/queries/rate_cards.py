"""Which cards hold for customers: assignments and versions that are not withdrawn, as the domain knows them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from billing.domain.card_timelines import Assignment, Span, spans
from billing.domain.rate_card_reading import read_terms
from billing.domain.rate_cards import CardVersion
from billing.models import RateCardAssignment, RateCardVersion

DEFAULT = ""
"""Stands for the default among names of customers, since no customer has an empty name."""


@dataclass(frozen=True, kw_only=True)
class Cards:
    """Who has which cards when, of the customers that were asked for, and what the cards say."""

    assignments: Mapping[str, Sequence[Assignment]]
    versions: Sequence[CardVersion]

    def spans_of(self, customer: str, *, starts_at: datetime, until: datetime) -> tuple[Span, ...]:
        """Returns which version holds for a customer when."""
        own = self.assignments.get(customer, ()) if customer != DEFAULT else ()
        return spans(own, self.assignments.get(DEFAULT, ()), self.versions, starts_at=starts_at, until=until)


def version_of(row: RateCardVersion) -> CardVersion:
    """Returns a stored version as the domain knows it."""
    return CardVersion(
        card_id=row.card_id,
        number=row.number,
        effective_from=row.effective_from,
        terms=read_terms(row.terms),
    )


def cards_of(*, tenant_id: UUID, customers: Iterable[str] | None) -> Cards:
    """Reads assignments of some customers (None: of all that have any) and the default, and the cards they name."""
    assigned = RateCardAssignment.objects.filter(tenant_id=tenant_id, withdrawn_at__isnull=True)
    if customers is not None:
        assigned = assigned.filter(customer__in=[DEFAULT, *customers])
    found: dict[str, list[Assignment]] = {}
    cards: set[UUID] = set()
    for customer, effective_from, card_id in assigned.order_by("effective_from").values_list(
        "customer", "effective_from", "card_id"
    ):
        found.setdefault(customer, []).append(Assignment(effective_from=effective_from, card_id=card_id))
        if card_id is not None:
            cards.add(card_id)
    stored = RateCardVersion.objects.filter(
        tenant_id=tenant_id, card_id__in=cards, withdrawn_at__isnull=True
    ).order_by("card_id", "effective_from")
    return Cards(assignments=found, versions=[version_of(row) for row in stored])
