"""Re-ratings: what settled calls should have cost, previewed, and applied to the ledger as compensating entries.

Rules: docs/escrow.md, "Re-rating"; for its users: docs/rerating.md. Each step is one transaction that also writes
where it is, so a worker may be killed anywhere and two may run at once.
"""

from __future__ import annotations

import hashlib
import logging
import time
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

import msgspec
from django.db import connection, transaction

from budgets.domain.policy import PriceOverrideRule
from budgets.domain.pricing_overrides import TenantPrices
from budgets.domain.rerating import CALLS_MAX, DAYS_MAX, REASON_CHARS_MAX, LeftOut, repriced
from budgets.domain.usage import NAME_CHARS_MAX
from budgets.models import Rerating, ReratingState
from budgets.queries import reratings as seen
from budgets.services.policy import price_rules
from budgets.services.price_shelf import shelf
from budgets.services.prices import book_version
from budgets.stores.postgres import reratings as store
from budgets.stores.postgres.reratings import Item
from budgets.stores.redis.keys import shard_of
from noburn.kit import ids
from noburn.kit.money import to_usd
from noburn.kit.problems import FieldError, Invalid, Missing
from tenants.services import audit
from tenants.services.tenants import lock_tenant

log = logging.getLogger(__name__)

PREVIEW_CALLS: Final = 2_000
APPLY_CALLS: Final = 500
"""Calls of one step. A step of the application holds its counters' locks, which settlements wait for."""

PREVIEW_LIFE: Final = timedelta(days=1)
ITEMS_LIFE: Final = timedelta(days=7)
PRUNE_ROWS: Final = 5_000
PRUNE_STEPS_MAX: Final = 400
FILTERS: Final = ("provider", "model", "customer", "project")


class InvalidRerating(Invalid):
    """A period, filter or reason that cannot be; `errors` names every one."""


class ReratingNotFound(Missing):
    """The tenant has no such re-rating."""


class ReratingConflict(Exception):
    """It cannot be done as things stand; `changes` says what is in the way, or what changed since the preview."""

    def __init__(self, message: str, changes: tuple[FieldError, ...] = ()) -> None:
        super().__init__(message)
        self.changes = changes


@dataclass(frozen=True, kw_only=True)
class NewRerating:
    """Calls placed in [starts_at, ends_at) (None: until now), of a provider, model, customer and project where named.

    They are priced as though placed at `prices_at` (None: now), or with `as_placed` as when they were placed, by the
    book as it is now.
    """

    starts_at: datetime
    ends_at: datetime | None = None
    provider: str = ""
    model: str = ""
    customer: str = ""
    project: str = ""
    prices_at: datetime | None = None
    as_placed: bool = False
    reason: str

    def errors(self, now: datetime) -> list[FieldError]:
        """Returns everything that is wrong with it."""
        errors = []
        ends = self.ends_at or now
        if ends > now:
            errors.append(
                FieldError("ends_at", "must not be in the future: calls of that time can still come")
            )
        if self.starts_at >= ends:
            errors.append(FieldError("starts_at", "must be before ends_at"))
        elif ends - self.starts_at > timedelta(days=DAYS_MAX):
            errors.append(FieldError("starts_at", f"must be at most {DAYS_MAX} days before ends_at"))
        if self.prices_at is not None and self.as_placed:
            errors.append(FieldError("prices_at", "say either prices_at or as_placed"))
        elif self.prices_at is not None and self.prices_at > now:
            errors.append(FieldError("prices_at", "must not be in the future"))
        errors += [
            FieldError(name, f"must be at most {NAME_CHARS_MAX} printable characters")
            for name in FILTERS
            if len(getattr(self, name)) > NAME_CHARS_MAX or not (getattr(self, name) + " ").isprintable()
        ]
        if not 1 <= len(self.reason.strip()) <= REASON_CHARS_MAX or not self.reason.isprintable():
            errors.append(
                FieldError("reason", f"must be 1 to {REASON_CHARS_MAX} printable characters on one line")
            )
        return errors


def request_rerating(*, tenant_id: UUID, wanted: NewRerating, actor: str, now: datetime) -> Rerating:
    """Asks for a preview, which workers make. It replaces one that was made or asked for before and never applied.

    Raises TenantNotFound, InvalidRerating with every error, ReratingConflict while another one is being applied.
    """
    if errors := wanted.errors(now):
        raise InvalidRerating(errors)
    with transaction.atomic():
        lock_tenant(tenant_id=tenant_id)
        # Locked by hand, since a worker may be at it: it is waited for, at most a step.
        for earlier in Rerating.objects.select_for_update().filter(Rerating.OPEN, tenant_id=tenant_id):
            if earlier.state == ReratingState.APPLYING:
                raise ReratingConflict(
                    "Another re-rating is being applied.",
                    (
                        FieldError(
                            "state", f"{ids.encode(ids.RERATING, earlier.pk)} is not finished: wait for it"
                        ),
                    ),
                )
            _end(earlier, ReratingState.EXPIRED, "Another preview took its place.", now)
        row = Rerating.objects.create(
            id=ids.new_uuid(now),
            tenant_id=tenant_id,
            starts_at=wanted.starts_at,
            ends_at=wanted.ends_at or now,
            **{name: getattr(wanted, name) for name in FILTERS},
            prices_at=None if wanted.as_placed else wanted.prices_at or now,
            reason=wanted.reason.strip(),
            created_by=actor,
            created_at=now,
        )
        _record(row, "rerating.preview", actor, now, after={"reason": row.reason, **_asked(row)})
    return row


def apply_rerating(*, tenant_id: UUID, rerating_id: UUID, actor: str, now: datetime) -> Rerating:
    """Lets workers apply exactly what a preview showed. One that is being applied, or was, is returned as it is.

    Raises TenantNotFound, ReratingNotFound, and ReratingConflict where the preview is not there, or is no longer true:
    with what changed.
    """
    with transaction.atomic():
        lock_tenant(tenant_id=tenant_id)
        row = Rerating.objects.select_for_update().filter(tenant_id=tenant_id, pk=rerating_id).first()
        if row is None:
            raise ReratingNotFound(str(rerating_id))
        if row.state in (ReratingState.APPLYING, ReratingState.APPLIED):
            return row
        if row.state != ReratingState.PREVIEWED:
            told = row.failure or "the preview is still being made"
            raise ReratingConflict(
                "There is no preview to be applied.", (FieldError("state", f"is {row.state}: {told}"),)
            )
        if changes := _changes(row):
            raise ReratingConflict("Something changed since the preview: make another one.", changes)
        row.state, row.applied_by, row.applied_at = ReratingState.APPLYING, actor, now
        row.save(update_fields=["state", "applied_by", "applied_at"])
        figures = {
            "calls": row.changed_calls,
            "old_usd": to_usd(row.old_nano),
            "new_usd": to_usd(row.new_nano),
            "reason": row.reason,
        }
        _record(row, "rerating.apply", actor, now, after={**figures, **_asked(row)})
    return row


def _changes(row: Rerating) -> tuple[FieldError, ...]:
    changes = []
    if (version := book_version()) != row.book_version:
        changes.append(
            FieldError("book_version", f"the preview saw version {row.book_version}, now it is {version}")
        )
    if _digest_of(_rules(row)) != row.overrides_digest:
        changes.append(FieldError("price_overrides", "a negotiated price was added or ended"))
    calls, digest = seen.seen_now(row, limit=CALLS_MAX + 1)
    if calls != row.seen_calls:
        changes.append(FieldError("calls", f"the preview saw {row.seen_calls}, now there are {calls}"))
    elif digest != row.seen_digest:
        changes.append(FieldError("calls", "some were settled, corrected or re-rated since"))
    return tuple(changes)


@dataclass(frozen=True, slots=True)
class Worked:
    """What one run of `work` did: calls looked at, calls that got a new cost, re-ratings that came to an end."""

    seen: int
    applied: int
    ended: int


def work(*, now: datetime, seconds: float, rerating_id: UUID | None = None) -> Worked:
    """Goes on with what was asked for (one re-rating, or all, the oldest first) until nothing is left, or time is up."""
    until = time.monotonic() + seconds
    rows = Rerating.objects.filter(state__in=(ReratingState.PREVIEWING, ReratingState.APPLYING))
    if rerating_id is not None:
        rows = rows.filter(pk=rerating_id)
    looked = applied = ended = 0
    for pk, state in rows.order_by("created_at", "pk").values_list("pk", "state")[:1_000]:
        while time.monotonic() < until:
            if state == ReratingState.PREVIEWING:
                more, calls = preview_step(rerating_id=pk, now=now)
                looked += calls
            else:
                more, calls = apply_step(rerating_id=pk)
                applied += calls
            if not more:
                ended += 1
                break
    return Worked(looked, applied, ended)


def preview_step(*, rerating_id: UUID, now: datetime, limit: int = PREVIEW_CALLS) -> tuple[bool, int]:
    """Looks at the next calls; returns whether there are more, and how many it looked at.

    None, if somebody else is at it.
    """
    with transaction.atomic():
        row = (
            Rerating.objects.select_for_update(skip_locked=True)
            .filter(pk=rerating_id, state=ReratingState.PREVIEWING)
            .first()
        )
        if row is None:
            return False, 0
        after = (row.cursor_at, row.cursor_hold) if row.cursor_at and row.cursor_hold else None
        page = seen.calls(row, after=after, limit=limit)
        rules = _rules(row)
        digest = _digest_of(rules)
        prices = TenantPrices(rules)
        items: list[Item] = []
        with shelf.lock:
            book = shelf.book()
            if row.book_version is None:
                row.book_version, row.overrides_digest = book.version, digest
            if (row.book_version, row.overrides_digest) != (book.version, digest):
                _end(
                    row,
                    ReratingState.FAILED,
                    "Prices changed while the preview was made: ask for another.",
                    now,
                )
                return False, 0
            for call, month, customer, part in page.calls:
                row.seen_digest ^= part
                found = repriced(call, book=book, prices=prices, prices_at=row.prices_at)
                if isinstance(found, LeftOut):
                    so_far = row.left_out.setdefault(found.value, {"calls": 0, "cost_nano": 0})
                    so_far["calls"] += 1
                    so_far["cost_nano"] += call.cost_nano
                elif found.cost_nano == call.cost_nano:
                    row.unchanged_calls += 1
                else:
                    row.changed_calls += 1
                    row.old_nano += call.cost_nano
                    row.new_nano += found.cost_nano
                    items.append(
                        Item(
                            hold_id=call.hold_id,
                            placed_month=month,
                            revision=call.revision,
                            old_nano=call.cost_nano,
                            new_nano=found.cost_nano,
                            price_id=found.price_name,
                            provider=call.provider,
                            model=call.asked,
                            customer=customer,
                        )
                    )
        row.seen_calls += len(page.calls)
        if row.seen_calls > CALLS_MAX:
            _end(row, ReratingState.FAILED, f"More than {CALLS_MAX} calls: re-rate the period in parts.", now)
            return False, len(page.calls)
        if items:
            with connection.cursor() as cursor:
                store.add_items(cursor, tenant_id=row.tenant_id, rerating_id=row.pk, items=items)
        if page.last is not None:
            row.cursor_at, row.cursor_hold = page.last
        if not page.more:
            row.by_model, row.model_count = seen.differences(row, ("provider", "model"))
            row.by_customer, row.customer_count = seen.differences(row, ("customer",))
            row.state, row.previewed_at = ReratingState.PREVIEWED, now
        row.save()
        return page.more, len(page.calls)


def apply_step(*, rerating_id: UUID, limit: int = APPLY_CALLS) -> tuple[bool, int]:
    """Gives the next calls their new cost; returns whether there are more, and how many it was."""
    tenant_id = Rerating.objects.values_list("tenant_id", flat=True).get(pk=rerating_id)
    with transaction.atomic(), connection.cursor() as cursor:
        done = store.rerate(cursor, rerating_id=rerating_id, shard=shard_of(tenant_id), limit=limit)
    if done is None:
        return False, 0
    if done.moved:
        log.warning("re-rating %s: %d calls had moved and keep their cost", rerating_id, done.moved)
    return not done.done, done.calls


def prune(*, now: datetime) -> int:
    """Expires previews that nobody applied for a day, and deletes calls of what is long over; returns how many."""
    stale = Rerating.objects.filter(
        state__in=(ReratingState.PREVIEWED, ReratingState.PREVIEWING), created_at__lt=now - PREVIEW_LIFE
    )
    stale.update(state=ReratingState.EXPIRED, finished_at=now, failure="Nobody applied it within a day.")
    gone = 0
    for _ in range(PRUNE_STEPS_MAX):
        with connection.cursor() as cursor:
            deleted = store.prune_items(cursor, before=now - ITEMS_LIFE, limit=PRUNE_ROWS)
        gone += deleted
        if deleted < PRUNE_ROWS:
            break
    return gone


def _rules(row: Rerating) -> tuple[PriceOverrideRule, ...]:
    since = row.starts_at if row.prices_at is None else min(row.starts_at, row.prices_at)
    return price_rules(tenant_id=row.tenant_id, since=since)


def _digest_of(rules: tuple[PriceOverrideRule, ...]) -> str:
    return hashlib.sha256(msgspec.json.encode(rules)).hexdigest()


def _end(row: Rerating, state: ReratingState, why: str, now: datetime) -> None:
    row.state, row.failure, row.finished_at = state, why, now
    row.save(update_fields=["state", "failure", "finished_at"])


def _asked(row: Rerating) -> dict[str, Any]:
    """What the audit log shows of what was asked for."""
    return {
        "starts_at": row.starts_at.isoformat(),
        "ends_at": row.ends_at.isoformat(),
        "prices_at": row.prices_at.isoformat() if row.prices_at else "as placed",
        **{name: value for name in FILTERS if (value := getattr(row, name))},
    }


def _record(row: Rerating, action: str, actor: str, now: datetime, *, after: dict[str, Any]) -> None:
    audit.record(
        tenant_id=row.tenant_id,
        actor=actor,
        action=action,
        object=ids.encode(ids.RERATING, row.pk),
        after=after,
        now=now,
    )
