from __future__ import annotations

import pytest

from noburn.kit import ids
from tests.support.api import Api
from tests.support.world import Account, World

pytestmark = pytest.mark.real_db


@pytest.fixture
def api(alice: Account) -> Api:
    return Api(secret=alice.key(["read", "manage"]).secret)


class TestTenantSettings:
    def test_changes_what_the_next_call_meets(self, api: Api, alice: Account) -> None:
        assert alice.place(model="gpt-77", max_output_tokens=10).decision == "price_unknown"
        assert api.patch("/v1/tenant", {"unknown_model": "dearest"}).status == 200
        assert alice.place(model="gpt-77", max_output_tokens=10).decision == "allow"

    def test_names_every_wrong_field(self, api: Api) -> None:
        refused = api.patch(
            "/v1/tenant",
            {
                "time_zone": "Mars",
                "name": "",
                "default_max_output_tokens": 0,
                "slug": "x",
                "unknown_model": "y",
            },
        )
        assert set(refused.fields) == {"name", "default_max_output_tokens", "slug", "unknown_model"}
        assert set(api.patch("/v1/tenant", {"time_zone": "Mars"}).fields) == {"time_zone"}

    @pytest.mark.parametrize("zone", ["Pacific/Kiritimati", "Pacific/Pago_Pago", "Asia/Kathmandu"])
    def test_moves_to_another_zone_without_giving_any_budget_twice(
        self, api: Api, alice: Account, world: World, zone: str
    ) -> None:
        alice.budget("acme", "$1", window="month")
        alice.settle(alice.place("$0.75"), "$0.75")
        assert api.patch("/v1/tenant", {"time_zone": zone}).status == 200
        assert alice.place("$0.75").decision == "budget_exceeded"
        assert alice.place("$0.25").decision == "allow"
        assert alice.verify().differences == ()

    @pytest.mark.parametrize("zone", ["Pacific/Kiritimati", "Asia/Kathmandu"])
    def test_moves_back_with_what_was_spent_meanwhile(
        self, api: Api, alice: Account, world: World, zone: str
    ) -> None:
        budget = alice.budget("acme", "$1", window="month")
        alice.settle(alice.place("$0.25"), "$0.25")
        assert api.patch("/v1/tenant", {"time_zone": zone}).status == 200
        alice.settle(alice.place("$0.5"), "$0.5")
        assert api.patch("/v1/tenant", {"time_zone": "UTC"}).status == 200
        shown = api.get(f"/v1/budgets/{ids.encode(ids.BUDGET, budget.pk)}/counters").body["items"]
        assert {row["spent_usd"] for row in shown} == {"0.75"}
        assert alice.place("$0.5").decision == "budget_exceeded"
        alice.settle(alice.place("$0.25"), "$0.25")
        assert alice.place("$0.01").decision == "budget_exceeded"
        assert alice.verify().differences == ()
