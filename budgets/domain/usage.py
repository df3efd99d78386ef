"""What may be asked of the rollups, and which of them answer it; docs/metering.md.

A question is read whole: every field that is wrong is named at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from enum import StrEnum
from types import MappingProxyType
from typing import Final, TypeVar
from zoneinfo import ZoneInfo, available_timezones

from noburn.kit.problems import FieldError, Invalid

HOUR: Final = timedelta(hours=1)
DAY: Final = timedelta(days=1)

DIMENSIONS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "project": "project",
        "customer": "customer",
        "user": "end_user",
        "plan": "plan",
        "api_key": "api_key",
        "provider": "provider",
        "model": "model",
    }
)
"""What usage is told apart by: the name on the wire, and the column."""

BY_TAG: Final = frozenset({"project", "customer", "provider", "model"})
"""What rollups by tag tell apart as well."""

SUMS: Final = (
    "requests",
    "errors",
    "tokens",
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "cache_write_1h_tokens",
    "reasoning_tokens",
    "audio_input_tokens",
    "audio_output_tokens",
    "images",
    "tool_calls",
)
"""Counts that a row of usage carries beside its costs and its latency."""

GROUPS_MAX: Final = 4
NAME_CHARS_MAX: Final = 200
TAG_CHARS_MAX: Final = 64
HOURS_DAYS_MAX: Final = 31
ZONE_DAYS_MAX: Final = 92
DAYS_MAX: Final = 400


W = TypeVar("W", bound=StrEnum)


class Bucket(StrEnum):
    """What a row is for: an hour, a day, or the whole of the time that was asked for."""

    HOUR = "hour"
    DAY = "day"
    NONE = "none"


class Order(StrEnum):
    """How rows are ordered: by time and names, or the dearest first."""

    TIME = "time"
    COST = "-cost_usd"


@dataclass(frozen=True, kw_only=True, slots=True)
class Question:
    """Usage in [since, until), which are bounds of its buckets, by `grain`: the rollups that answer it.

    `groups` names dimensions, or a tag as `tag:name`; `filters` goes by dimension; `tag` is a name and a value.
    """

    bucket: Bucket
    grain: str
    since: datetime
    until: datetime
    zone: str
    groups: tuple[str, ...]
    filters: tuple[tuple[str, str], ...]
    tag: tuple[str, str] | None
    order: Order

    @property
    def tag_name(self) -> str:
        """The tag that it is about; empty if none."""
        if self.tag is not None:
            return self.tag[0]
        return next((g.removeprefix("tag:") for g in self.groups if g.startswith("tag:")), "")

    @property
    def by_hours(self) -> bool:
        """Whether hours answer it, which are pruned some day."""
        return self.grain.endswith("hours")


def read_question(params: Mapping[str, str], *, now: datetime) -> Question:
    """Reads a question from the parameters of a request. Raises Invalid with every error.

    Without `to` it ends now, without `from` it begins a day before (by the hour), or thirty.
    """
    errors: list[FieldError] = []
    bucket = _word(params, "bucket", Bucket, Bucket.DAY, errors)
    order = _word(params, "sort", Order, Order.TIME, errors)
    zone = _zone(params, bucket, errors)
    groups = _groups(params, errors)
    filters = tuple(
        (name, read_text(params, name, NAME_CHARS_MAX, errors)) for name in DIMENSIONS if name in params
    )
    tag = _tag(params, errors)
    if order is Order.COST and bucket is not Bucket.NONE:
        errors.append(FieldError("sort", "by cost goes with bucket=none alone"))
    _check_tags(groups, filters, tag, errors)
    at = {name: read_instant(params, name, errors) for name in ("from", "to")}
    if errors:
        raise Invalid(errors)
    since, until = _span(bucket, zone, at["from"], at["to"], now)
    suffix = _suffix(bucket, zone, since, until)
    _check_span(bucket, zone, suffix, since, until)
    return Question(
        bucket=bucket,
        grain=_level(groups, filters, tag) + suffix,
        since=since,
        until=until,
        zone=zone,
        groups=groups,
        filters=filters,
        tag=tag,
        order=order,
    )


def _level(groups: Sequence[str], filters: Sequence[tuple[str, str]], tag: tuple[str, str] | None) -> str:
    if tag is not None or any(group.startswith("tag:") for group in groups):
        return "tag_"
    named = {*groups, *(name for name, _ in filters)}
    return "" if named & {"customer", "user"} else "total_"


def _suffix(bucket: Bucket, zone: str, since: datetime, until: datetime) -> str:
    if bucket is Bucket.HOUR or (bucket is Bucket.DAY and zone != "UTC"):
        return "hours"
    if bucket is Bucket.NONE and (_floor_day(since) != since or _floor_day(until) != until):
        return "hours"
    return "days"


def _check_span(bucket: Bucket, zone: str, suffix: str, since: datetime, until: datetime) -> None:
    if since >= until:
        raise Invalid([FieldError("from", "must be before to")])
    if suffix == "days":
        most, what = DAYS_MAX, "usage by the day"
    elif bucket is Bucket.DAY:
        # A day in which clocks are set back is longer than others.
        most, what = ZONE_DAYS_MAX, f"usage by the day of {zone}"
    else:
        most, what = HOURS_DAYS_MAX, "usage by the hour"
    # Hours cannot be cut where a zone's day begins at half past.
    days = range((until - since) // DAY + 1)
    if zone != "UTC" and any(_offset(zone, since + day * DAY) % HOUR for day in days[: ZONE_DAYS_MAX + 1]):
        message = "is not whole hours from UTC: ask by the hour, or by the day of UTC"
        raise Invalid([FieldError("time_zone", message)])
    if until - since > most * DAY + HOUR:
        raise Invalid([FieldError("from", f"must be at most {most} days before to: {what} is asked for")])


def _span(
    bucket: Bucket, zone: str, since: datetime | None, until: datetime | None, now: datetime
) -> tuple[datetime, datetime]:
    end = until or now
    if bucket is Bucket.HOUR:
        end = _ceil(end, HOUR)
        return (_floor(since, HOUR) if since else end - DAY), end
    if bucket is Bucket.NONE:
        whole_days = until is None and (since is None or _floor_day(since) == since)
        end = _ceil_day(end) if whole_days else _ceil(end, HOUR)
        return (_floor(since, HOUR) if since else _floor_day(end) - 30 * DAY), end
    end = _ceil_day(end, zone)
    return (_floor_day(since, zone) if since else _floor_day(end - 30 * DAY, zone)), end


def _offset(zone: str, at: datetime) -> timedelta:
    return at.astimezone(ZoneInfo(zone)).utcoffset() or timedelta()


def _floor(at: datetime, step: timedelta) -> datetime:
    since_epoch = at - datetime(1970, 1, 1, tzinfo=UTC)
    return at - since_epoch % step


def _ceil(at: datetime, step: timedelta) -> datetime:
    floor = _floor(at, step)
    return floor if floor == at else floor + step


def _floor_day(at: datetime, zone: str = "UTC") -> datetime:
    local = ZoneInfo(zone)
    return datetime.combine(at.astimezone(local).date(), time(), local).astimezone(UTC)


def _ceil_day(at: datetime, zone: str = "UTC") -> datetime:
    floor = _floor_day(at, zone)
    if floor == at:
        return floor
    local = ZoneInfo(zone)
    return datetime.combine(at.astimezone(local).date() + DAY, time(), local).astimezone(UTC)


def _word(params: Mapping[str, str], name: str, words: type[W], default: W, errors: list[FieldError]) -> W:
    text = params.get(name)
    if text is None:
        return default
    try:
        return words(text)
    except ValueError:
        errors.append(FieldError(name, f"must be {' or '.join(words)}"))
        return default


def _zone(params: Mapping[str, str], bucket: Bucket, errors: list[FieldError]) -> str:
    zone = params.get("time_zone", "UTC")
    if zone == "UTC":
        return zone
    if bucket is not Bucket.DAY:
        errors.append(FieldError("time_zone", "goes with bucket=day alone"))
    elif zone not in available_timezones():
        errors.append(FieldError("time_zone", "must be an IANA time zone such as Europe/Berlin"))
    else:
        return zone
    return "UTC"


def _groups(params: Mapping[str, str], errors: list[FieldError]) -> tuple[str, ...]:
    text = params.get("group_by", "")
    groups = tuple(part.strip() for part in text.split(",")) if text else ()
    for group in groups:
        name = group.removeprefix("tag:")
        if group.startswith("tag:"):
            if not 1 <= len(name) <= TAG_CHARS_MAX:
                errors.append(
                    FieldError("group_by", f"needs a tag's name of 1 to {TAG_CHARS_MAX} characters")
                )
        elif group not in DIMENSIONS:
            known = ", ".join((*DIMENSIONS, "tag:NAME"))
            errors.append(FieldError("group_by", f"knows no {group[:64]!r}; there are {known}"))
    if len(set(groups)) < len(groups):
        errors.append(FieldError("group_by", "must not name anything twice"))
    if len(groups) > GROUPS_MAX:
        errors.append(FieldError("group_by", f"must name at most {GROUPS_MAX}"))
    return groups


def _tag(params: Mapping[str, str], errors: list[FieldError]) -> tuple[str, str] | None:
    if "tag" not in params:
        return None
    name, colon, value = params["tag"].partition(":")
    if not colon or not 1 <= len(name) <= TAG_CHARS_MAX or len(value) > NAME_CHARS_MAX:
        errors.append(FieldError("tag", "must be a tag's name and value, as in feature:chat"))
    return name, value


def _check_tags(
    groups: Sequence[str],
    filters: Sequence[tuple[str, str]],
    tag: tuple[str, str] | None,
    errors: list[FieldError],
) -> None:
    tags = {group.removeprefix("tag:") for group in groups if group.startswith("tag:")}
    if tag is not None:
        tags.add(tag[0])
    if len(tags) > 1:
        field = "group_by" if tag is None else "tag"
        errors.append(FieldError(field, "only one tag's name can be asked for at a time"))
    if tags:
        for name in groups:
            if name in DIMENSIONS and name not in BY_TAG:
                errors.append(FieldError("group_by", f"{name} cannot be combined with a tag"))
        errors += [
            FieldError(name, "cannot be combined with a tag") for name, _ in filters if name not in BY_TAG
        ]


def read_text(params: Mapping[str, str], name: str, most: int, errors: list[FieldError]) -> str:
    """Reads a name of at most so many characters; notes an error if it is longer."""
    text = params[name]
    if len(text) > most:
        errors.append(FieldError(name, f"must be at most {most} characters"))
    return text


def read_instant(params: Mapping[str, str], name: str, errors: list[FieldError]) -> datetime | None:
    """Reads a time that names its zone; notes an error if it is none."""
    text = params.get(name)
    if text is None:
        return None
    try:
        # A plus sign that was not escaped arrives as a blank.
        at = datetime.fromisoformat(text.strip().replace(" ", "+"))
        if at.tzinfo is None or not 2000 <= at.year <= 9998:
            raise ValueError(text)
        return at.astimezone(UTC)
    except (ValueError, OverflowError):
        errors.append(FieldError(name, 'must be a time that names its zone, as in "2026-11-22T12:00:00Z"'))
        return None
