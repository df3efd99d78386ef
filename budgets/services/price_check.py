"""Looks over the price book: by itself, by how long ago its sources were read, and by what calls were settled at."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from budgets.domain.pricing_book import Model
from budgets.domain.pricing_checks import Flaw, Kind, flaws
from budgets.models import PriceImport, PriceRow
from budgets.queries.settled_prices import settled_models
from budgets.services.prices import price_book
from noburn.kit.money import to_usd

STALE_DAYS: Final = 60
SETTLED_DAYS: Final = 30


def check_prices(*, now: datetime, stale_days: int = STALE_DAYS) -> list[Flaw]:
    """Returns everything about the book that is wrong or looks so, sorted.

    Not inside a transaction: the ledger is read for a limited time. Raises TookTooLong.
    """
    book = price_book()
    found = set(flaws(book, now=now, checked=_checked(), stale=timedelta(days=stale_days)))
    for settled in settled_models(since=now - timedelta(days=SETTLED_DAYS)):
        known = book.find(settled.provider or None, settled.model)
        if not isinstance(known, Model) or known.rates(now) is None:
            calls = f"{settled.calls} calls for ${to_usd(settled.cost_nano)} in {SETTLED_DAYS} days"
            found.add(Flaw(Kind.BY_POLICY, settled.provider, settled.model, calls))
    return sorted(found)


def _checked() -> dict[int, datetime]:
    """When each row's source was last looked at.

    An import looks at all rows that come from the package, but reading the same two sources again is no news: their
    first import counts.
    """
    read_at: datetime | None = None
    last = PriceImport.objects.order_by("-ran_at", "-pk").first()
    if last is not None:
        first = PriceImport.objects.filter(sources=last.sources).order_by("ran_at", "pk").first()
        read_at = first.ran_at if first is not None else None
    rows = PriceRow.objects.order_by("pk").values_list("pk", "source", "checked_at")
    return {
        pk: max(checked_at, read_at) if read_at and source.startswith("genai-prices ") else checked_at
        for pk, source, checked_at in rows.iterator(chunk_size=5_000)
    }
