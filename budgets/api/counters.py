"""/v1/budgets/{id}/counters: how a budget stands, by subject."""

from __future__ import annotations

from typing import Final
from uuid import UUID

from drf_spectacular.utils import OpenApiExample, OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from budgets.api.amounts import CountOf, UsdOf
from budgets.api.overrides import OfBudget
from budgets.models import Budget
from budgets.queries.standings import standings
from noburn.kit.rest.fields import TimeField
from noburn.kit.rest.filters import COMMON, require_known
from noburn.kit.rest.pages import cut, page_answer, read_page
from noburn.kit.rest.serializers import Representation, read_fields

EXAMPLE: Final = {
    "subject": "acme",
    "starts_at": "2026-11-01T00:00:00Z",
    "resets_at": "2026-12-01T00:00:00Z",
    "limit_usd": "15",
    "spent_usd": "9.25",
    "held_usd": "1.5",
    "stranded_usd": "0",
    "remaining_usd": "5.75",
}


class CounterOut(Representation):
    """One subject of a budget in the present window. Amounts are in the budget's metric."""

    subject = serializers.CharField()
    starts_at = TimeField()
    resets_at = TimeField(source="ends_at", allow_null=True, help_text="Null: never.")
    limit_usd = UsdOf("usd", "limit", help_text="Overrides and increases counted in.")
    limit_tokens = CountOf("tokens", "limit")
    limit_requests = CountOf("requests", "limit")
    spent_usd = UsdOf("usd", "spent", allow_negative=True)
    spent_tokens = CountOf("tokens", "spent")
    spent_requests = CountOf("requests", "spent")
    held_usd = UsdOf(
        "usd", "authority", help_text="What gateways hold for calls in flight and the next ones."
    )
    held_tokens = CountOf("tokens", "authority")
    held_requests = CountOf("requests", "authority")
    stranded_usd = UsdOf(
        "usd", "stranded", help_text="The part of it that is locked since counters were lost."
    )
    stranded_tokens = CountOf("tokens", "stranded")
    stranded_requests = CountOf("requests", "stranded")
    remaining_usd = UsdOf("usd", "remaining", help_text="What is neither spent nor stranded.")
    remaining_tokens = CountOf("tokens", "remaining")
    remaining_requests = CountOf("requests", "remaining")


class Counters(OfBudget[Budget]):
    """Counters of a budget."""

    queryset = Budget.objects.all()
    representation = CounterOut

    @extend_schema(
        operation_id="listCounters",
        summary="See how a budget stands",
        parameters=[OpenApiParameter("subject", str, description="Only the counter of this subject.")],
        responses=CounterOut(many=True),
        examples=[OpenApiExample("One subject", value=EXAMPLE, response_only=True)],
    )
    def list(self, request: Request, pk: str) -> Response:
        """Lists the subjects that were called for in the present window, by name. Rates by the minute have none."""
        require_known(request, COMMON | {"subject"})
        wanted = read_page(request.query_params, key=[read_subject, UUID])
        after = (wanted.after[0], wanted.after[1]) if wanted.after is not None else None
        found = standings(
            tenant_id=self.tenant_id,
            budget_id=self.budget.pk,
            subject=request.query_params.get("subject"),
            after=after,
            limit=wanted.limit + 1,
            now=self.now,
        )
        page, following = cut(found, wanted.limit, lambda row: [row["subject"], row["counter_id"]])
        chosen = read_fields(request.query_params, CounterOut)
        context = {**self.get_serializer_context(), "fields": chosen}
        items = [CounterOut(row, context=context).data for row in page]
        return Response(page_answer(items, following))


def read_subject(text: str) -> str:
    """Reads the subject of a cursor. Raises ValueError for what no subject holds."""
    if "\x00" in text:
        raise ValueError("PostgreSQL's texts hold no null characters")
    return text
