from __future__ import annotations

from django.apps import AppConfig


class AlertsConfig(AppConfig):
    name = "alerts"
    verbose_name = "Alerts"

    def ready(self) -> None:
        """Has destinations told of leaked keys, and names the columns that hold sealed text."""
        # Models can be imported only now.
        from alerts.models import Destination
        from alerts.services.leaks import on_key_leaked
        from noburn.runtime.sealed import SealedColumn, register, text
        from tenants.services.signals import key_leaked

        key_leaked.connect(on_key_leaked, dispatch_uid="alerts.services.leaks")
        register(
            SealedColumn(Destination, "secret", text), SealedColumn(Destination, "previous_secret", text)
        )
