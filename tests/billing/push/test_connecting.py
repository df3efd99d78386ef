"""Connecting an account: which keys, how secrets are kept, Connect, links."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from pytest_django.fixtures import Settings

from billing.models import StripeAccount, StripeEvent
from billing.services import stripe_inbox
from billing.services.stripe_access import tenant_access
from billing.services.stripe_accounts import InvalidStripe, disconnect
from billing.services.stripe_links import InvalidLink
from tenants.models import AuditEntry
from tests.billing.push.till import ACTOR, DAY, HOUR, START, URL, Till
from tests.tenants.cast import api_of

if TYPE_CHECKING:
    from tests.doubles.stripe import StripeDouble

pytestmark = pytest.mark.real_db

NOON = START + 12 * HOUR


@pytest.fixture
def apart(till: Till) -> Till:
    """A tenant that has disconnected again."""
    disconnect(tenant_id=till.tenant_id, actor=ACTOR, now=till.now)
    return till


class TestKeys:
    @pytest.mark.parametrize(
        ("fields", "field", "says"),
        [
            ({"secret_key": "sk_live_1234567890ab"}, "secret_key", "unrestricted"),
            ({"secret_key": "sk_test_1234567890ab"}, "secret_key", "unrestricted"),
            ({"secret_key": "pk_live_1234567890ab"}, "secret_key", "publishable"),
            ({"secret_key": "hunter2"}, "secret_key", "rk_live_"),
            ({"secret_key": "", "account": ""}, "secret_key", "either"),
            ({"secret_key": "", "account": "acct_1234567"}, "account", "no platform"),
            ({"webhook_secrets": ["nonsense"]}, "webhook_secrets", "whsec_"),
            ({"webhook_secrets": ["whsec_12345678"] * 5}, "webhook_secrets", "at most 4"),
            ({"billed_from": START + 400 * DAY}, "billed_from", "future"),
        ],
    )
    def test_of_other_kinds_are_refused(
        self, apart: Till, fields: dict[str, Any], field: str, says: str
    ) -> None:
        with pytest.raises(InvalidStripe) as refused:
            apart.connect(**fields)
        assert [(e.field, says in e.message) for e in refused.value.errors] == [(field, True)]

    def test_are_sealed_and_shown_by_their_end_alone(self, till: Till) -> None:
        row = till.account()
        assert till.key not in row.secret_key
        assert row.key_last4 == till.key[-4:]
        assert tenant_access(tenant_id=till.tenant_id).api_key == till.key
        assert till.key not in repr(tenant_access(tenant_id=till.tenant_id))
        api = api_of(row.tenant, "manage")
        shown = api.get("/v1/stripe")
        assert shown.status == 200
        assert shown["missing"] == []
        entries = AuditEntry.objects.filter(tenant_id=till.tenant_id)
        told = f"{shown.body} {list(entries.values_list('before', 'after'))}"
        assert all(secret not in told for secret in (till.key, *till.secrets, row.secret_key))

    def test_are_forgotten_when_disconnected(self, apart: Till) -> None:
        row = StripeAccount.objects.get(tenant_id=apart.tenant_id)
        assert (row.secret_key, row.webhook_secrets) == ("", [])
        assert api_of(row.tenant, "manage").get("/v1/stripe").status == 404

    def test_of_another_mode_are_no_replacement(self, till: Till) -> None:
        with pytest.raises(InvalidStripe, match="same mode"):
            till.change(secret_key="rk_live_1234567890ab")


class TestConnect:
    def test_works_by_the_platform_s_key_in_the_tenant_s_account(
        self, apart: Till, settings: Settings, stripe_double: StripeDouble
    ) -> None:
        settings.STRIPE_PLATFORM_KEY = "sk_test_platform"
        account = stripe_double.connect("sk_test_platform")
        apart.connect(secret_key="", account=account, webhook_secrets=())
        apart.set_up()
        assert apart.account().state == "ready"
        apart.link()
        apart.use(800, NOON)
        apart.live(NOON + 2 * HOUR, events=False)
        assert apart.states() == ["delivered"]
        found = stripe_double.objects("meter_event", account=account)
        assert [each["value"] for each in found] == [800]
        assert stripe_double.objects("meter", key="sk_test_platform") == []

    def test_hears_of_the_tenant_s_account_by_the_platform_s_endpoint(
        self, apart: Till, settings: Settings, stripe_double: StripeDouble
    ) -> None:
        settings.STRIPE_PLATFORM_KEY = "sk_test_platform"
        account, other = (stripe_double.connect("sk_test_platform") for _ in range(2))
        platform = stripe_double.client("sk_test_platform")
        made = platform.v1.webhook_endpoints.create({"url": URL, "enabled_events": ["*"], "connect": True})
        settings.STRIPE_PLATFORM_WEBHOOK_SECRET = str(made.secret)
        apart.connect(secret_key="", account=account, webhook_secrets=())
        apart.set_up()
        apart.link()
        stripe_double.client("sk_test_platform", account=other).v1.customers.create({"name": "Nobody's"})
        taken = [
            stripe_inbox.receive(
                endpoint="platform",
                body=sent["body"].encode(),
                signature=sent["headers"]["Stripe-Signature"],
                now=apart.now,
            )
            for sent in stripe_double.deliveries()
            if f'"account": "{account}"' in sent["body"] or f'"account": "{other}"' in sent["body"]
        ]
        assert (taken.count(True) > 3, taken.count(False)) == (True, 1)
        found = StripeEvent.objects.filter(tenant_id=apart.tenant_id)
        assert found.filter(type="customer.subscription.created", state="pending").exists()


class TestLinks:
    def test_find_the_only_customer_of_an_address(self, till: Till) -> None:
        made = till.double.client(till.key).v1.customers.create({"email": "billing@acme.example"})
        assert till.link(email="billing@acme.example").stripe_customer == made.id

    def test_ask_where_several_could_be_meant(self, till: Till) -> None:
        for _ in range(2):
            till.double.client(till.key).v1.customers.create({"email": "billing@acme.example"})
        found = till.link(email="billing@acme.example")
        assert (found.state, "2 customers" in found.problem) == ("failed", True)

    def test_take_over_a_subscription_that_there_is(self, till: Till) -> None:
        client = till.double.client(till.key)
        customer = client.v1.customers.create({"name": "Acme"})
        held = client.v1.subscriptions.create(
            {"customer": customer.id, "items": [{"price": till.account().price_id}]}
        )
        found = till.link(stripe_customer=customer.id)
        assert found.subscription == held.id
        assert len(till.double.objects("subscription", key=till.key)) == 1

    def test_share_no_customer_of_stripe_s(self, till: Till) -> None:
        first = till.link("acme")
        with pytest.raises(InvalidLink, match="another customer"):
            till.link("globex", stripe_customer=first.stripe_customer)

    def test_fail_for_a_customer_that_is_not_there(self, till: Till) -> None:
        assert till.link(stripe_customer="cus_nobody123").state == "failed"
