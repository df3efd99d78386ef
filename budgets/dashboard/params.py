"""What pages of spending read from their query strings, and how they write amounts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from django.http import QueryDict

from budgets.domain.policy import Metric
from noburn.dashboard import wording
from noburn.kit.problems import FieldError, Invalid

DAYS: Final = (1, 7, 30, 90)
TIMES: Final = ("from", "to")


class BadParameter(Invalid):
    """A parameter of a page that cannot be used."""


def filled(params: QueryDict, names: Iterable[str], zone: ZoneInfo) -> dict[str, str]:
    """Returns the parameters that were filled in; a time without a zone is in the tenant's, as on its pages."""
    found = {name: text for name in names if (text := str(params.get(name, "")).strip())}
    for name in TIMES:
        if name in found:
            found[name] = _with_zone(found[name], zone)
    return found


def _with_zone(text: str, zone: ZoneInfo) -> str:
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return text
    return (at if at.tzinfo else at.replace(tzinfo=zone)).isoformat()


def local(text: str, zone: ZoneInfo) -> str:
    """Returns a time as the input of a form wants it: in the tenant's zone, without saying so."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return text
    return (at.astimezone(zone) if at.tzinfo else at).strftime("%Y-%m-%dT%H:%M")


def read_days(params: QueryDict, otherwise: int = 30) -> int:
    """Reads for how many days usage is asked. Raises BadParameter."""
    text = params.get("days", str(otherwise))
    if text not in map(str, DAYS):
        raise BadParameter([FieldError("days", f"must be one of {', '.join(map(str, DAYS))}")])
    return int(text)


def since_of(days: int, *, now: datetime, zone: ZoneInfo) -> datetime:
    """Returns where the day begins, in the tenant's zone, with which so many days end today."""
    today = now.astimezone(zone).replace(hour=0, minute=0, second=0, microsecond=0)
    return today - timedelta(days=days - 1)


def amount(metric: str, value: int) -> str:
    """Writes an amount of a metric for people."""
    return wording.usd(value) if metric == Metric.USD else f"{wording.count(value)} {metric}"


def query(params: Mapping[str, str]) -> str:
    """Returns a query string of these parameters."""
    made = QueryDict(mutable=True)
    made.update(dict(params))
    return f"?{made.urlencode()}"
