"""One budget: how it stands, its exceptions, what it would have refused, and what was done to it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from django.http import HttpRequest, HttpResponse

from budgets.api.counters import read_subject
from budgets.dashboard.budget_forms import BudgetForm
from budgets.dashboard.histories import history_of
from budgets.dashboard.params import query
from budgets.domain.budget_rules import show_limit
from budgets.domain.policy import Action, Scope, WindowKind
from budgets.models import Budget, BudgetOverride
from budgets.queries.bounded import Row, TookTooLong, limited
from budgets.queries.refusals import shadowed
from budgets.queries.standings import standings
from budgets.services.budgets import BudgetChanges, archive_budget, edit_budget
from budgets.services.standing import increases_of, is_template, own_subject_of, standings_of
from noburn.dashboard.exports import EXPORT_ROWS_MAX, export
from noburn.kit import ids
from noburn.kit.problems import Invalid, Missing
from noburn.kit.rest.pages import cut, read_page
from tenants.dashboard.page import ConfirmPage, TenantPage
from tenants.domain.roles import Topic

SHADOW_DAYS: Final = 7
SHADOW_MAX: Final = 1_000
SHADOW_MS: Final = 300
SUBJECTS: Final = 25
OVERRIDES: Final = 50


class OfBudget(TenantPage):
    """A page about one budget of the tenant."""

    topic = Topic.BUDGETS
    section = "budgets"
    live = True
    """Whether an archived budget is as good as none here."""

    def budget(self) -> Budget:
        """The budget. Raises Missing."""
        return budget_of(self, live=self.live)

    def to_budget(self, say: str = "") -> HttpResponse:
        """Sends the browser to the budget's own page."""
        return self.go("budget", bud_id=self.kwargs["bud_id"], say=say)

    def back(self) -> str:
        """Where no leads."""
        return self.url("budget", bud_id=self.kwargs["bud_id"])


def budget_of(page: TenantPage, *, live: bool) -> Budget:
    """Returns the budget that a page's address names. Raises Missing."""
    wire = page.kwargs["bud_id"]
    try:
        wanted = ids.decode(ids.BUDGET, wire)
    except ids.BadId:
        raise Missing(wire) from None
    rows = Budget.objects.filter(tenant_id=page.tenant_id, pk=wanted)
    found = (rows.filter(archived_at__isnull=True) if live else rows).first()
    if found is None:
        raise Missing(wire)
    return found


class BudgetPage(OfBudget):
    """All of one budget."""

    template_name = "budgets/budget.html"
    partials = {"subject-rows": "budgets/_subject_rows.html"}
    live = False

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """The page, or how its subjects stand as a file."""
        if form := request.GET.get("format"):
            budget = self.budget()
            rows = self._subjects(budget, after=None, limit=EXPORT_ROWS_MAX + 1)
            names = ("limit", "spent", "authority", "stranded", "remaining")
            return export(
                form,
                name=f"{self.tenant.slug}-{self.kwargs['bud_id']}",
                columns=["subject", *(f"{name}_{budget.metric}" for name in names)],
                rows=(
                    [row["subject"], *(show_limit(budget.metric, row[name]) for name in names)]
                    for row in rows
                ),
            )
        return self.show()

    def _subjects(self, budget: Budget, after: tuple[str, UUID] | None, limit: int) -> list[Row]:
        return standings(
            tenant_id=self.tenant_id,
            budget_id=budget.pk,
            subject=self.request.GET.get("subject", "").strip()[:300] or None,
            after=after,
            limit=limit,
            now=self.now,
        )

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """How it stands, and all that belongs to it."""
        budget = self.budget()
        template = is_template(budget) and budget.window != WindowKind.MINUTE
        context = {
            **super().get_context_data(**kwargs),
            "title": budget.name,
            "budget": budget,
            "wire": self.kwargs["bud_id"],
            "is_template": is_template(budget),
            "may_edit": self.may_change and budget.archived_at is None,
            "of_customers": budget.scope == Scope.CUSTOMER,
            "search": self.request.GET.get("subject", ""),
        }
        if template:
            context |= self._page_of_subjects(budget)
        elif not is_template(budget):
            (context["standing"],) = standings_of(
                tenant=self.tenant, wanted=[(budget, own_subject_of(budget))], now=self.now
            )
        if self.get_template_names() != [self.template_name]:
            return context
        overrides = BudgetOverride.objects.filter(tenant_id=self.tenant_id, budget=budget).order_by(
            "subject", "pk"
        )
        found = list(overrides[: OVERRIDES + 1]) if template else []
        return {
            **context,
            "overrides": [(ids.encode(ids.BUDGET_OVERRIDE, one.pk), one) for one in found[:OVERRIDES]],
            "more_overrides": len(found) > OVERRIDES,
            "increases": [
                (ids.encode(ids.BUDGET_INCREASE, one.pk), one)
                for one in increases_of(tenant_id=self.tenant_id, budget_id=budget.pk)
            ],
            "shadow": self._shadow(budget),
            "refusals_url": self.url("decisions") + query({"budget": self.kwargs["bud_id"]}),
            "history": history_of(self, self.kwargs["bud_id"], since=budget.created_at),
        }

    def _page_of_subjects(self, budget: Budget) -> dict[str, Any]:
        page = read_page(self.request.GET.dict(), key=[read_subject, UUID])
        after = (page.after[0], page.after[1]) if page.after else None
        rows, cursor = cut(
            self._subjects(budget, after, SUBJECTS + 1),
            SUBJECTS,
            lambda row: [row["subject"], row["counter_id"]],
        )
        search = {"subject": value} if (value := self.request.GET.get("subject", "").strip()) else {}
        return {
            "subjects": rows,
            "next": query({**search, "cursor": cursor}) if cursor else "",
            "first": query(search) if page.after else "",
        }

    def _shadow(self, budget: Budget) -> Row | None:
        """What it would have refused; None where it refuses, or where that is not found at once."""
        if budget.action != Action.WARN:
            return None
        try:
            with limited(milliseconds=SHADOW_MS):
                found = shadowed(
                    tenant_id=self.tenant_id,
                    budget_id=budget.pk,
                    since=self.now - timedelta(days=SHADOW_DAYS),
                    until=self.now,
                    most=SHADOW_MAX,
                )
        except TookTooLong:
            return {"days": SHADOW_DAYS, "calls": None}
        return {**found, "days": SHADOW_DAYS, "more": found["calls"] == SHADOW_MAX}


class BudgetEdit(OfBudget):
    """What may change of a budget."""

    template_name = "dashboard/form.html"
    title = "Change the budget"
    for_changing = True

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Changes it, from the next call on."""
        budget, form = self.budget(), BudgetForm(request.POST)
        if form.is_valid():
            given = form.cleaned_data
            try:
                edit_budget(
                    tenant_id=self.tenant_id,
                    budget_id=budget.pk,
                    changes=BudgetChanges(**{**given, "name": given["name"] or None}),
                    actor=self.actor,
                    now=self.now,
                )
            except Invalid as invalid:
                form.take(invalid)
            else:
                return self.to_budget("Saved. It holds from the next call on.")
        return self.show(form=form, status=400)

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """The form, filled with what holds."""
        budget = self.budget()
        if "form" not in kwargs:
            kwargs["form"] = BudgetForm(
                initial={
                    "limit": show_limit(budget.metric, budget.limit),
                    "action": budget.action,
                    "name": budget.name,
                    "thresholds": ", ".join(map(str, budget.thresholds)),
                }
            )
        lead = "What it counts cannot change: archive it and make another, which begins with what its window has spent."
        return {**super().get_context_data(**kwargs), "back": self.back(), "lead": lead}


class BudgetArchive(OfBudget, ConfirmPage):
    """Asks before a budget ends."""

    title = "Archive the budget"
    button = "Archive it"

    def question(self) -> str:
        """What is asked."""
        return f"Archive “{self.budget().name}”?"

    def consequences(self) -> list[str]:
        """What will happen."""
        return [
            "From the next call on it refuses and counts nothing.",
            "Calls that fall under no other budget are not limited any more.",
            "Its history stays. It cannot be brought back: another one would begin with what its window has spent.",
        ]

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Archives it."""
        archive_budget(tenant_id=self.tenant_id, budget_id=self.budget().pk, actor=self.actor, now=self.now)
        return self.go("budgets", say="The budget is archived.")
