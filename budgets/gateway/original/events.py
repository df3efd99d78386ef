"""POST /api/v1/events: settles the hold of the check that an event answers, once, however often it is delivered.

The client sends no id. An event is what its body says, to the second; docs/original-client.md has the rules.
"""

from __future__ import annotations

import hashlib
import secrets
from typing import Any, Final

import msgspec

from budgets.domain.demands import Bound, TooManyBudgets
from budgets.domain.open_checks import CERTAINLY_AGAIN_MS, HOLD_MS, SAME_SECOND_MS
from budgets.domain.policy import KeyRecord
from budgets.domain.pricing_rates import PricingError, Usage
from budgets.domain.pricing_settled import settled_cost
from budgets.gateway.original.native import REROUTED, Answer, Native, answered
from budgets.gateway.preflight import call_of, price
from budgets.gateway.request import Request
from budgets.gateway.wire import Preflight, read
from budgets.services.dataplane import CountersUnavailable
from budgets.services.holds import Call, IdempotencyConflict, Placed, Refused, TooManySubjects
from budgets.services.open_checks import RECORDED, Claim, Delivery
from budgets.services.snapshots import Snapshot
from noburn.kit import ids
from noburn.kit.clock import utc_now
from noburn.kit.loose_json import Fields, number, object_of
from noburn.kit.money import from_usd, to_usd
from noburn.kit.problems import ProblemError, problem

TRIES_MAX: Final = 8
"""How many checks an event tries: one may be another's, or settled already, before it is taken."""

LATENCY_MAX: Final = 2_147_483_647


class Told(msgspec.Struct, frozen=True):
    """An event as it was read. `digest` tells it from every other."""

    digest: str
    project_id: str
    model: str
    user: str
    run: str
    tokens_in: int
    tokens_out: int
    told_nano: int
    latency_ms: int | None
    was_blocked: bool

    @property
    def usage(self) -> dict[str, int]:
        """Its tokens, as a settlement has them."""
        return {"input_tokens": self.tokens_in, "output_tokens": self.tokens_out}

    @property
    def has_tokens(self) -> bool:
        """Whether it counts any."""
        return self.tokens_in > 0 or self.tokens_out > 0


class Pricing(msgspec.Struct, frozen=True):
    """What an event cost: by the price book, or as its client says where the book has no price, or it has no tokens."""

    cost_nano: int
    told: bool
    unpriced: bool = False
    """Whether the book has no price for the model as the event names it."""
    provider: str = ""


def told_of(body: bytes) -> Told:
    """Reads an event. Raises ProblemError naming every bad field."""
    raw = object_of(body)
    fields = Fields(raw)
    fields.text("timestamp")
    fields.text("block_reason")
    told = Told(
        # Of what was said, not of how it was spelled: a repetition is the same bytes, and a proxy may write them anew.
        digest=hashlib.blake2b(
            msgspec.json.encode(sorted((name, str(value)) for name, value in raw.items())), digest_size=16
        ).hexdigest(),
        project_id=fields.text("project_id", needed=True),
        model=fields.text("model", needed=True),
        user=fields.text("end_user_id"),
        run=fields.text("run_id"),
        tokens_in=fields.count("tokens_in"),
        tokens_out=fields.count("tokens_out"),
        told_nano=fields.amount("cost_usd"),
        latency_ms=None if raw.get("latency_ms") is None else fields.count("latency_ms", at_most=LATENCY_MAX),
        was_blocked=fields.flag("was_blocked"),
    )
    fields.done()
    return told


class Events:
    """Records events."""

    def __init__(self, native: Native) -> None:
        self._native = native

    async def event(self, request: Request) -> Answer:
        """Records what a call used. A revoked key is good enough where a check was made: what was spent is recorded."""
        native = self._native
        snapshot, key = await native.any_key(request)
        request.check_media()
        told = told_of(request.body)
        snapshot, project = await native.project(told.project_id, snapshot, key)
        if told.was_blocked:
            # Its check placed no hold, and stands in the log of decisions.
            return answered({"status": "blocked", "recorded": False}, 202)
        recording = _Recording(native, request, snapshot, key, told, project)
        return answered(await recording.record(), 202)


class _Recording:
    """One delivery of an event."""

    def __init__(
        self, native: Native, request: Request, snapshot: Snapshot, key: KeyRecord, told: Told, project: str
    ) -> None:
        self._native, self._request, self._told = native, request, told
        self._snapshot, self._key, self._project = snapshot, key, project
        self._tenant_id = snapshot.policy.tenant_id
        # Those of its model come first; a check for which noburn chose another model may be answered by any.
        self._groups = [
            native.group(project=project, user=told.user, run=told.run, model=model)
            for model in (told.model, REROUTED)
        ]
        self._pricing = self._priced()

    async def record(self) -> dict[str, Any]:
        """Settles a check, or records the event without one; a repetition changes nothing."""
        checks, tenant_id, digest = self._native.plane.open_checks, self._tenant_id, self._told.digest
        now_ms = _now_ms()
        known = await checks.arrived(tenant_id, digest, now_ms=now_ms)
        if (again := _under_way(known, now_ms)) and (answer := await self._settle_again(again)):
            return answer
        for group in self._groups:
            if (answer := await self._matched(group, known, now_ms)) is not None:
                return answer
        if not known.is_first:
            # What another delivery did meanwhile counts.
            known = await checks.arrived(tenant_id, digest, now_ms=now_ms)
            for claim in sorted(known.claims, key=lambda each: not each.authorization):
                if answer := await self._settle_again(claim):
                    return answer
        return await self._late(known)

    async def _matched(self, group: str, known: Delivery, now_ms: int) -> dict[str, Any] | None:
        """Settles the best of a group's open checks; None if there is none that it may answer."""
        checks, tenant_id, digest = self._native.plane.open_checks, self._tenant_id, self._told.digest
        found = await checks.candidates(
            tenant_id,
            group,
            cost_nano=self._pricing.cost_nano,
            now_ms=now_ms,
            # Clocks differ: what was just placed by Redis's may lie ahead of ours.
            placed_until_ms=now_ms + HOLD_MS if known.is_first else known.first_ms + SAME_SECOND_MS,
        )
        for check in found[:TRIES_MAX]:
            name = self._name(check.authorization)
            if not await checks.claim(tenant_id, group, digest, check, name=name, now_ms=now_ms):
                continue
            settled = await self._settle_claimed(name, check.authorization)
            if settled is not None and not settled["replayed"]:
                await checks.settled(tenant_id, digest, name, now_ms=now_ms)
                return self._recorded(settled, matched=True)
            # It was settled by another event, whose claim a Redis that lost its newest writes forgot.
            await checks.let_go(tenant_id, digest, name)
        return None

    def _name(self, authorization: str) -> str:
        return ids.encode(ids.HOLD, self._native.plane.keyring.verify(authorization).body.hold_id)

    async def _settle_claimed(self, name: str, authorization: str) -> dict[str, Any] | None:
        try:
            return await self._settle(authorization)
        except BaseException:
            await self._native.plane.open_checks.failed(
                self._tenant_id, self._told.digest, name, authorization
            )
            raise

    async def _settle_again(self, claim: Claim) -> dict[str, Any] | None:
        """Finishes what an earlier delivery of the same event began; None if its hold was settled by another event."""
        if not claim.authorization:
            return self._duplicate()
        checks = self._native.plane.open_checks
        hold = self._native.plane.keyring.verify(claim.authorization)
        for group in self._groups:
            await checks.take(
                self._tenant_id, group, authorization=claim.authorization, placed_ms=hold.placed_ms
            )
        settled = await self._settle_claimed(claim.check, claim.authorization)
        if settled is None:
            await checks.let_go(self._tenant_id, self._told.digest, claim.check)
            return None
        await checks.settled(self._tenant_id, self._told.digest, claim.check, now_ms=_now_ms())
        return self._duplicate() if settled["replayed"] else self._recorded(settled, matched=True)

    async def _late(self, known: Delivery) -> dict[str, Any]:
        """Records an event that answers no check: a hold of nothing, settled at what was used.

        An event has at most one such record: of two deliveries at once both settle the hold that stands first.
        """
        checks, authorization = self._native.plane.open_checks, known.late
        if authorization == RECORDED:
            return self._duplicate()
        if not authorization:
            # What no check let through needs a key that may still ask.
            self._snapshot, self._key = await self._native.live_key(self._request, scope="preflight")
            placed = await self._place()
            authorization = await checks.late(self._tenant_id, self._told.digest, placed)
            if authorization != placed:
                # Nothing was held by it; it must not stay open until it expires.
                await self._native.ask(
                    self._native.void, self._request, {"authorization": placed}, secrets.token_hex(16)
                )
        if authorization == RECORDED:
            return self._duplicate()
        settled = await self._settle(authorization)
        await checks.settled(self._tenant_id, self._told.digest, "", now_ms=_now_ms())
        if settled is None or settled["replayed"]:
            return self._duplicate()
        return self._recorded(settled, matched=False)

    async def _place(self) -> str:
        """Places a hold of nothing on every budget of the call, which never fails for want of room."""
        try:
            return await self._placed(self._call(self._told.user, self._told.run))
        except (TooManySubjects, TooManyBudgets):
            # No counter can be made for this user: what was spent still counts for the project.
            return await self._placed(self._call("", ""))

    def _call(self, user: str, run: str) -> Call:
        told, pricing = self._told, self._pricing
        subject = {"project": self._project, "customer": user, "user": user, "run": run}
        body: dict[str, Any] = {
            "model": told.model,
            "subject": {name: value for name, value in subject.items() if value},
            "max_output_tokens": 1,
        }
        if pricing.provider:
            body["provider"] = pricing.provider
        if pricing.told:
            body["cost_usd"] = to_usd(pricing.cost_nano)
        if told.user and not user:
            body["tags"] = {"end_user_id": told.user}
        wanted, _ = read(msgspec.json.encode(body), Preflight)
        priced = price(wanted, snapshot=self._snapshot, book=self._native.plane.books.book, now=utc_now())
        assert priced is not None, "an event has a price, or a cost"
        call, _ = call_of(
            priced,
            body=told.digest.encode(),
            idempotency_key=f"original-event:{told.digest}:{secrets.token_hex(8)}",
            snapshot=self._snapshot,
            key=self._key,
        )
        return msgspec.structs.replace(
            call,
            input_tokens=0,
            max_output_tokens=0,
            bound=Bound(0, 0, 0),
            ttl_ms=HOLD_MS,
            # What was spent is recorded, whatever became of its run.
            asking=True,
        )

    async def _placed(self, call: Call) -> str:
        plane = self._native.plane
        try:
            placed = await plane.holds.place(self._tenant_id, call, admit=self._admit)
        except IdempotencyConflict as error:
            raise CountersUnavailable(str(error)) from error
        if isinstance(placed, Refused):
            raise CountersUnavailable("a budget refuses a hold of nothing")
        assert isinstance(placed, Placed)
        plane.subjects.seen(self._tenant_id, call.attribution.customer, call.attribution.user)
        return placed.authorization

    def _admit(self, current: Snapshot) -> None:
        """Lets every call be recorded but those of a key that was revoked since: suspended or not, it was made."""
        key = current.keys.get(self._key.digest)
        if key is None or key.revoked_at is not None:
            raise ProblemError(problem("unauthorized", "This API key was revoked."))

    def _priced(self) -> Pricing:
        told = self._told
        rates = self._native.rates(self._snapshot, told.model, now=utc_now())
        if rates is None:
            return Pricing(told.told_nano, told=True, unpriced=True)
        if told.has_tokens or not told.told_nano:
            usage = Usage(input_tokens=told.tokens_in, output_tokens=told.tokens_out)
            try:
                cost, _ = settled_cost(rates, usage, held_nano=0)
                return Pricing(cost, told=False, provider=rates.provider)
            except PricingError:
                # A kind of token that the model has no price for: its client's word stands.
                pass
        return Pricing(told.told_nano, told=True, provider=rates.provider)

    async def _settle(self, authorization: str) -> dict[str, Any] | None:
        """Settles a hold at what was used; None if it is settled at something else already."""
        body: dict[str, Any] = {"authorization": authorization, "usage": self._told.usage}
        if self._told.latency_ms is not None:
            body["latency_ms"] = self._told.latency_ms
        native = self._native
        # A check that named the provider has a price where the event, which does not, has none.
        priced = native.plane.keyring.verify(authorization).body.price_id and self._told.has_tokens
        if self._pricing.told and not (priced and self._pricing.unpriced):
            body["cost_usd"] = to_usd(self._pricing.cost_nano)
        try:
            return await native.ask(native.settle, self._request, body, secrets.token_hex(16))
        except ProblemError as error:
            if error.problem.type_slug != "settle-conflict":
                raise
            return None

    def _recorded(self, settled: dict[str, Any], *, matched: bool) -> dict[str, Any]:
        cost = number(from_usd(settled["cost_usd"], field="cost_usd"))
        return {"status": "recorded", "recorded": True, "matched": matched, "cost_usd": cost}

    def _duplicate(self) -> dict[str, Any]:
        return {"status": "duplicate", "recorded": False}


def _under_way(known: Delivery, now_ms: int) -> Claim | None:
    """The check that an earlier delivery took so long ago, without settling it, that this one is its repetition."""
    for claim in known.claims:
        if claim.authorization and now_ms - claim.at_ms >= CERTAINLY_AGAIN_MS:
            return claim
    return None


def _now_ms() -> int:
    return int(utc_now().timestamp() * 1000)
