"""What a tenant pays for noburn itself, and the counts of requests that it is charged by."""

from __future__ import annotations

from django.db import models

from billing.models.outbox import MeasurementState, Sendable
from tenants.models.base import TenantOwned


class PlanStatus(models.TextChoices):
    """How a plan stands: nothing to pay, on trial, paid, not paid in time, or never paid at all."""

    FREE = "free"
    TRIALING = "trialing"
    ACTIVE = "active"
    PAST_DUE = "past_due"


class PlanAccount(TenantOwned):
    """One tenant's plan, as Stripe last told it, and its count of requests in the present period.

    `offer` is the key of an offer of the catalogue. `counted` are the requests of [counted_from, counted_to) that were
    rolled up when `counted_at`. Calls are refused until `refused_until`: the policy carries that.
    """

    version = models.IntegerField(default=1)
    offer = models.CharField(max_length=64)
    status = models.CharField(max_length=16, choices=PlanStatus, default=PlanStatus.FREE)
    stripe_customer = models.CharField(max_length=64, blank=True, db_default="")
    subscription = models.CharField(max_length=64, blank=True, db_default="")
    meter_event = models.CharField(max_length=100, blank=True, db_default="")
    subscribed_at = models.DateTimeField(null=True, blank=True)
    period_starts_at = models.DateTimeField(null=True, blank=True)
    period_ends_at = models.DateTimeField(null=True, blank=True)
    trial_ends_at = models.DateTimeField(null=True, blank=True)
    trial_used_at = models.DateTimeField(null=True, blank=True)
    cancel_at = models.DateTimeField(null=True, blank=True)
    counted = models.BigIntegerField(default=0)
    counted_from = models.DateTimeField(null=True, blank=True)
    counted_to = models.DateTimeField(null=True, blank=True)
    counted_at = models.DateTimeField(null=True, blank=True)
    refused_until = models.DateTimeField(null=True, blank=True)
    next_report_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(editable=False)
    updated_at = models.DateTimeField()

    class Meta:
        constraints = [
            *TenantOwned.Meta.constraints,
            models.UniqueConstraint(fields=["tenant"], name="billing_planaccount_one_per_tenant"),
            models.UniqueConstraint(
                fields=["stripe_customer"],
                name="billing_planaccount_stripe_customer_once",
                condition=~models.Q(stripe_customer=""),
            ),
            models.CheckConstraint(
                condition=models.Q(status__in=PlanStatus.values), name="billing_planaccount_status"
            ),
        ]
        indexes = [
            models.Index(models.F("counted_at").asc(nulls_first=True), name="billing_planaccount_counted"),
            models.Index(
                fields=["next_report_at"],
                name="billing_planaccount_report",
                condition=models.Q(next_report_at__isnull=False),
            ),
        ]

    def __str__(self) -> str:
        return self.offer


class PlanReport(Sendable):
    """One message to the platform's Stripe: so many requests of a tenant in an hour, or a correction of them.

    What it says is never altered. `key` is identifier and idempotency key in one.
    """

    account = models.ForeignKey(
        PlanAccount, on_delete=models.PROTECT, related_name="reports", db_index=False, db_constraint=False
    )
    hour = models.DateTimeField()
    seq = models.SmallIntegerField()
    key = models.CharField(max_length=100, unique=True)
    meter_event = models.CharField(max_length=100)
    stripe_customer = models.CharField(max_length=64)
    requests = models.BigIntegerField()

    class Meta:
        constraints = [
            *TenantOwned.Meta.constraints,
            models.UniqueConstraint(fields=["tenant", "hour", "seq"], name="billing_planreport_seq_once"),
            models.CheckConstraint(
                condition=models.Q(seq__range=(0, 59)) & ~models.Q(requests=0), name="billing_planreport_says"
            ),
            models.CheckConstraint(
                condition=models.Q(state__in=MeasurementState.values), name="billing_planreport_state"
            ),
        ]
        indexes = [
            models.Index(
                fields=["next_attempt_at"],
                name="billing_planreport_due",
                condition=models.Q(state="pending"),
            ),
        ]

    def __str__(self) -> str:
        return self.key


class PlanCursor(models.Model):
    """How far entries of the ledger were looked at, to see whose counts may have changed. One row."""

    only_row = models.BooleanField(primary_key=True, default=True)
    position = models.BigIntegerField(default=0)

    class Meta:
        constraints = [
            models.CheckConstraint(condition=models.Q(only_row=True), name="billing_plancursor_one"),
        ]

    def __str__(self) -> str:
        return str(self.position)
