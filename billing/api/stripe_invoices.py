"""/v1/invoices, and those of a customer, as Stripe has them; credit notes; the door to Stripe's portal."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Final
from uuid import UUID

import django_filters
from django.db.models import QuerySet
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response

from billing.api.failures import stripe_may_fail
from billing.models import CreditNote, CreditNoteReason, CreditNoteState, StripeInvoice, StripeLink
from billing.services.credit_notes import NewCreditNote, credit
from billing.services.portal import open_portal
from noburn.kit import ids
from noburn.kit.problems import Missing
from noburn.kit.rest.fields import TimeField, WireIdField
from noburn.kit.rest.pages import read_page
from noburn.kit.rest.serializers import Representation, Strict
from noburn.kit.rest.tables import CSV_ROWS_MAX, CsvRenderer, plain
from tenants.api.base import TenantView
from tenants.domain.roles import Topic
from tenants.models import Customer

EXAMPLE: Final = {
    "id": "inv_01jd2c8vq6f5k9s0m3w7x4y1z2",
    "customer": "acme",
    "stripe_id": "in_1Qabcdefgh",
    "number": "ACME-0007",
    "status": "open",
    "currency": "usd",
    "total": 1250,
    "amount_due": 1250,
    "amount_paid": 0,
    "period_starts_at": "2026-10-01T00:00:00Z",
    "period_ends_at": "2026-11-01T00:00:00Z",
    "due_at": None,
    "hosted_url": "https://invoice.stripe.com/i/acct_1/test_1",
    "pdf_url": "https://pay.stripe.com/invoice/acct_1/test_1/pdf",
    "created_at": "2026-11-01T00:00:00Z",
    "seen_at": "2026-11-01T01:00:05Z",
}


class InvoiceOut(Representation):
    """An invoice as Stripe last told of it."""

    id = WireIdField(ids.INVOICE)
    customer = serializers.CharField(source="customer.external_id")
    stripe_id = serializers.CharField()
    number = serializers.CharField(allow_blank=True)
    status = serializers.CharField(help_text="draft, open, paid, uncollectible or void.")
    currency = serializers.CharField()
    total = serializers.IntegerField(help_text="In the smallest unit of the currency: cents.")
    amount_due = serializers.IntegerField()
    amount_paid = serializers.IntegerField()
    period_starts_at = TimeField(allow_null=True, help_text="Of the use that it bills for.")
    period_ends_at = TimeField(allow_null=True)
    due_at = TimeField(allow_null=True)
    hosted_url = serializers.CharField(help_text="Stripe's page of it, for the customer. Empty for a draft.")
    pdf_url = serializers.CharField()
    created_at = TimeField()
    seen_at = TimeField(help_text="When noburn last read it.")


class InvoiceFilters(django_filters.FilterSet):
    """Filters of the list."""

    customer = django_filters.CharFilter(field_name="customer__external_id", max_length=200)
    state = django_filters.CharFilter(
        field_name="status", max_length=32, help_text="draft, open, paid, uncollectible or void."
    )

    class Meta:
        model = StripeInvoice
        fields: ClassVar[list[str]] = ["customer", "state"]


COLUMNS: Final = tuple(
    name for name in map(str, InvoiceOut().fields) if name not in ("hosted_url", "pdf_url")
)


class _Listed(TenantView[StripeInvoice]):
    topic = Topic.BILLING
    queryset = StripeInvoice.objects.select_related("customer")
    representation = InvoiceOut
    filterset_class = InvoiceFilters
    renderer_classes = (JSONRenderer, CsvRenderer)

    def listed(self, request: Request, rows: QuerySet[StripeInvoice]) -> Response:
        """A page, or a table of up to CSV_ROWS_MAX rows."""
        if request.accepted_renderer.format != "csv":
            return self.page(rows)
        read_page(
            request.query_params, key=[UUID]
        )  # A table has no pages, but says what is wrong all the same.
        found = self.filter_queryset(rows).order_by("-pk")[:CSV_ROWS_MAX]
        shown = InvoiceOut(found, many=True, context=self.get_serializer_context()).data
        table = [list(COLUMNS), *([_cell(row[name]) for name in COLUMNS] for row in shown)]
        return Response(table)


def _cell(value: Any) -> Any:
    return plain(value) if isinstance(value, str) else value


def _list_schema(operation_id: str, summary: str) -> Any:
    return extend_schema(
        operation_id=operation_id,
        summary=summary,
        parameters=[
            OpenApiParameter(
                "format",
                str,
                description=f"`csv` for a table of up to {CSV_ROWS_MAX} rows, as does `Accept: text/csv`.",
                enum=["json", "csv"],
            )
        ],
        responses={(200, "application/json"): InvoiceOut(many=True), (200, "text/csv"): str},
        examples=[
            OpenApiExample("One invoice", value=EXAMPLE, response_only=True, media_type="application/json"),
            OpenApiExample(
                "As a table",
                value="id,customer,stripe_id,…\r\ninv_01jd2c8vq6f5k9s0m3w7x4y1z2,acme,in_1Qabcdefgh,…\r\n",
                response_only=True,
                media_type="text/csv",
            ),
        ],
    )


class Invoices(_Listed):
    """Invoices of the tenant's linked customers."""

    id_prefix = ids.INVOICE

    @_list_schema("listInvoices", "List invoices")
    def list(self, request: Request) -> Response:
        """Lists invoices of linked customers, with links to Stripe's pages of them."""
        return self.listed(request, self.get_queryset())

    @extend_schema(
        operation_id="getInvoice",
        summary="Get an invoice",
        responses={(200, "application/json"): InvoiceOut},
        examples=[
            OpenApiExample("The invoice", value=EXAMPLE, response_only=True, media_type="application/json")
        ],
    )
    def retrieve(self, request: Request, pk: str) -> Response:
        """Returns one invoice."""
        return self.answer(self.wanted(pk))


class CustomerInvoices(_Listed):
    """Invoices of one customer."""

    id_prefix = ids.CUSTOMER

    @_list_schema("listCustomerInvoices", "List a customer's invoices")
    def list(self, request: Request, pk: str) -> Response:
        """Lists one customer's invoices, with links to Stripe's pages of them."""
        wanted = self.path_id(pk)
        if not Customer.objects.filter(tenant_id=self.tenant_id, pk=wanted).exists():
            raise Missing(pk)
        return self.listed(request, self.get_queryset().filter(customer_id=wanted))


class PortalIn(Strict):
    """Where the customer comes back to."""

    return_url = serializers.URLField(max_length=2048, required=False)


class PortalOut(serializers.Serializer[Any]):
    """A session of Stripe's portal."""

    url = serializers.CharField(help_text="Send the customer there; it is good for some minutes.")


class Portal(TenantView[StripeLink]):
    """The door to Stripe's portal for one linked customer."""

    topic = Topic.BILLING
    id_prefix = ids.STRIPE_LINK
    queryset = StripeLink.objects.all()

    def _changing(self, handler: Callable[..., Response]) -> Callable[..., Response]:
        """Waits for Stripe, so it holds no lock; it changes nothing here, so a repeat may open another session."""

        def ask(request: Request, *args: Any, **kwargs: Any) -> Response:
            self._idempotency_key(request)
            return handler(request, *args, **kwargs)

        return ask

    @extend_schema(
        operation_id="openPortal",
        summary="Open Stripe's portal for a customer",
        request=PortalIn,
        responses={201: PortalOut},
        extensions={"x-problems": ["stripe-refused", "stripe-unavailable"]},
        examples=[
            OpenApiExample(
                "And back", value={"return_url": "https://app.example.com/billing"}, request_only=True
            ),
            OpenApiExample(
                "The session",
                value={"url": "https://billing.stripe.com/p/session/test_1"},
                response_only=True,
            ),
        ],
    )
    def create(self, request: Request, pk: str) -> Response:
        """Makes a session of Stripe's portal, where a linked customer pays and sees its invoices."""
        wanted = self.read(PortalIn)
        link = self.wanted(pk)
        with stripe_may_fail():
            url = open_portal(link=link, return_url=wanted.get("return_url", ""))
        return Response({"url": url}, status=201)


NOTE: Final = {
    "id": "crn_01jd2c8vq6f5k9s0m3w7x4y1z2",
    "invoice": "inv_01jd2c8vq6f5k9s0m3w7x4y1z2",
    "amount": 500,
    "currency": "usd",
    "reason": "product_unsatisfactory",
    "memo": "an outage on the 3rd",
    "refund": False,
    "state": "issued",
    "number": "ACME-0007-CN-01",
    "stripe_id": "cn_1Qabcdefgh",
    "problem": None,
    "created_by": "user:mem_01jd2c8vq6f5k9s0m3w7x4y1z2",
    "created_at": "2026-11-22T12:00:00Z",
}


class CreditNoteOut(Representation):
    """A credit note."""

    id = WireIdField(ids.CREDIT_NOTE)
    invoice = WireIdField(ids.INVOICE, source="invoice_id")
    amount = serializers.IntegerField(help_text="In the smallest unit of the currency: cents.")
    currency = serializers.CharField(source="invoice.currency")
    reason = serializers.ChoiceField(choices=CreditNoteReason.values)
    memo = serializers.CharField()
    refund = serializers.BooleanField()
    state = serializers.ChoiceField(choices=CreditNoteState.values)
    number = serializers.SerializerMethodField(help_text="Stripe's, once it is issued.")
    stripe_id = serializers.SerializerMethodField()
    problem = serializers.SerializerMethodField(help_text="Why it was refused, or has to wait.")
    created_by = serializers.CharField()
    created_at = TimeField()

    def get_number(self, row: CreditNote) -> str | None:
        """None, until it is issued."""
        return row.number or None

    def get_stripe_id(self, row: CreditNote) -> str | None:
        """None, until it is issued."""
        return row.stripe_id or None

    def get_problem(self, row: CreditNote) -> str | None:
        """None, when all is well."""
        return row.problem or None


class CreditNoteIn(Strict):
    """A credit note to be issued."""

    amount = serializers.IntegerField(min_value=1, help_text="In the smallest unit of the currency: cents.")
    reason = serializers.ChoiceField(choices=CreditNoteReason.values)
    memo = serializers.CharField(max_length=300, required=False, allow_blank=True)
    refund = serializers.BooleanField(
        required=False, help_text="Of a paid invoice: back to where it came from, not to the balance."
    )


class CreditNotes(TenantView[CreditNote]):
    """Credit notes on one invoice."""

    topic = Topic.BILLING
    id_prefix = ids.INVOICE
    queryset = CreditNote.objects.select_related("invoice")
    representation = CreditNoteOut

    @extend_schema(
        operation_id="listCreditNotes",
        summary="List an invoice's credit notes",
        responses=CreditNoteOut(many=True),
        examples=[OpenApiExample("One credit note", value=NOTE, response_only=True)],
    )
    def list(self, request: Request, pk: str) -> Response:
        """Lists credit notes that were asked for here; others at Stripe are not shown."""
        return self.page(self.get_queryset().filter(invoice=self._invoice(pk)))

    @extend_schema(
        operation_id="createCreditNote",
        summary="Credit an invoice",
        request=CreditNoteIn,
        responses={201: CreditNoteOut},
        examples=[
            OpenApiExample(
                "Five dollars",
                value={"amount": 500, "reason": "product_unsatisfactory", "memo": "an outage on the 3rd"},
                request_only=True,
            ),
            OpenApiExample(
                "It is being issued",
                value={**NOTE, "state": "pending", "number": None, "stripe_id": None},
                response_only=True,
            ),
        ],
    )
    def create(self, request: Request, pk: str) -> Response:
        """Credits up to what is left of an invoice. Workers issue it at Stripe, once."""
        wanted = NewCreditNote(**self.read(CreditNoteIn))
        made = credit(
            tenant_id=self.tenant_id,
            invoice_id=self._invoice(pk).pk,
            wanted=wanted,
            actor=self.actor,
            now=self.now,
        )
        return self.answer(made, 201)

    def _invoice(self, pk: str) -> StripeInvoice:
        found = StripeInvoice.objects.filter(tenant_id=self.tenant_id, pk=self.path_id(pk)).first()
        if found is None:
            raise Missing(pk)
        return found
