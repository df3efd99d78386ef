"""Pages of the dashboard about the tenant itself: keys, team, audit log, settings."""

from __future__ import annotations

from django.urls import URLPattern, path

from tenants.dashboard.audit import AuditLog
from tenants.dashboard.keys import Keys, NewKey, RevokeKey, RotateKey
from tenants.dashboard.landing import Landing
from tenants.dashboard.settings import Settings
from tenants.dashboard.team import ChangeRole, Invite, RemoveMember, Team

urlpatterns: list[URLPattern] = [
    path("", Landing.as_view(), name="landing"),
    path("keys", Keys.as_view(), name="keys"),
    path("keys/new", NewKey.as_view(), name="new-key"),
    path("keys/<str:key_id>/rotate", RotateKey.as_view(), name="rotate-key"),
    path("keys/<str:key_id>/revoke", RevokeKey.as_view(), name="revoke-key"),
    path("team", Team.as_view(), name="team"),
    path("team/invite", Invite.as_view(), name="invite"),
    path("team/<str:mem_id>/role", ChangeRole.as_view(), name="change-role"),
    path("team/<str:mem_id>/remove", RemoveMember.as_view(), name="remove-member"),
    path("audit", AuditLog.as_view(), name="audit"),
    path("settings", Settings.as_view(), name="settings"),
]
