"""/v1/revenue: what each customer's use earned and cost, the losing ones first."""

from __future__ import annotations

from typing import Any, Final

from drf_spectacular.utils import OpenApiExample, OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response

from billing.api.periods import NAMES, PARAMETERS, name_of, named_as_asked, read_period
from billing.services.revenue import CustomerEarned, revenue
from noburn.kit.money import divide_even
from noburn.kit.rest.fields import TimeField, UsdField
from noburn.kit.rest.filters import COMMON, require_known
from noburn.kit.rest.pages import cut, read_page
from noburn.kit.rest.serializers import Representation, read_fields
from noburn.kit.rest.tables import CSV_ROWS_MAX, NEXT_CURSOR_HEADER, CsvRenderer, plain
from tenants.api.base import TenantView
from tenants.domain.roles import Topic
from tenants.models import Tenant

FIGURES: Final = {
    "revenue_usd": "120",
    "cost_usd": "100",
    "margin_usd": "20",
    "margin_percent": "16.67",
    "presumed_usd": "0.5",
}
EXAMPLE: Final = {
    "starts_at": "2026-11-01T00:00:00Z",
    "ends_at": "2026-11-22T13:00:00Z",
    "complete_through": "2026-11-22T12:09:58.120000Z",
    "customers": 1,
    "totals": FIGURES,
    "items": [{"customer": "acme", **FIGURES}],
    "next_cursor": None,
}


class _Earned(Representation):
    """What use earned and cost."""

    revenue_usd = UsdField(source="revenue_nano", allow_negative=True)
    cost_usd = UsdField(source="cost_nano")
    margin_usd = UsdField(source="margin_nano", allow_negative=True)
    margin_percent = serializers.CharField(
        allow_null=True, help_text="Of the revenue, to two places; null where there is none."
    )
    presumed_usd = UsdField(
        source="presumed_nano",
        help_text="What calls cost besides that nobody settled: it earns nothing until it is approved.",
    )


class RevenueTotals(_Earned):
    """What all customers add up to, those of other pages too."""


class RevenueRow(_Earned):
    """One customer."""

    customer = serializers.CharField(allow_null=True, help_text="Null: calls that named none.")

    def get_fields(self) -> dict[str, Any]:
        """The name before the figures."""
        fields: dict[str, Any] = super().get_fields()
        return {"customer": fields.pop("customer"), **fields}


class RevenueAnswer(serializers.Serializer[Any]):
    """A page of customers, the least margin first."""

    starts_at = TimeField()
    ends_at = TimeField()
    complete_through = TimeField(
        allow_null=True,
        help_text="Everything that was acknowledged before it is included; null while usage is counted anew.",
    )
    customers = serializers.IntegerField(help_text="How many there are on all pages.")
    totals = RevenueTotals()
    items = RevenueRow(many=True)
    next_cursor = serializers.CharField(
        allow_null=True, help_text="Send it as `cursor` for the next page; null after the last."
    )


class RevenueView(TenantView[Tenant]):
    """Revenue of the tenant."""

    topic = Topic.BILLING
    queryset = Tenant.objects.none()
    representation = RevenueRow
    renderer_classes = (JSONRenderer, CsvRenderer)

    @extend_schema(
        operation_id="getRevenue",
        summary="See revenue, model cost and margin by customer",
        parameters=[
            *PARAMETERS,
            OpenApiParameter(
                "limit",
                {"type": "integer", "minimum": 1, "maximum": 200, "default": 50},
                description=f"The most items of a page. A table has up to {CSV_ROWS_MAX} rows, whatever it says.",
            ),
            OpenApiParameter(
                "cursor",
                {"type": "string", "maxLength": 2000},
                description="The `next_cursor` of the page before.",
            ),
            OpenApiParameter(
                "format",
                str,
                enum=["json", "csv"],
                description=f"`csv` for a table of up to {CSV_ROWS_MAX} rows, as does `Accept: text/csv`.",
            ),
            OpenApiParameter(
                NEXT_CURSOR_HEADER,
                str,
                OpenApiParameter.HEADER,
                response=[200],
                description="The `cursor` of the next rows of a table, if there are more.",
            ),
        ],
        responses={(200, "application/json"): RevenueAnswer, (200, "text/csv"): str},
        examples=[
            OpenApiExample("One customer", value=EXAMPLE, response_only=True, media_type="application/json"),
            OpenApiExample(
                "As a table",
                value="customer,revenue_usd,cost_usd,…\r\nacme,120,100,…\r\n",
                response_only=True,
                media_type="text/csv",
            ),
        ],
    )
    def ask(self, request: Request) -> Response:
        """Prices what was used in a time as one period of billing. Minimums and the rounding of invoices are left out."""
        require_known(request, COMMON | NAMES)
        params = request.query_params.dict()
        asked = read_period(params, now=self.now)
        chosen = read_fields(params, RevenueRow)
        page = read_page(params, key=[_whole, name_of])
        as_csv = request.accepted_renderer.format == "csv"
        limit = CSV_ROWS_MAX if as_csv else page.limit
        after = (page.after[0], page.after[1]) if page.after else None
        with named_as_asked():
            found = revenue(
                tenant_id=self.tenant_id,
                starts_at=asked.starts_at,
                until=asked.until,
                after=after,
                limit=limit + 1,
                now=self.now,
            )
        rows, next_cursor = cut(found.items, limit, lambda row: row.place)
        shown = RevenueRow([_row(row) for row in rows], many=True, context={"fields": chosen}).data
        if as_csv:
            names = [name for name in map(str, RevenueRow().fields) if chosen is None or name in chosen]
            table = [names, *([_cell(name, row) for name in names] for row in shown)]
            return Response(table, headers={NEXT_CURSOR_HEADER: next_cursor} if next_cursor else {})
        head: dict[str, Any] = {
            "starts_at": asked.starts_at,
            "ends_at": asked.until,
            "complete_through": found.complete_through,
            "customers": found.customers,
            "totals": _figures(found.totals),
            "items": [],
            "next_cursor": next_cursor,
        }
        return Response({**RevenueAnswer(head).data, "items": shown})


def _row(row: CustomerEarned) -> dict[str, Any]:
    return {"customer": row.customer or None, **_figures(row)}


def _figures(row: Any) -> dict[str, Any]:
    return {
        **{
            name: getattr(row, name) for name in ("revenue_nano", "cost_nano", "margin_nano", "presumed_nano")
        },
        "margin_percent": percent_of(row.margin_nano, row.revenue_nano),
    }


def percent_of(part: int, whole: int) -> str | None:
    """Returns how much of the whole a part is, with two places; None of nothing."""
    if whole <= 0:
        return None
    hundredths = divide_even(part * 10_000, whole)
    sign = "-" if hundredths < 0 else ""
    return f"{sign}{abs(hundredths) // 100}.{abs(hundredths) % 100:02d}"


def _whole(text: str) -> int:
    number = int(text)
    if abs(number) >= 10**40:
        raise ValueError(text)
    return number


def _cell(name: str, row: Any) -> Any:
    return plain(row[name]) if name == "customer" else row[name]
