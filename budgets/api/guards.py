"""/v1/guards: what stops a call that no budget would. For their users: docs/guards.md."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, ClassVar, Final

import django_filters
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiExample, extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from budgets.api.amounts import CountField
from budgets.api.flags import flag
from budgets.domain.guards import SCOPES, thousandths
from budgets.domain.policy import GuardKind
from budgets.models import Guard
from budgets.models.guards import GuardMode
from budgets.services.guard_rules import NewGuard, archive_guard, create_guard, edit_guard
from noburn.kit import ids
from noburn.kit.rest.fields import TimeField, UsdField, WireIdField
from noburn.kit.rest.serializers import Representation, Strict
from tenants.api.base import TenantView
from tenants.domain.roles import Topic

EXAMPLE: Final[dict[str, Any]] = {
    "id": "grd_01jd2c8vq6f5k9s0m3w7x4y1z2",
    "name": "retry loops",
    "kind": "repeat",
    "mode": "observe",
    "scope": "customer",
    "subject": "*",
    "limits": {"times": 10, "seconds": 60},
    "archived_at": None,
    "created_at": "2026-11-22T12:00:00Z",
}
KINDS, SCOPE_NAMES = [kind.value for kind in GuardKind], [scope.value for scope in SCOPES]


@extend_schema_field(OpenApiTypes.STR)
class MultipleField(serializers.Field[int, Any, str, Any]):
    """So many times something: thousandths inside, a decimal string such as "2.5" outside."""

    default_error_messages = {"invalid": 'must be a decimal string with up to three places such as "2.5"'}

    def to_internal_value(self, data: Any) -> int:
        """Reads thousandths. Raises ValidationError."""
        whole, point, part = data.partition(".") if isinstance(data, str) else ("", "", "")
        digits = whole + part
        if not whole or len(digits) > 9 or not digits.isdecimal() or not digits.isascii() or len(part) > 3:
            self.fail("invalid")
        if point and not part:
            self.fail("invalid")
        return int(Decimal(data) * 1000)

    def to_representation(self, value: int) -> str:
        """Spells them."""
        return thousandths(value)


class GuardLimits(Strict):
    """Limits by name; which of them a guard has follows from its kind."""

    times = CountField(
        source="_times", required=False, help_text="`repeat`: so often in `seconds`, and no more."
    )
    seconds = CountField(source="_seconds", required=False)
    usd_per_minute = UsdField(
        source="_nano_per_minute", required=False, help_text="`velocity`: the most in any minute."
    )
    times_usual = MultipleField(
        source="_usual_thousandths",
        required=False,
        help_text="`velocity`: the most in a minute, as a multiple of the mean minute of the last 30.",
    )
    usual_floor_usd = UsdField(
        source="_usual_floor_nano",
        required=False,
        help_text="`times_usual` stops no minute of less than that.",
    )
    levels = CountField(
        source="_levels", required=False, help_text="`depth`: levels of runs above the call's."
    )
    cost_usd = UsdField(source="_cost_nano", required=False, help_text="`call`: the most that one may cost.")
    input_tokens = CountField(source="_input_tokens", required=False)
    output_tokens = CountField(source="_output_tokens", required=False)
    usd = UsdField(source="_nano", required=False, help_text="`newcomer`: the most in the first `minutes`.")
    minutes = CountField(source="_minutes", required=False)

    def to_internal_value(self, data: Any) -> Any:
        """Reads limits by their names inside. Raises ValidationError."""
        return {name.removeprefix("_"): value for name, value in super().to_internal_value(data).items()}

    def to_representation(self, instance: Any) -> dict[str, Any]:
        """Spells those that the guard has."""
        known = {name: field for name, field in self.fields.items()}
        return {
            name: field.to_representation(instance[inside])
            for name, field in known.items()
            if (inside := str(field.source).removeprefix("_")) in instance
        }


class GuardOut(Representation):
    """A guard."""

    id = WireIdField(ids.GUARD)
    name = serializers.CharField()
    kind = serializers.ChoiceField(choices=KINDS)
    mode = serializers.ChoiceField(
        choices=GuardMode.values, help_text="`enforce` stops calls, `observe` only tells."
    )
    scope = serializers.ChoiceField(choices=SCOPE_NAMES, help_text="Whose calls it watches.")
    subject = serializers.CharField(help_text="The one subject, or `*` for each on its own.")
    limits = GuardLimits()
    archived_at = TimeField(allow_null=True)
    created_at = TimeField()


class GuardIn(Strict):
    """A guard to be made."""

    kind = serializers.ChoiceField(choices=KINDS)
    scope = serializers.ChoiceField(choices=SCOPE_NAMES)
    limits = GuardLimits()
    subject = serializers.CharField(max_length=300, required=False, trim_whitespace=False)
    mode = serializers.ChoiceField(
        choices=GuardMode.values,
        required=False,
        help_text="`observe` by default: look before it stops anything.",
    )
    name = serializers.CharField(max_length=200, required=False, allow_blank=True)


class GuardChanges(Strict):
    """What can change of a guard: not what it watches."""

    name = serializers.CharField(max_length=200, required=False)
    mode = serializers.ChoiceField(choices=GuardMode.values, required=False)
    limits = GuardLimits(required=False)


class GuardFilters(django_filters.FilterSet):
    """Filters of the list."""

    kind = django_filters.ChoiceFilter(choices=[(kind, kind) for kind in KINDS])
    mode = django_filters.ChoiceFilter(choices=[(mode, mode) for mode in GuardMode.values])
    scope = django_filters.ChoiceFilter(choices=[(scope, scope) for scope in SCOPE_NAMES])
    subject = django_filters.CharFilter(max_length=300)
    archived = flag(
        field_name="archived_at",
        lookup_expr="isnull",
        exclude=True,
        help_text="Whether they are archived; both without it.",
    )

    class Meta:
        model = Guard
        fields: ClassVar[list[str]] = ["kind", "mode", "scope", "subject", "archived"]


class Guards(TenantView[Guard]):
    """Guards of the tenant."""

    topic = Topic.GUARDS
    id_prefix = ids.GUARD
    queryset = Guard.objects.all()
    representation = GuardOut
    filterset_class = GuardFilters

    @extend_schema(
        operation_id="listGuards",
        summary="List guards",
        responses=GuardOut(many=True),
        examples=[OpenApiExample("One guard", value=EXAMPLE, response_only=True)],
    )
    def list(self, request: Request) -> Response:
        """Lists guards, newest first."""
        return self.page(self.get_queryset())

    @extend_schema(
        operation_id="createGuard",
        summary="Create a guard",
        request=GuardIn,
        responses={201: GuardOut},
        examples=[
            OpenApiExample(
                "The same request of one customer, ten times a minute",
                value={"kind": "repeat", "scope": "customer", "limits": {"times": 10, "seconds": 60}},
                request_only=True,
            ),
            OpenApiExample("The guard", value=EXAMPLE, response_only=True),
        ],
    )
    def create(self, request: Request) -> Response:
        """Creates a guard, which watches from the next call on."""
        guard = NewGuard(**self.read(GuardIn))
        made = create_guard(tenant_id=self.tenant_id, guard=guard, actor=self.actor, now=self.now)
        return self.answer(made, 201)

    @extend_schema(
        operation_id="getGuard",
        summary="Get a guard",
        responses=GuardOut,
        examples=[OpenApiExample("The guard", value=EXAMPLE, response_only=True)],
    )
    def retrieve(self, request: Request, pk: str) -> Response:
        """Returns one guard, an archived one too."""
        return self.answer(self.wanted(pk))

    @extend_schema(
        operation_id="updateGuard",
        summary="Change a guard",
        request=GuardChanges,
        responses=GuardOut,
        examples=[
            OpenApiExample("From now on it stops calls", value={"mode": "enforce"}, request_only=True),
            OpenApiExample("The guard", value={**EXAMPLE, "mode": "enforce"}, response_only=True),
        ],
    )
    def partial_update(self, request: Request, pk: str) -> Response:
        """Changes a guard from the next call on."""
        guard = self.wanted(pk)
        self.require_match(guard)
        changes = self.read(GuardChanges)
        return self.answer(
            edit_guard(tenant_id=self.tenant_id, guard_id=guard.pk, **changes, actor=self.actor, now=self.now)
        )

    @extend_schema(
        operation_id="archiveGuard",
        summary="Archive a guard",
        responses={200: GuardOut},
        examples=[
            OpenApiExample(
                "The guard", value={**EXAMPLE, "archived_at": "2026-11-22T13:00:00Z"}, response_only=True
            )
        ],
    )
    def destroy(self, request: Request, pk: str) -> Response:
        """Archives a guard: it watches nothing more."""
        guard = self.wanted(pk)
        self.require_match(guard)
        return self.answer(
            archive_guard(tenant_id=self.tenant_id, guard_id=guard.pk, actor=self.actor, now=self.now)
        )
