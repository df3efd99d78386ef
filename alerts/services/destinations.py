"""Destinations: made, changed, removed, their secrets rotated, and pinged. A secret is returned once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db import transaction

from alerts.domain.kinds import CHOICES
from alerts.models import Alert, Delivery, DeliveryState, Destination, DestinationKind, DisabledBecause
from alerts.services import hints
from alerts.services.alerts import NewAlert, raise_and_list
from alerts.services.secrets import new_signing_secret, sealer, shown_url
from noburn.kit import ids
from noburn.kit.outgoing import Refused, parse
from noburn.kit.problems import FieldError, Invalid, Missing
from tenants.services import audit
from tenants.services.tenants import lock_tenant

DESTINATIONS_MAX = 50
OVERLAP_DEFAULT = timedelta(hours=24)
OVERLAP_MAX = timedelta(days=7)
DESCRIPTION_CHARACTERS_MAX = 200
PINGS_WAITING_MAX = 5


class InvalidDestination(Invalid):
    """A destination, or a change of one, that breaks rules."""


class DestinationNotFound(Missing):
    """The tenant has no such destination, or it was removed."""


@dataclass(frozen=True, kw_only=True)
class NewDestination:
    """A destination to be made: `target` is an e-mail address or a URL; no `alert_kinds` means every kind."""

    kind: str
    target: str = field(repr=False)
    alert_kinds: Sequence[str] = ()
    description: str = ""


@dataclass(frozen=True, kw_only=True)
class DestinationChanges:
    """What is to change; None leaves a thing as it is. What kind a destination is never changes."""

    target: str | None = field(default=None, repr=False)
    alert_kinds: Sequence[str] | None = None
    description: str | None = None
    enabled: bool | None = None


@dataclass(frozen=True, kw_only=True)
class MadeDestination:
    """A destination with the secret that signs its webhooks, which nobody can show again; empty for other kinds."""

    destination: Destination
    secret: str = field(repr=False)


def wire_id(destination: Destination) -> str:
    """A destination's id on the wire."""
    prefix = ids.ALERT_EMAIL if destination.kind == DestinationKind.EMAIL else ids.WEBHOOK_ENDPOINT
    return ids.encode(prefix, destination.pk)


def create_destination(
    *, tenant_id: UUID, destination: NewDestination, actor: str, now: datetime
) -> MadeDestination:
    """Makes a destination, enabled. Raises TenantNotFound, or InvalidDestination with every error."""
    order = destination
    errors = [
        *_target_errors(order.kind, order.target),
        *_kinds_errors(order.alert_kinds),
        *_description_errors(order.description),
    ]
    if order.kind not in DestinationKind.values:
        errors.append(FieldError("kind", f"must be one of {', '.join(DestinationKind.values)}"))
    with transaction.atomic():
        lock_tenant(tenant_id=tenant_id)
        present = Destination.objects.filter(tenant_id=tenant_id, removed_at=None)
        if present.count() >= DESTINATIONS_MAX:
            errors.append(FieldError(_target_field(order.kind), f"a tenant has at most {DESTINATIONS_MAX}"))
        errors += _taken_errors(tenant_id, order.kind, order.target)
        if errors:
            raise InvalidDestination(errors)
        secret = new_signing_secret() if order.kind == DestinationKind.WEBHOOK else ""
        made = Destination(
            id=ids.new_uuid(now),
            tenant_id=tenant_id,
            kind=order.kind,
            description=order.description,
            alert_kinds=_sorted(order.alert_kinds),
            secret=sealer().seal(secret) if secret else "",
            created_at=now,
            updated_at=now,
        )
        _aim(made, order.target)
        made.save(force_insert=True)
        _record(made, "create", actor, now, after=_seen(made))
    return MadeDestination(destination=made, secret=secret)


def change_destination(
    *, tenant_id: UUID, destination_id: UUID, changes: DestinationChanges, actor: str, now: datetime
) -> Destination:
    """Changes a destination; one that is switched on again begins without its failures.

    Raises TenantNotFound, DestinationNotFound, or InvalidDestination with every error.
    """
    with transaction.atomic():
        lock_tenant(tenant_id=tenant_id)
        found = get_destination(tenant_id=tenant_id, destination_id=destination_id)
        errors = []
        if changes.target is not None:
            errors += _target_errors(found.kind, changes.target)
            if found.address != changes.target:
                errors += _taken_errors(tenant_id, found.kind, changes.target)
        if changes.alert_kinds is not None:
            errors += _kinds_errors(changes.alert_kinds)
        if changes.description is not None:
            errors += _description_errors(changes.description)
        if errors:
            raise InvalidDestination(errors)
        before = _seen(found)
        moved = changes.target is not None and _moves(found, changes.target)
        if changes.target is not None and moved:
            _aim(found, changes.target)
        if changes.alert_kinds is not None:
            found.alert_kinds = _sorted(changes.alert_kinds)
        if changes.description is not None:
            found.description = changes.description
        if changes.enabled is not None and changes.enabled != found.enabled:
            found.enabled = changes.enabled
            found.disabled_because = "" if changes.enabled else DisabledBecause.PERSON
            if not changes.enabled:
                _cancel_pending(found, now)
        if before == _seen(found) and not moved:
            return found
        if moved or (changes.enabled and not before["enabled"]):
            found.failures, found.failing_since = 0, None
        found.version += 1
        found.updated_at = now
        found.save()
        after = {**_seen(found), **({"moved": True} if moved else {})}
        _record(found, "change", actor, now, before=before, after=after)
    return found


def remove_destination(*, tenant_id: UUID, destination_id: UUID, actor: str, now: datetime) -> None:
    """Removes a destination and forgets its secrets; what waits for it is cancelled.

    Raises TenantNotFound, DestinationNotFound.
    """
    with transaction.atomic():
        lock_tenant(tenant_id=tenant_id)
        found = get_destination(tenant_id=tenant_id, destination_id=destination_id)
        before = _seen(found)
        found.removed_at = found.updated_at = now
        found.enabled, found.disabled_because = False, DisabledBecause.PERSON
        found.secret = found.previous_secret = ""
        found.previous_secret_until = None
        found.version += 1
        found.save()
        _cancel_pending(found, now)
        _record(found, "remove", actor, now, before=before)


def rotate_secret(
    *,
    tenant_id: UUID,
    destination_id: UUID,
    overlap: timedelta = OVERLAP_DEFAULT,
    actor: str,
    now: datetime,
) -> MadeDestination:
    """Makes a webhook's next secret; for `overlap` (0 to 7 days) both sign, so that the receiver can change over.

    A rotation during another ends the oldest secret. Raises TenantNotFound, DestinationNotFound, InvalidDestination.
    """
    errors = []
    if not timedelta(0) <= overlap <= OVERLAP_MAX:
        errors.append(FieldError("overlap_seconds", f"must be between 0 and {OVERLAP_MAX.days * 86_400}"))
    with transaction.atomic():
        lock_tenant(tenant_id=tenant_id)
        found = get_destination(tenant_id=tenant_id, destination_id=destination_id)
        if found.kind != DestinationKind.WEBHOOK:
            errors.append(FieldError("kind", "only generic webhooks are signed and have a secret"))
        if errors:
            raise InvalidDestination(errors)
        before = _seen(found)
        secret = new_signing_secret()
        keeps = overlap > timedelta(0)
        found.previous_secret = found.secret if keeps else ""
        found.previous_secret_until = now + overlap if keeps else None
        found.secret = sealer().seal(secret)
        found.version += 1
        found.updated_at = now
        found.save()
        _record(found, "rotate_secret", actor, now, before=before, after=_seen(found))
    return MadeDestination(destination=found, secret=secret)


def ping_destination(*, tenant_id: UUID, destination_id: UUID, actor: str, now: datetime) -> Delivery:
    """Sends a test to one destination, whatever kinds it asked for; returns the delivery, which is tried at once.

    Raises TenantNotFound, DestinationNotFound, or InvalidDestination while it is switched off.
    """
    with transaction.atomic():
        lock_tenant(tenant_id=tenant_id)
        found = get_destination(tenant_id=tenant_id, destination_id=destination_id)
        if not found.enabled:
            raise InvalidDestination([FieldError("enabled", "is false: switch the destination on first")])
        waiting = Delivery.objects.filter(
            destination=found, state=DeliveryState.PENDING, alert__kind="ping"
        ).count()
        if waiting >= PINGS_WAITING_MAX:
            raise InvalidDestination(
                [FieldError("ping", f"{waiting} tests are still under way; wait for them")]
            )
        shown = wire_id(found)
        ping = NewAlert(
            tenant_id=tenant_id,
            kind="ping",
            dedupe_key=f"ping:{uuid4()}",
            subject=shown,
            details={"actor": actor},
            silent=True,
        )
        # Silent: it is for this destination alone, so nobody else's delivery is made.
        (alert_id,) = raise_and_list(alerts=[ping], now=now)
        delivery = Delivery.objects.create(
            id=ids.new_uuid(now),
            tenant_id=tenant_id,
            alert=Alert.objects.get(pk=alert_id),
            destination=found,
            next_attempt_at=now,
            created_at=now,
        )
        _record(found, "ping", actor, now, after={"delivery": ids.encode(ids.DELIVERY, delivery.pk)})
        transaction.on_commit(hints.deliveries_wait, robust=True)
    return delivery


def switch_off(*, destination: Destination, because: DisabledBecause, now: datetime) -> None:
    """Switches a destination off by itself, and tells the tenant's other destinations. The tenant is locked."""
    before = _seen(destination)
    destination.enabled, destination.disabled_because = False, because
    destination.version += 1
    destination.updated_at = now
    destination.save()
    _cancel_pending(destination, now)
    _record(destination, "switch_off", "system", now, before=before, after=_seen(destination))
    raise_and_list(
        alerts=[
            NewAlert(
                tenant_id=destination.tenant_id,
                kind="destination_disabled",
                dedupe_key=f"destination_disabled:{destination.pk}:{destination.version}",
                subject=wire_id(destination),
                details={
                    "destination": destination.description or destination.place,
                    "reason": _REASONS[because],
                },
            )
        ],
        now=now,
    )


_REASONS = {
    DisabledBecause.PERSON: "somebody switched it off",
    DisabledBecause.GONE: "it answered 410 Gone",
    DisabledBecause.FAILING: "nothing got through for three days",
}


def get_destination(*, tenant_id: UUID, destination_id: UUID) -> Destination:
    """Returns a destination that was not removed. Raises DestinationNotFound."""
    found = Destination.objects.filter(tenant_id=tenant_id, pk=destination_id, removed_at=None).first()
    if found is None:
        raise DestinationNotFound(str(destination_id))
    return found


def _aim(destination: Destination, target: str) -> None:
    if destination.kind == DestinationKind.SLACK:
        destination.secret, destination.address = sealer().seal(target), shown_url(target)
    else:
        destination.address = target


def _moves(destination: Destination, target: str) -> bool:
    if destination.kind == DestinationKind.SLACK:
        return sealer().open(destination.secret) != target
    return destination.address != target


def _cancel_pending(destination: Destination, now: datetime) -> None:
    pending = Delivery.objects.filter(destination=destination, state=DeliveryState.PENDING)
    pending.update(state=DeliveryState.CANCELLED, finished_at=now)


def _record(
    destination: Destination,
    verb: str,
    actor: str,
    now: datetime,
    *,
    before: dict[str, Any] | None = None,
    after: dict[str, Any] | None = None,
) -> None:
    """Writes the audit log; the installation's own destinations belong to the settings and have none."""
    if destination.tenant_id is not None:
        audit.record(
            tenant_id=destination.tenant_id,
            actor=actor,
            action=f"destination.{verb}",
            object=wire_id(destination),
            before=before,
            after=after,
            now=now,
        )


def _target_field(kind: str) -> str:
    return "email" if kind == DestinationKind.EMAIL else "url"


def _target_errors(kind: str, target: str) -> list[FieldError]:
    field_name = _target_field(kind)
    try:
        if kind == DestinationKind.EMAIL:
            if len(target) > 254:
                raise ValidationError("too long")
            validate_email(target)
        else:
            parse(target, allow_private=settings.NOBURN_ALLOW_PRIVATE_WEBHOOKS)
    except ValidationError:
        return [FieldError(field_name, "must be an email address")]
    except Refused as refused:
        return [FieldError(field_name, str(refused))]
    return []


def _taken_errors(tenant_id: UUID, kind: str, target: str) -> list[FieldError]:
    """An e-mail address stands once: nobody reads the same message twice. URLs may differ in what they ask for."""
    present = Destination.objects.filter(tenant_id=tenant_id, removed_at=None)
    if kind == DestinationKind.EMAIL and present.filter(kind=kind, address=target).exists():
        return [FieldError("email", "hears of alerts already")]
    return []


def _kinds_errors(kinds: Sequence[str]) -> list[FieldError]:
    unknown = sorted(set(kinds) - set(CHOICES))
    if unknown:
        known = ", ".join(CHOICES)
        return [FieldError("alert_kinds", f"knows no {', '.join(unknown[:5])}; there are {known}")]
    return []


def _description_errors(text: str) -> list[FieldError]:
    if len(text) > DESCRIPTION_CHARACTERS_MAX or not text.isprintable():
        limit = DESCRIPTION_CHARACTERS_MAX
        return [FieldError("description", f"must be at most {limit} printable characters")]
    return []


def _sorted(kinds: Sequence[str]) -> list[str]:
    return [kind for kind in CHOICES if kind in kinds]


def _seen(destination: Destination) -> dict[str, Any]:
    """What the audit log shows of a destination."""
    until = destination.previous_secret_until
    return {
        "kind": destination.kind,
        "address": destination.place,
        "description": destination.description,
        "alert_kinds": list(destination.alert_kinds),
        "enabled": destination.enabled,
        "disabled_because": str(destination.disabled_because),
        "previous_secret_until": until.isoformat() if until else None,
    }
