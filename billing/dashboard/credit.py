"""Credit of a wallet: given by a person, and taken back."""

from __future__ import annotations

from typing import Any

from django import forms
from django.http import HttpRequest, HttpResponse

from billing.dashboard.base import BillingPage
from billing.dashboard.wallets import wallet_of
from billing.models import CreditGrant, CreditKind
from billing.services.wallets import GrantNotFound, NewGrant, grant_credit, void_grant
from noburn.dashboard.fields import MomentField, UsdField
from noburn.dashboard.forms import PageForm
from noburn.dashboard.paths import path_id
from noburn.kit import ids
from noburn.kit.money import to_usd
from noburn.kit.problems import Invalid
from tenants.dashboard.page import ConfirmPage
from tenants.domain.roles import Topic


class GrantForm(PageForm):
    """Credit to be given."""

    amount_usd = UsdField(label="Amount, USD")
    kind = forms.ChoiceField(
        choices=[
            (CreditKind.PROMOTIONAL.value, "A present"),
            (CreditKind.PAID.value, "Paid for elsewhere, by bank transfer say"),
        ],
        widget=forms.RadioSelect,
        initial=CreditKind.PROMOTIONAL.value,
    )
    expires_at = MomentField(label="Ends", help_text="Empty: it does not end.")
    priority = forms.IntegerField(
        required=False,
        min_value=0,
        max_value=100,
        help_text="What is burnt first: lower before higher. Empty: 40 for presents, 50 for paid credit.",
    )
    reason = forms.CharField(required=False, max_length=500)


class VoidForm(PageForm):
    """Why it is taken back."""

    reason = forms.CharField(max_length=500)
    refund = forms.BooleanField(
        required=False,
        label="Pay it back over Stripe",
        help_text="Of credit that was paid for over Stripe, as far as it is whole cents.",
    )


class Grant(BillingPage):
    """The form by which credit is given."""

    tab = "wallets"
    title = "Give credit"
    template_name = "billing/form.html"
    for_changing = True

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """The form."""
        wallet = wallet_of(self)
        return {
            "form": GrantForm(),
            **super().get_context_data(**kwargs),
            "button": "Give it",
            "back": self.url("wallet", wal=self.kwargs["wal"]),
            "lead": f"To {wallet.customer}, from the next call on. What the wallet owes is paid with it first.",
        }

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Gives it."""
        wallet, form = wallet_of(self), GrantForm(request.POST)
        if form.is_valid():
            given = form.cleaned_data
            try:
                grant_credit(
                    tenant_id=self.tenant_id,
                    wallet_id=wallet.pk,
                    grant=NewGrant(
                        kind=given["kind"],
                        amount_nano=given["amount_usd"],
                        priority=given["priority"],
                        expires_at=given["expires_at"],
                        reason=given["reason"],
                    ),
                    actor=self.actor,
                    now=self.now,
                )
            except Invalid as invalid:
                form.take(invalid)
            else:
                return self.go("wallet", wal=self.kwargs["wal"], say="The credit is there.")
        return self.show(form=form, status=400)


class VoidGrant(ConfirmPage, BillingPage):
    """Asks before credit is taken back."""

    topic = Topic.BILLING
    section = "billing"
    title = "Take credit back"
    button = "Take it back"

    def _grant(self) -> CreditGrant:
        wanted = path_id(self.kwargs["crg"], ids.CREDIT_GRANT)
        found = CreditGrant.objects.filter(
            tenant_id=self.tenant_id, wallet_id=wallet_of(self).pk, pk=wanted
        ).first()
        if found is None:
            raise GrantNotFound(self.kwargs["crg"])
        return found

    def question(self) -> str:
        """What is asked."""
        return f"Take back what is left of this credit, {to_usd(self._grant().remaining_nano)} USD?"

    def consequences(self) -> list[str]:
        """What will happen."""
        return [
            "No new call is held on it. Calls in flight keep theirs, and an hour later the rest is gone.",
            "If no other credit is left, the customer's calls are refused.",
        ]

    def back(self) -> str:
        """Where no leads."""
        return self.url("wallet", wal=self.kwargs["wal"])

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """The question, and why."""
        return {"form": VoidForm(), **super().get_context_data(**kwargs)}

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Takes it back."""
        grant, form = self._grant(), VoidForm(request.POST)
        if form.is_valid():
            try:
                void_grant(
                    tenant_id=self.tenant_id,
                    wallet_id=grant.wallet_id,
                    grant_id=grant.pk,
                    actor=self.actor,
                    now=self.now,
                    **form.cleaned_data,
                )
            except Invalid as invalid:
                form.take(invalid)
            else:
                return self.go("wallet", wal=self.kwargs["wal"], say="It was taken back.")
        return self.show(form=form, status=400)
