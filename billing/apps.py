from __future__ import annotations

from django.apps import AppConfig


class BillingConfig(AppConfig):
    name = "billing"
    verbose_name = "Billing"

    def ready(self) -> None:
        """Has hours of usage kept that are not charged for good, and the slow figures of its pages added up."""
        # Models can be imported only now.
        from billing.services import slow_figures
        from billing.services.kept_hours import needed_hours
        from budgets.services.metering import hours_needed

        hours_needed.connect(needed_hours, dispatch_uid="billing.services.kept_hours")
        slow_figures.register()
