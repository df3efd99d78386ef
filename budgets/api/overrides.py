"""/v1/budgets/{id}/overrides: limits of their own for single subjects of a template."""

from __future__ import annotations

from typing import Any, ClassVar, Final

import django_filters
from django.db.models import QuerySet
from drf_spectacular.utils import OpenApiExample, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from budgets.api.amounts import CountOf, UsdOf, count_in, take_amount, usd_in
from budgets.models import Budget, BudgetOverride
from budgets.services.budgets import InvalidBudget
from budgets.services.bulk import at_item
from budgets.services.overrides import NewOverride, own_subject, remove_override, set_override, set_overrides
from noburn.kit import ids
from noburn.kit.problems import FieldError, Missing
from noburn.kit.rest.fields import TimeField, WireIdField
from noburn.kit.rest.serializers import Representation, Strict, batch_of
from tenants.api.base import M, TenantView
from tenants.domain.roles import Topic

EXAMPLE: Final = {
    "id": "ovr_01jd2c8vq6f5k9s0m3w7x4y1z2",
    "subject": "acme",
    "limit_usd": "50",
    "updated_at": "2026-11-22T12:00:00Z",
}


class OfBudget(TenantView[M]):
    """A view of what belongs to the one budget that its path names."""

    topic = Topic.BUDGETS

    @property
    def budget(self) -> Budget:
        """The budget, an archived one too. Raises Missing."""
        budget_id = self.path_id(self.kwargs["pk"], ids.BUDGET)
        found = Budget.objects.filter(tenant_id=self.tenant_id, pk=budget_id).first()
        if found is None:
            raise Missing(self.kwargs["pk"])
        return found

    def rows(self) -> QuerySet[M]:
        """The budget's rows. Raises Missing when the tenant has no such budget."""
        return super().rows().filter(budget_id=self.budget.pk)


class OverrideOut(Representation):
    """A limit of its own for one subject."""

    id = WireIdField(ids.BUDGET_OVERRIDE)
    subject = serializers.CharField(help_text="The subject as counters spell it: of a tag its value alone.")
    limit_usd = UsdOf("usd", "limit", help_text="Of budgets that count USD.")
    limit_tokens = CountOf("tokens", "limit", help_text="Of budgets that count tokens.")
    limit_requests = CountOf("requests", "limit", help_text="Of budgets that count requests.")
    updated_at = TimeField()


class OverrideIn(Strict):
    """A limit for one subject; it stands in the one field that fits the budget's metric."""

    subject = serializers.CharField(max_length=300, trim_whitespace=False)
    limit_usd = usd_in()
    limit_tokens = count_in()
    limit_requests = count_in()


class OverridesIn(Strict):
    """A batch."""

    items = batch_of(OverrideIn)


class SavedOverrides(serializers.Serializer[Any]):
    """The overrides of a batch, in its order."""

    items = OverrideOut(many=True)


class OverrideFilters(django_filters.FilterSet):
    """Filters of the list."""

    subject = django_filters.CharFilter(max_length=300)
    search = django_filters.CharFilter(
        field_name="subject", lookup_expr="icontains", max_length=200, help_text="Part of the subject."
    )

    class Meta:
        model = BudgetOverride
        fields: ClassVar[list[str]] = ["subject", "search"]


class Overrides(OfBudget[BudgetOverride]):
    """Overrides of a budget."""

    queryset = BudgetOverride.objects.select_related("budget")
    representation = OverrideOut
    filterset_class = OverrideFilters

    @extend_schema(
        operation_id="listOverrides",
        summary="List a budget's overrides",
        responses=OverrideOut(many=True),
        examples=[OpenApiExample("One override", value=EXAMPLE, response_only=True)],
    )
    def list(self, request: Request, pk: str) -> Response:
        """Lists the subjects that have a limit of their own, newest first."""
        return self.page(self.get_queryset())

    @extend_schema(
        operation_id="setOverride",
        summary="Give a subject a limit of its own",
        request=OverrideIn,
        responses=OverrideOut,
        examples=[
            OpenApiExample("Fifty dollars", value={"subject": "acme", "limit_usd": "50"}, request_only=True),
            OpenApiExample("The override", value=EXAMPLE, response_only=True),
        ],
    )
    def update(self, request: Request, pk: str) -> Response:
        """Makes or changes the override of one subject, from its next call on."""
        budget = self.budget
        wanted, errors = _wanted(self.read(OverrideIn), budget)
        if errors:
            raise InvalidBudget(errors)
        standing = self.rows().filter(subject=own_subject(budget, wanted.subject)).first()
        if standing is not None:
            self.require_match(standing)
        made = set_override(
            tenant_id=self.tenant_id,
            budget_id=budget.pk,
            subject=wanted.subject,
            limit=wanted.limit,
            actor=self.actor,
            now=self.now,
        )
        return self.answer(made)

    @extend_schema(
        operation_id="removeOverride",
        summary="Remove an override",
        responses={204: None},
    )
    def destroy(self, request: Request, pk: str, override: str) -> Response:
        """Puts the subject back under the budget's own limit."""
        row = self.rows().filter(pk=self.path_id(override, ids.BUDGET_OVERRIDE)).first()
        if row is None:
            raise Missing(override)
        self.require_match(row)
        remove_override(
            tenant_id=self.tenant_id,
            budget_id=row.budget_id,
            subject=row.subject,
            actor=self.actor,
            now=self.now,
        )
        return Response(status=204)

    @extend_schema(
        operation_id="setOverrides",
        summary="Set many overrides",
        request=OverridesIn,
        responses=SavedOverrides,
        examples=[
            OpenApiExample(
                "Two subjects",
                value={
                    "items": [
                        {"subject": "acme", "limit_usd": "50"},
                        {"subject": "globex", "limit_usd": "5"},
                    ]
                },
                request_only=True,
            ),
            OpenApiExample("The overrides", value={"items": [EXAMPLE]}, response_only=True),
        ],
    )
    def bulk(self, request: Request, pk: str) -> Response:
        """Sets up to 1,000 overrides of one budget, all or none."""
        budget, items, wrong = self.budget, [], list[FieldError]()
        for number, values in enumerate(self.read(OverridesIn)["items"]):
            item, errors = _wanted(values, budget)
            items.append(item)
            wrong += at_item(number, errors)
        if wrong:
            raise InvalidBudget(wrong)
        saved = set_overrides(
            tenant_id=self.tenant_id, budget_id=budget.pk, items=items, actor=self.actor, now=self.now
        )
        for row in saved:
            row.budget = budget
        return Response({"items": [self.shown(row) for row in saved]})


def _wanted(values: dict[str, Any], budget: Budget) -> tuple[NewOverride, list[FieldError]]:
    limit, errors = take_amount(values, budget.metric)
    return NewOverride(subject=values["subject"], limit=0 if limit is None else limit), errors
