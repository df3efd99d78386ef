"""Runs of agents: found, looked at, and stopped."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any, Final

from django import forms
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.functional import cached_property

from budgets.dashboard.decided import shown
from budgets.dashboard.params import query
from budgets.domain.refusal_words import SHORT
from budgets.models.runs import STATES, Run
from budgets.queries.bounded import Row, TookTooLong, limited
from budgets.queries.decisions import DecisionFilter, decisions
from budgets.queries.runs import run_summary
from budgets.services.run_stops import REASON_CHARS_MAX, stop_run
from noburn.dashboard.exports import EXPORT_ROWS_MAX, export
from noburn.dashboard.forms import PageForm
from noburn.dashboard.tables import Column, Table, table_of
from noburn.kit.money import to_usd
from noburn.kit.problems import FieldError, Invalid, Missing
from tenants.dashboard.page import ConfirmPage, TenantPage
from tenants.domain.roles import Topic
from tenants.queries.actors import actor_names

NAME_CHARS_MAX: Final = 200
MILLISECONDS: Final = 3_000
SUMMARY_MS: Final = 1_000
CHILDREN: Final = 25
CALLS: Final = 10
NAMES: Final = {"customer": "customer", "user": "end_user", "project": "project", "parent": "parent"}
COLUMNS: Final = (
    Column("run", "Run"),
    Column("state", "State"),
    Column("whom", "For"),
    Column("caps", "Caps"),
    Column("started", "Started", sort="started_at", read=datetime.fromisoformat),
    Column("seen", "Last call"),
)
EXPORTED: Final = (
    "run", "state", "reason", "parent", "customer", "user", "project", "cap_usd", "cap_steps", "cap_seconds", "cap_depth",
    "started_at", "last_seen_at", "ends_at", "closed_at", "closed_by",
)  # fmt: skip


class RunsPage(TenantPage):
    """A page about runs."""

    topic = Topic.RUNS
    section = "runs"


class Runs(RunsPage):
    """The runs that were started or stopped, the newest first."""

    title = "Runs"
    template_name = "rules/runs.html"
    partials = {"run-rows": "rules/_run_rows.html"}

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """The page, or its rows as a file."""
        if form := request.GET.get("format"):
            rows = self._rows(self._filters()).order_by("-started_at", "-pk")[: EXPORT_ROWS_MAX + 1]
            return export(
                form, name=f"{self.tenant.slug}-runs", columns=EXPORTED, rows=[_cells(row) for row in rows]
            )
        return self.show()

    def _filters(self) -> dict[str, str]:
        wanted = ("search", "state", "level", *NAMES)
        given = {name: text for name in wanted if (text := self.request.GET.get(name, "").strip())}
        errors = [
            FieldError(name, f"must be at most {NAME_CHARS_MAX} characters of text")
            for name, text in given.items()
            if len(text) > NAME_CHARS_MAX or "\x00" in text
        ]
        if given.get("state", STATES[0]) not in STATES:
            errors.append(FieldError("state", f"must be one of {', '.join(STATES)}"))
        if given.get("level", "top") != "top":
            errors.append(FieldError("level", "must be top"))
        if errors:
            raise Invalid(errors)
        return given

    def _rows(self, filters: dict[str, str]) -> QuerySet[Run]:
        rows = Run.objects.filter(tenant_id=self.tenant_id)
        rows = rows.filter(**{field: filters[name] for name, field in NAMES.items() if name in filters})
        if "search" in filters:
            rows = rows.filter(run__contains=filters["search"])
        if "state" in filters:
            rows = rows.filter(state=filters["state"])
        return rows.filter(parent__isnull=True) if "level" in filters else rows

    def _table(self, filters: dict[str, str]) -> Table[Run]:
        try:
            with limited(milliseconds=MILLISECONDS):
                return table_of(self._rows(filters), self.request.GET, columns=COLUMNS, sort="-started")
        except TookTooLong:
            message = (
                f"finding these takes longer than {MILLISECONDS // 1000} s: choose a state or a customer"
            )
            raise Invalid([FieldError("search", message)]) from None

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """One page of runs."""
        filters = self._filters()
        table = self._table(filters)
        return {
            **super().get_context_data(**kwargs),
            "table": table,
            "filters": filters,
            "states": STATES,
            "rows": [(row, caps_of(row)) for row in table.rows],
        }


class OfRun(RunsPage):
    """A page about one run, which the query string names: callers name runs as they like, also with a slash."""

    @cached_property
    def name(self) -> str:
        """What the run is called. Raises Missing."""
        name: str = self.request.GET.get("run", "")
        if not name or len(name) > NAME_CHARS_MAX or "\x00" in name:
            raise Missing(name)
        return name

    @cached_property
    def run(self) -> Run | None:
        """The run; None: nobody started or stopped it."""
        return Run.objects.filter(tenant_id=self.tenant_id, run=self.name).first()

    def calls(self, limit: int) -> list[Row] | None:
        """The run's latest decisions; None where they are not found at once."""
        wanted = DecisionFilter(tenant_id=self.tenant_id, run=self.name)
        try:
            with limited(milliseconds=SUMMARY_MS):
                return decisions(wanted=wanted, before=None, limit=limit)
        except TookTooLong:
            return None

    def back(self) -> str:
        """Where no leads."""
        return self.url("run") + query({"run": self.name})


class RunPage(OfRun):
    """One run: what it may use and has used, the runs around it, its calls."""

    template_name = "rules/run.html"

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """The page, or what it used by model as a file."""
        if form := request.GET.get("format"):
            summary = self._summary()
            if self.run is None or summary is None:
                raise Missing(self.name)
            return export(
                form,
                name=f"{self.tenant.slug}-run",
                columns=["model", "calls", "cost_usd", "tokens"],
                rows=(
                    [row["model"], int(row["calls"]), to_usd(int(row["cost_nano"])), int(row["tokens"])]
                    for row in summary["models"]
                ),
            )
        return self.show()

    def _summary(self) -> dict[str, Any] | None:
        try:
            with limited(milliseconds=SUMMARY_MS):
                return run_summary(tenant_id=self.tenant_id, run=self.name)
        except TookTooLong:
            return None

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """The run. Raises Missing for a name that nothing is known of."""
        run, calls = self.run, self.calls(CALLS)
        if run is None and calls == []:
            raise Missing(self.name)
        context = {
            **super().get_context_data(**kwargs),
            "title": f"Run {self.name}",
            "name": self.name,
            "run": run,
            "rows": shown(self.tenant_id, calls or []),
            "slow_calls": calls is None,
            "may_stop": self.may_change and (run is None or run.state == "open"),
        }
        if run is None:
            return context
        summary = self._summary()
        children = Run.objects.filter(tenant_id=self.tenant_id, parent=run.run).order_by("-started_at", "-pk")
        found = list(children[: CHILDREN + 1])
        names = actor_names(tenant_id=self.tenant_id, actors=[_actor(run.closed_by)])
        return {
            **context,
            "summary": summary,
            "refused": _refused(summary),
            "refused_calls": sum(map(int, summary["refused"].values())) if summary else None,
            "children": [(row, caps_of(row)) for row in found[:CHILDREN]],
            "more_children": len(found) > CHILDREN,
            "closed_by": names.get(_actor(run.closed_by), run.closed_by),
        }


def _refused(summary: dict[str, Any] | None) -> list[tuple[str, str, int]]:
    found = sorted(summary["refused"].items()) if summary else []
    return [(reason, SHORT.get(reason, reason), int(calls)) for reason, calls in found]


class StopForm(PageForm):
    """Why it is stopped."""

    reason = forms.CharField(
        max_length=REASON_CHARS_MAX,
        required=False,
        help_text="Its callers are told, and it stands on its page.",
    )


class RunStop(OfRun, ConfirmPage):
    """Asks before a run is stopped, with all below it."""

    title = "Stop the run"
    button = "Stop it"
    # Redis is waited for.
    locked = False

    def question(self) -> str:
        """What is asked."""
        if self.run is None and not self.calls(1):
            raise Missing(self.name)
        return f"Stop the run {self.name}?"

    def consequences(self) -> list[str]:
        """What will happen."""
        if self.run is not None and self.run.state != "open":
            return ["It is over already, and stays as it is."]
        below = self._below()
        with_it = f" and those of the {below} open run{'' if below == 1 else 's'} below it" if below else ""
        return [
            f"From the next call on, its calls{with_it} are refused as run_stopped, on every gateway.",
            "Calls under way go on, and are settled as always.",
            "It cannot be taken up again; its work has to be started as another run.",
        ]

    def _below(self) -> int:
        rows = Run.objects.filter(tenant_id=self.tenant_id, state="open", parents__contains=[self.name])
        return rows.count()

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """The question, and a place for the reason."""
        return {"form": StopForm(), **super().get_context_data(**kwargs)}

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Stops it."""
        form = StopForm(request.POST)
        self.question()
        if not form.is_valid():
            return self.show(form=form, status=400)
        reason = form.cleaned_data["reason"] or "stopped in the dashboard"
        closed = stop_run(tenant_id=self.tenant_id, run=self.name, reason=reason, actor=self.actor)
        below = f", and {closed.below} below it" if closed.below else ""
        say = f"The run is stopped{below}." if closed.now else "The run was over already."
        response = self.go("run", say=say)
        response["Location"] += query({"run": self.name})
        return response


def caps_of(run: Run) -> list[tuple[str, int]]:
    """A run's caps: what each counts, and how much of it."""
    named = (("usd", run.cap_nano), ("steps", run.cap_steps), ("s", run.cap_seconds), ("deep", run.cap_depth))
    return [(name, value) for name, value in named if value is not None]


def _actor(closed_by: str) -> str:
    """Whoever closed it as the audit log spells them: gateways note a key's id alone."""
    return f"key:{closed_by}" if closed_by.startswith("key_") else closed_by


def _cells(run: Run) -> list[Any]:
    return [
        *(run.run, run.state, run.reason, run.parent, run.customer, run.end_user, run.project),
        None if run.cap_nano is None else to_usd(run.cap_nano),
        *(run.cap_steps, run.cap_seconds, run.cap_depth),
        *_times(run),
        run.closed_by,
    ]


def _times(run: Run) -> Iterator[str | None]:
    for at in (run.started_at, run.last_seen_at, run.ends_at, run.closed_at):
        yield at.isoformat() if at else None
