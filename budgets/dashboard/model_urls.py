"""Pages of the dashboard about models and their prices."""

from __future__ import annotations

from django.urls import URLPattern

urlpatterns: list[URLPattern] = []
