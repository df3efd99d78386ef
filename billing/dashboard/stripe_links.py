"""Which customer is which at Stripe."""

from __future__ import annotations

from typing import Any

from django import forms
from django.http import HttpRequest, HttpResponse

from billing.dashboard.base import BillingPage
from billing.models import StripeLink
from billing.services.stripe_access import NotConnected
from billing.services.stripe_links import LinkNotFound, NewLink, link, unlink
from noburn.dashboard.forms import PageForm
from noburn.dashboard.paths import path_id
from noburn.kit import ids
from noburn.kit.problems import Invalid
from tenants.dashboard.page import ConfirmPage
from tenants.domain.roles import Topic


class LinkForm(PageForm):
    """A customer to be linked, or linked anew."""

    customer = forms.CharField(max_length=200, strip=False, help_text="Your own id of it.")
    email = forms.CharField(
        label="E-mail",
        required=False,
        max_length=254,
        help_text="By which it is looked for at Stripe, or made there.",
    )
    stripe_customer = forms.CharField(
        label="Or Stripe's customer", required=False, max_length=64, help_text="cus_…"
    )
    subscription = forms.BooleanField(
        label="Start a subscription to the price of use, if there is none", required=False, initial=True
    )


class LinkCustomer(BillingPage):
    """The form by which a customer is linked."""

    tab = "stripe"
    title = "Link a customer"
    template_name = "billing/form.html"
    for_changing = True

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """The form; a customer may be named in the address."""
        return {
            "form": LinkForm(
                initial={"customer": self.request.GET.get("customer", "")[:200], "subscription": True}
            ),
            **super().get_context_data(**kwargs),
            "button": "Link",
            "back": self.url("stripe"),
            "lead": "What it used before is not lost: it goes on its first invoice.",
        }

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Links it; workers do it."""
        form = LinkForm(request.POST)
        if form.is_valid():
            try:
                link(
                    tenant_id=self.tenant_id,
                    wanted=NewLink(**form.cleaned_data),
                    actor=self.actor,
                    now=self.now,
                )
            except NotConnected:
                form.add_error(None, "Connect Stripe first.")
            except Invalid as invalid:
                form.take(invalid)
            else:
                return self.go("stripe", say="It is being linked.")
        return self.show(form=form, status=400)


class UnlinkCustomer(ConfirmPage, BillingPage):
    """Asks before a link goes."""

    topic = Topic.BILLING
    section = "billing"
    title = "Remove a link"
    button = "Remove it"

    def _row(self) -> StripeLink:
        wanted = path_id(self.kwargs["lnk"], ids.STRIPE_LINK)
        found = (
            StripeLink.objects.select_related("customer").filter(tenant_id=self.tenant_id, pk=wanted).first()
        )
        if found is None:
            raise LinkNotFound(self.kwargs["lnk"])
        return found

    def question(self) -> str:
        """What is asked."""
        return f"Remove the link of {self._row().customer.external_id}?"

    def consequences(self) -> list[str]:
        """What will happen."""
        return [
            "Its use is billed to nobody at Stripe until it is linked again.",
            "A subscription that was started goes on there; end it at Stripe.",
            "A link by which something was told already cannot be removed, only linked anew.",
        ]

    def back(self) -> str:
        """Where no leads."""
        return self.url("stripe")

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Removes it."""
        unlink(tenant_id=self.tenant_id, link_id=self._row().pk, actor=self.actor, now=self.now)
        return self.go("stripe", say="The link is removed.")
