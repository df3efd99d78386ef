"""A seller in the double: a meter, a price on it, customers with cards. What tests begin with."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, cast

from tests.doubles.stripe.double import KEY, StripeDouble

START = datetime(2026, 1, 1, tzinfo=UTC)
EVENT = "noburn_micro_usd"


class Shop:
    """One account with cost-plus's one meter: micro-USD at 0.0001 cents."""

    def __init__(self, double: StripeDouble, key: str = KEY) -> None:
        self.double = double
        self.key = key
        self.client = double.client(key)
        # Any: the client's types want Decimals and every word of every parameter.
        self.v1 = cast(Any, self.client.v1)
        self.meter = self.v1.billing.meters.create(
            {"display_name": "LLM", "event_name": EVENT, "default_aggregation": {"formula": "sum"}}
        )
        self.product = self.v1.products.create({"name": "LLM use"})
        self.price = self.v1.prices.create(
            {
                "currency": "usd",
                "product": self.product.id,
                "unit_amount_decimal": "0.0001",
                "recurring": {"interval": "month", "usage_type": "metered", "meter": self.meter.id},
            }
        )

    def flat(self, cents: int, **more: Any) -> Any:
        """Makes a monthly price of so many cents."""
        recurring: Any = {"interval": "month"}
        return self.v1.prices.create(
            {
                "currency": "usd",
                "product": self.product.id,
                "unit_amount": cents,
                "recurring": recurring,
                **more,
            }
        )

    def customer(self, name: str = "acme", card: str | None = "pm_card_visa") -> Any:
        """Makes a customer who pays with a card, or has none."""
        made = self.v1.customers.create({"name": name, "metadata": {"noburn_customer": name}})
        if card is not None:
            method = self.v1.payment_methods.attach(card, {"customer": made.id})
            self.v1.customers.update(made.id, {"invoice_settings": {"default_payment_method": method.id}})
        return made

    def subscribe(self, customer: str, *prices: str, **more: Any) -> Any:
        """Starts a subscription; to the metered price unless others are named."""
        items: Any = [{"price": each} for each in prices or (self.price.id,)]
        return self.v1.subscriptions.create({"customer": customer, "items": items, **more})

    def use(
        self,
        customer: str,
        value: int | str,
        identifier: str | None = None,
        at: datetime | None = None,
        **more: Any,
    ) -> Any:
        """Sends a meter event."""
        params: Any = {"event_name": EVENT, "payload": {"stripe_customer_id": customer, "value": str(value)}}
        if identifier is not None:
            params["identifier"] = identifier
        if at is not None:
            params["timestamp"] = int(at.timestamp())
        options: Any = {"idempotency_key": more["key"]} if "key" in more else {}
        return self.v1.billing.meter_events.create(params, options)

    def used(self, customer: str, start: datetime, end: datetime) -> int:
        """What the summaries say of a time."""
        span = {"start_time": int(start.timestamp()), "end_time": int(end.timestamp())}
        found = self.v1.billing.meters.event_summaries.list(self.meter.id, {"customer": customer, **span})
        return int(sum(each.aggregated_value for each in found.data))

    def invoices(self, customer: str) -> list[dict[str, Any]]:
        """A customer's invoices, oldest first."""
        return [each for each in self.double.objects("invoice", key=self.key) if each["customer"] == customer]
