"""Pages about models, billing and alerts: what they show, what they say of bad input, what stays secret."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import pytest

from noburn.kit import ids

if TYPE_CHECKING:
    from collections.abc import Iterator
    from uuid import UUID

    from django.test import Client

pytestmark = pytest.mark.real_db
KEY = "rk_test_" + "a1b2c3d4" * 4
SECRET = "whsec_" + "c3d4" * 6


@dataclass(frozen=True)
class At:
    """An owner's browser at a tenant of her own."""

    browser: Client
    slug: str
    tenant_id: UUID

    def get(self, path: str, **query: Any) -> Any:
        answer = self.browser.get(f"/t/{self.slug}/{path}", query)
        assert answer.status_code == 200, (path, answer.status_code, answer.text[:3000])
        return answer

    def post(self, path: str, status: int = 302, **data: Any) -> Any:
        answer = self.browser.post(f"/t/{self.slug}/{path}", data)
        assert answer.status_code == status, (path, answer.status_code, answer.text[:3000])
        return answer

    def last(self, answer: Any) -> str:
        """The last part of the address that an answer leads to."""
        return str(answer["Location"]).rpartition("/")[2]


@pytest.fixture(scope="module")
def alice(real_database: None) -> At:
    from budgets.services.price_seed import seed_prices
    from tests.support.operators import signed_in
    from tests.tenants.cast import make_tenant

    seed_prices()
    made = make_tenant("alice")
    return At(signed_in(made.user), made.tenant.slug, made.tenant.pk)


def text(answer: Any) -> str:
    return str(answer.text)


def rows(answer: Any) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(answer.content.decode())))


class TestEmpty:
    @pytest.mark.parametrize(
        ("path", "said"),
        [
            ("models/negotiated", "You pay list prices"),
            ("models/unknown", "Every model had a price"),
            ("models/compare", "No settled call in this period"),
            ("billing", "Say what customers pay"),
            ("billing/cards", "Nothing is billed yet"),
            ("billing/wallets", "Nobody pays beforehand"),
            ("billing/stripe", "Stripe is not connected"),
            ("billing/invoices", "No invoices yet"),
            ("billing/reconciliation", "Nothing was compared yet"),
            ("billing/plan", "This noburn is self-hosted"),
            ("alerts", "Nobody is told"),
            ("alerts/destinations", "Nobody is told yet"),
            ("alerts/deliveries", "Nothing was sent yet"),
            ("alerts/thresholds", "There is no budget yet"),
        ],
    )
    def test_says_what_to_do_next(self, real_database: None, path: str, said: str, bob: At) -> None:
        assert said in text(bob.get(path))


@pytest.fixture(scope="module")
def bob(real_database: None) -> At:
    """Somebody at a tenant in which nothing is yet."""
    from tests.support.operators import signed_in
    from tests.tenants.cast import make_tenant

    made = make_tenant("bob")
    return At(signed_in(made.user), made.tenant.slug, made.tenant.pk)


class TestModels:
    def test_finds_models_by_a_part_of_their_name(self, alice: At) -> None:
        page = text(alice.get("models", q="gpt-4o-mini", provider="openai"))
        assert "openai/gpt-4o-mini" in page
        assert "anthropic/claude" not in page
        assert "No such model" in text(alice.get("models", q="no-such-thing"))
        assert "$0.15" in text(alice.get("models/one", provider="openai", model="gpt-4o-mini"))

    def test_gives_all_rows_away_as_they_are_filtered(self, alice: At) -> None:
        found = rows(alice.get("models", provider="openai", format="csv"))
        assert {row["provider"] for row in found} == {"openai"}
        mini = next(row for row in found if row["model"] == "gpt-4o-mini")
        assert (mini["input_usd_per_million"], mini["output_usd_per_million"]) == ("0.15", "0.6")

    def test_adds_a_negotiated_price_and_ends_it(self, alice: At) -> None:
        page = text(alice.post("models/negotiated/new", 400, provider="openai", input="cheap"))
        assert "Write a number of USD" in page
        page = text(alice.post("models/negotiated/new", 400, provider="nobody", discount_percent="10"))
        assert "Is not in the price book" in page
        alice.post(
            "models/negotiated/new", provider="openai", model="gpt-4o-mini", input="0.10", output="0.40"
        )
        assert "$0.1<" in text(alice.get("models", q="gpt-4o-mini", provider="openai"))
        (row,) = rows(alice.get("models/negotiated", format="csv"))
        assert row["prices"] == "input_tokens 0.0000001; output_tokens 0.0000004"
        ask = text(alice.get(f"models/negotiated/{row['id']}/end"))
        assert "Calls that were held at it settle at it." in ask
        alice.post(f"models/negotiated/{row['id']}/end")
        assert "ended" in text(alice.get("models/negotiated"))

    def test_sets_the_policy_for_unknown_models(self, alice: At) -> None:
        from tenants.models import Tenant

        alice.post("models/unknown/policy", unknown_model="dearest")
        assert Tenant.objects.get(pk=alice.tenant_id).unknown_model == "dearest"
        alice.post("models/unknown/policy", 400, unknown_model="free")

    def test_says_what_of_a_comparison_is_wrong(self, alice: At) -> None:
        answer = alice.browser.get(
            f"/t/{alice.slug}/models/compare", {"models": "nothing/such", "token_factor": "x"}
        )
        assert answer.status_code == 400
        assert "Must be a number from 0.1 to 10" in text(answer)


class TestBilling:
    def test_previews_makes_assigns_and_changes_a_card(self, alice: At) -> None:
        card: dict[str, Any] = {"markup_percent": "20", "minimum_usd": "5.00"}
        page = text(alice.post("billing/cards/new", 200, preview="1", period="last-month", **card))
        assert "What it would have charged" in page
        assert "No customer used anything in this period." in page
        page = text(alice.post("billing/cards/new", 400, name="x", markup_percent="much", advanced="{"))
        assert "This is no JSON" in page
        page = text(
            alice.post("billing/cards/new", 400, name="x", advanced='{"rules": [{"rates": 3}], "tiers": 1}')
        )
        assert 'aria-invalid="true"' in page
        rcd = alice.last(alice.post("billing/cards/new", name="standard", **card))
        assert "It prices nothing yet" in text(alice.get(f"billing/cards/{rcd}"))
        alice.post("billing/cards/assign", rate_card=rcd)
        alice.post(f"billing/cards/{rcd}/change", 400, markup_percent="25", effective_from="2020-01-01T00:00")
        later = (datetime.now(UTC) + timedelta(days=40)).strftime("%Y-%m-%dT00:00")
        alice.post(f"billing/cards/{rcd}/change", markup_percent="25", effective_from=later)
        page = text(alice.get(f"billing/cards/{rcd}"))
        assert "cost + 25 %" in page
        assert "everybody" in page
        alice.post(f"billing/cards/{rcd}/rename", name="pro")
        assert rows(alice.get("billing/cards", format="csv"))[0]["name"] == "pro"
        assert alice.get(f"billing/cards/{rcd}/preview", period="30-days")

    def test_withdraws_what_has_not_begun(self, alice: At) -> None:
        from billing.models import RateCardVersion

        rcd = alice.last(alice.post("billing/cards/new", name="other", markup_percent="10"))
        version = RateCardVersion.objects.get(card_id=ids.decode("rcd", rcd))
        rcv = ids.encode("rcv", version.pk)
        assert "It never holds" in text(alice.get(f"billing/cards/{rcd}/versions/{rcv}/withdraw"))
        alice.post(f"billing/cards/{rcd}/versions/{rcv}/withdraw")
        assert "withdrawn" in text(alice.get(f"billing/cards/{rcd}"))

    def test_runs_a_wallet(self, alice: At) -> None:
        wal = alice.last(alice.post("billing/wallets/new", customer="acme"))
        assert "It is empty" in text(alice.get(f"billing/wallets/{wal}"))
        assert "Must be a decimal string" in text(
            alice.post(f"billing/wallets/{wal}/grant", 400, amount_usd="much", kind="paid")
        )
        alice.post(f"billing/wallets/{wal}/grant", amount_usd="$1,000.50", kind="paid", reason="transfer")
        alice.post(f"billing/wallets/{wal}", 400, low_usd="5", threshold_usd="5")
        alice.post(
            f"billing/wallets/{wal}", low_usd="5", threshold_usd="5", amount_usd="20", monthly_max_usd="100"
        )
        page = text(alice.get(f"billing/wallets/{wal}"))
        assert "$1,000.50" in page
        (row,) = rows(alice.get("billing/wallets", format="csv"))
        assert (row["customer"], row["balance_usd"]) == ("acme", "1000.5")
        lines = json.loads(alice.get(f"billing/wallets/{wal}/journal", format="json").content)
        assert sorted(line["amount_usd"] for line in lines) == ["-1000.5", "1000.5"]
        from billing.models import CreditGrant

        crg = ids.encode("crg", CreditGrant.objects.get(wallet_id=ids.decode("wal", wal)).pk)
        assert "1000.5 USD" in text(alice.get(f"billing/wallets/{wal}/grants/{crg}/void"))
        alice.post(f"billing/wallets/{wal}/grants/{crg}/void", 400)
        alice.post(f"billing/wallets/{wal}/grants/{crg}/void", reason="a mistake")
        assert "voided" in text(alice.get(f"billing/wallets/{wal}"))
        alice.post(f"billing/wallets/{wal}/close")
        assert "closed" in text(alice.get(f"billing/wallets/{wal}"))

    def test_shows_no_secret_of_stripe_s_again(self, alice: At) -> None:
        page = text(alice.post("billing/stripe/connect", 400, secret_key="sk_live_" + "x" * 24))
        assert "unrestricted secret key" in page
        assert "x" * 24 not in page
        alice.post("billing/stripe/connect", secret_key=KEY, webhook_secrets=SECRET)
        page = text(alice.get("billing/stripe"))
        assert KEY not in page
        assert SECRET not in page
        assert f"ends in <code>{KEY[-4:]}" in page
        alice.post("billing/stripe", 400, secret_key="nonsense" * 4)
        alice.post("billing/stripe/link", 400, customer="nobody")
        assert "They have to be given anew" in text(alice.get("billing/stripe/disconnect"))
        alice.post("billing/stripe/disconnect")
        assert "Stripe is not connected" in text(alice.get("billing/stripe"))


class TestSlowFigures:
    """What takes too long for a page is shown as soon as a worker has added it up."""

    @pytest.fixture(autouse=True)
    def now(self) -> Iterator[datetime]:
        """The middle of a month: in its first hour nothing of it is over, and nothing is added up."""
        middle = datetime.now(UTC).replace(day=15, hour=12)
        with patch("tenants.dashboard.page.utc_now", return_value=middle):
            yield middle

    @pytest.mark.parametrize("path", ["billing", "billing/cards/{rcd}/preview"])
    def test_come_later(self, alice: At, path: str, now: datetime) -> None:
        from budgets.queries.bounded import TookTooLong
        from budgets.services import figures

        name = f"slow {path[:14]}"
        rcd = alice.last(alice.post("billing/cards/new", name=name, markup_percent="10"))
        address = path.format(rcd=rcd)
        with (
            patch("billing.services.slow_figures.revenue", side_effect=TookTooLong),
            patch("billing.services.slow_figures.preview", side_effect=TookTooLong),
        ):
            page = text(alice.get(address))
        assert "eing added up" in page
        assert 'hx-trigger="every 3s"' in page
        figures.add_up(now=lambda: now)
        page = text(alice.get(address))
        assert "eing added up" not in page
        assert "Model cost" in page

    def test_of_a_preview_are_a_file_when_they_are_there(self, alice: At) -> None:
        from budgets.queries.bounded import TookTooLong

        rcd = alice.last(alice.post("billing/cards/new", name="as a file", markup_percent="10"))
        url = f"/t/{alice.slug}/billing/cards/{rcd}/preview"
        with patch("billing.services.slow_figures.preview", side_effect=TookTooLong):
            answer = alice.browser.get(url, {"format": "csv"})
        assert answer.status_code == 400
        assert "being added up" in text(answer)
        other = alice.browser.get(url, {"format": "csv", "period": "this-month"})
        assert other["Content-Type"].startswith("text/csv")
        assert alice.browser.get(url, {"period": "a-year"}).status_code == 400

    def test_take_no_longer_than_who_asks_has(self, real_database: None) -> None:
        from billing.queries.uses import bounded
        from budgets.queries.bounded import TookTooLong, limited, rows

        def pause(milliseconds: int) -> None:
            with limited(milliseconds=milliseconds), bounded(60_000):
                rows("SELECT count(*) FROM generate_series(1, 200000000)")

        with pytest.raises(TookTooLong):
            pause(20)
        with limited(milliseconds=30_000):
            with bounded(10_000):
                assert rows("SHOW statement_timeout")[0]["statement_timeout"] == "10s"
            assert rows("SHOW statement_timeout")[0]["statement_timeout"] == "30s"


class TestAlerts:
    def test_adds_tests_rotates_and_removes_a_destination(self, alice: At) -> None:
        page = text(alice.post("alerts/destinations/new", 400, kind="webhook", target="http://127.0.0.1/x"))
        assert 'aria-invalid="true"' in page
        page = text(
            alice.post("alerts/destinations/new", 200, kind="webhook", target="https://hooks.example.com/a")
        )
        secret = page.partition("whsec_")[2].partition("<")[0]
        assert len(secret) > 20
        (row,) = rows(alice.get("alerts/destinations", format="csv"))
        path = f"alerts/destinations/{row['id']}"
        assert secret not in text(alice.get(path))
        dlv = alice.last(alice.post(f"{path}/ping"))
        assert "It was not tried yet" in text(alice.get(f"alerts/deliveries/{dlv}"))
        assert text(alice.post(f"{path}/rotate", 200, hours="24")).count("whsec_") == 1
        alice.post(path, 400, target="ftp://x", enabled="on")
        alice.post(path, description="on call", alert_kinds="threshold")
        page = text(alice.get(path))
        assert "off" in page
        assert "on call" in page
        assert "will not be sent" in text(alice.get(f"{path}/remove"))
        alice.post(f"{path}/remove")
        assert rows(alice.get("alerts/destinations", format="csv")) == []

    def test_sends_a_delivery_again(self, alice: At) -> None:
        from alerts.models import Delivery

        answer = alice.post("alerts/destinations/new", kind="email", target="finance@example.com")
        dlv = alice.last(alice.post(f"alerts/destinations/{alice.last(answer)}/ping"))
        wanted = Delivery.objects.filter(pk=ids.decode("dlv", dlv))
        wanted.update(state="failed", finished_at=datetime.now(UTC), attempts=8)
        assert "Send it again" in text(alice.get(f"alerts/deliveries/{dlv}"))
        alice.post(f"alerts/deliveries/{dlv}")
        assert wanted.get().state == "pending"
        assert "This is a test" in text(alice.get("alerts"))

    def test_sets_thresholds(self, alice: At) -> None:
        from budgets.services.budgets import NewBudget, create_budget

        budget = create_budget(
            tenant_id=alice.tenant_id,
            budget=NewBudget(name="web", limit="10", scope="tenant", subject="*", window="month"),
            actor="test",
            now=datetime.now(UTC),
        )
        path = f"alerts/thresholds/{ids.encode('bud', budget.pk)}"
        assert "rising" in text(alice.post(path, 400, thresholds="80, 50"))
        alice.post(path, thresholds="60, 90")
        budget.refresh_from_db()
        assert budget.thresholds == [60, 90]
        assert "90 %" in text(alice.get("alerts/thresholds"))


class TestTables:
    @pytest.mark.parametrize(
        "path",
        [
            *(
                "alerts",
                "alerts/destinations",
                "alerts/deliveries",
                "alerts/thresholds",
                "models",
                "models/negotiated",
            ),
            *("models/unknown", "models/compare", "billing/cards", "billing/wallets", "billing/invoices"),
            *("billing/reconciliation", "billing/stripe"),
        ],
    )
    def test_come_as_csv_and_json_and_in_no_other_form(self, bob: At, path: str) -> None:
        assert bob.get(path, format="csv")["Content-Type"].startswith("text/csv")
        assert bob.get(path, format="json")["Content-Type"] == "application/json"
        assert bob.browser.get(f"/t/{bob.slug}/{path}", {"format": "xml"}).status_code == 400

    @pytest.mark.parametrize("path", ["billing/wallets", "billing/cards", "alerts/destinations"])
    def test_are_read_with_as_many_queries_for_many_rows_as_for_few(
        self, bob: At, path: str, django_assert_num_queries: Any
    ) -> None:
        from django.db import connection
        from django.test.utils import CaptureQueriesContext

        number = iter(range(100))

        def grow() -> None:
            for _ in range(3):
                name = f"{path.replace('/', '-')}-{next(number)}"
                if path == "billing/wallets":
                    bob.post("billing/wallets/new", customer=name)
                elif path == "billing/cards":
                    bob.post("billing/cards/new", name=name, markup_percent="1")
                else:
                    bob.post("alerts/destinations/new", kind="email", target=f"{name}@example.com")

        grow()
        with CaptureQueriesContext(connection) as few:
            bob.get(path)
        count = len(few)
        grow()
        with django_assert_num_queries(count):
            bob.get(path)
