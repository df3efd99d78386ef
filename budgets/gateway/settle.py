"""POST /v1/settle, /v1/settle/batch, /v1/void: what became of a call, told by its authorization."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec

from budgets.domain.authorization import NOT_OURS, Hold, InvalidAuthorization, Keyring
from budgets.domain.pricing import PricingError, check_usage
from budgets.domain.pricing_book import PriceBook
from budgets.domain.pricing_overrides import TenantPrices, override_of
from budgets.domain.pricing_rates import BadUsage, Rates, Usage
from budgets.domain.pricing_settled import CostOrigin, settled_cost, settled_rates
from budgets.gateway.wire import Settle, SettleBatch, Void, ignored, read, read_object
from budgets.services.dataplane import StorageUnavailable
from budgets.services.resolutions import (
    Outcome,
    Overloaded,
    Report,
    Resolutions,
    SettleConflict,
    presumption,
    void,
)
from budgets.services.snapshots import Snapshots
from noburn.kit import ids
from noburn.kit.money import BadAmount, from_usd, to_usd
from noburn.kit.problems import FieldError, Problem, ProblemError, problem, to_bytes

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Settlements:
    """Translates settlements into reports, and outcomes into answers."""

    keyring: Keyring
    resolutions: Resolutions
    snapshots: Snapshots
    base_url: str = ""

    def hold(self, token: str, tenant_id: UUID) -> Hold:
        """The hold of an authorization. Another tenant's is as invalid as a forged one. Raises ProblemError."""
        try:
            hold = self.keyring.verify(token)
        except InvalidAuthorization as error:
            raise ProblemError(problem("invalid-authorization", detail=f"authorization: {error}.")) from error
        if hold.body.lease is not None:
            raise ProblemError(
                problem("invalid-authorization", detail="authorization: of a lease; its draws are reported.")
            )
        if hold.body.tenant_id != tenant_id:
            raise ProblemError(
                problem(
                    "invalid-authorization",
                    detail=f"authorization: {NOT_OURS}.",
                )
            )
        return hold

    async def settle(self, body: bytes, tenant_id: UUID, book: PriceBook) -> dict[str, Any]:
        """Settles one call."""
        return await self._settle(*read(body, Settle), tenant_id, book)

    async def _settle(
        self, request: Settle, unknown: tuple[str, ...], tenant_id: UUID, book: PriceBook
    ) -> dict[str, Any]:
        hold = self.hold(request.authorization, tenant_id)
        report, warnings = report_of(request, hold, book, await self.prices_of(hold))
        return answer(await self._resolve(hold, report), warnings + ignored(unknown))

    async def prices_of(self, hold: Hold) -> TenantPrices | None:
        """The tenant's own prices, with the one that a hold names. Raises StorageUnavailable."""
        tenant_id, named = hold.body.tenant_id, override_of(hold.body.price_id)
        snapshot = self.snapshots.get(tenant_id)
        prices = snapshot.prices if snapshot is not None else None
        if named and (prices is None or not prices.knows(named)):
            # Placed by a gateway that knows a newer policy than this one.
            await self.snapshots.refresh(tenant_id, seen=-1)
            snapshot = self.snapshots.get(tenant_id)
            prices = snapshot.prices if snapshot is not None else None
            if prices is None or not prices.knows(named):
                log.error("hold %s names %s, which its tenant does not have", hold.body.hold_id, named)
        return prices

    async def void(self, body: bytes, tenant_id: UUID) -> dict[str, Any]:
        """Voids a call that never reached the provider."""
        request, unknown = read(body, Void)
        return answer(
            await self._resolve(self.hold(request.authorization, tenant_id), void()), ignored(unknown)
        )

    async def batch(self, body: bytes, tenant_id: UUID, book: PriceBook, request_id: str) -> dict[str, Any]:
        """Settles up to 1,000 calls and answers item by item, in their order."""
        request, unknown = read(body, SettleBatch)

        async def one(raw: Any) -> dict[str, Any]:
            try:
                return {"status": 200, **await self._settle(*read_object(raw, Settle), tenant_id, book)}
            except ProblemError as error:
                return self._failed(error.problem, request_id)
            except (StorageUnavailable, Overloaded) as error:
                # The others of the batch may be recorded: only this one is to be sent again.
                again = problem("storage-unavailable", detail=f"Repeat this one: {error}.")
                return self._failed(again, request_id)

        results = await asyncio.gather(*(one(raw) for raw in request.settlements))
        return {"results": results, "warnings": ignored(unknown)}

    async def _resolve(self, hold: Hold, report: Report) -> Outcome:
        try:
            return await self.resolutions.resolve(hold, report)
        except SettleConflict as error:
            raise ProblemError(
                problem(
                    "settle-conflict",
                    detail=f"Hold {ids.encode('hold', hold.body.hold_id)} is {error.state} already, with other contents.",
                )
            ) from error

    def _failed(self, of: Problem, request_id: str) -> dict[str, Any]:
        told = to_bytes(of, request_id, base_url=self.base_url)
        return {"status": of.status, "problem": msgspec.Raw(told)}


def report_of(
    request: Settle, hold: Hold, book: PriceBook, prices: TenantPrices | None = None
) -> tuple[Report, list[str]]:
    """What a settlement says, priced at the time when its hold was placed. Raises ProblemError for bad counts."""
    if request.cost_usd is None:
        if request.usage is msgspec.UNSET:
            raise _bad("usage", "is missing; send null if nothing was seen of the call")
        if request.usage is None:
            return presumption(hold, flags=("unseen",), outcome=request.outcome), []
    seen = isinstance(request.usage, Usage)
    usage = request.usage if isinstance(request.usage, Usage) else Usage()
    body = hold.body
    warnings: list[str] = []
    at = datetime.fromtimestamp(hold.placed_ms / 1000, UTC)
    try:
        check_usage(usage)
        if request.cost_usd is not None:
            cost = from_usd(request.cost_usd, field="cost_usd")
            origin = CostOrigin.TOLD
        elif (rates := _rates(request, hold, book, prices, at)) is not None:
            cost, unpriced = settled_cost(rates, usage, held_nano=body.cost_nano)
            origin = CostOrigin.PRICED
            if unpriced is not None:
                warnings.append(f"{unpriced}: at least the hold was posted")
        else:
            # No price then and none now: the caller's own estimate stands until somebody sends cost_usd.
            cost, warnings = body.cost_nano, ["no price is known: the estimate of the pre-flight was posted"]
            origin = CostOrigin.ESTIMATED
    except BadAmount as error:
        raise _bad("cost_usd", str(error)) from error
    except BadUsage as error:
        raise ProblemError(
            problem(
                "invalid-request",
                detail="Some counts are not valid.",
                errors=[FieldError(f"usage.{name}", message) for name, message in error.errors.items()],
            )
        ) from error
    except PricingError as error:
        raise _bad("usage", str(error)) from error
    report = Report(
        state="settled",
        cost_nano=cost,
        # A cost without counts leaves the tokens unknown: all that were held stand, as for a presumption.
        tokens=(usage.input_tokens + usage.output_tokens) if seen else presumption(hold).tokens,
        requests=1,
        origin=origin,
        usage=usage,
        reported_model=request.model,
        outcome=request.outcome,
        latency_ms=request.latency_ms,
    )
    return report, warnings


def _bad(field: str, message: str) -> ProblemError:
    return ProblemError(problem("invalid-request", detail=message, errors=[FieldError(field, message)]))


def _rates(
    request: Settle, hold: Hold, book: PriceBook, prices: TenantPrices | None, at: datetime
) -> Rates | None:
    body = hold.body
    return settled_rates(
        book,
        prices,
        provider=body.provider,
        asked=body.model,
        reported=request.model,
        price_name=body.price_id,
        at=at,
    )


def answer(outcome: Outcome, warnings: list[str]) -> dict[str, Any]:
    """What is recorded now. `released_usd` and `overrun_usd` compare it with the hold."""
    return {
        "state": outcome.state,
        "cost_usd": to_usd(outcome.cost_nano),
        "released_usd": to_usd(max(0, outcome.held_nano - outcome.cost_nano)),
        "overrun_usd": to_usd(max(0, outcome.cost_nano - outcome.held_nano)),
        "replayed": outcome.replayed,
        "late": outcome.revision > 1,
        "warnings": warnings,
    }
