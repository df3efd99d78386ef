"""POST /v1/preflight: from a request to a decision, and from the decision to its answer."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any

import msgspec

from budgets.domain.charging import Ceiling
from budgets.domain.decisions import fingerprint_of
from budgets.domain.demands import Attribution, Bound
from budgets.domain.guards import Trip
from budgets.domain.policy import Action, KeyRecord, LearnedRule, Metric, Scope
from budgets.domain.pricing import PricingError, bound_nano, fits_output_tokens
from budgets.domain.pricing_alternatives import alternatives
from budgets.domain.pricing_book import AmbiguousProvider, Model, PriceBook, UnknownModel
from budgets.domain.pricing_overrides import TenantPrices
from budgets.domain.pricing_rates import BadUsage, CostTooLarge, Rates, UnpricedUnit
from budgets.domain.runs import CAP_NAMES
from budgets.gateway.wire import TAGS_MAX, Preflight
from budgets.services.holds import Call, Placed, Refused, Standing
from budgets.services.snapshots import Snapshot
from noburn.kit import ids
from noburn.kit.clock import wire_time
from noburn.kit.money import LIMIT_NANO_MAX, BadAmount, from_usd, to_usd
from noburn.kit.problems import FieldError, ProblemError, problem

ALTERNATIVES_MAX = 3

WALLET_REMEDY = (
    "this customer's prepaid credit is used up: top its wallet up, or let it be topped up automatically"
)


class Priced(msgspec.Struct, frozen=True):
    """A request with its price: `rates` None means that the caller's own estimate counts."""

    request: Preflight
    rates: Rates | None
    provider: str
    max_output_tokens: int
    learned: LearnedRule | None = None
    ceiling: Ceiling | None = None

    def bound(self, max_output_tokens: int) -> Bound:
        """The most that the call can use with this output cap, and what it likely uses. Raises PricingError."""
        bound = self._most(max_output_tokens)
        if self.ceiling is not None:
            bound = msgspec.structs.replace(
                bound, charge_nano=self._charge(self.ceiling, bound, max_output_tokens)
            )
        if self.learned is None or self.rates is None or self.request.cost_usd is not None:
            return bound
        request = self.request
        input_tokens, output_tokens = self.learned.tokens(
            input_tokens=request.input_tokens, max_output_tokens=max_output_tokens
        )
        counts = {**self._counts(), "input_tokens": input_tokens}
        if request.cached_input_tokens is not None:
            counts["cached_input_tokens"] = min(request.cached_input_tokens, input_tokens)
        cost_nano = bound_nano(self.rates, max_output_tokens=output_tokens, **counts)
        likely = Bound(
            min(bound.cost_nano, cost_nano), min(bound.tokens, input_tokens + request.n * output_tokens)
        )
        return msgspec.structs.replace(bound, likely=likely)

    def _charge(self, ceiling: Ceiling, bound: Bound, max_output_tokens: int) -> int:
        request = self.request
        return ceiling.charge_nano(
            cost_nano=bound.cost_nano,
            input_tokens=request.input_tokens,
            output_tokens=request.n * max_output_tokens,
            images=request.images,
            tool_calls=sum(request.tools.values()),
        )

    def _most(self, max_output_tokens: int) -> Bound:
        request = self.request
        tokens = request.input_tokens + request.n * max_output_tokens
        if self.rates is None:
            return Bound(from_usd(request.cost_usd or "", field="cost_usd"), tokens)
        if request.cost_usd is not None:
            own = from_usd(request.cost_usd, field="cost_usd")
            return Bound(max(own, self._book_bound(self.rates, max_output_tokens)), tokens)
        return Bound(self._book_bound(self.rates, max_output_tokens), tokens)

    def _book_bound(self, rates: Rates, max_output_tokens: int) -> int:
        return bound_nano(rates, max_output_tokens=max_output_tokens, **self._counts())

    def _counts(self) -> dict[str, Any]:
        request = self.request
        return {
            "input_tokens": request.input_tokens,
            "n": request.n,
            "cached_input_tokens": request.cached_input_tokens,
            "text_only": not (request.images or request.audio),
            "images": request.images,
            "tool_calls": request.tools,
            "service_tier": request.service_tier,
        }

    def fitting(self, metric: Metric, room: int) -> tuple[int, Bound] | None:
        """The largest output cap, below the one asked for, whose bound is within `room`; None if none is."""
        request = self.request
        if metric is Metric.USD:
            if self.rates is None:
                return None
            cap = fits_output_tokens(self.rates, available_nano=max(0, room), **self._counts())
        elif metric is Metric.TOKENS:
            cap = (room - request.input_tokens) // request.n
        elif metric is Metric.CHARGE:
            cap = self._fits_charge(room)
        else:
            return None
        cap = min(cap, self.max_output_tokens)
        return (cap, self.bound(cap)) if cap >= 1 else None

    def _fits_charge(self, room: int) -> int:
        """The largest output cap whose charge is within `room`: it rises with the cap, so halving finds it."""
        low, high = 0, self.max_output_tokens
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if self.bound(middle).charge_nano <= room else (low, middle - 1)
        return low


def price(request: Preflight, *, snapshot: Snapshot, book: PriceBook, now: datetime) -> Priced | None:
    """Finds the price of a request; None if the tenant refuses calls without one. Raises ProblemError."""
    priced = _price(request, snapshot=snapshot, book=book, now=now)
    customer = request.subject.customer
    if snapshot.ceilings is None or priced is None or not customer:
        return priced
    ceiling = snapshot.ceilings.of(customer, priced.provider, request.model)
    return msgspec.structs.replace(priced, ceiling=ceiling)


def _price(request: Preflight, *, snapshot: Snapshot, book: PriceBook, now: datetime) -> Priced | None:
    policy = snapshot.policy
    cap = request.max_output_tokens or policy.default_max_output_tokens
    if snapshot.prices is None:
        found = book.resolve(request.provider, request.model, now)
    else:
        found = snapshot.prices.resolve(book, request.provider, request.model, now)
    if isinstance(found, Rates):
        learned = snapshot.learned.get((found.provider, request.model)) if snapshot.learned else None
        return Priced(request, found, found.provider, cap, learned)
    if request.cost_usd is not None:
        return Priced(request, None, request.provider or "", cap)
    if isinstance(found, AmbiguousProvider):
        names = ", ".join(found.providers[:8])
        error = FieldError("provider", f"is needed: {request.model} is sold by {names}")
        raise ProblemError(
            problem("unknown-model", detail="More than one provider sells this model.", errors=[error])
        )
    if policy.unknown_model == "dearest":
        dearest = book.dearest(request.provider, request.model, now)
        if isinstance(dearest, Rates):
            return Priced(request, dearest, dearest.provider, cap)
    return None


def call_of(
    priced: Priced, *, body: bytes, idempotency_key: str, snapshot: Snapshot, key: KeyRecord
) -> tuple[Call, list[str]]:
    """The call to decide about, and warnings. Raises ProblemError for what a type cannot say."""
    request = priced.request
    errors: list[FieldError] = []
    if len(request.tags) > TAGS_MAX:
        errors.append(FieldError("tags", f"at most {TAGS_MAX} tags, not {len(request.tags)}"))
    who = request.subject
    project = who.project or key.project or "default"
    if project not in snapshot.projects:
        errors.append(FieldError("subject.project", f"no project {project!r}; create it first"))
    elif key.project and project != key.project:
        errors.append(FieldError("subject.project", f"this key belongs to project {key.project!r}"))
    try:
        bound = priced.bound(priced.max_output_tokens)
        if bound.cost_nano > LIMIT_NANO_MAX:
            errors.append(FieldError("cost_usd", "at most 9000000"))
    except BadUsage as error:
        errors += [FieldError(name, message) for name, message in error.errors.items()]
    except BadAmount as error:
        errors.append(FieldError("cost_usd", str(error)))
    except UnpricedUnit as error:
        errors.append(FieldError("model", str(error)))
    except (CostTooLarge, PricingError) as error:
        errors.append(FieldError("input_tokens", str(error)))
    if errors:
        raise ProblemError(problem("invalid-request", detail="Some fields are not valid.", errors=errors))
    attribution = Attribution(
        project=project,
        customer=who.customer or "",
        user=who.user or "",
        run=who.run or "",
        plan=who.plan or "",
        api_key=snapshot.key_ids[key.key_id],
        provider=priced.provider,
        model=request.model,
        tags=request.tags,
    )
    warnings = []
    if request.max_output_tokens is None:
        warnings.append(
            f"no max_output_tokens: {priced.max_output_tokens} is assumed; send it to the provider, or the bound is none"
        )
    call = Call(
        idempotency_key=idempotency_key,
        request_digest=hashlib.blake2b(body, digest_size=16).hexdigest(),
        key_id=key.key_id,
        attribution=attribution,
        price_id=priced.rates.name if priced.rates else "",
        input_tokens=request.input_tokens,
        max_output_tokens=priced.max_output_tokens,
        n=request.n,
        bound=bound,
        ttl_ms=request.ttl_seconds * 1000,
        dry_run=request.dry_run,
        wait_ms=request.wait_ms,
        fit=priced.fitting if request.fit else None,
        ceiling=priced.ceiling,
        fingerprint=fingerprint_of(request.fingerprint) if request.fingerprint else "",
    )
    return call, warnings


# A budget's limit is the same in answer after answer.
_limit_usd = lru_cache(maxsize=4096)(to_usd)


def budget_fields(standing: Standing) -> dict[str, Any]:
    """One budget's state as the wire shows it: amounts of USD as decimal strings, tokens and requests as numbers."""
    place, remaining = standing.place, max(0, standing.remaining)
    metric = place.rule.metric
    if metric is Metric.CHARGE:
        return {
            **place.shown,
            "limit_usd": to_usd(max(0, standing.limit)),
            "remaining_usd": to_usd(remaining),
        }
    if metric is Metric.USD:
        return {**place.shown, "limit_usd": _limit_usd(standing.limit), "remaining_usd": to_usd(remaining)}
    return {**place.shown, f"limit_{metric.value}": standing.limit, f"remaining_{metric.value}": remaining}


def allow_answer(placed: Placed, *, model: str, warnings: list[str]) -> dict[str, Any]:
    """The answer for a call that may fire."""
    shadow = [
        f"budget {ids.encode('bud', s.place.rule.budget_id)} ({s.place.rule.scope.value}) would have refused this call"
        for s in placed.standings
        if s.place.rule.action is Action.WARN and not s.fitted
    ]
    shadow += [observed(trip) for trip in placed.trips]
    answer: dict[str, Any] = {"decision": "allow"}
    if placed.hold is not None:
        answer["authorization"] = placed.authorization
        answer["hold"] = {
            "id": ids.encode("hold", placed.hold.body.hold_id),
            "amount_usd": to_usd(placed.bound.cost_nano),
            "expires_at": wire_time(placed.hold.expires_ms),
        }
    else:
        answer["estimate_usd"] = to_usd(placed.bound.cost_nano)
    answer["model"] = model
    answer["max_output_tokens"] = placed.max_output_tokens
    answer["budgets"] = [budget_fields(s) for s in placed.standings]
    answer["warnings"] = warnings + shadow
    return answer


def deny_answer(
    refused: Refused,
    priced: Priced,
    *,
    book: PriceBook,
    now: datetime,
    warnings: list[str],
    prices: TenantPrices | None = None,
) -> dict[str, Any]:
    """The answer for a call that does not fit: which budget, what would fit, and cheaper models that would."""
    metric, room = refused.standing.place.rule.metric, refused.room
    request = priced.request
    smaller = priced.fitting(metric, room)
    answer: dict[str, Any] = {
        "decision": "deny",
        "reason": reason_of(refused),
        "estimate_usd": to_usd(priced.bound(priced.max_output_tokens).cost_nano),
        "fits_max_output_tokens": smaller[0] if smaller else 0,
        "budget": budget_fields(
            msgspec.structs.replace(
                refused.standing, remaining=room if not refused.busy else refused.standing.remaining
            )
        ),
        "alternatives": [],
        "warnings": warnings,
    }
    if refused.standing.place.rule.scope is Scope.WALLET and not refused.busy:
        answer["remedy"] = WALLET_REMEDY
    if (plan := refused.standing.place.rule.plan) is not None:
        answer["plan"], answer["upgrade_suggested"] = plan, refused.standing.place.rule.upgrade_to
    if refused.standing.place.rule.scope is Scope.RUN_CAP:
        answer["run"] = {"id": refused.standing.place.subject, "cap": CAP_NAMES[metric]}
    if refused.busy:
        answer["retry_after_ms"] = refused.retry_after_ms
    elif metric is Metric.USD and room > 0 and priced.rates is not None:
        cheaper = alternatives(
            book,
            priced.provider,
            at=now,
            input_tokens=request.input_tokens,
            max_output_tokens=priced.max_output_tokens,
            at_most_nano=room,
            n=request.n,
            limit=ALTERNATIVES_MAX,
            rates_of=Model.rates if prices is None else prices.rates_of,
        )
        answer["alternatives"] = [{"model": a.model, "estimate_usd": to_usd(a.bound_nano)} for a in cheaper]
    return answer


def reason_of(refused: Refused) -> str:
    """Why counters refused a call, as on the wire."""
    if refused.busy:
        return "budget_busy"
    if refused.standing.place.rule.plan is not None:
        return "quota_exceeded"
    return "run_limit" if refused.standing.place.rule.scope is Scope.RUN_CAP else "budget_exceeded"


def observed(trip: Trip) -> str:
    """The warning of a guard that observes and would have stopped the call."""
    return f"guard {ids.encode(ids.GUARD, trip.rule.guard_id)} ({trip.rule.kind.value}) would have stopped this call"


def refusal(reason: str, detail: str, extra: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """A refusal that no budget caused."""
    return {"decision": "deny", "reason": reason, "detail": detail, **(extra or {})}


def unpriced(request: Preflight, book: PriceBook, now: datetime) -> dict[str, Any]:
    """The refusal of a call whose model has no price."""
    found = book.resolve(request.provider, request.model, now)
    kind = found.reason if isinstance(found, UnknownModel) else "model"
    what = f"provider {request.provider!r}" if kind == "provider" else f"model {request.model!r}"
    detail = f"no price for {what}; name a known one, send cost_usd, or let unknown models be priced at the dearest"
    return refusal("price_unknown", detail)
