"""The price book's tables: what providers charge, by date. They are global; no tenant owns a row.

Rows are appended and never edited: a trigger refuses everything but closing an open row once. A tenant's
negotiated prices will stand in a table of their own and be laid over these rates.
"""

from __future__ import annotations

from django.contrib.postgres.constraints import ExclusionConstraint
from django.contrib.postgres.fields import ArrayField, DateTimeRangeField, IntegerRangeField, RangeOperators
from django.db import models
from django.db.models.functions import Now

from tenants.models.base import fresh_id


class TimeRange(models.Func):
    """tstzrange(effective_from, effective_to): half-open, unbounded when there is no end."""

    function = "TSTZRANGE"
    output_field = DateTimeRangeField()


class MinuteRange(models.Func):
    """int4range(daily_from, daily_to): the minutes of a day in UTC."""

    function = "INT4RANGE"
    output_field = IntegerRangeField()


class PriceProvider(models.Model):
    """A provider, how its own name and its models are recognised, and whose models it resells."""

    id = models.CharField(primary_key=True, max_length=100)
    name = models.CharField(max_length=200)
    position = models.IntegerField()
    provider_pattern = models.JSONField(null=True)
    model_pattern = models.JSONField(null=True)
    fallback_providers = ArrayField(models.CharField(max_length=100), default=list)
    pricing_urls = ArrayField(models.CharField(max_length=500), default=list)

    class Meta:
        db_table = "price_providers"
        constraints = [
            models.CheckConstraint(
                condition=models.Q(id__regex=r"^[a-z0-9][a-z0-9._-]*$"),
                name="price_providers_id_is_lower_case",
            ),
        ]

    def __str__(self) -> str:
        return self.id


class PriceModel(models.Model):
    """A model of a provider. `position` orders the patterns, `pattern` recognises the model's other names.

    `offered` says that the provider is known to sell it under this very name, so that a refusal may suggest it.
    """

    id = models.BigAutoField(primary_key=True)
    provider = models.ForeignKey(
        PriceProvider, on_delete=models.PROTECT, related_name="models", db_index=False
    )
    model = models.CharField(max_length=200)
    position = models.IntegerField()
    pattern = models.JSONField(null=True)
    context_window = models.BigIntegerField(null=True)
    deprecated = models.BooleanField(default=False)
    offered = models.BooleanField(default=True, db_default=True)

    class Meta:
        db_table = "price_models"
        constraints = [
            models.UniqueConstraint(fields=["provider", "model"], name="price_models_name"),
        ]

    def __str__(self) -> str:
        return f"{self.provider_id}/{self.model}"


class PriceRow(models.Model):
    """USD for one unit of a model from `tier_start` input tokens on, while the row is in force.

    In force: `effective_from <= at < effective_to` (NULL: open), and on each day in UTC from minute
    `daily_from` up to `daily_to` (0 and 1440: all day). `variant` is "" for the standard price.
    """

    id = models.BigAutoField(primary_key=True)
    price_model = models.ForeignKey(
        PriceModel, on_delete=models.PROTECT, related_name="prices", db_index=False
    )
    variant = models.CharField(max_length=64, default="", blank=True)
    unit = models.CharField(max_length=64)
    tier_start = models.IntegerField(default=0)
    price = models.DecimalField(max_digits=20, decimal_places=12)
    effective_from = models.DateTimeField()
    effective_to = models.DateTimeField(null=True, blank=True)
    daily_from = models.SmallIntegerField(default=0)
    daily_to = models.SmallIntegerField(default=1440)
    source = models.CharField(max_length=300)
    checked_at = models.DateTimeField()
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        db_table = "price_rows"
        constraints = [
            ExclusionConstraint(
                name="price_rows_no_overlap",
                expressions=[
                    ("price_model", RangeOperators.EQUAL),
                    ("variant", RangeOperators.EQUAL),
                    ("unit", RangeOperators.EQUAL),
                    ("tier_start", RangeOperators.EQUAL),
                    (MinuteRange("daily_from", "daily_to"), RangeOperators.OVERLAPS),
                    (TimeRange("effective_from", "effective_to"), RangeOperators.OVERLAPS),
                ],
            ),
            models.CheckConstraint(
                condition=models.Q(unit__regex=r"^[a-z][a-z0-9_]*$"), name="price_rows_unit"
            ),
            models.CheckConstraint(
                condition=models.Q(price__gte=0, price__lte=1_000_000), name="price_rows_price"
            ),
            models.CheckConstraint(condition=models.Q(tier_start__gte=0), name="price_rows_tier_start"),
            models.CheckConstraint(
                condition=models.Q(effective_to__isnull=True)
                | models.Q(effective_to__gt=models.F("effective_from")),
                name="price_rows_period",
            ),
            models.CheckConstraint(
                condition=models.Q(
                    daily_from__gte=0, daily_to__lte=1440, daily_to__gt=models.F("daily_from")
                ),
                name="price_rows_daily",
            ),
            models.CheckConstraint(condition=~models.Q(source=""), name="price_rows_source"),
        ]

    def __str__(self) -> str:
        return f"{self.price_model_id} {self.variant or 'standard'} {self.unit} {self.price}"


class PriceBookVersion(models.Model):
    """One row, whose version rises in every transaction that changes the book; gateways poll it."""

    id = models.SmallIntegerField(primary_key=True, default=1)
    version = models.BigIntegerField(default=0)
    changed_at = models.DateTimeField(db_default=Now())

    class Meta:
        db_table = "price_book_version"
        constraints = [models.CheckConstraint(condition=models.Q(id=1), name="price_book_version_single")]

    def __str__(self) -> str:
        return f"version {self.version}"


class PriceImport(models.Model):
    """One run of `manage.py prices import`: which sources it read, and what it found and did. Only appended."""

    id = models.UUIDField(primary_key=True, default=fresh_id, editable=False)
    actor = models.CharField(max_length=200)
    ran_at = models.DateTimeField()
    sources = models.CharField(max_length=300)
    found = models.JSONField()

    class Meta:
        db_table = "price_imports"
        indexes = [models.Index(fields=["ran_at", "id"], name="price_imports_by_time")]

    def __str__(self) -> str:
        return f"{self.sources} at {self.ran_at.isoformat()}"
