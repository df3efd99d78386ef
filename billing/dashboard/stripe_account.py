"""The tenant's account at Stripe: connected, set up, changed, disconnected. Keys are taken and never shown."""

from __future__ import annotations

from typing import Any

from django import forms
from django.conf import settings
from django.http import HttpRequest, HttpResponse

from billing.dashboard.base import BillingPage
from billing.models import AccessMode, AccountState, LinkState, StripeAccount, StripeLink
from billing.services import reconciling
from billing.services.stripe_access import NotConnected
from billing.services.stripe_accounts import (
    AccountChanges,
    Connection,
    change,
    connect,
    disconnect,
    set_up_again,
)
from noburn.dashboard.exports import export
from noburn.dashboard.fields import LinesField, MomentField
from noburn.dashboard.forms import PageForm
from noburn.dashboard.tables import Column, table_of
from noburn.kit import ids
from noburn.kit.problems import Invalid
from tenants.dashboard.page import ConfirmPage
from tenants.domain.roles import Topic

LINKS = (
    Column("customer", "Customer"),
    Column("stripe", "At Stripe"),
    Column("subscription", "Subscription"),
    Column("state", "State"),
    Column("made", "Linked", sort="pk"),
    Column("actions", "Actions", hidden_label=True),
)


def _secret(label: str, **options: Any) -> forms.CharField:
    widget = forms.PasswordInput(attrs={"autocomplete": "off"})
    return forms.CharField(label=label, required=False, max_length=300, widget=widget, **options)


class ConnectForm(PageForm):
    """How the account is reached."""

    secret_key = _secret(
        "Restricted key", help_text="rk_live_… or rk_test_…, never sk_…. It is not shown again."
    )
    account = forms.CharField(
        label="Or an account connected to this installation's platform",
        required=False,
        max_length=64,
        help_text="acct_…",
    )
    webhook_secrets = LinesField(
        label="Signing secrets of the webhooks",
        max_length=1300,
        help_text="whsec_…, one a line, up to four. They can follow once the endpoints are made.",
    )
    billed_from = MomentField(
        label="Bill use from", help_text="At most a month back. Empty: from this hour on."
    )
    suspend_delinquent = forms.BooleanField(label="Suspend customers that do not pay", required=False)


class ChangeForm(PageForm):
    """What may change. What is left empty stays."""

    secret_key = _secret("Another restricted key", help_text="Takes the place of the one before at once.")
    webhook_secrets = LinesField(
        label="Signing secrets of the webhooks",
        max_length=1300,
        help_text="One a line; they take the place of all before. Empty: those stay.",
    )
    suspend_delinquent = forms.BooleanField(label="Suspend customers that do not pay", required=False)


def own_account(page: BillingPage) -> StripeAccount:
    """The connected account. Raises Missing."""
    found = (
        StripeAccount.objects.filter(tenant_id=page.tenant_id)
        .exclude(state=AccountState.DISCONNECTED)
        .first()
    )
    if found is None:
        raise NotConnected("stripe")
    return found


class Stripe(BillingPage):
    """How billing over Stripe stands; POST changes the connection."""

    tab = "stripe"
    title = "Stripe"
    template_name = "billing/stripe.html"

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """The page, or its links as a file."""
        if form := request.GET.get("format"):
            return export(
                form,
                name=f"{self.tenant.slug}-stripe-links",
                columns=["id", "customer", "stripe_customer", "subscription", "status", "state", "problem"],
                rows=(
                    [
                        ids.encode(ids.STRIPE_LINK, row.pk),
                        row.customer.external_id,
                        row.stripe_customer or None,
                        row.subscription or None,
                        row.subscription_status or None,
                        row.state,
                        row.problem or None,
                    ]
                    for row in self._links().order_by("-pk").iterator(chunk_size=1_000)
                ),
            )
        return self.show()

    def _links(self) -> Any:
        rows = StripeLink.objects.filter(tenant_id=self.tenant_id).select_related("customer")
        if (state := self.request.GET.get("state", "")) in LinkState.values:
            rows = rows.filter(state=state)
        return rows

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """The connection, what is to be done next, and one page of links."""
        account = (
            StripeAccount.objects.filter(tenant_id=self.tenant_id)
            .exclude(state=AccountState.DISCONNECTED)
            .first()
        )
        context = {**super().get_context_data(**kwargs), "account": account}
        if account is None:
            return context
        name = (
            "platform" if account.mode == AccessMode.CONNECT else ids.encode(ids.STRIPE_ACCOUNT, account.pk)
        )
        table = table_of(self._links(), self.request.GET, columns=LINKS, sort="-made")
        return {
            "form": ChangeForm(initial={"suspend_delinquent": account.suspend_delinquent}),
            **context,
            "standing": reconciling.status(account=account, now=self.now),
            "webhook_url": f"{settings.BASE_URL}/stripe/webhooks/{name}",
            "secrets": len(account.webhook_secrets),
            "table": table,
            "rows": [(row, ids.encode(ids.STRIPE_LINK, row.pk)) for row in table.rows],
        }

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Changes what was filled in."""
        own_account(self)
        form = ChangeForm(request.POST)
        if form.is_valid():
            given = form.cleaned_data
            try:
                change(
                    tenant_id=self.tenant_id,
                    changes=AccountChanges(
                        secret_key=given["secret_key"] or None,
                        webhook_secrets=given["webhook_secrets"] or None,
                        suspend_delinquent=given["suspend_delinquent"],
                    ),
                    actor=self.actor,
                    now=self.now,
                )
            except Invalid as invalid:
                form.take(invalid)
            else:
                return self.go("stripe", say="Saved.")
        return self.show(form=form, status=400)


class ConnectStripe(BillingPage):
    """The form by which an account is connected."""

    tab = "stripe"
    title = "Connect Stripe"
    template_name = "billing/stripe_connect.html"
    for_changing = True

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """The form, without Connect where there is no platform."""
        return {
            "form": self._form(),
            **super().get_context_data(**kwargs),
            "back": self.url("stripe"),
        }

    def _form(self, data: Any = None) -> ConnectForm:
        form = ConnectForm(data)
        if not settings.STRIPE_PLATFORM_KEY:
            del form.fields["account"]
        return form

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Connects it; workers then set it up."""
        form = self._form(request.POST)
        if form.is_valid():
            try:
                connect(
                    tenant_id=self.tenant_id,
                    connection=Connection(**form.cleaned_data),
                    actor=self.actor,
                    now=self.now,
                )
            except Invalid as invalid:
                form.take(invalid)
            else:
                return self.go(
                    "stripe", say="Connected. Meter, product and price are being made in your account."
                )
        return self.show(form=form, status=400)


class SetUpStripe(BillingPage):
    """Does set-up once more, after what had stopped it was mended."""

    for_changing = True
    http_method_names = ["post"]

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Asks workers for it."""
        set_up_again(tenant_id=self.tenant_id, actor=self.actor, now=self.now)
        return self.go("stripe", say="Set-up begins again. What is there is found, not made twice.")


class DisconnectStripe(ConfirmPage, BillingPage):
    """Asks before key and secrets are forgotten."""

    topic = Topic.BILLING
    section = "billing"
    title = "Disconnect Stripe"
    button = "Disconnect"

    def question(self) -> str:
        """What is asked."""
        account = own_account(self)
        return f"Disconnect {account.account or f'the key that ends in {account.key_last4}'}?"

    def consequences(self) -> list[str]:
        """What will happen."""
        return [
            "Key and signing secrets are forgotten. They have to be given anew to connect again.",
            "Use is told to Stripe no more; what was not told yet waits.",
            "Subscriptions at Stripe go on, and invoice what was told so far.",
        ]

    def back(self) -> str:
        """Where no leads."""
        return self.url("stripe")

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Disconnects it."""
        disconnect(tenant_id=self.tenant_id, actor=self.actor, now=self.now)
        return self.go("stripe", say="Stripe is disconnected.")
