"""Who signs in, where they work, and what operators and members did."""

from __future__ import annotations

from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from allauth.usersessions.models import UserSession
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.contrib.auth import admin as _auth_admin  # noqa: F401
from django.contrib.auth.models import Group
from django.db.models import Model
from django.http import HttpRequest
from unfold.contrib.filters.admin import AutocompleteSelectFilter, RangeDateTimeFilter
from unfold.decorators import display

from tenants.admin.base import ReadOnlyAdmin
from tenants.models import AuditEntry, Member, User

# Operators get rights one by one or as superusers; groups would be rows that this admin changes by itself.
# Imported first, since it would register them again after us.
admin.site.unregister(Group)
# What people have of their own; an operator needs none of it, and the second factor's secret is theirs alone.
for theirs in (EmailAddress, Authenticator, UserSession):
    admin.site.unregister(theirs)


@admin.register(User)
class UserAdmin(ReadOnlyAdmin):
    list_display = ("email", "name", "is_active", "is_staff", "is_superuser", "last_login", "created_at")
    list_filter = ("is_active", "is_staff", "is_superuser")
    fields = ("email", "name", "is_active", "is_staff", "is_superuser", "last_login", "created_at")
    search_fields = ("email", "name")
    ordering = ("-pk",)


@admin.register(Member)
class MemberAdmin(ReadOnlyAdmin):
    list_display = ("user", "tenant", "role", "created_at")
    list_select_related = ("tenant", "user")
    list_filter = (("tenant", AutocompleteSelectFilter), "role")
    search_fields = ("tenant__slug", "user__email")
    ordering = ("-pk",)


@admin.register(AuditEntry)
class AuditEntryAdmin(ReadOnlyAdmin):
    list_display = ("at", "tenant", "actor", "action", "object")
    list_select_related = ("tenant",)
    list_filter = (("tenant", AutocompleteSelectFilter), ("at", RangeDateTimeFilter))
    search_fields = ("=actor", "=action", "=object")
    search_help_text = "An actor, an action or an object, exactly as it is written."
    # The ids are ordered by time, and have an index.
    ordering = ("-pk",)


@admin.register(LogEntry)
class LogEntryAdmin(ReadOnlyAdmin):
    """What operators did in this admin: the other half of the audit log, by person."""

    list_display = ("action_time", "user", "content_type", "object_repr", "said")
    list_select_related = ("user", "content_type")
    list_filter = (("action_time", RangeDateTimeFilter),)
    fields = ("action_time", "user", "content_type", "object_id", "object_repr", "said")
    readonly_fields = ("said",)
    search_fields = ("=user__email", "=object_id")
    ordering = ("-pk",)

    @display(description="What")
    def said(self, entry: LogEntry) -> str:
        return entry.get_change_message()

    def has_view_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return request.user.has_perm("admin.view_logentry")
