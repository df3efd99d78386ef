"""At which part of a budget somebody is told: the rules of alerts."""

from __future__ import annotations

from typing import Any

from django import forms
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse

from alerts.dashboard.base import tabs
from budgets.models import Budget
from budgets.services.budgets import BudgetChanges, BudgetNotFound, edit_budget
from noburn.dashboard.exports import export
from noburn.dashboard.forms import PageForm
from noburn.dashboard.paths import path_id
from noburn.dashboard.tables import Column, table_of
from noburn.kit import ids
from noburn.kit.problems import Invalid
from tenants.dashboard.page import TenantPage
from tenants.domain.roles import Topic

COLUMNS = (
    Column("made", "Made", sort="pk"),
    Column("name", "Budget", sort="name"),
    Column("window", "Window"),
    Column("thresholds", "Told at"),
    Column("actions", "Actions", hidden_label=True),
)


class ThresholdsForm(PageForm):
    """Percentages, with commas between."""

    thresholds = forms.RegexField(
        r"^\s*([0-9]{1,4}\s*(,\s*[0-9]{1,4}\s*)*)?$",
        label="Told at, in per cent of the limit",
        required=False,
        max_length=100,
        help_text="Rising, with commas between: 50, 80, 100. Empty: nobody is told of this budget.",
        error_messages={"invalid": "Write whole percentages with commas between, such as 50, 80, 100."},
    )

    def wanted(self) -> tuple[int, ...]:
        """The percentages."""
        return tuple(int(part) for part in self.cleaned_data["thresholds"].split(",") if part.strip())


class Thresholds(TenantPage):
    """The thresholds of every budget that is not archived."""

    topic = Topic.BUDGETS
    section = "alerts"
    title = "Thresholds"
    template_name = "alerts/thresholds.html"

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """The page, or its rows as a file."""
        if form := request.GET.get("format"):
            return export(
                form,
                name=f"{self.tenant.slug}-thresholds",
                columns=["budget", "name", "scope", "window", "thresholds"],
                rows=(
                    [
                        ids.encode(ids.BUDGET, row.pk),
                        row.name,
                        row.scope,
                        row.window,
                        " ".join(map(str, row.thresholds)),
                    ]
                    for row in self._rows().order_by("-pk")
                ),
            )
        return self.show()

    def _rows(self) -> QuerySet[Budget]:
        return Budget.objects.filter(tenant_id=self.tenant_id, archived_at=None)

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """One page of budgets."""
        table = table_of(self._rows(), self.request.GET, columns=COLUMNS, sort="name")
        return {
            **super().get_context_data(**kwargs),
            "tabs": tabs(tenant=self.tenant.slug, current="alert-thresholds"),
            "table": table,
            "rows": [(row, ids.encode(ids.BUDGET, row.pk)) for row in table.rows],
        }


class EditThresholds(TenantPage):
    """The thresholds of one budget."""

    topic = Topic.BUDGETS
    section = "alerts"
    title = "Thresholds"
    template_name = "models/form.html"
    for_changing = True

    def _budget(self) -> Budget:
        wanted = path_id(self.kwargs["bud"], ids.BUDGET)
        found = Budget.objects.filter(tenant_id=self.tenant_id, pk=wanted, archived_at=None).first()
        if found is None:
            raise BudgetNotFound(self.kwargs["bud"])
        return found

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """The form, as the budget has them."""
        budget = self._budget()
        return {
            "form": ThresholdsForm(initial={"thresholds": ", ".join(map(str, budget.thresholds))}),
            **super().get_context_data(**kwargs),
            "tabs": tabs(tenant=self.tenant.slug, current="alert-thresholds"),
            "tabs_label": "Alerts",
            "lead": f"Of {budget.name}. Each is told once in a window, for each subject.",
            "button": "Save",
            "back": self.url("alert-thresholds"),
        }

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Sets them."""
        form, budget = ThresholdsForm(request.POST), self._budget()
        if form.is_valid():
            try:
                edit_budget(
                    tenant_id=self.tenant_id,
                    budget_id=budget.pk,
                    changes=BudgetChanges(thresholds=form.wanted()),
                    actor=self.actor,
                    now=self.now,
                )
            except Invalid as invalid:
                form.take(invalid)
            else:
                return self.go("alert-thresholds", say=f"The thresholds of {budget.name} are set.")
        return self.show(form=form, status=400)
