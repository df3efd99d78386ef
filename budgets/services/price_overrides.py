"""Negotiated prices of a tenant: appended and ended, never edited; gateways get them with the tenant's policy."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from django.db import transaction
from django.db.models import F, Q

from budgets.domain.policy import ANY_MODEL
from budgets.domain.pricing_book import Model, PriceBook
from budgets.domain.pricing_overrides import negotiated_units
from budgets.domain.pricing_rates import FEE_UNITS, MAX_COUNT, UNITS, compile_rates
from budgets.models import PriceOverride
from budgets.services.policy import MEMORY, publish
from budgets.services.prices import price_book
from noburn.kit import ids
from noburn.kit.money import BadAmount, pico_to_usd, rate_to_pico
from noburn.kit.problems import FieldError, Invalid, Missing
from tenants.services import audit
from tenants.services.tenants import lock_tenant

PRICES_MAX: Final = 100
"""The most prices of one override: every unit of a model in a few variants and tiers."""

OVERRIDES_MAX: Final = 1_000
"""The most overrides of a tenant in its compiled policy, which remembers ended ones for 400 days."""

_PERCENT = re.compile(r"(0|[1-9][0-9]{0,2})(\.[0-9]{1,4})?", re.ASCII)


class InvalidPriceOverride(Invalid):
    """A negotiated price that breaks rules; `errors` names every one."""


class PriceOverrideOverlap(InvalidPriceOverride):
    """Another negotiated price of the same provider and model holds in part of the period: `standing`."""

    def __init__(self, standing: PriceOverride) -> None:
        super().__init__(
            [
                FieldError(
                    "effective_from",
                    f"overlaps {ids.encode(ids.PRICE_OVERRIDE, standing.pk)}, which holds from "
                    f"{standing.effective_from.isoformat()}: end that one first, or choose another period",
                )
            ]
        )
        self.standing = standing


class PriceOverrideNotFound(Missing):
    """The tenant has no such negotiated price."""


@dataclass(frozen=True, kw_only=True)
class OverridePrice:
    """USD for one unit (one token, one search), from `tier_start` input tokens on; `variant` "" is the standard one."""

    unit: str
    price: Decimal | str
    tier_start: int = 0
    variant: str = ""

    def errors(self) -> list[FieldError]:
        """Returns everything that is wrong with it on its own."""
        errors = []
        if self.unit not in UNITS:
            errors.append(FieldError("unit", f"must be one of {', '.join(sorted(UNITS))}"))
        elif self.tier_start and self.unit in FEE_UNITS:
            errors.append(FieldError("tier_start", "must be 0: only prices of tokens have tiers"))
        try:
            rate_to_pico(self.price, field="price")
        except BadAmount as bad:
            errors.append(FieldError("price", bad.message))
        if not 0 <= self.tier_start <= MAX_COUNT:
            errors.append(FieldError("tier_start", f"must be a whole number from 0 to {MAX_COUNT}"))
        if len(self.variant) > 64 or not self.variant.isprintable():
            errors.append(FieldError("variant", "must have at most 64 printable characters"))
        return errors


@dataclass(frozen=True, kw_only=True)
class NewPriceOverride:
    """A negotiated price: a discount on the book's prices, or prices in place of them, unit by unit.

    `model` is one model's name, also one that the book does not know, or `*` for all of the provider. In force from
    `effective_from` (None: now) until `effective_to` (None: open).
    """

    provider: str
    model: str = ANY_MODEL
    discount_percent: Decimal | str | None = None
    prices: tuple[OverridePrice, ...] | None = None
    effective_from: datetime | None = None
    effective_to: datetime | None = None
    note: str = ""

    def errors(self, book: PriceBook, now: datetime) -> list[FieldError]:
        """Returns everything that is wrong with it."""
        errors = []
        for field, longest in (("provider", 100), ("model", 200)):
            value = getattr(self, field)
            if not 1 <= len(value) <= longest or not value.isprintable() or value != value.strip():
                errors.append(FieldError(field, f"must be 1 to {longest} printable characters"))
        if (self.discount_percent is None) == (self.prices is None):
            errors.append(FieldError("discount_percent", "say either discount_percent or prices"))
        elif self.discount_percent is not None:
            errors += _discount_errors(self.discount_percent)
        else:
            errors += self._prices_errors()
        starts = self.effective_from or now
        if starts < now:
            errors.append(FieldError("effective_from", "must not be past: calls were priced without it"))
        if self.effective_to is not None and self.effective_to <= starts:
            errors.append(FieldError("effective_to", "must be later than effective_from"))
        if len(self.note) > 500 or not (self.note.isprintable() or not self.note):
            errors.append(FieldError("note", "must be at most 500 printable characters"))
        return errors or self._book_errors(book)

    def _prices_errors(self) -> list[FieldError]:
        prices = self.prices or ()
        if not 1 <= len(prices) <= PRICES_MAX:
            return [FieldError("prices", f"must be 1 to {PRICES_MAX} prices")]
        errors = []
        seen = set()
        for number, price in enumerate(prices):
            errors += [FieldError(f"prices[{number}].{e.field}", e.message) for e in price.errors()]
            key = price.variant, price.unit, price.tier_start
            if key in seen:
                errors.append(
                    FieldError(f"prices[{number}].unit", "is given twice for this variant and tier")
                )
            seen.add(key)
        if not errors:
            for variant, units in negotiated_units(self.rows()).items():
                try:
                    compile_rates(provider=self.provider, model=self.model, units=units, variant=variant)
                except ValueError as error:
                    errors.append(FieldError("prices", str(error).partition(": ")[2] or str(error)))
        return errors

    def _book_errors(self, book: PriceBook) -> list[FieldError]:
        found = None if self.model == ANY_MODEL else book.find(self.provider, self.model)
        if self.discount_percent is not None:
            if book.provider_named(self.provider) not in book.providers:
                return [FieldError("provider", "is not in the price book, so there is nothing to discount")]
            if found is not None and not isinstance(found, Model):
                return [FieldError("model", "is not in the price book, so there is nothing to discount")]
        elif (
            found is not None
            and not isinstance(found, Model)
            and not any(not price.variant for price in self.prices or ())
        ):
            return [FieldError("prices", "must hold a standard price: the book has none for this model")]
        return []

    def rows(self) -> list[tuple[str, str, int, int]]:
        """Returns its prices as (variant, unit, tier_start, pico-USD)."""
        return [
            (p.variant, p.unit, p.tier_start, rate_to_pico(p.price, field="price")) for p in self.prices or ()
        ]


def create_price_override(
    *, tenant_id: UUID, override: NewPriceOverride, actor: str, now: datetime
) -> PriceOverride:
    """Appends a negotiated price; one that holds from now on counts for the next call.

    Raises TenantNotFound, InvalidPriceOverride with every error, PriceOverrideOverlap.
    """
    book = price_book()
    errors = override.errors(book, now)
    with transaction.atomic():
        lock_tenant(tenant_id=tenant_id)
        remembered = PriceOverride.objects.filter(tenant_id=tenant_id).filter(
            Q(effective_to__isnull=True) | Q(effective_to__gt=now - MEMORY)
        )
        if remembered.count() >= OVERRIDES_MAX:
            errors = [
                *errors,
                FieldError(
                    "override", f"a tenant has at most {OVERRIDES_MAX}, ended ones of 400 days included"
                ),
            ]
        if errors:
            raise InvalidPriceOverride(errors)
        discount = override.discount_percent
        row = PriceOverride(
            id=ids.new_uuid(now),
            tenant_id=tenant_id,
            provider=book.provider_named(override.provider),
            model=override.model.lower(),
            discount_percent=None if discount is None else Decimal(discount),
            prices=None
            if override.prices is None
            else [
                {
                    "variant": price.variant,
                    "unit": price.unit,
                    "tier_start": price.tier_start,
                    "price": pico_to_usd(rate_to_pico(price.price, field="price")),
                }
                for price in override.prices
            ],
            effective_from=override.effective_from or now,
            effective_to=override.effective_to,
            note=override.note,
            created_by=actor,
            created_at=now,
        )
        if (standing := _overlapping(row)) is not None:
            raise PriceOverrideOverlap(standing)
        row.save(force_insert=True)
        _record(row, "price_override.create", actor=actor, now=now, before=None)
        publish(tenant_id=tenant_id, now=now)
    return row


def end_price_override(
    *, tenant_id: UUID, override_id: UUID, at: datetime | None = None, actor: str, now: datetime
) -> PriceOverride:
    """Ends a negotiated price at a time that has not passed (None: now); one that has not begun is withdrawn.

    Calls that were held at it are settled at it. Raises TenantNotFound, PriceOverrideNotFound, InvalidPriceOverride.
    """
    with transaction.atomic():
        lock_tenant(tenant_id=tenant_id)
        row = PriceOverride.objects.filter(tenant_id=tenant_id, pk=override_id).first()
        if row is None:
            raise PriceOverrideNotFound(str(override_id))
        ends = max(at or now, row.effective_from)
        if at is not None and at < now:
            raise InvalidPriceOverride([FieldError("effective_to", "must not be past")])
        if row.effective_to is not None and row.effective_to <= ends:
            raise InvalidPriceOverride(
                [FieldError("effective_to", f"must be earlier than its end, {row.effective_to.isoformat()}")]
            )
        before = _seen(row)
        row.effective_to = ends
        row.save(update_fields=["effective_to"])
        _record(row, "price_override.end", actor=actor, now=now, before=before)
        publish(tenant_id=tenant_id, now=now)
    return row


def _overlapping(row: PriceOverride) -> PriceOverride | None:
    # One that was withdrawn before it began holds at no time.
    others = PriceOverride.objects.exclude(effective_to=F("effective_from")).filter(
        Q(effective_to__isnull=True) | Q(effective_to__gt=row.effective_from),
        tenant_id=row.tenant_id,
        provider=row.provider,
        model=row.model,
    )
    if row.effective_to is not None:
        others = others.filter(effective_from__lt=row.effective_to)
    return others.order_by("effective_from", "pk").first()


def _discount_errors(discount: Decimal | str) -> list[FieldError]:
    text = f"{discount:f}" if isinstance(discount, Decimal) else discount
    if not _PERCENT.fullmatch(text) or Decimal(text) > 100:
        return [FieldError("discount_percent", "must be from 0 to 100 with at most four places")]
    return []


def _record(
    row: PriceOverride, action: str, *, actor: str, now: datetime, before: Mapping[str, Any] | None
) -> None:
    audit.record(
        tenant_id=row.tenant_id,
        actor=actor,
        action=action,
        object=ids.encode(ids.PRICE_OVERRIDE, row.pk),
        before=before,
        after=_seen(row),
        now=now,
    )


def _seen(row: PriceOverride) -> dict[str, Any]:
    """What the audit log shows of a negotiated price."""
    return {
        "provider": row.provider,
        "model": row.model,
        "discount_percent": f"{row.discount_percent:f}" if row.discount_percent is not None else None,
        "prices": row.prices,
        "effective_from": row.effective_from.isoformat(),
        "effective_to": row.effective_to.isoformat() if row.effective_to else None,
        "note": row.note,
    }
