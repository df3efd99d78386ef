"""What may be asked of a comparison: which models, whose calls, of when. Read whole: every wrong field is named."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Final

from budgets.domain.pricing_book import MAX_NAME
from budgets.domain.usage import DAY, Question, read_question
from noburn.kit.problems import FieldError, Invalid

MODELS_MAX: Final = 10
DAYS_MAX: Final = 92
GROUPS_MAX: Final = 200
GROUPS: Final = ("model", "customer", "project")
FILTERS: Final = ("customer", "project", "provider", "model", "tag")
FACTOR_MIN: Final = Decimal("0.1")
FACTOR_MAX: Final = Decimal(10)
_FACTOR = re.compile(r"[0-9]{1,2}(\.[0-9]{1,4})?", re.ASCII)


class Period(StrEnum):
    """Whole days of UTC up to now."""

    WEEK = "7d"
    MONTH = "30d"
    CALENDAR_MONTH = "month"


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """A comparison to make. `usage` says whose calls and when; its groups are told apart in the answer."""

    models: tuple[str, ...]
    usage: Question
    group: str
    token_factor: Decimal
    limit: int


def read_asked(params: Mapping[str, str], *, now: datetime) -> Asked:
    """Reads a comparison from the parameters of a request. Raises Invalid with every error."""
    errors: list[FieldError] = []
    models = _models(params, errors)
    factor = _factor(params, errors)
    limit = _limit(params, errors)
    group = params.get("group_by", "model")
    if group not in GROUPS and not group.startswith("tag:"):
        errors.append(FieldError("group_by", f"must be one of {', '.join((*GROUPS, 'tag:NAME'))}"))
        group = "model"
    told = {name: params[name] for name in (*FILTERS, "from", "to") if name in params}
    told |= {"bucket": "none", "sort": "-cost_usd"}
    told["group_by"] = "provider,model" if group == "model" else f"{group},provider,model"
    told |= _period(params, now, errors)
    usage = None
    try:
        usage = read_question(told, now=now)
    except Invalid as error:
        errors += error.errors
    if usage is not None and usage.until - usage.since > DAYS_MAX * DAY:
        errors.append(FieldError("from", f"must be at most {DAYS_MAX} days before to"))
    if errors or usage is None:
        raise Invalid(errors)
    return Asked(models=models, usage=usage, group=group, token_factor=factor, limit=limit)


def _models(params: Mapping[str, str], errors: list[FieldError]) -> tuple[str, ...]:
    text = params.get("models", "")
    models = tuple(part.strip() for part in text.split(",")) if text.strip() else ()
    if "models" in params and not models:
        errors.append(FieldError("models", "must not be empty; leave it out to see what is paid now"))
    if len(models) > MODELS_MAX:
        errors.append(FieldError("models", f"must name at most {MODELS_MAX}"))
    if len({model.lower() for model in models}) < len(models):
        errors.append(FieldError("models", "must not name anything twice"))
    if any(not 1 <= len(model) <= MAX_NAME for model in models):
        errors.append(
            FieldError("models", f"must be names of 1 to {MAX_NAME} characters with commas between")
        )
    return models[:MODELS_MAX]


def _factor(params: Mapping[str, str], errors: list[FieldError]) -> Decimal:
    text = params.get("token_factor", "1")
    if _FACTOR.fullmatch(text) is None or not FACTOR_MIN <= Decimal(text) <= FACTOR_MAX:
        message = f"must be a number from {FACTOR_MIN} to {FACTOR_MAX} with up to four places, such as 1.35"
        errors.append(FieldError("token_factor", message))
        return Decimal(1)
    return Decimal(text)


def _limit(params: Mapping[str, str], errors: list[FieldError]) -> int:
    text = params.get("limit", "50")
    if re.fullmatch(r"[0-9]{1,4}", text, re.ASCII) is None or not 1 <= int(text) <= GROUPS_MAX:
        errors.append(FieldError("limit", f"must be a whole number from 1 to {GROUPS_MAX}"))
        return GROUPS_MAX
    return int(text)


def _period(params: Mapping[str, str], now: datetime, errors: list[FieldError]) -> dict[str, str]:
    text = params.get("period")
    if text is None:
        return {}
    if "from" in params or "to" in params:
        errors.append(FieldError("period", "goes without from and to"))
        return {}
    if text not in list(Period):
        errors.append(FieldError("period", f"must be one of {', '.join(Period)}"))
        return {}
    today = datetime.combine(now.date(), time(), now.tzinfo)
    if text == Period.CALENDAR_MONTH:
        return {"from": today.replace(day=1).isoformat()}
    return {"from": (today - timedelta(days=int(text[:-1]) - 1)).isoformat()}
