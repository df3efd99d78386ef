"""The list of budgets: how each stands, one change of many, and tables to take away and bring back."""

from __future__ import annotations

from typing import Any, Final
from uuid import UUID

from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse

from budgets.dashboard.budget_forms import BulkForm, NewBudgetForm
from budgets.domain.budget_rules import show_limit
from budgets.domain.policy import BUDGET_SCOPES
from budgets.models import Budget
from budgets.services.budgets import NewBudget, create_budget
from budgets.services.bulk import change_budgets
from budgets.services.standing import is_template, of_page
from noburn.dashboard.exports import EXPORT_ROWS_MAX, export
from noburn.dashboard.tables import Column, table_of
from noburn.kit import ids
from noburn.kit.problems import FieldError, Invalid
from tenants.dashboard.page import TenantPage
from tenants.domain.roles import Topic

COLUMNS: Final = (
    Column("chosen", "Choose", hidden_label=True),
    Column("name", "Budget", sort="name"),
    Column("scope", "Counts", sort="scope"),
    Column("window", "Window", sort="window"),
    Column("standing", "Spent of its limit"),
    Column("action", "Action", sort="action"),
    Column("created", "Made", sort="pk", read=UUID),
)
EXPORTED: Final = ("budget", "name", "scope", "subject", "tag", "metric", "window", "limit", "action")
FILTERS: Final = ("search", "scope", "action")


class Budgets(TenantPage):
    """Budgets of the tenant, the newest first."""

    topic = Topic.BUDGETS
    section = "budgets"
    title = "Budgets"
    template_name = "budgets/budgets.html"
    partials = {"budget-rows": "budgets/_budget_rows.html"}

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """The page, or its rows as a file, which can be changed and imported."""
        if form := request.GET.get("format"):
            rows = self._rows().order_by("name", "pk")[: EXPORT_ROWS_MAX + 1]
            return export(
                form,
                name=f"{self.tenant.slug}-budgets",
                columns=EXPORTED,
                rows=(
                    [
                        ids.encode(ids.BUDGET, row.pk),
                        *(row.name, row.scope, row.subject, row.tag, row.metric, row.window),
                        show_limit(row.metric, row.limit),
                        row.action,
                    ]
                    for row in rows
                ),
            )
        return self.show()

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Changes the chosen budgets, all or none."""
        form = BulkForm(request.POST)
        try:
            chosen = [ids.decode(ids.BUDGET, wire) for wire in request.POST.getlist("budget")]
        except ids.BadId:
            chosen = []
        if not chosen:
            form.add_error(None, "Choose the budgets that are to be changed.")
        if form.is_valid():
            try:
                change = _change(form)
                saved = change_budgets(
                    tenant_id=self.tenant_id, budget_ids=chosen, actor=self.actor, now=self.now, **change
                )
            except Invalid as invalid:
                named = [FieldError("value", error.message) for error in invalid.errors]
                form.take(Invalid(dict.fromkeys(named)))
            else:
                return self.go("budgets", say=f"{len(saved)} budgets are changed, from the next call on.")
        return self.show(form=form, chosen=set(request.POST.getlist("budget")), status=400)

    def _rows(self) -> QuerySet[Budget]:
        rows = Budget.objects.filter(tenant_id=self.tenant_id)
        wanted = self.request.GET
        if search := wanted.get("search", "").strip()[:200]:
            rows = rows.filter(Q(name__icontains=search) | Q(subject__icontains=search))
        for name in ("scope", "action"):
            if value := wanted.get(name, "")[:30]:
                rows = rows.filter(**{name: value})
        return rows.filter(archived_at__isnull=wanted.get("archived") != "1")

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """One page of budgets, each with how it stands."""
        table = table_of(self._rows(), self.request.GET, columns=COLUMNS, sort="-created")
        standing = of_page(tenant=self.tenant, budgets=table.rows, now=self.now)
        live = Budget.objects.filter(tenant_id=self.tenant_id, archived_at__isnull=True)
        kwargs.setdefault("form", BulkForm())
        kwargs.setdefault("chosen", set())
        return {
            **super().get_context_data(**kwargs),
            "table": table,
            "shown": [
                {
                    "budget": row,
                    "wire": ids.encode(ids.BUDGET, row.pk),
                    "is_template": is_template(row),
                    "standing": standing.get(row.pk),
                }
                for row in table.rows
            ],
            "none_at_all": table.is_empty and not live.exists(),
            "filters": {name: self.request.GET.get(name, "") for name in FILTERS},
            "archived": self.request.GET.get("archived") == "1",
            "scopes": [scope.value for scope in BUDGET_SCOPES],
        }


def _change(form: BulkForm) -> dict[str, Any]:
    change, value = form.cleaned_data["change"], form.cleaned_data["value"].strip()
    if change != "percent":
        return {change: value}
    text = value.removesuffix("%").strip()
    if not text.removeprefix("-").isdigit() or len(text) > 6 or not text.isascii():
        raise Invalid([FieldError("percent", "must be a whole number of percent, such as 20 or -10")])
    return {"percent": int(text)}


class BudgetNew(TenantPage):
    """A budget to be made."""

    topic = Topic.BUDGETS
    section = "budgets"
    title = "New budget"
    template_name = "budgets/budget_new.html"
    for_changing = True

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Makes it; it counts from the next call on."""
        form = NewBudgetForm(request.POST)
        if form.is_valid():
            try:
                made = create_budget(
                    tenant_id=self.tenant_id,
                    budget=NewBudget(**form.values()),
                    actor=self.actor,
                    now=self.now,
                )
            except Invalid as invalid:
                form.take(invalid)
            else:
                wire = ids.encode(ids.BUDGET, made.pk)
                return self.go("budget", bud_id=wire, say="The budget is in force from the next call on.")
        return self.show(form=form, status=400)

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """The form; a link may fill in some of it."""
        kwargs.setdefault("form", NewBudgetForm(initial=self._given()))
        return {
            **super().get_context_data(**kwargs),
            "back": self.url("budgets"),
            "button": "Make the budget",
        }

    def _given(self) -> dict[str, str]:
        return {
            name: self.request.GET[name][:300] for name in ("scope", "subject") if name in self.request.GET
        }
