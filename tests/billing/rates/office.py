"""A tenant's rate cards and what its customers owe, as its tests ask for them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from billing.domain.charging import Charge
from billing.domain.rate_card_reading import read_terms
from billing.models import RateCard
from billing.services.charges import period_charges
from billing.services.rate_cards import NewVersion, append_version, assign_card, create_rate_card
from tests.billing.book import Book

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
# Other tests may have pruned hours that are older.
END = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
START = END - 30 * DAY
EARLIER = START - 30 * DAY


def card(book: Book, terms: dict[str, Any], name: str = "standard") -> RateCard:
    """A card that says this from a month before START on."""
    return create_rate_card(
        tenant_id=book.tenant_id,
        name=name,
        version=NewVersion(terms=read_terms(terms)),
        actor="test",
        now=EARLIER,
    )[0]


def change(book: Book, made: RateCard, terms: dict[str, Any], at: datetime) -> None:
    """Another version of a card."""
    append_version(
        tenant_id=book.tenant_id,
        card_id=made.pk,
        version=NewVersion(terms=read_terms(terms), effective_from=at),
        actor="test",
        now=EARLIER,
    )


def assign(book: Book, made: RateCard | None, at: datetime = EARLIER, *customers: str) -> None:
    """Lets a card hold for some customers; for none named by default."""
    assign_card(
        tenant_id=book.tenant_id,
        card_id=made.pk if made else None,
        customers=customers or None,
        effective_from=at,
        actor="test",
        now=EARLIER,
    )


def owed(
    tenant_id: UUID,
    customers: Sequence[str],
    starts_at: datetime = START,
    until: datetime = END,
    **options: Any,
) -> dict[str, Charge]:
    """What customers owe."""
    return period_charges(
        tenant_id=tenant_id, customers=customers, starts_at=starts_at, until=until, now=END + DAY, **options
    )
