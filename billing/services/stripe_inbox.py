"""The inbox of webhooks: verify, store, enqueue, mark handled. An event is stored once for its id."""

from __future__ import annotations

import json
import logging
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from django.conf import settings
from django.db import transaction

from alerts.services.secrets import sealer
from billing.domain.pushing import backoff_seconds
from billing.models import AccessMode, AccountState, EventState, StripeAccount, StripeEvent
from billing.services import hints
from billing.services.steps import reached
from billing.services.stripe_events import Happened, handlers_of
from billing.stores import due
from billing.stripe.webhooks import BadSignature, verify
from noburn.kit import ids
from noburn.kit.problems import Missing

__all__ = [
    "BODY_BYTES_MAX",
    "BadEvent",
    "BadSignature",
    "EndpointNotFound",
    "handle_batch",
    "prune",
    "receive",
]

log = logging.getLogger(__name__)

BODY_BYTES_MAX: Final = 256_000
PLATFORM: Final = "platform"
"""The name of the platform's endpoint: events of its own account, and of those connected to it."""

LEASE: Final = timedelta(minutes=5)
BATCH: Final = 50
TRIES_MAX: Final = 40
"""Tries of an event before it is given up: with the longest pauses about eight hours."""

KEEP: Final = timedelta(days=30)
PRUNE_BATCH: Final = 1_000
PRUNE_ROUNDS: Final = 100
_chance = random.SystemRandom().random


class EndpointNotFound(Missing):
    """There is no such endpoint, or its account is no longer connected."""


class BadEvent(ValueError):
    """A signed body that is no event of Stripe's."""


@dataclass(frozen=True, slots=True)
class _Read:
    id: str
    type: str
    livemode: bool
    happened_at: datetime
    account: str
    payload: dict[str, Any]


def receive(*, endpoint: str, body: bytes, signature: str, now: datetime) -> bool:
    """Takes one webhook in; returns whether it is new. Once it returns the event is stored: Stripe need not repeat it.

    Raises EndpointNotFound, BadSignature, BadEvent.
    """
    account: StripeAccount | None = None
    if endpoint == PLATFORM:
        secret = settings.STRIPE_PLATFORM_WEBHOOK_SECRET
        if not secret:
            raise EndpointNotFound(endpoint)
        verify(body=body, header=signature, secrets=[secret], now=now)
    else:
        account = _account(endpoint)
        secrets = [sealer().open(sealed) for sealed in account.webhook_secrets]
        verify(body=body, header=signature, secrets=secrets, now=now)
    event = _read(body)
    if account is None and event.account:
        account = (
            StripeAccount.objects.filter(account=event.account, mode=AccessMode.CONNECT)
            .exclude(state=AccountState.DISCONNECTED)
            .first()
        )
        if account is None:
            return False  # Of an account that is connected to the platform and no tenant's here.
    platform = account is None
    wanted = bool(handlers_of(event.type, platform=platform))
    with transaction.atomic():
        _, new = StripeEvent.objects.get_or_create(
            tenant=None if account is None else account.tenant,
            event_id=event.id,
            defaults={
                "id": ids.new_uuid(now),
                "type": event.type,
                "payload": event.payload if wanted else {},
                "livemode": event.livemode,
                "happened_at": event.happened_at,
                "received_at": now,
                "state": EventState.PENDING if wanted else EventState.IGNORED,
                "next_attempt_at": now,
                "handled_at": None if wanted else now,
            },
        )
        if new and wanted:
            hints.ask_for(hints.EVENTS)
    return new


def _account(endpoint: str) -> StripeAccount:
    try:
        wanted = ids.decode(ids.STRIPE_ACCOUNT, endpoint)
    except ids.BadId:
        raise EndpointNotFound(endpoint) from None
    found = StripeAccount.objects.filter(pk=wanted).exclude(state=AccountState.DISCONNECTED).first()
    if found is None or found.mode != AccessMode.KEY:
        raise EndpointNotFound(endpoint)
    return found


def _read(body: bytes) -> _Read:
    """Reads a snapshot event, or a thin one. Raises BadEvent."""
    try:
        told = json.loads(body)
    except (ValueError, RecursionError):
        raise BadEvent("the body is not JSON") from None
    if not isinstance(told, dict) or told.get("object") not in ("event", "v2.core.event"):
        raise BadEvent("the body is no event")
    name, type_ = told.get("id"), told.get("type")
    for value in (name, type_):
        if not isinstance(value, str) or not 1 <= len(value) <= 100 or not value.isprintable():
            raise BadEvent("the event has no id or no type")
    if "\\u0000" in json.dumps(told):
        raise BadEvent("the event holds a character that cannot be stored")
    account = told.get("account") or told.get("context") or ""
    return _Read(
        id=str(name),
        type=str(type_),
        livemode=bool(told.get("livemode")),
        happened_at=_moment(told.get("created")),
        account=account if isinstance(account, str) else "",
        payload=told,
    )


def _moment(created: Any) -> datetime:
    """Seconds in snapshot events, a text in thin ones. Raises BadEvent."""
    try:
        if isinstance(created, str):
            at = datetime.fromisoformat(created)
            return at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)
        return datetime.fromtimestamp(int(created), UTC)
    except (TypeError, ValueError, OverflowError, OSError):
        raise BadEvent("the event does not say when it happened") from None


def handle_batch(*, now: datetime, batch: int = BATCH, chance: Callable[[], float] = _chance) -> int:
    """Handles up to `batch` due events; returns how many it took. 0: none is due."""
    taken = 0
    for _ in range(batch):
        row = due.take(StripeEvent.objects.filter(state=EventState.PENDING), now=now, lease=LEASE)
        if row is None:
            return taken
        taken += 1
        _handle(row, now, chance())
    return taken


def _handle(row: StripeEvent, now: datetime, chance: float) -> None:
    pending = StripeEvent.objects.filter(pk=row.pk, state=EventState.PENDING)
    try:
        happened = _happened(row, now)
        for handler in handlers_of(row.type, platform=row.tenant_id is None):
            handler(happened)
            reached("handler done")
    except Exception as error:
        # Whatever it is, this event alone waits; Stripe will not send it again.
        log.warning("event %s (%s) was not handled: %s", row.event_id, row.type, type(error).__name__)
        text = f"{type(error).__name__}: {error}"[:300]
        if row.tries >= TRIES_MAX:
            pending.update(state=EventState.FAILED, handled_at=now, error=text)
        else:
            again_at = now + timedelta(seconds=backoff_seconds(tries=row.tries, chance=chance))
            pending.update(next_attempt_at=again_at, error=text)
        return
    pending.update(state=EventState.HANDLED, handled_at=now, error="")


def _happened(row: StripeEvent, now: datetime) -> Happened:
    payload: Mapping[str, Any] = row.payload
    about = (payload.get("data") or {}).get("object") or payload.get("related_object") or {}
    account = None if row.tenant_id is None else StripeAccount.objects.filter(tenant_id=row.tenant_id).first()
    return Happened(
        tenant_id=row.tenant_id,
        account=account,
        event_id=row.event_id,
        type=row.type,
        object=about if isinstance(about, Mapping) else {},
        happened_at=row.happened_at,
        now=now,
    )


def prune(*, now: datetime) -> int:
    """Deletes events that came more than 30 days ago, in small transactions; returns how many.

    A shorter time would not do: Stripe repeats one that it could not deliver for three days.
    """
    gone = 0
    for _ in range(PRUNE_ROUNDS):
        old = StripeEvent.objects.filter(received_at__lt=now - KEEP).exclude(state=EventState.PENDING)
        batch: list[UUID] = list(old.order_by("received_at").values_list("pk", flat=True)[:PRUNE_BATCH])
        if not batch:
            break
        gone += StripeEvent.objects.filter(pk__in=batch).delete()[0]
    return gone
