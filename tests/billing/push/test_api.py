"""Billing through Stripe as a tenant's programs see it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from django.core.management import CommandError, call_command

from billing.services.pushing import fail
from billing.services.stripe_accounts import disconnect
from tests.billing.push.till import ACTOR, HOUR, NEXT, START
from tests.tenants.cast import api_of

if TYPE_CHECKING:
    from tests.billing.push.till import Till
    from tests.support.api import Api

pytestmark = pytest.mark.real_db

NOON = START + 12 * HOUR


@pytest.fixture
def api(till: Till) -> Api:
    """Alice's key."""
    return api_of(till.account().tenant, "manage")


class TestStripe:
    def test_is_connected_with_a_restricted_key_alone(self, till: Till, api: Api) -> None:
        disconnect(tenant_id=till.tenant_id, actor=ACTOR, now=till.now)
        refused = api.post("/v1/stripe", {"secret_key": "sk_live_51Qabcdefgh"})
        assert (refused.status, refused.kind) == (400, "invalid-request")
        assert "unrestricted" in str(refused.body)
        made = api.post("/v1/stripe", {"secret_key": till.key}, key="once")
        assert (made.status, made["state"], made["key_last4"]) == (201, "pending", till.key[-4:])
        assert till.key not in str(made.body)
        again = api.post("/v1/stripe", {"secret_key": till.key}, key="once")
        assert again.headers["idempotency-replayed"] == "true"

    def test_is_changed_by_whom_it_was_read(self, till: Till, api: Api) -> None:
        read = api.patch("/v1/stripe", {"suspend_delinquent": True})
        assert read["suspend_delinquent"] is True
        stale = api.patch("/v1/stripe", {"suspend_delinquent": False}, headers={"If-Match": '"x"'})
        assert stale.status == 412
        assert api.post("/v1/stripe/set-up", {})["state"] == "pending"
        assert api.delete("/v1/stripe").status == 204
        assert api.get("/v1/stripe").status == 404


class TestLinks:
    def test_are_made_by_workers_and_lead_to_the_portal(self, till: Till, api: Api) -> None:
        till.customer()
        made = api.post("/v1/stripe-links", {"customer": "acme", "email": "billing@acme.example"})
        assert (made.status, made["state"], made["stripe_customer"]) == (201, "pending", None)
        path = f"/v1/stripe-links/{made['id']}"
        assert api.post(f"{path}/portal", {}).kind == "stripe-refused"
        # Asked for at this moment, and done at the test's.
        till.link()
        shown = api.get(path)
        assert (shown["state"], shown["subscription_status"]) == ("linked", "active")
        portal = api.post(f"{path}/portal", {"return_url": "https://app.example.com/billing"})
        assert (portal.status, portal["url"].startswith("https://")) == (201, True)
        till.double.fault("drop_before", path="billing_portal", times=5)
        assert api.post(f"{path}/portal", {}).kind == "stripe-unavailable"
        assert api.delete(path).status == 204

    def test_name_every_wrong_field(self, till: Till, api: Api) -> None:
        refused = api.post(
            "/v1/stripe-links", {"customer": "nobody", "stripe_customer": "x", "email": "nowhere"}
        )
        assert set(refused.fields) == {"customer", "stripe_customer", "email"}


class TestMoney:
    def test_is_shown_from_the_outbox_to_the_invoice(self, till: Till, api: Api) -> None:
        till.link()
        till.use(5_000_000, NOON)
        till.to(NEXT)
        till.live(NEXT + 3 * HOUR)
        (told,) = api.all("/v1/measurements", customer="acme")
        assert (told["amount_usd"], told["state"], told["outcome"]) == ("5", "delivered", "taken")
        refused = api.post(f"/v1/measurements/{told['id']}/reissue", {})
        assert (refused.status, list(refused.fields)) == (400, ["state"])
        till.reconcile()
        found = api.all("/v1/billing/reconciliation", customer="acme")
        first = next(one for one in found if one["invoiced_usd"] == "5")
        assert (first["owed_usd"], first["measured_usd"], first["agrees"]) == ("5", "5", True)
        invoice = next(one for one in api.all("/v1/invoices") if one["total"] == 500)
        table = api.get("/v1/invoices", format="csv")
        assert table.headers["content-type"].startswith("text/csv")
        assert invoice["stripe_id"] in str(table.body)
        customer = api.get("/v1/customers", external_id="acme")["items"][0]["id"]
        assert invoice in api.all(f"/v1/customers/{customer}/invoices")
        path = f"/v1/invoices/{invoice['id']}/credit-notes"
        made = api.post(path, {"amount": 200, "reason": "duplicate"})
        assert (made.status, made["state"]) == (201, "pending")
        beyond = api.post(path, {"amount": 301, "reason": "duplicate"})
        assert (beyond.status, list(beyond.fields)) == (400, ["amount"])
        assert [note["amount"] for note in api.all(path)] == [200]


class TestCommand:
    def test_says_how_it_stands_and_whether_it_agrees(
        self, till: Till, capsys: pytest.CaptureFixture[str]
    ) -> None:
        till.customer()
        slug = till.account().tenant.slug
        till.link(made=False)
        call_command("billing", "status", "--tenant", slug, "--json")
        (found,) = json.loads(capsys.readouterr().out)
        assert (found["tenant"], found["state"], found["links"]["pending"]) == (slug, "ready", 1)
        call_command("billing", "status", "--tenant", slug)
        assert "ready; 1 links pending" in capsys.readouterr().out
        call_command("billing", "reconcile", "--tenant", slug)
        assert capsys.readouterr().out == "0 periods, 0 do not agree\n"
        with pytest.raises(CommandError, match="no tenant"):
            call_command("billing", "status", "--tenant", "nobody-here")

    def test_ends_with_1_where_something_waits_for_a_person(
        self, till: Till, capsys: pytest.CaptureFixture[str]
    ) -> None:
        till.link()
        till.use(900, NOON)
        till.live(NOON + 2 * HOUR)
        (row,) = till.rows()
        fail(row=row, outcome="refused", reason="a test", now=till.now)
        with pytest.raises(SystemExit) as ended:
            call_command("billing", "reconcile", "--tenant", till.account().tenant.slug)
        assert ended.value.code == 1
        assert "failed $0.0009" in capsys.readouterr().out
