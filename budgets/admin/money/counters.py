"""Counters with the figures that ledger and resolutions give for them, and one counter with its last entries."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from django.http import Http404, HttpRequest, HttpResponse
from django.urls import reverse

from budgets.admin.money.pages import (
    PAGE_ROWS,
    BudgetIdField,
    FilterForm,
    TenantField,
    choice,
    money_page,
    next_url,
    shown,
    table,
    text,
)
from budgets.admin.shown import amount, badge, code, link, moment
from budgets.queries.counters import CounterFilter, Key
from budgets.services.inspection import SEARCH_MAX, Counter, counter_page, one_counter
from budgets.services.ledgers import LedgerFilter, ledger_page
from noburn.kit.clock import utc_now

LAST_ENTRIES = 20


class CounterFilters(FilterForm):
    """Which counters are listed."""

    tenant = TenantField(required=False)
    budget = BudgetIdField(required=False)
    subject = text("Subject", max_length=300)
    windows = choice(("", "Current windows"), ("all", "All windows"))
    drift = choice(("", "Every counter"), ("only", "Drift only"))


HEADERS = (
    "Counter", "Subject", "Window ends", "Limit", "Spent", "Ledger says", "Authority", "It should be", "Stranded",
    "Held in Redis", "Verified",
)  # fmt: skip


@money_page
def counter_list(request: HttpRequest) -> HttpResponse:
    """Counters in the order of their keys, a page at a time."""
    form = CounterFilters(request.GET)
    rows: list[list[object]] = []
    following = note = ""
    if form.is_valid():
        wanted = form.cleaned_data
        drift_only = wanted["drift"] == "only"
        tenant = wanted["tenant"]
        page = counter_page(
            wanted=CounterFilter(
                tenant_id=tenant.pk if tenant else None,
                budget_id=wanted["budget"],
                subject=wanted["subject"],
                current=wanted["windows"] != "all",
            ),
            after=_key(request),
            limit=PAGE_ROWS,
            drift_only=drift_only,
            now=utc_now(),
        )
        rows = [_line(counter) for counter in page.counters]
        if page.after is not None:
            following = next_url(
                request, {"after_tenant": page.after[0].hex, "after_counter": page.after[1].hex}
            )
        if not page.checked:
            note = "The ledger behind these counters is too long to add up while you wait. Verify one tenant instead."
        elif drift_only:
            note = f"Looked through {page.searched} counters (at most {SEARCH_MAX} a page)."
    return shown(
        request,
        "admin/operator/list.html",
        title="Counters",
        form=form,
        table=table(HEADERS, rows),
        note=note,
        next_url=following,
        empty="No counter is like that. A counter is made by the first call that falls under its budget.",
    )


def _key(request: HttpRequest) -> Key | None:
    try:
        return UUID(request.GET["after_tenant"]), UUID(request.GET["after_counter"])
    except (KeyError, ValueError):
        return None


def verified(counter: Counter) -> object:
    """Whether a counter's figures are what their sources say."""
    if counter.drifts is None:
        return badge("not checked", "plain")
    return badge("drift", "danger") if counter.drifts else badge("exact", "success")


def _line(counter: Counter) -> list[object]:
    row = counter.row
    metric = row["metric"]
    return [
        link(reverse("money:counter", args=[row["tenant_id"], row["counter_id"]]), f"{row['tenant']}: {row['budget']}"),
        row["subject"],
        moment(row["ends_at"]),
        amount(metric, row["limit_amount"]),
        amount(metric, row["spent"]),
        amount(metric, counter.ledger_spent),
        amount(metric, counter.authority),
        amount(metric, counter.derived_authority),
        amount(metric, counter.stranded) if counter.stranded else "none",
        amount(metric, counter.redis.held) if counter.redis else "not there",
        verified(counter),
    ]  # fmt: skip


@money_page
def counter_detail(request: HttpRequest, tenant_id: UUID, counter_id: UUID) -> HttpResponse:
    """One counter: its figures, its incarnations, its last ledger entries."""
    counter = one_counter(tenant_id=tenant_id, counter_id=counter_id)
    if counter is None:
        raise Http404
    row, metric = counter.row, counter.row["metric"]
    ledger = ledger_page(
        wanted=LedgerFilter(
            tenant_id=tenant_id, counter_id=counter_id, since=row["starts_at"], until=row["ends_at"]
        ),
        before=None,
        limit=LAST_ENTRIES,
    )
    facts: list[tuple[str, object]] = [
        ("Verified", verified(counter)),
        ("Tenant", link(reverse("admin:tenants_tenant_change", args=[tenant_id]), row["tenant"])),
        ("Budget", link(reverse("admin:budgets_budget_change", args=[row["budget_id"]]), row["budget"])),
        ("Action", row["action"]),
        ("Subject", row["subject"]),
        ("Window", f"{moment(row['starts_at'])} to {moment(row['ends_at'])}"),
        ("Limit", amount(metric, row["limit_amount"])),
        ("Spent", amount(metric, row["spent"])),
        ("Ledger says", amount(metric, counter.ledger_spent)),
        ("Of that before the counter was made", amount(metric, row["opening"])),
        ("Authority", amount(metric, counter.authority)),
        ("Granted, less what was used up", amount(metric, counter.derived_authority)),
        ("Stranded", amount(metric, counter.stranded)),
        ("May still be granted", amount(metric, counter.headroom)),
        ("Overrun", amount(metric, counter.overrun)),
        ("Used in Redis", amount(metric, counter.redis.used) if counter.redis else "not there"),
        ("Of that held", amount(metric, counter.redis.held) if counter.redis else "not there"),
        ("Counter", code(row["counter_id"])),
    ]
    grants = table(
        (
            "Epoch",
            "Incarnation",
            "State",
            "Authority",
            "Should be",
            "Granted",
            "Clamped",
            "Message",
            "Answered",
        ),
        [_grant(counter, grant, metric) for grant in counter.grants[:PAGE_ROWS]],
    )
    entries = table(
        ("Placed", "Hold", "Kind", "Customer", "Model", "Changed by", "Note"),
        [_entry(entry, counter_id, metric) for entry in ledger.entries],
    )
    return shown(
        request,
        "admin/operator/detail.html",
        title=f"{row['budget']}: {row['subject']}",
        facts=facts,
        tables=[("Incarnations", grants), (f"Last {LAST_ENTRIES} ledger entries", entries)],
        actions=[
            (
                "All its ledger entries",
                reverse("money:ledger")
                + "?"
                + urlencode({"tenant": row["tenant"], "counter": str(counter_id)}),
            ),
            ("Verify its tenant", reverse("money:verify") + "?" + urlencode({"tenant": row["tenant"]})),
        ],
    )


def _grant(counter: Counter, grant: dict[str, Any], metric: str) -> list[object]:
    should = (counter.derived or {}).get((grant["epoch_id"], grant["incarnation"]))
    state = badge("stranded", "warning") if grant["stranded"] and grant["authority"] else grant["state"]
    return [
        link(reverse("money:epoch", args=[grant["epoch_id"]]), str(grant["epoch_id"])[:8]),
        grant["incarnation"],
        state,
        amount(metric, grant["authority"]),
        amount(metric, should),
        amount(metric, grant["granted"]),
        amount(metric, grant["clamped"]),
        grant["seq"],
        grant["acked_seq"],
    ]


def _entry(entry: dict[str, Any], counter_id: UUID, metric: str) -> list[object]:
    changed = sum(d for c, d in zip(entry["counters"], entry["deltas"], strict=True) if c == counter_id)
    place = [entry["tenant_id"], entry["placed_month"].strftime("%Y-%m"), entry["hold_id"]]
    return [
        moment(entry["placed_at"]),
        link(reverse("money:hold", args=place), str(entry["hold_id"])[:8]),
        entry["kind"],
        entry["customer"] or "none",
        entry["reported_model"] or entry["model"] or "none",
        amount(metric, changed),
        entry["note"] or "none",
    ]
