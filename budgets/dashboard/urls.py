"""Pages of the dashboard about budgets, usage, the ledger and decisions."""

from __future__ import annotations

from django.urls import URLPattern

urlpatterns: list[URLPattern] = []
