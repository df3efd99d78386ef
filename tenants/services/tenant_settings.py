"""What a tenant may set for itself."""

from __future__ import annotations

from dataclasses import dataclass
from dataclasses import fields as dataclass_fields
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import transaction

from noburn.kit import ids
from noburn.kit.problems import FieldError, Invalid
from tenants.domain.time_zones import is_time_zone
from tenants.models import Tenant, UnknownModel, User
from tenants.services import audit
from tenants.services.second_factor import has_second_factor
from tenants.services.signals import tell_policy_changed, time_zone_changed
from tenants.services.tenants import lock_tenant, name_errors


class InvalidSettings(Invalid):
    """Settings that break rules."""


@dataclass(frozen=True, kw_only=True)
class TenantSettings:
    """What to change of a tenant; None leaves a field as it is.

    `default_max_output_tokens` bounds calls that name no cap, `unknown_model` says what happens to a model
    without a price, `decision_retention_days` for how long decisions are kept. With `second_factor_required` members
    see and change nothing before they have a second factor; only an owner decides that, and only with one.
    """

    name: str | None = None
    time_zone: str | None = None
    default_max_output_tokens: int | None = None
    unknown_model: str | None = None
    decision_retention_days: int | None = None
    second_factor_required: bool | None = None

    def errors(self) -> list[FieldError]:
        """Returns everything that is wrong with them."""
        errors = name_errors("name", self.name) if self.name is not None else []
        if self.time_zone is not None and not is_time_zone(self.time_zone):
            errors.append(FieldError("time_zone", "must be an IANA time zone such as Europe/Berlin"))
        if self.unknown_model is not None and self.unknown_model not in UnknownModel.values:
            errors.append(FieldError("unknown_model", f"must be one of {', '.join(UnknownModel.values)}"))
        for field, low, high in (
            ("default_max_output_tokens", 1, 10_000_000),
            ("decision_retention_days", 1, 400),
        ):
            value = getattr(self, field)
            if value is not None and not low <= value <= high:
                errors.append(FieldError(field, f"must be between {low} and {high}"))
        return errors


def change_settings(
    *, tenant_id: UUID, changes: TenantSettings, owner: User | None = None, actor: str, now: datetime
) -> Tenant:
    """Changes a tenant's settings; calls follow them at once. Raises TenantNotFound, InvalidSettings.

    In a new time zone calendar windows begin and end elsewhere; budgets carry on with what was spent in them. `owner` is
    who asks, where that is an owner of the tenant.
    """
    if errors := changes.errors():
        raise InvalidSettings(errors)
    with transaction.atomic():
        tenant = lock_tenant(tenant_id=tenant_id)
        before: dict[str, Any] = {}
        after: dict[str, Any] = {}
        for field in dataclass_fields(changes):
            value = getattr(changes, field.name)
            if value is not None and value != getattr(tenant, field.name):
                before[field.name], after[field.name] = getattr(tenant, field.name), value
                setattr(tenant, field.name, value)
        if "second_factor_required" in after and (errors := _second_factor_errors(owner, after)):
            raise InvalidSettings(errors)
        if not after:
            return tenant
        tenant.save(update_fields=list(after))
        audit.record(
            tenant_id=tenant_id,
            actor=actor,
            action="tenant.edit",
            object=ids.encode(ids.TENANT, tenant.pk),
            before=before,
            after=after,
            now=now,
        )
        if "time_zone" in after:
            time_zone_changed.send(sender=None, tenant_id=tenant_id, now=now)
        tell_policy_changed(tenant_id=tenant_id, now=now)
    return tenant


def _second_factor_errors(owner: User | None, after: dict[str, Any]) -> list[FieldError]:
    if owner is None:
        return [FieldError("second_factor_required", "only an owner changes this")]
    if after["second_factor_required"] and not has_second_factor(owner):
        # Else the owner would be the first to be led away from the page that undoes it.
        return [FieldError("second_factor_required", "set up a second factor of your own first")]
    return []
