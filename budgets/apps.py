from __future__ import annotations

from django.apps import AppConfig


class BudgetsConfig(AppConfig):
    name = "budgets"
    verbose_name = "Budgets"

    def ready(self) -> None:
        """Has the policy compiled anew whenever tenancy changes something that gateways must know."""
        # Models can be imported only now.
        from budgets.services.announcing import announce
        from budgets.services.policy import on_policy_changed, policy_published
        from budgets.services.time_zones import on_time_zone_changed
        from tenants.services.signals import policy_changed, time_zone_changed

        policy_changed.connect(on_policy_changed, dispatch_uid="budgets.services.policy")
        time_zone_changed.connect(on_time_zone_changed, dispatch_uid="budgets.services.time_zones")
        policy_published.connect(announce, dispatch_uid="budgets.services.announcing")
