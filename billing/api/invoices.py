"""/v1/customers/{id}/invoice-preview: what a customer owes for a period so far, by model and unit."""

from __future__ import annotations

from typing import Any, Final

from drf_spectacular.utils import OpenApiExample, OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response

from billing.api.periods import NAMES, PARAMETERS, named_as_asked, read_flag, read_period
from billing.domain.charging import Charge, ChargeLine
from billing.domain.rate_cards import Unit
from billing.services.charges import period_charge
from billing.services.wallet_shares import share_in
from noburn.kit import ids
from noburn.kit.money import to_usd
from noburn.kit.rest.fields import TimeField, UsdField, WireIdField
from noburn.kit.rest.filters import require_known
from noburn.kit.rest.tables import CsvRenderer, plain
from tenants.api.base import TenantView
from tenants.domain.roles import Topic
from tenants.models import Customer

ADJUSTMENTS: Final = ("included", "tiers", "minimum", "rounding")
COLUMNS: Final = ("kind", "provider", "model", "unit", "units", "cost_usd", "charge_usd")

EXAMPLE: Final = {
    "customer": "acme",
    "starts_at": "2026-11-01T00:00:00Z",
    "ends_at": "2026-11-22T13:00:00Z",
    "whole_period": False,
    "complete_through": "2026-11-22T12:09:58.120000Z",
    "total_usd": "118.5",
    "wallet_usd": "18.5",
    "to_invoice_usd": "100",
    "cost_usd": "100",
    "unbilled_usd": "0",
    "presumed_usd": "0.5",
    "rate_cards": [
        {
            "rate_card": "rcd_01jd2c8vq6f5k9s0m3w7x4y1z2",
            "number": 1,
            "effective_from": "2026-10-22T13:00:00Z",
        }
    ],
    "models": [
        {
            "provider": "openai",
            "model": "gpt-4o-mini",
            "requests": 1240,
            "cost_usd": "100",
            "charge_usd": "123.5",
            "units": [{"unit": "input", "units": 500000, "charge_usd": "3.5"}],
        }
    ],
    "adjustments": [{"kind": "included", "charge_usd": "-5"}],
}


class ChargedUnit(serializers.Serializer[Any]):
    """What so many units were charged at their rate."""

    unit = serializers.ChoiceField(choices=[unit.value for unit in Unit])
    units = serializers.IntegerField()
    charge_usd = UsdField(source="charge_nano", allow_negative=True)


class ChargedModel(serializers.Serializer[Any]):
    """What calls of one model cost the tenant, and what is charged for them: a markup on the cost, and its units."""

    provider = serializers.CharField()
    model = serializers.CharField()
    requests = serializers.IntegerField()
    cost_usd = UsdField(source="cost_nano")
    charge_usd = UsdField(
        source="charge_nano", allow_negative=True, help_text="In all, what is under `units` included."
    )
    units = ChargedUnit(many=True)


class Adjustment(serializers.Serializer[Any]):
    """What changes the price of the whole period."""

    kind = serializers.ChoiceField(choices=list(ADJUSTMENTS))
    charge_usd = UsdField(source="charge_nano", allow_negative=True)


class UsedVersion(serializers.Serializer[Any]):
    """A version of a rate card that priced some of the use."""

    rate_card = WireIdField(ids.RATE_CARD, source="card_id")
    number = serializers.IntegerField()
    effective_from = TimeField()


class InvoicePreview(serializers.Serializer[Any]):
    """What a customer owes. `models` and `adjustments` add up to the total."""

    customer = serializers.CharField()
    starts_at = TimeField()
    ends_at = TimeField()
    whole_period = serializers.BooleanField(
        help_text="Whether it is taken for a whole period: then its minimum counts, and its total is rounded."
    )
    complete_through = TimeField(
        allow_null=True,
        help_text="Everything that was acknowledged before it is included; null while usage is counted anew.",
    )
    total_usd = UsdField(allow_negative=True)
    wallet_usd = UsdField(help_text="The part of the total that the customer's wallet pays.")
    to_invoice_usd = UsdField(allow_negative=True, help_text="What is left of the total to be invoiced.")
    cost_usd = UsdField(help_text="What its settled and approved calls cost you.")
    unbilled_usd = UsdField(help_text="The part of the cost at times without a rate card.")
    presumed_usd = UsdField(help_text="Besides: what nobody settled or approved, which is not billed.")
    rate_cards = UsedVersion(many=True, help_text="In the order of time; none: nothing is billed.")
    models = ChargedModel(many=True)
    adjustments = Adjustment(many=True)


class InvoicePreviews(TenantView[Customer]):
    """Invoice previews of one customer."""

    topic = Topic.BILLING
    id_prefix = ids.CUSTOMER
    queryset = Customer.objects.all()
    renderer_classes = (JSONRenderer, CsvRenderer)

    @extend_schema(
        operation_id="previewInvoice",
        summary="See what a customer owes",
        parameters=[
            *PARAMETERS,
            OpenApiParameter(
                "whole_period",
                bool,
                description="Whether this is a whole period, whose minimum counts and whose total is rounded. By default "
                "if `to` is given and has passed.",
            ),
            OpenApiParameter(
                "format",
                str,
                enum=["json", "csv"],
                description="`csv` for a table of its lines, as does `Accept: text/csv`.",
            ),
        ],
        responses={(200, "application/json"): InvoicePreview, (200, "text/csv"): str},
        examples=[
            OpenApiExample(
                "A month so far", value=EXAMPLE, response_only=True, media_type="application/json"
            ),
            OpenApiExample(
                "As a table",
                value=f"{','.join(COLUMNS)}\r\ncost,openai,gpt-4o-mini,,1240,100,120\r\n",
                response_only=True,
                media_type="text/csv",
            ),
        ],
    )
    def show(self, request: Request, pk: str) -> Response:
        """Prices a customer's use of this month, or of a given period, by the rate cards that held at the time."""
        customer = self.wanted(pk)
        require_known(request, NAMES | {"whole_period", "format"})
        params = request.query_params.dict()
        asked = read_period(params, now=self.now)
        whole = read_flag(params, "whole_period", "to" in params and asked.until <= self.now)
        with named_as_asked():
            found = period_charge(
                tenant_id=self.tenant_id,
                customer_id=customer.pk,
                starts_at=asked.starts_at,
                until=asked.until,
                now=self.now,
                final=whole,
            )
        if request.accepted_renderer.format == "csv":
            return Response([list(COLUMNS), *(_line(line) for line in found.lines)])
        paid = share_in(
            tenant_id=self.tenant_id,
            customer=customer.external_id,
            charge=found,
            starts_at=asked.starts_at,
            until=asked.until,
        ).paid_nano
        head = {
            "customer": customer.external_id,
            "starts_at": asked.starts_at,
            "ends_at": asked.until,
            "whole_period": whole,
            "complete_through": found.complete_through,
            "total_usd": found.total_nano,
            "wallet_usd": paid,
            "to_invoice_usd": found.total_nano - paid,
            "cost_usd": found.cost_nano,
            "unbilled_usd": found.unbilled_nano,
            "presumed_usd": found.presumed_nano,
            "rate_cards": found.versions,
            "models": by_model(found),
            "adjustments": [line for line in found.lines if line.kind in ADJUSTMENTS],
        }
        return Response(InvoicePreview(head).data)


def by_model(charge: Charge) -> list[dict[str, Any]]:
    """Returns the lines of each model under one heading."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for line in charge.lines:
        if line.kind == "cost":
            found[line.provider, line.model] = {
                "provider": line.provider,
                "model": line.model,
                "requests": line.units,
                "cost_nano": line.cost_nano,
                "charge_nano": line.charge_nano,
                "units": [],
            }
        elif line.kind == "units":
            model = found[line.provider, line.model]
            model["charge_nano"] += line.charge_nano
            model["units"].append(line)
    return list(found.values())


def _line(line: ChargeLine) -> list[Any]:
    names = (line.kind, plain(line.provider), plain(line.model), line.unit)
    return [*names, line.units, to_usd(line.cost_nano), to_usd(line.charge_nano)]
