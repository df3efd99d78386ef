"""Appends to the price book, closes rows of it, and reads it for programs that use the ORM."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Final

from django.db import IntegrityError, connection, transaction
from django.db.models import Q

from budgets.domain.pricing_book import DAY_MINUTES, PriceBook
from budgets.domain.pricing_rates import FEE_UNITS, MAX_COUNT, UNITS
from budgets.models import PriceModel, PriceProvider, PriceRow
from budgets.stores.postgres.prices import BOOK_SQL, VERSION_SQL, book_of
from noburn.kit.money import BadAmount, rate_to_pico

LEAD: Final = timedelta(minutes=1)
"""How long before it begins a price is in the book that takes another's place: each gateway has read it by then.

A gateway asks every five seconds whether the book has changed. Were a dearer price in force at once, calls that were
held meanwhile would cost more than was held for them.
"""


class BadPrice(ValueError):
    """A price that cannot stand in the book. `errors` maps every wrong field to what to change."""

    def __init__(self, errors: Mapping[str, str]) -> None:
        super().__init__("; ".join(f"{name}: {message}" for name, message in sorted(errors.items())))
        self.errors = dict(errors)


class PriceOverlap(BadPrice):
    """Another row already gives that price in that period. `row` is the row that stands in the way."""

    def __init__(self, row: PriceRow) -> None:
        super().__init__(
            {
                "effective_from": f"overlaps price row {row.pk}, {describe(row)}: "
                "choose a period in which it does not hold, or close it first"
            }
        )
        self.row = row


@dataclass(frozen=True)
class NewPrice:
    """A price to append: USD for one unit (one token, one search, one hour of audio), not for a million.

    In force from `effective_from` until `effective_to` (None: open), and each day in UTC from minute
    `daily_from` up to `daily_to`. `variant` is "" for the standard price, else a tier such as "batch".
    """

    provider: str
    model: str
    unit: str
    price: Decimal | str
    effective_from: datetime
    source: str
    checked_at: datetime
    effective_to: datetime | None = None
    variant: str = ""
    tier_start: int = 0
    daily_from: int = 0
    daily_to: int = DAY_MINUTES
    errors: dict[str, str] = field(init=False, compare=False, default_factory=dict)

    def __post_init__(self) -> None:
        errors = self.errors
        for name, longest in (("provider", 100), ("model", 200), ("source", 300)):
            if not 0 < len(getattr(self, name).strip()) <= longest:
                errors[name] = f"must have 1 to {longest} characters"
        if self.unit not in UNITS:
            errors["unit"] = f"must be one of {', '.join(sorted(UNITS))}"
        elif self.tier_start and self.unit in FEE_UNITS:
            errors["tier_start"] = "must be 0: only prices of tokens have tiers"
        try:
            rate_to_pico(self.price, field="price")
        except BadAmount as error:
            errors["price"] = error.message
        if not 0 <= self.tier_start <= MAX_COUNT:
            errors["tier_start"] = f"must be a whole number from 0 to {MAX_COUNT}"
        if len(self.variant) > 64:
            errors["variant"] = "must have at most 64 characters"
        for name in ("effective_from", "effective_to", "checked_at"):
            value = getattr(self, name)
            if value is not None and value.tzinfo is None:
                errors[name] = "must carry a time zone"
        if not errors and self.effective_to is not None and self.effective_to <= self.effective_from:
            errors["effective_to"] = "must be later than effective_from"
        if not 0 <= self.daily_from < self.daily_to <= DAY_MINUTES:
            errors["daily_to"] = f"must be later than daily_from, both from 0 to {DAY_MINUTES} minutes"


def describe(row: PriceRow) -> str:
    """Returns one line about a row: what it prices, the price, when it holds and where it comes from."""
    name = f"{row.price_model.provider_id}/{row.price_model.model}"
    until = row.effective_to.isoformat() if row.effective_to else "further notice"
    tier = f" above {row.tier_start} input tokens" if row.tier_start else ""
    return (
        f"{name} {row.variant or 'standard'} {row.unit}{tier} at {row.price.normalize():f} USD "
        f"from {row.effective_from.isoformat()} until {until} ({row.source})"
    )


def add_price(
    *, price: NewPrice, now: datetime, new_model: bool = False, close_open: bool = False
) -> PriceRow:
    """Appends a price and returns its row.

    With `new_model` a model that the provider did not have is added under its exact name. With `close_open`
    an open row that the new one follows ends where it starts, which must not be in the past: calls made until
    then keep their price. Raises BadPrice with every wrong field, PriceOverlap.
    """
    errors = dict(price.errors)
    if now.tzinfo is None:
        raise ValueError("now must be aware")
    provider = PriceProvider.objects.filter(pk=price.provider).first()
    if provider is None:
        errors.setdefault("provider", "is not in the price book")
    model = PriceModel.objects.filter(provider_id=price.provider, model=price.model).first()
    if provider is not None and model is None and not new_model:
        errors.setdefault("model", f"is not a model of {price.provider}; say that it is new to add it")
    if errors:
        raise BadPrice(errors)
    try:
        with transaction.atomic():
            if model is None:
                # Last in the order, so that it takes no name from a pattern of another model.
                model, _ = PriceModel.objects.get_or_create(
                    provider_id=price.provider,
                    model=price.model,
                    defaults={
                        "position": PriceModel.objects.filter(provider_id=price.provider).count(),
                        "pattern": {"equals": price.model},
                    },
                )
            if close_open:
                _close_open(model, price, now)
            if (standing := _overlapping(model, price)) is not None:
                raise PriceOverlap(standing)
            return PriceRow.objects.create(
                price_model=model,
                variant=price.variant,
                unit=price.unit,
                tier_start=price.tier_start,
                price=Decimal(price.price),
                effective_from=price.effective_from,
                effective_to=price.effective_to,
                daily_from=price.daily_from,
                daily_to=price.daily_to,
                source=price.source,
                checked_at=price.checked_at,
            )
    except IntegrityError:
        # Another one was appended between the look and the insert; the constraint saw it.
        standing = _overlapping(model, price) if model is not None and model.pk else None
        if standing is None:
            raise
        raise PriceOverlap(standing) from None


def first_start(
    *, provider: str, model: str, variant: str, unit: str, tier_start: int, wanted: datetime, now: datetime
) -> datetime:
    """Returns when a price can begin that is wanted from a time on, which may have passed: now at the earliest.

    One that ends another's begins in LEAD at the earliest.
    """
    starts = max(wanted, now)
    standing = PriceRow.objects.filter(
        price_model__provider_id=provider,
        price_model__model=model,
        variant=variant,
        unit=unit,
        tier_start=tier_start,
        effective_from__lte=starts,
        effective_to__isnull=True,
    )
    return max(starts, now + LEAD) if standing.exists() else starts


def close_price(*, price_id: int, at: datetime, now: datetime) -> PriceRow:
    """Ends an open row at a time that has not passed and returns it.

    Raises BadPrice when there is no such row, when it has an end already, or when the time has passed.
    """
    with transaction.atomic():
        row = (
            PriceRow.objects.select_for_update(of=("self",))
            .select_related("price_model")
            .filter(pk=price_id)
            .first()
        )
        if row is None:
            raise BadPrice({"price_id": "is not a row of the price book"})
        if row.effective_to is not None:
            raise BadPrice({"price_id": f"ends already: {describe(row)}"})
        if at.tzinfo is None or at < now or at <= row.effective_from:
            raise BadPrice({"at": "must be a time with a zone, not past and later than the row's start"})
        row.effective_to = at
        row.save(update_fields=["effective_to"])
        return row


def _overlapping(model: PriceModel, price: NewPrice) -> PriceRow | None:
    rows = PriceRow.objects.filter(
        Q(effective_to__isnull=True) | Q(effective_to__gt=price.effective_from),
        price_model=model,
        variant=price.variant,
        unit=price.unit,
        tier_start=price.tier_start,
        daily_from__lt=price.daily_to,
        daily_to__gt=price.daily_from,
    )
    if price.effective_to is not None:
        rows = rows.filter(effective_from__lt=price.effective_to)
    return rows.select_related("price_model").order_by("effective_from", "pk").first()


def _close_open(model: PriceModel, price: NewPrice, now: datetime) -> None:
    standing = _overlapping(model, price)
    if (
        standing is not None
        and standing.effective_to is None
        and standing.effective_from < price.effective_from
    ):
        if price.effective_from < now:
            raise BadPrice(
                {"effective_from": "must not be past when it ends a price that calls were made at"}
            )
        close_price(price_id=standing.pk, at=price.effective_from, now=now)


def price_book() -> PriceBook:
    """Loads the whole book on Django's connection."""
    with connection.cursor() as cursor:
        cursor.execute(BOOK_SQL)
        return book_of(cursor.fetchall())


def book_version() -> int:
    """Returns the book's version, which rises with every change."""
    with connection.cursor() as cursor:
        cursor.execute(VERSION_SQL)
        row = cursor.fetchone()
    return int(row[0]) if row and row[0] is not None else 0


def rows_of(*, provider: str, model: str) -> list[PriceRow]:
    """Returns a model's rows, past and future ones too, in the order variant, unit, tier, time."""
    rows = PriceRow.objects.filter(price_model__provider_id=provider, price_model__model=model)
    return list(
        rows.select_related("price_model").order_by(
            "variant", "unit", "tier_start", "effective_from", "daily_from", "pk"
        )
    )
