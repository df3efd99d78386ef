"""Rate cards, previews, invoices' previews, approvals and revenue over the API."""

from __future__ import annotations

import csv
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from noburn.kit import ids
from noburn.kit.money import NANO
from tests.billing.rates.office import DAY, END, HOUR, START, assign, card

if TYPE_CHECKING:
    from tests.billing.book import Book
    from tests.support.api import Api

pytestmark = pytest.mark.real_db

MONTH: dict[str, Any] = {"from_": START.isoformat(), "to": END.isoformat()}


@pytest.fixture
def api(book: Book) -> Api:
    from tenants.services.keys import issue_key
    from tests.support.api import Api

    issued = issue_key(
        tenant_id=book.tenant_id, name="desk", scopes=["manage"], actor="test", now=datetime.now(UTC)
    )
    return Api(secret=issued.secret)


def next_hour() -> datetime:
    return datetime.now(UTC).replace(minute=0, second=0, microsecond=0) + HOUR


def wire(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")


class TestRateCards:
    def test_are_made_versioned_and_withdrawn_while_they_have_not_begun(self, api: Api) -> None:
        made = api.post("/v1/rate-cards", {"name": "pro", "terms": {"markup_percent": "20.50"}})
        assert made.status == 201, made
        # Close to an hour's end the next one may have begun meanwhile.
        first = made["next"] or made["current"]
        assert first["terms"]["markup_percent"] == "20.5"
        path = f"/v1/rate-cards/{made['id']}"
        later = {"terms": {"markup_percent": "25"}, "effective_from": wire(next_hour() + DAY)}
        second = api.post(f"{path}/versions", later)
        assert (second.status, second["number"]) == (201, 2)
        again = api.post(f"{path}/versions", later)
        assert (again.status, list(again.fields)) == (400, ["effective_from"])
        assert api.delete(f"{path}/versions/{second['id']}").status == 204
        assert api.delete(f"{path}/versions/{second['id']}").status == 400
        assert api.post(f"{path}/versions", later)["number"] == 3
        numbers = [version["number"] for version in api.all(f"{path}/versions")]
        assert numbers == [3, 2, 1]
        renamed = api.patch(path, {"name": "pro 2026"}, headers={"If-Match": api.get(path).headers["etag"]})
        assert (renamed.status, renamed["name"]) == (200, "pro 2026")

    def test_name_every_field_that_is_wrong_at_once(self, api: Api) -> None:
        past = wire(next_hour() - DAY + timedelta(minutes=30))
        terms: dict[str, Any] = {
            "rules": [{"provider": "openai"}],
            "tiers": [{"above_usd": "5", "percent": "90"}, {"above_usd": "5", "percent": "80"}],
            "rounding": {"to_usd": "0.03"},
        }
        answer = api.post("/v1/rate-cards", {"name": "x", "terms": terms, "effective_from": past})
        assert answer.status == 400
        assert list(answer.fields) == [
            "terms.rules[0].markup_percent",
            "terms.tiers[1].above_usd",
            "terms.rounding.to_usd",
        ]
        answer = api.post("/v1/rate-cards", {"name": "", "terms": {}, "effective_from": past})
        assert {"name"} <= set(answer.fields)
        good = {"name": "x", "terms": {"markup_percent": "1"}, "effective_from": past}
        assert list(api.post("/v1/rate-cards", good).fields) == ["effective_from"]

    def test_hold_for_customers_or_by_default(self, api: Api) -> None:
        made = api.post("/v1/rate-cards", {"name": "pro", "terms": {"markup_percent": "20"}})
        path = "/v1/rate-card-assignments"
        default = api.post(path, {"rate_card": made["id"]})
        assert (default.status, default["items"][0]["customer"]) == (201, None)
        begins = wire(next_hour() + DAY)
        both = api.post(
            path, {"rate_card": made["id"], "customers": ["acme", "globex"], "effective_from": begins}
        )
        assert [item["customer"] for item in both["items"]] == ["acme", "globex"]
        twice = api.post(path, {"rate_card": None, "customers": ["new", "globex"], "effective_from": begins})
        assert (twice.status, list(twice.fields)) == (400, ["customers[1]"])
        assert api.delete(f"{path}/{both['items'][1]['id']}").status == 204
        assert len(api.all(path, customer="globex", withdrawn="false")) == 0
        assert len(api.all(path, rate_card=made["id"], default="false")) == 2

    def test_cannot_be_edited_by_anybody(self, api: Api, book: Book) -> None:
        api.post("/v1/rate-cards", {"name": "pro", "terms": {"markup_percent": "20"}})
        for change in ("terms = '{}'", "withdrawn_at = effective_from, number = 9"):
            with pytest.raises(Exception, match="never edited"):
                book.owner.execute(
                    f"UPDATE rate_card_versions SET {change} WHERE tenant_id = %s".encode(), [book.tenant_id]
                )


class TestPreview:
    def test_shows_what_a_card_would_have_charged_and_changes_nothing(self, api: Api, book: Book) -> None:
        assign(book, card(book, {"markup_percent": "20"}))
        for customer, cost in (("acme", 10), ("globex", 5), ("initech", 1)):
            book.call(customer, START + DAY, cost_nano=cost * NANO)
        book.roll()
        asked = {
            "terms": {"markup_percent": "0", "minimum_usd": "7"},
            "starts_at": wire(START),
            "ends_at": wire(END),
            "limit": 2,
        }
        first = api.post("/v1/rate-cards/preview", asked)
        assert first.status == 200, first
        assert first["totals"] == {
            "cost_usd": "16",
            "charged_usd": "19.2",
            "would_be_usd": "16",
            "difference_usd": "-3.2",
        }
        second = api.post("/v1/rate-cards/preview", {**asked, "cursor": first["next_cursor"]})
        shown = [
            (item["customer"], item["charged_usd"], item["would_be_usd"])
            for item in (*first["items"], *second["items"])
        ]
        assert shown == [("acme", "12", "10"), ("globex", "6", "7"), ("initech", "1.2", "7")]
        assert second["next_cursor"] is None
        named = api.post("/v1/rate-cards/preview", {**asked, "customers": ["globex"], "whole_period": False})
        assert [item["would_be_usd"] for item in named["items"]] == ["5"]
        assert api.all("/v1/rate-cards")[0]["current"]["terms"]["markup_percent"] == "20"

    def test_takes_a_saved_card(self, api: Api, book: Book) -> None:
        saved = card(book, {"markup_percent": "100"})
        book.call("acme", START, cost_nano=NANO)
        book.roll()
        answer = api.post(
            "/v1/rate-cards/preview",
            {
                "rate_card": ids.encode(ids.RATE_CARD, saved.pk),
                "starts_at": wire(START),
                "ends_at": wire(END),
            },
        )
        assert [(i["charged_usd"], i["would_be_usd"]) for i in answer["items"]] == [("0", "2")]
        both = api.post("/v1/rate-cards/preview", {"starts_at": wire(START)})
        assert (both.status, list(both.fields)) == (400, ["terms"])


class TestInvoicePreview:
    def test_shows_a_period_by_model_and_unit_as_json_and_as_a_table(self, api: Api, book: Book) -> None:
        rates = [{"unit": "input", "price_usd": "2"}, {"unit": "output", "price_usd": "10"}]
        terms = {
            "markup_percent": "20",
            "included_usd": "1",
            "rules": [{"provider": "openai", "rates": rates}],
        }
        assign(book, card(book, terms))
        book.call("acme", START, cost_nano=NANO, usage={"input_tokens": 1_000_000, "output_tokens": 500_000})
        book.call("acme", START, cost_nano=NANO, model="anthropic/claude-haiku-4-5")
        book.call("acme", START, cost_nano=3 * NANO, state="presumed")
        book.roll()
        customer = api.post("/v1/customers", {"external_id": "acme"})["id"]
        path = f"/v1/customers/{customer}/invoice-preview"
        answer = api.get(path, **MONTH)
        assert answer.status == 200, answer
        assert answer["total_usd"] == "7.2"
        assert (answer["cost_usd"], answer["presumed_usd"], answer["whole_period"]) == ("2", "3", True)
        assert (answer["wallet_usd"], answer["to_invoice_usd"]) == ("0", "7.2")
        assert [(m["model"], m["requests"], m["charge_usd"]) for m in answer["models"]] == [
            ("claude-haiku-4-5", 1, "1.2"),
            ("gpt-4o-mini", 1, "7"),
        ]
        assert answer["models"][1]["units"] == [
            {"unit": "input", "units": 1_000_000, "charge_usd": "2"},
            {"unit": "output", "units": 500_000, "charge_usd": "5"},
        ]
        assert answer["adjustments"] == [{"kind": "included", "charge_usd": "-1"}]
        table = list(csv.DictReader(api.get(path, **MONTH, format="csv").body.splitlines()))
        assert [(row["kind"], row["unit"], row["charge_usd"]) for row in table] == [
            ("cost", "", "1.2"),
            ("cost", "", "0"),
            ("units", "input", "2"),
            ("units", "output", "5"),
            ("included", "", "-1"),
        ]

    def test_says_that_nothing_is_billed_without_a_card(self, api: Api, book: Book) -> None:
        book.call("acme", START, cost_nano=NANO)
        book.roll()
        customer = api.post("/v1/customers", {"external_id": "acme"})["id"]
        answer = api.get(f"/v1/customers/{customer}/invoice-preview", **MONTH)
        assert (answer["total_usd"], answer["unbilled_usd"], answer["rate_cards"]) == ("0", "1", [])

    @pytest.mark.parametrize(
        ("query", "fields"),
        [
            ({"from_": "2026-11-01T00:30:00Z"}, ["from"]),
            ({"from_": "2026-11-01"}, ["from"]),
            ({"to": "2020-01-01T00:00:00Z", "from_": "2026-11-01T00:00:00Z"}, ["to"]),
            ({"whole_period": "yes"}, ["whole_period"]),
            ({"period": "x"}, ["period"]),
        ],
    )
    def test_names_what_is_wrong_as_it_was_asked(
        self, api: Api, query: dict[str, Any], fields: list[str]
    ) -> None:
        customer = api.post("/v1/customers", {"external_id": "acme"})["id"]
        answer = api.get(f"/v1/customers/{customer}/invoice-preview", **query)
        assert (answer.status, list(answer.fields)) == (400, fields)


class TestApprovals:
    def test_let_presumed_spending_be_billed(self, api: Api, book: Book) -> None:
        hold = book.call("acme", START, cost_nano=NANO, state="presumed")
        body = {"hold": ids.encode(ids.HOLD, hold), "reason": "in the provider's invoice"}
        made = api.post("/v1/presumed-approvals", body)
        assert (made.status, made["cost_usd"], made["more"]) == (201, "1", False)
        (listed,) = api.all("/v1/presumed-approvals", customer="acme")
        assert (listed["hold_id"], listed["reason"]) == (body["hold"], body["reason"])
        again = api.post("/v1/presumed-approvals", body)
        assert (again.status, list(again.fields)) == (400, ["hold"])
        nothing = api.post("/v1/presumed-approvals", {"reason": "x"})
        assert (nothing.status, list(nothing.fields)) == (400, ["customer", "starts_at"])


class TestRevenue:
    def test_lists_losing_customers_first_page_by_page_and_as_a_table(self, api: Api, book: Book) -> None:
        assign(book, card(book, {"markup_percent": "25"}))
        assign(book, card(book, {"markup_percent": "-50"}, "losing"), START, "=loser")
        for customer, cost in (("acme", 4), ("=loser", 2), ("globex", 8)):
            book.call(customer, START + DAY, cost_nano=cost * NANO)
        book.roll()
        items = api.all("/v1/revenue", **MONTH, limit=1)
        assert [(item["customer"], item["margin_usd"], item["margin_percent"]) for item in items] == [
            ("=loser", "-1", "-100.00"),
            ("acme", "1", "20.00"),
            ("globex", "2", "20.00"),
        ]
        answer = api.get("/v1/revenue", **MONTH)
        assert answer["totals"]["revenue_usd"] == "16"
        assert (answer["customers"], answer["totals"]["margin_usd"]) == (3, "2")
        table = api.get("/v1/revenue", **MONTH, format="csv", fields="customer,margin_usd").body
        assert table.splitlines() == ["customer,margin_usd", "'=loser,-1", "acme,1", "globex,2"]

    def test_is_of_this_month_unless_told(self, api: Api) -> None:
        answer = api.get("/v1/revenue")
        assert (answer.status, answer["items"], answer["totals"]["margin_percent"]) == (200, [], None)
        assert answer["starts_at"].endswith("-01T00:00:00Z")
