"""Signing up and in: what strangers learn, how often they may try, the second factor, invitations, tenants founded."""

from __future__ import annotations

import re
from itertools import count
from threading import Barrier, Thread
from typing import Any
from unittest.mock import patch

import pytest
from allauth.mfa.recovery_codes.internal.auth import RecoveryCodes
from allauth.mfa.totp.internal.auth import (
    TOTP,
    format_hotp_value,
    generate_totp_secret,
    hotp_value,
    yield_hotp_counters_from_time,
)
from django.core.mail import EmailMessage
from django.db import connection
from django.test import Client
from django.urls import reverse

from noburn.kit.clock import utc_now
from tenants.models import Member, Role, Tenant, User
from tenants.services.founding import found_tenant
from tenants.services.tenants import InvalidTenant
from tests.support.operators import signed_in, with_second_factor
from tests.tenants.cast import Cast, make_tenant, unique

pytestmark = pytest.mark.real_db

PASSWORD = "correct horse battery"
LOGIN, SIGNUP = "/account/login/", "/account/signup/"
_addresses = count(1)


def browser() -> Client:
    """A browser at an address of its own, since attempts are counted by address."""
    number = next(_addresses)
    return Client(REMOTE_ADDR=f"10.1.{number // 250}.{number % 250 + 1}")


def person(password: str | None = PASSWORD) -> User:
    return User.objects.create_user(f"{unique('person')}@example.com", password)


def signs_in(client: Client, user: User, password: str = PASSWORD) -> Any:
    return client.post(LOGIN, {"login": user.email, "password": password})


@pytest.fixture(autouse=True)
def _open_to_strangers(settings: Any) -> None:
    """These tests share a database with tenants of others, after whose first it would be closed."""
    settings.NOBURN_SIGNUP = "open"


class TestSigningUp:
    def test_makes_a_person_and_leads_to_a_first_tenant(self) -> None:
        client, email = browser(), f"{unique('New')}@Example.com"
        answer = client.post(SIGNUP, {"email": email, "password1": PASSWORD}, follow=True)
        assert answer.redirect_chain[-1] == ("/tenants/new", 302)
        user = User.objects.get(email=email.lower())
        assert user.check_password(PASSWORD)

    def test_does_not_tell_whether_an_address_is_known(
        self, settings: Any, mailoutbox: list[EmailMessage]
    ) -> None:
        settings.ACCOUNT_EMAIL_VERIFICATION = "mandatory"
        known, unknown = person().email, f"{unique('nobody')}@example.com"
        answers = [
            browser().post(SIGNUP, {"email": email, "password1": PASSWORD}) for email in (known, unknown)
        ]
        assert {(each.status_code, each["Location"]) for each in answers} == {
            (302, "/account/confirm-email/")
        }
        assert [(each.to, "already" in each.subject.lower()) for each in mailoutbox] == [
            ([known], True),
            ([unknown], False),
        ]

    def test_waits_for_the_address_to_be_confirmed(
        self, settings: Any, mailoutbox: list[EmailMessage]
    ) -> None:
        settings.ACCOUNT_EMAIL_VERIFICATION = "mandatory"
        client, email = browser(), f"{unique('new')}@example.com"
        client.post(SIGNUP, {"email": email, "password1": PASSWORD})
        assert client.get("/tenants")["Location"].startswith(LOGIN)
        link = re.search(r"http://testserver(/account/confirm-email/\S+)", str(mailoutbox[0].body))
        assert link is not None
        client.post(link[1])
        assert signs_in(client, User.objects.get(email=email))["Location"] == "/enter"

    def test_is_closed_to_strangers_where_it_is_said(self, settings: Any) -> None:
        settings.NOBURN_SIGNUP = "closed"
        email = f"{unique('stranger')}@example.com"
        answer = browser().post(SIGNUP, {"email": email, "password1": PASSWORD})
        assert b"closed" in answer.content.lower()
        assert not User.objects.filter(email=email).exists()

    def test_is_open_until_there_is_a_tenant(self, settings: Any) -> None:
        settings.NOBURN_SIGNUP = "first"
        # The tenants of this database are others'; of none there must be this much to see.
        with patch("tenants.services.founding.Tenant.objects.exists", return_value=False):
            first = browser()
            page = first.post(SIGNUP, {"email": f"{unique('first')}@example.com", "password1": PASSWORD})
            assert page.status_code == 302
            assert b"Sign up" in browser().get("/").content
            made = first.post("/tenants/new", {"name": unique("First"), "time_zone": "UTC"})
            assert made.status_code == 302
        email = f"{unique('second')}@example.com"
        assert b"closed" in browser().post(SIGNUP, {"email": email, "password1": PASSWORD}).content.lower()
        assert not User.objects.filter(email=email).exists()
        assert b"Sign up" not in browser().get("/").content
        # Who signed up in time, but was not the first to found, founds nothing.
        late = first.post("/tenants/new", {"name": unique("Late"), "time_zone": "UTC"})
        assert late.status_code == 400

    def test_lets_one_of_two_found_the_first_tenant(self, settings: Any) -> None:
        """The second waits for the first's commit, and sees the tenant."""
        settings.NOBURN_SIGNUP = "first"
        there: list[bool] = []
        with (
            patch("tenants.services.founding.Tenant.objects.exists", side_effect=lambda: bool(there)),
            patch("tenants.services.founding.create_tenant") as create,
        ):
            decided, both = [], Barrier(2)
            create.side_effect = lambda **_: there.append(True)

            def founds() -> None:
                user = person()
                both.wait(timeout=60)
                try:
                    found_tenant(user=user, name="One", slug="one", time_zone="UTC", now=utc_now())
                    decided.append("founded")
                except InvalidTenant:
                    decided.append("refused")
                finally:
                    connection.close()

            threads = [Thread(target=founds) for _ in range(2)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        assert sorted(decided) == ["founded", "refused"]


class TestSigningIn:
    def test_answers_a_wrong_password_and_an_unknown_address_alike(self) -> None:
        known, unknown = person(), User(email=f"{unique('nobody')}@example.com")
        texts = []
        for user in (known, unknown):
            answer = signs_in(browser(), user, "wrong")
            errors = answer.context["form"].non_field_errors()
            texts.append((answer.status_code, list(errors)))
        assert texts[0] == texts[1]
        assert texts[0][1]

    def test_is_refused_after_five_wrong_passwords_with_the_right_one_too(self) -> None:
        user = person()
        # From as many addresses, since this is about the account.
        for _ in range(5):
            signs_in(browser(), user, "wrong")
        answer = signs_in(browser(), user)
        assert (answer.status_code, answer["Retry-After"]) == (429, "300")
        assert "Too many failed" in str(answer.context["form"].non_field_errors())

    def test_is_counted_in_the_database_for_all_processes(self) -> None:
        user = person()
        signs_in(browser(), user, "wrong")
        with connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM noburn_cache WHERE cache_key LIKE %s", ["%login_failed%"])
            assert cursor.fetchone()[0] >= 1

    def test_asks_for_the_second_factor_and_takes_a_recovery_code_once(self) -> None:
        user, secret = person(), generate_totp_secret()
        TOTP.activate(user, secret)
        codes = RecoveryCodes.activate(user).get_unused_codes()
        client = browser()
        assert signs_in(client, user)["Location"].startswith(reverse("mfa_authenticate"))
        assert client.get("/tenants")["Location"].startswith(LOGIN)
        assert client.post(reverse("mfa_authenticate"), {"code": "000000"}).status_code == 200
        counter = next(iter(yield_hotp_counters_from_time()))
        code = format_hotp_value(hotp_value(secret, counter))
        assert client.post(reverse("mfa_authenticate"), {"code": code})["Location"] == "/enter"
        for expected in (302, 200):
            other = browser()
            signs_in(other, user)
            assert other.post(reverse("mfa_authenticate"), {"code": codes[0]}).status_code == expected

    def test_shows_and_ends_other_sessions(self) -> None:
        user, here, there = person(), browser(), browser()
        for client in (here, there):
            signs_in(client, user)
            client.get("/tenants")
        assert len(here.get("/account/sessions/").context["sessions"]) == 2
        here.post("/account/sessions/")
        assert there.get("/tenants")["Location"].startswith(LOGIN)
        assert here.get("/tenants").status_code == 200


class TestOperators:
    ADMIN = "/admin/"

    def operator(self) -> User:
        return User.objects.create_superuser(f"{unique('op')}@example.com", PASSWORD)

    def test_sign_in_where_everybody_does(self) -> None:
        client, user = browser(), self.operator()
        answer = client.get(self.ADMIN, follow=True)
        assert answer.redirect_chain[-1][0] == f"{LOGIN}?next=/admin/"
        answer = client.post(f"{LOGIN}?next=/admin/", {"login": user.email, "password": PASSWORD})
        assert answer["Location"] == self.ADMIN
        # Without a second factor they see no page of it, and are led to where they set one up.
        for path in (self.ADMIN, "/admin/tenants/apikey/", "/admin/money/ledger/"):
            assert client.get(path)["Location"] == reverse("mfa_activate_totp")
        with_second_factor(user)
        assert client.get(self.ADMIN).status_code == 200

    def test_give_no_password_to_the_admin_itself(self) -> None:
        client, user = browser(), self.operator()
        answer = client.post(
            reverse("admin:login"), {"username": user.email, "password": PASSWORD, "next": self.ADMIN}
        )
        assert answer["Location"].startswith(LOGIN)
        assert client.get(self.ADMIN).status_code == 302

    def test_are_asked_for_their_second_factor(self) -> None:
        client, user = browser(), self.operator()
        TOTP.activate(user, generate_totp_secret())
        codes = RecoveryCodes.activate(user).get_unused_codes()
        answer = client.post(f"{LOGIN}?next=/admin/", {"login": user.email, "password": PASSWORD})
        assert answer["Location"].startswith(reverse("mfa_authenticate"))
        assert client.get(self.ADMIN).status_code == 302
        answer = client.post(answer["Location"], {"code": codes[0]})
        assert answer["Location"] == self.ADMIN
        assert client.get(self.ADMIN).status_code == 200

    def test_are_refused_after_five_wrong_passwords(self) -> None:
        user = self.operator()
        for _ in range(5):
            browser().post(f"{LOGIN}?next=/admin/", {"login": user.email, "password": "wrong"})
        client = browser()
        client.post(f"{LOGIN}?next=/admin/", {"login": user.email, "password": PASSWORD})
        assert client.get(self.ADMIN).status_code == 302

    def test_need_not_confirm_an_address_that_was_given_at_the_machine(
        self, settings: Any, mailoutbox: list[EmailMessage]
    ) -> None:
        settings.ACCOUNT_EMAIL_VERIFICATION = "mandatory"
        client, user = browser(), self.operator()
        assert signs_in(client, user)["Location"] == "/enter"
        assert client.get(self.ADMIN)["Location"] == reverse("mfa_activate_totp")
        stranger, email = browser(), f"{unique('new')}@example.com"
        stranger.post(SIGNUP, {"email": email, "password1": PASSWORD})
        User.objects.filter(email=email).update(is_staff=True)
        assert signs_in(stranger, User.objects.get(email=email))["Location"] == "/account/confirm-email/"

    def test_are_led_nowhere_else(self) -> None:
        client = signed_in(self.operator())
        assert client.get("/admin/login/?next=//evil.example/")["Location"] == self.ADMIN

    def test_are_not_everybody(self) -> None:
        answer = signed_in(person()).get(self.ADMIN, follow=True)
        assert answer.status_code == 403
        assert "This is for operators" in answer.content.decode()


class TestInvitation:
    def invite(self, cast: Cast, email: str, role: str = "viewer") -> Any:
        owner = signed_in(cast.alice.user)
        return owner.post(f"/t/{cast.tenant.slug}/team/invite", {"email": email, "role": role}, follow=True)

    def test_lets_a_new_person_choose_a_password_once(
        self, cast: Cast, mailoutbox: list[EmailMessage]
    ) -> None:
        email = f"{unique('bob')}@example.com"
        assert "was sent an e-mail" in self.invite(cast, email).content.decode()
        link = re.search(r"http://\S+?(/account/password/reset/key/\S+)", str(mailoutbox[0].body))
        assert link is not None
        client = browser()
        page = client.get(link[1])
        client.post(page["Location"], {"password1": PASSWORD, "password2": PASSWORD})
        user = User.objects.get(email=email)
        assert signs_in(client, user)["Location"] == "/enter"
        assert client.get("/enter", follow=True).redirect_chain[0][0] == f"/t/{cast.tenant.slug}/"
        assert b"token_fail" in browser().get(link[1]).content or browser().get(link[1]).status_code == 200

    def test_leads_a_known_person_to_the_tenant(self, cast: Cast, mailoutbox: list[EmailMessage]) -> None:
        user = person()
        self.invite(cast, user.email)
        assert f"/t/{cast.tenant.slug}/" in str(mailoutbox[0].body)
        assert "password" not in str(mailoutbox[0].body).lower()

    def test_holds_where_no_mail_can_be_sent(self, cast: Cast) -> None:
        email = f"{unique('bob')}@example.com"
        with patch("tenants.services.invitations.send_mail", side_effect=ConnectionRefusedError):
            answer = self.invite(cast, email)
        assert "no e-mail could be sent" in answer.content.decode()
        assert Member.objects.filter(tenant=cast.tenant, user__email=email).exists()

    def test_by_an_admin_makes_no_owner(self, cast: Cast) -> None:
        Member.objects.filter(pk=cast.bob.pk).update(role=Role.ADMIN)
        admin = signed_in(cast.bob.user)
        answer = admin.post(f"/t/{cast.tenant.slug}/team/invite", {"email": "x@example.com", "role": "owner"})
        assert answer.status_code == 400
        assert "Only an owner makes another owner." in answer.content.decode()


class TestFounding:
    def test_takes_another_slug_where_the_name_is_taken(self) -> None:
        slugs = []
        name = unique("Same Name")
        for _ in range(2):
            client = signed_in(person())
            client.post("/tenants/new", {"name": name, "slug": "", "time_zone": "UTC"})
            slugs.append(Tenant.objects.filter(name=name).order_by("-pk")[0].slug)
        assert slugs[1].startswith(f"{slugs[0]}-")

    def test_says_what_is_wrong_at_its_field(self) -> None:
        taken = make_tenant("taken").tenant.slug
        client = signed_in(person())
        answer = client.post("/tenants/new", {"name": "Acme", "slug": taken, "time_zone": "UTC"})
        assert answer.status_code == 400
        assert answer.context["form"].errors == {"slug": ["Is taken by another tenant."]}

    def test_ends_at_so_many_of_one_mailbox(self, settings: Any) -> None:
        settings.NOBURN_TENANTS_PER_PERSON = 1
        user = person()
        local, _, domain = user.email.partition("@")
        other = User.objects.create_user(f"{local}+again@{domain}", PASSWORD)
        statuses = [
            signed_in(who).post("/tenants/new", {"name": unique("One"), "time_zone": "UTC"}).status_code
            for who in (user, user, other, person())
        ]
        assert statuses == [302, 400, 400, 302]
        assert Member.objects.filter(user__in=[user, other]).count() == 1

    def test_is_for_nobody_where_the_installation_is_closed(self, settings: Any) -> None:
        settings.NOBURN_SIGNUP = "closed"
        user = person()
        client = signed_in(user)
        assert client.post("/tenants/new", {"name": "Acme", "time_zone": "UTC"}).status_code == 400
        assert Member.objects.filter(user=user).count() == 0

    def test_of_several_tenants_gives_a_choice(self) -> None:
        one, two = make_tenant("one"), make_tenant("two")
        Member.objects.create(tenant=two.tenant, user=one.user, role=Role.VIEWER)
        client = signed_in(one.user)
        assert client.get("/enter")["Location"] == "/tenants"
        shown = client.get("/tenants").content.decode()
        assert all(f"/t/{each.tenant.slug}/" in shown for each in (one, two))
