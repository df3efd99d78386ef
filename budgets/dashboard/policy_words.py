"""Rules of policies in words: when each matches, and what it does then."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any, Final

from budgets.domain.routing import Outcome
from noburn.dashboard import wording

NAMES: Final = ("provider", "model", "task", "output", "plan", "customer", "project")
SPANS: Final = {"input_tokens": "input tokens", "max_output_tokens": "output tokens", "steps": "steps"}
EVERY_CALL: Final = "every call"


def rule_words(rule: Mapping[str, Any], tiers: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """A rule's `name`, and in words `when` it matches and what it does `then`."""
    return {
        "name": rule["name"],
        "when": "; ".join(_when(rule.get("when") or {})) or EVERY_CALL,
        "then": _then(rule["then"], tiers),
    }


def rules_words(
    rules: Sequence[Mapping[str, Any]], tiers: Mapping[str, Mapping[str, str]]
) -> list[dict[str, str]]:
    """All rules of a policy in words, in their order."""
    return [rule_words(rule, tiers) for rule in rules]


def _when(when: Mapping[str, Any]) -> Iterable[str]:
    for name in NAMES:
        if values := when.get(name):
            yield f"{name} is {_or(values)}"
    for name, values in (when.get("tags") or {}).items():
        yield f"tag {name} is {_or(values)}"
    for name, said in SPANS.items():
        if span := when.get(name):
            yield _span(said, span, lambda value: wording.count(value))
    if time := when.get("time"):
        yield _time(time)
    if span := when.get("utilization"):
        yield _span("used of the tightest budget", span, percent_words)


def _or(values: Sequence[str]) -> str:
    return values[0] if len(values) == 1 else f"{', '.join(values[:-1])} or {values[-1]}"


def _span(said: str, span: Mapping[str, Any], say: Any) -> str:
    least, most = span.get("min"), span.get("max")
    if least is None:
        return f"{said}: at most {say(most)}"
    if most is None:
        return f"{said}: at least {say(least)}"
    return f"{said}: {say(least)} to {say(most)}"


def percent(share: str) -> str:
    """A share such as `0.8` in per cent, as a plain number: `80`."""
    number = f"{Decimal(share) * 100:f}"
    return number.rstrip("0").rstrip(".") if "." in number else number


def percent_words(share: str) -> str:
    """A share with its sign: `80 %`."""
    return f"{percent(share)} %"


def _time(time: Mapping[str, Any]) -> str:
    days = ", ".join(time.get("days") or ())
    hours = f"from {time['from']} to {time['to']}" if time.get("from") is not None else ""
    return f"{days} {hours}".strip()


def _then(then: Mapping[str, Any], tiers: Mapping[str, Mapping[str, str]]) -> str:
    match Outcome(then["action"]):
        case Outcome.ALLOW:
            return "goes on as it is"
        case Outcome.BLOCK:
            return "is refused"
        case Outcome.USE_MODEL:
            return f"uses {then['model']}"
        case Outcome.USE_TIER:
            tier = then["tier"]
            named = [f"{provider} {models[tier]}" for provider, models in tiers.items() if tier in models]
            return f"uses its provider's {tier} model ({', '.join(named)})"
