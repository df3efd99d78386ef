"""Invoices as Stripe last told of them, and credit notes on them."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Final

from django import forms
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse

from billing.dashboard.base import BillingPage
from billing.models import CreditNote, CreditNoteReason, StripeInvoice
from billing.services.credit_notes import InvoiceNotFound, NewCreditNote, credit
from billing.services.stripe_access import NotConnected
from noburn.dashboard.exports import export
from noburn.dashboard.forms import PageForm
from noburn.dashboard.paths import path_id
from noburn.dashboard.tables import Column, table_of
from noburn.kit import ids
from noburn.kit.problems import Invalid

STATUSES: Final = ("draft", "open", "paid", "uncollectible", "void")
COLUMNS = (
    Column("made", "Made", sort="pk"),
    Column("customer", "Customer"),
    Column("number", "Number"),
    Column("total", "Total", numeric=True),
    Column("due", "Due", numeric=True),
    Column("status", "State"),
)


def money(amount: int, currency: str) -> str:
    """An amount of Stripe's for people; only USD is billed, others may be there all the same."""
    sign, cents = ("-" if amount < 0 else ""), abs(amount)
    if currency == "usd":
        return f"{sign}${cents // 100:,}.{cents % 100:02d}"
    return f"{sign}{cents:,} {currency.upper()} (smallest unit)"


class CreditNoteForm(PageForm):
    """How much is given back, and why."""

    amount = forms.DecimalField(
        label="Amount, USD",
        min_value=Decimal("0.01"),
        max_digits=12,
        decimal_places=2,
        help_text="Up to what is left.",
    )
    reason = forms.ChoiceField(choices=[(value, label) for value, label in CreditNoteReason.choices])
    memo = forms.CharField(required=False, max_length=300, help_text="Stands on the credit note.")
    refund = forms.BooleanField(
        required=False,
        label="Refund it",
        help_text="Of a paid invoice: back to where it came from, and not to the customer's balance.",
    )


class Invoices(BillingPage):
    """Invoices of linked customers."""

    tab = "invoices"
    title = "Invoices"
    template_name = "billing/invoices.html"
    partials = {"invoice-rows": "billing/_invoice_rows.html"}

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """The page, or its rows as a file."""
        if form := request.GET.get("format"):
            return export(
                form,
                name=f"{self.tenant.slug}-invoices",
                columns=[
                    "id",
                    "customer",
                    "stripe_id",
                    "number",
                    "status",
                    "currency",
                    "total",
                    "due",
                    "paid",
                    "made",
                ],
                rows=(
                    [
                        ids.encode(ids.INVOICE, row.pk),
                        row.customer.external_id,
                        row.stripe_id,
                        row.number or None,
                        row.status,
                        row.currency,
                        row.total,
                        row.amount_due,
                        row.amount_paid,
                        row.created_at.isoformat(),
                    ]
                    for row in self._rows().order_by("-pk").iterator(chunk_size=1_000)
                ),
            )
        return self.show()

    def _rows(self) -> QuerySet[StripeInvoice]:
        rows = StripeInvoice.objects.filter(tenant_id=self.tenant_id).select_related("customer")
        if (status := self.request.GET.get("status", "")) in STATUSES:
            rows = rows.filter(status=status)
        if customer := self.request.GET.get("customer", "").replace("\x00", "")[:200]:
            rows = rows.filter(customer__external_id=customer)
        return rows

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """One page of invoices."""
        table = table_of(self._rows(), self.request.GET, columns=COLUMNS, sort="-made")
        return {
            **super().get_context_data(**kwargs),
            "table": table,
            "rows": [
                (
                    row,
                    ids.encode(ids.INVOICE, row.pk),
                    money(row.total, row.currency),
                    money(row.amount_due - row.amount_paid, row.currency),
                )
                for row in table.rows
            ],
            "statuses": STATUSES,
            "filters": {name: self.request.GET.get(name, "") for name in ("status", "customer")},
        }


class OneInvoice(BillingPage):
    """One invoice with its credit notes; POST makes another one."""

    tab = "invoices"
    template_name = "billing/invoice.html"

    def _invoice(self) -> StripeInvoice:
        wanted = path_id(self.kwargs["inv"], ids.INVOICE)
        found = (
            StripeInvoice.objects.select_related("customer")
            .filter(tenant_id=self.tenant_id, pk=wanted)
            .first()
        )
        if found is None:
            raise InvoiceNotFound(self.kwargs["inv"])
        return found

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """The invoice, in words."""
        row = self._invoice()
        notes = CreditNote.objects.filter(tenant_id=self.tenant_id, invoice=row).order_by("-pk")[:100]
        return {
            "form": CreditNoteForm(),
            **super().get_context_data(**kwargs),
            "title": f"Invoice {row.number or row.stripe_id}",
            "invoice": row,
            "total": money(row.total, row.currency),
            "due": money(row.amount_due, row.currency),
            "paid": money(row.amount_paid, row.currency),
            "notes": [(note, money(note.amount, row.currency)) for note in notes],
            "can_credit": row.status in ("open", "paid"),
        }

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Notes a credit note, which workers issue."""
        row, form = self._invoice(), CreditNoteForm(request.POST)
        if form.is_valid():
            given = form.cleaned_data
            try:
                credit(
                    tenant_id=self.tenant_id,
                    invoice_id=row.pk,
                    wanted=NewCreditNote(**{**given, "amount": int(given["amount"] * 100)}),
                    actor=self.actor,
                    now=self.now,
                )
            except NotConnected:
                form.add_error(None, "Stripe is not connected any more.")
            except Invalid as invalid:
                form.take(invalid)
            else:
                return self.go("invoice", inv=self.kwargs["inv"], say="The credit note is being issued.")
        return self.show(form=form, status=400)
