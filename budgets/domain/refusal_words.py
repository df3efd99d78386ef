"""A refusal in words: which budget, its limit, what remained, and what the call could have cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

Say = Callable[[str, int], str]
"""Writes an amount of a metric for people."""

SHORT: Final[Mapping[str, str]] = MappingProxyType(
    {
        "budget_exceeded": "budget exceeded",
        "budget_busy": "budget busy",
        "quota_exceeded": "quota exceeded",
        "call_too_large": "call too large",
        "model_not_allowed": "model not allowed",
        "price_unknown": "no price known",
        "run_stopped": "run stopped",
        "run_limit": "run's limit",
        "loop_detected": "loop",
        "velocity": "too fast",
        "customer_suspended": "customer suspended",
        "plan_limit": "noburn's plan used up",
        "policy_blocked": "blocked by a policy",
    }
)
"""Each reason in a word or two."""

_WHY: Final[Mapping[str, str]] = MappingProxyType(
    {
        "budget_busy": "It fits once calls in flight have resolved: try again in a moment, or let the client wait.",
        "call_too_large": "One call may not be that large.",
        "model_not_allowed": "This model is not among those that are allowed.",
        "price_unknown": "Nobody could say what it may cost: no price is known for the model. Add one under Models.",
        "run_stopped": "The run was stopped.",
        "run_limit": "The run has used what one run may use.",
        "loop_detected": "The same request came again and again.",
        "velocity": "Spending rose much faster than it does as a rule.",
        "customer_suspended": "The customer is suspended; resume it to let its calls through.",
        "plan_limit": "The tenant's own plan at noburn is used up.",
        "policy_blocked": "A rule of a policy says that such calls are not made.",
        "quota_exceeded": "The customer has used what its plan contains.",
        "budget_exceeded": "Nothing in flight makes room: raise the limit, grant an increase, or await the next window.",
    }
)


def explain(
    *,
    reason: str,
    budget: str,
    subject: str,
    metric: str | None,
    limit: int | None,
    remaining: int | None,
    room: int | None,
    estimate_nano: int | None,
    say: Say,
) -> list[str]:
    """Returns sentences that say in full why a call was refused; unknown reasons are named as they are."""
    told = []
    if estimate_nano is not None:
        told.append(f"The call could have cost up to {say('usd', estimate_nano)}.")
    if budget and metric and limit is not None:
        whose = f" for {subject}" if subject not in ("", "tenant") else ""
        left = "" if remaining is None else f", of which {say(metric, max(0, remaining))} was free"
        told.append(f"The budget “{budget}” allows {say(metric, limit)}{whose} in its window{left}.")
        if room is not None and remaining is not None and room > remaining:
            told.append(f"Without the holds of calls in flight it would have been {say(metric, room)}.")
    told.append(_WHY.get(reason, f"The reason is {reason}."))
    return told
