"""Pages on which a tenant begins."""

from __future__ import annotations

from django.urls import URLPattern, path

from budgets.dashboard.onboarding import Start, StartBudget, StartKey, StartLoop

urlpatterns: list[URLPattern] = [
    path("start", Start.as_view(), name="start"),
    path("start/key", StartKey.as_view(), name="start-key"),
    path("start/budget", StartBudget.as_view(), name="start-budget"),
    path("start/loop", StartLoop.as_view(), name="start-loop"),
]
