"""Wallets: customers' prepaid credit, given, taken back, watched and topped up."""

from __future__ import annotations

from typing import Any

from django import forms
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse

from billing.api.failures import stripe_may_fail
from billing.dashboard.base import BillingPage
from billing.models import CreditGrant, JournalPosting, TopUp, TopUpState, Wallet
from billing.queries.wallet_balances import with_balance
from billing.services.journal import WalletNotFound
from billing.services.payments import FAILURES_MAX, open_checkout
from billing.services.stripe_access import NotConnected
from billing.services.wallets import AutomaticTopUp, close_wallet, create_wallet, set_automatic, set_low
from noburn.dashboard.exports import export
from noburn.dashboard.fields import UsdField
from noburn.dashboard.forms import PageForm
from noburn.dashboard.paths import path_id
from noburn.dashboard.tables import Column, table_of
from noburn.kit import ids
from noburn.kit.money import to_usd
from noburn.kit.problems import FieldError, Invalid
from tenants.dashboard.page import ConfirmPage
from tenants.domain.roles import Topic

COLUMNS = (
    Column("customer", "Customer", sort="customer"),
    Column("balance", "Balance", numeric=True),
    Column("automatic", "Tops itself up"),
    Column("state", "State"),
    Column("made", "Made", sort="pk"),
)
POSTINGS = (
    Column("at", "When", sort="pk"),
    Column("kind", "What"),
    Column("lines", "From and to"),
    Column("calls", "Calls", numeric=True),
    Column("actor", "By"),
)
GRANTS_SHOWN = 100
TOP_UPS_SHOWN = 20


def wallet_wire(wallet: Wallet) -> str:
    """A wallet's id as the wire spells it."""
    return ids.encode(ids.WALLET, wallet.pk)


def balance(wallet: Any) -> int:
    """What new calls may use of a wallet; negative when it owes."""
    return int(wallet.credit_nano - wallet.owed_nano)


class WalletForm(PageForm):
    """Whose wallet."""

    customer = forms.CharField(max_length=200, strip=False, help_text="Your own id of the customer.")


class RulesForm(PageForm):
    """When somebody is told, and when the saved card is charged."""

    low_usd = UsdField(
        label="Tell us below, USD", required=False, help_text="An alert, once until there is more again."
    )
    threshold_usd = UsdField(
        label="Top up below, USD",
        required=False,
        help_text="All three of these, or none: then it is not topped up by itself.",
    )
    amount_usd = UsdField(label="By, USD", required=False)
    monthly_max_usd = UsdField(label="At most in a month (UTC), USD", required=False)

    def automatic(self) -> AutomaticTopUp | None:
        """The rule; None for none. Raises Invalid for half of one."""
        names = ("threshold_usd", "amount_usd", "monthly_max_usd")
        given = {name: self.cleaned_data[name] for name in names}
        if all(value is None for value in given.values()):
            return None
        if missing := [name for name in names if given[name] is None]:
            raise Invalid([FieldError(name, "is needed with the others") for name in missing])
        return AutomaticTopUp(
            threshold_nano=given["threshold_usd"],
            amount_nano=given["amount_usd"],
            monthly_max_nano=given["monthly_max_usd"],
        )


class TopUpForm(PageForm):
    """How much the customer is to pay."""

    amount_usd = UsdField(label="Amount, USD", help_text="Whole cents, at least 0.50.")


class Wallets(BillingPage):
    """The tenant's wallets."""

    tab = "wallets"
    title = "Wallets"
    template_name = "billing/wallets.html"
    partials = {"wallet-rows": "billing/_wallet_rows.html"}

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """The page, or its rows as a file."""
        if form := request.GET.get("format"):
            return export(
                form,
                name=f"{self.tenant.slug}-wallets",
                columns=["id", "customer", "balance_usd", "owed_usd", "state", "created_at"],
                rows=(
                    [
                        wallet_wire(row),
                        row.customer,
                        to_usd(balance(row)),
                        to_usd(row.owed_nano),
                        "open" if row.closed_at is None else "closed",
                        row.created_at.isoformat(),
                    ]
                    for row in self._rows().order_by("customer").iterator(chunk_size=1_000)
                ),
            )
        return self.show()

    def _rows(self) -> QuerySet[Wallet]:
        rows = with_balance(Wallet.objects.filter(tenant_id=self.tenant_id))
        if search := self.request.GET.get("q", "").replace("\x00", "").strip()[:200]:
            rows = rows.filter(customer__icontains=search)
        return rows

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """One page of wallets."""
        table = table_of(self._rows(), self.request.GET, columns=COLUMNS, sort="customer")
        return {
            **super().get_context_data(**kwargs),
            "table": table,
            "rows": [(row, wallet_wire(row), balance(row)) for row in table.rows],
            "query": self.request.GET.get("q", ""),
        }


class NewWallet(BillingPage):
    """The form for another one."""

    tab = "wallets"
    title = "Make a wallet"
    template_name = "billing/form.html"
    for_changing = True

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """The form; a customer may be named in the address."""
        return {
            "form": WalletForm(initial={"customer": self.request.GET.get("customer", "")[:200]}),
            **super().get_context_data(**kwargs),
            "button": "Make it",
            "back": self.url("wallets"),
            "lead": "From then on the customer pays beforehand: the wallet is empty, and its calls are refused until "
            "there is credit in it.",
        }

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Makes it."""
        form = WalletForm(request.POST)
        if form.is_valid():
            try:
                made = create_wallet(
                    tenant_id=self.tenant_id,
                    customer=form.cleaned_data["customer"],
                    actor=self.actor,
                    now=self.now,
                )
            except Invalid as invalid:
                form.take(invalid)
            else:
                return self.go("wallet", wal=wallet_wire(made), say="The wallet is there, and empty.")
        return self.show(form=form, status=400)


def wallet_of(page: BillingPage) -> Any:
    """The wallet that the path names, with its credit. Raises Missing."""
    wanted = path_id(page.kwargs["wal"], ids.WALLET)
    found = with_balance(Wallet.objects.filter(tenant_id=page.tenant_id, pk=wanted)).first()
    if found is None:
        raise WalletNotFound(page.kwargs["wal"])
    return found


class OneWallet(BillingPage):
    """One wallet: what is in it, where that is from, and its rules; POST sets the rules."""

    tab = "wallets"
    template_name = "billing/wallet.html"

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """Its balance, credit and payments."""
        wallet = wallet_of(self)
        grants = CreditGrant.objects.filter(tenant_id=self.tenant_id, wallet_id=wallet.pk)
        payments = TopUp.objects.filter(tenant_id=self.tenant_id, wallet_id=wallet.pk)
        form = RulesForm(
            initial={
                "low_usd": _usd(wallet.low_nano),
                "threshold_usd": _usd(wallet.auto_threshold_nano),
                "amount_usd": _usd(wallet.auto_amount_nano),
                "monthly_max_usd": _usd(wallet.auto_monthly_max_nano),
            }
        )
        return {
            "form": form,
            **super().get_context_data(**kwargs),
            "title": wallet.customer,
            "wallet": wallet,
            "wire": self.kwargs["wal"],
            "balance": balance(wallet),
            "stopped": wallet.auto_failures >= FAILURES_MAX,
            "grants": [
                (row, ids.encode(ids.CREDIT_GRANT, row.pk), self._state(row))
                for row in grants.order_by("-created_at", "-pk")[:GRANTS_SHOWN]
            ],
            "top_ups": [
                (row, row.url if row.state == TopUpState.PENDING else "")
                for row in payments.order_by("-created_at", "-pk")[:TOP_UPS_SHOWN]
            ],
        }

    def _state(self, row: CreditGrant) -> str:
        if row.voided_at is not None:
            return "voided"
        if row.expires_at is not None and row.expires_at <= self.now:
            return "expired"
        return "active" if row.remaining_nano else "used"

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Sets when somebody is told, and when it is topped up."""
        wallet, form = wallet_of(self), RulesForm(request.POST)
        if form.is_valid():
            common: dict[str, Any] = {
                "tenant_id": self.tenant_id,
                "wallet_id": wallet.pk,
                "actor": self.actor,
                "now": self.now,
            }
            try:
                automatic = form.automatic()
                set_low(low_nano=form.cleaned_data["low_usd"], **common)
                set_automatic(automatic=automatic, **common)
            except Invalid as invalid:
                form.take(invalid)
            else:
                return self.go("wallet", wal=self.kwargs["wal"], say="Saved.")
        return self.show(form=form, status=400)


class TopUpWallet(BillingPage):
    """Opens a page of Stripe's on which the customer pays."""

    tab = "wallets"
    title = "Ask for a payment"
    template_name = "billing/form.html"
    for_changing = True
    # It waits for Stripe.
    locked = False

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """The form."""
        wallet = wallet_of(self)
        return {
            "form": TopUpForm(),
            **super().get_context_data(**kwargs),
            "button": "Make the payment page",
            "back": self.url("wallet", wal=self.kwargs["wal"]),
            "lead": f"A page of Stripe's Checkout on which {wallet.customer} pays. Its credit follows once Stripe says "
            "so, and the card is kept for automatic top-ups.",
        }

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Opens it; the wallet's page then has its address, for the customer."""
        wallet, form = wallet_of(self), TopUpForm(request.POST)
        if form.is_valid():
            back = request.build_absolute_uri(self.url("wallet", wal=self.kwargs["wal"]))
            try:
                with stripe_may_fail():
                    open_checkout(
                        tenant_id=self.tenant_id,
                        wallet_id=wallet.pk,
                        amount_nano=form.cleaned_data["amount_usd"],
                        success_url=back,
                        cancel_url=back,
                        actor=self.actor,
                        now=self.now,
                    )
            except NotConnected:
                form.add_error(None, "Connect Stripe first.")
            except Invalid as invalid:
                form.take(invalid)
            else:
                return self.go(
                    "wallet",
                    wal=self.kwargs["wal"],
                    say="The payment page is there: send its address to the customer.",
                )
        return self.show(form=form, status=400)


class CloseWallet(ConfirmPage, BillingPage):
    """Asks before prepayment ends."""

    topic = Topic.BILLING
    section = "billing"
    title = "Close a wallet"
    button = "Close it"

    def question(self) -> str:
        """What is asked."""
        return f"Close the wallet of {wallet_of(self).customer}?"

    def consequences(self) -> list[str]:
        """What will happen."""
        left = balance(wallet_of(self))
        return [
            "The customer's calls are no longer refused for want of credit, and nothing is burnt for later ones.",
            f"What is in it stays: {to_usd(left)} USD. The wallet can be opened again.",
        ]

    def back(self) -> str:
        """Where no leads."""
        return self.url("wallet", wal=self.kwargs["wal"])

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Closes it."""
        close_wallet(tenant_id=self.tenant_id, wallet_id=wallet_of(self).pk, actor=self.actor, now=self.now)
        return self.go("wallet", wal=self.kwargs["wal"], say="The wallet is closed.")


class Journal(BillingPage):
    """Where a wallet's credit came from and went."""

    tab = "wallets"
    title = "Journal"
    template_name = "billing/journal.html"
    partials = {"journal-rows": "billing/_journal_rows.html"}

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """The page, or its rows as a file: a row for each line of a posting."""
        if form := request.GET.get("format"):
            return export(
                form,
                name=f"{self.tenant.slug}-journal",
                columns=[
                    "posting",
                    "created_at",
                    "kind",
                    "account",
                    "grant",
                    "amount_usd",
                    "calls",
                    "actor",
                    "note",
                ],
                rows=(
                    [
                        ids.encode(ids.JOURNAL_POSTING, row.pk),
                        row.created_at.isoformat(),
                        row.kind,
                        line.account,
                        ids.encode(ids.CREDIT_GRANT, line.grant_id) if line.grant_id else None,
                        to_usd(line.amount_nano),
                        row.calls,
                        row.actor,
                        row.note,
                    ]
                    for row in self._rows().order_by("-pk").iterator(chunk_size=1_000)
                    for line in row.lines.all()
                ),
            )
        return self.show()

    def _rows(self) -> QuerySet[JournalPosting]:
        wallet = wallet_of(self)
        return JournalPosting.objects.filter(tenant_id=self.tenant_id, wallet_id=wallet.pk).prefetch_related(
            "lines"
        )

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """One page of postings."""
        wallet = wallet_of(self)
        return {
            **super().get_context_data(**kwargs),
            "wallet": wallet,
            "wire": self.kwargs["wal"],
            "table": table_of(self._rows(), self.request.GET, columns=POSTINGS, sort="-at"),
        }


def _usd(nano: int | None) -> str:
    return "" if nano is None else to_usd(nano)
