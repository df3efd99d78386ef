"""/v1/reratings: what settled calls should have cost, previewed and then applied to the ledger; docs/rerating.md."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar, Final

import django_filters
from drf_spectacular.utils import OpenApiExample, extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from alerts.api.deliveries import Nothing
from budgets.domain.rerating import REASON_CHARS_MAX, LeftOut
from budgets.domain.usage import NAME_CHARS_MAX
from budgets.models import Rerating, ReratingState
from budgets.services.reratings import NewRerating, ReratingConflict, apply_rerating, request_rerating
from noburn.kit import ids
from noburn.kit.money import to_usd
from noburn.kit.problems import ProblemError, problem
from noburn.kit.rest.fields import TimeField, UsdField, WireIdField
from noburn.kit.rest.serializers import Representation, Strict
from tenants.api.base import TenantView
from tenants.domain.roles import Topic

ASKED: Final = {
    "starts_at": "2026-11-01T00:00:00Z",
    "ends_at": "2026-11-15T00:00:00Z",
    "provider": "openai",
    "model": "gpt-4o-mini",
    "customer": "",
    "project": "",
    "prices_at": "2026-11-22T12:00:00Z",
    "reason": "the contract's discount was entered two weeks late",
}
EXAMPLE: Final = {
    "id": "rrt_01jd2c8vq6f5k9s0m3w7x4y1z2",
    "state": "previewed",
    **ASKED,
    "created_by": "user:mem_01jd2c8vq6f5k9s0m3w7x4y1z2",
    "created_at": "2026-11-22T12:00:00Z",
    "seen_calls": 1240,
    "changed_calls": 1200,
    "unchanged_calls": 0,
    "old_usd": "12.5",
    "new_usd": "11.25",
    "difference_usd": "-1.25",
    "left_out": [{"reason": "told", "calls": 40, "cost_usd": "3.1"}],
    "by_model": [
        {
            "provider": "openai",
            "model": "gpt-4o-mini",
            "calls": 1200,
            "old_usd": "12.5",
            "new_usd": "11.25",
            "difference_usd": "-1.25",
        }
    ],
    "by_customer": [
        {
            "customer": "acme",
            "calls": 1200,
            "old_usd": "12.5",
            "new_usd": "11.25",
            "difference_usd": "-1.25",
        }
    ],
    "model_count": 1,
    "customer_count": 1,
    "previewed_at": "2026-11-22T12:00:06Z",
    "applied_by": None,
    "applied_at": None,
    "applied_calls": 0,
    "moved_calls": 0,
    "applied_usd": "0",
    "finished_at": None,
    "failure": None,
}
APPLYING: Final = {
    **EXAMPLE,
    "state": "applying",
    "applied_by": "user:mem_01jd2c8vq6f5k9s0m3w7x4y1z2",
    "applied_at": "2026-11-22T12:10:00Z",
}


class LeftOutCalls(serializers.Serializer[Any]):
    """Calls that keep their cost, and why."""

    reason = serializers.ChoiceField(choices=[reason.value for reason in LeftOut])
    calls = serializers.IntegerField()
    cost_usd = UsdField()


class ModelDifference(serializers.Serializer[Any]):
    """What the calls of one model cost, and should have cost."""

    provider = serializers.CharField()
    model = serializers.CharField()
    calls = serializers.IntegerField()
    old_usd = UsdField()
    new_usd = UsdField()
    difference_usd = UsdField(allow_negative=True)


class CustomerDifference(serializers.Serializer[Any]):
    """What the calls of one customer cost, and should have cost."""

    customer = serializers.CharField()
    calls = serializers.IntegerField()
    old_usd = UsdField()
    new_usd = UsdField()
    difference_usd = UsdField(allow_negative=True)


def _difference(group: dict[str, Any]) -> dict[str, Any]:
    old, new = group["old_nano"], group["new_nano"]
    names = {name: value for name, value in group.items() if not name.endswith("_nano")}
    return {**names, "old_usd": to_usd(old), "new_usd": to_usd(new), "difference_usd": to_usd(new - old)}


class ReratingOut(Representation):
    """A re-rating: what was asked for, what the preview found, and how far its application is."""

    id = WireIdField(ids.RERATING)
    state = serializers.ChoiceField(choices=ReratingState.values)
    starts_at = TimeField()
    ends_at = TimeField()
    provider = serializers.CharField()
    model = serializers.CharField()
    customer = serializers.CharField()
    project = serializers.CharField()
    prices_at = TimeField(allow_null=True, help_text="Null: calls are priced as when they were placed.")
    reason = serializers.CharField()
    created_by = serializers.CharField()
    created_at = TimeField()
    seen_calls = serializers.IntegerField(help_text="Settled and presumed calls that the preview looked at.")
    changed_calls = serializers.IntegerField(help_text="Those that get another cost.")
    unchanged_calls = serializers.IntegerField(help_text="Those that have the right cost already.")
    old_usd = UsdField(source="old_nano", help_text="What the changed calls cost now.")
    new_usd = UsdField(source="new_nano", help_text="What they cost at these prices.")
    difference_usd = serializers.SerializerMethodField()
    left_out = serializers.SerializerMethodField(
        help_text="Calls that keep their cost, by the reason for it."
    )
    by_model = serializers.SerializerMethodField(help_text="The largest differences, 100 at most.")
    by_customer = serializers.SerializerMethodField(help_text="The largest differences, 100 at most.")
    model_count = serializers.IntegerField()
    customer_count = serializers.IntegerField()
    previewed_at = TimeField(allow_null=True)
    applied_by = serializers.SerializerMethodField()
    applied_at = TimeField(allow_null=True)
    applied_calls = serializers.IntegerField(help_text="Calls that got their new cost so far.")
    moved_calls = serializers.IntegerField(
        help_text="Calls to which something had happened since, and that keep their cost."
    )
    applied_usd = UsdField(
        source="applied_nano", allow_negative=True, help_text="Sum of the new entries so far."
    )
    finished_at = TimeField(allow_null=True)
    failure = serializers.SerializerMethodField(help_text="Why it failed or expired.")

    def get_difference_usd(self, row: Rerating) -> str:
        """New less old: negative is cheaper."""
        return to_usd(row.new_nano - row.old_nano)

    @extend_schema_field(LeftOutCalls(many=True))
    def get_left_out(self, row: Rerating) -> list[dict[str, Any]]:
        """In the order of their names."""
        return [
            {"reason": reason, "calls": found["calls"], "cost_usd": to_usd(found["cost_nano"])}
            for reason, found in sorted(row.left_out.items())
        ]

    @extend_schema_field(ModelDifference(many=True))
    def get_by_model(self, row: Rerating) -> list[dict[str, Any]]:
        """The largest first."""
        return [_difference(group) for group in row.by_model]

    @extend_schema_field(CustomerDifference(many=True))
    def get_by_customer(self, row: Rerating) -> list[dict[str, Any]]:
        """The largest first."""
        return [_difference(group) for group in row.by_customer]

    def get_applied_by(self, row: Rerating) -> str | None:
        """Nobody, until somebody did."""
        return row.applied_by or None

    def get_failure(self, row: Rerating) -> str | None:
        """Nothing, unless something."""
        return row.failure or None


def _name(what: str) -> serializers.CharField:
    return serializers.CharField(
        max_length=NAME_CHARS_MAX,
        required=False,
        allow_blank=True,
        trim_whitespace=False,
        help_text=f"Only calls of this {what}; without it of every one.",
    )


class ReratingIn(Strict):
    """Calls to be priced again."""

    starts_at = TimeField(help_text="Calls placed then or later.")
    ends_at = TimeField(
        required=False,
        allow_null=True,
        help_text="Calls placed before then; without it before now. Choose a time from which no settlement is to come.",
    )
    provider = _name("provider")
    model = _name("model, as calls asked for it")
    customer = _name("customer")
    project = _name("project")
    prices_at = TimeField(
        required=False,
        allow_null=True,
        help_text="Price them as though they had been placed then; without it, now.",
    )
    as_placed = serializers.BooleanField(
        required=False,
        help_text="Price them as when they were placed, by the price book as it is now: takes earlier re-ratings back.",
    )
    reason = serializers.CharField(max_length=REASON_CHARS_MAX, help_text="Why; it stands in the audit log.")


@contextmanager
def _conflicts() -> Iterator[None]:
    """Answers what stands in the way of a re-rating with its problem."""
    try:
        yield
    except ReratingConflict as error:
        raise ProblemError(problem("rerating-conflict", str(error), error.changes)) from error


class ReratingFilters(django_filters.FilterSet):
    """Filters of the list."""

    state = django_filters.ChoiceFilter(choices=ReratingState.choices)

    class Meta:
        model = Rerating
        fields: ClassVar[list[str]] = ["state"]


class Reratings(TenantView[Rerating]):
    """Re-ratings of the tenant's calls."""

    topic = Topic.RERATINGS
    id_prefix = ids.RERATING
    queryset = Rerating.objects.all()
    representation = ReratingOut
    filterset_class = ReratingFilters

    @extend_schema(
        operation_id="listReratings",
        summary="List re-ratings",
        responses=ReratingOut(many=True),
        examples=[OpenApiExample("A preview", value=EXAMPLE, response_only=True)],
    )
    def list(self, request: Request) -> Response:
        """Lists re-ratings and previews, newest first."""
        return self.page(self.get_queryset())

    @extend_schema(
        operation_id="previewRerating",
        summary="Preview a re-rating",
        request=ReratingIn,
        responses={201: ReratingOut},
        extensions={"x-problems": ["rerating-conflict"]},
        examples=[
            OpenApiExample("Two weeks of one model, at today's prices", value=ASKED, request_only=True),
            OpenApiExample("The preview", value=EXAMPLE, response_only=True),
        ],
    )
    def create(self, request: Request) -> Response:
        """Asks for a preview of at most 500,000 calls. Workers make it: get it again until its state is `previewed`.

        A tenant has one preview at a time: this one takes the place of an earlier one that was not applied.
        """
        values = {name: value for name, value in self.read(ReratingIn).items() if value is not None}
        with _conflicts():
            row = request_rerating(
                tenant_id=self.tenant_id, wanted=NewRerating(**values), actor=self.actor, now=self.now
            )
        return self.answer(row, 201)

    @extend_schema(
        operation_id="getRerating",
        summary="Get a re-rating",
        responses=ReratingOut,
        examples=[OpenApiExample("A preview", value=EXAMPLE, response_only=True)],
    )
    def retrieve(self, request: Request, pk: str) -> Response:
        """Returns one re-rating, with its figures or its progress."""
        return self.answer(self.wanted(pk))

    @extend_schema(
        operation_id="applyRerating",
        summary="Apply a re-rating",
        request=Nothing,
        responses=ReratingOut,
        extensions={"x-problems": ["rerating-conflict"]},
        examples=[
            OpenApiExample("Exactly what the preview showed", value={}, request_only=True),
            OpenApiExample("It is being applied", value=APPLYING, response_only=True),
        ],
    )
    @action(detail=True, methods=["post"])
    def apply(self, request: Request, pk: str) -> Response:
        """Gives the calls of a preview their new cost, if nothing changed since; a repeat does nothing."""
        row = self.wanted(pk)
        self.require_match(row)
        self.read(Nothing)
        with _conflicts():
            applied = apply_rerating(
                tenant_id=self.tenant_id, rerating_id=row.pk, actor=self.actor, now=self.now
            )
        return self.answer(applied)
