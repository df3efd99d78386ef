"""What a tenant's policy may say, each mistake told by its field; and its compiled form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from budgets.domain.routing import DAYS, MILLION, TIERS, Hours, Outcome, RoutingPolicy, Rule, Span
from noburn.kit.problems import FieldError
from tenants.domain.time_zones import is_time_zone

POLICIES_MAX: Final = 20
"""The most live policies of a tenant: all of them are in its compiled policy."""
RULES_MAX: Final = 50
NAMES_MAX: Final = 20
NAME_LENGTH_MAX: Final = 200
TAGS_MAX: Final = 10
TIERS_MAX: Final = 20

_LISTS: Final = ("provider", "model", "task", "output", "plan", "customer", "project")
_SPANS: Final = ("input_tokens", "max_output_tokens", "steps")


def policy_errors(
    *,
    name: str,
    rules: Sequence[Mapping[str, Any]],
    tiers: Mapping[str, Mapping[str, str]],
    time_zone: str | None,
) -> list[FieldError]:
    """Returns everything that is wrong with a policy whose fields have the right types."""
    errors = []
    if not name.strip() or len(name) > NAME_LENGTH_MAX or not name.isprintable():
        errors.append(FieldError("name", f"must be 1 to {NAME_LENGTH_MAX} printable characters"))
    if time_zone is not None and not is_time_zone(time_zone):
        errors.append(FieldError("time_zone", "must be an IANA time zone such as Europe/Berlin"))
    if not 1 <= len(rules) <= RULES_MAX:
        errors.append(FieldError("rules", f"must be 1 to {RULES_MAX}"))
    if len(tiers) > TIERS_MAX:
        errors.append(FieldError("tiers", f"must name at most {TIERS_MAX} providers"))
    names = [rule["name"] for rule in rules]
    for number, rule in enumerate(rules[:RULES_MAX]):
        at = f"rules[{number}]"
        if names.index(rule["name"]) != number:
            errors.append(FieldError(f"{at}.name", "is the name of an earlier rule"))
        errors += _when_errors(f"{at}.when", rule.get("when") or {})
        errors += _then_errors(f"{at}.then", rule["then"], tiers)
    return errors


def _when_errors(at: str, when: Mapping[str, Any]) -> list[FieldError]:
    errors = []
    for field in _LISTS:
        for value in when.get(field) or ():
            if "*" in value[:-1]:
                errors.append(FieldError(f"{at}.{field}", f"{value!r}: a * may stand at the end alone"))
    tags = when.get("tags") or {}
    if len(tags) > TAGS_MAX:
        errors.append(FieldError(f"{at}.tags", f"must be at most {TAGS_MAX}"))
    for field in (*_SPANS, "utilization"):
        span = when.get(field)
        if span is None:
            continue
        least, most = span.get("min"), span.get("max")
        if least is None and most is None:
            errors.append(FieldError(f"{at}.{field}", "needs min, max or both"))
        elif least is not None and most is not None and Decimal(least) > Decimal(most):
            errors.append(FieldError(f"{at}.{field}", "min must not be above max"))
    time = when.get("time")
    if time is not None:
        if ("from" in time) != ("to" in time):
            errors.append(FieldError(f"{at}.time", "needs from and to together"))
        elif time.get("from") is not None and time["from"] == time["to"]:
            errors.append(FieldError(f"{at}.time", "from and to must differ"))
        elif not time:
            errors.append(FieldError(f"{at}.time", "needs days, or from and to"))
    return errors


def _then_errors(
    at: str, then: Mapping[str, Any], tiers: Mapping[str, Mapping[str, str]]
) -> list[FieldError]:
    errors = []
    action, model, tier = then["action"], then.get("model"), then.get("tier")
    if (action == Outcome.USE_MODEL) != (model is not None):
        errors.append(FieldError(f"{at}.model", "belongs to use_model, which needs it"))
    if (action == Outcome.USE_TIER) != (tier is not None):
        errors.append(FieldError(f"{at}.tier", "belongs to use_tier, which needs it"))
    elif tier is not None and not any(tier in named for named in tiers.values()):
        errors.append(FieldError(f"{at}.tier", f"no provider of tiers has a {tier} one"))
    return errors


def compiled(
    *,
    policy_id: UUID,
    rules: Sequence[Mapping[str, Any]],
    tiers: Mapping[str, Mapping[str, str]],
    time_zone: str | None,
) -> RoutingPolicy:
    """Returns a policy without errors as gateways have it."""
    return RoutingPolicy(
        policy_id=policy_id,
        rules=tuple(_rule(rule) for rule in rules),
        tiers=tuple(
            (provider, *(named.get(tier, "") for tier in TIERS))  # type: ignore[misc]
            for provider, named in sorted(tiers.items())
        ),
        time_zone=time_zone,
    )


def _rule(rule: Mapping[str, Any]) -> Rule:
    when, then = rule.get("when") or {}, rule["then"]
    named: dict[str, Any] = {f"{name}s": tuple(when.get(name) or ()) for name in _LISTS}
    named |= {name: _span(when.get(name)) for name in _SPANS}
    return Rule(
        name=rule["name"],
        then=Outcome(then["action"]),
        target=then.get("model") or then.get("tier") or "",
        tags=tuple(sorted((name, tuple(values)) for name, values in (when.get("tags") or {}).items())),
        hours=_hours(when.get("time")),
        utilization_ppm=_span(when.get("utilization"), MILLION),
        **named,
    )


def _span(span: Mapping[str, Any] | None, times: int = 1) -> Span | None:
    if span is None:
        return None
    least, most = span.get("min"), span.get("max")
    return Span(
        None if least is None else int(Decimal(least) * times),
        None if most is None else int(Decimal(most) * times),
    )


def _hours(time: Mapping[str, Any] | None) -> Hours | None:
    if time is None:
        return None
    days = tuple(DAYS.index(day) for day in time.get("days") or ())
    if time.get("from") is None:
        return Hours(days)
    return Hours(days, _minute(time["from"]), _minute(time["to"]))


def _minute(text: str) -> int:
    hour, _, minute = text.partition(":")
    return int(hour) * 60 + int(minute)
