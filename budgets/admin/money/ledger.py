"""The ledger and the resolutions of one tenant, and the life of one hold."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import Any
from uuid import UUID

from django import forms
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import reverse
from unfold.widgets import UnfoldAdminTextInputWidget

from budgets.admin.money.pages import (
    PAGE_ROWS,
    FilterForm,
    TenantField,
    choice,
    money_page,
    next_url,
    shown,
    table,
    text,
)
from budgets.admin.shown import amount, code, link, moment
from budgets.services.ledgers import (
    LedgerFilter,
    LedgerPage,
    Place,
    hold_life,
    ledger_page,
    resolution_page,
)

KINDS = ("settled", "voided", "presumed", "written_off", "rerated")


def _day(label: str) -> forms.DateField:
    return forms.DateField(
        label=label, required=False, widget=UnfoldAdminTextInputWidget(attrs={"type": "date"})
    )


class LedgerFilters(FilterForm):
    """Whose entries, and which; a tenant must be named."""

    tenant = TenantField()
    kind = choice(("", "Every kind"), *((kind, kind.replace("_", " ").capitalize()) for kind in KINDS))
    customer = text("Customer", max_length=200)
    since = _day("Placed from (UTC)")
    until = _day("Placed before (UTC)")
    counter = forms.UUIDField(required=False, widget=UnfoldAdminTextInputWidget)


class ResolutionFilters(LedgerFilters):
    """The same without a counter."""

    counter = None  # type: ignore[assignment]


def _wanted(form: FilterForm) -> LedgerFilter:
    return LedgerFilter(
        tenant_id=form.cleaned_data["tenant"].pk,
        kind=form.cleaned_data["kind"],
        customer=form.cleaned_data["customer"],
        counter_id=form.cleaned_data.get("counter"),
        since=_midnight(form.cleaned_data["since"]),
        until=_midnight(form.cleaned_data["until"]),
    )


def _midnight(day: date | None) -> datetime | None:
    return datetime(day.year, day.month, day.day, tzinfo=UTC) if day else None


def _listed(
    request: HttpRequest,
    *,
    title: str,
    form: FilterForm,
    headers: tuple[str, ...],
    page_of: Callable[..., LedgerPage],
    line: Callable[[dict[str, Any]], list[object]],
) -> HttpResponse:
    rows: list[list[object]] = []
    following = ""
    if form.is_valid():
        page = page_of(wanted=_wanted(form), before=_before(request), limit=PAGE_ROWS)
        rows = [line(row) for row in page.entries]
        if page.before is not None:
            at, hold, revision = page.before
            following = next_url(request, {"at": at.isoformat(), "hold": hold.hex, "revision": revision})
    return shown(
        request,
        "admin/operator/list.html",
        title=title,
        form=form,
        table=table(headers, rows),
        next_url=following,
        empty="Nothing like that was recorded." if form.is_valid() else "Name a tenant to see its entries.",
    )


def _before(request: HttpRequest) -> Place | None:
    try:
        at = datetime.fromisoformat(request.GET["at"])
        place = (at, UUID(request.GET["hold"]), int(request.GET["revision"]))
    except (KeyError, ValueError):
        return None
    return place if at.tzinfo is not None and 0 < place[2] < 2**31 else None


def _filters(request: HttpRequest, form: type[FilterForm]) -> FilterForm:
    # Unbound without a tenant: nobody has erred yet.
    return form(request.GET) if "tenant" in request.GET else form()


@money_page
def ledger_list(request: HttpRequest) -> HttpResponse:
    """A tenant's ledger entries, from the newest on."""
    return _listed(
        request,
        title="Ledger",
        form=_filters(request, LedgerFilters),
        headers=("Placed", "Hold", "Kind", "Customer", "User", "Model", "Cost", "Tokens", "Note"),
        page_of=ledger_page,
        line=lambda row: [
            moment(row["placed_at"]),
            _hold_link(row),
            row["kind"] + (f" ({', '.join(row['flags'])})" if row["flags"] else ""),
            row["customer"] or "none",
            row["end_user"] or "none",
            row["reported_model"] or row["model"] or "none",
            amount("usd", row["cost_nano"]),
            f"{row['tokens']:,}",
            row["note"] or "none",
        ],
    )


@money_page
def resolution_list(request: HttpRequest) -> HttpResponse:
    """How a tenant's holds were resolved, from the newest on."""
    return _listed(
        request,
        title="Hold resolutions",
        form=_filters(request, ResolutionFilters),
        headers=("Placed", "Hold", "State", "Customer", "Model", "Held", "Cost", "Revisions", "Resolved"),
        page_of=resolution_page,
        line=lambda row: [
            moment(row["placed_at"]),
            _hold_link(row),
            row["state"] + (f" ({', '.join(row['flags'])})" if row["flags"] else ""),
            row["customer"] or "none",
            row["model"] or "none",
            amount("usd", row["held_cost_nano"]),
            amount("usd", row["cost_nano"]),
            row["revisions"],
            moment(row["resolved_at"]),
        ],
    )


def _hold_link(row: dict[str, Any]) -> object:
    place = [row["tenant_id"], row["placed_month"].strftime("%Y-%m"), row["hold_id"]]
    return link(reverse("money:hold", args=place), str(row["hold_id"])[:8])


@money_page
def hold_detail(request: HttpRequest, tenant_id: UUID, month: str, hold_id: UUID) -> HttpResponse:
    """One hold: its resolution, and every ledger entry that followed from it."""
    try:
        placed_month = date.fromisoformat(f"{month}-01")
    except ValueError as error:
        raise Http404 from error
    life = hold_life(tenant_id=tenant_id, hold_id=hold_id, placed_month=placed_month)
    if life is None:
        raise Http404
    row = life.resolution
    facts: list[tuple[str, object]] = [
        ("State", row["state"]),
        ("Flags", ", ".join(row["flags"]) or "none"),
        ("Held", amount("usd", row["held_cost_nano"])),
        ("Cost", amount("usd", row["cost_nano"])),
        ("Tokens", f"{row['tokens']:,}"),
        ("Resolved", moment(row["resolved_at"])),
        ("Last changed", moment(row["updated_at"])),
        ("Epoch", link(reverse("money:epoch", args=[row["epoch_id"]]), str(row["epoch_id"])[:8])),
        ("Hold", code(row["hold_id"])),
    ]
    counters = [
        [
            link(reverse("money:counter", args=[tenant_id, counter]), str(counter)[:8]),
            f"{held:,}",
            f"{posted:,}",
            "live" if live else "closed",
        ]
        for counter, held, posted, live in zip(
            row["counters"], row["held"], row["posted"], row["live"], strict=True
        )
    ]
    entries = [
        [
            entry["revision"],
            entry["kind"],
            moment(entry["recorded_at"]),
            amount("usd", entry["cost_nano"]),
            f"{entry['tokens']:,}",
            entry["outcome"],
            code(json.dumps(json.loads(entry["usage"]) if entry["usage"] else None)),
            entry["note"] or "none",
        ]
        for entry in life.entries
    ]
    return shown(
        request,
        "admin/operator/detail.html",
        title="Hold",
        facts=facts,
        tables=[
            ("Counters, in each one's unit", table(("Counter", "Held", "Posted", "Epoch then"), counters)),
            (
                "Ledger entries",
                table(
                    ("Revision", "Kind", "Recorded", "Cost", "Tokens", "Outcome", "Usage", "Note"), entries
                ),
            ),
        ],
        actions=[],
    )
