"""Budgets from a spreadsheet: what it would do is shown first, with every bad row named."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse

from budgets.dashboard.budget_forms import ImportForm
from budgets.domain.budget_tables import BYTES_MAX, COLUMNS, ROWS_MAX
from budgets.services.budget_import import BadTable, import_budgets, plan_import
from tenants.dashboard.page import TenantPage
from tenants.domain.roles import Topic


class BudgetImport(TenantPage):
    """A table is read and shown; only what was shown and confirmed is done."""

    topic = Topic.BUDGETS
    section = "budgets"
    title = "Import budgets"
    template_name = "budgets/budget_import.html"
    for_changing = True

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Shows what a table does; does it where that was confirmed."""
        form = ImportForm(request.POST, request.FILES)
        text = self._text(form)
        if text is None:
            return self.show(form=form, status=400)
        if "confirmed" not in request.POST:
            plan = plan_import(tenant_id=self.tenant_id, text=text)
            return self.show(form=form, plan=plan, text=text, status=400 if plan.errors else 200)
        try:
            done = import_budgets(tenant_id=self.tenant_id, text=text, actor=self.actor, now=self.now)
        except BadTable as bad:
            return self.show(form=form, plan=bad.plan, text=text, status=400)
        changed = sum(count for what, count in done.counts.items() if what != "unchanged")
        return self.go("budgets", say=f"{changed} lines are done, from the next call on.")

    def _text(self, form: ImportForm) -> str | None:
        if not form.is_valid():
            return None
        file = form.cleaned_data["file"]
        if file is None:
            text: str = form.cleaned_data["text"]
            if not text.strip():
                form.add_error("file", "Choose a file, or paste its text below.")
                return None
            return text
        if file.size > BYTES_MAX:
            form.add_error("file", f"Must be at most {BYTES_MAX:,} bytes.")
            return None
        try:
            return str(file.read().decode("utf-8-sig"))
        except UnicodeDecodeError:
            form.add_error("file", "Must be text in UTF-8: save it as “CSV UTF-8”.")
            return None

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """The form, and what the table does once there is one."""
        kwargs.setdefault("form", ImportForm())
        return {**super().get_context_data(**kwargs), "columns": COLUMNS, "rows_max": ROWS_MAX}
