from __future__ import annotations

import pytest
from django.contrib import admin
from django.test import Client
from django.urls import reverse

from tenants.models import ApiKey, AuditEntry, Customer, User
from tenants.services.customers import ensure_customer
from tenants.services.keys import issue_key
from tests.tenants.cast import ACTOR, NOW, Cast, unique

pytestmark = pytest.mark.real_db


@pytest.fixture
def operator(cast: Cast) -> Client:
    user = User.objects.create_superuser(f"{unique('op')}@example.com", "a long password")
    client = Client()
    client.force_login(user)
    return client


def ours() -> list[str]:
    labels = ("tenants", "budgets")
    return sorted(
        f"{model._meta.app_label}_{model._meta.model_name}"
        for model in admin.site._registry
        if model._meta.app_label in labels
    )


class TestAdmin:
    def test_lists_every_table_it_registers(self, operator: Client) -> None:
        assert len(ours()) >= 11
        for table in ours():
            answer = operator.get(reverse(f"admin:{table}_changelist"), {"q": "alice"})
            assert answer.status_code == 200, table

    def test_adds_and_deletes_nothing(self, operator: Client, cast: Cast) -> None:
        assert operator.get(reverse("admin:tenants_tenant_add")).status_code == 403
        assert operator.post(reverse("admin:tenants_tenant_delete", args=[cast.tenant.pk])).status_code == 403

    def test_never_shows_a_digest(self, operator: Client, cast: Cast) -> None:
        issued = issue_key(tenant_id=cast.tenant.pk, name="k", scopes=["read"], actor=ACTOR, now=NOW)
        page = operator.get(reverse("admin:tenants_apikey_change", args=[issued.key.pk]))
        assert page.status_code == 200
        assert "digest" not in page.content.decode().lower()
        assert issued.secret not in page.content.decode()

    def test_revokes_through_the_service(self, operator: Client, cast: Cast) -> None:
        issued = issue_key(tenant_id=cast.tenant.pk, name="k", scopes=["read"], actor=ACTOR, now=NOW)
        operator.post(
            reverse("admin:tenants_apikey_changelist"),
            {"action": "revoke", "_selected_action": [issued.key.pk]},
        )
        assert ApiKey.objects.get(pk=issued.key.pk).revoked_at is not None
        entry = AuditEntry.objects.get(tenant=cast.tenant, action="api_key.revoke")
        assert entry.actor.startswith("operator:")

    def test_suspends_and_resumes_through_the_service(self, operator: Client, cast: Cast) -> None:
        customer, _ = ensure_customer(tenant_id=cast.tenant.pk, external_id="c1", actor=ACTOR, now=NOW)
        for action, suspended in (("suspend", True), ("resume", False)):
            operator.post(
                reverse("admin:tenants_customer_changelist"),
                {"action": action, "_selected_action": [customer.pk]},
            )
            assert (Customer.objects.get(pk=customer.pk).suspended_at is not None) is suspended
