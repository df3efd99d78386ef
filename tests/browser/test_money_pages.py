"""Pages about models, billing, alerts and the documents: nothing serious by axe, nothing wider than the window."""

from __future__ import annotations

import pytest

from tests.browser import money_data
from tests.browser.browsing import LOOKS, TWO_LOOKS, Browsing, Person, pictures, unsound_pages, violations

PAGES = {
    "models": "models",
    "model": "models/one?provider=openai&model=gpt-4o-mini",
    "compare": "models/compare?models=openai/gpt-4.1-nano,anthropic/claude-haiku-4-5",
    "negotiated": "models/negotiated",
    "negotiated-new": "models/negotiated/new",
    "unknown": "models/unknown",
    "billing": "billing",
    "cards": "billing/cards",
    "card": "billing/cards/{card}",
    "card-new": "billing/cards/new",
    "card-preview": "billing/cards/{card}/preview?period=this-month",
    "assign": "billing/cards/assign",
    "wallets": "billing/wallets",
    "wallet": "billing/wallets/{wallet}",
    "wallet-close": "billing/wallets/{wallet}/close",
    "journal": "billing/wallets/{wallet}/journal",
    "stripe": "billing/stripe",
    "invoices": "billing/invoices",
    "invoice": "billing/invoices/{invoice}",
    "reconciliation": "billing/reconciliation",
    "reissue": "billing/measurements/{stuck}/reissue",
    "plan": "billing/plan",
    "policies": "policies",
    "policy": "policies/{policy}",
    "policy-new": "policies/new?from=example",
    "policy-json": "policies/{policy}/edit?as=json",
    "policy-archive": "policies/{policy}/archive",
    "guards": "guards",
    "guard": "guards/{guard}",
    "guard-kinds": "guards/new",
    "guard-new": "guards/new?kind=velocity",
    "runs": "runs",
    "run": "runs/one?run=research-42",
    "run-below": "runs/one?run=research-42/reader",
    "run-stop": "runs/one/stop?run=research-42",
    "reratings": "models/reratings",
    "rerating-new": "models/reratings/new",
    "rerating": "models/reratings/{rerating}",
    "rerating-apply": "models/reratings/{rerating}/apply",
    "presumed": "billing/presumed?customer=acme",
    "presumed-approve": "billing/presumed/approve?customer=acme",
    "presumed-approved": "billing/presumed/approved",
    "alerts": "alerts",
    "destinations": "alerts/destinations",
    "destination-new": "alerts/destinations/new",
    "destination": "alerts/destinations/{hook}",
    "deliveries": "alerts/deliveries",
    "delivery": "alerts/deliveries/{delivery}",
    "thresholds": "alerts/thresholds",
}
EMPTY = (
    "billing",
    "billing/cards",
    "billing/wallets",
    "billing/stripe",
    "billing/invoices",
    "alerts",
    "models/compare",
    "policies",
    "guards",
    "runs",
    "models/reratings",
    "billing/presumed",
)
DOCS = {
    "docs": "/docs/",
    "docs-page": "/docs/billing",
    "docs-search": "/docs/search?q=wallet",
    "docs-api": "/docs/reference/wallets",
}
KEPT = ("billing", "reconciliation")
"""Of which docs/screenshots has pictures."""


@pytest.fixture(scope="module")
def alice(browsing: Browsing) -> Person:
    return browsing.person(tenant="money")


@pytest.fixture(scope="module")
def made(browsing: Browsing, alice: Person) -> dict[str, str]:
    return money_data.make(browsing.running, alice.tenant)


def addresses(alice: Person, made: dict[str, str]) -> list[tuple[str, str]]:
    own = [(name, f"/t/{alice.tenant}/{path.format(**made)}") for name, path in PAGES.items()]
    return [*own, *DOCS.items(), ("embed", made["embed"])]


class TestPages:
    @pytest.mark.parametrize("looks", [TWO_LOOKS, pytest.param(LOOKS, marks=pytest.mark.soak)])
    def test_have_no_serious_violation(
        self,
        browsing: Browsing,
        alice: Person,
        made: dict[str, str],
        looks: tuple[tuple[str, str], ...],
    ) -> None:
        with browsing.page(alice) as page:
            found = dict(addresses(alice, made))
            assert unsound_pages(page, found, looks=looks) == []
            for name in KEPT:
                page.goto(found[name])
                pictures(page, name)

    def test_say_what_to_do_where_nothing_is_yet(self, browsing: Browsing) -> None:
        bob = browsing.person(tenant="nothing-yet")
        with browsing.page(bob, size="phone") as page:
            for path in EMPTY:
                page.goto(f"/t/{bob.tenant}/{path}")
                assert page.locator(".empty, .steps").count(), path
                assert violations(page) == [], path


class TestWithoutScripts:
    def test_a_wallet_is_given_credit(self, browsing: Browsing, alice: Person, made: dict[str, str]) -> None:
        with browsing.page(alice, scripts=False) as page:
            page.goto(f"/t/{alice.tenant}/billing/wallets/{made['wallet']}")
            page.get_by_role("link", name="Give credit").click()
            page.get_by_label("Amount, USD").fill("abc")
            page.get_by_role("button", name="Give it").click()
            assert page.locator("[aria-invalid=true]").count() == 1
            page.get_by_label("Amount, USD").fill("7.50")
            page.get_by_role("button", name="Give it").click()
            assert page.get_by_text("The credit is there.").is_visible()
            assert page.get_by_text("$7.50").count() >= 1

    def test_a_policy_is_put_together_tried_and_saved(
        self, browsing: Browsing, alice: Person, made: dict[str, str]
    ) -> None:
        with browsing.page(alice, scripts=False) as page:
            page.goto(f"/t/{alice.tenant}/policies/new?from=example")
            page.get_by_role("button", name="Move down rule 1").click()
            page.get_by_role("button", name="Remove rule 3").click()
            assert page.get_by_label("Name of the rule").first.input_value() == "long input"
            page.get_by_label("Name of the rule").first.fill("")
            page.get_by_role("button", name="Try it").click()
            assert page.locator("[aria-invalid=true]").count() == 1
            page.get_by_label("Name of the rule").first.fill("what is long")
            page.get_by_role("button", name="Try it").click()
            assert page.get_by_text("Calls looked at").is_visible()
            page.get_by_role("button", name="Make the policy").first.click()
            assert page.get_by_text("Version 1 is saved.").is_visible()


class TestWithScripts:
    def test_a_filter_swaps_the_rows_alone(
        self, browsing: Browsing, alice: Person, made: dict[str, str]
    ) -> None:
        with browsing.page(alice) as page:
            page.goto(f"/t/{alice.tenant}/billing/wallets")
            page.get_by_label("Customer").fill("initech")
            page.get_by_role("link", name="acme").wait_for(state="detached")
            assert page.get_by_role("link", name="initech").is_visible()
            assert page.url.endswith("q=initech")

    def test_a_snippet_of_the_docs_can_be_copied(self, browsing: Browsing) -> None:
        with browsing.page() as page:
            page.context.grant_permissions(["clipboard-read", "clipboard-write"])
            page.goto("/docs/compare")
            page.get_by_role("button", name="Copy").first.click()
            page.get_by_text("Copied").wait_for()
            assert "GET /v1/compare" in page.evaluate("navigator.clipboard.readText()")


class TestEmbed:
    def test_is_framed_by_the_site_that_its_token_names_alone(
        self, browsing: Browsing, made: dict[str, str]
    ) -> None:
        with browsing.page() as page:
            page.goto(made["embed"])
            assert page.get_by_role("heading", name="Balance of Acme").is_visible()
            assert page.get_by_text("Credit").is_visible()
