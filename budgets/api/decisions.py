"""/v1/decisions: what pre-flights were answered, and why."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, ClassVar
from uuid import UUID

from drf_spectacular.utils import OpenApiExample, OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from budgets.api.amounts import CountOf, UsdOf
from budgets.api.usage import scoped
from budgets.domain.decisions import REASONS
from budgets.domain.usage import NAME_CHARS_MAX, read_instant, read_text
from budgets.queries import decisions
from budgets.queries.bounded import Row, TookTooLong, limited
from noburn.kit import ids
from noburn.kit.problems import FieldError, Invalid, Missing
from noburn.kit.rest.fields import TimeField, UsdField, WireIdField
from noburn.kit.rest.filters import COMMON, require_filled, require_known
from noburn.kit.rest.pages import KeysetPages, cut, page_answer, read_page
from noburn.kit.rest.serializers import Representation, read_fields
from tenants.api.base import TenantView
from tenants.domain.roles import Topic
from tenants.models import Tenant

NAMES = ("customer", "user", "project", "run", "provider", "model")
FILTERS = {*NAMES, "decision", "reason", "budget", "guard", "tag", "from", "to", "after"}
MILLISECONDS = 5_000
GAPS_MAX = 20
TEXTS = (
    "project",
    "customer",
    "end_user",
    "run",
    "plan",
    "provider",
    "model",
    "price_id",
    "service_tier",
    "fingerprint",
)

EXAMPLE: dict[str, Any] = {
    "id": "dec_01jd2c8vq6f5k9s0m3w7x4y1z2",
    "decided_at": "2026-11-22T12:00:00.120400Z",
    "decision": "deny",
    "reason": "budget_exceeded",
    "hold_id": None,
    "api_key": "key_01jd2c8vq6f5k9s0m3w7x4y1z2",
    "project": "web",
    "customer": "acme",
    "user": "u1",
    "run": "",
    "plan": "free",
    "tags": {"feature": "chat"},
    "provider": "openai",
    "model": "gpt-4o-mini",
    "price_id": "3448",
    "input_tokens": 1200,
    "cached_input_tokens": None,
    "asked_max_output_tokens": 500,
    "max_output_tokens": 500,
    "n": 1,
    "images": 0,
    "audio": False,
    "tools": {},
    "service_tier": "",
    "fingerprint": "",
    "estimate_usd": "0.00048",
    "cost_usd": None,
    "fit": False,
    "wait_ms": 0,
    "waited_ms": 0,
    "ttl_seconds": 120,
    "budget": {
        "id": "bud_01jd2c8vq6f5k9s0m3w7x4y1z2",
        "subject": "acme",
        "limit_usd": "0.0003",
        "remaining_usd": "0.0003",
        "room_usd": "0.0003",
    },
    "shadow": [],
    "guard": None,
    "guards_observed": [],
    "policy_version": 7,
    "routing": None,
}
GAP = {
    "started_at": "2026-11-22T11:00:00Z",
    "ended_at": "2026-11-22T11:00:40Z",
    "dropped": 1200,
    "why": "full",
}


class DecidingBudget(serializers.Serializer[Any]):
    """The budget that decided, in its metric's unit: the one that refused, or the one with the smallest share left."""

    id = WireIdField(ids.BUDGET, source="budget_id")
    subject = serializers.CharField()
    limit_usd = UsdOf("usd", "limit_amount")
    limit_tokens = CountOf("tokens", "limit_amount")
    limit_requests = CountOf("requests", "limit_amount")
    remaining_usd = UsdOf("usd", "remaining")
    remaining_tokens = CountOf("tokens", "remaining")
    remaining_requests = CountOf("requests", "remaining")
    room_usd = UsdOf(
        "usd", "room", allow_null=True, help_text="What would fit once holds in flight are gone."
    )
    room_tokens = CountOf("tokens", "room", allow_null=True)
    room_requests = CountOf("requests", "room", allow_null=True)


class Routing(serializers.Serializer[Any]):
    """How a call came to its model, and what policies could look at."""

    asked_model = serializers.CharField(allow_null=True, help_text="Null: the one that was decided about.")
    policy = WireIdField(ids.POLICY, allow_null=True, help_text="Whose rule matched.")
    rule = serializers.CharField(allow_null=True)
    downgraded_by = WireIdField(
        ids.BUDGET, allow_null=True, help_text="The budget that fell back to the model."
    )
    task = serializers.CharField(allow_null=True)
    output = serializers.CharField(allow_null=True)
    steps = serializers.IntegerField(allow_null=True)


class DecisionOut(Representation):
    """One decision with what went into it. Texts that were not given are empty."""

    id = WireIdField(ids.DECISION)
    decided_at = TimeField()
    decision = serializers.ChoiceField(choices=("allow", "deny"))
    reason = serializers.ChoiceField(choices=REASONS, allow_null=True, help_text="Why it was refused.")
    hold_id = WireIdField(ids.HOLD, allow_null=True, help_text="The hold of an allowed call.")
    api_key = WireIdField(ids.API_KEY)
    project = serializers.CharField()
    customer = serializers.CharField()
    user = serializers.CharField(source="end_user")
    run = serializers.CharField()
    plan = serializers.CharField()
    tags = serializers.DictField(child=serializers.CharField())
    provider = serializers.CharField()
    model = serializers.CharField(
        help_text="Which was decided about; `routing` says if another one was asked for."
    )
    price_id = serializers.CharField()
    input_tokens = serializers.IntegerField()
    cached_input_tokens = serializers.IntegerField(allow_null=True)
    asked_max_output_tokens = serializers.IntegerField(allow_null=True, source="cap_asked")
    max_output_tokens = serializers.IntegerField(
        allow_null=True, source="cap", help_text="What was granted or refused; null where no price was known."
    )
    n = serializers.IntegerField()
    images = serializers.IntegerField()
    audio = serializers.BooleanField()
    tools = serializers.DictField(child=serializers.IntegerField())
    service_tier = serializers.CharField()
    fingerprint = serializers.CharField(help_text="A digest of the fingerprint that was sent.")
    estimate_usd = UsdField(source="estimate_nano", allow_null=True, help_text="The most that it could cost.")
    cost_usd = UsdField(
        source="own_nano", allow_null=True, help_text="The caller's own bound, if it sent one."
    )
    fit = serializers.BooleanField()
    wait_ms = serializers.IntegerField()
    waited_ms = serializers.IntegerField()
    ttl_seconds = serializers.IntegerField()
    budget = DecidingBudget(allow_null=True)
    shadow = serializers.ListField(
        child=WireIdField(ids.BUDGET), help_text="Budgets that only warn and would have refused it."
    )
    guard = WireIdField(ids.GUARD, source="guard_id", allow_null=True, help_text="The guard that stopped it.")
    guards_observed = serializers.ListField(
        child=WireIdField(ids.GUARD), help_text="Guards that only observe and would have stopped it."
    )
    policy_version = serializers.IntegerField()
    routing = Routing(
        allow_null=True, help_text="Null: as asked for, by no rule, without a word on the task."
    )


class DecisionPages(KeysetPages):
    """Pages that say what is missing from the log."""

    def get_paginated_response_schema(self, schema: dict[str, Any]) -> dict[str, Any]:
        """Describes the answer in the API document."""
        described = super().get_paginated_response_schema(schema)
        gap = {
            "type": "object",
            "required": list(GAP),
            "properties": {
                "started_at": {"type": "string", "format": "date-time"},
                "ended_at": {"type": "string", "format": "date-time"},
                "dropped": {"type": "integer", "minimum": 1},
                "why": {"type": "string", "enum": ["full", "late", "refused"]},
            },
        }
        described["required"] = [*described["required"], "dropped", "gaps"]
        described["properties"] |= {
            "dropped": {
                "type": "integer",
                "minimum": 0,
                "example": 0,
                "description": "How many decisions of this period are missing from the log, whatever the other filters.",
            },
            "gaps": {
                "type": "array",
                "items": gap,
                "description": "When: the newest of them.",
                "example": [],
            },
        }
        return described


def _parameter(name: str, description: str, **options: Any) -> OpenApiParameter:
    return OpenApiParameter(name, str, description=description, **options)


class Decisions(TenantView[Tenant]):
    """The tenant's log of decisions, which nobody alters."""

    topic = Topic.USAGE
    id_prefix = ids.DECISION
    queryset = Tenant.objects.none()
    representation = DecisionOut
    pagination_class = DecisionPages

    PARAMETERS: ClassVar[list[OpenApiParameter]] = [
        _parameter("decision", "Only calls that were allowed, or refused.", enum=("allow", "deny")),
        _parameter("reason", "Only calls that were refused for this reason.", enum=REASONS),
        *(_parameter(name, f"Only calls of this {name}.") for name in NAMES),
        _parameter("budget", "Only what this budget refused, or would have refused if it did not only warn."),
        _parameter("guard", "Only what this guard stopped, or would have if it did not only observe."),
        _parameter("tag", "Only calls with this tag: `name=value`, or `name` for any value."),
        _parameter("from", "RFC 3339 with a zone: decided then or later."),
        _parameter("to", "RFC 3339 with a zone: decided before then."),
        _parameter(
            "after", "The id of a decision: only what was logged later. A feed asks for it again and again."
        ),
    ]

    @extend_schema(
        operation_id="listDecisions",
        summary="List decisions",
        parameters=PARAMETERS,
        responses=DecisionOut(many=True),
        examples=[OpenApiExample("A refusal", value=EXAMPLE, response_only=True)],
    )
    def list(self, request: Request) -> Response:
        """Lists decisions, newest first, in the order in which they were logged: within a second of being made."""
        require_known(request, FILTERS | COMMON)
        require_filled(request, FILTERS)
        params = scoped(request.query_params.dict(), self.access.project)
        wanted = read_filter(params, self.tenant_id)
        chosen = read_fields(params, DecisionOut)
        page = read_page(params, key=[UUID])
        try:
            with limited(milliseconds=MILLISECONDS):
                found = decisions.decisions(
                    wanted=wanted, before=page.after[0] if page.after else None, limit=page.limit + 1
                )
                dropped, gaps = decisions.gaps(
                    tenant_id=self.tenant_id,
                    since=wanted.since,
                    until=wanted.until,
                    after=wanted.after,
                    limit=GAPS_MAX,
                )
        except TookTooLong as error:
            message = f"finding these takes longer than {MILLISECONDS // 1000} s: ask for less time"
            raise Invalid([FieldError("from", message)]) from error
        rows, next_cursor = cut(found, page.limit, lambda row: [row["id"]])
        shown = DecisionOut([decision_of(row) for row in rows], many=True, context={"fields": chosen}).data
        told = [
            {**gap, "started_at": _time(gap["started_at"]), "ended_at": _time(gap["ended_at"])}
            for gap in gaps
        ]
        return Response(
            page_answer(
                list(shown),
                next_cursor,
                dropped=dropped,
                gaps=[{name: gap[name] for name in GAP} for gap in told],
            )
        )

    @extend_schema(
        operation_id="getDecision",
        summary="Get a decision",
        responses=DecisionOut,
        examples=[OpenApiExample("A refusal", value=EXAMPLE, response_only=True)],
    )
    def retrieve(self, request: Request, pk: str) -> Response:
        """Returns one decision."""
        found = decisions.decision(tenant_id=self.tenant_id, decision_id=self.path_id(pk))
        if found is None or self.access.project not in (None, found["project"]):
            raise Missing(pk)
        return self.answer(decision_of(found))


def read_filter(params: Mapping[str, str], tenant_id: UUID) -> decisions.DecisionFilter:
    """Reads which decisions are meant. Raises Invalid with every error."""
    errors: list[FieldError] = []
    names = {name: read_text(params, name, NAME_CHARS_MAX, errors) for name in NAMES if name in params}
    decision, reason = params.get("decision"), params.get("reason", "")
    if decision not in (None, "allow", "deny"):
        errors.append(FieldError("decision", "must be allow or deny"))
    if reason and reason not in REASONS:
        errors.append(FieldError("reason", f"must be one of {', '.join(REASONS)}"))
    tag: tuple[str, str | None] | None = None
    if "tag" in params:
        name, equals, value = read_text(params, "tag", 2 * NAME_CHARS_MAX, errors).partition("=")
        tag = (name, value if equals else None)
    given: dict[str, UUID | None] = {"budget": None, "guard": None, "after": None}
    for parameter, prefix in (("budget", ids.BUDGET), ("guard", ids.GUARD), ("after", ids.DECISION)):
        if parameter in params:
            try:
                given[parameter] = ids.decode(prefix, params[parameter])
            except ids.BadId:
                errors.append(FieldError(parameter, f"must be an id that starts with {prefix}_"))
    since, until = (read_instant(params, name, errors) for name in ("from", "to"))
    if errors:
        raise Invalid(errors)
    return decisions.DecisionFilter(
        tenant_id=tenant_id,
        allowed=None if decision is None else decision == "allow",
        reason=reason,
        customer=names.get("customer", ""),
        end_user=names.get("user", ""),
        project=names.get("project", ""),
        run=names.get("run", ""),
        provider=names.get("provider", ""),
        model=names.get("model", ""),
        budget_id=given["budget"],
        guard_id=given["guard"],
        tag=tag,
        since=since,
        until=until,
        after=given["after"],
    )


def _time(at: Any) -> Any:
    return TimeField().to_representation(at)


def decision_of(row: Row) -> Row:
    """A decision with its tags and tools as values, and texts that were not given empty."""
    return {
        **row,
        **{name: row[name] or "" for name in TEXTS},
        "decision": "allow" if row["reason"] is None else "deny",
        # Django's connection gives JSON as text.
        "tags": json.loads(row["tags"] or "{}"),
        "tools": json.loads(row["tools"] or "{}"),
        "budget": row if row["budget_id"] is not None else None,
        "shadow": row["shadow"] or [],
        "guards_observed": row["guards_observed"] or [],
        "routing": _routing(json.loads(row["routed"] or "{}")),
    }


def _routing(said: dict[str, Any]) -> dict[str, Any] | None:
    if not said:
        return None
    return {
        "asked_model": said.get("asked"),
        "policy": UUID(said["policy"]) if "policy" in said else None,
        "rule": said.get("rule"),
        "downgraded_by": UUID(said["budget"]) if "budget" in said else None,
        "task": said.get("task"),
        "output": said.get("output"),
        "steps": said.get("steps"),
    }
