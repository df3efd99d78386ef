"""Tenants, and what their calls are charged to: projects, customers and end users."""

from __future__ import annotations

from django.core.exceptions import ValidationError
from django.db import models
from django.db.models.functions import Now

from tenants.domain.time_zones import is_time_zone
from tenants.models.base import TenantOwned, fresh_id

SLUG = r"^[a-z0-9](?:[a-z0-9_-]{0,61}[a-z0-9])?$"
"""A slug: 1 to 63 characters of a-z, 0-9, - and _, with a letter or a digit at both ends."""

RATE_RANGE = (1, 1_000_000)
"""From how many to how many a second a tenant's own rate may be."""


def validate_time_zone(name: str) -> None:
    """Raises ValidationError unless `name` is an IANA time zone."""
    if not is_time_zone(name):
        raise ValidationError(f"{name!r} is not an IANA time zone such as Europe/Berlin")


class UnknownModel(models.TextChoices):
    """What happens to a call of a model that the price book does not know."""

    REFUSE = "refuse"
    DEAREST = "dearest"


class Tenant(models.Model):
    """A company that uses noburn. Every other row belongs to one."""

    id = models.UUIDField(primary_key=True, default=fresh_id, editable=False)
    slug = models.CharField(max_length=63, unique=True)
    name = models.CharField(max_length=200)
    time_zone = models.CharField(max_length=64, default="UTC", validators=[validate_time_zone])
    default_max_output_tokens = models.IntegerField(default=4096)
    unknown_model = models.CharField(max_length=16, choices=UnknownModel, default=UnknownModel.REFUSE)
    subject_limit = models.BigIntegerField(default=1_000_000)
    decision_retention_days = models.SmallIntegerField(default=30, db_default=30)
    second_factor_required = models.BooleanField(default=False, db_default=False)
    """Whether members see and change nothing before they have a second factor."""
    calls_per_second = models.IntegerField(null=True, blank=True)
    """How often a gateway process answers the tenant; null: as the installation says."""
    requests_per_second = models.IntegerField(null=True, blank=True)
    """The same of the management API."""
    suspended_at = models.DateTimeField(null=True, blank=True)
    calls_refused_until = models.DateTimeField(null=True, blank=True)
    """Until when calls are refused because noburn's own plan is used up."""
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        constraints = [
            models.CheckConstraint(condition=models.Q(slug__regex=SLUG), name="tenants_tenant_slug"),
            models.CheckConstraint(
                condition=models.Q(unknown_model__in=UnknownModel.values), name="tenants_tenant_unknown_model"
            ),
            models.CheckConstraint(
                condition=models.Q(default_max_output_tokens__range=(1, 10_000_000)),
                name="tenants_tenant_default_max_output_tokens",
            ),
            models.CheckConstraint(
                condition=models.Q(subject_limit__range=(0, 1_000_000_000)),
                name="tenants_tenant_subject_limit",
            ),
            models.CheckConstraint(
                condition=models.Q(decision_retention_days__range=(1, 400)),
                name="tenants_tenant_decision_retention_days",
            ),
            *(
                models.CheckConstraint(
                    condition=models.Q(**{f"{rate}__isnull": True})
                    | models.Q(**{f"{rate}__range": RATE_RANGE}),
                    name=f"tenants_tenant_{rate}",
                )
                for rate in ("calls_per_second", "requests_per_second")
            ),
        ]

    def __str__(self) -> str:
        return self.slug


class Project(TenantOwned):
    """One application of a tenant's. Each tenant has `default`."""

    slug = models.CharField(max_length=63)
    name = models.CharField(max_length=200)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        constraints = [
            *TenantOwned.Meta.constraints,
            models.UniqueConstraint(fields=["tenant", "slug"], name="tenants_project_slug_once"),
            models.CheckConstraint(condition=models.Q(slug__regex=SLUG), name="tenants_project_slug"),
        ]

    def __str__(self) -> str:
        return self.slug


class Customer(TenantOwned):
    """A tenant's end customer, under the tenant's own name for it (`external_id`)."""

    external_id = models.CharField(max_length=200)
    name = models.CharField(max_length=200, blank=True, db_default="")
    suspended_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        constraints = [
            *TenantOwned.Meta.constraints,
            models.UniqueConstraint(
                fields=["tenant", "external_id"], name="tenants_customer_external_id_once"
            ),
            models.CheckConstraint(condition=~models.Q(external_id=""), name="tenants_customer_external_id"),
        ]
        indexes = [
            models.Index(
                fields=["tenant", "external_id"],
                name="tenants_customer_suspended",
                condition=models.Q(suspended_at__isnull=False),
            ),
        ]

    def __str__(self) -> str:
        return self.external_id


class EndUser(TenantOwned):
    """A person on whose behalf a call is made, a customer's or the tenant's own."""

    external_id = models.CharField(max_length=200)
    customer = models.ForeignKey(
        Customer, null=True, blank=True, on_delete=models.PROTECT, related_name="+", db_constraint=False
    )
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        constraints = [
            *TenantOwned.Meta.constraints,
            models.UniqueConstraint(
                fields=["tenant", "external_id"], name="tenants_enduser_external_id_once"
            ),
            models.CheckConstraint(condition=~models.Q(external_id=""), name="tenants_enduser_external_id"),
        ]

    def __str__(self) -> str:
        return self.external_id
