"""Wallets: a customer's prepaid credit, the journal that says where every part of it went, and what was burnt of it."""

from __future__ import annotations

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from noburn.kit.money import LIMIT_NANO_MAX
from tenants.models import TenantOwned


class CreditKind(models.TextChoices):
    """Where credit comes from: the customer's money, or a present of the tenant's."""

    PAID = "paid"
    PROMOTIONAL = "promotional"


class Account(models.TextChoices):
    """The accounts of a wallet's journal. Every posting over them adds up to nothing.

    What the customer has is positive in `paid_credit` and `promotional_credit`; what it owes is negative in `owed`.
    """

    PAID_CREDIT = "paid_credit"
    PROMOTIONAL_CREDIT = "promotional_credit"
    OWED = "owed"
    CASH = "cash"
    PROMOTION = "promotion"
    REVENUE = "revenue"
    PRESUMED = "presumed"
    EXPIRED = "expired"
    REFUNDS = "refunds"


class PostingKind(models.TextChoices):
    """Why something was posted."""

    GRANT = "grant"
    BURN = "burn"
    REPAY = "repay"
    EXPIRE = "expire"
    REFUND = "refund"
    TRUE_UP = "true_up"


class TopUpState(models.TextChoices):
    """The life of a payment into a wallet."""

    PENDING = "pending"
    PAID = "paid"
    FAILED = "failed"
    EXPIRED = "expired"


class TopUpKind(models.TextChoices):
    """Who asked for a payment."""

    CHECKOUT = "checkout"
    AUTOMATIC = "automatic"


class Wallet(TenantOwned):
    """One customer's prepaid credit. Its id is its counter's (`budgets.services.wallet_limits.wallet_id_of`).

    `burnt_nano` is what of the counter's `spent` was taken from the credit already: the posted bounds, not the charges.
    `owed_nano` is what was charged beyond the credit; below zero, credit of no grant. `true_up_at` is when its charges
    are next compared with those of its customer's periods. Customers are kept by the tenant's own name for them.
    """

    wallets_id = models.UUIDField()
    customer = models.CharField(max_length=200)
    burnt_nano = models.BigIntegerField(default=0)
    owed_nano = models.BigIntegerField(default=0)
    low_nano = models.BigIntegerField(null=True, blank=True)
    low_told_at = models.DateTimeField(null=True, blank=True)
    auto_threshold_nano = models.BigIntegerField(null=True, blank=True)
    auto_amount_nano = models.BigIntegerField(null=True, blank=True)
    auto_monthly_max_nano = models.BigIntegerField(null=True, blank=True)
    auto_failures = models.SmallIntegerField(default=0)
    auto_retry_at = models.DateTimeField(null=True, blank=True)
    true_up_at = models.DateTimeField(db_default=Now())
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    closed_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            *TenantOwned.Meta.constraints,
            models.UniqueConstraint(fields=["tenant", "customer"], name="billing_wallet_one_per_customer"),
            models.CheckConstraint(condition=~Q(customer=""), name="billing_wallet_customer"),
            models.CheckConstraint(
                condition=Q(burnt_nano__gte=0, burnt_nano__lte=LIMIT_NANO_MAX), name="billing_wallet_burnt"
            ),
            models.CheckConstraint(
                condition=Q(
                    auto_threshold_nano__isnull=True,
                    auto_amount_nano__isnull=True,
                    auto_monthly_max_nano__isnull=True,
                )
                | Q(auto_threshold_nano__gte=0, auto_amount_nano__gte=1)
                & Q(auto_monthly_max_nano__gte=models.F("auto_amount_nano")),
                name="billing_wallet_automatic",
            ),
        ]
        indexes = [
            models.Index(fields=["tenant", "created_at", "id"], name="billing_wallet_by_time"),
            models.Index(fields=["true_up_at"], name="billing_wallet_to_true_up"),
            models.Index(
                fields=["auto_retry_at"],
                name="billing_wallet_automatic",
                condition=Q(auto_amount_nano__isnull=False, closed_at__isnull=True),
            ),
        ]

    def __str__(self) -> str:
        return self.customer

    @property
    def automatic(self) -> bool:
        """Whether it is topped up by itself."""
        return self.auto_amount_nano is not None


class CreditGrant(TenantOwned):
    """Credit in a wallet. `remaining_nano` is what its lines in the journal add up to.

    `expires_at` and `voided_at` end it for calls from then on; what is left afterwards stays for calls of before until
    it lapses, an hour later, and then goes where it came from (`ended_at`).
    """

    wallet = models.ForeignKey(
        Wallet, on_delete=models.PROTECT, related_name="grants", db_constraint=False, db_index=False
    )
    kind = models.CharField(max_length=16, choices=CreditKind)
    amount_nano = models.BigIntegerField()
    remaining_nano = models.BigIntegerField()
    priority = models.SmallIntegerField()
    expires_at = models.DateTimeField(null=True, blank=True)
    reason = models.CharField(max_length=500, blank=True, default="")
    payment_id = models.CharField(max_length=255, null=True, blank=True)
    created_by = models.CharField(max_length=200)
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    voided_at = models.DateTimeField(null=True, blank=True)
    void_reason = models.CharField(max_length=500, blank=True, default="")
    voided_by = models.CharField(max_length=200, blank=True, default="")
    ended_at = models.DateTimeField(null=True, blank=True)
    refund_wanted = models.BooleanField(default=False)
    refund_id = models.CharField(max_length=255, blank=True, default="")

    class Meta:
        constraints = [
            *TenantOwned.Meta.constraints,
            models.CheckConstraint(
                condition=Q(amount_nano__gte=1, amount_nano__lte=LIMIT_NANO_MAX),
                name="billing_creditgrant_amount",
            ),
            models.CheckConstraint(
                condition=Q(remaining_nano__gte=0, remaining_nano__lte=models.F("amount_nano")),
                name="billing_creditgrant_remaining",
            ),
            models.CheckConstraint(
                condition=Q(priority__gte=0, priority__lte=100), name="billing_creditgrant_priority"
            ),
            models.CheckConstraint(condition=Q(kind__in=CreditKind.values), name="billing_creditgrant_kind"),
            # However often a payment is told of, it is credited once.
            models.UniqueConstraint(fields=["tenant", "payment_id"], name="billing_creditgrant_payment"),
        ]
        indexes = [
            models.Index(fields=["tenant", "wallet", "created_at", "id"], name="billing_grant_of_wallet"),
            models.Index(fields=["wallet"], name="billing_grant_open", condition=Q(remaining_nano__gt=0)),
            models.Index(
                fields=["expires_at"],
                name="billing_grant_to_expire",
                condition=Q(remaining_nano__gt=0, expires_at__isnull=False),
            ),
            models.Index(
                fields=["voided_at"],
                name="billing_grant_to_void",
                condition=Q(remaining_nano__gt=0, voided_at__isnull=False),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind}: {self.amount_nano}"


class JournalPosting(TenantOwned):
    """One thing that happened to a wallet; its lines add up to nothing, and neither is ever changed."""

    wallet = models.ForeignKey(
        Wallet, on_delete=models.PROTECT, related_name="postings", db_constraint=False, db_index=False
    )
    kind = models.CharField(max_length=16, choices=PostingKind)
    note = models.CharField(max_length=500, blank=True, default="")
    calls = models.IntegerField(default=0)
    actor = models.CharField(max_length=200)
    created_at = models.DateTimeField(editable=False)

    class Meta:
        constraints = [*TenantOwned.Meta.constraints]
        indexes = [
            models.Index(fields=["tenant", "wallet", "created_at", "id"], name="billing_posting_of_wallet"),
        ]

    def __str__(self) -> str:
        return self.kind


class JournalLine(TenantOwned):
    """So much on one account; `grant` says of which credit it is."""

    posting = models.ForeignKey(
        JournalPosting, on_delete=models.PROTECT, related_name="lines", db_constraint=False
    )
    wallet = models.ForeignKey(
        Wallet, on_delete=models.PROTECT, related_name="lines", db_constraint=False, db_index=False
    )
    account = models.CharField(max_length=20, choices=Account)
    grant = models.ForeignKey(
        CreditGrant,
        on_delete=models.PROTECT,
        related_name="lines",
        db_constraint=False,
        null=True,
        blank=True,
    )
    amount_nano = models.BigIntegerField()

    class Meta:
        constraints = [
            *TenantOwned.Meta.constraints,
            models.CheckConstraint(condition=~Q(amount_nano=0), name="billing_journalline_amount"),
            models.CheckConstraint(
                condition=Q(account__in=Account.values), name="billing_journalline_account"
            ),
            models.CheckConstraint(
                condition=Q(account__in=["paid_credit", "promotional_credit"], grant__isnull=False)
                | ~Q(account__in=["paid_credit", "promotional_credit"]) & Q(grant__isnull=True),
                name="billing_journalline_grant",
            ),
        ]
        indexes = [models.Index(fields=["tenant", "wallet", "account"], name="billing_line_of_wallet")]

    def __str__(self) -> str:
        return f"{self.account}: {self.amount_nano}"


class WalletEntry(models.Model):
    """A ledger entry of a call that was held on a wallet, until it is burnt. Read from the ledger exactly once."""

    id = models.BigAutoField(primary_key=True)
    tenant = models.ForeignKey("tenants.Tenant", on_delete=models.PROTECT, related_name="+", db_index=False)
    wallet_id = models.UUIDField()
    hold_id = models.UUIDField()
    placed_month = models.DateField()
    revision = models.IntegerField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["hold_id", "revision"], name="billing_walletentry_once"),
        ]
        indexes = [models.Index(fields=["wallet_id", "id"], name="billing_walletentry_of_wallet")]

    def __str__(self) -> str:
        return f"{self.hold_id} {self.revision}"


class WalletHold(TenantOwned):
    """What one call took from a wallet, as of its latest burnt ledger entry.

    `posted_nano` is what the counter has spent for it, `charged_nano` what its customer is charged, `presumed_nano` what
    is kept for it until somebody knows. `draws` says of which grants: [[grant or null for owed, nano], …].
    """

    wallet = models.ForeignKey(
        Wallet, on_delete=models.PROTECT, related_name="holds", db_constraint=False, db_index=False
    )
    hold_id = models.UUIDField()
    revision = models.IntegerField()
    placed_at = models.DateTimeField()
    posted_nano = models.BigIntegerField()
    charged_nano = models.BigIntegerField()
    presumed_nano = models.BigIntegerField()
    draws = models.JSONField()

    class Meta:
        constraints = [
            *TenantOwned.Meta.constraints,
            models.UniqueConstraint(fields=["hold_id"], name="billing_wallethold_once"),
        ]
        indexes = [
            # What is charged in a time is added up from the index alone.
            models.Index(
                fields=["tenant", "wallet", "placed_at"],
                include=["charged_nano", "presumed_nano", "hold_id"],
                name="billing_hold_of_wallet",
            )
        ]

    def __str__(self) -> str:
        return str(self.hold_id)


class WalletTrueUp(TenantOwned):
    """What a wallet got back of a period that began at `starts_at`, as of `until`.

    `charged_nano` is what its calls were charged, one by one, and `paid_nano` what of the period's charge it pays: the
    difference is in the wallet again (`returned_nano`).
    """

    wallet = models.ForeignKey(
        Wallet, on_delete=models.PROTECT, related_name="true_ups", db_constraint=False, db_index=False
    )
    starts_at = models.DateTimeField()
    until = models.DateTimeField()
    charged_nano = models.BigIntegerField()
    paid_nano = models.BigIntegerField()
    returned_nano = models.BigIntegerField()
    changed_at = models.DateTimeField()

    class Meta:
        constraints = [
            *TenantOwned.Meta.constraints,
            models.UniqueConstraint(
                fields=["tenant", "wallet", "starts_at"], name="billing_wallettrueup_once"
            ),
            models.CheckConstraint(
                condition=Q(
                    returned_nano__gte=0, returned_nano=models.F("charged_nano") - models.F("paid_nano")
                ),
                name="billing_wallettrueup_returned",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.starts_at:%Y-%m-%d}: {self.returned_nano}"


class WalletCursor(models.Model):
    """How far the ledger was read for wallets: every entry below `position` was, none at or above it."""

    id = models.SmallIntegerField(primary_key=True, default=1)
    position = models.BigIntegerField()
    shift = models.BigIntegerField()

    class Meta:
        constraints = [models.CheckConstraint(condition=Q(id=1), name="billing_walletcursor_one")]

    def __str__(self) -> str:
        return str(self.position)


class TopUp(TenantOwned):
    """A payment into a wallet, from its beginning on: its id is in what Stripe is told, so that any answer finds it."""

    wallet = models.ForeignKey(
        Wallet, on_delete=models.PROTECT, related_name="top_ups", db_constraint=False, db_index=False
    )
    kind = models.CharField(max_length=16, choices=TopUpKind)
    state = models.CharField(max_length=16, choices=TopUpState, default=TopUpState.PENDING)
    amount_nano = models.BigIntegerField()
    expires_at = models.DateTimeField(null=True, blank=True)
    checkout_id = models.CharField(max_length=255, blank=True, default="")
    url = models.CharField(max_length=2048, blank=True, default="")
    payment_id = models.CharField(max_length=255, null=True, blank=True)
    failure = models.CharField(max_length=300, blank=True, default="")
    created_by = models.CharField(max_length=200)
    created_at = models.DateTimeField(editable=False)
    tried_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            *TenantOwned.Meta.constraints,
            models.CheckConstraint(
                condition=Q(amount_nano__gte=1, amount_nano__lte=LIMIT_NANO_MAX), name="billing_topup_amount"
            ),
            models.CheckConstraint(condition=Q(state__in=TopUpState.values), name="billing_topup_state"),
            models.UniqueConstraint(fields=["tenant", "payment_id"], name="billing_topup_payment"),
            # One at a time: a second worker, or a threshold passed again meanwhile, begins no second payment.
            models.UniqueConstraint(
                fields=["wallet"],
                condition=Q(kind="automatic", state="pending"),
                name="billing_topup_one_automatic",
            ),
        ]
        indexes = [
            models.Index(fields=["tenant", "wallet", "created_at", "id"], name="billing_topup_of_wallet"),
            models.Index(fields=["created_at"], name="billing_topup_open", condition=Q(state="pending")),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.state}"
