"""What docs/billing.md and docs/billing-stripe.md say to send is sent, every line of it, and answered as they say."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from django.core.management import call_command
from pytest_django.fixtures import Settings

from noburn.kit import ids

if TYPE_CHECKING:
    from tests.billing.book import Book
    from tests.doubles.stripe import StripeDouble
    from tests.support.api import Api

pytestmark = pytest.mark.real_db

DOCS = Path(__file__).resolve().parents[3] / "docs"
BLOCK = re.compile(r"^```\n(.*?)^```", re.MULTILINE | re.DOTALL)
REQUEST = re.compile(r"^(GET|POST|PATCH)\s+(\S+)\s*(.*)$")
PAGE = "https://a.example/back"


def lines(name: str) -> list[str]:
    """What a document has its reader type."""
    found = [line for block in BLOCK.findall((DOCS / name).read_text()) for line in block.splitlines()]
    return [line for line in found if REQUEST.match(line) or line.startswith("manage.py ")]


class Walk:
    """A tenant that follows the documents: what they leave open is filled in with what was answered before."""

    def __init__(self, book: Book, api: Api, double: StripeDouble, key: str) -> None:
        self.book, self.api, self.double, self.key = book, api, double, key
        self.now = datetime.now(UTC)
        self.known: dict[str, str] = {"rk": key}
        """By the prefix of an identity."""

    def fill(self, value: Any, field: str = "") -> Any:
        """An example's value as this tenant has it."""
        if isinstance(value, dict):
            return {name: self.fill(each, name) for name, each in value.items()}
        if isinstance(value, list):
            return [self.fill(each, field) for each in value]
        if field.endswith("_url"):
            return PAGE
        if field in ("starts_at", "ends_at", "expires_at"):
            days = {"starts_at": -2, "ends_at": 0, "expires_at": 30}[field]
            return hour(self.now + timedelta(days=days)).isoformat()
        if (field, value) == ("reason", "…"):
            return "the provider's invoice has them"
        if field == "stripe_customer":
            return self.double.client(self.key).v1.customers.create({"name": "acme"}).id
        if isinstance(value, str) and value.endswith("…"):
            prefix = value.partition("_")[0]
            return f"whsec_{uuid4().hex}" if prefix == "whsec" else self.known[prefix]
        return value

    def path(self, path: str) -> str:
        """An example's path; its months are the present one and the one before."""
        first = self.now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
        last = (first - timedelta(days=1)).replace(day=1)
        path = path.replace("2026-11-01T00:00:00Z", f"{first:%Y-%m-%dT%H:%M:%SZ}")
        path = path.replace("2026-10-01T00:00:00Z", f"{last:%Y-%m-%dT%H:%M:%SZ}")
        return re.sub(r"(rcd|wal|cus)_…", lambda found: self.known[found[1]], path)

    def follow(self, line: str) -> Any:
        """Types a line, and returns the answer's body. What follows the request is a remark."""
        found = REQUEST.match(line)
        assert found is not None
        method, path, rest = found.groups()
        body = json.JSONDecoder().raw_decode(rest)[0] if rest.startswith("{") else None
        answer = self.api.send(method, self.path(path), self.fill(body))
        assert 200 <= answer.status < 300, (line, answer)
        if method == "POST" and path in ("/v1/rate-cards", "/v1/wallets"):
            self.known[{"/v1/rate-cards": "rcd", "/v1/wallets": "wal"}[path]] = answer["id"]
        return answer.body

    def work(self) -> None:
        """What workers do about set-up and links."""
        from billing.services import stripe_links, stripe_setup
        from noburn.kit.clock import utc_now

        for _ in range(50):
            if not stripe_setup.set_up_due(now=utc_now()) + stripe_links.link_due(now=utc_now()):
                return
        raise AssertionError("set-up does not end")


def hour(at: datetime) -> datetime:
    return at.replace(minute=0, second=0, microsecond=0)


@pytest.fixture
def walk(book: Book, stripe_double: StripeDouble) -> Iterator[Walk]:
    from tenants.models import Tenant
    from tests.billing.push.till import forget_others
    from tests.tenants.cast import api_of

    forget_others()
    stripe_double.set_clock(datetime.now(UTC).replace(microsecond=0))
    api = api_of(Tenant.objects.get(pk=book.tenant_id), "manage")
    made = Walk(book, api, stripe_double, f"rk_test_{uuid4().hex}")
    made.known["cus"] = api.post("/v1/customers", {"external_id": "acme"})["id"]
    yield made
    forget_others()


class TestAfterwards:
    def test_goes_through_stripe_as_its_document_says(self, walk: Walk, capsys: Any) -> None:
        from tenants.models import Tenant

        slug = Tenant.objects.get(pk=walk.book.tenant_id).slug
        said: list[Any] = []
        for line in lines("billing-stripe.md"):
            if line.startswith("manage.py "):
                call_command(
                    *line.removeprefix("manage.py ").replace("--tenant acme", f"--tenant {slug}").split()
                )
                said.append(capsys.readouterr().out)
                continue
            said.append(walk.follow(line))
            walk.work()
        connected, shown, linked, anew, differences, reconciled, status = said
        assert connected["webhook_url"].startswith("http")
        assert connected["key_last4"] == walk.key[-4:]
        assert shown["state"] == "ready"
        assert linked["customer"] == anew["customer"] == "acme"
        assert differences["items"] == []
        assert slug in status
        assert "acme" not in reconciled


class TestBeforehand:
    def test_goes_through_cards_and_wallets_as_their_document_says(self, walk: Walk, capsys: Any) -> None:
        for line in lines("billing-stripe.md")[:4]:
            walk.follow(line)
            walk.work()
        walk.known["hold"] = ids.encode(
            ids.HOLD, walk.book.call("acme", walk.now, cost_nano=7, state="presumed")
        )
        walk.book.call("acme", walk.now - timedelta(days=1), cost_nano=9, state="presumed")
        walk.book.roll()
        said: dict[str, Any] = {}
        for line in lines("billing.md"):
            if line.startswith("manage.py "):
                call_command(*line.removeprefix("manage.py ").split())
            elif "/account/plan" not in line:
                said[" ".join(line.split()[:2])] = walk.follow(line)
        preview = said["GET /v1/customers/cus_…/invoice-preview"]
        assert {"total_usd", "models", "adjustments", "rate_cards"} <= {*preview}
        assert {"complete_through", "whole_period", "presumed_usd", "unbilled_usd"} <= {*preview}
        assert {"wallet_usd", "to_invoice_usd"} <= {*preview}
        assert said["POST /v1/presumed-approvals"]["more"] is False
        assert said["POST /v1/wallets/wal_…/top-ups"]["url"].startswith("https://")
        assert {"items", "totals"} <= {*said["GET /v1/revenue?from=2026-11-01T00:00:00Z"]}
        assert said["GET /v1/wallets/wal_…/journal"]["items"]

    def test_owes_what_the_example_says(self, walk: Walk) -> None:
        text = (DOCS / "billing.md").read_text().partition("### An example")[2]
        found = re.search(r"`(\{.*\})`", text)
        assert found is not None
        rows = re.findall(r"^\| (\d+) \|.*\| ([^|]*) \|$", text.partition("### Before")[0], re.MULTILINE)
        assert len(rows) == 3
        last = (
            walk.now.replace(day=1, hour=0, minute=0, second=0, microsecond=0) - timedelta(days=1)
        ).replace(day=1)
        for cost, _ in rows:
            walk.book.call(f"costs-{cost}", last + timedelta(days=3), cost_nano=int(cost) * 10**9)
        walk.book.roll()
        asked = {"terms": json.loads(found[1]), "starts_at": last.isoformat()}
        asked["ends_at"] = walk.now.replace(day=1, hour=0, minute=0, second=0, microsecond=0).isoformat()

        def owed(whole: bool) -> dict[str, Decimal]:
            answer = walk.api.post("/v1/rate-cards/preview", {**asked, "whole_period": whole})
            return {each["customer"]: Decimal(each["would_be_usd"]) for each in answer["items"]}

        so_far, whole = owed(False), owed(True)
        for cost, told in rows:
            figures = [Decimal(each) for each in re.findall(r"\d+", told.replace("so far", ""))]
            assert [so_far[f"costs-{cost}"], whole[f"costs-{cost}"]] == [figures[0], figures[-1]]


class TestOwnPlan:
    def test_is_bought_changed_and_left_as_the_document_says(
        self, walk: Walk, settings: Settings, request: pytest.FixtureRequest
    ) -> None:
        from tests.billing.plans.seller import PLATFORM_KEY, Seller

        settings.STRIPE_PLATFORM_KEY, settings.NOBURN_PLANS = PLATFORM_KEY, "hosted"
        seller = Seller(walk.book, walk.double)
        seller.now = walk.now
        settings.STRIPE_PLATFORM_WEBHOOK_SECRET = seller.open()
        done: Callable[[], None] = seller.close
        request.addfinalizer(done)
        said: dict[str, Any] = {}
        for line in lines("billing.md"):
            if "/account/plan" in line:
                said[line] = walk.follow(line)
                if "checkout" in line:
                    assert said[line]["url"].startswith("https://checkout.stripe.com/")
                    session = walk.double.objects("checkout_session", key=PLATFORM_KEY)[-1]
                    walk.double.pay_checkout(session["id"], key=PLATFORM_KEY)
                    seller.events()
        plan, _, preview, *changes, portal = said.values()
        assert [each["plan"] for each in plan["offers"]] == ["free", "team", "scale"]
        assert {"lines", "due_usd"} <= {*preview}
        assert changes[-1]["plan"] == "scale"
        assert portal["url"].startswith("https://billing.stripe.com/")
