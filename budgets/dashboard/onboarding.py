"""From a new tenant to the first refused call: a key, a call, a budget, a loop that runs into it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django import forms
from django.conf import settings
from django.http import HttpRequest, HttpResponse

from budgets.dashboard.snippets import snippets
from budgets.models import Budget
from budgets.queries.decisions import DecisionFilter, decisions
from budgets.services.budgets import NewBudget, create_budget
from budgets.services.sandbox import CALLS, CUSTOMER, LIMIT_USD, run_loop
from noburn.dashboard.forms import PageForm
from noburn.kit.problems import Invalid
from tenants.dashboard.page import TenantPage
from tenants.domain.roles import Topic
from tenants.models import ApiKey, KeyScope
from tenants.services.keys import issue_key

LOOKED_AT = 2 * CALLS + 1
PLACEHOLDER = "nb_live_\N{HORIZONTAL ELLIPSIS}"


class FirstBudgetForm(PageForm):
    """The first budget: so much for each customer."""

    limit = forms.CharField(
        label="Limit in USD",
        initial="10",
        max_length=32,
        widget=forms.TextInput(attrs={"inputmode": "decimal"}),
        help_text="For each customer, also for those that you do not know yet.",
    )
    window = forms.ChoiceField(
        label="In each", choices=[("day", "day"), ("week", "week"), ("month", "month")], initial="month"
    )


class Start(TenantPage):
    """The steps, and how far this tenant is."""

    topic = Topic.TENANT
    section = "start"
    title = "Get started"
    template_name = "budgets/start.html"
    partials = {"first-call": "budgets/_first_call.html"}

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """How far it is: a key, a call, a budget; and the snippets."""
        newest = decisions(wanted=DecisionFilter(tenant_id=self.tenant_id), before=None, limit=LOOKED_AT)
        budgets = Budget.objects.filter(tenant_id=self.tenant_id, archived_at__isnull=True)
        kwargs.setdefault("form", FirstBudgetForm())
        secret = kwargs.get("secret", "")
        return {
            **super().get_context_data(**kwargs),
            "has_key": bool(secret) or _live_keys(self, self.now),
            # A call of theirs rather than one of the sample loop.
            "call": next(
                (each for each in newest if each["customer"] != CUSTOMER), newest[0] if newest else None
            ),
            "has_budget": budgets.exists(),
            "snippets": snippets(key=secret or PLACEHOLDER, url=settings.BASE_URL),
            "may_issue": self.may_change_topic(Topic.API_KEYS),
            "may_budget": self.may_change_topic(Topic.BUDGETS),
            "sandbox": {"customer": CUSTOMER, "limit_usd": LIMIT_USD, "calls": CALLS},
        }


class StartKey(Start):
    """Issues the first key, and shows the page with it filled in."""

    topic = Topic.API_KEYS
    for_changing = True

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """A page that was loaded again: the key is not shown twice."""
        return self.go("start")

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Issues it."""
        issued = issue_key(
            tenant_id=self.tenant_id,
            name="first key",
            scopes=[KeyScope.PREFLIGHT, KeyScope.SETTLE, KeyScope.READ],
            actor=self.actor,
            now=self.now,
        )
        return self.show(secret=issued.secret)


class StartBudget(Start):
    """Makes the first budget."""

    topic = Topic.BUDGETS
    for_changing = True

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """A page that was loaded again."""
        return self.go("start")

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Makes it."""
        form = FirstBudgetForm(request.POST)
        if form.is_valid():
            wanted = NewBudget(scope="customer", **form.cleaned_data)
            try:
                create_budget(tenant_id=self.tenant_id, budget=wanted, actor=self.actor, now=self.now)
            except Invalid as invalid:
                form.take(invalid, limit_usd="limit")
            else:
                return self.go("start", say="The budget is in force: the next call is under it.")
        return self.show(form=form, status=400)


class StartLoop(Start):
    """Runs the sample loop and shows what each of its calls was answered."""

    topic = Topic.BUDGETS
    for_changing = True
    # The gateway's own work must not wait for this request.
    locked = False

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """A page that was loaded again."""
        return self.go("start")

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Runs it."""
        loop = run_loop(tenant_id=self.tenant_id, actor=self.actor, now=self.now)
        refused = [call for call in loop if not call.allowed]
        return self.show(
            loop=[
                (call, datetime.fromisoformat(call.resets_at) if call.resets_at else None) for call in loop
            ],
            refused=refused,
        )


def _live_keys(page: TenantPage, now: datetime) -> bool:
    keys = ApiKey.objects.filter(tenant_id=page.tenant_id, revoked_at__isnull=True).exclude(
        expires_at__lte=now
    )
    return keys.exists()
