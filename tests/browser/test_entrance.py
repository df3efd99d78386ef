"""From signing up to the first refused call, as somebody does it who has never seen noburn."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from tests.browser.browsing import LOOKS, Browsing, Person, screenshot, scrolls_sideways, violations

if TYPE_CHECKING:
    from playwright.sync_api import Page

PASSWORD = "correct horse battery"


def sound(page: Page) -> None:
    """The page as it stands has no serious violation and fits its window."""
    assert violations(page) == [], page.url
    assert not scrolls_sideways(page), page.url


@pytest.fixture(scope="module")
def alice(browsing: Browsing) -> Person:
    return browsing.person(tenant="pages")


class TestSigningUp:
    def test_leads_to_a_refused_call(self, browsing: Browsing) -> None:
        with browsing.page() as page:
            page.goto("/")
            sound(page)
            page.get_by_role("link", name="Sign up").click()
            sound(page)
            page.get_by_label("Email").fill(f"alice-{uuid4().hex}@acme.example")
            page.get_by_label("Password").fill(PASSWORD)
            page.get_by_role("button", name="Sign up").click()

            page.get_by_label("Name", exact=False).first.fill("Acme Robotics")
            page.get_by_label("Time zone").select_option("Europe/Berlin")
            sound(page)
            page.get_by_role("button", name="Make the tenant").click()
            page.wait_for_url("**/t/acme-robotics*/start")
            screenshot(page, "start-desktop-light")

            page.get_by_role("button", name="Make a key").click()
            key = page.locator("#code-api-key").inner_text()
            assert key.startswith("nb_live_")
            assert page.get_by_text("Waiting for the first call").is_visible()
            sound(page)
            command = page.locator("#code-curl").text_content() or ""
            assert key in command
            called = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
            assert '"decision":"allow"' in called.stdout.replace(": ", ":")
            page.get_by_text("A call has come.").wait_for()

            page.reload()
            assert page.get_by_text("A call has come.").is_visible()
            assert page.get_by_text(key).count() == 0
            page.get_by_label("Limit in USD").fill("ten")
            page.get_by_role("button", name="Make the budget").click()
            assert page.locator("[aria-invalid=true]").count() == 1
            page.get_by_label("Limit in USD").fill("10")
            page.get_by_role("button", name="Make the budget").click()
            assert page.get_by_text("The budget is in force").is_visible()

            page.get_by_role("button", name="Run the loop").click()
            assert page.get_by_text("allowed", exact=True).count() == 4
            assert page.get_by_text("budget_exceeded").count() == 6
            sound(page)
            page.get_by_role("status").filter(has_text="were refused").scroll_into_view_if_needed()
            screenshot(page, "refused-desktop-light")

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
            screenshot(page, "start-phone-dark")


class TestPages:
    @pytest.mark.parametrize(("size", "scheme"), LOOKS)
    def test_have_no_serious_violation(
        self, browsing: Browsing, alice: Person, size: str, scheme: str
    ) -> None:
        with browsing.page(alice, size=size, scheme=scheme) as page:
            for path in ("start", "keys", "keys/new", "team", "team/invite", "audit", "settings"):
                page.goto(f"/t/{alice.tenant}/{path}")
                sound(page)
            for path in (
                "/tenants",
                "/tenants/new",
                "/account/email/",
                "/account/sessions/",
                "/account/2fa/",
            ):
                page.goto(path)
                sound(page)
            if (size, scheme) == ("phone", "dark"):
                page.goto(f"/t/{alice.tenant}/keys/new")
                screenshot(page, "key-phone-dark")

    def test_of_the_entrance_have_none_either(self, browsing: Browsing) -> None:
        with browsing.page(size="phone", scheme="dark") as page:
            for path in (
                "/",
                "/account/login/",
                "/account/signup/",
                "/account/password/reset/",
                "/nothing-here",
            ):
                page.goto(path)
                sound(page)

    def test_ask_once_before_a_key_is_revoked(self, browsing: Browsing, alice: Person) -> None:
        with browsing.page(alice) as page:
            page.goto(f"/t/{alice.tenant}/keys")
            page.get_by_role("link", name="New key").click()
            page.get_by_label("Name", exact=False).first.fill("backend")
            page.get_by_role("button", name="Issue the key").click()
            sound(page)
            page.get_by_role("link", name="I have it").click()
            page.get_by_role("link", name="Revoke backend").click()
            assert page.get_by_text("It cannot be undone.").is_visible()
            sound(page)
            page.get_by_role("button", name="Revoke the key").click()
            assert page.get_by_text("“backend” is revoked.").is_visible()
            assert page.get_by_role("link", name="Revoke backend").count() == 0
