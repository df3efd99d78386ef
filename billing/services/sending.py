"""The rules by which an outbox is sent, whoever's it is: customers' measurements, and requests by noburn's own plans.

A row says that it may have been sent before it is; the identical request is repeated for 23 hours; what nobody answered
by then is looked up in Stripe's summaries, once what may have arrived is counted there. ADR 0036. What follows for the
account, and who hears of it, is its owner's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Generic, TypeVar
from uuid import UUID

from django.db import transaction

from billing.domain.pushing import COUNTED_AFTER, MINUTE, PAST_MAX, backoff_seconds, may_repeat
from billing.domain.sink import (
    AlreadyTaken,
    Parcel,
    SinkBusy,
    SinkError,
    SinkUnauthorized,
    SinkUnavailable,
    UsageSink,
)
from billing.models import MeasurementState, Sendable
from billing.services.steps import reached

R = TypeVar("R", bound=Sendable)

LEASE: Final = timedelta(seconds=90)
"""For how long a row that is being sent is not due: several times what a request may take."""

ASK_AGAIN: Final = timedelta(minutes=5)
"""How soon Stripe is asked again what it counted, when it did not say."""

CHECKING: Final = "checking"
TOO_OLD: Final = "its moment is longer ago than Stripe takes; it is told anew"
EXPIRED: Final = "Stripe did not get it in a day; it is told anew"


@dataclass(frozen=True, kw_only=True)
class Outbox(Generic[R]):
    """One kind of rows. `anew` has the amount of an abandoned row told again, `tell` tells somebody what is wrong."""

    rows: type[R]
    parcel_of: Callable[[R], Parcel]
    unit: str
    anew: Callable[[R, datetime], None]
    tell: Callable[[R, str, datetime], None]

    def mark(self, *, wanted: Sequence[UUID], now: datetime) -> tuple[list[R], list[R]]:
        """Notes what is about to be sent before it is; returns what to send, and what to look for at Stripe instead."""
        to_send: list[R] = []
        to_check: list[R] = []
        with transaction.atomic():
            rows = self.rows._default_manager.select_for_update().filter(
                pk__in=wanted, state=MeasurementState.PENDING, next_attempt_at__lte=now
            )
            for row in rows.order_by("pk"):
                if not may_repeat(first_sent_at=row.first_sent_at, now=now):
                    if row.outcome == CHECKING:
                        to_check.append(row)
                    else:
                        # The last attempt may have been a moment ago, and what arrived is counted later.
                        row.outcome, row.next_attempt_at = CHECKING, now + COUNTED_AFTER
                        row.save(update_fields=["outcome", "next_attempt_at"])
                    continue
                if row.first_sent_at is None and now - row.at > PAST_MAX:
                    self._abandon(row, "too old", TOO_OLD, now)
                    continue
                row.first_sent_at = row.first_sent_at or now
                row.tries += 1
                row.next_attempt_at = now + LEASE
                row.save(update_fields=["first_sent_at", "tries", "next_attempt_at"])
                to_send.append(row)
        return to_send, to_check

    def write(self, *, row: R, error: SinkError | None, now: datetime, chance: float) -> None:
        """Writes what became of an attempt."""
        again_at = now + timedelta(seconds=backoff_seconds(tries=row.tries, chance=chance))
        # Surely not taken: the day in which it may be repeated has not begun by this attempt.
        begun = {} if row.tries > 1 else {"first_sent_at": None}
        match error:
            case None | AlreadyTaken():
                # Taken by an earlier attempt whose answer was lost, or by this one.
                self._end(row, MeasurementState.DELIVERED, "taken" if error is None else "duplicate", "", now)
            case SinkUnavailable():
                self._again(row, again_at, error)
            case SinkBusy():
                asked = timedelta(seconds=error.retry_after_seconds or 0)
                self._again(row, max(again_at, now + asked), error, **begun)
            case SinkUnauthorized():
                self._again(row, again_at, error, **begun)
            case _:
                self.fail(row=row, outcome="refused", reason=str(error), now=now)

    def check(self, *, sink: UsageSink, meter_id: str, row: R, now: datetime) -> None:
        """Finds out whether a row that may no longer be repeated arrived: it has a minute of its own in summaries.

        Raises SinkUnauthorized.
        """
        parcel = self.parcel_of(row)
        try:
            counted = sink.measured(
                meter_id=meter_id, customer=parcel.customer, starts_at=parcel.at, until=parcel.at + MINUTE
            )
        except SinkUnauthorized:
            raise
        except SinkError as error:
            self._again(row, now + ASK_AGAIN, error)
            return
        reached("checked")
        if counted == parcel.value_micro:
            self._end(row, MeasurementState.DELIVERED, "summary", "", now)
        elif counted == 0:
            self._abandon(row, "expired", EXPIRED, now)
        else:
            reason = f"Stripe counted {counted} {self.unit} in its minute, not {parcel.value_micro}"
            with transaction.atomic():
                if self._end(row, MeasurementState.UNCLEAR, "unclear", reason, now):
                    self.tell(row, reason, now)

    def fail(self, *, row: R, outcome: str, reason: str, now: datetime) -> bool:
        """Marks a row that Stripe did not take, and tells of it; returns whether it was not so marked before."""
        with transaction.atomic():
            changed = self.rows._default_manager.filter(
                pk=row.pk, state__in=[MeasurementState.PENDING, MeasurementState.DELIVERED]
            ).update(state=MeasurementState.FAILED, finished_at=now, outcome=outcome, error=reason[:300])
            if changed:
                self.tell(row, reason, now)
        return bool(changed)

    def _abandon(self, row: R, outcome: str, reason: str, now: datetime) -> None:
        """Takes a row that Stripe surely does not have out of the sum: the next freeze tells its amount anew."""
        self._end(row, MeasurementState.ABANDONED, outcome, reason, now)
        self.anew(row, now)

    def _end(self, row: R, state: MeasurementState, outcome: str, error: str, now: datetime) -> int:
        return self.rows._default_manager.filter(pk=row.pk, state=MeasurementState.PENDING).update(
            state=state, finished_at=now, outcome=outcome, error=error[:300]
        )

    def _again(self, row: R, at: datetime, error: SinkError, **more: None) -> None:
        self.rows._default_manager.filter(pk=row.pk, state=MeasurementState.PENDING).update(
            next_attempt_at=at, error=str(error)[:300], **more
        )
