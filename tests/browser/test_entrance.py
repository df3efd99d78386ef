"""The entrance, a tenant's keys and team, and a person's own account; the way through them is in test_story.py."""

from __future__ import annotations

import subprocess
from uuid import uuid4

import pytest

from tests.browser.browsing import LOOKS, TWO_LOOKS, Browsing, Person, unsound, unsound_pages

PASSWORD = "correct horse battery"


OWN = ("start", "keys", "keys/new", "team", "team/invite", "audit", "settings")
ACCOUNT = ("/tenants", "/tenants/new", "/account/email/", "/account/sessions/", "/account/2fa/")
ENTRANCE = ("/", "/account/login/", "/account/signup/", "/account/password/reset/", "/nothing-here")


@pytest.fixture(scope="module")
def alice(browsing: Browsing) -> Person:
    return browsing.person(tenant="pages")


class TestSigningUp:
    def test_works_without_javascript(self, browsing: Browsing) -> None:
        with browsing.page(size="phone", scheme="dark", scripts=False) as page:
            page.goto("/account/signup/")
            page.get_by_label("Email").fill(f"charlie-{uuid4().hex}@plain.example")
            page.get_by_label("Password").fill(PASSWORD)
            page.get_by_role("button", name="Sign up").click()
            page.get_by_label("Name", exact=False).first.fill("Plain")
            page.get_by_role("button", name="Make the tenant").click()
            page.get_by_role("button", name="Make a key").click()
            command = page.locator("#code-curl").text_content() or ""
            subprocess.run(["bash", "-c", command], capture_output=True, check=True)
            # The call is in the log of decisions a moment later.
            come = page.get_by_text("A call has come.")
            for _ in range(200):
                page.get_by_role("link", name="look again").click()
                if come.count():
                    break
            assert come.count() == 1


class TestPages:
    @pytest.mark.parametrize("looks", [TWO_LOOKS, pytest.param(LOOKS, marks=pytest.mark.soak)])
    def test_have_no_serious_violation(
        self, browsing: Browsing, alice: Person, looks: tuple[tuple[str, str], ...]
    ) -> None:
        with browsing.page(alice) as page:
            own = {path: f"/t/{alice.tenant}/{path}" for path in OWN}
            assert unsound_pages(page, {**own, **{path: path for path in ACCOUNT}}, looks=looks) == []

    def test_of_the_entrance_have_none_either(self, browsing: Browsing) -> None:
        with browsing.page() as page:
            assert unsound_pages(page, {path: path for path in ENTRANCE}, looks=TWO_LOOKS) == []

    def test_ask_once_before_a_key_is_revoked(self, browsing: Browsing, alice: Person) -> None:
        with browsing.page(alice) as page:
            page.goto(f"/t/{alice.tenant}/keys")
            page.get_by_role("link", name="New key").click()
            page.get_by_label("Name", exact=False).first.fill("backend")
            page.get_by_role("button", name="Issue the key").click()
            assert unsound(page) == []
            page.get_by_role("link", name="I have it").click()
            page.get_by_role("link", name="Revoke backend").click()
            assert page.get_by_text("It cannot be undone.").is_visible()
            assert unsound(page) == []
            page.get_by_role("button", name="Revoke the key").click()
            assert page.get_by_text("“backend” is revoked.").is_visible()
            assert page.get_by_role("link", name="Revoke backend").count() == 0
