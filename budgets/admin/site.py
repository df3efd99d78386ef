"""The admin's sidebar and front page; settings name these functions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.http import HttpRequest
from django.urls import reverse

from budgets.admin.money.pages import table
from budgets.admin.shown import UNKNOWN, amounts, moment
from budgets.services.headline import in_time, money_path, rollup_lag, told
from noburn.kit.clock import utc_now
from tenants.models import Tenant

LAST_ACTIONS = 10

WAITING_TOLERATED = 10_000
"""Entries of the ledger that may wait for a rollup before it is worth a look: some seconds of a busy ledger."""

Item = tuple[str, str, str]
"""A line of the sidebar: its words, its icon, and a model (`app.model`) or the name of a page."""

TOPICS: tuple[tuple[str, tuple[Item, ...]], ...] = (
    (
        "Tenancy",
        (
            ("Tenants", "domain", "tenants.tenant"),
            ("Projects", "folder", "tenants.project"),
            ("Customers", "groups", "tenants.customer"),
            ("End users", "person", "tenants.enduser"),
            ("API keys", "key", "tenants.apikey"),
        ),
    ),
    (
        "Budgets",
        (
            ("Budgets", "account_balance_wallet", "budgets.budget"),
            ("Overrides", "tune", "budgets.budgetoverride"),
            ("Increases", "trending_up", "budgets.budgetincrease"),
            ("Guards", "shield", "budgets.guard"),
            ("Runs", "directions_run", "budgets.run"),
            ("Learned estimates", "school", "budgets.learnedestimate"),
            ("Policies", "policy", "budgets.policysnapshot"),
        ),
    ),
    (
        "Counters and epochs",
        (
            ("Counters", "speed", "money:counters"),
            ("Epochs", "history_toggle_off", "money:epochs"),
            ("Ledger", "receipt_long", "money:ledger"),
            ("Hold resolutions", "task_alt", "money:resolutions"),
            ("Verify a tenant", "fact_check", "money:verify"),
        ),
    ),
    (
        "Prices",
        (
            ("Price rows", "sell", "budgets.pricerow"),
            ("Models", "smart_toy", "budgets.pricemodel"),
            ("Providers", "cloud", "budgets.priceprovider"),
            ("Proposals", "rule", "budgets.priceproposal"),
            ("Price imports", "sync_alt", "budgets.priceimport"),
            ("Tenants' own prices", "percent", "budgets.priceoverride"),
        ),
    ),
    (
        "Stripe",
        (
            ("Accounts", "credit_card", "billing.stripeaccount"),
            ("Links", "link", "billing.stripelink"),
            ("Periods", "date_range", "billing.billingperiod"),
            ("Outbox", "outbox", "billing.measurement"),
            ("Events", "inbox", "billing.stripeevent"),
            ("Invoices", "receipt", "billing.stripeinvoice"),
            ("Credit notes", "undo", "billing.creditnote"),
            ("Reconciliation", "balance", "billing.reconciliation"),
        ),
    ),
    (
        "Billing",
        (
            ("Rate cards", "request_quote", "billing.ratecard"),
            ("Versions of cards", "history_edu", "billing.ratecardversion"),
            ("Who has which card", "assignment_ind", "billing.ratecardassignment"),
            ("Approved presumptions", "gavel", "billing.presumedapproval"),
            ("Wallets", "wallet", "billing.wallet"),
            ("Credit", "redeem", "billing.creditgrant"),
            ("Journal", "menu_book", "billing.journalposting"),
            ("Top-ups", "add_card", "billing.topup"),
        ),
    ),
    (
        "Alerts",
        (
            ("Alerts", "notifications", "alerts.alert"),
            ("Deliveries", "send", "alerts.delivery"),
            ("Destinations", "location_on", "alerts.destination"),
        ),
    ),
    (
        "People",
        (
            ("Users", "badge", "tenants.user"),
            ("Members", "group", "tenants.member"),
            ("Audit log", "history", "tenants.auditentry"),
            ("Operators' actions", "manage_history", "admin.logentry"),
        ),
    ),
)
"""The sidebar. A model that is not registered, or that an operator may not see, is left out."""


def navigation(request: HttpRequest) -> list[dict[str, Any]]:
    """The sidebar for one operator."""
    first = {
        "title": "",
        "items": [{"title": "Overview", "icon": "dashboard", "link": reverse("admin:index")}],
    }
    groups: list[dict[str, Any]] = [first]
    for topic, items in TOPICS:
        lines = [
            {"title": words, "icon": icon, "link": url}
            for words, icon, place in items
            if (url := _url(request, place))
        ]
        if lines:
            groups.append({"title": topic, "separator": True, "items": lines})
    return groups


def _url(request: HttpRequest, place: str) -> str:
    if ":" in place:
        return reverse(place) if request.user.has_perm("budgets.view_budget") else ""
    for model, model_admin in admin.site._registry.items():
        if model._meta.label_lower == place:
            name = f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist"
            return reverse(name) if model_admin.has_view_permission(request) else ""
    return ""


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure of the front page, and the page that says more."""

    name: str
    value: str
    note: str
    url: str
    alarming: bool = False


def dashboard(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """What the front page shows to one operator."""
    readers: list[tuple[str, Callable[[], list[Figure]]]] = [
        ("tenants.view_tenant", _tenants),
        ("budgets.view_budget", _money),
        ("budgets.view_budget", _rollups),
        ("alerts.view_delivery", _told),
    ]
    figures = [figure for right, read in readers if request.user.has_perm(right) for figure in read()]
    last = LogEntry.objects.filter(user_id=str(request.user.pk)).order_by("-pk")[:LAST_ACTIONS]
    rows = [[moment(entry.action_time), entry.object_repr, entry.get_change_message()] for entry in last]
    return {
        **context,
        "title": "Overview",
        "figures": figures,
        "actions_table": table(("When", "What", "How"), rows),
    }


def _tenants() -> list[Figure]:
    count = in_time(Tenant.objects.count)
    suspended = in_time(Tenant.objects.filter(suspended_at__isnull=False).count)
    note = "none yet: `manage.py provision` makes one" if count == 0 else f"{suspended or 'none'} suspended"
    return [Figure("Tenants", _number(count), note, reverse("admin:tenants_tenant_changelist"))]


def _money() -> list[Figure]:
    found = money_path()
    epochs, counters = reverse("money:epochs"), reverse("money:counters")
    missing = found.shards - (found.open_shards or 0)
    return [
        Figure(
            "Open epochs",
            f"{_number(found.open_shards)} of {found.shards}",
            "every shard places holds" if not missing else f"{missing} shards place no hold: is `epochs` running?",
            epochs + "?state=open",
            alarming=bool(missing),
        ),
        Figure(
            "Stranded",
            UNKNOWN if found.stranded is None else amounts(found.stranded),
            "locked by lost epochs until windows end" if found.stranded else "nothing is locked",
            epochs + "?state=closed",
            alarming=bool(found.stranded),
        ),
        Figure(
            "Overrun",
            UNKNOWN if found.overrun is None else amounts(found.overrun),
            "above the limits of current windows" if found.overrun else "no limit was passed",
            counters,
            alarming=bool(found.overrun),
        ),
    ]  # fmt: skip


def _rollups() -> list[Figure]:
    lag = rollup_lag()
    if lag is None:
        value, note = UNKNOWN, "the ledger took too long to look at"
    elif not lag.at_home:
        value, note = "stopped", "this database was restored: `manage.py usage rebuild`"
    elif not lag.waiting:
        value, note = "none", "usage is rolled up"
    else:
        value, note = f"{lag.waiting:,} entries", f"rolled up to {moment(lag.through_at)}"
    behind = lag is not None and (not lag.at_home or lag.waiting > WAITING_TOLERATED)
    return [Figure("Rollup lag", value, note, reverse("money:ledger"), alarming=behind)]


def _told() -> list[Figure]:
    found = told(now=utc_now())
    return [
        Figure(
            "Drift",
            "none" if found.drifting == 0 else f"{_number(found.drifting)} tenants",
            "told of today; figures are verified every five minutes",
            reverse("admin:alerts_alert_changelist") + "?q=drift",
            alarming=bool(found.drifting),
        ),
        Figure(
            "Deliveries failed",
            _number(found.failed_deliveries),
            "given up within a day",
            reverse("admin:alerts_delivery_changelist") + "?state__exact=failed",
            alarming=bool(found.failed_deliveries),
        ),
    ]


def _number(count: int | None) -> str:
    return UNKNOWN if count is None else f"{count:,}"
