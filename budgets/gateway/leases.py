"""POST /v1/leases, /v1/leases/{id}/report and …/close: from requests to the escrow's leases, and to their answers."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec

from budgets.domain import leases as rules
from budgets.domain.authorization import NOT_OURS, Hold, InvalidAuthorization
from budgets.domain.demands import Attribution, Bound
from budgets.domain.leases import REPORT_SECONDS, Recall
from budgets.domain.policy import KeyRecord, Metric
from budgets.domain.pricing_list import model_prices
from budgets.gateway.admission import Refusal, admit
from budgets.gateway.decisions import drawn as record
from budgets.gateway.lease_wire import Draw, LeaseAsk, LeaseClose, LeaseReport
from budgets.gateway.preflight import budget_fields, call_of, price, refusal
from budgets.gateway.settle import Settlements, report_of
from budgets.gateway.wire import Preflight, Settle, ignored, read, read_object
from budgets.services.dataplane import DataPlane
from budgets.services.holds import Placed, Refused
from budgets.services.leases import Drawn, NotLeasable, draw_seconds
from budgets.services.resolutions import Report
from budgets.services.snapshots import Snapshot
from noburn.kit import ids
from noburn.kit.clock import wire_time
from noburn.kit.money import BadAmount, from_usd, to_usd
from noburn.kit.problems import FieldError, ProblemError, problem, to_bytes


def _nano(value: str, field: str) -> int:
    try:
        return from_usd(value, field=field)
    except BadAmount as error:
        raise ProblemError(
            problem("invalid-request", detail=str(error), errors=[FieldError(field, str(error))])
        ) from error


class LeaseEndpoint:
    """Opens leases, takes reports, and closes them."""

    def __init__(self, plane: DataPlane, settlements: Settlements) -> None:
        self._plane, self._settlements = plane, settlements

    async def open(
        self, body: bytes, idempotency_key: str, snapshot: Snapshot, key: KeyRecord
    ) -> dict[str, Any]:
        """A lease, or why the next call is to be asked about by itself. Raises ProblemError, Repriced."""
        wanted, unknown = read(body, LeaseAsk)
        now, book = datetime.now(UTC), self._plane.books.book
        least = Bound(_nano(wanted.least_usd, "least_usd"), wanted.least_tokens)
        _nano(wanted.amount_usd, "amount_usd")
        asked = Preflight(
            model=wanted.model,
            provider=wanted.provider,
            subject=wanted.subject,
            tags=wanted.tags,
            ttl_seconds=wanted.ttl_seconds,
            cost_usd=wanted.amount_usd,
            max_output_tokens=1,
        )
        snapshot = await self._plane.snapshots.newest(snapshot.policy.tenant_id) or snapshot
        priced = price(asked, snapshot=snapshot, book=book, now=now)
        if priced is None or priced.rates is None:
            return refusal(
                "not_leasable", "no price is known: only a call with an estimate of its own can be made"
            )
        call, _ = call_of(priced, body=body, idempotency_key=idempotency_key, snapshot=snapshot, key=key)
        call = msgspec.structs.replace(
            call,
            input_tokens=0,
            max_output_tokens=0,
            n=0,
            bound=Bound(_nano(wanted.amount_usd, "amount_usd"), wanted.tokens, wanted.requests),
            lease=True,
            ceiling=None,
        )
        customer = call.attribution.customer
        try:
            answer = await self._plane.leases.open(
                snapshot,
                call,
                least=least,
                admit=lambda current: admit(current, key, customer, snapshot, now),
            )
        except NotLeasable as error:
            return refusal("not_leasable", f"{error}: ask about each call")
        except Refusal as stop:
            return refusal(stop.reason, str(stop))
        if isinstance(answer, Refused):
            return refusal("budget_busy" if answer.busy else "budget_exceeded", "nothing is left for a lease")
        self._plane.subjects.seen(snapshot.policy.tenant_id, customer, call.attribution.user)
        prices = model_prices(book, priced.provider, wanted.model, now=now, prices=snapshot.prices)
        return self._opened(answer, snapshot, priced.provider, prices, ignored(unknown))

    def _opened(
        self,
        placed: Placed,
        snapshot: Snapshot,
        provider: str,
        prices: list[dict[str, Any]],
        warnings: list[str],
    ) -> dict[str, Any]:
        hold = placed.hold
        assert hold is not None
        amounts: dict[str, list[int]] = {}
        for counter in hold.body.counters:
            amounts.setdefault(counter.metric, []).append(counter.amount)
        tokens, requests = amounts.get(Metric.TOKENS), amounts.get(Metric.REQUESTS)
        return {
            "decision": "allow",
            "authorization": placed.authorization,
            "lease": {
                "id": ids.encode(ids.HOLD, hold.body.hold_id),
                "amount_usd": to_usd(hold.body.cost_nano),
                # What no budget counts is no bound.
                "tokens": min(tokens) if tokens else None,
                "requests": min(requests) if requests else None,
                "draw_seconds": draw_seconds(hold),
                "report_seconds": REPORT_SECONDS,
                "settle_until": wire_time(hold.expires_ms),
            },
            "provider": provider,
            "model": hold.body.model,
            "max_output_tokens": snapshot.policy.default_max_output_tokens,
            "prices": prices,
            "guards": {},
            "budgets": [budget_fields(s) for s in placed.standings],
            "warnings": warnings,
        }

    def _log(self, drawn: Drawn | None, said: object, draw: Hold, lease: Hold) -> None:
        """Notes a draw that was new: it is the decision. A lease is none, and a call refused one is asked about."""
        if drawn is None or drawn.outcome in ("replayed", "conflict") or drawn.revision > 1:
            return
        with self._plane.decisions.missing(lease.body.tenant_id):
            self._plane.decisions.note(record(said, draw, lease))

    async def report(
        self, body: bytes, tenant_id: UUID, lease_id: str, request_id: str, *, close: bool
    ) -> dict[str, Any]:
        """Books draws; closes the lease where `close`, if the total is right. Raises ProblemError, StorageUnavailable."""
        said: LeaseReport | LeaseClose
        said, unknown = read(body, LeaseClose) if close else read(body, LeaseReport)
        lease = self._lease(said.authorization, tenant_id, lease_id)
        now, total = datetime.now(UTC), said.total if isinstance(said, LeaseClose) else None
        results: list[dict[str, Any]] = []
        draws: list[tuple[Hold, Report]] = []
        places: list[int] = []
        seen: set[int] = set()
        for at, raw in enumerate(said.draws):
            try:
                draw, _ = read_object(raw, Draw)
                if draw.seq in seen:
                    raise _bad("seq", f"{draw.seq} comes twice in one report")
                drawn = await self._drawn(draw, lease, said.nonce)
            except ProblemError as error:
                results.append(self._failed(error, request_id))
                continue
            seen.add(draw.seq)
            draws.append(drawn)
            places.append(at)
            results.append({"seq": draw.seq})
        # A draw that cannot be read is not booked, so the total is not reached, and nothing is released.
        booked = await self._plane.leases.book(lease, draws, total=total)
        for at, (hold, _), told in zip(places, draws, booked.draws, strict=True):
            results[at] |= self._told(told, request_id)
            self._log(told, said.draws[at].get("call"), hold, lease)
        recall = None if booked.closed else await self._recall(lease, now)
        return {
            "results": results,
            "draws": booked.total,
            "closed": booked.closed,
            "recall": recall,
            "warnings": ignored(unknown),
        }

    def _lease(self, token: str, tenant_id: UUID, lease_id: str) -> Hold:
        try:
            hold = self._plane.keyring.verify(token)
        except InvalidAuthorization as error:
            raise ProblemError(problem("invalid-authorization", detail=f"authorization: {error}.")) from error
        if hold.body.tenant_id != tenant_id or hold.body.lease is None:
            raise ProblemError(problem("invalid-authorization", detail=f"authorization: {NOT_OURS}."))
        if lease_id != ids.encode(ids.HOLD, hold.body.hold_id):
            raise ProblemError(problem("not-found", detail="The authorization is not of this lease."))
        return hold

    async def _drawn(self, draw: Draw, lease: Hold, nonce: str) -> tuple[Hold, Report]:
        bound = Bound(_nano(draw.bound_usd, "bound_usd"), draw.bound_tokens)
        hold = rules.draw_of(
            lease, nonce=nonce, sequence=draw.seq, bound=bound, input_tokens=draw.bound_tokens, cap=0
        )
        said = Settle(
            authorization="-",
            usage=draw.usage,
            model=draw.model,
            outcome=draw.outcome,
            latency_ms=draw.latency_ms,
            cost_usd=draw.cost_usd,
        )
        prices = await self._settlements.prices_of(hold)
        report, _ = report_of(said, hold, self._plane.books.book, prices)
        return hold, report

    def _told(self, drawn: Drawn | None, request_id: str) -> dict[str, Any]:
        if drawn is None:
            again = problem("storage-unavailable", detail="The ledger refuses this draw; it was logged.")
            return self._failed(ProblemError(again), request_id)
        if drawn.outcome == "conflict":
            other = problem(
                "settle-conflict", detail=f"This draw is {drawn.state} already, with other contents."
            )
            return self._failed(ProblemError(other), request_id)
        return {
            "status": 200,
            "state": drawn.state,
            "cost_usd": to_usd(drawn.cost_nano),
            "replayed": drawn.outcome == "replayed",
            "late": drawn.revision > 1,
        }

    def _failed(self, error: ProblemError, request_id: str) -> dict[str, Any]:
        told = to_bytes(error.problem, request_id, base_url=self._settlements.base_url)
        return {"status": error.problem.status, "problem": msgspec.Raw(told)}

    async def _recall(self, lease: Hold, now: datetime) -> Recall | None:
        body = lease.body
        who = Attribution(
            project=body.project,
            customer=body.customer,
            user=body.user,
            run=body.run,
            plan=body.plan,
            api_key=ids.encode(ids.API_KEY, body.key_id),
            provider=body.provider,
            model=body.model,
            tags=body.tags,
        )
        return await self._plane.leases.recall(
            lease, who, admits=lambda current: _stop(current, lease, now), now=now
        )


def _stop(current: Snapshot, lease: Hold, now: datetime) -> Recall | None:
    """What an edit since has against the lease."""
    key = next((k for k in current.policy.keys if k.key_id == lease.body.key_id), None)
    if key is None:
        return Recall.REVOKED
    try:
        admit(current, key, lease.body.customer, current, now)
    except ProblemError:
        return Recall.REVOKED
    except Refusal as stop:
        return Recall.PLAN_LIMIT if stop.reason == "plan_limit" else Recall.SUSPENDED
    return None


def _bad(field: str, message: str) -> ProblemError:
    return ProblemError(problem("invalid-request", detail=message, errors=[FieldError(field, message)]))
