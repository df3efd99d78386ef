"""Pages of the dashboard about rate cards, invoices, wallets and Stripe."""

from __future__ import annotations

from django.urls import URLPattern

urlpatterns: list[URLPattern] = []
