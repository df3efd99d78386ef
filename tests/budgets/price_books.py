"""Price books made by hand, for tests that need no database."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from budgets.domain.pricing import Rates
from budgets.domain.pricing_book import ModelEntry, PriceBook, PriceEntry, ProviderEntry

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
START = datetime(2020, 1, 1, tzinfo=UTC)


def entry(unit: str, pico: int, number: int = 1, **changes: Any) -> PriceEntry:
    fields: dict[str, Any] = {
        "variant": "",
        "tier_start": 0,
        "effective_from": START,
        "effective_to": None,
        "daily_from": 0,
        "daily_to": 1440,
    }
    return PriceEntry(price_id=number, unit=unit, pico=pico, **(fields | changes))


def model(
    name: str, *, pattern: Any = None, read: int = 100, written: int = 200, **changes: Any
) -> ModelEntry:
    fields: dict[str, Any] = {
        "deprecated": False,
        "context_window": None,
        "prices": (entry("input_tokens", read, 1), entry("output_tokens", written, 2)),
    }
    return ModelEntry(model=name, pattern=pattern, **(fields | changes))


def provider(
    name: str, *models: ModelEntry, own: Any = None, known_as: Any = None, resells: tuple[str, ...] = ()
) -> ProviderEntry:
    return ProviderEntry(name, known_as, own, resells, models)


BOOK = PriceBook(
    7,
    [
        provider(
            "openai",
            model("gpt-9", pattern={"starts_with": "gpt-9"}, read=900, written=1800),
            model("gpt-9-mini", pattern={"equals": "gpt-9-mini"}, read=90, written=180),
            model("gpt-9-nano", pattern={"equals": "gpt-9-nano"}, read=9, written=18),
            model("gpt-9-2026-01-02", pattern={"equals": "gpt-9-2026-01-02"}),
            own={"starts_with": "gpt-"},
            known_as={"contains": "openai"},
        ),
        provider("azure", model("local-1"), resells=("openai",)),
        provider("reseller", model("GPT-9"), model("shared-1"), model("only-here")),
        provider("other", model("shared-1"), model("odd", pattern={"regex": r"^odd-\d+$"})),
    ],
)


def resolved(
    name: str, *, seller: str | None = None, at: datetime = NOW, book: PriceBook = BOOK
) -> tuple[str, str]:
    rates = book.resolve(seller, name, at)
    assert isinstance(rates, Rates), rates
    return rates.provider, rates.model
