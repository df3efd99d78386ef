"""The operators' admin: what every table of it promises, and tenancy's own."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.apps import apps
from django.contrib.admin import site
from django.contrib.admin.models import LogEntry
from django.core.management import call_command
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import NoReverseMatch, reverse

from budgets.models import PolicySnapshot
from noburn.kit import ids
from tenants.models import ApiKey, AuditEntry, Customer, Tenant, User
from tenants.services.customers import ensure_customer
from tenants.services.keys import issue_key
from tests.support.operators import APPS, lists, money_pages, queries_by_page, registered, staff, superuser
from tests.tenants.cast import ACTOR, NOW, Cast, make_tenant, unique

pytestmark = pytest.mark.real_db


@pytest.fixture
def operator() -> Client:
    return superuser()


def acted(client: Client, table: str, action: str, *pks: object, confirmed: bool = True) -> str:
    answer = client.post(
        reverse(f"admin:{table}_changelist"),
        {"action": action, "_selected_action": list(pks), **({"confirmed": "yes"} if confirmed else {})},
        follow=True,
    )
    assert answer.status_code == 200
    return answer.content.decode()


class TestEveryTable:
    def test_is_one_of_ours_and_all_of_ours_are_there(self) -> None:
        assert {model._meta.app_label for model in site._registry} == set(APPS)
        ours = {
            model._meta.label
            for label in ("alerts", "budgets", "tenants")
            for model in apps.get_app_config(label).get_models()
        }
        shown = {model._meta.label for model in site._registry}
        assert sorted(ours - shown) == sorted(NOT_SHOWN)

    def test_is_listed(self, operator: Client, cast: Cast) -> None:
        assert len(list(lists())) >= 15
        for url in lists():
            for query in ({}, {"q": "alice"}, {"p": "3"}):
                assert operator.get(url, query).status_code == 200, (url, query)

    def test_has_each_filter_and_order_in_working_order(self, operator: Client) -> None:
        for name, model_admin in registered():
            url = reverse(f"{name}_changelist")
            for number in range(1, len(model_admin.list_display) + 1):
                assert operator.get(url, {"o": str(number)}).status_code == 200, (name, number)

    def test_is_read_only(self, operator: Client, cast: Cast) -> None:
        for name, model_admin in registered():
            assert operator.get(reverse(f"{name}_add")).status_code == 403, name
            assert operator.post(reverse(f"{name}_add"), {}).status_code == 403, name
            row = model_admin.model._default_manager.order_by("-pk").first()
            if row is None:
                continue
            page = operator.get(reverse(f"{name}_change", args=[row.pk]))
            assert page.status_code == 200, name
            assert "_save" not in page.content.decode(), name
            assert operator.post(reverse(f"{name}_change", args=[row.pk]), {}).status_code == 403, name
            assert operator.post(reverse(f"{name}_delete", args=[row.pk])).status_code == 403, name
            assert operator.get(reverse(f"{name}_history", args=[row.pk])).status_code == 200, name

    def test_does_not_delete_by_action(self, operator: Client) -> None:
        for name, model_admin in registered():
            request = operator.get(reverse(f"{name}_changelist")).wsgi_request
            assert "delete_selected" not in model_admin.get_actions(request), name

    def test_never_counts_all_rows(self, operator: Client, cast: Cast) -> None:
        for url in lists():
            with CaptureQueriesContext(connection) as queries:
                operator.get(url, {"_facets": "True"})
            counts = [q["sql"] for q in queries if "COUNT(*)" in q["sql"]]
            assert counts == [], url

    def test_is_refused_to_staff_without_rights(self, cast: Cast) -> None:
        powerless = staff()
        for url in [*lists(), *money_pages()]:
            assert powerless.get(url).status_code == 403, url
        front = powerless.get(reverse("admin:index"))
        assert "no right to see anything" in front.content.decode()

    def test_is_shown_to_staff_by_right(self, cast: Cast) -> None:
        reader = staff("tenants.view_customer", "budgets.view_budget")
        assert reader.get(reverse("admin:tenants_customer_changelist")).status_code == 200
        assert reader.get(reverse("money:counters")).status_code == 200
        assert reader.get(reverse("admin:tenants_apikey_changelist")).status_code == 403
        front = reader.get(reverse("admin:index")).content.decode()
        assert "Customers" in front
        assert "API keys" not in front

    def test_sends_everybody_else_to_the_sign_in(self, cast: Cast) -> None:
        stranger = Client()
        for url in [*lists(), *money_pages(), reverse("admin:index")]:
            answer = stranger.get(url)
            assert (answer.status_code, answer["Location"].split("?")[0]) == (302, reverse("admin:login")), (
                url
            )


NOT_SHOWN = {
    "alerts.Attempt",
    "budgets.Figure",
    "budgets.PriceBookVersion",
    "budgets.Rerating",
    "budgets.RoutingPolicy",
    "budgets.WalletCharges",
    "tenants.AuditCheckpoint",
    "tenants.AuditLink",
    "tenants.IdempotentAnswer",
}
"""Tables that operators have no page for, since they are shown with others or hold nothing to look at."""


class TestFrontPage:
    def test_shows_the_figures_and_the_sidebar(self, operator: Client, cast: Cast) -> None:
        page = operator.get(reverse("admin:index")).content.decode()
        for words in (
            "Tenants",
            "Open epochs",
            "Stranded",
            "Overrun",
            "Rollup lag",
            "Drift",
            "Deliveries failed",
        ):
            assert words in page
        for topic in ("Tenancy", "Budgets", "Counters and epochs", "Prices", "Alerts", "People"):
            assert topic in page

    def test_tells_what_the_operator_did(self, operator: Client, cast: Cast) -> None:
        assert "Nothing yet." in operator.get(reverse("admin:index")).content.decode()
        acted(operator, "tenants_tenant", "suspend", cast.tenant.pk)
        assert cast.tenant.slug in operator.get(reverse("admin:index")).content.decode()


class TestKeys:
    def test_never_show_a_digest(self, operator: Client, cast: Cast) -> None:
        issued = issue_key(tenant_id=cast.tenant.pk, name="k", scopes=["read"], actor=ACTOR, now=NOW)
        for url in (
            reverse("admin:tenants_apikey_change", args=[issued.key.pk]),
            reverse("admin:tenants_apikey_changelist"),
        ):
            page = operator.get(url)
            assert page.status_code == 200
            assert "digest" not in page.content.decode().lower()
            assert issued.secret not in page.content.decode()
            assert bytes(issued.key.digest).hex() not in page.content.decode()

    def test_are_revoked_through_the_service(self, operator: Client, cast: Cast) -> None:
        issued = issue_key(tenant_id=cast.tenant.pk, name="k", scopes=["read"], actor=ACTOR, now=NOW)
        asked = acted(operator, "tenants_apikey", "revoke", issued.key.pk, confirmed=False)
        assert "Revoke these keys?" in asked
        assert ApiKey.objects.get(pk=issued.key.pk).revoked_at is None
        acted(operator, "tenants_apikey", "revoke", issued.key.pk)
        assert ApiKey.objects.get(pk=issued.key.pk).revoked_at is not None
        entry = AuditEntry.objects.get(tenant=cast.tenant, action="api_key.revoke")
        logged = LogEntry.objects.get(object_id=str(issued.key.pk))
        assert entry.actor == f"operator:{logged.user_id}"

    def test_are_not_revoked_by_who_may_only_look(self, cast: Cast) -> None:
        issued = issue_key(tenant_id=cast.tenant.pk, name="k", scopes=["read"], actor=ACTOR, now=NOW)
        acted(staff("tenants.view_apikey"), "tenants_apikey", "revoke", issued.key.pk)
        assert ApiKey.objects.get(pk=issued.key.pk).revoked_at is None
        acted(
            staff("tenants.view_apikey", "tenants.change_apikey"), "tenants_apikey", "revoke", issued.key.pk
        )
        assert ApiKey.objects.get(pk=issued.key.pk).revoked_at is not None

    def test_say_whether_they_live(self, operator: Client, cast: Cast) -> None:
        issue_key(
            tenant_id=cast.tenant.pk,
            name="gone",
            scopes=["read"],
            expires_at=NOW + timedelta(seconds=1),
            actor=ACTOR,
            now=NOW,
        )
        page = operator.get(reverse("admin:tenants_apikey_changelist"), {"q": cast.tenant.slug})
        assert "expired" in page.content.decode()


class TestTenants:
    def test_are_suspended_and_resumed_through_the_service(self, operator: Client, cast: Cast) -> None:
        version = PolicySnapshot.objects.get(pk=cast.tenant.pk).version
        for action, suspended in (("suspend", True), ("resume", False)):
            assert "?" in acted(operator, "tenants_tenant", action, cast.tenant.pk, confirmed=False)
            acted(operator, "tenants_tenant", action, cast.tenant.pk)
            assert (Tenant.objects.get(pk=cast.tenant.pk).suspended_at is not None) is suspended
        assert PolicySnapshot.objects.get(pk=cast.tenant.pk).version == version + 2
        entries = AuditEntry.objects.filter(tenant=cast.tenant, object=ids.encode(ids.TENANT, cast.tenant.pk))
        assert set(entries.values_list("action", flat=True)) >= {"tenant.suspend", "tenant.resume"}

    def test_are_listed_in_as_many_queries_however_many_there_are(self, operator: Client) -> None:
        for number in range(30):
            made = make_tenant("alice")
            issue_key(tenant_id=made.tenant.pk, name="k", scopes=["read"], actor=ACTOR, now=NOW)
            ensure_customer(tenant_id=made.tenant.pk, external_id=f"c{number}", actor=ACTOR, now=NOW)
            acted(operator, "tenants_tenant", "suspend", made.tenant.pk)
        compared = queries_by_page(operator, "admin", "tenants")
        assert len(compared) >= 8
        assert {name: found for name, found in compared.items() if len(set(found)) > 1} == {}


class TestCustomers:
    def test_are_suspended_and_resumed_through_the_service(self, operator: Client, cast: Cast) -> None:
        customer, _ = ensure_customer(tenant_id=cast.tenant.pk, external_id="c1", actor=ACTOR, now=NOW)
        for action, suspended in (("suspend", True), ("resume", False)):
            acted(operator, "tenants_customer", action, customer.pk, confirmed=False)
            assert (Customer.objects.get(pk=customer.pk).suspended_at is not None) is not suspended
            acted(operator, "tenants_customer", action, customer.pk)
            assert (Customer.objects.get(pk=customer.pk).suspended_at is not None) is suspended

    def test_are_filtered_by_state(self, operator: Client, cast: Cast) -> None:
        ensure_customer(tenant_id=cast.tenant.pk, external_id="only-live", actor=ACTOR, now=NOW)
        url, query = reverse("admin:tenants_customer_changelist"), {"q": cast.tenant.slug}
        assert "only-live" in operator.get(url, {**query, "suspended": "no"}).content.decode()
        assert "only-live" not in operator.get(url, {**query, "suspended": "yes"}).content.decode()


class TestUsers:
    def test_never_show_a_password(self, operator: Client) -> None:
        user = User.objects.create_user(f"{unique('p')}@example.com", "a long password")
        page = operator.get(reverse("admin:tenants_user_change", args=[user.pk])).content.decode()
        assert user.password not in page
        assert "pbkdf2" not in page
        with pytest.raises(NoReverseMatch):
            reverse("admin:auth_user_password_change", args=[user.pk])

    def test_become_operators_by_a_command(self, monkeypatch: pytest.MonkeyPatch) -> None:
        email = f"{unique('Op')}@Example.com"
        monkeypatch.setenv("DJANGO_SUPERUSER_PASSWORD", "a long password")
        call_command("createsuperuser", interactive=False, email=email, verbosity=0)
        client = Client()
        answer = client.post(
            f"/account/login/?next={reverse('admin:index')}",
            {"login": email.lower(), "password": "a long password"},
        )
        assert (answer.status_code, answer["Location"]) == (302, reverse("admin:index"))
        # Only the second factor is missing.
        assert client.get(reverse("admin:index"))["Location"] == reverse("mfa_activate_totp")
