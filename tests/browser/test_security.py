"""What no page may do: run, load or frame what is not ours. Every page that a test here opens fails on a violation."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, Response

from tests.browser.browsing import SIGN_IN, Browsing, Person, unsound

ADMIN = (
    "",
    "tenants/tenant/",
    "tenants/apikey/",
    "tenants/auditentry/",
    "alerts/alert/",
    "budgets/budget/",
    "billing/stripeaccount/",
    "money/counters/",
    "money/epochs/",
    "money/ledger/",
    "money/verify/",
)
DOCUMENTS = (
    "/docs/",
    "/docs/reference",
    "/docs/search?q=budget",
    "/docs/problems/too-many-requests",
    "/docs/gateway",
)


@pytest.fixture(scope="module")
def alice(browsing: Browsing) -> Person:
    return browsing.person(tenant="secure")


@pytest.fixture(scope="module")
def operator(browsing: Browsing, alice: Person) -> Person:
    made = browsing.running.manage(
        "shell", "--verbosity", "0", "-c", _MAKE_OPERATOR.format(email=alice.email)
    )
    return Person(alice.email, alice.password, str(made["session"]), alice.tenant)


def opened(page: Page, path: str) -> Response:
    answer = page.goto(path)
    assert answer is not None
    return answer


class TestPolicy:
    def test_is_kept_by_every_page_of_the_admin(self, browsing: Browsing, operator: Person) -> None:
        with browsing.page(operator) as page:
            for path in ADMIN:
                answer = opened(page, f"/admin/{path}")
                assert answer.status == 200, path
                script = answer.headers["content-security-policy"].split("script-src ")[1].split(";")[0]
                assert "unsafe-inline" not in script
            page.goto("/admin/tenants/tenant/")
            page.get_by_role("link", name="secure", exact=True).click()
            page.wait_for_url("**/change/")

    def test_is_kept_by_the_documents(self, browsing: Browsing) -> None:
        with browsing.page() as page:
            for path in DOCUMENTS:
                assert opened(page, path).status == 200, path

    def test_stops_a_script_and_a_style_within_a_page(self, browsing: Browsing, alice: Person) -> None:
        def breaks() -> None:
            with browsing.page(alice) as page:
                page.goto(f"/t/{alice.tenant}/settings")
                page.evaluate(_BREAK)
                assert page.evaluate("window.ran === undefined")

        with pytest.raises(AssertionError, match="script-src") as broken:
            breaks()
        assert "style-src" in str(broken.value)

    def test_lets_nobody_frame_a_page(self, browsing: Browsing, alice: Person) -> None:
        with browsing.page(alice) as page:
            answers = [opened(page, path) for path in (f"/t/{alice.tenant}/keys", "/account/login/", "/")]
        for answer in answers:
            assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
            assert answer.headers["x-frame-options"] == "DENY"
            assert answer.headers["referrer-policy"] == "same-origin"
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert "camera=()" in answer.headers["permissions-policy"]


class TestSecondFactor:
    def test_is_what_a_member_is_led_to(self, browsing: Browsing, alice: Person) -> None:
        bob = browsing.person(tenant=alice.tenant, role="viewer")
        browsing.running.manage("shell", "--verbosity", "0", "-c", _REQUIRE.format(slug=alice.tenant))
        try:
            with browsing.page(bob) as page:
                page.goto(f"/t/{alice.tenant}/usage")
                assert "asks its members for a second factor" in page.content()
                page.get_by_label("Password").fill(bob.password)
                page.get_by_role("button", name="Confirm").click()
                page.wait_for_url("**/account/2fa/totp/activate/**")
                assert unsound(page) == []
        finally:
            browsing.running.manage("shell", "--verbosity", "0", "-c", _RELEASE.format(slug=alice.tenant))

    def test_is_asked_for_on_the_settings_page(self, browsing: Browsing, alice: Person) -> None:
        with browsing.page(alice) as page:
            page.goto(f"/t/{alice.tenant}/settings")
            box = page.get_by_label("Members need a second factor")
            assert not box.is_checked()
            assert unsound(page) == []
            box.check()
            page.get_by_role("button", name="Save").click()
            said = page.get_by_text("Set up a second factor of your own first.")
            assert said.is_visible()


_BREAK = """() => {
    const script = document.createElement("script");
    script.textContent = "window.ran = true";
    document.body.append(script);
    const button = document.createElement("button");
    button.setAttribute("onclick", "window.ran = true");
    document.body.append(button);
    button.click();
    const style = document.createElement("style");
    style.textContent = "body { color: red }";
    document.head.append(style);
}"""
_MAKE_OPERATOR = (
    """
from allauth.mfa.totp.internal.auth import TOTP, generate_totp_secret
from tenants.models import User
user = User.objects.create_superuser("operator-of-{email}", "correct horse battery")
TOTP.activate(user, generate_totp_secret())
"""
    + SIGN_IN
)
_REQUIRE = """
from tenants.models import Tenant
Tenant.objects.filter(slug={slug!r}).update(second_factor_required=True)
print("{{}}")
"""
_RELEASE = _REQUIRE.replace("True", "False")
