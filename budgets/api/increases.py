"""/v1/budgets/{id}/increases: so much more for a while, with who and why."""

from __future__ import annotations

from typing import Any, ClassVar, Final

import django_filters
from django.db.models import QuerySet
from drf_spectacular.utils import OpenApiExample, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from budgets.api.amounts import CountField, CountOf, UsdOf, count_in, take_amount, usd_in
from budgets.api.overrides import OfBudget
from budgets.models import BudgetIncrease
from budgets.services.budgets import InvalidBudget
from budgets.services.increases import WINDOWS_MAX, NewIncrease, cancel_increase, create_increase
from noburn.kit import ids
from noburn.kit.problems import Missing
from noburn.kit.rest.fields import TimeField, WireIdField
from noburn.kit.rest.serializers import Representation, Strict

STATES: Final = ("scheduled", "active", "ended", "cancelled")
EXAMPLE: Final = {
    "id": "inc_01jd2c8vq6f5k9s0m3w7x4y1z2",
    "subject": "acme",
    "amount_usd": "5",
    "starts_at": "2026-11-22T12:00:00Z",
    "ends_at": "2026-11-23T00:00:00Z",
    "reason": "a launch day",
    "state": "active",
    "created_by": "user:mem_01jd2c8vq6f5k9s0m3w7x4y1z2",
    "created_at": "2026-11-22T12:00:00Z",
    "cancelled_at": None,
    "cancelled_by": None,
}


class IncreaseOut(Representation):
    """An increase."""

    id = WireIdField(ids.BUDGET_INCREASE)
    subject = serializers.CharField(help_text="The one subject, or `*` for every subject of the budget.")
    amount_usd = UsdOf("usd", "amount", help_text="Of budgets that count USD.")
    amount_tokens = CountOf("tokens", "amount", help_text="Of budgets that count tokens.")
    amount_requests = CountOf("requests", "amount", help_text="Of budgets that count requests.")
    starts_at = TimeField()
    ends_at = TimeField()
    reason = serializers.CharField()
    state = serializers.ChoiceField(choices=list(STATES))
    created_by = serializers.CharField(help_text="Who granted it, as the audit log names them.")
    created_at = TimeField()
    cancelled_at = TimeField(allow_null=True)
    cancelled_by = serializers.SerializerMethodField(help_text="Who ended it before its time.")

    def get_cancelled_by(self, row: BudgetIncrease) -> str | None:
        """Nobody, until somebody did."""
        return row.cancelled_by or None


class IncreaseIn(Strict):
    """An increase to be granted; the amount stands in the one field that fits the budget's metric."""

    subject = serializers.CharField(
        max_length=300,
        required=False,
        trim_whitespace=False,
        help_text="One subject of a template; without it every subject of the budget gets so much more.",
    )
    amount_usd = usd_in()
    amount_tokens = count_in()
    amount_requests = count_in()
    starts_at = TimeField(required=False, allow_null=True, help_text="Now, if it is left out.")
    ends_at = TimeField(required=False, allow_null=True, help_text="Either this or `windows`.")
    windows = CountField(
        min_value=1,
        max_value=WINDOWS_MAX,
        required=False,
        allow_null=True,
        help_text="To the end of so many of the budget's windows, the one of `starts_at` being the first.",
    )
    reason = serializers.CharField(max_length=500)


class IncreaseFilters(django_filters.FilterSet):
    """Filters of the list."""

    subject = django_filters.CharFilter(max_length=300)
    state = django_filters.ChoiceFilter(method="of_state", choices=[(state, state) for state in STATES])

    class Meta:
        model = BudgetIncrease
        fields: ClassVar[list[str]] = ["subject", "state"]

    def of_state(
        self, queryset: QuerySet[BudgetIncrease], _name: str, value: str
    ) -> QuerySet[BudgetIncrease]:
        """Rows in this state."""
        if value == "cancelled":
            return queryset.filter(cancelled_at__isnull=False)
        if value == "ended":
            return queryset.filter(cancelled_at__isnull=True, ended_at__isnull=False)
        return queryset.filter(BudgetIncrease.OPEN, started_at__isnull=value == "scheduled")


class Increases(OfBudget[BudgetIncrease]):
    """Increases of a budget."""

    queryset = BudgetIncrease.objects.select_related("budget")
    representation = IncreaseOut
    filterset_class = IncreaseFilters

    @extend_schema(
        operation_id="listIncreases",
        summary="List a budget's increases",
        responses=IncreaseOut(many=True),
        examples=[OpenApiExample("One increase", value=EXAMPLE, response_only=True)],
    )
    def list(self, request: Request, pk: str) -> Response:
        """Lists increases, those that are over too, newest first."""
        return self.page(self.get_queryset())

    @extend_schema(
        operation_id="grantIncrease",
        summary="Grant an increase",
        request=IncreaseIn,
        responses={201: IncreaseOut},
        examples=[
            OpenApiExample(
                "Five dollars more for today",
                value={"subject": "acme", "amount_usd": "5", "windows": 1, "reason": "a launch day"},
                request_only=True,
            ),
            OpenApiExample("The increase", value=EXAMPLE, response_only=True),
        ],
    )
    def create(self, request: Request, pk: str) -> Response:
        """Adds to the limit for a while. Several add up; what is held when one ends stays held."""
        budget, values = self.budget, self.read(IncreaseIn)
        amount, errors = take_amount(values, budget.metric, word="amount")
        # One that is missing is told of once, by its name.
        increase = NewIncrease(**values, amount=1 if amount is None else amount)
        if errors:
            raise InvalidBudget([*errors, *increase.errors(budget, self.now)])
        made = create_increase(
            tenant_id=self.tenant_id,
            budget_id=budget.pk,
            increase=increase,
            actor=self.actor,
            now=self.now,
        )
        return self.answer(made, 201)

    @extend_schema(
        operation_id="cancelIncrease",
        summary="Cancel an increase",
        request=None,
        responses=IncreaseOut,
        examples=[
            OpenApiExample(
                "The increase",
                value={
                    **EXAMPLE,
                    "state": "cancelled",
                    "cancelled_at": "2026-11-22T13:00:00Z",
                    "cancelled_by": EXAMPLE["created_by"],
                },
                response_only=True,
            )
        ],
    )
    def cancel(self, request: Request, pk: str, increase: str) -> Response:
        """Ends an increase from the next call on."""
        row = self.rows().filter(pk=self.path_id(increase, ids.BUDGET_INCREASE)).first()
        if row is None:
            raise Missing(increase)
        cancelled = cancel_increase(
            tenant_id=self.tenant_id,
            budget_id=row.budget_id,
            increase_id=row.pk,
            actor=self.actor,
            now=self.now,
        )
        return self.answer(cancelled)

    def read(self, serializer: Any, *, data: Any = None) -> dict[str, Any]:
        """Returns the validated body; what is null was not said."""
        return {
            name: value for name, value in super().read(serializer, data=data).items() if value is not None
        }
