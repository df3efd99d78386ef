"""From an answered pre-flight to its record in the log of decisions. On the hot path: a few microseconds."""

from __future__ import annotations

from contextlib import suppress
from uuid import UUID

from budgets.domain.authorization import Hold
from budgets.domain.decisions import TAGS_MAX, TOOLS_MAX, Decision, Routed, bounded, fingerprint_of
from budgets.domain.guards import Trip
from budgets.domain.policy import Action, KeyRecord
from budgets.gateway.preflight import reason_of
from budgets.gateway.routing import routed
from budgets.gateway.wire import Preflight, read_object
from budgets.services.decisions import now_us
from budgets.services.holds import Call, Placed, Refused, Standing
from budgets.services.snapshots import Snapshot
from noburn.kit.money import from_usd
from noburn.kit.problems import ProblemError


def record(
    request: Preflight,
    *,
    snapshot: Snapshot,
    key: KeyRecord,
    call: Call | None = None,
    answer: Placed | Refused | None = None,
    reason: str | None = None,
    waited_ms: int = 0,
    trips: tuple[Trip, ...] = (),
    routed: Routed | None = None,
) -> Decision:
    """The record of one decision. `answer` is what the counters said; without one `reason` says why they were not asked,
    and without `call` the model has no price."""
    if call is None:
        who = request.subject
        project, customer, user = who.project or key.project or "default", who.customer, who.user
        run, plan, provider = who.run, who.plan, request.provider
        estimate, cap, price_id = None, None, None
    else:
        to = call.attribution
        project, customer, user = to.project, to.customer, to.user
        run, plan, provider = to.run, to.plan, to.provider
        estimate, cap, price_id = call.bound.cost_nano, call.max_output_tokens, call.price_id
    hold_id, room, shadow = None, None, None
    standing: Standing | None = None
    if type(answer) is Placed:
        standing, shadow = _tightest(answer.standings)
        trips = answer.trips
        estimate, cap = answer.bound.cost_nano, answer.max_output_tokens
        hold_id = answer.hold.body.hold_id if answer.hold is not None else None
    elif type(answer) is Refused:
        standing, room = answer.standing, answer.room
        reason = reason_of(answer)
    place = standing.place if standing is not None else None
    # By position, in the order of the fields: by name it would take three times as long.
    return Decision(
        snapshot.policy.tenant_id,
        now_us(),
        key.key_id,
        snapshot.policy.version,
        reason,
        hold_id,
        project,
        customer or None,
        user or None,
        run or None,
        plan or None,
        bounded(request.tags, TAGS_MAX) if request.tags else None,
        provider or None,
        request.model,
        price_id or None,
        request.input_tokens,
        request.cached_input_tokens,
        request.max_output_tokens,
        cap,
        request.n,
        request.images,
        request.audio,
        bounded(request.tools, TOOLS_MAX) if request.tools else None,
        request.service_tier or None,
        fingerprint_of(request.fingerprint) if request.fingerprint else None,
        estimate,
        from_usd(request.cost_usd, field="cost_usd") if request.cost_usd is not None else None,
        request.fit,
        request.wait_ms,
        waited_ms,
        request.ttl_seconds,
        place.rule.budget_id if place is not None else None,
        place.subject if place is not None else None,
        # A text that is an enumeration's member is written as such, without the detour of `.value`.
        place.rule.metric if place is not None else None,
        standing.limit if standing is not None else None,
        standing.remaining if standing is not None else None,
        room,
        shadow,
        next((trip.rule.guard_id for trip in trips if trip.rule.enforce), None) if trips else None,
        tuple(trip.rule.guard_id for trip in trips if not trip.rule.enforce) or None if trips else None,
        routed,
    )


def drawn(said: object, draw: Hold, lease: Hold) -> Decision:
    """The record of a call that the holder of a lease decided about. `said` is its pre-flight, as far as that was told
    and can be read: the draw is booked whatever it is."""
    body, terms = draw.body, lease.body.lease
    # A draw's tokens are one number, its bound.
    tokens, cap = body.input_tokens, None
    request = Preflight(model=body.model, input_tokens=tokens)
    if isinstance(said, dict):
        with suppress(ProblemError):
            request, _ = read_object({**said, "model": body.model}, Preflight)
            cap = max(0, tokens - request.input_tokens) // request.n
    return Decision(
        tenant_id=body.tenant_id,
        at_us=now_us(),
        api_key=body.key_id,
        policy_version=terms.policy_version if terms is not None else 0,
        hold_id=body.hold_id,
        project=body.project,
        customer=body.customer or None,
        end_user=body.user or None,
        run=body.run or None,
        plan=body.plan or None,
        tags=bounded(body.tags, TAGS_MAX) if body.tags else None,
        provider=body.provider or None,
        model=body.model,
        price_id=body.price_id or None,
        input_tokens=request.input_tokens,
        cached_input_tokens=request.cached_input_tokens,
        cap_asked=request.max_output_tokens,
        cap=cap,
        n=request.n,
        images=request.images,
        audio=request.audio,
        tools=bounded(request.tools, TOOLS_MAX) if request.tools else None,
        service_tier=request.service_tier or None,
        fingerprint=fingerprint_of(request.fingerprint) if request.fingerprint else None,
        estimate_nano=body.cost_nano,
        fit=request.fit,
        ttl_seconds=request.ttl_seconds,
        routed=routed(request, None, asked=body.model, downgraded_by=None),
    )


def _tightest(standings: tuple[Standing, ...]) -> tuple[Standing | None, tuple[UUID, ...] | None]:
    """The blocking budget with the smallest share left, and the warning ones that would have refused."""
    tightest, share, shadow = None, 2.0, None
    for standing in standings:
        if standing.place.rule.action is Action.WARN:
            if not standing.fitted:
                shadow = (*(shadow or ()), standing.place.rule.budget_id)
        elif (left := standing.remaining / standing.limit if standing.limit else 0.0) < share:
            tightest, share = standing, left
    return tightest, shadow
