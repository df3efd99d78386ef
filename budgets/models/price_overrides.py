"""A tenant's negotiated prices, and prices proposed for the book until an operator has decided."""

from __future__ import annotations

from django.contrib.postgres.constraints import ExclusionConstraint
from django.contrib.postgres.fields import RangeOperators
from django.db import models
from django.db.models.functions import Now

from budgets.models.prices import TimeRange
from tenants.models import TenantOwned
from tenants.models.base import fresh_id


class PriceOverride(TenantOwned):
    """What a tenant pays a provider for one model, or for all of them, instead of the book's price.

    Either a discount on the book's prices, or prices of units in place of the book's. `model` is ALL or one model's
    name, in lower case as `provider` is. In force in [effective_from, effective_to), None: open. A trigger refuses
    every change but an earlier end; an empty period was withdrawn before it began.
    """

    ALL = "*"

    provider = models.CharField(max_length=100)
    model = models.CharField(max_length=200)
    discount_percent = models.DecimalField(max_digits=7, decimal_places=4, null=True, blank=True)
    prices = models.JSONField(null=True, blank=True)
    effective_from = models.DateTimeField()
    effective_to = models.DateTimeField(null=True, blank=True)
    note = models.CharField(max_length=500, blank=True, default="")
    created_by = models.CharField(max_length=200)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        db_table = "price_overrides"
        constraints = [
            models.UniqueConstraint(fields=["tenant", "id"], name="price_overrides_tenant_id"),
            ExclusionConstraint(
                name="price_overrides_no_overlap",
                expressions=[
                    ("tenant", RangeOperators.EQUAL),
                    ("provider", RangeOperators.EQUAL),
                    ("model", RangeOperators.EQUAL),
                    (TimeRange("effective_from", "effective_to"), RangeOperators.OVERLAPS),
                ],
            ),
            models.CheckConstraint(
                condition=models.Q(discount_percent__isnull=False, prices__isnull=True)
                | models.Q(discount_percent__isnull=True, prices__isnull=False),
                name="price_overrides_one_of_two",
            ),
            models.CheckConstraint(
                condition=models.Q(discount_percent__isnull=True)
                | models.Q(discount_percent__gte=0, discount_percent__lte=100),
                name="price_overrides_discount",
            ),
            models.CheckConstraint(
                condition=models.Q(effective_to__isnull=True)
                | models.Q(effective_to__gte=models.F("effective_from")),
                name="price_overrides_period",
            ),
            models.CheckConstraint(
                condition=~models.Q(provider="") & ~models.Q(model=""), name="price_overrides_names"
            ),
        ]
        indexes = [
            models.Index(fields=["tenant", "created_at", "id"], name="price_overrides_of_tenant"),
        ]

    def __str__(self) -> str:
        return f"{self.provider}/{self.model}"


class ProposalState(models.TextChoices):
    """What became of a proposal; the last two are final."""

    PROPOSED = "proposed"
    APPROVED = "approved"
    REJECTED = "rejected"


class PriceProposal(models.Model):
    """A price that somebody wants in the book. Approving it appends a row there; nothing else changes the book by it.

    `price` is USD for one unit. `new_model` allows a model that the provider did not have. Global, as the book is.
    One that an import made also holds what the book and both sources said when it was made, as far as they said it.
    """

    id = models.UUIDField(primary_key=True, default=fresh_id, editable=False)
    provider = models.CharField(max_length=100)
    model = models.CharField(max_length=200)
    variant = models.CharField(max_length=64, default="", blank=True)
    unit = models.CharField(max_length=64)
    tier_start = models.IntegerField(default=0)
    price = models.DecimalField(max_digits=20, decimal_places=12)
    effective_from = models.DateTimeField()
    source = models.CharField(max_length=300)
    new_model = models.BooleanField(default=False)
    book_price = models.DecimalField(max_digits=20, decimal_places=12, null=True, blank=True)
    genai_price = models.DecimalField(max_digits=20, decimal_places=12, null=True, blank=True)
    litellm_price = models.DecimalField(max_digits=20, decimal_places=12, null=True, blank=True)
    proposed_by = models.CharField(max_length=200)
    proposed_at = models.DateTimeField()
    state = models.CharField(max_length=16, choices=ProposalState, default=ProposalState.PROPOSED)
    decided_by = models.CharField(max_length=200, blank=True, default="")
    decided_at = models.DateTimeField(null=True, blank=True)
    note = models.CharField(max_length=500, blank=True, default="")
    price_row = models.ForeignKey(
        "budgets.PriceRow", on_delete=models.PROTECT, related_name="+", null=True, blank=True
    )

    class Meta:
        db_table = "price_proposals"
        constraints = [
            models.CheckConstraint(
                condition=models.Q(state__in=ProposalState.values), name="price_proposals_state"
            ),
            models.CheckConstraint(
                condition=models.Q(state="proposed", decided_at__isnull=True, price_row__isnull=True)
                | models.Q(state="approved", decided_at__isnull=False, price_row__isnull=False)
                | models.Q(state="rejected", decided_at__isnull=False, price_row__isnull=True),
                name="price_proposals_decided",
            ),
            models.UniqueConstraint(
                fields=["provider", "model", "variant", "unit", "tier_start", "effective_from"],
                condition=models.Q(state="proposed"),
                name="price_proposals_open_once",
            ),
        ]
        indexes = [models.Index(fields=["state", "proposed_at", "id"], name="price_proposals_by_state")]

    def __str__(self) -> str:
        return f"{self.provider}/{self.model} {self.variant or 'standard'} {self.unit} {self.price}"
