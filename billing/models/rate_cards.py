"""Rate cards, their dated versions, for whom they hold, and presumed spending that a person let be billed.

Nothing of it is edited: versions and assignments are appended, and withdrawn while they have not begun. Triggers in the
migration hold everybody to that.
"""

from __future__ import annotations

from django.db import models

from tenants.models import TenantOwned


class RateCard(TenantOwned):
    """A rate card's name; what it says is in its versions."""

    name = models.CharField(max_length=200)
    created_by = models.CharField(max_length=200)
    created_at = models.DateTimeField()

    class Meta:
        db_table = "rate_cards"
        constraints = [
            models.UniqueConstraint(fields=["tenant", "id"], name="rate_cards_tenant_id"),
            models.UniqueConstraint(fields=["tenant", "name"], name="rate_cards_name_once"),
            models.CheckConstraint(condition=~models.Q(name=""), name="rate_cards_name"),
        ]

    def __str__(self) -> str:
        return self.name


class RateCardVersion(TenantOwned):
    """What a card says from a full hour on. `terms` is JSON as billing.domain.rate_cards.show_terms spells it."""

    card = models.ForeignKey(
        RateCard, on_delete=models.PROTECT, related_name="versions", db_constraint=False, db_index=False
    )
    number = models.IntegerField()
    effective_from = models.DateTimeField()
    terms = models.JSONField()
    note = models.CharField(max_length=500, blank=True, default="")
    created_by = models.CharField(max_length=200)
    created_at = models.DateTimeField()
    withdrawn_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        db_table = "rate_card_versions"
        constraints = [
            models.UniqueConstraint(fields=["tenant", "id"], name="rate_card_versions_tenant_id"),
            models.UniqueConstraint(
                fields=["tenant", "card", "number"], name="rate_card_versions_number_once"
            ),
            models.UniqueConstraint(
                fields=["tenant", "card", "effective_from"],
                name="rate_card_versions_time_once",
                condition=models.Q(withdrawn_at__isnull=True),
            ),
            models.CheckConstraint(condition=models.Q(number__gte=1), name="rate_card_versions_number"),
            models.CheckConstraint(
                condition=models.Q(withdrawn_at__isnull=True)
                | models.Q(withdrawn_at__lte=models.F("effective_from")),
                name="rate_card_versions_withdrawn_before",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.card_id} {self.number}"


class RateCardAssignment(TenantOwned):
    """From a full hour on a card holds for a customer (the tenant's own name for it), or by default (`customer` empty).

    `card` null: the customer has no card of its own any more; of the default: nothing is billed.
    """

    customer = models.CharField(max_length=200, blank=True, default="", db_collation="C")
    card = models.ForeignKey(
        RateCard,
        on_delete=models.PROTECT,
        related_name="+",
        db_constraint=False,
        db_index=False,
        null=True,
        blank=True,
    )
    effective_from = models.DateTimeField()
    note = models.CharField(max_length=500, blank=True, default="")
    created_by = models.CharField(max_length=200)
    created_at = models.DateTimeField()
    withdrawn_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        db_table = "rate_card_assignments"
        constraints = [
            models.UniqueConstraint(fields=["tenant", "id"], name="rate_card_assignments_tenant_id"),
            models.UniqueConstraint(
                fields=["tenant", "customer", "effective_from"],
                name="rate_card_assignments_time_once",
                condition=models.Q(withdrawn_at__isnull=True),
            ),
            models.CheckConstraint(
                condition=models.Q(withdrawn_at__isnull=True)
                | models.Q(withdrawn_at__lte=models.F("effective_from")),
                name="rate_card_assignments_withdrawn_before",
            ),
        ]
        indexes = [
            models.Index(fields=["tenant", "card", "effective_from"], name="rate_card_assignments_by_card"),
        ]

    def __str__(self) -> str:
        return self.customer or "default"


class PresumedApproval(TenantOwned):
    """Presumed spending of one hold that a person let be billed. It counts until the hold is settled or voided after all.

    What the hold was for stands here as the ledger had it, so that charges need not look for it.
    """

    hold_id = models.UUIDField()
    placed_month = models.DateField()
    placed_at = models.DateTimeField()
    customer = models.CharField(max_length=200, blank=True, db_collation="C")
    provider = models.CharField(max_length=200, blank=True)
    model = models.CharField(max_length=200, blank=True)
    cost_nano = models.BigIntegerField()
    requests = models.SmallIntegerField()
    reason = models.CharField(max_length=500)
    approved_by = models.CharField(max_length=200)
    approved_at = models.DateTimeField()

    class Meta:
        db_table = "presumed_approvals"
        constraints = [
            models.UniqueConstraint(fields=["tenant", "id"], name="presumed_approvals_tenant_id"),
            models.UniqueConstraint(fields=["tenant", "hold_id"], name="presumed_approvals_hold_once"),
            models.CheckConstraint(
                condition=~models.Q(reason="") & ~models.Q(approved_by=""),
                name="presumed_approvals_who_and_why",
            ),
        ]
        indexes = [
            models.Index(fields=["tenant", "customer", "placed_at"], name="presumed_approvals_of_customer"),
        ]

    def __str__(self) -> str:
        return str(self.hold_id)
