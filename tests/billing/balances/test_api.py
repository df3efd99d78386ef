"""POST /v1/customers/{id}/balance-token and the page that its token opens."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import pytest
from django.test import Client

from noburn.kit import ids

if TYPE_CHECKING:
    from tests.billing.wallets.desk import Desk
    from tests.support.api import Api
    from tests.support.world import Account

pytestmark = pytest.mark.real_db
SITE = "https://app.example.com"


@pytest.fixture
def desk(alice: Account) -> Desk:
    from tests.billing.wallets.desk import Desk

    return Desk(alice, datetime.now(UTC))


@pytest.fixture
def api(alice: Account) -> Api:
    from tests.support.api import Api

    return Api(secret=alice.key(("read", "manage")).secret)


def customer(api: Api, name: str = "acme") -> str:
    """The id of a customer, which is made if need be."""
    found = api.get("/v1/customers", external_id=name)["items"]
    return str((found or [api.post("/v1/customers", {"external_id": name}).body])[0]["id"])


def made(api: Api, name: str = "acme", **body: Any) -> Any:
    answer = api.post(f"/v1/customers/{customer(api, name)}/balance-token", body)
    assert answer.status == 201, answer
    return answer.body


def opened(url: str) -> Any:
    answer = Client().get(url)
    assert not answer.cookies
    return answer


def words(answer: Any) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", answer.text.partition("<main")[2]).split())


class TestCreateBalanceToken:
    def test_answers_the_page_s_address_and_its_end(self, api: Api) -> None:
        body = made(api, ttl_seconds=120)
        assert parse_qs(urlsplit(body["url"]).query)["token"] == [body["token"]]
        left = datetime.fromisoformat(body["expires_at"]) - datetime.now(UTC)
        assert timedelta(seconds=60) < left <= timedelta(seconds=120)

    def test_is_repeated_without_the_token(self, api: Api, alice: Account) -> None:
        path = f"/v1/customers/{customer(api)}/balance-token"
        first = api.post(path, {}, key="once-and-again")
        again = api.post(path, {}, key="once-and-again")
        assert first["token"]
        assert again.status == 201
        assert (again["token"], again["url"]) == (None, None)
        ((kept,),) = alice.world.sql(
            "SELECT count(*) FROM tenants_idempotentanswer r WHERE r.tenant_id = %s AND r::text LIKE %s",
            alice.tenant_id,
            f"%{first['token']}%",
        )
        assert kept == 0

    def test_names_every_field_that_is_not_valid(self, api: Api) -> None:
        path = f"/v1/customers/{customer(api)}/balance-token"
        answer = api.post(path, {"ttl_seconds": 59, "origins": ["https://*"], "show": ["margin"], "x": 1})
        assert answer.status == 400
        assert {e["field"] for e in answer["errors"]} >= {"ttl_seconds", "show[0]", "x"}
        answer = api.post(path, {"origins": [SITE, "https://*", "http://app.example.com"]})
        assert {e["field"] for e in answer["errors"]} == {"origins[1]", "origins[2]"}
        assert api.post(path, {"show": []}).status == 400
        assert api.post(path, {"ttl_seconds": 3601}).status == 400

    def test_needs_a_key_that_manages(self, alice: Account, api: Api) -> None:
        from tests.support.api import Api

        path = f"/v1/customers/{customer(api)}/balance-token"
        assert Api(secret=alice.key(("read", "preflight")).secret).post(path, {}).status == 403

    def test_knows_no_customer_of_another_tenant(self, alice: Account, api: Api) -> None:
        from tests.support.api import Api

        charlie = Api(secret=alice.world.account("charlie").key(("manage", "read")).secret)
        its = customer(charlie)
        answer = api.post(f"/v1/customers/{its}/balance-token", {})
        assert (answer.status, answer.kind) == (404, "not-found")


class TestBalancePage:
    def test_shows_credit_and_what_is_left_of_budgets(self, desk: Desk, api: Api, alice: Account) -> None:
        alice.budget("month", "$10", subject="*", window="month")
        alice.budget("calls", 5, metric="requests", subject="acme", window="day")
        alice.budget("warned", "$1", subject="*", window="day", action="warn")
        desk.grant(desk.wallet(), "20")
        alice.settle(alice.place("$2.50"), "$2.50")
        text = words(opened(made(api)["url"]))
        assert "Balance of acme" in text
        assert "Credit $20.00" in text
        assert "This month $7.50 left of $10.00" in text
        assert "Today 4 requests left of 5 requests" in text
        assert "$1.00" not in text

    def test_counts_as_the_gateway_does(self, api: Api, alice: Account) -> None:
        # The budget is made within its window, after calls: it begins with what the ledger has.
        alice.budget("before", "$100", subject="*", window="month")
        alice.settle(alice.place("$3"), "$3")
        alice.world.recover()
        alice.budget("late", "$10", subject="*", window="month")
        alice.override("late", "acme", "$12")
        assert "$9.00 left of $12.00" in words(opened(made(api)["url"]))
        assert alice.remaining("late", "acme") == 9_000_000_000
        alice.settle(alice.place("$1"), "$1")
        assert "$8.00 left of $12.00" in words(opened(made(api)["url"]))

    def test_shows_only_the_customer_that_the_token_is_for(
        self, desk: Desk, api: Api, alice: Account
    ) -> None:
        alice.budget("month", "$10", subject="*", window="month")
        desk.grant(desk.wallet("globex"), "77")
        alice.settle(alice.place("$4", customer="globex"), "$4")
        text = words(opened(made(api, "acme")["url"]))
        assert "$10.00 left of $10.00" in text
        assert "77" not in text
        assert "globex" not in text

    def test_shows_what_it_was_asked_to_show(self, desk: Desk, api: Api, alice: Account) -> None:
        alice.budget("month", "$10", subject="*", window="month")
        desk.grant(desk.wallet(), "20")
        wallet = words(opened(made(api, show=["wallet"])["url"]))
        budgets = words(opened(made(api, show=["budgets"])["url"]))
        assert "$20.00" in wallet
        assert "This month" not in wallet
        assert "$20.00" not in budgets
        assert "This month" in budgets

    def test_says_that_nothing_is_set_and_that_calls_are_paused(self, api: Api) -> None:
        url = made(api)["url"]
        assert "No limit and no credit is set for you." in words(opened(url))
        assert api.patch(f"/v1/customers/{customer(api)}", {"suspended": True}).status == 200
        assert "Calls are paused" in words(opened(url))

    def test_is_framed_by_the_sites_of_its_token_alone(self, api: Api) -> None:
        framed = opened(made(api, origins=[SITE, f"{SITE}:443/", "http://localhost:3000"])["url"])
        assert framed["Content-Security-Policy"].endswith(f"frame-ancestors {SITE} http://localhost:3000")
        assert "X-Frame-Options" not in framed
        alone = opened(made(api)["url"])
        assert alone["Content-Security-Policy"].endswith("frame-ancestors 'none'")

    def test_keeps_the_token_out_of_other_sites_caches_and_its_own_text(self, api: Api, caplog: Any) -> None:
        body = made(api)
        answer = opened(body["url"])
        assert answer["Referrer-Policy"] == "no-referrer"
        assert answer["Cache-Control"] == "private, no-store"
        assert body["token"] not in answer.text
        altered = opened(body["url"][:-1] + ("A" if body["url"][-1] != "A" else "B"))
        assert altered.status_code == 403
        assert body["token"][:40] not in caplog.text

    @pytest.mark.parametrize("token", ["", "nonsense", "nbb1.k1.AAAA.AAAA", "ä" * 20, "x" * 10_000])
    def test_shows_nothing_without_a_token_of_ours(self, token: str) -> None:
        answer = Client().get("/embed/balance", {"token": token})
        assert answer.status_code == 403
        assert "There is nothing to show" in answer.text
        assert answer["Content-Security-Policy"].endswith("frame-ancestors 'none'")

    def test_says_that_it_is_over_where_it_was_framed(self, api: Api, alice: Account) -> None:
        from billing.domain.balance_tokens import Shown
        from billing.services.balances import make_balance_token

        token = make_balance_token(
            tenant_id=alice.tenant_id,
            customer_id=ids.decode("cus", customer(api)),
            ttl=timedelta(minutes=1),
            origins=[SITE],
            shown=list(Shown),
            now=datetime.now(UTC) - timedelta(minutes=2),
        ).token
        answer = Client().get("/embed/balance", {"token": token})
        assert answer.status_code == 410
        assert "This view has expired" in answer.text
        assert answer["Content-Security-Policy"].endswith(f"frame-ancestors {SITE}")

    def test_shows_nothing_of_a_tenant_that_is_suspended(self, api: Api, alice: Account) -> None:
        from tenants.models import Tenant

        url = made(api)["url"]
        Tenant.objects.filter(pk=alice.tenant_id).update(suspended_at=datetime.now(UTC))
        assert opened(url).status_code == 403

    def test_asks_as_often_for_many_budgets_as_for_one(
        self, api: Api, alice: Account, django_assert_max_num_queries: Any
    ) -> None:
        for number in range(12):
            alice.budget(f"b{number}", "$10", subject="*", window="day")
        alice.settle(alice.place("$1"), "$1")
        url = made(api)["url"]
        with django_assert_max_num_queries(3):
            assert words(opened(url)).count("$9.00 left") == 12
