"""The outbox: what each customer owes by period, and the measurements by which Stripe is told, frozen when written."""

from __future__ import annotations

from django.db import models

from tenants.models import Customer, TenantOwned


class BillingPeriod(TenantOwned):
    """Usage that goes on one invoice: whole hours, [starts_at, ends_at).

    `stripe_starts_at` and `stripe_ends_at` are the same period as Stripe has it, to the second; null where there was
    no subscription. `owed_micro` is what was charged for it when somebody last looked. A period is closed when its
    invoice can no longer change: `invoiced_micro` is then what the invoice counted.
    """

    customer = models.ForeignKey(
        Customer, on_delete=models.PROTECT, related_name="+", db_index=False, db_constraint=False
    )
    starts_at = models.DateTimeField()
    ends_at = models.DateTimeField()
    stripe_starts_at = models.DateTimeField(null=True, blank=True)
    stripe_ends_at = models.DateTimeField(null=True, blank=True)
    owed_nano = models.BigIntegerField(default=0)
    owed_until = models.DateTimeField(null=True, blank=True)
    closed_at = models.DateTimeField(null=True, blank=True)
    invoice = models.CharField(max_length=64, blank=True, db_default="")
    invoiced_micro = models.BigIntegerField(null=True, blank=True)

    class Meta:
        constraints = [
            *TenantOwned.Meta.constraints,
            models.UniqueConstraint(
                fields=["tenant", "customer", "starts_at"], name="billing_period_starts_once"
            ),
            models.CheckConstraint(
                condition=models.Q(starts_at__lt=models.F("ends_at")), name="billing_period_runs_forward"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.starts_at:%Y-%m-%d %H:%M} to {self.ends_at:%Y-%m-%d %H:%M}"


class MeasurementKind(models.TextChoices):
    """What a measurement tells: use of its own period, or what an earlier one's invoice no longer took."""

    USAGE = "usage"
    CARRY = "carry"


class MeasurementState(models.TextChoices):
    """What became of one: to be sent, taken, refused, unclear after a day of trying, or not counted any more."""

    PENDING = "pending"
    DELIVERED = "delivered"
    FAILED = "failed"
    UNCLEAR = "unclear"
    ABANDONED = "abandoned"


ACTIVE = (
    MeasurementState.PENDING,
    MeasurementState.DELIVERED,
    MeasurementState.FAILED,
    MeasurementState.UNCLEAR,
)
"""States that count towards what a period has told. What is abandoned is told anew by the next one."""


class Sendable(TenantOwned):
    """A message to a meter of Stripe's: when it happened, and what became of it; `billing.services.sending`."""

    at = models.DateTimeField()
    created_at = models.DateTimeField()

    state = models.CharField(max_length=16, choices=MeasurementState, default=MeasurementState.PENDING)
    first_sent_at = models.DateTimeField(null=True, blank=True)
    next_attempt_at = models.DateTimeField()
    tries = models.IntegerField(default=0)
    finished_at = models.DateTimeField(null=True, blank=True)
    outcome = models.CharField(max_length=16, blank=True, db_default="")
    error = models.CharField(max_length=300, blank=True, db_default="")

    class Meta(TenantOwned.Meta):
        abstract = True


class Measurement(Sendable):
    """One message to Stripe: so many micro-USD of one customer at one moment. A trigger keeps its payload as written.

    The payload is all but what became of it. `key` is identifier and idempotency key in one.
    """

    customer = models.ForeignKey(
        Customer, on_delete=models.PROTECT, related_name="+", db_index=False, db_constraint=False
    )
    period = models.ForeignKey(
        BillingPeriod,
        on_delete=models.PROTECT,
        related_name="measurements",
        db_index=False,
        db_constraint=False,
    )
    kind = models.CharField(max_length=16, choices=MeasurementKind)
    carried_from = models.ForeignKey(
        BillingPeriod,
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="carried",
        db_index=False,
        db_constraint=False,
    )
    window_starts_at = models.DateTimeField()
    seq = models.SmallIntegerField()
    key = models.CharField(max_length=100, unique=True)
    meter_event = models.CharField(max_length=100)
    stripe_customer = models.CharField(max_length=64)
    value_micro = models.BigIntegerField()
    owed_nano = models.BigIntegerField()

    class Meta:
        constraints = [
            *TenantOwned.Meta.constraints,
            models.UniqueConstraint(
                fields=["tenant", "customer", "window_starts_at", "seq"], name="billing_measurement_seq_once"
            ),
            models.CheckConstraint(
                condition=models.Q(value_micro__range=(-(10**15) + 1, 10**15 - 1)) & ~models.Q(value_micro=0),
                name="billing_measurement_value",
            ),
            models.CheckConstraint(
                condition=models.Q(kind="usage", carried_from__isnull=True)
                | models.Q(kind="carry", carried_from__isnull=False),
                name="billing_measurement_kind",
            ),
            models.CheckConstraint(
                condition=models.Q(state__in=MeasurementState.values), name="billing_measurement_state"
            ),
            models.CheckConstraint(condition=models.Q(seq__range=(0, 59)), name="billing_measurement_seq"),
            models.CheckConstraint(
                condition=models.Q(state="pending", finished_at__isnull=True)
                | ~models.Q(state="pending") & models.Q(finished_at__isnull=False),
                name="billing_measurement_finished",
            ),
        ]
        indexes = [
            models.Index(
                fields=["tenant", "customer", "window_starts_at", "seq"],
                name="billing_measurement_waiting",
                condition=models.Q(state="pending"),
            ),
            models.Index(fields=["period", "state"], name="billing_measurement_period"),
            models.Index(
                fields=["carried_from", "state"],
                name="billing_measurement_carried",
                condition=models.Q(carried_from__isnull=False),
            ),
            models.Index(fields=["tenant", "-id"], name="billing_measurement_newest"),
        ]

    def __str__(self) -> str:
        return self.key
