"""Re-ratings: a preview of what settled calls should have cost, and its application to the ledger."""

from __future__ import annotations

from django.db import models
from django.db.models import Q

from tenants.models import TenantOwned


class ReratingState(models.TextChoices):
    """What became of a re-rating. The last three are final."""

    PREVIEWING = "previewing"
    PREVIEWED = "previewed"
    APPLYING = "applying"
    APPLIED = "applied"
    EXPIRED = "expired"
    FAILED = "failed"


class Rerating(TenantOwned):
    """Settled calls placed in [starts_at, ends_at) at other prices; docs/rerating.md.

    A filter that is empty leaves nothing out. `prices_at`: calls are priced as though placed then; None: as when they
    were placed, by the book as it is now. `book_version` and `overrides_digest` say which prices the preview saw,
    `seen_calls` and `seen_digest` which calls. `cursor_at` and `cursor_hold` are where the preview is, `applied_through`
    where the application is; its figures are written by `nb_rerate`, in the transaction of each batch. Amounts are
    nano-USD. The calls themselves are in rerating_items, until they are pruned.
    """

    OPEN = Q(state__in=("previewing", "previewed", "applying"))

    state = models.CharField(max_length=16, choices=ReratingState, default=ReratingState.PREVIEWING)
    starts_at = models.DateTimeField()
    ends_at = models.DateTimeField()
    provider = models.CharField(max_length=200, blank=True, default="")
    model = models.CharField(max_length=200, blank=True, default="")
    customer = models.CharField(max_length=200, blank=True, default="")
    project = models.CharField(max_length=200, blank=True, default="")
    prices_at = models.DateTimeField(null=True, blank=True)
    reason = models.CharField(max_length=500)
    created_by = models.CharField(max_length=200)
    created_at = models.DateTimeField()

    book_version = models.BigIntegerField(null=True)
    overrides_digest = models.CharField(max_length=64, blank=True, default="")
    cursor_at = models.DateTimeField(null=True)
    cursor_hold = models.UUIDField(null=True)
    seen_calls = models.BigIntegerField(default=0)
    seen_digest = models.BigIntegerField(default=0)

    changed_calls = models.BigIntegerField(default=0)
    unchanged_calls = models.BigIntegerField(default=0)
    old_nano = models.BigIntegerField(default=0)
    new_nano = models.BigIntegerField(default=0)
    left_out = models.JSONField(default=dict)
    by_model = models.JSONField(default=list)
    by_customer = models.JSONField(default=list)
    model_count = models.BigIntegerField(default=0)
    customer_count = models.BigIntegerField(default=0)
    previewed_at = models.DateTimeField(null=True)

    applied_by = models.CharField(max_length=200, blank=True, default="")
    applied_at = models.DateTimeField(null=True)
    applied_through = models.UUIDField(null=True)
    applied_calls = models.BigIntegerField(default=0)
    moved_calls = models.BigIntegerField(default=0)
    applied_nano = models.BigIntegerField(default=0)
    finished_at = models.DateTimeField(null=True)
    failure = models.CharField(max_length=500, blank=True, default="")

    class Meta:
        db_table = "reratings"
        constraints = [
            models.UniqueConstraint(fields=["tenant", "id"], name="reratings_tenant_id"),
            models.UniqueConstraint(
                fields=["tenant"],
                condition=Q(state__in=("previewing", "previewed", "applying")),
                name="reratings_one_open",
            ),
            models.CheckConstraint(condition=Q(state__in=ReratingState.values), name="reratings_state"),
            models.CheckConstraint(condition=Q(ends_at__gt=models.F("starts_at")), name="reratings_period"),
            models.CheckConstraint(condition=~Q(reason="") & ~Q(created_by=""), name="reratings_who_and_why"),
            models.CheckConstraint(
                condition=~Q(state__in=("applying", "applied"))
                | (Q(applied_at__isnull=False, previewed_at__isnull=False) & ~Q(applied_by="")),
                name="reratings_applied",
            ),
        ]
        indexes = [
            models.Index(fields=["tenant", "created_at", "id"], name="reratings_of_tenant"),
            models.Index(
                fields=["created_at", "id"],
                condition=Q(state__in=("previewing", "applying")),
                name="reratings_at_work",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.starts_at:%Y-%m-%d} to {self.ends_at:%Y-%m-%d}, {self.state}"
