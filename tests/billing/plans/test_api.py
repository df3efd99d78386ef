"""/v1/account/plan as a tenant's people and keys see it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from pytest_django.fixtures import Settings

from noburn.kit.clock import utc_now

if TYPE_CHECKING:
    from tests.billing.plans.seller import Seller
    from tests.support.api import Api

pytestmark = pytest.mark.real_db

PAGES: dict[str, Any] = {"success_url": "https://a.example/ok", "cancel_url": "https://a.example/no"}


@pytest.fixture
def api(seller: Seller) -> Api:
    from tenants.services.keys import issue_key
    from tests.support.api import Api

    scopes = ["read", "manage"]
    issued = issue_key(tenant_id=seller.tenant_id, name="plans", scopes=scopes, actor="test", now=utc_now())
    return Api(secret=issued.secret)


class TestPlan:
    def test_shows_plan_count_and_catalogue(self, api: Api) -> None:
        answer = api.get("/v1/account/plan")
        assert answer.status == 200, answer.body
        body = answer.body
        assert (body["plan"], body["status"], body["requests"]) == ("free", "free", 0)
        assert (body["requests_included"], body["requests_refused_from"]) == (50_000, 60_000)
        assert [(each["plan"], each["monthly_usd"]) for each in body["offers"]] == [
            ("free", "0"),
            ("team", "49"),
            ("scale", "499"),
        ]

    def test_is_bought_once_for_a_key(self, api: Api) -> None:
        key = uuid4().hex
        first = api.post("/v1/account/plan/checkout", {"plan": "team", **PAGES}, key=key)
        again = api.post("/v1/account/plan/checkout", {"plan": "team", **PAGES}, key=key)
        assert first.status == 201, first.body
        assert first.body["url"].startswith("https://checkout.stripe.com/")
        assert first.body == again.body
        other = api.post("/v1/account/plan/checkout", {"plan": "scale", **PAGES}, key=key)
        assert other.status == 422

    def test_opens_the_portal(self, api: Api) -> None:
        answer = api.post("/v1/account/plan/portal", {"return_url": "https://a.example"})
        assert answer.status == 201
        assert answer.body["url"].startswith("https://billing.stripe.com/")

    def test_names_every_bad_field(self, api: Api) -> None:
        answer = api.post("/v1/account/plan/checkout", {"plan": "huge", "success_url": "no", "colour": "red"})
        assert answer.status == 400
        fields = {each["field"] for each in answer.body["errors"]}
        assert fields == {"plan", "success_url", "cancel_url", "colour"}

    def test_has_nothing_to_change_before_it_is_bought(self, api: Api) -> None:
        for path in ("preview", "change"):
            assert api.post(f"/v1/account/plan/{path}", {"plan": "scale"}).status == 400

    def test_tells_when_stripe_is_away(self, api: Api, seller: Seller) -> None:
        seller.double.fault("outage", hours=1)
        answer = api.post("/v1/account/plan/portal", {"return_url": "https://a.example"})
        assert answer.status == 503
        seller.double.heal()

    def test_is_unlimited_where_noburn_is_self_hosted(self, api: Api, settings: Settings) -> None:
        settings.NOBURN_PLANS = ""
        body = api.get("/v1/account/plan").body
        assert (body["plan"], body["requests_included"], body["offers"]) == ("self_hosted", None, [])
        answer = api.post("/v1/account/plan/checkout", {"plan": "team", **PAGES})
        assert answer.status == 400

    def test_previews_and_makes_a_change(self, api: Api, seller: Seller) -> None:
        seller.buy("team")
        # In a trial nothing was paid, so nothing is given back.
        seller.later(days=14, hours=2)
        seller.events()
        told = api.post("/v1/account/plan/preview", {"plan": "scale"})
        assert told.status == 200, told.body
        assert told.body["lines"]
        changed = api.post("/v1/account/plan/change", {"plan": "scale"})
        assert changed.status == 200, changed.body
        assert (changed.body["plan"], changed.body["status"]) == ("scale", "active")
