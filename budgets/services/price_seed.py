"""Fills the price book offline from the genai-prices package: all providers, dates, variants and tiers.

The package is read once, here; the hot path never calls it. Its conditional prices are cut into dated rows:
time is split at each start date and each time of day that it names, and asked what holds in between.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from importlib.metadata import version
from itertools import pairwise
from typing import Any, Final

from django.db import connection, transaction
from genai_prices import data
from genai_prices import types as genai
from genai_prices.data_units import unit_data

from budgets.domain.pricing_book import DAY_MINUTES
from budgets.domain.pricing_rates import AUDIO_HOUR_UNITS, UNITS
from budgets.models import PriceModel, PriceProvider, PriceRow
from noburn.kit.money import round_rate

BEGINNING: Final = datetime(2020, 1, 1, tzinfo=UTC)
"""When a price starts that is not known to have had a predecessor."""

CHECKED_AT: Final = datetime(2026, 11, 22, tzinfo=UTC)
"""When the packaged prices were last compared with a second source."""

BATCH: Final = 2000
SEED_LOCK: Final = 420021

_UNIT_OF_KEY: Final[dict[str, tuple[str, int]]] = {
    unit["price_key"]: (name, unit["per"]) for name, unit in unit_data.items()
}

_ROUTERS_NAME: Final = re.compile(r":[a-z]+$", re.ASCII)

Key = tuple[str, str, int]
Window = tuple[int, int, Decimal]


@dataclass(frozen=True)
class DatedPrice:
    """One price as the package has it, in USD per unit, with the fields of a PriceRow."""

    variant: str
    unit: str
    tier_start: int
    price: Decimal
    effective_from: datetime
    effective_to: datetime | None
    daily_from: int
    daily_to: int


@dataclass(frozen=True)
class SeedReport:
    """What a seed did. `kept` names models where rows of the book stand over the package's."""

    providers: int
    models: int
    prices: int
    unpriced: tuple[str, ...]
    kept: tuple[str, ...]


def seed_prices() -> SeedReport:
    """Appends whatever the package has and the book has not. Running it again changes nothing.

    Rows are never edited: where a row of the book overlaps one of the package's with another price, the
    book's stands and the model is named in `kept`. Patterns, positions and deprecations follow the package.
    """
    with transaction.atomic():
        providers, models, ids = seed_names()
        prices, unpriced, kept = _seed_rows(ids)
    return SeedReport(providers, models, prices, tuple(unpriced), tuple(kept))


def seed_names() -> tuple[int, int, dict[tuple[str, str], int]]:
    """Brings the book's providers and models up to the package's, without any price; inside a transaction.

    Returns how many providers and models were added or updated, and the ids of all models by provider and name.
    Whoever changes the book from the package comes here first, and so one after the other.
    """
    with connection.cursor() as cursor:
        # Two seeds at once would both see the rows missing and then fail on each other's.
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [SEED_LOCK])
    providers = _seed_providers()
    models, ids = _seed_models()
    return providers, models, ids


def is_borrowed(provider: str, model: genai.ModelInfo) -> bool:
    """Whether the package lists a model under its maker by what OpenRouter charges for it, and not as sold there.

    Open weights such as gpt-oss cannot be bought from openai. Names such as `gpt-4o:extended` are OpenRouter's own.
    """
    comment = (model.price_comments or "").lower()
    return provider != "openrouter" and (
        comment.startswith(("imported from openrouter", "seen on openrouter"))
        or _ROUTERS_NAME.search(model.id) is not None
    )


def _seed_providers() -> int:
    fields = ["name", "position", "provider_pattern", "model_pattern", "fallback_providers", "pricing_urls"]
    known = {provider.id: provider for provider in PriceProvider.objects.order_by("pk")}
    wanted = [
        PriceProvider(
            id=provider.id,
            name=provider.name,
            position=position,
            provider_pattern=pattern_json(provider.provider_match),
            model_pattern=pattern_json(provider.model_match),
            fallback_providers=list(provider.fallback_model_providers or []),
            pricing_urls=list(provider.pricing_urls or []),
        )
        for position, provider in enumerate(data.providers)
    ]
    changed = [w for w in wanted if w.id not in known or not _same(w, known[w.id], fields)]
    PriceProvider.objects.bulk_create(
        changed, batch_size=BATCH, update_conflicts=True, unique_fields=["id"], update_fields=fields
    )
    return len(changed)


def _seed_models() -> tuple[int, dict[tuple[str, str], int]]:
    fields = ["position", "pattern", "context_window", "deprecated", "offered"]
    known = {(model.provider_id, model.model): model for model in PriceModel.objects.order_by("pk")}
    wanted = [
        PriceModel(
            provider_id=provider.id,
            model=model.id,
            position=position,
            pattern=pattern_json(model.match),
            context_window=model.context_window,
            deprecated=bool(model.deprecated),
            # What a second source did not find there stays marked: `price_offers` looks again.
            offered=not is_borrowed(provider.id, model)
            and ((found := known.get((provider.id, model.id))) is None or found.offered),
        )
        for provider in data.providers
        for position, model in enumerate(provider.models)
    ]
    changed = [
        w
        for w in wanted
        if (found := known.get((w.provider_id, w.model))) is None or not _same(w, found, fields)
    ]
    PriceModel.objects.bulk_create(
        changed,
        batch_size=BATCH,
        update_conflicts=True,
        unique_fields=["provider", "model"],
        update_fields=fields,
    )
    rows = PriceModel.objects.order_by("pk").values_list("provider_id", "model", "pk")
    return len(changed), {(provider, model): pk for provider, model, pk in rows}


def _same(one: Any, other: Any, fields: list[str]) -> bool:
    return all(getattr(one, field) == getattr(other, field) for field in fields)


def _seed_rows(ids: Mapping[tuple[str, str], int]) -> tuple[int, list[str], list[str]]:
    known: dict[int, list[PriceRow]] = {}
    for row in PriceRow.objects.order_by("pk").iterator(chunk_size=BATCH):
        known.setdefault(row.price_model_id, []).append(row)
    release = version("genai-prices")
    new: list[PriceRow] = []
    unpriced: list[str] = []
    kept: list[str] = []
    for provider in data.providers:
        page = (provider.pricing_urls or [provider.name])[0]
        source = f"genai-prices {release}, {page}"[:300]
        for model in provider.models:
            name = f"{provider.id}/{model.id}"
            prices = list(dated_prices(model))
            if not prices:
                unpriced.append(name)
            pk = ids[provider.id, model.id]
            mine = known.get(pk, [])
            overruled = False
            for price in prices:
                standing = [row for row in mine if _overlap(price, row)]
                if not standing:
                    new.append(
                        PriceRow(price_model_id=pk, source=source, checked_at=CHECKED_AT, **vars(price))
                    )
                elif any(row.price != price.price for row in standing):
                    overruled = True
            if overruled:
                kept.append(name)
    PriceRow.objects.bulk_create(new, batch_size=BATCH)
    return len(new), unpriced, kept


def _overlap(price: DatedPrice, row: PriceRow) -> bool:
    return (
        (row.variant, row.unit, row.tier_start) == (price.variant, price.unit, price.tier_start)
        and (row.effective_to is None or price.effective_from < row.effective_to)
        and (price.effective_to is None or row.effective_from < price.effective_to)
        and price.daily_from < row.daily_to
        and row.daily_from < price.daily_to
    )


def pattern_json(match: Any) -> dict[str, Any] | None:
    """Returns a pattern of the package in the form of `budgets.domain.pricing_match`."""
    if match is None:
        return None
    if isinstance(match, genai.ClauseOr):
        return {"or": [pattern_json(part) for part in match.or_]}
    if isinstance(match, genai.ClauseAnd):
        return {"and": [pattern_json(part) for part in match.and_]}
    ((kind, value),) = vars(match).items()
    return {kind: value}


def dated_prices(model: genai.ModelInfo) -> Iterator[DatedPrice]:
    """Cuts a model's conditional prices and variants into rows that do not overlap.

    A model without any price gives none, unless it is offered for free by name (":free") or by its comment.
    """
    conditions = [c.constraint for c in model.prices] if isinstance(model.prices, list) else []
    conditions += [variant.constraint for variant in model.price_variants or []]
    dates = {
        datetime.combine(c.start_date, time(), UTC)
        for c in conditions
        if isinstance(c, genai.StartDateConstraint)
    }
    starts = sorted({BEGINNING, *(date for date in dates if date > BEGINNING)})
    clocks = {0, DAY_MINUTES}
    for condition in conditions:
        if isinstance(condition, genai.TimeOfDateConstraint):
            clocks |= {_minute(condition.start_time), _minute(condition.end_time)}
    minutes = sorted(clocks)
    running: dict[tuple[Key, Window], datetime] = {}
    for start in starts:
        current = _windows(model, start, minutes)
        for key, window in [held for held in running if held not in current]:
            yield DatedPrice(*key, window[2], running.pop((key, window)), start, *window[:2])
        for held in current:
            running.setdefault(held, start)
    for (key, window), since in running.items():
        yield DatedPrice(*key, window[2], since, None, *window[:2])


def _windows(model: genai.ModelInfo, day: datetime, minutes: list[int]) -> dict[tuple[Key, Window], None]:
    """Returns each price of one day with the stretch of the day in which it holds."""
    stretches: dict[Key, list[Window]] = {}
    for first, last in pairwise(minutes):
        at = day + timedelta(minutes=first)
        for key, price in _prices_at(model, at).items():
            windows = stretches.setdefault(key, [])
            if windows and windows[-1][1] == first and windows[-1][2] == price:
                windows[-1] = (windows[-1][0], last, price)
            else:
                windows.append((first, last, price))
    return {(key, window): None for key, windows in stretches.items() for window in windows}


def _prices_at(model: genai.ModelInfo, at: datetime) -> dict[Key, Decimal]:
    standard = _units(model.get_prices(at))
    if not standard:
        free = model.id.endswith(":free") or "free of charge" in (model.price_comments or "").lower()
        return {("", unit, 0): Decimal(0) for unit in ("input_tokens", "output_tokens")} if free else {}
    prices = {("", unit, start): price for unit, tiers in standard.items() for start, price in tiers}
    for context in {json.dumps(v.when, sort_keys=True): v.when for v in model.price_variants or []}.values():
        for unit, tiers in _units(model.get_prices(at, context)).items():
            if standard.get(unit) != tiers:
                prices |= {(variant_name(context), unit, start): price for start, price in tiers}
    return prices


def variant_name(context: Mapping[str, str]) -> str:
    """Returns the service tier for a request context of the package: {"processing": "batch"} is "batch".

    Contexts that are not about speed keep their key: {"route": "mistral/eu"} is "route:mistral/eu".
    """
    if len(context) != 1:
        return ",".join(f"{key}:{value}" for key, value in sorted(context.items()))
    ((key, value),) = context.items()
    return value if key in ("processing", "service_tier", "speed") else f"{key}:{value}"


def _units(price: genai.ModelPrice) -> dict[str, list[tuple[int, Decimal]]]:
    found: dict[str, list[tuple[int, Decimal]]] = {}
    for price_key, value in vars(price).items():
        if value is None:
            continue
        unit, per = _UNIT_OF_KEY[price_key]
        if unit in AUDIO_HOUR_UNITS:
            unit, per = AUDIO_HOUR_UNITS[unit], 1
        if unit not in UNITS:
            raise ValueError(f"the package prices {unit}, which budgets.domain.pricing_rates does not know")
        tiers = [(0, value)]
        if isinstance(value, genai.TieredPrices):
            tiers = [(0, value.base), *((tier.start, tier.price) for tier in value.tiers)]
        found[unit] = [(start, round_rate(usd / per)) for start, usd in tiers]
    return found


def _minute(clock: time) -> int:
    if clock.tzinfo is not None:
        clock = datetime.combine(BEGINNING.date(), clock).astimezone(UTC).time()
    return clock.hour * 60 + clock.minute
