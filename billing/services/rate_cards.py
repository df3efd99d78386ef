"""Rate cards: made, given new versions, and assigned to customers; all dated, nothing edited.

Each change is one transaction under the tenant's lock, with its audit entry; gateways hear of it, since what a wallet
allows follows from the card.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from django.db import transaction

from billing.domain.card_timelines import full_hour, start_of_hour
from billing.domain.rate_cards import Terms, show_terms
from billing.models import RateCard, RateCardAssignment, RateCardVersion
from billing.queries.rate_cards import DEFAULT
from noburn.kit import ids
from noburn.kit.problems import FieldError, Invalid, Missing
from tenants.services import audit
from tenants.services.customers import external_id_errors
from tenants.services.signals import tell_policy_changed
from tenants.services.tenants import lock_tenant, name_errors

CARDS_MAX: Final = 500
VERSIONS_MAX: Final = 1_000
"""The most versions of one card."""

ASSIGNED_MAX: Final = 1_000
"""The most customers of one assignment."""

TIMES_MAX: Final = 1_000
"""The most assignments of one customer, and of the default."""

HOUR: Final = timedelta(hours=1)


class InvalidRateCard(Invalid):
    """A card, version or assignment that breaks rules; `errors` names every one."""


class RateCardNotFound(Missing):
    """The tenant has no such card, version or assignment."""


@dataclass(frozen=True, kw_only=True)
class NewVersion:
    """What a card is to say from a full hour on that has not passed (None: from the next one)."""

    terms: Terms
    effective_from: datetime | None = None
    note: str = ""

    def errors(self, now: datetime) -> list[FieldError]:
        """Returns everything that is wrong with it."""
        return time_errors(self.effective_from, now) + note_errors(self.note)


def next_hour(now: datetime) -> datetime:
    """Returns the first full hour that has not passed."""
    return now if full_hour(now) else start_of_hour(now) + HOUR


def time_errors(effective_from: datetime | None, now: datetime) -> list[FieldError]:
    """Returns what is wrong with the time from which something is to hold."""
    if effective_from is None:
        return []
    errors = []
    if not full_hour(effective_from):
        errors.append(FieldError("effective_from", "must be a full hour: usage is added up by the hour"))
    if effective_from < now:
        errors.append(FieldError("effective_from", "must not be past: calls were made at other prices"))
    return errors


def note_errors(note: str) -> list[FieldError]:
    """Returns what is wrong with a note."""
    if len(note) > 500 or not (note.isprintable() or not note):
        return [FieldError("note", "must be at most 500 printable characters")]
    return []


def create_rate_card(
    *, tenant_id: UUID, name: str, version: NewVersion, actor: str, now: datetime
) -> tuple[RateCard, RateCardVersion]:
    """Makes a card with its first version. It prices nothing until it is assigned.

    Raises TenantNotFound, InvalidRateCard with every error.
    """
    errors = [*name_errors("name", name), *version.errors(now)]
    with transaction.atomic():
        lock_tenant(tenant_id=tenant_id)
        cards = RateCard.objects.filter(tenant_id=tenant_id)
        if cards.filter(name=name).exists():
            errors.append(FieldError("name", "is taken by another rate card"))
        if cards.count() >= CARDS_MAX:
            errors.append(FieldError("name", f"a tenant has at most {CARDS_MAX} rate cards"))
        if errors:
            raise InvalidRateCard(errors)
        card = RateCard.objects.create(
            id=ids.new_uuid(now), tenant_id=tenant_id, name=name, created_by=actor, created_at=now
        )
        made = _append(card, 1, version, actor=actor, now=now)
        _record(card, "rate_card.create", {"name": name, **_seen(made)}, actor=actor, now=now)
        tell_policy_changed(tenant_id=tenant_id, now=now)
    return card, made


def rename_rate_card(*, tenant_id: UUID, card_id: UUID, name: str, actor: str, now: datetime) -> RateCard:
    """Gives a card another name. Raises RateCardNotFound, InvalidRateCard."""
    errors = name_errors("name", name)
    with transaction.atomic():
        lock_tenant(tenant_id=tenant_id)
        card = _card(tenant_id, card_id)
        if RateCard.objects.filter(tenant_id=tenant_id, name=name).exclude(pk=card_id).exists():
            errors.append(FieldError("name", "is taken by another rate card"))
        if errors:
            raise InvalidRateCard(errors)
        before, card.name = card.name, name
        card.save(update_fields=["name"])
        _record(card, "rate_card.rename", {"name": name}, before={"name": before}, actor=actor, now=now)
    return card


def append_version(
    *, tenant_id: UUID, card_id: UUID, version: NewVersion, actor: str, now: datetime
) -> RateCardVersion:
    """Appends what a card says from a later time on. Raises RateCardNotFound, InvalidRateCard with every error."""
    errors = version.errors(now)
    with transaction.atomic():
        lock_tenant(tenant_id=tenant_id)
        card = _card(tenant_id, card_id)
        versions = RateCardVersion.objects.filter(tenant_id=tenant_id, card=card)
        newest = versions.order_by("-number").first()
        last = versions.filter(withdrawn_at__isnull=True).order_by("-effective_from").first()
        begins = version.effective_from or next_hour(now)
        if last is not None and begins <= last.effective_from:
            errors.append(FieldError("effective_from", _later_than("version", last)))
        number = newest.number + 1 if newest is not None else 1
        if number > VERSIONS_MAX:
            errors.append(FieldError("effective_from", f"a card has at most {VERSIONS_MAX} versions"))
        if errors:
            raise InvalidRateCard(errors)
        made = _append(card, number, version, actor=actor, now=now)
        _record(card, "rate_card.append", _seen(made), actor=actor, now=now)
        tell_policy_changed(tenant_id=tenant_id, now=now)
    return made


def withdraw_version(
    *, tenant_id: UUID, card_id: UUID, version_id: UUID, actor: str, now: datetime
) -> RateCardVersion:
    """Withdraws a version that has not begun. Raises RateCardNotFound, InvalidRateCard."""
    with transaction.atomic():
        lock_tenant(tenant_id=tenant_id)
        card = _card(tenant_id, card_id)
        row = RateCardVersion.objects.filter(tenant_id=tenant_id, card=card, pk=version_id).first()
        if row is None:
            raise RateCardNotFound(str(version_id))
        _withdraw(row, now)
        _record(card, "rate_card.withdraw", {"number": row.number}, before=_seen(row), actor=actor, now=now)
        tell_policy_changed(tenant_id=tenant_id, now=now)
    return row


def assign_card(
    *,
    tenant_id: UUID,
    card_id: UUID | None,
    customers: Sequence[str] | None,
    effective_from: datetime | None = None,
    note: str = "",
    actor: str,
    now: datetime,
) -> list[RateCardAssignment]:
    """Lets a card hold for up to 1,000 customers, or by default (`customers` None), from a full hour on.

    `card_id` None takes the customers' own card away, so that the default holds; of the default itself: nothing is billed
    then. A customer need not have called yet. All or none. Raises RateCardNotFound, InvalidRateCard with every error.
    """
    names = [DEFAULT] if customers is None else list(customers)
    begins = effective_from or next_hour(now)
    errors = [*time_errors(effective_from, now), *note_errors(note)]
    if not 1 <= len(names) <= ASSIGNED_MAX:
        errors.append(FieldError("customers", f"must be 1 to {ASSIGNED_MAX} customers"))
    for at, name in enumerate(names[:ASSIGNED_MAX] if customers is not None else []):
        errors += external_id_errors(f"customers[{at}]", name)
        if name in names[:at]:
            errors.append(FieldError(f"customers[{at}]", "is in this list twice"))
    with transaction.atomic():
        lock_tenant(tenant_id=tenant_id)
        card = _card(tenant_id, card_id) if card_id is not None else None
        standing = RateCardAssignment.objects.filter(
            tenant_id=tenant_id, customer__in=names[:ASSIGNED_MAX], withdrawn_at__isnull=True
        )
        places = {name: at for at, name in enumerate(names)}
        for row in standing.filter(effective_from__gte=begins).order_by("effective_from"):
            field = "effective_from" if customers is None else f"customers[{places[row.customer]}]"
            errors.append(FieldError(field, _later_than("assignment", row)))
        if standing.count() >= TIMES_MAX * len(names):
            errors.append(FieldError("customers", f"may have {TIMES_MAX} assignments each"))
        if errors:
            raise InvalidRateCard(errors)
        made = RateCardAssignment.objects.bulk_create(
            RateCardAssignment(
                id=ids.new_uuid(now),
                tenant_id=tenant_id,
                customer=name,
                card=card,
                effective_from=begins,
                note=note,
                created_by=actor,
                created_at=now,
            )
            for name in names
        )
        audit.record_many(
            tenant_id=tenant_id,
            actor=actor,
            changes=[
                audit.Change(
                    action="rate_card.assign",
                    object=ids.encode(ids.RATE_CARD_ASSIGNMENT, row.pk),
                    after=_seen_assignment(row),
                )
                for row in made
            ],
            now=now,
        )
        tell_policy_changed(tenant_id=tenant_id, now=now)
    return made


def withdraw_assignment(
    *, tenant_id: UUID, assignment_id: UUID, actor: str, now: datetime
) -> RateCardAssignment:
    """Withdraws an assignment that has not begun. Raises RateCardNotFound, InvalidRateCard."""
    with transaction.atomic():
        lock_tenant(tenant_id=tenant_id)
        row = RateCardAssignment.objects.filter(tenant_id=tenant_id, pk=assignment_id).first()
        if row is None:
            raise RateCardNotFound(str(assignment_id))
        _withdraw(row, now)
        audit.record(
            tenant_id=tenant_id,
            actor=actor,
            action="rate_card.unassign",
            object=ids.encode(ids.RATE_CARD_ASSIGNMENT, row.pk),
            before=_seen_assignment(row),
            now=now,
        )
        tell_policy_changed(tenant_id=tenant_id, now=now)
    return row


def _card(tenant_id: UUID, card_id: UUID) -> RateCard:
    card = RateCard.objects.filter(tenant_id=tenant_id, pk=card_id).first()
    if card is None:
        raise RateCardNotFound(str(card_id))
    return card


def _append(
    card: RateCard, number: int, version: NewVersion, *, actor: str, now: datetime
) -> RateCardVersion:
    return RateCardVersion.objects.create(
        id=ids.new_uuid(now),
        tenant_id=card.tenant_id,
        card=card,
        number=number,
        effective_from=version.effective_from or next_hour(now),
        terms=show_terms(version.terms),
        note=version.note,
        created_by=actor,
        created_at=now,
    )


def _withdraw(row: RateCardVersion | RateCardAssignment, now: datetime) -> None:
    if row.withdrawn_at is not None:
        raise InvalidRateCard([FieldError("effective_from", "is withdrawn already")])
    if row.effective_from <= now:
        raise InvalidRateCard([FieldError("effective_from", "has begun: append what is to hold instead")])
    row.withdrawn_at = now
    row.save(update_fields=["withdrawn_at"])


def _later_than(word: str, row: RateCardVersion | RateCardAssignment) -> str:
    return f"must be later than the {word} from {row.effective_from.isoformat()}; withdraw that one first"


def _record(
    card: RateCard,
    action: str,
    after: Mapping[str, Any],
    *,
    before: Mapping[str, Any] | None = None,
    actor: str,
    now: datetime,
) -> None:
    audit.record(
        tenant_id=card.tenant_id,
        actor=actor,
        action=action,
        object=ids.encode(ids.RATE_CARD, card.pk),
        before=before,
        after=after,
        now=now,
    )


def _seen(row: RateCardVersion) -> dict[str, Any]:
    """What the audit log shows of a version."""
    return {
        "number": row.number,
        "effective_from": row.effective_from.isoformat(),
        "terms": row.terms,
        "note": row.note,
    }


def _seen_assignment(row: RateCardAssignment) -> dict[str, Any]:
    """What the audit log shows of an assignment."""
    return {
        "customer": row.customer or None,
        "rate_card": ids.encode(ids.RATE_CARD, row.card_id) if row.card_id else None,
        "effective_from": row.effective_from.isoformat(),
        "note": row.note,
    }
