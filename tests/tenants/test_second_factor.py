"""A tenant may ask its members for a second factor; an operator needs one; its secrets lie sealed."""

from __future__ import annotations

import json

import pytest
from allauth.mfa.models import Authenticator
from allauth.mfa.recovery_codes.internal.auth import RecoveryCodes
from allauth.mfa.totp.internal.auth import (
    TOTP,
    format_hotp_value,
    hotp_value,
    yield_hotp_counters_from_time,
)
from django.conf import settings
from django.test import Client
from django.urls import reverse

from noburn.kit.sealing import Sealer
from tenants.models import AuditEntry, Member, Role, User
from tests.support.operators import signed_in, superuser, with_second_factor
from tests.tenants.cast import Cast, api_of, make_cast

pytestmark = pytest.mark.real_db

ACTIVATE = "/account/2fa/totp/activate/"


@pytest.fixture
def cast() -> Cast:
    return make_cast()


def settings_of(cast: Cast, client: Client, **changes: object) -> int:
    sent = {
        "name": cast.tenant.name,
        "time_zone": "UTC",
        "unknown_model": "refuse",
        "default_max_output_tokens": "4096",
        "decision_retention_days": "30",
        **changes,
    }
    answer = client.post(f"/t/{cast.tenant.slug}/settings", sent)
    cast.tenant.refresh_from_db()
    return answer.status_code


def required(cast: Cast) -> Client:
    """The owner's browser, after the owner has asked everybody for a second factor."""
    owner = signed_in(cast.alice.user)
    with_second_factor(cast.alice.user)
    assert settings_of(cast, owner, second_factor_required="on") == 302
    assert cast.tenant.second_factor_required
    return owner


class TestTenants:
    def test_lead_members_to_a_second_factor_before_anything_else(self, cast: Cast) -> None:
        cast.bob.user.set_password("correct horse battery")
        cast.bob.user.save()
        owner, bob = required(cast), signed_in(cast.bob.user)
        for page in ("", "keys", "usage", "settings", "billing"):
            answer = bob.get(f"/t/{cast.tenant.slug}/{page}")
            assert (answer.status_code, answer.get("Location")) == (302, ACTIVATE), page
        assert "asks its members for a second factor" in bob.get(ACTIVATE, follow=True).content.decode()
        assert bob.post(f"/t/{cast.tenant.slug}/settings", {"name": "x"})["Location"] == ACTIVATE
        told = bob.get("/v1/tenant", headers={"Noburn-Tenant": cast.tenant.slug})
        assert (told.status_code, told.json()["type"].rsplit("/", 1)[-1]) == (403, "second-factor-required")
        with_second_factor(cast.bob.user)
        assert bob.get(f"/t/{cast.tenant.slug}/usage").status_code == 200
        assert bob.get("/v1/tenant", headers={"Noburn-Tenant": cast.tenant.slug}).status_code == 200
        assert owner.get(f"/t/{cast.tenant.slug}/settings").status_code == 200

    def test_tell_strangers_nothing_by_it(self, cast: Cast) -> None:
        required(cast)
        charlie = signed_in(cast.charlie.user)
        assert charlie.get(f"/t/{cast.tenant.slug}/usage").status_code == 404

    def test_ask_nothing_of_keys(self, cast: Cast) -> None:
        required(cast)
        assert api_of(cast.tenant, "read").get("/v1/tenant").body["second_factor_required"] is True

    def test_hear_it_from_owners_with_one_alone(self, cast: Cast) -> None:
        owner = signed_in(cast.alice.user)
        assert settings_of(cast, owner, second_factor_required="on") == 400
        assert not cast.tenant.second_factor_required
        admin = User.objects.create_user(f"admin-{cast.tenant.slug}@example.com")
        Member.objects.create(tenant=cast.tenant, user=admin, role=Role.ADMIN)
        with_second_factor(admin)
        # The form of an admin has no such field, and what it sends beside it is not read.
        assert settings_of(cast, signed_in(admin), second_factor_required="on") == 302
        assert not cast.tenant.second_factor_required
        required(cast)
        assert settings_of(cast, signed_in(admin), name="Still there") == 302
        assert cast.tenant.second_factor_required
        assert (
            "Members need a second factor"
            in signed_in(admin).get(f"/t/{cast.tenant.slug}/settings").content.decode()
        )
        refused = api_of(cast.tenant, "read", "manage").patch("/v1/tenant", {"second_factor_required": False})
        assert refused.fields == {"second_factor_required": "only an owner changes this"}

    def test_write_it_into_the_audit_log(self, cast: Cast) -> None:
        owner = required(cast)
        assert settings_of(cast, owner) == 302
        assert not cast.tenant.second_factor_required
        entries = AuditEntry.objects.filter(tenant=cast.tenant, action="tenant.edit").order_by("pk")
        told = [entry.after["second_factor_required"] for entry in entries if entry.after]
        assert told == [True, False]


class TestSecrets:
    def test_of_second_factors_lie_sealed(self, cast: Cast) -> None:
        secret = with_second_factor(cast.bob.user)
        codes = RecoveryCodes.activate(cast.bob.user)
        seed = codes.instance.data["seed"]
        stored = {row.type: row.data for row in Authenticator.objects.filter(user=cast.bob.user)}
        assert secret not in json.dumps(stored)
        sealer = Sealer(settings.NOBURN_ENCRYPTION_KEYS)
        assert sealer.open(stored["totp"]["secret"]) == secret
        assert seed.startswith("gAAAA")
        assert len(codes.get_unused_codes()) == 10

    def test_that_were_stored_open_are_still_read(self, cast: Cast) -> None:
        secret = with_second_factor(cast.bob.user)
        Authenticator.objects.filter(user=cast.bob.user, type="totp").update(data={"secret": secret})
        totp = TOTP(Authenticator.objects.get(user=cast.bob.user, type="totp"))
        code = format_hotp_value(hotp_value(secret, next(iter(yield_hotp_counters_from_time()))))
        assert totp.validate_code(code)


class TestAdmin:
    def test_is_at_the_path_that_is_set(self) -> None:
        # Routes are read once: what another path does is tried by another process in tests/runtime/test_deploy.py.
        assert reverse("admin:index") == f"/{settings.NOBURN_ADMIN_PATH}/"
        assert superuser().get(reverse("admin:index")).status_code == 200
