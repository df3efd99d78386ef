"""Operators' sign-ins, and every address of their admin."""

from __future__ import annotations

from collections.abc import Iterator
from unittest.mock import patch

from allauth.mfa.totp.internal.auth import TOTP, generate_totp_secret
from django.contrib import admin
from django.contrib.admin import ModelAdmin
from django.contrib.auth.models import Permission
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from tenants.models import User
from tests.tenants.cast import unique

APPS = ("admin", "alerts", "billing", "budgets", "tenants")


def superuser() -> Client:
    """An operator who may do everything."""
    return signed_in(User.objects.create_superuser(f"{unique('op')}@example.com", "a long password"))


def staff(*rights: str) -> Client:
    """An operator with some rights, spelled `app.codename`, and none beside them."""
    user = User.objects.create_user(f"{unique('staff')}@example.com", "a long password", is_staff=True)
    for right in rights:
        label, codename = right.split(".")
        user.user_permissions.add(Permission.objects.get(content_type__app_label=label, codename=codename))
    return signed_in(user)


def signed_in(user: User) -> Client:
    """A browser with this person's session; an operator has the second factor that operators need."""
    if user.is_staff:
        with_second_factor(user)
    client = Client()
    client.force_login(user)
    return client


def with_second_factor(user: User) -> str:
    """Gives a person a second factor; returns the secret that an authenticator would hold."""
    secret: str = generate_totp_secret()
    TOTP.activate(user, secret)
    return secret


def registered() -> list[tuple[str, ModelAdmin]]:  # type: ignore[type-arg]
    """Every table of the admin: the name of its addresses, and its class."""
    return sorted(
        (
            (f"admin:{model._meta.app_label}_{model._meta.model_name}", model_admin)
            for model, model_admin in admin.site._registry.items()
        ),
        key=lambda pair: pair[0],
    )


def lists() -> Iterator[str]:
    """Every list of the admin."""
    for name, _ in registered():
        yield reverse(f"{name}_changelist")


def money_pages() -> Iterator[str]:
    """Every page of the money path that needs no object."""
    for name in ("counters", "epochs", "ledger", "resolutions", "verify"):
        yield reverse(f"money:{name}")


def queries_by_page(client: Client, *labels: str) -> dict[str, tuple[int, int]]:
    """How many queries a page of one row and one of thirty take, of each table of these apps with that many rows."""
    found = {}
    for name, model_admin in registered():
        if model_admin.opts.app_label not in labels or model_admin.model._default_manager.count() < 30:
            continue
        one, many = (_queries(client, name, model_admin, rows) for rows in (1, 30))
        found[name] = (one, many)
    return found


def _queries(client: Client, name: str, model_admin: ModelAdmin, rows: int) -> int:  # type: ignore[type-arg]
    with patch.object(model_admin, "list_per_page", rows), CaptureQueriesContext(connection) as captured:
        page = client.get(reverse(f"{name}_changelist"))
    assert page.status_code == 200
    assert len(page.context["cl"].result_list) == rows, name
    return len(captured)
