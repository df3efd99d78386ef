"""Marks the models that a provider really sells, so that a refusal names none that cannot be called."""

from __future__ import annotations

from datetime import UTC, datetime

from django.db import transaction
from genai_prices import data

from budgets.domain.pricing_litellm import PriceMap
from budgets.models import PriceModel
from budgets.services.price_seed import is_borrowed, seed_names


def mark_offered(*, prices: PriceMap, now: datetime) -> int:
    """Compares the package's models with the map's names and returns how many were marked or unmarked."""
    with transaction.atomic():
        seed_names()
        return mark(prices=prices, now=now)


def mark(*, prices: PriceMap, now: datetime) -> int:
    """Does what `mark_offered` does, after `seed_names` and in its transaction.

    Where the map knows a seller, only what it lists under exactly that name, and not as retired, is offered: a name
    that only a pattern recognises may be one that the provider does not take. Models that people added stay offered.
    """
    today = now.astimezone(UTC).date()
    listed = {
        (entry.provider, entry.name.lower())
        for entry in prices.entries
        if entry.retired_on is None or entry.retired_on > today
    }
    wanted = {
        (provider.id, model.id): not is_borrowed(provider.id, model)
        and (provider.id not in prices.providers or (provider.id, model.id.lower()) in listed)
        for provider in data.providers
        for model in provider.models
    }
    changed: dict[bool, list[int]] = {True: [], False: []}
    for pk, provider, name, offered in PriceModel.objects.order_by("pk").values_list(
        "pk", "provider_id", "model", "offered"
    ):
        if (to := wanted.get((provider, name), offered)) != offered:
            changed[to].append(pk)
    for offered, models in changed.items():
        # The book's version rises with every statement, whether or not it finds a row.
        if models:
            PriceModel.objects.filter(pk__in=models).update(offered=offered)
    return sum(map(len, changed.values()))
