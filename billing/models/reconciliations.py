"""What a reconciliation found for one customer's period, and how each difference is explained."""

from __future__ import annotations

from django.db import models

from billing.models.outbox import BillingPeriod
from tenants.models import Customer, TenantOwned


class Reconciliation(TenantOwned):
    """The last look at one period: what is owed, what was told, what Stripe counted. Replaced by the next look.

    `differences` is a list of {"kind", "micro"}; `unexplained_micro` is what no kind explains. `measured_micro` is null
    where Stripe could not be asked.
    """

    customer = models.ForeignKey(
        Customer, on_delete=models.PROTECT, related_name="+", db_index=False, db_constraint=False
    )
    period = models.OneToOneField(
        BillingPeriod, on_delete=models.CASCADE, related_name="reconciliation", db_constraint=False
    )
    owed_nano = models.BigIntegerField()
    told_micro = models.BigIntegerField()
    delivered_micro = models.BigIntegerField()
    measured_micro = models.BigIntegerField(null=True, blank=True)
    invoiced_micro = models.BigIntegerField(null=True, blank=True)
    differences = models.JSONField(default=list)
    unexplained_micro = models.BigIntegerField()
    agrees = models.BooleanField()
    checked_at = models.DateTimeField()

    class Meta:
        constraints = [*TenantOwned.Meta.constraints]
        indexes = [
            models.Index(fields=["tenant", "-id"], name="billing_reconciliation_newest"),
            models.Index(
                fields=["tenant"], name="billing_reconciliation_off", condition=models.Q(agrees=False)
            ),
        ]

    def __str__(self) -> str:
        return "agrees" if self.agrees else "differs"
