"""Pages of the dashboard about the tenant itself: keys, team, audit log, settings."""

from __future__ import annotations

from django.urls import URLPattern, path

from tenants.dashboard.audit import AuditLog
from tenants.dashboard.landing import Landing
from tenants.dashboard.settings import Settings

urlpatterns: list[URLPattern] = [
    path("", Landing.as_view(), name="landing"),
    path("audit", AuditLog.as_view(), name="audit"),
    path("settings", Settings.as_view(), name="settings"),
]
