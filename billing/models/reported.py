"""What customers paid their tenant, as its own systems report it."""

from __future__ import annotations

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from noburn.kit.money import LIMIT_NANO_MAX
from tenants.models import TenantOwned


class ReportedPayment(TenantOwned):
    """One payment of a customer, or, below zero, a refund. Written once; `dedupe_key` is by what it is known again.

    Nothing is charged by it: charges come from rate cards. Customers are kept by the tenant's own name for them.
    """

    project = models.CharField(max_length=64)
    customer = models.CharField(max_length=200)
    amount_nano = models.BigIntegerField()
    occurred_at = models.DateTimeField()
    external_id = models.CharField(max_length=200, blank=True)
    source = models.CharField(max_length=200, blank=True)
    dedupe_key = models.CharField(max_length=64)
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints = [
            *TenantOwned.Meta.constraints,
            models.UniqueConstraint(fields=["tenant", "dedupe_key"], name="billing_reportedpayment_once"),
            models.CheckConstraint(
                condition=Q(amount_nano__gte=-LIMIT_NANO_MAX, amount_nano__lte=LIMIT_NANO_MAX),
                name="billing_reportedpayment_amount",
            ),
        ]
        indexes = [
            models.Index(
                fields=["tenant", "occurred_at"],
                include=("customer", "amount_nano"),
                name="billing_reportedpayment_at",
            )
        ]

    def __str__(self) -> str:
        return f"{self.customer} {self.occurred_at:%Y-%m-%d}"
