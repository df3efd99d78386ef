"""A runaway loop to look at: the same call again and again, by one made-up customer, through the real gateway.

Nothing goes to a provider. Pre-flights, settlements, ledger entries and refusals are real: they count on the
tenant's own budgets, under a customer whose name says what it is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID, uuid4

import httpx
from django.conf import settings
from django.db import transaction

from budgets.models import Budget
from budgets.services.budgets import NewBudget, create_budget
from budgets.services.overrides import set_override
from noburn.kit.money import from_usd
from noburn.kit.problems import ProblemError, problem
from tenants.services.keys import issue_key, revoke_key
from tenants.services.tenants import lock_tenant

CUSTOMER: Final = "noburn-sandbox"
LIMIT_USD: Final = "0.002"
CALLS: Final = 10
MODEL: Final = "gpt-4o-mini"
INPUT_TOKENS: Final = 1_200
OUTPUT_TOKENS: Final = 500
KEY_LIFE: Final = timedelta(minutes=5)
TIMEOUT_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class SandboxCall:
    """What became of one call of the loop; amounts are decimal strings in USD, as the gateway said them."""

    number: int
    allowed: bool
    reason: str
    cost_usd: str
    remaining_usd: str
    resets_at: str


def run_loop(
    *, tenant_id: UUID, actor: str, now: datetime, connect: Callable[[], httpx.Client] | None = None
) -> list[SandboxCall]:
    """Runs the loop and returns what each call was answered.

    The customer's limit is made small first: by an override of a budget for each customer, else by a budget of
    its own. The key is made for this loop and revoked after it. Raises a counters-unavailable problem when the
    gateway does not answer.
    """
    with transaction.atomic():
        lock_tenant(tenant_id=tenant_id)
        _limit(tenant_id, actor=actor, now=now)
        issued = issue_key(
            tenant_id=tenant_id,
            name="sandbox loop",
            scopes=["preflight", "settle"],
            expires_at=now + KEY_LIFE,
            actor=actor,
            now=now,
        )
    try:
        with (connect or _own_gateway)() as client:
            client.headers["Authorization"] = f"Bearer {issued.secret}"
            return [_call(client, number) for number in range(1, CALLS + 1)]
    except (httpx.HTTPError, KeyError, ValueError) as gone:
        raise ProblemError(
            problem("counters-unavailable", "The gateway did not answer; try again.")
        ) from gone
    finally:
        revoke_key(tenant_id=tenant_id, key_id=issued.key.pk, actor=actor, now=now)


def _own_gateway() -> httpx.Client:
    return httpx.Client(base_url=settings.NOBURN_SELF_URL, timeout=TIMEOUT_SECONDS, trust_env=False)


def _limit(tenant_id: UUID, *, actor: str, now: datetime) -> None:
    held = Budget.objects.filter(
        tenant_id=tenant_id, archived_at__isnull=True, scope="customer", metric="usd", action="block"
    )
    if held.filter(subject=CUSTOMER).exists():
        return
    template = held.filter(subject="*").order_by("pk").first()
    if template is not None:
        set_override(
            tenant_id=tenant_id,
            budget_id=template.pk,
            subject=CUSTOMER,
            limit=LIMIT_USD,
            actor=actor,
            now=now,
        )
    else:
        wanted = NewBudget(scope="customer", subject=CUSTOMER, limit=LIMIT_USD, window="day")
        create_budget(tenant_id=tenant_id, budget=wanted, actor=actor, now=now)


def _call(client: httpx.Client, number: int) -> SandboxCall:
    asked = _ask(
        client,
        "/v1/preflight",
        {
            "model": MODEL,
            "provider": "openai",
            "input_tokens": INPUT_TOKENS,
            "max_output_tokens": OUTPUT_TOKENS,
            "subject": {"customer": CUSTOMER},
            "tags": {"feature": "sandbox"},
        },
    )
    if asked["decision"] != "allow":
        budget = asked.get("budget") or {}
        return SandboxCall(
            number=number,
            allowed=False,
            reason=asked["reason"],
            cost_usd=asked.get("estimate_usd", ""),
            remaining_usd=budget.get("remaining_usd", ""),
            resets_at=budget.get("resets_at") or "",
        )
    settled = _ask(
        client,
        "/v1/settle",
        {
            "authorization": asked["authorization"],
            "usage": {"input_tokens": INPUT_TOKENS, "output_tokens": OUTPUT_TOKENS},
            "outcome": "ok",
        },
    )
    tightest: dict[str, Any] = min(
        (each for each in asked["budgets"] if "remaining_usd" in each),
        key=lambda each: from_usd(each["remaining_usd"], field="remaining_usd", allow_negative=True),
        default={},
    )
    return SandboxCall(
        number=number,
        allowed=True,
        reason="",
        cost_usd=settled["cost_usd"],
        remaining_usd=tightest.get("remaining_usd", ""),
        resets_at=tightest.get("resets_at") or "",
    )


def _ask(client: httpx.Client, path: str, body: dict[str, Any]) -> dict[str, Any]:
    answer = client.post(path, json=body, headers={"Idempotency-Key": uuid4().hex})
    answer.raise_for_status()
    told: dict[str, Any] = answer.json()
    return told
