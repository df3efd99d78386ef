"""/v1/ledger: every entry behind the sums."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any, ClassVar
from uuid import UUID

from drf_spectacular.utils import OpenApiExample, OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from budgets.api.usage import scoped
from budgets.domain.pricing_settled import CostOrigin
from budgets.domain.usage import NAME_CHARS_MAX, read_instant, read_text
from budgets.queries import ledger
from budgets.queries.bounded import Row, TookTooLong, limited
from noburn.kit import ids
from noburn.kit.problems import FieldError, Invalid, Missing
from noburn.kit.rest.fields import TimeField, UsdField, WireIdField
from noburn.kit.rest.filters import COMMON, require_filled, require_known
from noburn.kit.rest.pages import cut, page_answer, read_page
from noburn.kit.rest.serializers import Representation, read_fields
from tenants.api.base import TenantView
from tenants.domain.roles import Topic
from tenants.models import Tenant

STATES = ("settled", "voided", "presumed", "written_off")
KINDS = (*STATES, "rerated")
NAMES = ("customer", "user", "project", "model", "run")
FILTERS = {*NAMES, "kind", "hold", "from", "to"}
MILLISECONDS = 5_000
REVISIONS_MAX = 100

EXAMPLE = {
    "hold_id": "hold_01jd2c8vq6f5k9s0m3w7x4y1z2",
    "revision": 2,
    "kind": "settled",
    "flags": ["late"],
    "placed_at": "2026-11-22T12:00:00Z",
    "recorded_at": "2026-11-22T12:05:03Z",
    "project": "web",
    "customer": "acme",
    "user": "u1",
    "run": "",
    "plan": "free",
    "api_key": "key_01jd2c8vq6f5k9s0m3w7x4y1z2",
    "tags": {"feature": "chat"},
    "provider": "openai",
    "model": "gpt-4o-mini",
    "reported_model": "gpt-4o-mini-2024-07-18",
    "price_id": "",
    "cost_origin": "priced",
    "cost_usd": "-0.00016",
    "tokens": -430,
    "requests": 0,
    "usage": {"input_tokens": 980, "output_tokens": 290},
    "outcome": "ok",
    "latency_ms": 840,
    "note": "",
    "rerating_id": None,
    "postings": [{"counter_id": "5a0e3f0e-7c55-5a51-9d0c-0a5a3a2f0b11", "amount": -160000}],
}


class Posting(serializers.Serializer[Any]):
    """What an entry adds to one counter, in the counter's own unit: nano-USD, tokens or requests."""

    counter_id = serializers.UUIDField()
    amount = serializers.IntegerField()


class LedgerEntry(Representation):
    """One entry. A correction carries differences: all entries of a hold add up to what is recorded of it."""

    hold_id = WireIdField(ids.HOLD)
    revision = serializers.IntegerField()
    kind = serializers.ChoiceField(choices=KINDS)
    flags = serializers.ListField(child=serializers.CharField())
    placed_at = TimeField(
        help_text="When its hold was placed: what it was priced at, and the hour it belongs to."
    )
    recorded_at = TimeField()
    project = serializers.CharField()
    customer = serializers.CharField()
    user = serializers.CharField(source="end_user")
    run = serializers.CharField()
    plan = serializers.CharField()
    api_key = serializers.CharField()
    tags = serializers.DictField(child=serializers.CharField())
    provider = serializers.CharField()
    model = serializers.CharField()
    reported_model = serializers.CharField()
    price_id = serializers.CharField(
        help_text="What its hold was priced by; of a rerated entry, what the new cost comes of."
    )
    cost_origin = serializers.ChoiceField(
        choices=[origin.value for origin in CostOrigin],
        allow_null=True,
        help_text="Whose word the cost of a settlement is: noburn `priced` it, the caller `told` it, or it is the "
        "pre-flight's own estimate, no price being known. Null: not a settlement, or older than this field.",
    )
    cost_usd = UsdField(source="cost_nano")
    tokens = serializers.IntegerField()
    requests = serializers.IntegerField()
    usage = serializers.DictField(
        allow_null=True, help_text="What was told of the call; null if nothing was."
    )
    outcome = serializers.CharField()
    latency_ms = serializers.IntegerField(allow_null=True)
    note = serializers.CharField()
    rerating_id = WireIdField(
        ids.RERATING, allow_null=True, help_text="The re-rating that made a rerated entry."
    )
    postings = Posting(many=True)


class HoldHistory(serializers.Serializer[Any]):
    """All entries of one hold, and what they add up to."""

    hold_id = WireIdField(ids.HOLD)
    state = serializers.ChoiceField(choices=STATES)
    cost_usd = UsdField(source="cost_nano")
    tokens = serializers.IntegerField()
    requests = serializers.IntegerField()
    entries = LedgerEntry(many=True)


def _parameter(name: str, description: str, **options: Any) -> OpenApiParameter:
    return OpenApiParameter(name, str, description=description, **options)


class Ledger(TenantView[Tenant]):
    """The tenant's ledger, which nobody alters."""

    topic = Topic.USAGE
    id_prefix = ids.HOLD
    queryset = Tenant.objects.none()
    representation = LedgerEntry

    PARAMETERS: ClassVar[list[OpenApiParameter]] = [
        _parameter("kind", "Only entries of this kind.", enum=KINDS),
        _parameter("hold", "Only entries of this hold."),
        *(_parameter(name, f"Only entries of this {name}.") for name in NAMES),
        _parameter("from", "RFC 3339 with a zone: holds placed then or later."),
        _parameter("to", "RFC 3339 with a zone: holds placed before then."),
    ]

    @extend_schema(
        operation_id="listLedgerEntries",
        summary="List ledger entries",
        parameters=PARAMETERS,
        responses=LedgerEntry(many=True),
        examples=[OpenApiExample("A late settlement", value=EXAMPLE, response_only=True)],
    )
    def list(self, request: Request) -> Response:
        """Lists entries, those of the latest holds first."""
        require_known(request, FILTERS | COMMON)
        require_filled(request, FILTERS)
        params = scoped(request.query_params.dict(), self.access.project)
        wanted = read_filter(params, self.tenant_id)
        chosen = read_fields(params, LedgerEntry)
        page = read_page(params, key=[place_instant, UUID, place_revision])
        try:
            with limited(milliseconds=MILLISECONDS):
                before = None if page.after is None else (page.after[0], page.after[1], page.after[2])
                found = ledger.entries(wanted=wanted, before=before, limit=page.limit + 1)
        except TookTooLong as error:
            message = f"finding these takes longer than {MILLISECONDS // 1000} s: ask for less time"
            raise Invalid([FieldError("from", message)]) from error
        rows, next_cursor = cut(
            found, page.limit, lambda row: [row["placed_at"].isoformat(), row["hold_id"], row["revision"]]
        )
        shown = LedgerEntry([entry_of(row) for row in rows], many=True, context={"fields": chosen}).data
        return Response(page_answer(list(shown), next_cursor))

    @extend_schema(
        operation_id="getHoldHistory",
        summary="Get a hold's entries",
        responses=HoldHistory,
        examples=[
            OpenApiExample(
                "A hold that was settled late",
                value={
                    "hold_id": EXAMPLE["hold_id"],
                    "state": "settled",
                    "cost_usd": "0.00032",
                    "tokens": 1270,
                    "requests": 1,
                    "entries": [EXAMPLE],
                },
                response_only=True,
            )
        ],
    )
    def history(self, request: Request, pk: str) -> Response:
        """Returns every entry of one hold, the first one first."""
        require_known(request, {"format"})
        hold_id = self.path_id(pk)
        found = ledger.entries_of_hold(tenant_id=self.tenant_id, hold_id=hold_id, limit=REVISIONS_MAX)
        if not found or self.access.project not in (None, found[0]["project"]):
            raise Missing(pk)
        whole = {
            "hold_id": hold_id,
            # A re-rating changes what a call costs, and not what it is.
            "state": next(row["kind"] for row in reversed(found) if row["kind"] != "rerated"),
            **{name: sum(row[name] for row in found) for name in ("cost_nano", "tokens", "requests")},
            "entries": [entry_of(row) for row in found],
        }
        return Response(HoldHistory(whole).data)


def read_filter(params: Mapping[str, str], tenant_id: UUID) -> ledger.LedgerFilter:
    """Reads which entries are meant. Raises Invalid with every error."""
    errors: list[FieldError] = []
    names = {name: read_text(params, name, NAME_CHARS_MAX, errors) for name in NAMES if name in params}
    kind = params.get("kind", "")
    if kind and kind not in KINDS:
        errors.append(FieldError("kind", f"must be {', '.join(KINDS[:-1])} or {KINDS[-1]}"))
    hold_id = None
    if "hold" in params:
        try:
            hold_id = ids.decode(ids.HOLD, params["hold"])
        except ids.BadId:
            errors.append(FieldError("hold", "must be an id that starts with hold_"))
    since, until = (read_instant(params, name, errors) for name in ("from", "to"))
    if errors:
        raise Invalid(errors)
    return ledger.LedgerFilter(
        tenant_id=tenant_id,
        kind=kind,
        hold_id=hold_id,
        customer=names.get("customer", ""),
        end_user=names.get("user", ""),
        project=names.get("project", ""),
        model=names.get("model", ""),
        run=names.get("run", ""),
        since=since,
        until=until,
    )


def entry_of(row: Row) -> Row:
    """An entry with its postings, tags and usage as values."""
    pairs = zip(row["counters"], row["deltas"], strict=True)
    return {
        **row,
        # Django's connection gives JSON as text.
        "tags": json.loads(row["tags"]),
        "usage": json.loads(row["usage"]) if row["usage"] is not None else None,
        "postings": [{"counter_id": counter, "amount": delta} for counter, delta in pairs],
    }


def place_instant(text: str) -> datetime:
    """Reads the time of a page's place. Raises ValueError."""
    at = datetime.fromisoformat(text)
    if at.tzinfo is None:
        raise ValueError(text)
    return at


def place_revision(text: str) -> int:
    """Reads the revision of a page's place. Raises ValueError."""
    revision = int(text)
    if not 0 <= revision < 2**31:
        raise ValueError(text)
    return revision
