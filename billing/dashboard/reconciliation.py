"""Whether ledger, outbox and Stripe agree, with each difference explained; and measurements that wait for a person."""

from __future__ import annotations

from typing import Any, Final

from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse

from billing.dashboard.base import BillingPage
from billing.domain.reconciling import WAIT_FOR_A_PERSON, Why
from billing.models import Measurement, MeasurementState, Reconciliation
from billing.services.measurements import MeasurementNotFound, reissue
from noburn.dashboard.exports import export
from noburn.dashboard.paths import path_id
from noburn.dashboard.tables import Column, table_of
from noburn.kit import ids
from noburn.kit.money import to_usd
from tenants.dashboard.page import ConfirmPage
from tenants.domain.roles import Topic

COLUMNS = (
    Column("made", "Period", sort="pk"),
    Column("customer", "Customer"),
    Column("owed", "Owed", numeric=True),
    Column("told", "Told", numeric=True),
    Column("measured", "Counted by Stripe", numeric=True),
    Column("invoiced", "Invoiced", numeric=True),
    Column("differences", "Where the difference is"),
)
EXPLAINED: Final = {
    Why.NOT_YET_CLOSED: "Owed for hours that are not closed yet, or came late. One of the next looks tells it.",
    Why.NOT_YET_CARRIED: "Owed by a period whose invoice is final. It goes on the next invoice.",
    Why.WALLET: "Paid by the customer's wallet, so told to nobody.",
    Why.UNLINKED: "Owed by a customer without a living subscription. Link it, and it goes on its first invoice.",
    Why.PENDING: "In the outbox, on its way to Stripe.",
    Why.FAILED: "Refused by Stripe, or reported as not counted. It waits for you, below.",
    Why.UNCLEAR: "Tried for a day without a clear answer. Look at Stripe whether it was counted, then decide below.",
    Why.LAG: "Delivered within the hour. Stripe's summaries follow.",
    Why.CARRIED_OUT: "Owed here, and told in a later period, since this one's invoice was final.",
    Why.CARRIED_IN: "Told here, and owed by an earlier period.",
    Why.AFTER_INVOICE: "Counted by Stripe after the invoice was made: in no invoice, and carried into the next.",
    Why.UNKNOWN: "Nothing explains it. Somebody must look.",
}
NANO_PER_MICRO: Final = 1_000
WAITING_SHOWN: Final = 100


def _nano(micro: int | None) -> int | None:
    return None if micro is None else micro * NANO_PER_MICRO


class Reconciliations(BillingPage):
    """What the nightly look at each period found."""

    tab = "reconciliation"
    title = "Reconciliation"
    template_name = "billing/reconciliation.html"
    partials = {"reconciliation-rows": "billing/_reconciliation_rows.html"}

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """The page, or its rows as a file: the amounts, and each difference by its kind."""
        if form := request.GET.get("format"):
            return export(
                form,
                name=f"{self.tenant.slug}-reconciliation",
                columns=[
                    "customer",
                    "starts_at",
                    "ends_at",
                    "owed_usd",
                    "told_usd",
                    "measured_usd",
                    "invoiced_usd",
                    "differences",
                    "agrees",
                ],
                rows=(
                    [
                        row.customer.external_id,
                        row.period.starts_at.isoformat(),
                        row.period.ends_at.isoformat(),
                        to_usd(row.owed_nano),
                        to_usd(row.told_micro * NANO_PER_MICRO),
                        _usd(row.measured_micro),
                        _usd(row.invoiced_micro),
                        "; ".join(f"{d['kind']} {_usd(d['micro'])}" for d in row.differences),
                        str(row.agrees).lower(),
                    ]
                    for row in self._rows().order_by("-pk").iterator(chunk_size=1_000)
                ),
            )
        return self.show()

    def _rows(self) -> QuerySet[Reconciliation]:
        rows = Reconciliation.objects.filter(tenant_id=self.tenant_id).select_related("customer", "period")
        if (agrees := self.request.GET.get("agrees", "")) in ("true", "false"):
            rows = rows.filter(agrees=agrees == "true")
        if customer := self.request.GET.get("customer", "").replace("\x00", "")[:200]:
            rows = rows.filter(customer__external_id=customer)
        return rows

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """One page of periods, and what waits."""
        table = table_of(self._rows(), self.request.GET, columns=COLUMNS, sort="-made")
        waiting = (
            Measurement.objects.filter(
                tenant_id=self.tenant_id, state__in=[MeasurementState.FAILED, MeasurementState.UNCLEAR]
            )
            .select_related("customer")
            .order_by("-pk")[:WAITING_SHOWN]
        )
        return {
            **super().get_context_data(**kwargs),
            "table": table,
            "rows": [
                (
                    row,
                    {
                        "told": _nano(row.told_micro),
                        "measured": _nano(row.measured_micro),
                        "invoiced": _nano(row.invoiced_micro),
                    },
                    [_explained(one) for one in row.differences],
                )
                for row in table.rows
            ],
            "waiting": [
                (row, ids.encode(ids.MEASUREMENT, row.pk), row.value_micro * NANO_PER_MICRO)
                for row in waiting
            ],
            "kinds": [(why.value.replace("_", " "), said) for why, said in EXPLAINED.items()],
            "filters": {name: self.request.GET.get(name, "") for name in ("agrees", "customer")},
        }


def _explained(difference: dict[str, Any]) -> dict[str, Any]:
    why = Why(difference["kind"])
    return {
        "kind": why.value.replace("_", " "),
        "nano": difference["micro"] * NANO_PER_MICRO,
        "said": EXPLAINED[why],
        "waits": why in WAIT_FOR_A_PERSON,
    }


def _usd(micro: int | None) -> str | None:
    return None if micro is None else to_usd(micro * NANO_PER_MICRO)


class ReissueMeasurement(ConfirmPage, BillingPage):
    """Asks before an amount is told anew under another key."""

    topic = Topic.BILLING
    section = "billing"
    title = "Tell it anew"
    button = "Tell it anew"

    def _row(self) -> Measurement:
        wanted = path_id(self.kwargs["msr"], ids.MEASUREMENT)
        found = (
            Measurement.objects.select_related("customer").filter(tenant_id=self.tenant_id, pk=wanted).first()
        )
        if found is None:
            raise MeasurementNotFound(self.kwargs["msr"])
        return found

    def question(self) -> str:
        """What is asked."""
        row = self._row()
        return (
            f"Tell Stripe {to_usd(row.value_micro * NANO_PER_MICRO)} USD of {row.customer.external_id} anew?"
        )

    def consequences(self) -> list[str]:
        """What will happen."""
        said = ["This measurement counts no more; the next look tells its amount under another key."]
        if self._row().state == MeasurementState.UNCLEAR:
            said.append(
                "Nobody knows whether Stripe counted it. Look there first: if it did, the customer is billed twice."
            )
        return said

    def back(self) -> str:
        """Where no leads."""
        return self.url("reconciliation")

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Takes it out of the sum."""
        reissue(tenant_id=self.tenant_id, measurement_id=self._row().pk, actor=self.actor, now=self.now)
        return self.go("reconciliation", say="Its amount is told anew with the next look.")
