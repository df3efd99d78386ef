"""A tenant's account at Stripe: how it is reached, what set-up made there, and what the tenant wants."""

from __future__ import annotations

from django.contrib.postgres.fields import ArrayField
from django.db import models

from tenants.models import TenantOwned


class AccessMode(models.TextChoices):
    """By what right requests are made: a restricted key of the tenant's, or the platform's key for its account."""

    KEY = "key"
    CONNECT = "connect"


class AccountState(models.TextChoices):
    """How far set-up is: to be done, done, stopped by something that a person must mend, or given up by the tenant."""

    PENDING = "pending"
    READY = "ready"
    FAILED = "failed"
    DISCONNECTED = "disconnected"


class StripeAccount(TenantOwned):
    """One tenant's account. `secret_key` and `webhook_secrets` are sealed; of the key only `key_last4` is shown.

    Usage from `billed_from` on, a whole hour, is billed through it. `bucket_tokens` are the requests that may go out
    at `bucket_at`; nothing goes out before `paused_until`.
    """

    version = models.IntegerField(default=1)
    mode = models.CharField(max_length=16, choices=AccessMode)
    secret_key = models.TextField(blank=True, db_default="", editable=False)
    key_last4 = models.CharField(max_length=4, blank=True, db_default="")
    account = models.CharField(max_length=64, blank=True, db_default="")
    livemode = models.BooleanField(default=False)
    webhook_secrets = ArrayField(models.TextField(), default=list, blank=True, editable=False)
    state = models.CharField(max_length=16, choices=AccountState, default=AccountState.PENDING)
    problem = models.CharField(max_length=300, blank=True, db_default="")
    meter_id = models.CharField(max_length=64, blank=True, db_default="")
    meter_event = models.CharField(max_length=100, blank=True, db_default="")
    product_id = models.CharField(max_length=64, blank=True, db_default="")
    price_id = models.CharField(max_length=64, blank=True, db_default="")
    suspend_delinquent = models.BooleanField(default=False)
    billed_from = models.DateTimeField()
    tries = models.IntegerField(default=0)
    next_attempt_at = models.DateTimeField()
    paused_until = models.DateTimeField(null=True, blank=True)
    bucket_tokens = models.IntegerField(default=0)
    bucket_at = models.DateTimeField()
    created_at = models.DateTimeField(editable=False)
    updated_at = models.DateTimeField()
    ready_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            *TenantOwned.Meta.constraints,
            models.UniqueConstraint(fields=["tenant"], name="billing_stripeaccount_one_per_tenant"),
            models.UniqueConstraint(
                fields=["account"],
                name="billing_stripeaccount_account_once",
                condition=models.Q(mode="connect") & ~models.Q(state="disconnected"),
            ),
            models.CheckConstraint(
                condition=models.Q(mode="key", account="")
                | models.Q(mode="connect", secret_key="") & ~models.Q(account=""),
                name="billing_stripeaccount_mode",
            ),
            models.CheckConstraint(
                condition=models.Q(state__in=AccountState.values), name="billing_stripeaccount_state"
            ),
            models.CheckConstraint(
                condition=models.Q(webhook_secrets__len__lte=4), name="billing_stripeaccount_webhook_secrets"
            ),
        ]
        indexes = [
            models.Index(
                fields=["next_attempt_at"],
                name="billing_stripeaccount_due",
                condition=models.Q(state="pending"),
            ),
        ]

    def __str__(self) -> str:
        return self.account or f"key …{self.key_last4}"
