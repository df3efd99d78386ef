"""The frame around every page: on any size, in any light, with a keyboard alone, without JavaScript."""

from __future__ import annotations

import pytest

from tests.browser.browsing import OF_LOOKS, Browsing, Person, violations


@pytest.fixture(scope="module")
def alice(browsing: Browsing) -> Person:
    return browsing.person(tenant="frame")


class TestFrame:
    def test_is_gone_through_by_keyboard(self, browsing: Browsing, alice: Person) -> None:
        with browsing.page(alice) as page:
            page.goto(f"/t/{alice.tenant}/settings")
            page.keyboard.press("Tab")
            assert page.evaluate("document.activeElement.className") == "skip"
            page.keyboard.press("Enter")
            page.keyboard.press("Tab")
            assert page.evaluate("document.activeElement.name") == "name"

    def test_opens_its_menu_on_a_phone_without_javascript(self, browsing: Browsing, alice: Person) -> None:
        with browsing.page(alice, size="phone", scripts=False) as page:
            page.goto(f"/t/{alice.tenant}/settings")
            audit = page.get_by_role("link", name="Audit log")
            assert not audit.is_visible()
            page.get_by_role("link", name="Menu").click()
            audit.click()
            page.wait_for_url("**/audit")

    def test_keeps_the_chosen_colours(self, browsing: Browsing, alice: Person) -> None:
        with browsing.page(alice, scheme="light") as page:
            page.goto(f"/t/{alice.tenant}/settings")
            before = page.evaluate("getComputedStyle(document.body).backgroundColor")
            page.get_by_role("button", name="Dark").click()
            page.reload()
            assert page.evaluate("getComputedStyle(document.body).backgroundColor") != before
            assert violations(page, rules=OF_LOOKS) == []

    def test_shows_what_is_wrong_at_its_field(self, browsing: Browsing, alice: Person) -> None:
        with browsing.page(alice) as page:
            page.goto(f"/t/{alice.tenant}/settings")
            days = page.get_by_label("Days for which decisions are kept")
            days.fill("4000")
            page.get_by_role("button", name="Save").click()
            assert page.get_by_text("Must be between 1 and 400.").is_visible()
            assert days.get_attribute("aria-invalid") == "true"
            assert violations(page) == []
