"""What the policy alone decides about a call, and whether an edit has overtaken it."""

from __future__ import annotations

from datetime import datetime

from budgets.domain.policy import KeyRecord
from budgets.gateway.wire import Preflight
from budgets.services.snapshots import Snapshot
from noburn.kit.problems import ProblemError, problem


class Refusal(Exception):
    """A refusal that the policy decides before any budget; `reason` as on the wire."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


class Repriced(Exception):
    """The tenant's own prices or policies changed since a call was priced; `snapshot` has the newer ones."""

    def __init__(self, snapshot: Snapshot) -> None:
        super().__init__("the tenant's prices or policies changed")
        self.snapshot = snapshot


def stands_in_the_way(snapshot: Snapshot, wanted: Preflight, key: KeyRecord) -> bool:
    """Whether the policy stands in the way of a call, so that it is worth asking whether it changed."""
    who, policy = wanted.subject, snapshot.policy
    project = who.project or key.project or "default"
    return (
        policy.suspended
        or policy.refused_until is not None
        or project not in snapshot.projects
        or (who.customer in policy.suspended_customers)
    )


def admit(current: Snapshot, key: KeyRecord, customer: str, priced_under: Snapshot, now: datetime) -> None:
    """Checks what an edit may have changed since the request came in: the script fences the version it was read under."""
    if current is not priced_under and (
        current.policy.price_overrides != priced_under.policy.price_overrides
        or current.policy.routing != priced_under.policy.routing
    ):
        raise Repriced(current)
    record = current.keys.get(key.digest)
    if record is None or record.revoked_at is not None:
        raise ProblemError(problem("unauthorized", detail="This API key was revoked."))
    if current.policy.suspended:
        raise Refusal("customer_suspended", "this tenant is suspended")
    if customer and customer in current.policy.suspended_customers:
        raise Refusal("customer_suspended", f"customer {customer!r} is suspended")
    until = current.policy.refused_until
    if until is not None and now < until:
        raise Refusal(
            "plan_limit", f"the requests of noburn's own plan are used up until {until.isoformat()}"
        )
