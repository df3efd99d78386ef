"""/v1/policies: rules in order that say which model a call uses, and what they would have done."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, ClassVar, Final

import django_filters
from drf_spectacular.utils import OpenApiExample, extend_schema
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from budgets.api.amounts import CountField
from budgets.api.flags import flag
from budgets.domain.routing import DAYS, OUTPUTS, TIERS, Outcome
from budgets.domain.routing_rules import NAME_LENGTH_MAX, NAMES_MAX, RULES_MAX
from budgets.models import RoutingPolicy
from budgets.services.routing import (
    InvalidPolicy,
    PolicyFields,
    archive_policy,
    create_policy,
    edit_policy,
    find_policy,
)
from budgets.services.routing_simulation import DECISIONS_MAX, Simulation, Wanted, simulate
from noburn.kit import ids
from noburn.kit.money import to_usd
from noburn.kit.problems import FieldError
from noburn.kit.rest.fields import TimeField, WireIdField
from noburn.kit.rest.serializers import Representation, Strict
from tenants.api.base import TenantView
from tenants.domain.roles import Topic

DAYS_DEFAULT: Final = timedelta(days=7)
RULE: Final = {
    "name": "short strict JSON",
    "when": {
        "provider": ["openai"],
        "task": ["extract", "classify"],
        "output": ["schema"],
        "input_tokens": {"max": 4000},
    },
    "then": {"action": "use_model", "model": "gpt-4o-mini"},
}
LONG_RULE: Final = {
    "name": "long or many steps",
    "when": {"provider": ["openai"], "input_tokens": {"min": 60000}},
    "then": {"action": "use_tier", "tier": "big"},
}
EXAMPLE: Final = {
    "id": "pol_01jd2c8vq6f5k9s0m3w7x4y1z2",
    "version": 1,
    "name": "by task",
    "position": 0,
    "enabled": True,
    "rules": [RULE, LONG_RULE],
    "tiers": {"openai": {"small": "gpt-4o-mini", "big": "gpt-4.1"}},
    "time_zone": None,
    "archived_at": None,
    "created_at": "2026-11-22T12:00:00Z",
}
_NEW: Final = {name: EXAMPLE[name] for name in ("name", "rules", "tiers")}
_COUNT_MAX: Final = 100_000_000


class _Names(serializers.ListField):
    """Names, of which the last letter may be a star."""

    def __init__(self, choices: tuple[str, ...] | None = None, **options: Any) -> None:
        child = (
            serializers.CharField(max_length=NAME_LENGTH_MAX)
            if choices is None
            else serializers.ChoiceField(choices=choices)
        )
        super().__init__(child=child, min_length=1, max_length=NAMES_MAX, required=False, **options)


class NumberSpan(Strict):
    """From `min` to `max`, both included."""

    min = CountField(min_value=0, max_value=_COUNT_MAX, required=False)
    max = CountField(min_value=0, max_value=_COUNT_MAX, required=False)


def _share() -> serializers.RegexField:
    return serializers.RegexField(
        r"^(0(\.[0-9]{1,6})?|1(\.0{1,6})?)$",
        max_length=8,
        required=False,
        help_text='A decimal string from "0" to "1".',
        error_messages={"invalid": 'must be a decimal string from "0" to "1"'},
    )


class ShareSpan(Strict):
    """From `min` to `max`, both included."""

    min = _share()
    max = _share()


def _clock() -> serializers.RegexField:
    return serializers.RegexField(
        r"^(([01][0-9]|2[0-3]):[0-5][0-9]|24:00)$",
        max_length=5,
        required=False,
        error_messages={"invalid": "must be a time of day such as 09:00"},
    )


class HoursOfDays(Strict):
    """Days and hours, in the policy's time zone; `to` is excluded and may lie on the next day."""

    days = _Names(DAYS)

    def get_fields(self) -> dict[str, Any]:
        """Names two fields as no attribute of Python's may be named."""
        return {**super().get_fields(), "from": _clock(), "to": _clock()}


class RuleWhen(Strict):
    """What a call must be for the rule to match: all of what is named. A name may end in `*`."""

    provider = _Names()
    model = _Names()
    task = _Names(help_text="What the pre-flight says the call is for.")
    output = _Names(OUTPUTS, help_text="What it is to write: text, JSON, or JSON by a strict schema.")
    plan = _Names()
    customer = _Names()
    project = _Names()
    tags = serializers.DictField(
        child=serializers.ListField(
            child=serializers.CharField(max_length=NAME_LENGTH_MAX), min_length=1, max_length=NAMES_MAX
        ),
        required=False,
    )
    input_tokens = NumberSpan(required=False)
    max_output_tokens = NumberSpan(required=False)
    steps = NumberSpan(required=False, help_text="Messages, or steps, that it goes through.")
    time = HoursOfDays(required=False)
    utilization = ShareSpan(
        required=False, help_text="Used share of the tightest budget that the call falls under."
    )


class RuleThen(Strict):
    """What becomes of a call that matches."""

    action = serializers.ChoiceField(choices=[str(one) for one in Outcome])
    model = serializers.CharField(max_length=NAME_LENGTH_MAX, required=False, help_text="Of `use_model`.")
    tier = serializers.ChoiceField(choices=TIERS, required=False, help_text="Of `use_tier`.")


class PolicyRule(Strict):
    """One rule."""

    name = serializers.CharField(max_length=NAME_LENGTH_MAX)
    when = RuleWhen(required=False, help_text="Left out: every call.")
    then = RuleThen()


class ModelTiers(Strict):
    """The models of one provider's tiers."""

    small = serializers.CharField(max_length=NAME_LENGTH_MAX, required=False)
    big = serializers.CharField(max_length=NAME_LENGTH_MAX, required=False)


def _rules(**options: Any) -> serializers.BaseSerializer[Any]:
    chosen: dict[str, Any] = {"many": True, "max_length": RULES_MAX, **options}
    return PolicyRule(**chosen)


class PolicyOut(Representation):
    """A policy."""

    id = WireIdField(ids.POLICY)
    version = serializers.IntegerField(help_text="Rises with every edit.")
    name = serializers.CharField()
    position = serializers.IntegerField(help_text="Policies are gone through by it, then by age.")
    enabled = serializers.BooleanField()
    rules = serializers.ListField(child=PolicyRule())
    tiers = serializers.DictField(child=ModelTiers())
    time_zone = serializers.CharField(allow_null=True, help_text="Null: the tenant's.")
    archived_at = TimeField(allow_null=True)
    created_at = TimeField()


class PolicyIn(Strict):
    """A policy to be made."""

    name = serializers.CharField(max_length=NAME_LENGTH_MAX)
    rules = _rules()
    tiers = serializers.DictField(child=ModelTiers(), required=False, help_text="By provider.")
    position = CountField(min_value=0, max_value=1_000_000, required=False)
    enabled = serializers.BooleanField(required=False)
    time_zone = serializers.CharField(max_length=64, required=False, allow_null=True)


class PolicyChanges(PolicyIn):
    """What to change; what is left out stays."""

    name = serializers.CharField(max_length=NAME_LENGTH_MAX, required=False)
    rules = _rules(required=False)


class SimulationIn(Strict):
    """Which past decisions, and what to decide them by."""

    policy = PolicyIn(help_text="The policy that is not saved yet.")
    replaces = WireIdField(ids.POLICY, required=False, help_text="The policy in whose place it would be.")
    since = TimeField(required=False, help_text="A week ago, if it is left out.")
    until = TimeField(required=False, help_text="Now, if it is left out.")
    limit = CountField(min_value=1, max_value=DECISIONS_MAX, required=False)


class SimulatedRule(serializers.Serializer[Any]):
    """What one rule would have done. Costs are bounds, as holds are."""

    policy = serializers.CharField(allow_null=True, help_text="Null: the policy that is not saved yet.")
    rule = serializers.CharField()
    action = serializers.CharField()
    calls = serializers.IntegerField()
    changed = serializers.IntegerField(help_text="Calls that would use another model, or be blocked.")
    before_usd = serializers.CharField()
    after_usd = serializers.CharField()


class SimulationOut(serializers.Serializer[Any]):
    """What rules would have done with past calls."""

    since = TimeField()
    until = TimeField()
    calls = serializers.IntegerField()
    more = serializers.BooleanField(help_text="Whether there are older decisions that were not looked at.")
    rules = SimulatedRule(many=True)
    unmatched = serializers.IntegerField()
    changed = serializers.IntegerField()
    blocked = serializers.IntegerField()
    passed_over = serializers.IntegerField(
        help_text="Calls of which a rule named a model that their provider does not sell."
    )
    before_usd = serializers.CharField()
    after_usd = serializers.CharField()


class PolicyFilters(django_filters.FilterSet):
    """Filters of the list."""

    archived = flag(
        field_name="archived_at",
        lookup_expr="isnull",
        exclude=True,
        help_text="Whether they are archived; both without it.",
    )

    class Meta:
        model = RoutingPolicy
        fields: ClassVar[list[str]] = ["archived"]


class Policies(TenantView[RoutingPolicy]):
    """Policies of the tenant."""

    topic = Topic.BUDGETS
    id_prefix = ids.POLICY
    queryset = RoutingPolicy.objects.all()
    representation = PolicyOut
    filterset_class = PolicyFilters

    @extend_schema(
        operation_id="listPolicies",
        summary="List policies",
        responses=PolicyOut(many=True),
        examples=[OpenApiExample("One policy", value=EXAMPLE, response_only=True)],
    )
    def list(self, request: Request) -> Response:
        """Lists policies, newest first; calls go through them by `position`."""
        return self.page(self.get_queryset())

    @extend_schema(
        operation_id="createPolicy",
        summary="Create a policy",
        request=PolicyIn,
        responses={201: PolicyOut},
        examples=[
            OpenApiExample("By the shape of the task", value=_NEW, request_only=True),
            OpenApiExample("The policy", value=EXAMPLE, response_only=True),
        ],
    )
    def create(self, request: Request) -> Response:
        """Creates a policy, by which the next calls go: the first rule that matches decides."""
        made = create_policy(
            tenant_id=self.tenant_id, policy=_new(self.read(PolicyIn)), actor=self.actor, now=self.now
        )
        return self.answer(made, 201)

    @extend_schema(
        operation_id="getPolicy",
        summary="Get a policy",
        responses=PolicyOut,
        examples=[OpenApiExample("The policy", value=EXAMPLE, response_only=True)],
    )
    def retrieve(self, request: Request, pk: str) -> Response:
        """Returns one policy, an archived one too."""
        return self.answer(self.wanted(pk))

    @extend_schema(
        operation_id="updatePolicy",
        summary="Change a policy",
        request=PolicyChanges,
        responses=PolicyOut,
        examples=[
            OpenApiExample("Switched off", value={"enabled": False}, request_only=True),
            OpenApiExample(
                "The policy", value={**EXAMPLE, "version": 2, "enabled": False}, response_only=True
            ),
        ],
    )
    def partial_update(self, request: Request, pk: str) -> Response:
        """Changes a policy from the next call on; its rules are replaced as a whole."""
        row = self.wanted(pk)
        self.require_match(row)
        return self.answer(
            edit_policy(
                tenant_id=self.tenant_id,
                policy_id=row.pk,
                changes=self.read(PolicyChanges),
                actor=self.actor,
                now=self.now,
            )
        )

    @extend_schema(
        operation_id="archivePolicy",
        summary="Archive a policy",
        responses={200: PolicyOut},
        examples=[
            OpenApiExample(
                "The policy",
                value={**EXAMPLE, "version": 2, "archived_at": "2026-11-22T13:00:00Z"},
                response_only=True,
            )
        ],
    )
    def destroy(self, request: Request, pk: str) -> Response:
        """Archives a policy: it decides about no further call, and decisions that name it stay."""
        row = self.wanted(pk)
        self.require_match(row)
        return self.answer(
            archive_policy(tenant_id=self.tenant_id, policy_id=row.pk, actor=self.actor, now=self.now)
        )

    @extend_schema(
        operation_id="simulatePolicy",
        summary="Try a policy on past decisions",
        request=SimulationIn,
        responses={200: SimulationOut},
        examples=[
            OpenApiExample("A policy that is not saved", value={"policy": _NEW}, request_only=True),
            OpenApiExample(
                "What it would have done",
                value={
                    "since": "2026-11-15T12:00:00Z",
                    "until": "2026-11-22T12:00:00Z",
                    "calls": 1200,
                    "more": False,
                    "rules": [
                        {
                            "policy": None,
                            "rule": "short strict JSON",
                            "action": "use_model",
                            "calls": 800,
                            "changed": 640,
                            "before_usd": "8.12",
                            "after_usd": "0.61",
                        }
                    ],
                    "unmatched": 400,
                    "changed": 640,
                    "blocked": 0,
                    "passed_over": 0,
                    "before_usd": "12.4",
                    "after_usd": "4.89",
                },
                response_only=True,
            ),
        ],
    )
    @action(detail=False, methods=["post"])
    def simulate(self, request: Request) -> Response:
        """Decides past calls anew with a policy that is not saved, beside the others; nothing is changed."""
        read = self.read(SimulationIn)
        until = read.get("until") or self.now
        since = read.get("since") or until - DAYS_DEFAULT
        policy = _new(read["policy"])
        errors = [FieldError(f"policy.{one.field}", one.message) for one in policy.errors()]
        if since >= until:
            errors.append(FieldError("since", "must be before until"))
        if errors:
            raise InvalidPolicy(errors)
        replaces = read.get("replaces")
        if replaces is not None:
            find_policy(self.tenant_id, replaces)
        wanted = Wanted(
            policy=policy, replaces=replaces, since=since, until=until, limit=read.get("limit", DECISIONS_MAX)
        )
        found = simulate(tenant_id=self.tenant_id, wanted=wanted, now=self.now)
        return Response(_simulated(found, wanted))


def _new(values: dict[str, Any]) -> PolicyFields:
    return PolicyFields(**{"tiers": {}, **values})


def _simulated(found: Simulation, wanted: Wanted) -> dict[str, Any]:
    rules = [
        {
            "policy": None if one.policy_id is None else ids.encode(ids.POLICY, one.policy_id),
            "rule": one.rule,
            "action": one.then.value,
            "calls": one.calls,
            "changed": one.changed,
            "before_usd": to_usd(one.before_nano),
            "after_usd": to_usd(one.after_nano),
        }
        for one in found.rules
    ]
    body = {
        "since": wanted.since,
        "until": wanted.until,
        "calls": found.calls,
        "more": found.more,
        "rules": rules,
        "unmatched": found.unmatched,
        "changed": found.changed,
        "blocked": found.blocked,
        "passed_over": found.passed_over,
        "before_usd": to_usd(found.before_nano),
        "after_usd": to_usd(found.after_nano),
    }
    return dict(SimulationOut(body).data)
