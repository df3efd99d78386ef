"""Meter events and what they add up to: Stripe as the sink of measurements."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Final, cast

from billing.domain.sink import Parcel, SinkRefused
from billing.stripe.client import StripeAccess, client_for, plain, translated

PAGE: Final = 100
PAGES_MAX: Final = 50
SAMPLES_MAX: Final = 200


@dataclass(frozen=True, slots=True)
class StripeSink:
    """One account. The client repeats nothing here: the outbox decides what may be repeated, and when."""

    access: StripeAccess

    def push(self, parcel: Parcel) -> None:
        """See UsageSink."""
        with translated():
            client_for(self.access, retries=0).v1.billing.meter_events.create(
                {
                    "event_name": parcel.meter_event,
                    "identifier": parcel.key,
                    "timestamp": int(parcel.at.timestamp()),
                    "payload": {
                        "stripe_customer_id": parcel.customer,
                        "value": str(parcel.value_micro),
                    },
                },
                {"idempotency_key": parcel.key},
            )

    def measured(self, *, meter_id: str, customer: str, starts_at: datetime, until: datetime) -> int:
        """See UsageSink."""
        client, total = client_for(self.access), 0
        params: dict[str, Any] = {
            "customer": customer,
            "start_time": int(starts_at.timestamp()),
            "end_time": int(until.timestamp()),
            "limit": PAGE,
        }
        for _ in range(PAGES_MAX):
            with translated():
                page = client.v1.billing.meters.event_summaries.list(meter_id, cast(Any, params))
            total += sum(_whole(row.aggregated_value) for row in page.data)
            if not page.has_more or not page.data:
                return total
            params = {**params, "starting_after": page.data[-1].id}
        raise SinkRefused(f"more than {PAGE * PAGES_MAX} summaries")


def _whole(value: Any) -> int:
    """Summaries are numbers of JSON: exact as long as they are whole and below 2**53."""
    exact = Decimal(str(value))
    if exact != exact.to_integral_value() or abs(exact) > 2**53:
        raise SinkRefused(f"a summary of {exact} is no whole number of micro-USD")
    return int(exact)


@dataclass(frozen=True, slots=True)
class MeterError:
    """One sample of what a meter did not take. `key` is the idempotency key of the request."""

    key: str
    code: str
    message: str


def meter_errors(access: StripeAccess, *, event_id: str) -> list[MeterError]:
    """The samples of a thin event's error report, fetched from Stripe. Raises SinkError."""
    with translated():
        event = plain(client_for(access).v2.core.events.retrieve(event_id))
    return list(_samples(event))[:SAMPLES_MAX]


def _samples(event: dict[str, Any]) -> Iterator[MeterError]:
    reason = (event.get("data") or {}).get("reason") or {}
    for kind in reason.get("error_types") or []:
        for sample in kind.get("sample_errors") or []:
            yield MeterError(
                key=str((sample.get("request") or {}).get("identifier") or ""),
                code=str(kind.get("code") or ""),
                message=" ".join(str(sample.get("error_message") or "").split())[:300],
            )
