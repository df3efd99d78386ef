"""Whose rate card holds from when on: assigned by a form, withdrawn while it has not begun."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse

from billing.dashboard.base import BillingPage
from billing.dashboard.card_forms import AssignForm
from billing.models import RateCard, RateCardAssignment
from billing.services.rate_cards import RateCardNotFound, assign_card, withdraw_assignment
from noburn.dashboard.paths import path_id
from noburn.kit import ids
from noburn.kit.problems import Invalid
from tenants.dashboard.page import ConfirmPage
from tenants.domain.roles import Topic

NONE = "none"


class AssignCard(BillingPage):
    """The form by which a card holds for customers, or for everybody."""

    tab = "rate-cards"
    title = "Assign a rate card"
    template_name = "billing/form.html"
    for_changing = True

    def _form(self, data: Any = None) -> AssignForm:
        form = AssignForm(data, initial={"rate_card": self.request.GET.get("card", "")[:60]})
        cards = RateCard.objects.filter(tenant_id=self.tenant_id).order_by("name", "pk")
        form.fields["rate_card"].choices = [  # type: ignore[attr-defined]
            *((ids.encode(ids.RATE_CARD, card.pk), card.name) for card in cards),
            (NONE, "None: take it away"),
        ]
        return form

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """The form."""
        return {
            "form": self._form(),
            **super().get_context_data(**kwargs),
            "button": "Assign",
            "back": self.url("rate-cards"),
            "lead": "Use from then on is priced by it. What was used before keeps its price.",
        }

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Assigns it; all or none."""
        form = self._form(request.POST)
        if form.is_valid():
            given = form.cleaned_data
            chosen = given["rate_card"]
            try:
                made = assign_card(
                    tenant_id=self.tenant_id,
                    card_id=None if chosen == NONE else path_id(chosen, ids.RATE_CARD),
                    customers=given["customers"] or None,
                    effective_from=given["effective_from"],
                    note=given["note"],
                    actor=self.actor,
                    now=self.now,
                )
            except RateCardNotFound:
                form.add_error("rate_card", "This is no rate card of yours.")
            except Invalid as invalid:
                form.take(invalid, **{e.field: "customers" for e in invalid.errors if "customers" in e.field})
            else:
                whom = "everybody" if not given["customers"] else f"{len(made)} of your customers"
                say = f"It holds for {whom} from {made[0].effective_from:%Y-%m-%d %H:%M} UTC on."
                if chosen == NONE:
                    return self.go("rate-cards", say=say)
                return self.go("rate-card", rcd=chosen, say=say)
        return self.show(form=form, status=400)


class WithdrawAssignment(ConfirmPage, BillingPage):
    """Asks before an assignment that has not begun goes."""

    topic = Topic.BILLING
    section = "billing"
    title = "Withdraw an assignment"
    button = "Withdraw it"

    def _row(self) -> RateCardAssignment:
        wanted = path_id(self.kwargs["rca"], ids.RATE_CARD_ASSIGNMENT)
        found = RateCardAssignment.objects.filter(tenant_id=self.tenant_id, pk=wanted).first()
        if found is None:
            raise RateCardNotFound(self.kwargs["rca"])
        return found

    def question(self) -> str:
        """What is asked."""
        row = self._row()
        return f"Withdraw the assignment for {row.customer or 'everybody'} from {row.effective_from:%Y-%m-%d %H:%M} UTC?"

    def consequences(self) -> list[str]:
        """What will happen."""
        return ["It never holds; what holds now goes on."]

    def back(self) -> str:
        """Where no leads."""
        return self.url("rate-cards")

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Withdraws it."""
        withdraw_assignment(
            tenant_id=self.tenant_id, assignment_id=self._row().pk, actor=self.actor, now=self.now
        )
        return self.go("rate-cards", say="Withdrawn.")
