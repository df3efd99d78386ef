"""Makes due deliveries: claims them by a lease, sends them side by side, and writes what became of each."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from datetime import datetime, timedelta
from uuid import UUID, uuid4

from django.db import transaction

from alerts.domain.retries import is_given_up, next_attempt_at
from alerts.models import (
    Attempt,
    Delivery,
    DeliveryState,
    Destination,
    DestinationKind,
    DisabledBecause,
)
from alerts.services import hints
from alerts.services.destinations import switch_off
from alerts.services.secrets import sealer
from alerts.services.sending import Message, Outcome, send
from alerts.stores import deliveries as store
from noburn.kit import ids
from noburn.kit.outgoing import Outgoing
from noburn.kit.problems import FieldError, Invalid, Missing
from noburn.kit.sealing import Unreadable
from tenants.services import audit
from tenants.services.tenants import lock_tenant

BATCH = 16
EACH_DESTINATION = 4
"""The most deliveries of a batch, and of one destination in it."""

LEASE = timedelta(seconds=60)
"""For how long a claimed delivery is nobody else's: several times what an attempt may take."""

KEEP_DELIVERIES = timedelta(days=90)
PRUNE_BATCH = 1_000
PRUNE_ROUNDS = 100

_chance = random.SystemRandom().random


class DeliveryNotFound(Missing):
    """The tenant has no such delivery."""


class InvalidReplay(Invalid):
    """A delivery that cannot be made again."""


def deliver_batch(
    *,
    now: datetime,
    batch: int = BATCH,
    outgoing: Outgoing | None = None,
    chance: Callable[[], float] = _chance,
) -> int:
    """Makes one attempt at each of up to `batch` due deliveries; returns how many it took. 0: none is due.

    Killed at any moment, it leaves nothing undone: what it had claimed comes due again when the lease ends, so that
    a receiver may get a message twice, under one id.
    """
    claim = uuid4()
    taken = store.claim(claim=claim, batch=batch, each=EACH_DESTINATION, now=now, lease=LEASE)
    if not taken:
        return 0
    found = list(Delivery.objects.filter(pk__in=taken).select_related("alert", "destination").order_by("pk"))
    messages: list[tuple[Delivery, Message]] = []
    for delivery in found:
        if not delivery.destination.enabled:
            _cancel(delivery, now)
            continue
        try:
            messages.append((delivery, _message(delivery, now)))
        except Unreadable as error:
            _finish(delivery, Outcome(ok=False, ms=0, error=str(error)), claim, now, chance())
    with ThreadPoolExecutor(max_workers=max(1, len(messages)), thread_name_prefix="deliver") as pool:
        under_way = {
            pool.submit(send, message, now=now, outgoing=outgoing): delivery for delivery, message in messages
        }
        # Each as soon as it is known: a slow one does not keep what the others did from being written.
        for done in as_completed(under_way):
            _finish(under_way[done], done.result(), claim, now, chance())
    return len(taken)


def replay(*, tenant_id: UUID, delivery_id: UUID, actor: str, now: datetime) -> Delivery:
    """Makes a delivery due again, whatever became of it, with all its attempts before it; the webhook-id stays.

    One that is under way is left alone. Raises TenantNotFound, DeliveryNotFound, or InvalidReplay when its
    destination is off or removed.
    """
    with transaction.atomic():
        lock_tenant(tenant_id=tenant_id)
        found = (
            Delivery.objects.select_for_update(of=("self",), no_key=True)
            .select_related("destination")
            .filter(tenant_id=tenant_id, pk=delivery_id)
            .first()
        )
        if found is None:
            raise DeliveryNotFound(str(delivery_id))
        if found.destination.removed_at is not None:
            raise InvalidReplay([FieldError("destination", "was removed")])
        if not found.destination.enabled:
            raise InvalidReplay([FieldError("destination", "is switched off; switch it on first")])
        if found.claim is not None and found.state == DeliveryState.PENDING and found.next_attempt_at > now:
            return found
        before = found.state
        found.state = DeliveryState.PENDING
        found.next_attempt_at, found.finished_at, found.tries, found.claim = now, None, 0, None
        found.save(update_fields=["state", "next_attempt_at", "finished_at", "tries", "claim"])
        audit.record(
            tenant_id=tenant_id,
            actor=actor,
            action="delivery.replay",
            object=ids.encode(ids.DELIVERY, found.pk),
            before={"state": before},
            after={"state": DeliveryState.PENDING.value},
            now=now,
        )
        transaction.on_commit(hints.deliveries_wait, robust=True)
    return found


def prune(*, now: datetime) -> int:
    """Deletes deliveries older than 90 days and alerts past their time, in small transactions; returns how many rows."""
    removed = 0
    for _ in range(PRUNE_ROUNDS):
        with transaction.atomic():
            gone = store.prune(deliveries_before=now - KEEP_DELIVERIES, now=now, batch=PRUNE_BATCH)
        removed += gone
        if not gone:
            break
    return removed


def _message(delivery: Delivery, now: datetime) -> Message:
    """All that the attempt needs. Raises Unreadable when the installation's keys are not those that sealed it."""
    alert, destination = delivery.alert, delivery.destination
    secrets = _secrets(destination, now)
    slack = destination.kind == DestinationKind.SLACK
    return Message(
        delivery_id=delivery.pk,
        attempt=delivery.attempts,
        alert_id=alert.pk,
        tenant_id=alert.tenant_id,
        destination_kind=destination.kind,
        target=secrets[0] if slack else destination.address,
        secrets=() if slack else secrets,
        alert_kind=alert.kind,
        severity=alert.severity,
        subject=alert.subject,
        details=alert.details,
        raised_at=alert.raised_at,
    )


def _secrets(destination: Destination, now: datetime) -> Sequence[str]:
    """The open secrets, the current one first, then the previous one while it is valid."""
    if not destination.secret:
        return ()
    sealed = [destination.secret]
    until = destination.previous_secret_until
    if destination.previous_secret and until is not None and now < until:
        sealed.append(destination.previous_secret)
    return [sealer().open(one) for one in sealed]


def _cancel(delivery: Delivery, now: datetime) -> None:
    """Ends a delivery whose destination was switched off after the alert had been raised."""
    with transaction.atomic():
        Delivery.objects.filter(pk=delivery.pk, state=DeliveryState.PENDING).update(
            state=DeliveryState.CANCELLED, finished_at=now, claim=None
        )
        Attempt.objects.filter(delivery=delivery, number=delivery.attempts).update(
            ended_at=now, error="not made: the destination is switched off"
        )


def _finish(delivery: Delivery, outcome: Outcome, claim: UUID, now: datetime, chance: float) -> None:
    """Writes what became of an attempt. Locks tenant, destination, delivery: in the order of everybody else."""
    ended_at = now + timedelta(milliseconds=outcome.ms)
    with transaction.atomic():
        if not outcome.ok and delivery.tenant_id is not None:
            lock_tenant(tenant_id=delivery.tenant_id)
        destination = Destination.objects.select_for_update(no_key=True).get(pk=delivery.destination_id)
        Attempt.objects.filter(delivery=delivery, number=delivery.attempts).update(
            ended_at=ended_at,
            ok=outcome.ok,
            status=outcome.status,
            ms=outcome.ms,
            error=outcome.error,
            excerpt=outcome.excerpt,
        )
        row = Delivery.objects.filter(pk=delivery.pk)
        if outcome.ok:
            # Also when the lease has ended: it did arrive, and need not go out again.
            row.update(state=DeliveryState.DELIVERED, finished_at=ended_at, claim=None)
            if destination.failures:
                destination.failures, destination.failing_since = 0, None
                destination.save(update_fields=["failures", "failing_since"])
            return
        again_at = next_attempt_at(
            failures=delivery.tries,
            now=ended_at,
            chance=chance,
            retry_after_seconds=outcome.retry_after_seconds,
        )
        mine = row.filter(claim=claim, state=DeliveryState.PENDING)
        if again_at is None or outcome.gone:
            mine.update(state=DeliveryState.FAILED, finished_at=ended_at, claim=None)
        else:
            mine.update(next_attempt_at=again_at, claim=None)
        _count_failure(destination, outcome, ended_at)


def _count_failure(destination: Destination, outcome: Outcome, now: datetime) -> None:
    destination.failures += 1
    destination.failing_since = destination.failing_since or now
    destination.save(update_fields=["failures", "failing_since"])
    # The installation's own stay on: who is to be told that nobody is told?
    if not destination.enabled or destination.tenant_id is None:
        return
    if outcome.gone:
        switch_off(destination=destination, because=DisabledBecause.GONE, now=now)
    elif is_given_up(failures=destination.failures, failing_since=destination.failing_since, now=now):
        switch_off(destination=destination, because=DisabledBecause.FAILING, now=now)
