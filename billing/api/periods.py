"""The period that a question is about: `from` and `to` of its address, full hours."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from drf_spectacular.utils import OpenApiParameter

from billing.domain.card_timelines import start_of_hour
from billing.services.charges import DAYS_MAX, InvalidPeriod
from billing.services.rate_cards import next_hour
from budgets.domain.usage import read_instant
from noburn.kit.problems import FieldError, Invalid

NAMES: Final = frozenset({"from", "to"})

PARAMETERS: Final = [
    OpenApiParameter(
        "from",
        str,
        description="RFC 3339 with a zone, a full hour. By default the month's beginning, in UTC.",
    ),
    OpenApiParameter(
        "to",
        str,
        description=f"RFC 3339 with a zone, a full hour, not included; at most {DAYS_MAX} days later. By default the end "
        "of this hour.",
    ),
]

_FIELDS: Final = {"starts_at": "from", "until": "to"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """[starts_at, until)."""

    starts_at: datetime
    until: datetime


def read_period(params: Mapping[str, str], *, now: datetime) -> Asked:
    """Reads `from` and `to`. Raises Invalid with every error; what charges say of a period is theirs."""
    errors: list[FieldError] = []
    since, until = (read_instant(params, name, errors) for name in ("from", "to"))
    if errors:
        raise Invalid(errors)
    until = until or next_hour(now)
    # The month of the last hour that is asked for, so that `to` alone gives a month as well.
    last = start_of_hour(min(until, now))
    month = last.astimezone(UTC).replace(day=1, hour=0)
    return Asked(starts_at=since or min(month, until), until=until)


@contextmanager
def named_as_asked(names: Mapping[str, str] = _FIELDS) -> Iterator[None]:
    """Names what is wrong with a period as the caller named it."""
    try:
        yield
    except InvalidPeriod as invalid:
        raise InvalidPeriod(
            [FieldError(names.get(error.field, error.field), error.message) for error in invalid.errors]
        ) from invalid


def read_flag(params: Mapping[str, str], name: str, otherwise: bool) -> bool:
    """Reads true or false. Raises Invalid for anything else."""
    text = params.get(name)
    if text is None:
        return otherwise
    if text not in ("true", "false"):
        raise Invalid([FieldError(name, "must be true or false")])
    return text == "true"


def name_of(text: str) -> str:
    """Reads a name from a cursor. Raises ValueError for what no name holds."""
    if "\x00" in text:
        raise ValueError(text)
    return text
