"""The rules that a budget must keep, each told by the field that breaks it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from decimal import Decimal
from itertools import pairwise
from typing import Final

from budgets.domain.policy import EACH, Action, Metric, Scope, WindowKind
from noburn.kit.money import NANO, BadAmount, from_usd, to_usd
from noburn.kit.problems import FieldError

BUDGETS_MAX: Final = 1_000
"""The most live budgets of a tenant: all of them are in its compiled policy."""

LIMIT_USD_MAX: Final = 9_000_000
COUNT_MAX: Final = 2**53
SUBJECT_LENGTH_MAX: Final = 200
REASON_LENGTH_MAX: Final = 500
THRESHOLDS_MAX: Final = 10
DEFAULT_THRESHOLDS: Final = (50, 80, 100)
ANCHORED: Final = frozenset({WindowKind.MONTH, WindowKind.QUARTER})

QUOTA_SCOPES: Final = tuple(
    scope.value
    for scope in (
        Scope.TENANT,
        Scope.PROJECT,
        Scope.CUSTOMER,
        Scope.USER,
        Scope.API_KEY,
        Scope.MODEL,
        Scope.PROVIDER,
    )
)
"""Whose calls of one plan a quota may count."""

_TAG = re.compile(r"[A-Za-z0-9_.-]{1,64}", re.ASCII)
_COUNT = re.compile(r"0|[1-9][0-9]{0,16}", re.ASCII)


def amount_field(metric: str) -> str:
    """Returns the wire name of an amount in this metric: amount_usd, amount_tokens or amount_requests."""
    return f"amount_{metric}"


def limit_field(metric: str) -> str:
    """Returns the wire name of a limit in this metric: limit_usd, limit_tokens or limit_requests."""
    return f"limit_{metric}"


def parse_limit(metric: str, limit: Decimal | int | str, *, field: str | None = None) -> int:
    """Returns a limit in the metric's smallest unit: nano-USD, tokens or requests.

    USD may have up to nine places and is at most 9,000,000; counts are whole. A float is refused: it could not
    say what was meant. Raises BadAmount with `field`, which is the limit's name on the wire unless it is given.
    """
    field = field or limit_field(metric)
    if isinstance(limit, bool | float) or not isinstance(limit, Decimal | int | str):
        raise BadAmount(field, "must be a decimal number or string, not a float")
    if isinstance(limit, Decimal):
        if not limit.is_finite() or limit.adjusted() > 20:
            raise BadAmount(field, "must be a finite number that is not too large")
        text = f"{limit:f}"
        text = text.rstrip("0").rstrip(".") if "." in text else text
    else:
        text = str(limit)
    # "-0" is Decimal's, not a person's.
    text = "0" if text == "-0" else text
    if metric == Metric.USD:
        return from_usd(text, field=field, max_nano=LIMIT_USD_MAX * NANO)
    if not _COUNT.fullmatch(text) or int(text) > COUNT_MAX:
        raise BadAmount(field, f"must be a whole number from 0 to {COUNT_MAX}")
    return int(text)


def show_limit(metric: str, limit: int) -> str:
    """Returns a limit as it is written on the wire."""
    return to_usd(limit) if metric == Metric.USD else str(limit)


def choice_errors(field: str, value: str | None, choices: Iterable[str]) -> list[FieldError]:
    """Returns an error unless `value` is one of the choices, or None: not chosen."""
    known = [str(choice) for choice in choices]
    if value is None or value in known:
        return []
    return [FieldError(field, f"must be one of {', '.join(known)}")]


def downgrade_errors(action: str, model: str | None) -> list[FieldError]:
    """Returns what is wrong with the model that a budget downgrades to."""
    if (action == Action.DOWNGRADE) != (model is not None):
        return [FieldError("downgrade_model", "belongs to the action downgrade, which needs it")]
    if model is not None and (not 1 <= len(model) <= 200 or not model.isprintable()):
        return [FieldError("downgrade_model", "must be 1 to 200 printable characters")]
    return []


def reason_errors(reason: str) -> list[FieldError]:
    """Returns what is wrong with the reason that a person gives for a change."""
    if not reason.strip() or len(reason) > REASON_LENGTH_MAX or not reason.isprintable():
        return [FieldError("reason", f"must be 1 to {REASON_LENGTH_MAX} printable characters")]
    return []


def name_errors(name: str) -> list[FieldError]:
    """Returns what is wrong with a budget's name."""
    if not name.strip() or len(name) > 200 or not name.isprintable():
        return [FieldError("name", "must be 1 to 200 printable characters")]
    return []


def subject_errors(scope: str, subject: str, tag: str | None) -> list[FieldError]:
    """Returns what is wrong with a subject, and with the tag that it may need."""
    if scope != Scope.TAG and tag is not None:
        return [FieldError("tag", "belongs to budgets of scope tag alone")]
    if scope == Scope.TENANT and subject != EACH:
        return [FieldError("subject", "must be *: a tenant budget counts every call")]
    if scope == Scope.TAG:
        return _tag_errors(subject, tag)
    return _text_errors("subject", subject)


def _tag_errors(subject: str, tag: str | None) -> list[FieldError]:
    if subject == EACH:
        if tag is None or not _TAG.fullmatch(tag):
            return [FieldError("tag", "must name the tag: 1 to 64 letters, digits or ._-")]
        return []
    name, equals, value = subject.partition("=")
    if not equals or not _TAG.fullmatch(name):
        return [FieldError("subject", "must be name=value for a tag, or * with the name in tag")]
    if tag is not None and tag != name:
        return [FieldError("tag", "must be the name in subject")]
    if value == EACH:
        return [FieldError("subject", "must be * with the name in tag, to mean each value")]
    return _text_errors("subject", value)


def _text_errors(field: str, text: str) -> list[FieldError]:
    if not 1 <= len(text) <= SUBJECT_LENGTH_MAX:
        return [FieldError(field, f"must be 1 to {SUBJECT_LENGTH_MAX} characters, or * for each")]
    if not text.isprintable() or text != text.strip():
        return [FieldError(field, "must be printable, without blanks at its ends")]
    return []


def window_errors(scope: str, window: str, anchor_day: int | None) -> list[FieldError]:
    """Returns what is wrong with a window for this scope, and with its anchor."""
    errors = []
    if window == WindowKind.RUN and scope != Scope.RUN:
        errors.append(FieldError("window", "may be run only with scope run; use total for the others"))
    if anchor_day is not None:
        if window not in ANCHORED:
            errors.append(FieldError("anchor_day", "belongs to months and quarters alone"))
        elif not 1 <= anchor_day <= 31:
            errors.append(FieldError("anchor_day", "must be between 1 and 31"))
    return errors


def quota_errors(scope: str, plan: str | None, upgrade_to: str | None) -> list[FieldError]:
    """Returns what is wrong with the plan whose calls a budget counts, and with the one that it suggests."""
    if plan is None:
        return [FieldError("upgrade_to", "belongs to a budget of one plan's calls")] if upgrade_to else []
    errors = _text_errors("plan", plan)
    if plan == EACH:
        errors.append(FieldError("plan", "must name one plan; scope plan counts each on its own"))
    if scope not in QUOTA_SCOPES:
        errors.append(FieldError("plan", f"goes with the scopes {', '.join(QUOTA_SCOPES)}"))
    if upgrade_to is not None:
        errors += _text_errors("upgrade_to", upgrade_to)
        if upgrade_to == plan:
            errors.append(FieldError("upgrade_to", "must be another plan"))
    return errors


def thresholds_errors(thresholds: Sequence[int]) -> list[FieldError]:
    """Returns what is wrong with alert thresholds, which are percentages of the limit."""
    rising = all(a < b for a, b in pairwise(thresholds))
    if len(thresholds) > THRESHOLDS_MAX or not rising or not all(1 <= value <= 100 for value in thresholds):
        message = f"must be up to {THRESHOLDS_MAX} whole percentages from 1 to 100, rising"
        return [FieldError("thresholds", message)]
    return []
