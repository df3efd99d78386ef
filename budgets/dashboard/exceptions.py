"""Exceptions to a budget: overrides of single subjects, and increases for a while."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.http import HttpRequest, HttpResponse

from budgets.dashboard.budget import OfBudget
from budgets.dashboard.budget_forms import IncreaseForm, OverrideForm
from budgets.dashboard.params import amount
from budgets.models import BudgetIncrease, BudgetOverride
from budgets.services.increases import NewIncrease, cancel_increase, create_increase
from budgets.services.overrides import remove_override, set_override
from noburn.kit import ids
from noburn.kit.problems import Invalid, Missing
from tenants.dashboard.page import ConfirmPage


class OverrideNew(OfBudget):
    """A limit of its own for one subject."""

    template_name = "dashboard/form.html"
    title = "A limit for one subject"
    for_changing = True

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Sets it, from the next call on."""
        budget, form = self.budget(), OverrideForm(request.POST)
        if form.is_valid():
            try:
                made = set_override(
                    tenant_id=self.tenant_id,
                    budget_id=budget.pk,
                    actor=self.actor,
                    now=self.now,
                    **form.cleaned_data,
                )
            except Invalid as invalid:
                form.take(invalid)
            else:
                return self.to_budget(
                    f"{made.subject} has {amount(budget.metric, made.limit)} from the next call on."
                )
        return self.show(form=form, status=400)

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """The form; a link may name the subject."""
        budget = self.budget()
        kwargs.setdefault(
            "form", OverrideForm(initial={"subject": self.request.GET.get("subject", "")[:300]})
        )
        lead = f"Everybody else keeps {amount(budget.metric, budget.limit)}."
        return {**super().get_context_data(**kwargs), "back": self.back(), "lead": lead}


class OverrideRemove(OfBudget, ConfirmPage):
    """Asks before a subject goes back under the template's limit."""

    title = "Remove the override"
    button = "Remove it"

    def _override(self) -> BudgetOverride:
        wanted = _decoded(ids.BUDGET_OVERRIDE, self.kwargs["ovr_id"])
        rows = BudgetOverride.objects.filter(tenant_id=self.tenant_id, budget=self.budget(), pk=wanted)
        found = rows.first()
        if found is None:
            raise Missing(self.kwargs["ovr_id"])
        return found

    def question(self) -> str:
        """What is asked."""
        return f"Put {self._override().subject} back under the budget's own limit?"

    def consequences(self) -> list[str]:
        """What will happen."""
        budget, override = self.budget(), self._override()
        now, then = amount(budget.metric, override.limit), amount(budget.metric, budget.limit)
        return [
            f"Its limit is {then} instead of {now}, from the next call on.",
            "Calls in flight keep what they hold; where more than that is spent, nothing new fits.",
        ]

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Removes it."""
        override = self._override()
        remove_override(
            tenant_id=self.tenant_id,
            budget_id=override.budget_id,
            subject=override.subject,
            actor=self.actor,
            now=self.now,
        )
        return self.to_budget(f"{override.subject} is under the budget's own limit again.")


class IncreaseNew(OfBudget):
    """So much more for a while."""

    template_name = "dashboard/form.html"
    title = "Grant an increase"
    for_changing = True

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Grants it, from the next call on."""
        budget, form = self.budget(), IncreaseForm(request.POST)
        if form.is_valid():
            given = form.cleaned_data
            try:
                made = create_increase(
                    tenant_id=self.tenant_id,
                    budget_id=budget.pk,
                    increase=NewIncrease(**{**given, "subject": given["subject"] or "*"}),
                    actor=self.actor,
                    now=self.now,
                )
            except Invalid as invalid:
                form.take(invalid)
            else:
                return self.to_budget(f"{amount(budget.metric, made.amount)} more, from the next call on.")
        return self.show(form=form, status=400)

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """The form; a link may name the subject."""
        budget = self.budget()
        initial = {"subject": self.request.GET.get("subject", "")[:300], "windows": 1}
        kwargs.setdefault("form", IncreaseForm(initial=initial))
        lead = f"On top of the limit of {amount(budget.metric, budget.limit)}; it ends by itself."
        return {**super().get_context_data(**kwargs), "back": self.back(), "lead": lead, "button": "Grant it"}


class IncreaseCancel(OfBudget, ConfirmPage):
    """Asks before an increase ends early."""

    title = "Cancel the increase"
    button = "Cancel the increase"

    def _increase(self) -> BudgetIncrease:
        wanted = _decoded(ids.BUDGET_INCREASE, self.kwargs["inc_id"])
        rows = BudgetIncrease.objects.filter(tenant_id=self.tenant_id, budget=self.budget(), pk=wanted)
        found = rows.first()
        if found is None:
            raise Missing(self.kwargs["inc_id"])
        return found

    def question(self) -> str:
        """What is asked."""
        return f"End the increase of {amount(self.budget().metric, self._increase().amount)} now?"

    def consequences(self) -> list[str]:
        """What will happen."""
        return [
            "The limit falls by so much from the next call on.",
            "Calls in flight keep what they hold; where more than the limit is spent, nothing new fits.",
        ]

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Ends it."""
        increase = self._increase()
        cancel_increase(
            tenant_id=self.tenant_id,
            budget_id=increase.budget_id,
            increase_id=increase.pk,
            actor=self.actor,
            now=self.now,
        )
        return self.to_budget("The increase has ended.")


def _decoded(prefix: str, wire: str) -> UUID:
    try:
        return ids.decode(prefix, wire)
    except ids.BadId:
        raise Missing(wire) from None
