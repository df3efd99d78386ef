"""/v1/runs: the tenant's runs, read. They are started, stopped and ended on the data plane (budgets/gateway/runs.py)."""

from __future__ import annotations

from typing import Any, ClassVar

import django_filters
from drf_spectacular.utils import OpenApiExample, extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from budgets.api.flags import flag
from budgets.models.runs import STATES, Run
from budgets.queries.runs import run_summary
from noburn.kit.problems import Missing
from noburn.kit.rest.fields import TimeField, UsdField
from noburn.kit.rest.serializers import Representation
from tenants.api.base import TenantView
from tenants.domain.roles import Topic

EXAMPLE: dict[str, Any] = {
    "id": "run_01jd2c8vq6f5k9s0m3w7x4y1z2",
    "state": "open",
    "reason": "",
    "parent": None,
    "parents": [],
    "caps": {"usd": "5", "steps": 40, "seconds": 600, "depth": 2},
    "project": "web",
    "customer": "acme",
    "user": "u1",
    "metadata": {"agent": "researcher"},
    "idle_seconds": 3600,
    "started_at": "2026-11-22T12:00:00Z",
    "last_seen_at": "2026-11-22T12:04:00Z",
    "ends_at": "2026-11-22T12:10:00Z",
    "closed_at": None,
    "closed_by": "",
}
SUMMARY: dict[str, Any] = {
    "calls": 12,
    "cost_usd": "0.84",
    "tokens": 180_400,
    "runs": 3,
    "models": [{"model": "gpt-4o", "calls": 12, "cost_usd": "0.84", "tokens": 180_400}],
    "refused": {"run_limit": 1},
}


class RunCapsOut(serializers.Serializer[Any]):
    """What the run and all below it may use at most; null: no such cap."""

    usd = UsdField(source="cap_nano", allow_null=True)
    steps = serializers.IntegerField(source="cap_steps", allow_null=True, help_text="Calls.")
    seconds = serializers.IntegerField(source="cap_seconds", allow_null=True)
    depth = serializers.IntegerField(
        source="cap_depth", allow_null=True, help_text="Levels of runs that may be below it."
    )


class RunOut(Representation):
    """A run. One that calls alone name, and nobody started or stopped, is not listed."""

    id = serializers.CharField(source="run", help_text="As calls name it in `subject.run`.")
    state = serializers.ChoiceField(choices=STATES)
    reason = serializers.CharField(help_text="Why it is over: what was said, `idle`, `seconds`, or `parent`.")
    parent = serializers.CharField(allow_null=True)
    parents = serializers.ListField(
        child=serializers.CharField(), help_text="Those above it, the root first."
    )
    caps = RunCapsOut(source="*")
    project = serializers.CharField()
    customer = serializers.CharField()
    user = serializers.CharField(source="end_user")
    metadata = serializers.DictField(child=serializers.CharField())
    idle_seconds = serializers.IntegerField(help_text="So long without a call, and it is ended.")
    started_at = TimeField()
    last_seen_at = TimeField(help_text="When a call last was, to two minutes.")
    ends_at = TimeField(allow_null=True, help_text="When its seconds, or those of a run above it, are over.")
    closed_at = TimeField(allow_null=True)
    closed_by = serializers.CharField(help_text="Whose key closed it, or `noburn`.")


class RunModelOut(serializers.Serializer[Any]):
    """What one model was used for."""

    model = serializers.CharField()
    calls = serializers.IntegerField()
    cost_usd = UsdField(source="cost_nano")
    tokens = serializers.IntegerField()


class RunSummaryOut(serializers.Serializer[Any]):
    """What the run and all below it used so far."""

    calls = serializers.IntegerField()
    cost_usd = UsdField(source="cost_nano")
    tokens = serializers.IntegerField()
    runs = serializers.IntegerField(help_text="How many runs that is.")
    models = RunModelOut(many=True)
    refused = serializers.DictField(child=serializers.IntegerField(), help_text="Refusals by reason.")


class RunWithSummaryOut(RunOut):
    """A run with what it used."""

    summary = serializers.SerializerMethodField()

    @extend_schema_field(RunSummaryOut)
    def get_summary(self, run: Run) -> dict[str, Any]:
        """Returns what the run and all below it used."""
        return dict(RunSummaryOut(run_summary(tenant_id=run.tenant_id, run=run.run)).data)


class RunFilters(django_filters.FilterSet):
    """Filters of the list."""

    run = django_filters.CharFilter(max_length=200, help_text="One run, whatever is in its name.")
    state = django_filters.ChoiceFilter(choices=[(state, state) for state in STATES])
    parent = django_filters.CharFilter(max_length=200)
    customer = django_filters.CharFilter(max_length=200)
    user = django_filters.CharFilter(field_name="end_user", max_length=200)
    project = django_filters.CharFilter(max_length=200)
    root = flag(
        field_name="parent", lookup_expr="isnull", help_text="Whether there is no run above; both without it."
    )

    class Meta:
        model = Run
        fields: ClassVar[list[str]] = ["run", "state", "parent", "customer", "user", "project", "root"]


class Runs(TenantView[Run]):
    """Runs of the tenant."""

    topic = Topic.RUNS
    queryset = Run.objects.all()
    representation = RunOut
    filterset_class = RunFilters

    @extend_schema(
        operation_id="listRuns",
        summary="List runs",
        responses=RunOut(many=True),
        examples=[OpenApiExample("One run", value=EXAMPLE, response_only=True)],
    )
    def list(self, request: Request) -> Response:
        """Lists the runs that were started or stopped, newest first."""
        return self.page(self.get_queryset())

    @extend_schema(
        operation_id="getRun",
        summary="Get a run",
        responses=RunWithSummaryOut,
        examples=[OpenApiExample("The run", value={**EXAMPLE, "summary": SUMMARY}, response_only=True)],
    )
    def retrieve(self, request: Request, pk: str) -> Response:
        """Returns one run with what it and all below it used so far."""
        found = self.rows().filter(run=pk).first()
        if found is None:
            raise Missing(pk)
        self.representation = RunWithSummaryOut
        return self.answer(found)
