"""Pages of the dashboard about customers, which show what they owe and have."""

from __future__ import annotations

from django.urls import URLPattern

urlpatterns: list[URLPattern] = []
