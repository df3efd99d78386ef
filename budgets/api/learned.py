"""/v1/estimates and /v1/budgets/{id}/exposure: what was learned of calls, and what going by it risks."""

from __future__ import annotations

from typing import Any, ClassVar, Final

import django_filters
from drf_spectacular.utils import OpenApiExample, extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from budgets.api.amounts import CountOf, UsdOf
from budgets.api.overrides import OfBudget
from budgets.domain.learning import QUANTILES
from budgets.models import Budget, LearnedEstimate
from budgets.services.exposure import CountersAway, exposure_of
from noburn.kit.problems import ProblemError, problem
from noburn.kit.rest.fields import TimeField
from noburn.kit.rest.filters import require_known
from noburn.kit.rest.serializers import Representation
from tenants.api.base import TenantView
from tenants.domain.roles import Topic

PERCENTILES: Final = [f"p{percent}" for percent in QUANTILES]

EXAMPLE: Final = {
    "provider": "openai",
    "model": "gpt-4o-mini",
    "samples": 4210,
    "input_share": {"p50": "0.81", "p90": "0.93", "p95": "0.96", "p99": "0.99"},
    "output_tokens": {"p50": 212, "p90": 530, "p95": 690, "p99": 1204},
    "learned_at": "2026-11-22T12:00:00Z",
}
EXPOSURE_EXAMPLE: Final = {"calls": 12, "held_usd": "0.042", "exposure_usd": "0.318", "complete": True}


class LearnedOut(Representation):
    """What a tenant's settled calls of one model used."""

    provider = serializers.CharField()
    model = serializers.CharField()
    samples = serializers.IntegerField(help_text="How many calls of the last week taught it.")
    input_share = serializers.SerializerMethodField(
        help_text="Percentiles of the input really used, as a share of what pre-flights bounded."
    )
    output_tokens = serializers.SerializerMethodField(help_text="Percentiles of output tokens.")
    learned_at = TimeField()

    @extend_schema_field(
        {
            "type": "object",
            "required": PERCENTILES,
            "properties": {name: {"type": "string", "example": "0.93"} for name in PERCENTILES},
        }
    )
    def get_input_share(self, row: LearnedEstimate) -> dict[str, str]:
        """Shares as decimal strings."""
        return {
            name: f"{ppm // 1_000_000}.{ppm % 1_000_000:06d}".rstrip("0").rstrip(".")
            for name, ppm in zip(PERCENTILES, row.input_ppm, strict=True)
        }

    @extend_schema_field(
        {
            "type": "object",
            "required": PERCENTILES,
            "properties": {name: {"type": "integer"} for name in PERCENTILES},
        }
    )
    def get_output_tokens(self, row: LearnedEstimate) -> dict[str, int]:
        """Counts."""
        return dict(zip(PERCENTILES, row.output_tokens, strict=True))


class LearnedFilters(django_filters.FilterSet):
    """Filters of the list."""

    provider = django_filters.CharFilter(max_length=100)
    model = django_filters.CharFilter(max_length=200)

    class Meta:
        model = LearnedEstimate
        fields: ClassVar[list[str]] = ["provider", "model"]


class LearnedEstimates(TenantView[LearnedEstimate]):
    """What was learned of the tenant's calls."""

    topic = Topic.BUDGETS
    queryset = LearnedEstimate.objects.all()
    representation = LearnedOut
    filterset_class = LearnedFilters

    @extend_schema(
        operation_id="listLearnedEstimates",
        summary="See what was learned of calls",
        responses=LearnedOut(many=True),
        examples=[OpenApiExample("One model", value=EXAMPLE, response_only=True)],
    )
    def list(self, request: Request) -> Response:
        """Lists what settled calls taught, by model. Only a tenant with a budget of `estimate: learned` has any."""
        return self.page(self.get_queryset())


class ExposureOut(serializers.Serializer[Any]):
    """Calls in flight under a budget. Amounts are in its metric."""

    calls = serializers.IntegerField()
    held_usd = UsdOf("usd", "held", help_text="What the budget holds for them.")
    held_tokens = CountOf("tokens", "held")
    held_requests = CountOf("requests", "held")
    exposure_usd = UsdOf(
        "usd", "exposure", help_text="By how much they may use more than that, at the worst."
    )
    exposure_tokens = CountOf("tokens", "exposure")
    exposure_requests = CountOf("requests", "exposure")
    complete = serializers.BooleanField(
        help_text="False: there were more calls in flight than are looked at."
    )


class BudgetExposure(OfBudget[Budget]):
    """What a budget risks now."""

    queryset = Budget.objects.all()
    representation = ExposureOut

    @extend_schema(
        operation_id="getBudgetExposure",
        summary="See what a budget risks",
        responses=ExposureOut,
        examples=[OpenApiExample("A learned budget", value=EXPOSURE_EXAMPLE, response_only=True)],
    )
    def retrieve(self, request: Request, pk: str) -> Response:
        """Adds up the calls in flight: what is held for them, and what they may use beyond it.

        A budget with `estimate: ceiling` holds the most that a call can use, so its exposure is 0.
        """
        require_known(request, {"format"})
        try:
            found = exposure_of(tenant_id=self.tenant_id, budget_id=self.budget.pk)
        except CountersAway as error:
            raise ProblemError(
                problem("counters-unavailable", f"Calls in flight are not known: {error}.")
            ) from error
        row = {
            "metric": self.budget.metric,
            "calls": found.calls,
            "held": found.held,
            "exposure": found.exposure,
            "complete": found.complete,
        }
        return Response(ExposureOut(row).data)
