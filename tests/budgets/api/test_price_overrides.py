"""/v1/price-overrides as a client sees it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from budgets.models import PriceOverride
from budgets.services.price_seed import seed_prices
from noburn.kit import ids
from tenants.models import Member, Role
from tests.support.api import Api
from tests.tenants.cast import Cast, api_of

pytestmark = [pytest.mark.real_db, pytest.mark.usefixtures("seeded")]

PATH = "/v1/price-overrides"
HALF = {"provider": "openai", "model": "gpt-4o-mini", "discount_percent": "50"}


@pytest.fixture(scope="module")
def seeded(real_database: None) -> None:
    seed_prices()


def wire(at: datetime) -> str:
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")


class TestPriceOverrides:
    def test_are_made_shown_listed_and_ended(self, api: Api) -> None:
        made = api.post(PATH, {**HALF, "note": "contract 7"})
        assert made.status == 201, made
        assert made["id"].startswith("pov_")
        assert (made["discount_percent"], made["prices"], made["effective_to"]) == ("50", None, None)
        assert api.get(f"{PATH}/{made['id']}").body == made.body
        prices = [
            {"unit": "input_tokens", "price_usd": "0.000000100"},
            {"unit": "input_tokens", "price_usd": "0.0000002", "tier_start": 200000},
            {"unit": "output_tokens", "price_usd": "0.0000004", "variant": "batch"},
        ]
        own = api.post(PATH, {"provider": "openai", "model": "gpt-4o", "prices": prices})
        assert own["prices"] == [
            {"unit": "input_tokens", "price_usd": "0.0000001", "tier_start": 0, "variant": "standard"},
            {"unit": "input_tokens", "price_usd": "0.0000002", "tier_start": 200000, "variant": "standard"},
            {"unit": "output_tokens", "price_usd": "0.0000004", "tier_start": 0, "variant": "batch"},
        ]
        assert [p["id"] for p in api.all(PATH, limit=1)] == [own["id"], made["id"]]
        assert [p["id"] for p in api.all(PATH, model="GPT-4o")] == [own["id"]]
        ended = api.post(f"{PATH}/{made['id']}/end")
        assert ended.status == 200
        assert ended["effective_to"] is not None
        assert [p["id"] for p in api.all(PATH, live="false", provider="openai")] == [made["id"]]
        assert [p["id"] for p in api.all(PATH, live="true")] == [own["id"]]
        at = wire(datetime.now(UTC) + timedelta(days=3))
        later = api.post(f"{PATH}/{own['id']}/end", {"effective_to": at})
        assert datetime.fromisoformat(later["effective_to"]) == datetime.fromisoformat(at)

    def test_may_be_for_all_of_a_provider(self, api: Api) -> None:
        made = api.post(PATH, {"provider": "openai", "discount_percent": "12.5"})
        assert (made["model"], made["discount_percent"]) == ("*", "12.5")

    def test_may_not_overlap(self, api: Api) -> None:
        assert api.post(PATH, HALF).status == 201
        refused = api.post(PATH, {**HALF, "discount_percent": "10"})
        assert (refused.status, refused.kind, set(refused.fields)) == (
            409,
            "price-overlap",
            {"effective_from"},
        )

    @pytest.mark.parametrize(
        ("fields", "wrong"),
        [
            ({"provider": ""}, "provider"),
            ({"provider": "x\ty"}, "provider"),
            ({"discount_percent": None}, "discount_percent"),
            ({"discount_percent": "101"}, "discount_percent"),
            ({"discount_percent": 50}, "discount_percent"),
            ({"prices": [{"unit": "input_tokens", "price_usd": "1"}]}, "discount_percent"),
            ({"prices": []}, "discount_percent"),
            ({"model": "never-heard-of"}, "model"),
            ({"effective_from": "2020-01-01T00:00:00Z"}, "effective_from"),
            ({"effective_to": "2020-01-01T00:00:00Z"}, "effective_to"),
            ({"note": "x" * 501}, "note"),
            ({"colour": "red"}, "colour"),
        ],
    )
    def test_name_what_is_wrong(self, api: Api, fields: dict[str, Any], wrong: str) -> None:
        refused = api.post(PATH, {**HALF, **fields})
        assert (refused.status, set(refused.fields)) == (400, {wrong})

    def test_name_what_is_wrong_with_a_price(self, api: Api) -> None:
        refused = api.post(
            PATH,
            {
                "provider": "openai",
                "model": "gpt-4o",
                "prices": [
                    {"unit": "thoughts", "price_usd": "1"},
                    {"unit": "input_tokens", "price_usd": "1e-6"},
                    {"unit": "input_tokens", "price_usd": "1", "tier_start": -1},
                    {"unit": "input_tokens"},
                ],
            },
        )
        assert set(refused.fields) == {
            "prices[0].unit",
            "prices[1].price_usd",
            "prices[2].tier_start",
            "prices[3].price_usd",
        }

    def test_repeat_and_stale_requests_change_nothing(self, api: Api, cast: Cast) -> None:
        first = api.post(PATH, HALF, key="k")
        assert api.post(PATH, HALF, key="k").body == first.body
        assert PriceOverride.objects.filter(tenant=cast.tenant).count() == 1
        stale = api.post(f"{PATH}/{first['id']}/end", headers={"If-Match": '"other"'})
        assert stale.status == 412
        assert set(
            api.post(f"{PATH}/{first['id']}/end", {"effective_to": "2020-01-01T00:00:00Z"}).fields
        ) == {"effective_to"}

    def test_are_the_tenants_own_and_for_those_who_may(self, api: Api, cast: Cast) -> None:
        made = api.post(PATH, HALF)
        charlie = api_of(cast.charlie.tenant, "read", "manage")
        never = ids.encode("pov", ids.decode("pov", made["id"]).__class__(int=7))
        for wanted in (made["id"], never, "nonsense"):
            assert charlie.get(f"{PATH}/{wanted}").status == 404
            assert charlie.post(f"{PATH}/{wanted}/end").status == 404
        assert charlie.all(PATH) == []
        for who, kind in (
            (api_of(cast.tenant, "read"), "forbidden-scope"),
            (Api(user=cast.bob.user), "forbidden-role"),
        ):
            assert who.get(f"{PATH}/{made['id']}").status == 200
            assert who.post(PATH, HALF).kind == kind
            assert who.post(f"{PATH}/{made['id']}/end").kind == kind
        Member.objects.filter(pk=cast.bob.pk).update(role=Role.BILLING)
        assert Api(user=cast.bob.user).post(f"{PATH}/{made['id']}/end").status == 200
