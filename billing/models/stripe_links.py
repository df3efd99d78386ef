"""Which customer of the tenant's is which customer of Stripe's, and by which subscription it pays."""

from __future__ import annotations

from typing import Final

from django.db import models

from tenants.models import Customer, TenantOwned


class LinkState(models.TextChoices):
    """How far a link is: to be made, made, or stopped by something that a person must mend."""

    PENDING = "pending"
    LINKED = "linked"
    FAILED = "failed"


BILLED: Final = frozenset({"active", "trialing", "past_due", "unpaid"})
"""States of a subscription in which usage is told."""


class StripeLink(TenantOwned):
    """One customer at Stripe. Windows of usage before `frozen_until` are in the outbox.

    `period_starts_at` and `period_ends_at` are the subscription's present period as Stripe told it, to the second.
    `suspended` says that noburn suspended the customer for not paying, and will resume it.
    """

    version = models.IntegerField(default=1)
    customer = models.ForeignKey(
        Customer, on_delete=models.PROTECT, related_name="+", db_index=False, db_constraint=False
    )
    state = models.CharField(max_length=16, choices=LinkState, default=LinkState.PENDING)
    email = models.CharField(max_length=254, blank=True, db_default="")
    stripe_customer = models.CharField(max_length=64, blank=True, db_default="")
    subscription = models.CharField(max_length=64, blank=True, db_default="")
    subscription_status = models.CharField(max_length=32, blank=True, db_default="")
    wants_subscription = models.BooleanField(default=True)
    period_starts_at = models.DateTimeField(null=True, blank=True)
    period_ends_at = models.DateTimeField(null=True, blank=True)
    frozen_until = models.DateTimeField(null=True, blank=True)
    next_freeze_at = models.DateTimeField(null=True, blank=True)
    problem = models.CharField(max_length=300, blank=True, db_default="")
    tries = models.IntegerField(default=0)
    next_attempt_at = models.DateTimeField()
    delinquent_at = models.DateTimeField(null=True, blank=True)
    suspended = models.BooleanField(default=False)
    reconciled_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(editable=False)
    updated_at = models.DateTimeField()

    class Meta:
        constraints = [
            *TenantOwned.Meta.constraints,
            models.UniqueConstraint(
                fields=["tenant", "customer"], name="billing_stripelink_one_per_customer"
            ),
            # Two customers in one of Stripe's could not be told apart in what it measured.
            models.UniqueConstraint(
                fields=["tenant", "stripe_customer"],
                name="billing_stripelink_stripe_customer_once",
                condition=~models.Q(stripe_customer=""),
            ),
            models.CheckConstraint(
                condition=models.Q(state__in=LinkState.values), name="billing_stripelink_state"
            ),
            models.CheckConstraint(
                condition=~models.Q(state="linked") | ~models.Q(stripe_customer=""),
                name="billing_stripelink_linked",
            ),
        ]
        indexes = [
            models.Index(
                fields=["next_attempt_at"], name="billing_stripelink_due", condition=models.Q(state="pending")
            ),
            models.Index(
                fields=["next_freeze_at"],
                name="billing_stripelink_freeze",
                condition=models.Q(state="linked"),
            ),
            models.Index(
                models.F("reconciled_at").asc(nulls_first=True), name="billing_stripelink_reconciled"
            ),
        ]

    def __str__(self) -> str:
        return self.stripe_customer or self.state
