from __future__ import annotations

from django.apps import AppConfig


class TenantsConfig(AppConfig):
    name = "tenants"
    verbose_name = "Tenancy"

    def ready(self) -> None:
        """Names the column that holds the secrets of second factors."""
        # Models can be imported only now.
        from allauth.mfa.models import Authenticator

        from noburn.runtime.sealed import SealedColumn, register
        from tenants.services.second_factor import over_secrets

        register(SealedColumn(Authenticator, "data", over_secrets))
