"""A tenant's own price of a token, which changes, and re-ratings of what customers used before."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from budgets.models import PriceOverride, ReratingState
from budgets.services import reratings
from budgets.services.price_overrides import (
    NewPriceOverride,
    OverridePrice,
    create_price_override,
    end_price_override,
)
from noburn.kit.money import to_usd

PROVIDER = "openai"
MODEL = "own-model"
ACTOR = "user:alice"


class Contract:
    """What a token of a tenant's own model costs: a whole number of hundreds of nano-USD."""

    def __init__(self, tenant_id: UUID, price_nano: int, now: datetime) -> None:
        self.tenant_id, self.price_nano = tenant_id, price_nano
        self._standing: PriceOverride | None = None
        self.change(price_nano, now)

    def change(self, price_nano: int, now: datetime) -> None:
        """Lets a token cost so much from now on."""
        if self._standing is not None:
            end_price_override(tenant_id=self.tenant_id, override_id=self._standing.pk, actor=ACTOR, now=now)
        self.price_nano = price_nano
        self._standing = create_price_override(
            tenant_id=self.tenant_id,
            override=NewPriceOverride(
                provider=PROVIDER,
                model=MODEL,
                prices=(OverridePrice(unit="input_tokens", price=to_usd(price_nano)),),
            ),
            actor=ACTOR,
            now=now,
        )

    def rerate(self, customer: str, since: datetime, now: datetime) -> int:
        """Gives what a customer used since then the price of today; returns how many calls changed."""
        wanted = reratings.NewRerating(
            starts_at=since, customer=customer, prices_at=now, reason="the contract was late"
        )
        row = reratings.request_rerating(tenant_id=self.tenant_id, wanted=wanted, actor=ACTOR, now=now)
        reratings.work(now=now, seconds=600, rerating_id=row.pk)
        reratings.apply_rerating(tenant_id=self.tenant_id, rerating_id=row.pk, actor=ACTOR, now=now)
        reratings.work(now=now, seconds=600, rerating_id=row.pk)
        row.refresh_from_db()
        assert (row.state, row.moved_calls) == (ReratingState.APPLIED, 0), row.failure
        return int(row.changed_calls)
