"""Which version of which rate card holds for a customer, and when."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from billing.domain.rate_cards import CardVersion


@dataclass(frozen=True, kw_only=True, slots=True)
class Assignment:
    """From a full hour on a card holds, until the next assignment to the same customer, or of the default.

    `card_id` None: no card of its own from then on, so the default holds; of the default itself: nothing is billed.
    """

    effective_from: datetime
    card_id: UUID | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Span:
    """[starts_at, ends_at) in which one version holds; None: no card, so nothing is billed."""

    starts_at: datetime
    ends_at: datetime
    version: CardVersion | None


def full_hour(at: datetime) -> bool:
    """Tells whether a time is the beginning of an hour of UTC: sums of usage and changes of cards are by the hour."""
    return at == start_of_hour(at)


def start_of_hour(at: datetime) -> datetime:
    """Returns the beginning of the hour (UTC) that a time is in."""
    return at.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


def spans(
    own: Sequence[Assignment],
    default: Sequence[Assignment],
    versions: Iterable[CardVersion],
    *,
    starts_at: datetime,
    until: datetime,
) -> tuple[Span, ...]:
    """Returns which version holds when in [starts_at, until), in the order of time; neighbours differ.

    Empty when the time is. Of several assignments or versions of one time the last one given holds.
    """
    by_card: dict[UUID, list[CardVersion]] = {}
    for version in versions:
        by_card.setdefault(version.card_id, []).append(version)
    begins = {starts_at} | {
        at
        for at in (
            *(assignment.effective_from for assignment in (*own, *default)),
            *(version.effective_from for card in by_card.values() for version in card),
        )
        if starts_at < at < until
    }
    times = sorted(begins) if starts_at < until else []
    found: list[Span] = []
    for at, ends_at in zip(times, [*times[1:], until], strict=True):
        held = version_at(own, default, by_card, at)
        if found and found[-1].version == held:
            found[-1] = Span(starts_at=found[-1].starts_at, ends_at=ends_at, version=held)
        else:
            found.append(Span(starts_at=at, ends_at=ends_at, version=held))
    return tuple(found)


def version_at(
    own: Sequence[Assignment],
    default: Sequence[Assignment],
    by_card: dict[UUID, list[CardVersion]],
    at: datetime,
) -> CardVersion | None:
    """Returns the version that holds at a time. A card whose first version is still to come bills nothing."""
    card_id = _card_at(own, at) or _card_at(default, at)
    if card_id is None:
        return None
    held: CardVersion | None = None
    for version in by_card.get(card_id, ()):
        if version.effective_from <= at and (held is None or version.effective_from >= held.effective_from):
            held = version
    return held


def _card_at(assignments: Sequence[Assignment], at: datetime) -> UUID | None:
    held: Assignment | None = None
    for assignment in assignments:
        if assignment.effective_from <= at and (
            held is None or assignment.effective_from >= held.effective_from
        ):
            held = assignment
    return held.card_id if held is not None else None
