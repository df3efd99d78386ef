"""/v1/usage: what was spent, by whom and on what, added up from the rollups."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import OpenApiExample, OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response

from budgets.domain.usage import (
    DAYS_MAX,
    DIMENSIONS,
    HOURS_DAYS_MAX,
    SUMS,
    ZONE_DAYS_MAX,
    Bucket,
    Order,
    Question,
    read_question,
)
from budgets.queries import usage
from budgets.queries.bounded import Row
from noburn.kit.problems import FieldError, Invalid
from noburn.kit.rest.fields import TimeField, UsdField
from noburn.kit.rest.filters import COMMON, require_known
from noburn.kit.rest.pages import cut, read_page
from noburn.kit.rest.serializers import Representation, read_fields
from noburn.kit.rest.tables import CSV_ROWS_MAX, NEXT_CURSOR_HEADER, CsvRenderer, plain
from tenants.api.base import TenantView
from tenants.domain.roles import Topic
from tenants.models import Tenant

PARAMETERS = COMMON | {*DIMENSIONS, "bucket", "group_by", "from", "to", "tag", "time_zone", "sort"}

FIGURES = {
    "cost_usd": "0.0135",
    "presumed_usd": "0.002",
    **dict.fromkeys(SUMS, 0),
    "requests": 12,
    "tokens": 15240,
    "input_tokens": 11760,
    "output_tokens": 3480,
    "latency_ms": 840,
}
EXAMPLE = {
    "bucket": "day",
    "group_by": ["customer"],
    "time_zone": "UTC",
    "starts_at": "2026-11-01T00:00:00Z",
    "ends_at": "2026-11-23T00:00:00Z",
    "complete_through": "2026-11-22T11:59:58.120000Z",
    "totals": FIGURES,
    "items": [{"starts_at": "2026-11-22T00:00:00Z", "group": {"customer": "acme"}, **FIGURES}],
    "next_cursor": None,
}


class _Figures(Representation):
    """What calls cost and used."""

    cost_usd = UsdField(source="cost_nano")
    presumed_usd = UsdField(
        source="presumed_nano",
        help_text="The part of the cost that is presumed, since nobody settled those calls.",
    )

    def get_fields(self) -> dict[str, Any]:
        """Adds the counts, in their order, and the latency."""
        fields: dict[str, Any] = super().get_fields()
        for name in SUMS:
            fields[name] = serializers.IntegerField()
        fields["latency_ms"] = serializers.IntegerField(
            allow_null=True, help_text="The mean of the calls that told it."
        )
        return fields


class UsageTotals(_Figures):
    """What all rows add up to, those of other pages too."""


class UsageRow(_Figures):
    """One bucket of one group."""

    starts_at = TimeField(allow_null=True, help_text="When its hour or day begins; null with bucket=none.")
    group = serializers.DictField(
        source="names",
        child=serializers.CharField(allow_null=True),
        help_text="What `group_by` names, with its value; null for calls that named none.",
    )


class UsageAnswer(serializers.Serializer[Any]):
    """A page of usage, with the totals of all pages."""

    bucket = serializers.ChoiceField(choices=[word.value for word in Bucket])
    group_by = serializers.ListField(child=serializers.CharField())
    time_zone = serializers.CharField()
    starts_at = TimeField(help_text="`from`, or what stands for it, put back to where its bucket begins.")
    ends_at = TimeField(help_text="`to`, or now, put forward to where its bucket ends.")
    complete_through = TimeField(
        allow_null=True,
        help_text="Everything that was acknowledged before it is included; null while usage is counted anew.",
    )
    totals = UsageTotals()
    items = UsageRow(many=True)
    next_cursor = serializers.CharField(
        allow_null=True, help_text="Send it as `cursor` for the next page; null after the last."
    )


def _parameter(name: str, description: str, **options: Any) -> OpenApiParameter:
    return OpenApiParameter(name, options.pop("type", str), description=description, **options)


class Usage(TenantView[Tenant]):
    """Usage of the tenant's calls."""

    topic = Topic.USAGE
    queryset = Tenant.objects.none()
    representation = UsageRow
    renderer_classes = (JSONRenderer, CsvRenderer)

    @extend_schema(
        operation_id="getUsage",
        summary="Add up usage",
        parameters=[
            _parameter(
                "bucket",
                "A row for each hour, each day, or one for all of the time.",
                enum=list(Bucket),
                default="day",
            ),
            _parameter(
                "group_by",
                f"What to tell apart, with commas between: {', '.join(DIMENSIONS)}, or one tag as `tag:NAME`. "
                "A tag cannot be combined with user, plan or api_key.",
            ),
            _parameter(
                "from",
                f"RFC 3339 with a zone. At most {HOURS_DAYS_MAX} days by the hour, {DAYS_MAX} by the day of UTC, "
                f"{ZONE_DAYS_MAX} by the day of another zone. By default a day before (by the hour), or thirty.",
            ),
            _parameter("to", "RFC 3339 with a zone; not included. Now by default."),
            *(
                _parameter(name, f"Only calls of this {name.replace('_', ' ')}; empty: that named none.")
                for name in DIMENSIONS
            ),
            _parameter("tag", "Only calls with this tag, as `feature:chat`."),
            _parameter(
                "time_zone", "The zone whose days are meant, if it is whole hours from UTC.", default="UTC"
            ),
            _parameter(
                "sort",
                "By time and names, or with bucket=none the dearest first.",
                enum=list(Order),
                default="time",
            ),
            _parameter(
                "limit",
                f"The most items of a page. A table has up to {CSV_ROWS_MAX} rows, whatever it says.",
                type={"type": "integer", "minimum": 1, "maximum": 200, "default": 50},
            ),
            _parameter(
                "cursor", "The `next_cursor` of the page before.", type={"type": "string", "maxLength": 2000}
            ),
            _parameter(
                "format",
                f"`csv` for a table of up to {CSV_ROWS_MAX} rows, as does `Accept: text/csv`.",
                enum=["json", "csv"],
            ),
            OpenApiParameter(
                NEXT_CURSOR_HEADER,
                str,
                OpenApiParameter.HEADER,
                response=[200],
                description="The `cursor` of the next rows of a table, if there are more.",
            ),
        ],
        responses={(200, "application/json"): UsageAnswer, (200, "text/csv"): str},
        examples=[
            OpenApiExample(
                "A customer's days", value=EXAMPLE, response_only=True, media_type="application/json"
            ),
            OpenApiExample(
                "As a table",
                value="starts_at,customer,cost_usd,…\r\n2026-11-22T00:00:00Z,acme,0.0135,…\r\n",
                response_only=True,
                media_type="text/csv",
            ),
        ],
    )
    def ask(self, request: Request) -> Response:
        """Adds up usage, from rollups that follow the ledger within seconds; `complete_through` says how far.

        A call belongs to the hour in which its hold was placed. As a table, `Noburn-Next-Cursor` leads on.
        """
        require_known(request, PARAMETERS)
        params = scoped(request.query_params.dict(), self.access.project)
        question = read_question(params, now=self.now)
        chosen = read_fields(params, UsageRow)
        page = read_page(params, key=usage.key_parsers(question))
        as_csv = request.accepted_renderer.format == "csv"
        limit = CSV_ROWS_MAX if as_csv else page.limit
        found = usage.ask(tenant_id=self.tenant_id, question=question, after=page.after, limit=limit)
        rows, next_cursor = cut(found.rows, limit, lambda row: usage.key_of(question, row))
        shown = UsageRow([_row(question, row) for row in rows], many=True, context={"fields": chosen}).data
        if as_csv:
            headers = {NEXT_CURSOR_HEADER: next_cursor} if next_cursor else {}
            return Response(_table(question, shown, chosen), headers=headers)
        head = {
            "bucket": question.bucket,
            "group_by": list(question.groups),
            "time_zone": question.zone,
            "starts_at": question.since,
            "ends_at": question.until,
            "complete_through": found.complete_through,
            "totals": found.totals,
            "items": [],
            "next_cursor": next_cursor,
        }
        return Response({**UsageAnswer(head).data, "items": shown})


def scoped(params: dict[str, str], project: str | None) -> dict[str, str]:
    """The parameters of a key that belongs to one project: it sees that one alone. Raises Invalid for another."""
    if project is None:
        return params
    if params.get("project", project) != project:
        raise Invalid([FieldError("project", f"this key belongs to the project {project!r}")])
    return {**params, "project": project}


def _row(question: Question, row: Row) -> Row:
    names = {
        # An empty value is one that a tag may have.
        group: (value if group.startswith("tag:") else value or None)
        for group, value in row["names"].items()
    }
    starts_at = None if question.bucket is Bucket.NONE else row["bucket"]
    return {**row, "names": names, "starts_at": starts_at}


def _table(question: Question, rows: Any, chosen: frozenset[str] | None) -> list[list[Any]]:
    figures = [
        name
        for name in map(str, UsageRow().fields)
        if name not in ("starts_at", "group") and (chosen is None or name in chosen)
    ]
    table: list[list[Any]] = [["starts_at", *question.groups, *figures]]
    for row in rows:
        names = [plain(row.get("group", {}).get(group)) for group in question.groups]
        table.append([row.get("starts_at"), *names, *(row[name] for name in figures)])
    return table
