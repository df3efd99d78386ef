"""Customers: all of them by name, and the account of one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from django.http import HttpRequest, HttpResponse, HttpResponseRedirect

from billing.models import Wallet
from billing.queries.wallet_balances import with_balance
from billing.services.customer_accounts import CHART_DAYS, Account, account, month_by_customer
from budgets.dashboard.budget_forms import LimitForm
from budgets.dashboard.charts import by_day
from budgets.dashboard.decided import shown
from budgets.dashboard.histories import history_of
from budgets.dashboard.params import amount, query
from budgets.domain.budget_rules import show_limit
from budgets.domain.policy import EACH, Scope
from budgets.models import Budget
from budgets.queries.bounded import TookTooLong, limited
from budgets.services.budgets import BudgetChanges, edit_budget
from budgets.services.overrides import set_override
from budgets.services.standing import is_template, standings_of
from noburn.dashboard.exports import export
from noburn.kit import ids
from noburn.kit.money import to_usd
from noburn.kit.problems import FieldError, Invalid, Missing
from noburn.kit.rest.pages import cut, read_page
from tenants.dashboard.page import ConfirmPage, TenantPage
from tenants.domain.roles import Topic
from tenants.models import Customer
from tenants.queries.customers import SEARCH_MAX, CustomerFilter, customer_of, customers
from tenants.services.customers import resume_customer, suspend_customer

ROWS: Final = 50
BATCH: Final = 1_000
MILLISECONDS: Final = 3_000


class Customers(TenantPage):
    """All customers by their ids, with what each spent this month."""

    topic = Topic.CUSTOMERS
    section = "customers"
    title = "Customers"
    template_name = "billing/customers.html"
    partials = {"customer-rows": "billing/_customer_rows.html"}

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """The page, or its rows as a file."""
        if form := request.GET.get("format"):
            return export(
                form,
                name=f"{self.tenant.slug}-customers",
                columns=["id", "name", "suspended_at", "created_at", "month_requests", "month_cost_usd"],
                rows=self._cells(),
            )
        return self.show()

    def _wanted(self) -> CustomerFilter:
        state = self.request.GET.get("state", "")
        if state not in ("", "suspended", "active"):
            raise Invalid([FieldError("state", "must be suspended or active")])
        search = self.request.GET.get("search", "").strip()
        if len(search) > SEARCH_MAX or "\x00" in search:
            raise Invalid([FieldError("search", f"must be at most {SEARCH_MAX} characters of text")])
        suspended = {"suspended": True, "active": False}.get(state)
        return CustomerFilter(tenant_id=self.tenant_id, search=search, suspended=suspended)

    def _look(self, after: str, limit: int) -> list[Customer]:
        try:
            with limited(milliseconds=MILLISECONDS):
                return customers(wanted=self._wanted(), after=after, limit=limit)
        except TookTooLong:
            message = f"is not found in {MILLISECONDS // 1000} s: take more of the id"
            raise Invalid([FieldError("search", message)]) from None

    def _cells(self) -> Iterator[list[Any]]:
        after = ""
        while page := self._look(after, BATCH):
            spent = month_by_customer(tenant=self.tenant, customers=page, now=self.now)
            for row in page:
                month = spent.get(row.external_id, {"requests": 0, "cost_nano": 0})
                suspended_at = row.suspended_at.isoformat() if row.suspended_at else None
                names = [row.external_id, row.name, suspended_at, row.created_at.isoformat()]
                yield [*names, month["requests"], to_usd(month["cost_nano"])]
            after = page[-1].external_id

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """One page of customers."""
        page = read_page(self.request.GET.dict(), key=[str])
        wanted = self._wanted()
        found = self._look(page.after[0] if page.after else "", ROWS + 1)
        rows, cursor = cut(found, ROWS, lambda row: [row.external_id])
        spent = month_by_customer(tenant=self.tenant, customers=rows, now=self.now)
        filters = {
            name: value for name in ("search", "state") if (value := self.request.GET.get(name, "").strip())
        }
        return {
            **super().get_context_data(**kwargs),
            "rows": [
                {
                    "customer": row,
                    "wire": ids.encode(ids.CUSTOMER, row.pk),
                    "month": spent.get(row.external_id),
                }
                for row in rows
            ],
            "search": wanted.search,
            "state": self.request.GET.get("state", ""),
            "none_at_all": not rows and not filters and page.after is None,
            "next": query({**filters, "cursor": cursor}) if cursor else "",
            "first": query(filters) if page.after else "",
        }


class CustomerNamed(TenantPage):
    """Leads from the tenant's own id of a customer to its page: what usage and decisions know of it."""

    topic = Topic.CUSTOMERS
    section = "customers"

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Leads on: of one that was refused from its first call on, which makes no customer, to its decisions."""
        name = request.GET.get("id", "")
        if not 1 <= len(name) <= SEARCH_MAX or "\x00" in name:
            raise Missing(name)
        found = customer_of(tenant_id=self.tenant_id, external_id=name)
        if found is None:
            return HttpResponseRedirect(self.url("decisions") + query({"customer": name}))
        return HttpResponseRedirect(self.url("customer", cus_id=ids.encode(ids.CUSTOMER, found.pk)))


class OfCustomer(TenantPage):
    """A page about one customer of the tenant."""

    topic = Topic.CUSTOMERS
    section = "customers"

    def customer(self) -> Customer:
        """The customer. Raises Missing."""
        wire = self.kwargs["cus_id"]
        try:
            wanted = ids.decode(ids.CUSTOMER, wire)
        except ids.BadId:
            raise Missing(wire) from None
        found = Customer.objects.filter(tenant_id=self.tenant_id, pk=wanted).first()
        if found is None:
            raise Missing(wire)
        return found

    def back(self) -> str:
        """Where no leads."""
        return self.url("customer", cus_id=self.kwargs["cus_id"])


class CustomerPage(OfCustomer):
    """The account of one customer: spending, budgets, refusals, wallet, charge and margin."""

    template_name = "billing/customer.html"

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """All of it."""
        customer = self.customer()
        found = account(tenant=self.tenant, customer=customer, now=self.now)
        return {
            **super().get_context_data(**kwargs),
            "title": customer.name or customer.external_id,
            "customer": customer,
            "wire": self.kwargs["cus_id"],
            "found": found,
            "chart": by_day(
                found.days,
                days=CHART_DAYS,
                zone=found.zone,
                now=self.now,
                title=f"Spent by day, {CHART_DAYS} days",
            ),
            "standings": [
                {
                    "wire": ids.encode(ids.BUDGET, one.budget.pk),
                    "standing": one,
                    "is_template": is_template(one.budget),
                }
                for one in found.standings
            ],
            "may_change_budgets": self.may_change_topic(Topic.BUDGETS),
            "refusals": None if found.refusals is None else shown(self.tenant_id, found.refusals),
            "wallet": self._wallet(found),
            "history": history_of(self, self.kwargs["cus_id"], since=customer.created_at),
        }

    def _wallet(self, found: Account) -> dict[str, Any] | None:
        if found.wallet is None:
            return None
        wallet = with_balance(Wallet.objects.filter(pk=found.wallet.pk)).get()
        credit: int = getattr(wallet, "credit_nano")  # noqa: B009 (annotated by the query)
        return {
            "wallet": wallet,
            "wire": ids.encode(ids.WALLET, wallet.pk),
            "balance_nano": credit - wallet.owed_nano,
        }


class CustomerLimit(OfCustomer):
    """The limit of one customer under one budget, edited where it stands: an override, or the budget's own limit."""

    topic = Topic.BUDGETS
    title = "Change the limit"
    template_name = "billing/customer_limit.html"
    for_changing = True

    def get_template_names(self) -> list[str]:
        """The form alone where htmx asks for it within the table."""
        htmx = self.request.htmx  # type: ignore[attr-defined]
        within = htmx and (htmx.target or "").startswith("limit-")
        return ["billing/_customer_limit.html"] if within else super().get_template_names()

    def budget(self, customer: Customer) -> Budget:
        """The budget, which must count this customer. Raises Missing."""
        wire = self.kwargs["bud_id"]
        try:
            wanted = ids.decode(ids.BUDGET, wire)
        except ids.BadId:
            raise Missing(wire) from None
        found = Budget.objects.filter(
            tenant_id=self.tenant_id,
            pk=wanted,
            archived_at__isnull=True,
            scope=Scope.CUSTOMER,
            subject__in=(EACH, customer.external_id),
        ).first()
        if found is None:
            raise Missing(wire)
        return found

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Sets it, from the next call on."""
        customer = self.customer()
        budget, form = self.budget(customer), LimitForm(request.POST)
        if form.is_valid():
            try:
                self._set(budget, customer, form.cleaned_data["limit"])
            except Invalid as invalid:
                form.take(invalid)
            else:
                return self.go(
                    "customer", cus_id=self.kwargs["cus_id"], say="The limit holds from the next call on."
                )
        return self.show(form=form, status=400)

    def _set(self, budget: Budget, customer: Customer, limit: str) -> None:
        whose: dict[str, Any] = {
            "tenant_id": self.tenant_id,
            "budget_id": budget.pk,
            "actor": self.actor,
            "now": self.now,
        }
        if is_template(budget):
            set_override(**whose, subject=customer.external_id, limit=limit)
        else:
            edit_budget(**whose, changes=BudgetChanges(limit=limit))

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """The form, filled with the limit that holds without increases."""
        customer = self.customer()
        budget = self.budget(customer)
        if "form" not in kwargs:
            wanted = [(budget, customer.external_id)]
            (standing,) = standings_of(tenant=self.tenant, wanted=wanted, now=self.now)
            own = standing.own_limit if standing.own_limit is not None else budget.limit
            kwargs["form"] = LimitForm(initial={"limit": show_limit(budget.metric, own)})
        only = f"Of {customer.external_id} alone; others keep {amount(budget.metric, budget.limit)}."
        return {
            **super().get_context_data(**kwargs),
            "customer": customer,
            "budget": budget,
            "action": self.url("customer-limit", **self.kwargs),
            "lead": only if is_template(budget) else "",
            "back": self.back(),
        }


class CustomerSuspend(OfCustomer, ConfirmPage):
    """Asks before every further call of a customer is refused."""

    title = "Suspend the customer"
    button = "Suspend it"

    def question(self) -> str:
        """What is asked."""
        return f"Suspend {self.customer().external_id}?"

    def consequences(self) -> list[str]:
        """What will happen."""
        return [
            "From the next call on every call of this customer is refused as customer_suspended.",
            "Calls in flight may settle, and what they used is billed.",
            "It can be resumed at any time.",
        ]

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Suspends it."""
        name = self.customer().external_id
        suspend_customer(tenant_id=self.tenant_id, external_id=name, actor=self.actor, now=self.now)
        return self.go("customer", cus_id=self.kwargs["cus_id"], say=f"{name} is suspended.")


class CustomerResume(OfCustomer, ConfirmPage):
    """Asks before a customer may call again."""

    title = "Resume the customer"
    button = "Resume it"
    destructive = False

    def question(self) -> str:
        """What is asked."""
        return f"Let {self.customer().external_id} call again?"

    def consequences(self) -> list[str]:
        """What will happen."""
        return ["From the next call on its calls are decided by its budgets again."]

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Resumes it."""
        name = self.customer().external_id
        resume_customer(tenant_id=self.tenant_id, external_id=name, actor=self.actor, now=self.now)
        return self.go("customer", cus_id=self.kwargs["cus_id"], say=f"{name} may call again.")
