"""/v1/budgets: limits, one by one and in batches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Final

import django_filters
from django.db.models import Q, QuerySet
from drf_spectacular.utils import OpenApiExample, extend_schema
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from budgets.api.amounts import CountField, CountOf, UsdOf, count_in, take_amount, usd_in
from budgets.api.flags import flag
from budgets.domain.budget_rules import DEFAULT_THRESHOLDS, THRESHOLDS_MAX
from budgets.domain.policy import BUDGET_METRICS, BUDGET_SCOPES, EACH, Action, Metric, WindowKind
from budgets.models import Budget, Estimate, OnEpochClose, OnExpiry
from budgets.services.budgets import (
    BudgetChanges,
    InvalidBudget,
    NewBudget,
    archive_budget,
    create_budget,
    edit_budget,
)
from budgets.services.bulk import BudgetEdit, at_item, save_budgets
from noburn.kit import ids
from noburn.kit.problems import FieldError
from noburn.kit.rest.fields import TimeField, WireIdField
from noburn.kit.rest.serializers import Representation, Strict, batch_of
from tenants.api.base import TenantView
from tenants.domain.roles import Topic

EXAMPLE: Final = {
    "id": "bud_01jd2c8vq6f5k9s0m3w7x4y1z2",
    "name": "customer *: 10 USD per month",
    "scope": "customer",
    "subject": "*",
    "tag": None,
    "metric": "usd",
    "window": "month",
    "anchor_day": None,
    "time_zone": None,
    "limit_usd": "10",
    "action": "block",
    "downgrade_model": None,
    "estimate": "ceiling",
    "on_expiry": "presume",
    "on_epoch_close": "strict",
    "thresholds": [50, 80, 100],
    "plan": None,
    "upgrade_to": None,
    "effective_at": "2026-11-22T12:00:00Z",
    "archived_at": None,
    "created_at": "2026-11-22T12:00:00Z",
}

FIXED: Final = ("scope", "subject", "tag", "metric", "window", "anchor_day", "time_zone", "plan")
CANNOT_CHANGE: Final = (
    "cannot change: it is what the budget's counters count. Archive the budget and make another, "
    "which begins with what was spent in its window"
)

SCOPES, METRICS, WINDOWS, ACTIONS = list(BUDGET_SCOPES), list(BUDGET_METRICS), list(WindowKind), list(Action)


def _choice(choices: Any, **options: Any) -> serializers.ChoiceField:
    return serializers.ChoiceField(choices=[str(choice) for choice in choices], **options)


def _downgrade_model() -> serializers.CharField:
    return serializers.CharField(
        max_length=200, required=False, help_text="What calls are tried with that do not fit: of `downgrade`."
    )


def _thresholds(**options: Any) -> serializers.ListField:
    return serializers.ListField(
        child=CountField(min_value=1, max_value=100),
        max_length=THRESHOLDS_MAX,
        help_text="Percentages of the limit, rising, at each of which you are told once a window.",
        **options,
    )


class BudgetOut(Representation):
    """A budget."""

    id = WireIdField(ids.BUDGET)
    name = serializers.CharField()
    scope = _choice(SCOPES, help_text="Whose calls it counts.")
    subject = serializers.CharField(help_text="The one subject, or `*` for each on its own.")
    tag = serializers.CharField(allow_null=True, help_text="The tag whose values it counts, for scope `tag`.")
    metric = _choice(METRICS)
    window = _choice(WINDOWS)
    anchor_day = serializers.IntegerField(
        allow_null=True, help_text="The day on which months begin; null: 1."
    )
    time_zone = serializers.CharField(allow_null=True, help_text="Null: the tenant's.")
    limit_usd = UsdOf("usd", "limit", help_text="Of budgets that count USD.")
    limit_tokens = CountOf("tokens", "limit", help_text="Of budgets that count tokens.")
    limit_requests = CountOf("requests", "limit", help_text="Of budgets that count requests.")
    action = _choice(
        ACTIONS,
        help_text="`block` refuses what does not fit; `warn` records it; `downgrade` tries a cheaper model.",
    )
    downgrade_model = serializers.CharField(
        allow_null=True, help_text="The model that `downgrade` tries instead."
    )
    estimate = _choice(Estimate.values)
    on_expiry = _choice(OnExpiry.values)
    on_epoch_close = _choice(OnEpochClose.values)
    thresholds = serializers.ListField(child=serializers.IntegerField())
    plan = serializers.CharField(
        allow_null=True, help_text="Of a quota: the plan whose calls alone count. Null: all calls do."
    )
    upgrade_to = serializers.CharField(allow_null=True, help_text="The plan that its refusals suggest.")
    effective_at = TimeField()
    archived_at = TimeField(allow_null=True, help_text="Since when it counts nothing any more.")
    created_at = TimeField()


class BudgetIn(Strict):
    """A budget to be made; the limit stands in the one field that fits its metric."""

    scope = _choice(SCOPES)
    subject = serializers.CharField(
        max_length=300,
        required=False,
        trim_whitespace=False,
        help_text="One subject, or `*` (the default) for each: the tenant's own id of a customer, `name=value` of a tag.",
    )
    tag = serializers.CharField(
        max_length=64, required=False, allow_null=True, help_text="The tag, for `*` of scope `tag`."
    )
    metric = _choice(METRICS, required=False, help_text="`usd` by default.")
    window = _choice(WINDOWS)
    anchor_day = CountField(min_value=1, max_value=31, required=False, allow_null=True)
    time_zone = serializers.CharField(max_length=64, required=False, allow_null=True)
    name = serializers.CharField(max_length=200, required=False, allow_blank=True)
    limit_usd = usd_in()
    limit_tokens = count_in()
    limit_requests = count_in()
    action = _choice(ACTIONS, required=False)
    downgrade_model = _downgrade_model()
    estimate = _choice(Estimate.values, required=False)
    on_expiry = _choice(OnExpiry.values, required=False)
    on_epoch_close = _choice(OnEpochClose.values, required=False)
    thresholds = _thresholds(required=False)
    plan = serializers.CharField(
        max_length=200,
        required=False,
        allow_null=True,
        trim_whitespace=False,
        help_text="Makes it a quota: only calls of this plan count, and its refusals say `quota_exceeded`.",
    )
    upgrade_to = serializers.CharField(
        max_length=200, required=False, allow_null=True, help_text="The plan that its refusals suggest."
    )


class BudgetChangesIn(Strict):
    """What can change of a budget: not what it counts."""

    name = serializers.CharField(max_length=200, required=False)
    limit_usd = usd_in()
    limit_tokens = count_in()
    limit_requests = count_in()
    action = _choice(ACTIONS, required=False)
    downgrade_model = _downgrade_model()
    estimate = _choice(Estimate.values, required=False)
    on_expiry = _choice(OnExpiry.values, required=False)
    on_epoch_close = _choice(OnEpochClose.values, required=False)
    thresholds = _thresholds(required=False)
    upgrade_to = serializers.CharField(max_length=200, required=False)

    def to_internal_value(self, data: Any) -> Any:
        """Reads the changes. Raises ValidationError, which says of what cannot change why."""
        if not isinstance(data, Mapping) or not (fixed := [name for name in FIXED if name in data]):
            return super().to_internal_value(data)
        errors: dict[str, Any] = {name: [CANNOT_CHANGE] for name in fixed}
        try:
            super().to_internal_value({name: value for name, value in data.items() if name not in fixed})
        except serializers.ValidationError as error:
            errors |= error.detail if isinstance(error.detail, dict) else {}
        raise serializers.ValidationError(errors)


class _BudgetEditIn(BudgetChangesIn):
    id = WireIdField(ids.BUDGET)


class BudgetItemIn(BudgetIn):
    """One item of a batch: with an `id` the changes of that budget, without one a budget to be made."""

    id = WireIdField(ids.BUDGET, required=False)
    scope = _choice(SCOPES, required=False, help_text="Needed without an `id`.")
    window = _choice(WINDOWS, required=False, help_text="Needed without an `id`.")

    def to_internal_value(self, data: Any) -> Any:
        """Reads the item as what it is. Raises ValidationError."""
        if isinstance(data, Mapping):
            reader = _BudgetEditIn if "id" in data else BudgetIn
            return reader(context=self.context).to_internal_value(data)
        return super().to_internal_value(data)


class BudgetsIn(Strict):
    """A batch."""

    items = batch_of(BudgetItemIn)


class SavedBudgets(serializers.Serializer[Any]):
    """The budgets of a batch, in its order."""

    items = BudgetOut(many=True)


class BudgetFilters(django_filters.FilterSet):
    """Filters of the list."""

    scope = django_filters.ChoiceFilter(choices=[(s.value, s.value) for s in BUDGET_SCOPES])
    subject = django_filters.CharFilter(max_length=300)
    metric = django_filters.ChoiceFilter(choices=[(m.value, m.value) for m in BUDGET_METRICS])
    window = django_filters.ChoiceFilter(choices=[(w.value, w.value) for w in WindowKind])
    action = django_filters.ChoiceFilter(choices=[(a.value, a.value) for a in Action])
    plan = django_filters.CharFilter(max_length=200)
    archived = flag(
        field_name="archived_at",
        lookup_expr="isnull",
        exclude=True,
        help_text="Whether they are archived; both without it.",
    )
    search = django_filters.CharFilter(
        method="found", max_length=200, help_text="Part of the name or the subject."
    )

    class Meta:
        model = Budget
        fields: ClassVar[list[str]] = [
            "scope",
            "subject",
            "metric",
            "window",
            "action",
            "plan",
            "archived",
            "search",
        ]

    def found(self, queryset: QuerySet[Budget], _name: str, value: str) -> QuerySet[Budget]:
        """Rows whose name or subject holds the text."""
        return queryset.filter(Q(name__icontains=value) | Q(subject__icontains=value))


class Budgets(TenantView[Budget]):
    """Budgets of the tenant."""

    topic = Topic.BUDGETS
    id_prefix = ids.BUDGET
    queryset = Budget.objects.all()
    representation = BudgetOut
    filterset_class = BudgetFilters

    @extend_schema(
        operation_id="listBudgets",
        summary="List budgets",
        responses=BudgetOut(many=True),
        examples=[OpenApiExample("One budget", value=EXAMPLE, response_only=True)],
    )
    def list(self, request: Request) -> Response:
        """Lists budgets, newest first."""
        return self.page(self.get_queryset())

    @extend_schema(
        operation_id="createBudget",
        summary="Create a budget",
        request=BudgetIn,
        responses={201: BudgetOut},
        examples=[
            OpenApiExample(
                "Ten dollars a month for each customer",
                value={"scope": "customer", "window": "month", "limit_usd": "10"},
                request_only=True,
            ),
            OpenApiExample("The budget", value=EXAMPLE, response_only=True),
        ],
    )
    def create(self, request: Request) -> Response:
        """Creates a budget, which counts from the next call on and begins with what its window has spent so far."""
        budget, errors = _new(self.read(BudgetIn))
        if errors:
            raise InvalidBudget(errors)
        made = create_budget(tenant_id=self.tenant_id, budget=budget, actor=self.actor, now=self.now)
        return self.answer(made, 201)

    @extend_schema(
        operation_id="getBudget",
        summary="Get a budget",
        responses=BudgetOut,
        examples=[OpenApiExample("The budget", value=EXAMPLE, response_only=True)],
    )
    def retrieve(self, request: Request, pk: str) -> Response:
        """Returns one budget, an archived one too."""
        return self.answer(self.wanted(pk))

    @extend_schema(
        operation_id="updateBudget",
        summary="Change a budget",
        request=BudgetChangesIn,
        responses=BudgetOut,
        examples=[
            OpenApiExample("A higher limit", value={"limit_usd": "25"}, request_only=True),
            OpenApiExample("The budget", value={**EXAMPLE, "limit_usd": "25"}, response_only=True),
        ],
    )
    def partial_update(self, request: Request, pk: str) -> Response:
        """Changes a budget from the next call on. A lower limit revokes nothing that is held already."""
        budget = self.wanted(pk)
        self.require_match(budget)
        changes, errors = _changes(self.read(BudgetChangesIn), budget.metric)
        if errors:
            raise InvalidBudget(errors)
        return self.answer(
            edit_budget(
                tenant_id=self.tenant_id, budget_id=budget.pk, changes=changes, actor=self.actor, now=self.now
            )
        )

    @extend_schema(
        operation_id="archiveBudget",
        summary="Archive a budget",
        responses={200: BudgetOut},
        examples=[
            OpenApiExample(
                "The budget", value={**EXAMPLE, "archived_at": "2026-11-22T13:00:00Z"}, response_only=True
            )
        ],
    )
    def destroy(self, request: Request, pk: str) -> Response:
        """Archives a budget: it refuses and counts nothing more, and its history stays."""
        budget = self.wanted(pk)
        self.require_match(budget)
        return self.answer(
            archive_budget(tenant_id=self.tenant_id, budget_id=budget.pk, actor=self.actor, now=self.now)
        )

    @extend_schema(
        operation_id="saveBudgets",
        summary="Create or change many budgets",
        request=BudgetsIn,
        responses=SavedBudgets,
        examples=[
            OpenApiExample(
                "A new one and a changed one",
                value={
                    "items": [
                        {"scope": "customer", "subject": "acme", "window": "month", "limit_usd": "50"},
                        {"id": "bud_01jd2c8vq6f5k9s0m3w7x4y1z2", "limit_usd": "25"},
                    ]
                },
                request_only=True,
            ),
            OpenApiExample("The budgets", value={"items": [EXAMPLE]}, response_only=True),
        ],
    )
    @action(detail=False, methods=["post"])
    def bulk(self, request: Request) -> Response:
        """Saves up to 1,000 budgets, all or none: items with an `id` are changed, the others made."""
        read = self.read(BudgetsIn)["items"]
        wanted = [item["id"] for item in read if "id" in item]
        metrics = dict(self.rows().filter(pk__in=wanted).values_list("pk", "metric"))
        items: list[NewBudget | BudgetEdit] = []
        wrong: list[FieldError] = []
        for number, item in enumerate(read):
            if "id" in item:
                budget_id = item.pop("id")
                # Of a budget that is not there the service tells; its limit has no metric to be judged by.
                metric = metrics.get(budget_id)
                changes, errors = _changes(item, metric) if metric else (BudgetChanges(), [])
                items.append(BudgetEdit(budget_id=budget_id, changes=changes))
            else:
                budget, errors = _new(item)
                items.append(budget)
            wrong += at_item(number, errors)
        if wrong:
            raise InvalidBudget(wrong)
        saved = save_budgets(tenant_id=self.tenant_id, items=items, actor=self.actor, now=self.now)
        return Response({"items": [self.shown(row) for row in saved]})


def _new(values: dict[str, Any]) -> tuple[NewBudget, list[FieldError]]:
    """Returns a new budget as it was read, and everything that is wrong with it by itself."""
    limit, errors = take_amount(values, values.get("metric", Metric.USD.value))
    values["thresholds"] = tuple(values.get("thresholds", DEFAULT_THRESHOLDS))
    # A limit that is missing is told of once, by its name.
    budget = NewBudget(**{"subject": EACH, **values}, limit=0 if limit is None else limit)
    return budget, [*errors, *budget.errors()]


def _changes(values: dict[str, Any], metric: str) -> tuple[BudgetChanges, list[FieldError]]:
    """Returns the changes as they were read, and everything that is wrong with them by themselves."""
    limit, errors = take_amount(values, metric, required=False)
    if "thresholds" in values:
        values["thresholds"] = tuple(values["thresholds"])
    changes = BudgetChanges(**values, limit=limit)
    return changes, [*errors, *changes.errors(metric)]
