"""What requests about leases look like; docs/leases.md."""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from budgets.domain.pricing_rates import MAX_COUNT, Usage
from budgets.gateway.wire import TTL_SECONDS_DEFAULT, Amount, Count, Label, Name, Subject, Token

DRAWS_MAX: Final = 500
"""Draws in one report."""

Nonce = Annotated[str, Meta(min_length=8, max_length=64, pattern="^[0-9a-zA-Z_-]+$")]
Sequence = Annotated[int, Meta(ge=0, le=2_147_483_647)]


class LeaseAsk(msgspec.Struct, frozen=True):
    """POST /v1/leases. `amount_usd`, `tokens` and `requests` are wanted; the `least_` ones are the next call's own."""

    model: Name
    amount_usd: Amount
    provider: Name | None = None
    subject: Subject = Subject()
    tags: dict[Annotated[str, Meta(min_length=1, max_length=64)], Label] = {}
    tokens: Count = MAX_COUNT
    requests: Count = 1_000
    least_usd: Amount = "0"
    least_tokens: Count = 1
    ttl_seconds: Annotated[int, Meta(ge=60, le=900)] = TTL_SECONDS_DEFAULT


class Draw(msgspec.Struct, frozen=True):
    """One call that was drawn. `usage` null: nothing was seen of it, so its bound is presumed. `call` is what a
    pre-flight would have said of it, for the log of decisions."""

    seq: Sequence
    bound_usd: Amount
    bound_tokens: Count
    usage: Usage | msgspec.UnsetType | None = msgspec.UNSET
    model: Label = ""
    outcome: Annotated[str, Meta(pattern="^(ok|error|cut)$")] = "ok"
    latency_ms: Annotated[int, Meta(ge=0, le=2_147_483_647)] | None = None
    cost_usd: Amount | None = None
    call: Any = None


class LeaseReport(msgspec.Struct, frozen=True):
    """POST /v1/leases/{id}/report: draws that ended, each with a sequence number of its own in the holder's life."""

    authorization: Token
    nonce: Nonce
    draws: Annotated[list[Any], Meta(max_length=DRAWS_MAX)] = []


class LeaseClose(msgspec.Struct, frozen=True):
    """POST /v1/leases/{id}/close: the last draws, and how many the lease had in all."""

    authorization: Token
    nonce: Nonce
    total: Sequence
    draws: Annotated[list[Any], Meta(max_length=DRAWS_MAX)] = []
