"""What commands of any app take from their command line about tenants."""

from __future__ import annotations

from django.core.management.base import CommandError

from tenants.models import Tenant


def tenant_asked(slug: str) -> Tenant:
    """Returns the tenant that `--tenant` names. Raises CommandError."""
    tenant = Tenant.objects.filter(slug=slug).first()
    if tenant is None:
        raise CommandError(f"--tenant: there is no tenant {slug!r}")
    return tenant
