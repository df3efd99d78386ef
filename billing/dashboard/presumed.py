"""Presumed spending: calls that nobody settled, and who lets them be billed."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from django import forms
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.functional import cached_property

from billing.dashboard.base import BillingPage
from billing.models import PresumedApproval
from billing.queries.approvals import Presumed, still_presumed
from billing.queries.uses import bounded
from billing.services.approvals import HOLDS_MAX, REASON_CHARS_MAX, approve_presumed
from budgets.api.ledger import place_instant
from budgets.dashboard.params import filled, local, query
from budgets.domain.usage import read_instant
from budgets.queries.bounded import Row, TookTooLong
from noburn.dashboard import wording
from noburn.dashboard.exports import EXPORT_ROWS_MAX, export
from noburn.dashboard.forms import PageForm
from noburn.dashboard.tables import Column, table_of
from noburn.kit import ids
from noburn.kit.money import to_usd
from noburn.kit.problems import FieldError, Invalid
from noburn.kit.rest.pages import cut, read_page
from tenants.dashboard.page import ConfirmPage
from tenants.queries.actors import actor_names

SINCE: Final = timedelta(days=30)
MILLISECONDS: Final = 3_000
ROWS: Final = 50
SEARCH_MAX: Final = 200
COLUMNS: Final = (
    Column("made", "Approved", sort="pk"),
    Column("customer", "Customer"),
    Column("model", "Model"),
    Column("placed", "Placed"),
    Column("cost", "Cost", numeric=True),
    Column("why", "Why, and by whom"),
)


class PresumedPage(BillingPage):
    """A page about presumed spending."""

    tab = "presumed"

    def params(self) -> dict[str, str]:
        """Which calls are meant, as the query string says; the last 30 days where it says no time."""
        params = filled(self.request.GET, ("customer", "from", "to"), self.zone)
        if not params.keys() & {"from", "to"}:
            params["from"] = (self.now - SINCE).replace(microsecond=0).isoformat()
        return params

    def wanted(self, params: dict[str, str], after: tuple[datetime, UUID] | None = None) -> Presumed:
        """The same as the query wants it. Raises Invalid with every error."""
        errors: list[FieldError] = []
        since, until = (read_instant(params, name, errors) for name in ("from", "to"))
        customer = params.get("customer", "")
        if len(customer) > SEARCH_MAX or "\x00" in customer:
            errors.append(FieldError("customer", f"must be at most {SEARCH_MAX} characters of text"))
        if errors:
            raise Invalid(errors)
        return Presumed(
            tenant_id=self.tenant_id, customer=customer, since=since, until=until or self.now, after=after
        )

    def look(self, wanted: Presumed, limit: int) -> list[Row]:
        """Those that wait. Raises Invalid where that takes too long."""
        try:
            with bounded(MILLISECONDS):
                return still_presumed(wanted, limit=limit)
        except TookTooLong:
            message = f"finding these takes longer than {MILLISECONDS // 1000} s: choose a shorter time"
            raise Invalid([FieldError("from", message)]) from None


class PresumedWaiting(PresumedPage):
    """Presumed calls that nobody settled, voided or approved, the oldest first."""

    title = "Presumed spending"
    template_name = "billing/presumed.html"
    partials = {"presumed-rows": "billing/_presumed_rows.html"}

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """The page, or its rows as a file."""
        if form := request.GET.get("format"):
            rows = self.look(self.wanted(self.params()), EXPORT_ROWS_MAX + 1)
            return export(
                form,
                name=f"{self.tenant.slug}-presumed",
                columns=["hold", "placed_at", "customer", "provider", "model", "cost_usd"],
                rows=(
                    [
                        ids.encode(ids.HOLD, row["hold_id"]),
                        row["placed_at"].isoformat(),
                        *(row["customer"], row["provider"], row["model"]),
                        to_usd(row["cost_nano"]),
                    ]
                    for row in rows
                ),
            )
        return self.show()

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """One page of them."""
        params = self.params()
        page = read_page(self.request.GET.dict(), key=[place_instant, UUID])
        after = (page.after[0], page.after[1]) if page.after else None
        rows, cursor = cut(
            self.look(self.wanted(params, after), ROWS + 1),
            ROWS,
            lambda row: [row["placed_at"].isoformat(), row["hold_id"]],
        )
        return {
            **super().get_context_data(**kwargs),
            "rows": [(row, ids.encode(ids.HOLD, row["hold_id"])) for row in rows],
            "filters": {n: local(v, self.zone) if n in ("from", "to") else v for n, v in params.items()},
            # What comes to be presumed meanwhile is not meant.
            "approve_url": self.url("presumed-approve") + query({"to": self.now.isoformat(), **params}),
            "next": query({**params, "cursor": cursor}) if cursor else "",
            "first": query(params) if after else "",
        }


class PresumedApproved(PresumedPage):
    """What somebody let be billed, the newest first, also what was settled since."""

    title = "Approved presumptions"
    template_name = "billing/presumed_approved.html"
    partials = {"approved-rows": "billing/_approved_rows.html"}

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """The page, or its rows as a file."""
        if form := request.GET.get("format"):
            return export(
                form,
                name=f"{self.tenant.slug}-presumed-approvals",
                columns=[
                    "id",
                    "hold",
                    "customer",
                    "provider",
                    "model",
                    "placed_at",
                    "cost_usd",
                    "reason",
                    "by",
                    "at",
                ],
                rows=(
                    [
                        ids.encode(ids.PRESUMED_APPROVAL, row.pk),
                        ids.encode(ids.HOLD, row.hold_id),
                        *(row.customer, row.provider, row.model, row.placed_at.isoformat()),
                        to_usd(row.cost_nano),
                        *(row.reason, row.approved_by, row.approved_at.isoformat()),
                    ]
                    for row in self._rows().order_by("-pk")[: EXPORT_ROWS_MAX + 1]
                ),
            )
        return self.show()

    def _rows(self) -> QuerySet[PresumedApproval]:
        rows = PresumedApproval.objects.filter(tenant_id=self.tenant_id)
        customer = self.wanted({"customer": self.request.GET.get("customer", "").strip()}).customer
        return rows.filter(customer=customer) if customer else rows

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """One page of them."""
        table = table_of(self._rows(), self.request.GET, columns=COLUMNS, sort="-made")
        names = actor_names(tenant_id=self.tenant_id, actors=[row.approved_by for row in table.rows])
        return {
            **super().get_context_data(**kwargs),
            "table": table,
            "customer": self.request.GET.get("customer", ""),
            "rows": [
                (row, ids.encode(ids.HOLD, row.hold_id), names.get(row.approved_by, row.approved_by))
                for row in table.rows
            ],
        }


class ReasonForm(PageForm):
    """Why it is billed."""

    reason = forms.CharField(
        max_length=REASON_CHARS_MAX,
        help_text="How you know that these calls were made: that they stand in the provider's invoice, say.",
    )


class ApprovePresumed(PresumedPage, ConfirmPage):
    """Asks before presumed calls are billed: those of one hold, or a customer's of a time."""

    title = "Bill presumed spending"
    button = "Bill it"
    destructive = False

    @cached_property
    def meant(self) -> Presumed:
        """Which calls. Raises Invalid."""
        if hold := self.request.GET.get("hold"):
            return Presumed(tenant_id=self.tenant_id, hold_id=self.path_id(ids.HOLD, hold))
        wanted = self.wanted(self.params())
        if not wanted.customer:
            raise Invalid([FieldError("customer", "is required: choose whose calls are to be billed")])
        return wanted

    @cached_property
    def waiting(self) -> list[Row]:
        """Those that would be billed, and one more. Raises Invalid where there are none."""
        found = self.look(self.meant, HOLDS_MAX + 1)
        if not found:
            raise Invalid([FieldError("customer", "has no presumed call of this time that waits")])
        return found

    def question(self) -> str:
        """What is asked."""
        shown = self.waiting[:HOLDS_MAX]
        cost = wording.usd(sum(row["cost_nano"] for row in shown))
        calls = f"{wording.count(len(shown))} presumed call{'' if len(shown) == 1 else 's'}"
        return f"Bill {calls} of {cost} to {shown[0]['customer'] or 'nobody'}?"

    def consequences(self) -> list[str]:
        """What will happen."""
        first, last = (self.waiting[at]["placed_at"].astimezone(self.zone) for at in (0, -1))
        told = [
            "Nobody said what they used: they are billed as what they were held for, the most that they can have cost.",
            f"They count in the periods in which they were placed, from {first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M}, "
            "at the customer's rate card.",
            "If one is settled or voided after all, its charge is corrected by the difference. An approval itself cannot "
            "be taken back.",
        ]
        if len(self.waiting) > HOLDS_MAX:
            told.append(
                f"There are more: {wording.count(HOLDS_MAX)} are billed at once. Ask again for the rest."
            )
        return told

    def back(self) -> str:
        """Where no leads."""
        return self.url("presumed")

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """The question, and a place for the reason."""
        return {"form": ReasonForm(), **super().get_context_data(**kwargs)}

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Lets them be billed."""
        form = ReasonForm(request.POST)
        if form.is_valid():
            try:
                made = approve_presumed(
                    wanted=self.meant, reason=form.cleaned_data["reason"], actor=self.actor, now=self.now
                )
            except Invalid as invalid:
                form.take(invalid)
            else:
                calls = f"{wording.count(len(made.approvals))} call{'' if len(made.approvals) == 1 else 's'}"
                more = " There are more: bill them as well." if made.more else ""
                return self.go(
                    "presumed", say=f"{calls} of {wording.usd(made.cost_nano)} will be billed.{more}"
                )
        return self.show(form=form, status=400)
