"""What the log keeps of one decision: everything that a simulation, a comparison or a page needs, and no content.

A record is turned into bytes where the decision is made, since that costs a microsecond, needs a tenth of the memory of
the objects it came from, and leaves nothing to do later that could hold up other decisions.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from itertools import islice
from typing import Any, Final
from uuid import UUID

import msgspec

TAGS_MAX: Final = 10
TOOLS_MAX: Final = 20
FINGERPRINT_BYTES: Final = 16

REASONS: Final = (
    "budget_exceeded",
    "budget_busy",
    "quota_exceeded",
    "call_too_large",
    "model_not_allowed",
    "price_unknown",
    "run_stopped",
    "run_limit",
    "loop_detected",
    "velocity",
    "customer_suspended",
    "plan_limit",
    "policy_blocked",
)
"""Why a call can be refused, as on the wire."""


class Routed(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """How a call came to its model, and what policies may look at that nothing else of the record says.

    `asked`: the model of the request, where another one was decided about. `policy` and `rule` decided, or `budget`
    downgraded. `used_ppm`: the used share of the tightest budget, where a rule asked for it.
    """

    asked: str | None = None
    policy: UUID | None = None
    rule: str | None = None
    budget: UUID | None = None
    task: str | None = None
    output: str | None = None
    steps: int | None = None
    used_ppm: int | None = None


class Decision(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """One decision. What is not told is left out: most fields are, most of the time.

    `at_us` is monotonic time of the deciding process, in microseconds. `reason` None: allowed. `cap` is the output cap
    that was granted or refused, `cap_asked` the one in the request. `own_nano` is the caller's own estimate. The budget
    is the one that refused, or, of an allowed call, the one with the smallest share left; `limit_amount`, `remaining`
    and `room` (what would fit beside what is spent) are in its metric's unit. `shadow` names the `warn` budgets that
    would have refused. `guard_id` is the guard that stopped the call, `guards_observed` those that would have.
    Texts that were empty are None.
    """

    tenant_id: UUID
    at_us: int
    api_key: UUID
    policy_version: int
    reason: str | None = None
    hold_id: UUID | None = None
    project: str | None = None
    customer: str | None = None
    end_user: str | None = None
    run: str | None = None
    plan: str | None = None
    tags: Mapping[str, str] | None = None
    provider: str | None = None
    model: str | None = None
    price_id: str | None = None
    input_tokens: int = 0
    cached_input_tokens: int | None = None
    cap_asked: int | None = None
    cap: int | None = None
    n: int = 1
    images: int = 0
    audio: bool = False
    tools: Mapping[str, int] | None = None
    service_tier: str | None = None
    fingerprint: str | None = None
    estimate_nano: int | None = None
    own_nano: int | None = None
    fit: bool = False
    wait_ms: int = 0
    waited_ms: int = 0
    ttl_seconds: int = 0
    budget_id: UUID | None = None
    subject: str | None = None
    metric: str | None = None
    limit_amount: int | None = None
    remaining: int | None = None
    room: int | None = None
    shadow: tuple[UUID, ...] | None = None
    guard_id: UUID | None = None
    guards_observed: tuple[UUID, ...] | None = None
    routed: Routed | None = None


class Whose(msgspec.Struct, frozen=True):
    """The part of a record that says whose it is, and when it was decided."""

    tenant_id: UUID
    at_us: int


encode = msgspec.json.Encoder().encode
whose = msgspec.json.Decoder(Whose).decode


def fingerprint_of(text: str) -> str:
    """What is kept of a request's fingerprint: a digest, whatever a client took for a fingerprint."""
    return hashlib.blake2b(text.encode(), digest_size=FINGERPRINT_BYTES).hexdigest()


def bounded(values: Mapping[str, Any], most: int) -> Mapping[str, Any]:
    """The first `most` of the values."""
    return values if len(values) <= most else dict(islice(values.items(), most))
