"""Overview, usage, budgets and customers as people see them: any size and light, no JavaScript, and the live feed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.browser.browsing import (
    LOOKS,
    TWO_LOOKS,
    Browsing,
    Person,
    pictures,
    unsound_pages,
)

TENANT = "acme-robotics"
WAIT_SECONDS = 60
CUSTOMERS = ("northwind", "globex", "initech", "umbrella", "hooli")
PICTURED = ("budgets", "decision")
MODELS = ("gpt-4o-mini", "gpt-4o", "claude-haiku-4-5")


@dataclass
class Shop:
    """A tenant with calls of several customers, some refused."""

    person: Person
    caller: httpx.Client
    budgets: dict[str, str]

    def place(self, customer: str, tokens: int, model: str = "gpt-4o") -> dict[str, Any]:
        """A pre-flight for a customer; its bound goes by the tokens."""
        body = {
            "model": model,
            "input_tokens": tokens,
            "max_output_tokens": tokens // 4,
            "subject": {"customer": customer},
        }
        return self._post("/v1/preflight", body)

    def settle(self, placed: dict[str, Any], tokens: int) -> None:
        """The settlement of what was allowed."""
        usage = {"input_tokens": tokens, "output_tokens": tokens // 5}
        self._post(
            "/v1/settle", {"authorization": placed["authorization"], "usage": usage, "latency_ms": 700}
        )

    def make(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """A thing of the management API."""
        return self._post(path, body)

    def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        answer = self.caller.post(path, json=body, headers={"Idempotency-Key": uuid4().hex})
        assert answer.status_code in (200, 201), answer.text
        found: dict[str, Any] = answer.json()
        return found

    def url(self, rest: str) -> str:
        """A page's address."""
        return f"/t/{self.person.tenant}/{rest}"


@pytest.fixture(scope="module")
def shop(browsing: Browsing) -> Iterator[Shop]:
    person = browsing.person(tenant=TENANT)
    tenant_id = browsing.running.manage(
        "shell", "--verbosity", "0", "-c",
        "import json; from noburn.kit import ids; from tenants.models import Tenant\n"
        f"print(json.dumps(ids.encode('ten', Tenant.objects.get(slug={TENANT!r}).pk)))",
    )  # fmt: skip
    secret = browsing.running.key(tenant_id)
    headers = {"Authorization": f"Bearer {secret}"}
    with httpx.Client(base_url=browsing.running.url, headers=headers, timeout=WAIT_SECONDS) as caller:
        made = Shop(person, caller, {})
        for name, body in {
            "each": {"scope": "customer", "window": "month", "limit_usd": "2"},
            "all": {"scope": "tenant", "window": "month", "limit_usd": "25", "name": "Everything together"},
            "day": {"scope": "model", "subject": "gpt-4o", "window": "day", "limit_usd": "5"},
            "shadow": {"scope": "user", "window": "day", "limit_usd": "0.5", "action": "warn"},
        }.items():
            made.budgets[name] = made.make("/v1/budgets", body)["id"]
        for number in range(14):
            customer = CUSTOMERS[number % 7 % 5]
            tokens = 30_000 + 25_000 * (number % 4)
            placed = made.place(customer, tokens, MODELS[number % 3])
            if placed["decision"] == "allow":
                made.settle(placed, tokens)
        assert made.place("northwind", 900_000)["reason"] == "budget_exceeded"
        _wait_until_counted(made)
        yield made


def _wait_until_counted(shop: Shop) -> None:
    """Returns once rollups and log show the calls."""
    for _ in range(600):
        usage = shop.caller.get("/v1/usage", params={"bucket": "none"}).json()
        denied = shop.caller.get("/v1/decisions", params={"decision": "deny"}).json()
        if usage["totals"]["requests"] >= 14 and denied["items"]:
            return
    raise AssertionError("the calls were never counted")


def pages(shop: Shop) -> dict[str, str]:
    """The pages that are looked at, by name."""
    customer = shop.caller.get("/v1/customers", params={"external_id": "northwind"}).json()["items"][0]["id"]
    denied = shop.caller.get("/v1/decisions", params={"decision": "deny"}).json()["items"][0]["id"]
    budget = f"budgets/{shop.budgets['each']}"
    return {
        "overview": "overview",
        "usage": "usage",
        "usage-models": "usage?by=model",
        "ledger": "usage/ledger",
        "decisions": "usage/decisions",
        "decision": f"usage/decisions/{denied}",
        "customers": "customers",
        "customer": f"customers/{customer}",
        "budgets": "budgets",
        "budget": budget,
        "budget-new": "budgets/new",
        "budget-import": "budgets/import",
        "budget-archive": f"{budget}/archive",
        "increase-new": f"{budget}/increases/new",
    }


class TestEveryPage:
    @pytest.mark.parametrize("looks", [TWO_LOOKS, pytest.param(LOOKS, marks=pytest.mark.soak)])
    def test_has_no_serious_violation_and_fits_its_window(
        self, browsing: Browsing, shop: Shop, looks: tuple[tuple[str, str], ...]
    ) -> None:
        with browsing.page(shop.person) as page:
            addresses = {name: shop.url(path) for name, path in pages(shop).items()}
            assert unsound_pages(page, addresses, looks=looks) == []
            for name in PICTURED:
                page.goto(addresses[name])
                pictures(page, name)


class TestFeed:
    def test_shows_a_refusal_as_it_happens(self, browsing: Browsing, shop: Shop) -> None:
        with browsing.page(shop.person) as page:
            page.goto(shop.url("overview"))
            page.get_by_text("Live", exact=True).wait_for()
            assert shop.place("late-bird", 900_000)["decision"] == "deny"
            page.locator(".feed li", has_text="late-bird").wait_for()


class TestEditing:
    def test_changes_a_customers_limit_in_its_row(self, browsing: Browsing, shop: Shop) -> None:
        with browsing.page(shop.person) as page:
            page.goto(shop.url(pages(shop)["customer"]))
            page.get_by_role("link", name="Change").first.click()
            limit = page.get_by_label("Limit")
            limit.fill("3.25")
            page.get_by_role("button", name="Save").click()
            page.get_by_text("The limit holds from the next call on.").wait_for()
            assert page.get_by_text("of $3.25").count() == 1

    def test_works_without_javascript(self, browsing: Browsing, shop: Shop) -> None:
        with browsing.page(shop.person, scripts=False) as page:
            page.goto(shop.url("budgets/new"))
            page.get_by_label("Counts calls of").select_option("user")
            page.get_by_label("Limit").fill("ten")
            page.get_by_role("button", name="Make the budget").click()
            assert page.get_by_text("Must be a decimal string").is_visible()
            page.get_by_label("Limit").fill("10")
            page.get_by_role("button", name="Make the budget").click()
            page.get_by_role("link", name="Archive").click()
            page.get_by_role("button", name="Archive it").click()
            page.get_by_text("The budget is archived.").wait_for()

    def test_finds_a_customer_while_typing(self, browsing: Browsing, shop: Shop) -> None:
        with browsing.page(shop.person) as page:
            page.goto(shop.url("customers"))
            page.get_by_label("Id or name").press_sequentially("glob")
            page.get_by_role("link", name="northwind").wait_for(state="detached")
            assert page.get_by_role("link", name="globex").is_visible()
