"""Invoices as Stripe last told of them, and credit notes on their way to Stripe."""

from __future__ import annotations

from django.db import models

from tenants.models import Customer, TenantOwned


class StripeInvoice(TenantOwned):
    """One invoice of a linked customer. Amounts are in the smallest unit of `currency`; Stripe's word is the truth."""

    customer = models.ForeignKey(
        Customer, on_delete=models.PROTECT, related_name="+", db_index=False, db_constraint=False
    )
    stripe_id = models.CharField(max_length=64)
    number = models.CharField(max_length=64, blank=True, db_default="")
    status = models.CharField(max_length=32)
    billing_reason = models.CharField(max_length=64, blank=True, db_default="")
    subscription = models.CharField(max_length=64, blank=True, db_default="")
    currency = models.CharField(max_length=3)
    total = models.BigIntegerField()
    amount_due = models.BigIntegerField()
    amount_paid = models.BigIntegerField()
    usage_micro = models.BigIntegerField(null=True, blank=True)
    period_starts_at = models.DateTimeField(null=True, blank=True)
    period_ends_at = models.DateTimeField(null=True, blank=True)
    finalized_at = models.DateTimeField(null=True, blank=True)
    due_at = models.DateTimeField(null=True, blank=True)
    attempts = models.IntegerField(default=0)
    hosted_url = models.CharField(max_length=2048, blank=True, db_default="")
    pdf_url = models.CharField(max_length=2048, blank=True, db_default="")
    created_at = models.DateTimeField()
    seen_at = models.DateTimeField()

    class Meta:
        constraints = [
            *TenantOwned.Meta.constraints,
            models.UniqueConstraint(fields=["tenant", "stripe_id"], name="billing_stripeinvoice_once"),
        ]
        indexes = [
            models.Index(fields=["tenant", "customer", "-created_at"], name="billing_stripeinvoice_of"),
            models.Index(fields=["tenant", "-id"], name="billing_stripeinvoice_newest"),
        ]

    def __str__(self) -> str:
        return self.number or self.stripe_id


class CreditNoteState(models.TextChoices):
    """What became of a credit note: to be issued, issued, or refused by Stripe."""

    PENDING = "pending"
    ISSUED = "issued"
    FAILED = "failed"


class CreditNoteReason(models.TextChoices):
    """Why, in Stripe's words."""

    DUPLICATE = "duplicate"
    FRAUDULENT = "fraudulent"
    ORDER_CHANGE = "order_change"
    PRODUCT_UNSATISFACTORY = "product_unsatisfactory"


class CreditNote(TenantOwned):
    """So much back on an invoice. Its id is the idempotency key towards Stripe, so a repeat issues nothing twice."""

    invoice = models.ForeignKey(
        StripeInvoice,
        on_delete=models.PROTECT,
        related_name="credit_notes",
        db_index=False,
        db_constraint=False,
    )
    amount = models.BigIntegerField()
    reason = models.CharField(max_length=32, choices=CreditNoteReason)
    memo = models.CharField(max_length=300, blank=True, db_default="")
    refund = models.BooleanField(default=False)
    state = models.CharField(max_length=16, choices=CreditNoteState, default=CreditNoteState.PENDING)
    stripe_id = models.CharField(max_length=64, blank=True, db_default="")
    number = models.CharField(max_length=64, blank=True, db_default="")
    problem = models.CharField(max_length=300, blank=True, db_default="")
    first_sent_at = models.DateTimeField(null=True, blank=True)
    tries = models.IntegerField(default=0)
    next_attempt_at = models.DateTimeField()
    created_by = models.CharField(max_length=200)
    created_at = models.DateTimeField()

    class Meta:
        constraints = [
            *TenantOwned.Meta.constraints,
            models.CheckConstraint(condition=models.Q(amount__gt=0), name="billing_creditnote_amount"),
            models.CheckConstraint(
                condition=models.Q(state__in=CreditNoteState.values), name="billing_creditnote_state"
            ),
            models.CheckConstraint(
                condition=models.Q(reason__in=CreditNoteReason.values), name="billing_creditnote_reason"
            ),
        ]
        indexes = [
            models.Index(fields=["invoice", "-id"], name="billing_creditnote_of"),
            models.Index(
                fields=["next_attempt_at"], name="billing_creditnote_due", condition=models.Q(state="pending")
            ),
        ]

    def __str__(self) -> str:
        return self.number or self.state
