"""Epochs, what they strand, and the write-off: the one page here that changes money, for superusers alone."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django import forms
from django.contrib import messages
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.contenttypes.models import ContentType
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from unfold.widgets import UnfoldAdminTextInputWidget

from budgets.admin.money.pages import PAGE_ROWS, FilterForm, choice, money_page, next_url, shown, table
from budgets.admin.shown import amount, amounts, badge, code, link, moment
from budgets.domain.escrow import SHARDS
from budgets.models import Budget
from budgets.services.epoch_pages import EPOCH_STATES, epoch_page, one_epoch
from budgets.services.operations import WriteoffTooEarly
from budgets.services.writeoffs import REASON_MAX, ROWS_MAX, InvalidWriteoff, stranded_rows, write_off
from noburn.kit.clock import utc_now
from tenants.admin.base import operator

STATE_COLOURS = {"open": "success", "opening": "info", "closing": "warning", "closed": "plain"}


class EpochFilters(FilterForm):
    """Which epochs are listed."""

    state = choice(("", "Every state"), *((state, state.capitalize()) for state in EPOCH_STATES))
    shard = forms.IntegerField(
        required=False, min_value=0, max_value=SHARDS - 1, widget=UnfoldAdminTextInputWidget
    )
    page = forms.IntegerField(required=False, min_value=0, max_value=200, widget=forms.HiddenInput)


@money_page
def epoch_list(request: HttpRequest) -> HttpResponse:
    """Epochs: those in use by shard, then the closed ones from the newest."""
    form = EpochFilters(request.GET)
    rows: list[list[object]] = []
    following = ""
    if form.is_valid():
        number = form.cleaned_data["page"] or 0
        page = epoch_page(
            state=form.cleaned_data["state"],
            shard=form.cleaned_data["shard"],
            limit=PAGE_ROWS,
            offset=number * PAGE_ROWS,
        )
        rows = [
            [
                link(reverse("money:epoch", args=[row["epoch_id"]]), str(row["epoch_id"])[:8]),
                row["shard"],
                badge(row["state"], STATE_COLOURS[row["state"]]),
                moment(row["valid_until"]),
                moment(row["opened_at"]),
                moment(row["closed_at"], never="in use"),
                row["reason"] or "none",
                amounts(page.stranded.get(row["epoch_id"], [])),
            ]
            for row in page.rows
        ]
        following = next_url(request, {"page": number + 1} if page.more else None)
    return shown(
        request,
        "admin/operator/list.html",
        title="Epochs",
        form=form,
        table=table(
            ("Epoch", "Shard", "State", "Valid until", "Opened", "Closed", "Reason", "Stranded"), rows
        ),
        next_url=following,
        empty="No epoch is like that. The program `epochs` opens one in each shard.",
    )


@money_page
def epoch_detail(request: HttpRequest, epoch_id: UUID) -> HttpResponse:
    """One epoch, and the counters whose authority it locks."""
    row = one_epoch(epoch_id=epoch_id)
    if row is None:
        raise Http404
    stranded = stranded_rows(epoch_id=epoch_id)
    facts: list[tuple[str, object]] = [
        ("State", badge(row["state"], STATE_COLOURS[row["state"]])),
        ("Shard", row["shard"]),
        ("Valid until", moment(row["valid_until"])),
        ("Made", moment(row["created_at"])),
        ("Opened", moment(row["opened_at"])),
        ("Closed", moment(row["closed_at"], never="in use")),
        ("Removed from Redis", moment(row["cleaned_at"], never="not yet")),
        ("Reason", row["reason"] or "none"),
        ("Epoch", code(row["epoch_id"])),
    ]
    may = request.user.is_superuser
    rows = [
        [
            link(
                reverse("money:counter", args=[one["tenant_id"], one["counter_id"]]),
                f"{one['tenant']}: {one['budget']}",
            ),
            one["subject"],
            amount(one["metric"], one["authority"]),
            moment(one["ends_at"]),
            link(_write_off_url(epoch_id, one["counter_id"]), "write off …")
            if may
            else "superusers write off",
        ]
        for one in stranded
    ]
    return shown(
        request,
        "admin/operator/detail.html",
        title=f"Epoch of shard {row['shard']}",
        facts=facts,
        tables=[
            (
                f"Stranded authority (the {ROWS_MAX} largest)",
                table(("Counter", "Subject", "Stranded", "Window ends", ""), rows),
            )
        ],
        actions=[("Write off all of these …", _write_off_url(epoch_id))] if may and stranded else [],
    )


def _write_off_url(epoch_id: UUID, counter_id: UUID | None = None) -> str:
    return reverse("money:writeoff", args=[epoch_id]) + (f"?counter={counter_id}" if counter_id else "")


class WriteoffForm(forms.Form):
    """Why, and for which counter; the operator's name comes from the session."""

    reason = forms.CharField(
        max_length=REASON_MAX, widget=UnfoldAdminTextInputWidget(attrs={"autocomplete": "off"})
    )
    counter = forms.UUIDField(required=False, widget=forms.HiddenInput)


@money_page
def epoch_write_off(request: HttpRequest, epoch_id: UUID) -> HttpResponse:
    """Asks for the reason and shows what would go back; a POST does it."""
    if not request.user.is_superuser:
        raise PermissionDenied
    row = one_epoch(epoch_id=epoch_id)
    if row is None:
        raise Http404
    form = WriteoffForm(request.POST if request.method == "POST" else None, initial=request.GET.dict())
    if request.method == "POST" and form.is_valid():
        try:
            done = write_off(
                epoch_id=epoch_id,
                counter_id=form.cleaned_data["counter"],
                actor=operator(request),
                reason=form.cleaned_data["reason"],
                now=utc_now(),
            )
        except WriteoffTooEarly as error:
            form.add_error(None, str(error))
        except InvalidWriteoff as error:
            form.add_error("reason", str(error))
        else:
            for one in done:
                _log(request, one.row, one.amount, form.cleaned_data["reason"])
                messages.success(
                    request,
                    f"Wrote off {amount(one.row['metric'], one.amount)} of {one.row['budget']}, {one.row['subject']}.",
                )
            if not done:
                messages.info(request, "Nothing of this is stranded any more.")
            return HttpResponseRedirect(reverse("money:epoch", args=[epoch_id]))
    counter_id = _counter_of(form, request)
    return shown(
        request,
        "admin/operator/writeoff.html",
        title="Write off stranded authority?",
        epoch=row,
        form=form,
        back=reverse("money:epoch", args=[epoch_id]),
        table=table(
            ("Counter", "Subject", "Goes back"),
            [
                [f"{one['tenant']}: {one['budget']}", one["subject"], amount(one["metric"], one["authority"])]
                for one in stranded_rows(epoch_id=epoch_id, counter_id=counter_id)
            ],
        ),
    )


def _counter_of(form: WriteoffForm, request: HttpRequest) -> UUID | None:
    try:
        return UUID(str((form.data if form.is_bound else request.GET).get("counter", "")))
    except ValueError:
        return None


def _log(request: HttpRequest, row: dict[str, Any], written: int, reason: str) -> None:
    LogEntry.objects.create(
        user_id=str(request.user.pk),
        content_type=ContentType.objects.get_for_model(Budget),
        object_id=str(row["budget_id"]),
        object_repr=f"{row['budget']}: {row['subject']}"[:200],
        action_flag=CHANGE,
        change_message=f"wrote off {amount(row['metric'], written)} of epoch {row['epoch_id']}: {reason}",
    )
