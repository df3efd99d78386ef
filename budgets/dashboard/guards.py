"""Guards: what stops a call that no budget would, and what tripped lately."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.functional import cached_property

from budgets.api.guards import GuardLimits
from budgets.dashboard.decided import shown
from budgets.dashboard.guard_forms import (
    KINDS,
    RECOMMENDED,
    LimitsForm,
    NewGuardForm,
    initial_limits,
    limit_words,
    whose,
)
from budgets.dashboard.histories import history_of
from budgets.dashboard.params import query
from budgets.domain.guards import SCOPES
from budgets.domain.policy import GuardKind
from budgets.models import Guard
from budgets.models.guards import GuardMode
from budgets.queries.bounded import Row, TookTooLong, limited
from budgets.queries.decisions import DecisionFilter, decisions
from budgets.queries.guards import tripped_lately
from budgets.services.guard_rules import GuardNotFound, archive_guard, create_guard, edit_guard
from noburn.dashboard.exports import export
from noburn.dashboard.tables import Column, table_of
from noburn.kit import ids
from noburn.kit.problems import FieldError, Invalid
from tenants.dashboard.page import ConfirmPage, TenantPage
from tenants.domain.roles import Topic

COLUMNS: Final = (
    Column("name", "Guard", sort="name"),
    Column("kind", "Stops", sort="kind"),
    Column("whose", "Watches"),
    Column("limits", "Limits"),
    Column("mode", "Mode", sort="mode"),
    Column("lately", "Tripped in 7 days", numeric=True),
    Column("made", "Made", sort="pk"),
)
FILTERS: Final = {
    "kind": tuple(kind.value for kind in GuardKind),
    "mode": tuple(GuardMode.values),
    "scope": tuple(scope.value for scope in SCOPES),
}
DAYS: Final = 7
MILLISECONDS: Final = 300
TRIPS: Final = 20
SEARCH_MAX: Final = 300


class GuardsPage(TenantPage):
    """A page about guards."""

    topic = Topic.GUARDS
    section = "guards"

    def lately(self, guard_ids: list[UUID]) -> dict[UUID, Row] | None:
        """What guards did in the last days; None where that is not found at once."""
        try:
            with limited(milliseconds=MILLISECONDS):
                return tripped_lately(
                    tenant_id=self.tenant_id, guard_ids=guard_ids, since=self.now - timedelta(days=DAYS)
                )
        except TookTooLong:
            return None


class Guards(GuardsPage):
    """All guards of the tenant."""

    title = "Guards"
    template_name = "rules/guards.html"
    partials = {"guard-rows": "rules/_guard_rows.html"}

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """The page, or its rows as a file."""
        if form := request.GET.get("format"):
            rows = self._rows(self._filters())
            return export(
                form,
                name=f"{self.tenant.slug}-guards",
                columns=[
                    "id",
                    "name",
                    "kind",
                    "mode",
                    "scope",
                    "subject",
                    "limits",
                    "archived_at",
                    "created_at",
                ],
                rows=(
                    [
                        ids.encode(ids.GUARD, row.pk),
                        *(row.name, row.kind, row.mode, row.scope, row.subject),
                        _spelled(row.limits),
                        row.archived_at.isoformat() if row.archived_at else None,
                        row.created_at.isoformat(),
                    ]
                    for row in rows.order_by("-pk").iterator(chunk_size=1_000)
                ),
            )
        return self.show()

    def _filters(self) -> dict[str, str]:
        params = self.request.GET
        given = {name: text for name in FILTERS if (text := params.get(name, ""))}
        errors = [
            FieldError(name, f"must be one of {', '.join(FILTERS[name])}")
            for name, text in given.items()
            if text not in FILTERS[name]
        ]
        search = params.get("search", "").strip()
        if len(search) > SEARCH_MAX or "\x00" in search:
            errors.append(FieldError("search", f"must be at most {SEARCH_MAX} characters of text"))
        if errors:
            raise Invalid(errors)
        archived = {"archived": "1"} if params.get("archived") else {}
        return {**given, **({"search": search} if search else {}), **archived}

    def _rows(self, filters: dict[str, str]) -> QuerySet[Guard]:
        rows = Guard.objects.filter(
            tenant_id=self.tenant_id, archived_at__isnull="archived" not in filters
        ).filter(**{name: filters[name] for name in FILTERS if name in filters})
        if search := filters.get("search"):
            rows = rows.filter(Q(name__icontains=search) | Q(subject__icontains=search))
        return rows

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """One page of guards, with what they did lately."""
        filters = self._filters()
        table = table_of(self._rows(filters), self.request.GET, columns=COLUMNS, sort="-made")
        tripped = self.lately([row.pk for row in table.rows])
        return {
            **super().get_context_data(**kwargs),
            "table": table,
            "filters": filters,
            "choices": FILTERS,
            "kinds": [(kind.value, *words) for kind, words in KINDS.items()],
            "slow": tripped is None,
            "rows": [
                {
                    "guard": row,
                    "wire": ids.encode(ids.GUARD, row.pk),
                    "stops": KINDS[GuardKind(row.kind)][0],
                    "whose": whose(row),
                    "limits": limit_words(row),
                    "lately": (tripped or {}).get(row.pk),
                }
                for row in table.rows
            ],
        }


class GuardNew(GuardsPage):
    """First which kind, then its limits."""

    title = "New guard"
    template_name = "rules/guard_new.html"
    for_changing = True

    def _kind(self) -> GuardKind | None:
        text = self.request.GET.get("kind", "")
        if not text:
            return None
        if text not in FILTERS["kind"]:
            raise Invalid([FieldError("kind", f"must be one of {', '.join(FILTERS['kind'])}")])
        return GuardKind(text)

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """The kinds, or the form of one, filled with what is recommended."""
        kind = self._kind()
        if kind is not None and "form" not in kwargs:
            scope, limits = RECOMMENDED[kind]
            kwargs["form"] = NewGuardForm(kind=kind, initial={"scope": scope.value, **initial_limits(limits)})
        return {
            **super().get_context_data(**kwargs),
            "kind": KINDS[kind] if kind is not None else None,
            "kinds": [(one.value, *words) for one, words in KINDS.items()],
            "back": self.url("guards"),
        }

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Makes it; it watches from the next call on."""
        kind = self._kind()
        if kind is None:
            raise Invalid([FieldError("kind", "is required: choose what is to be stopped")])
        form = NewGuardForm(request.POST, kind=kind)
        if form.is_valid():
            try:
                made = create_guard(
                    tenant_id=self.tenant_id, guard=form.guard(), actor=self.actor, now=self.now
                )
            except Invalid as invalid:
                form.take(invalid)
            else:
                say = "It watches from the next call on."
                return self.go("guard", grd=ids.encode(ids.GUARD, made.pk), say=say)
        return self.show(form=form, status=400)


class OfGuard(GuardsPage):
    """A page about one guard."""

    live = True
    """Whether an archived guard is as good as none here."""

    @cached_property
    def guard(self) -> Guard:
        """The guard. Raises Missing."""
        rows = Guard.objects.filter(tenant_id=self.tenant_id, pk=self.path_id(ids.GUARD, self.kwargs["grd"]))
        found = (rows.filter(archived_at__isnull=True) if self.live else rows).first()
        if found is None:
            raise GuardNotFound(self.kwargs["grd"])
        return found

    def back(self) -> str:
        """Where no leads."""
        return self.url("guard", grd=self.kwargs["grd"])


class GuardPage(OfGuard):
    """One guard: its limits, what it stopped lately, and what was done to it."""

    template_name = "rules/guard.html"
    live = False

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """The guard with its latest trips."""
        guard = self.guard
        found = self.lately([guard.pk])
        lately = (found or {}).get(guard.pk, {"calls": 0, "stopped": 0, "last_at": None})
        return {
            **super().get_context_data(**kwargs),
            "title": guard.name,
            "guard": guard,
            "wire": self.kwargs["grd"],
            "stops": KINDS[GuardKind(guard.kind)],
            "whose": whose(guard),
            "limits": limit_words(guard),
            "may_edit": self.may_change and guard.archived_at is None,
            "slow": found is None,
            "lately": lately,
            "observed": lately["calls"] - lately["stopped"],
            "days": DAYS,
            "rows": self._trips(guard),
            "trips_url": self.url("decisions") + query({"guard": self.kwargs["grd"]}),
            "history": self._history(guard),
        }

    def _history(self, guard: Guard) -> list[dict[str, Any]] | None:
        """What was done to it, with limits as people write them."""
        entries = history_of(self, self.kwargs["grd"], since=guard.created_at)
        for entry in entries or ():
            entry["changes"] = [
                (name, *((_spelled(before), _spelled(after)) if name == "limits" else (before, after)))
                for name, before, after in entry["changes"]
            ]
        return entries

    def _trips(self, guard: Guard) -> list[dict[str, Any]]:
        wanted = DecisionFilter(
            tenant_id=self.tenant_id, guard_id=guard.pk, since=self.now - timedelta(days=DAYS)
        )
        try:
            with limited(milliseconds=MILLISECONDS):
                found = decisions(wanted=wanted, before=None, limit=TRIPS)
        except TookTooLong:
            return []
        return shown(self.tenant_id, found)


class GuardEdit(OfGuard):
    """What may change of a guard: not what it watches."""

    title = "Change the guard"
    template_name = "dashboard/form.html"
    for_changing = True

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """The form, filled with what holds."""
        guard = self.guard
        if "form" not in kwargs:
            kwargs["form"] = LimitsForm(
                kind=GuardKind(guard.kind),
                initial={"mode": guard.mode, "name": guard.name, **initial_limits(guard.limits)},
            )
        lead = f"It goes on watching {whose(guard)}; what it remembers stays."
        return {**super().get_context_data(**kwargs), "back": self.back(), "lead": lead}

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Changes it, from the next call on."""
        guard = self.guard
        form = LimitsForm(request.POST, kind=GuardKind(guard.kind))
        if form.is_valid():
            given = form.cleaned_data
            try:
                edit_guard(
                    tenant_id=self.tenant_id,
                    guard_id=guard.pk,
                    name=given["name"] or None,
                    mode=given["mode"],
                    limits=form.limits(),
                    actor=self.actor,
                    now=self.now,
                )
            except Invalid as invalid:
                form.take(invalid)
            else:
                return self.go("guard", grd=self.kwargs["grd"], say="Saved. It holds from the next call on.")
        return self.show(form=form, status=400)


class GuardArchive(OfGuard, ConfirmPage):
    """Asks before a guard ends."""

    title = "Archive the guard"
    button = "Archive it"

    def question(self) -> str:
        """What is asked."""
        return f"Archive “{self.guard.name}”?"

    def consequences(self) -> list[str]:
        """What will happen."""
        verb = "stops" if self.guard.mode == GuardMode.ENFORCE else "tells of"
        return [
            f"From the next call on it {verb} nothing: {limit_words(self.guard)}, of {whose(self.guard)}.",
            "What it remembers is forgotten, and it cannot be brought back. What it did stays in the log.",
        ]

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Archives it."""
        archive_guard(tenant_id=self.tenant_id, guard_id=self.guard.pk, actor=self.actor, now=self.now)
        return self.go("guards", say="The guard is archived.")


def _spelled(limits: dict[str, int] | None) -> str | None:
    """Limits by their names on the wire."""
    if limits is None:
        return None
    return "; ".join(f"{name} {value}" for name, value in GuardLimits().to_representation(limits).items())
