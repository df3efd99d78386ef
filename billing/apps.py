from __future__ import annotations

from django.apps import AppConfig


class BillingConfig(AppConfig):
    name = "billing"
    verbose_name = "Billing"

    def ready(self) -> None:
        """Has hours of usage kept that are not charged for good, and slow figures added up; names its sealed columns."""
        # Models can be imported only now.
        from billing.models import StripeAccount
        from billing.services import slow_figures
        from billing.services.kept_hours import needed_hours
        from budgets.services.metering import hours_needed
        from noburn.runtime.sealed import SealedColumn, register, text, texts

        hours_needed.connect(needed_hours, dispatch_uid="billing.services.kept_hours")
        slow_figures.register()
        register(
            SealedColumn(StripeAccount, "secret_key", text),
            SealedColumn(StripeAccount, "webhook_secrets", texts),
        )
