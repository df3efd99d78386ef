"""Invoices, credit notes and the portal in an account."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, cast

from billing.domain.sink import SinkRefused
from billing.stripe.client import StripeAccess, client_for, plain, translated
from billing.stripe.customers import moment

PAGE: Final = 100
LINE_PAGES_MAX: Final = 20
INVOICES_MAX: Final = 100


@dataclass(frozen=True, slots=True)
class InvoiceSeen:
    """An invoice as Stripe has it now. `usage_micro` is what its lines of our price count; None: it has none.

    `period_ends_at` is where the use that it bills for ends.
    """

    id: str
    customer: str
    number: str
    status: str
    billing_reason: str
    subscription: str
    currency: str
    total: int
    amount_due: int
    amount_paid: int
    attempts: int
    usage_micro: int | None
    period_starts_at: datetime | None
    period_ends_at: datetime | None
    finalized_at: datetime | None
    due_at: datetime | None
    hosted_url: str
    pdf_url: str
    created_at: datetime


def read_invoice(access: StripeAccess, *, invoice: str, price_id: str) -> InvoiceSeen:
    """An invoice with what it counts of our price. Raises SinkError."""
    with translated():
        row = plain(client_for(access).v1.invoices.retrieve(invoice))
    return _seen(access, row, price_id)


def list_invoices(access: StripeAccess, *, customer: str, price_id: str) -> list[InvoiceSeen]:
    """A customer's latest invoices, newest first, INVOICES_MAX at most. Raises SinkError."""
    with translated():
        page = client_for(access).v1.invoices.list({"customer": customer, "limit": INVOICES_MAX})
    return [_seen(access, plain(row), price_id) for row in page.data]


def _seen(access: StripeAccess, row: dict[str, Any], price_id: str) -> InvoiceSeen:
    ours = [line for line in _lines(access, row) if _price(line) == price_id]
    parent = (row.get("parent") or {}).get("subscription_details") or {}
    transitions = row.get("status_transitions") or {}
    return InvoiceSeen(
        id=row["id"],
        customer=_id(row.get("customer")),
        number=row.get("number") or "",
        status=row.get("status") or "",
        billing_reason=row.get("billing_reason") or "",
        subscription=_id(parent.get("subscription")),
        currency=row["currency"],
        total=row["total"],
        amount_due=row["amount_due"],
        amount_paid=row["amount_paid"],
        attempts=row.get("attempt_count") or 0,
        usage_micro=sum(_quantity(line) for line in ours) if ours else None,
        period_starts_at=min((moment(line["period"]["start"]) for line in ours), default=None),
        period_ends_at=max((moment(line["period"]["end"]) for line in ours), default=None),
        finalized_at=_maybe(transitions.get("finalized_at")),
        due_at=_maybe(row.get("due_date")),
        hosted_url=row.get("hosted_invoice_url") or "",
        pdf_url=row.get("invoice_pdf") or "",
        created_at=moment(row["created"]),
    )


def _lines(access: StripeAccess, row: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """All lines: the first ones come with the invoice, the others are asked for."""
    lines = row.get("lines") or {}
    data = lines.get("data") or []
    yield from data
    for _ in range(LINE_PAGES_MAX):
        if not lines.get("has_more") or not data:
            return
        with translated():
            page = client_for(access).v1.invoices.line_items.list(
                row["id"], cast(Any, {"limit": PAGE, "starting_after": data[-1]["id"]})
            )
        lines = plain(page)
        data = lines["data"]
        yield from data
    raise SinkRefused(f"{row['id']} has more than {PAGE * LINE_PAGES_MAX} lines")


def _price(line: dict[str, Any]) -> str:
    return _id(((line.get("pricing") or {}).get("price_details") or {}).get("price"))


def _quantity(line: dict[str, Any]) -> int:
    return int(line.get("quantity") or 0)


def _id(value: Any) -> str:
    return str(value["id"]) if isinstance(value, dict) else str(value or "")


def _maybe(seconds: Any) -> datetime | None:
    return None if seconds is None else moment(seconds)


@dataclass(frozen=True, slots=True)
class Credited:
    """A credit note that was issued."""

    id: str
    number: str


def create_credit_note(
    access: StripeAccess,
    *,
    invoice: str,
    paid: bool,
    amount: int,
    refund: bool,
    reason: str,
    memo: str,
    key: str,
) -> Credited:
    """Gives so much of an invoice back: off what is due, or of a paid one to the balance, or as a refund.

    Raises SinkError, SinkRefused where Stripe allows less.
    """
    params: dict[str, Any] = {"invoice": invoice, "amount": amount, "reason": reason}
    if paid:
        params["refund_amount" if refund else "credit_amount"] = amount
    if memo:
        params["memo"] = memo
    with translated():
        made = plain(client_for(access).v1.credit_notes.create(cast(Any, params), {"idempotency_key": key}))
    return Credited(id=made["id"], number=made.get("number") or "")


def portal_url(access: StripeAccess, *, customer: str, return_url: str) -> str:
    """The address of a new session of Stripe's portal, good for minutes. Raises SinkError."""
    params: dict[str, Any] = {"customer": customer}
    if return_url:
        params["return_url"] = return_url
    with translated():
        return client_for(access, retries=1).v1.billing_portal.sessions.create(cast(Any, params)).url
