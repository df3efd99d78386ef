"""What belongs to one budget: overrides, increases, counters."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from noburn.kit import ids
from noburn.kit.rest.pages import cursor_of
from tests.support.api import Api
from tests.support.asgi import Answer
from tests.tenants.cast import Cast, api_of

if TYPE_CHECKING:
    from tests.support.world import Account

pytestmark = pytest.mark.real_db


def budget(api: Api, **fields: Any) -> str:
    made = api.post("/v1/budgets", {"scope": "customer", "window": "month", "limit_usd": "10", **fields})
    assert made.status == 201, made
    return f"/v1/budgets/{made['id']}"


def tokens(api: Api) -> str:
    made = api.post(
        "/v1/budgets", {"scope": "customer", "metric": "tokens", "window": "day", "limit_tokens": 9}
    )
    return f"/v1/budgets/{made['id']}"


def wire(at: datetime) -> str:
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")


class TestOverrides:
    def test_are_set_changed_listed_and_removed(self, api: Api) -> None:
        path = f"{budget(api)}/overrides"
        made = api.put(path, {"subject": "acme", "limit_usd": "50"})
        assert (made.status, made["subject"], made["limit_usd"]) == (200, "acme", "50")
        assert made["id"].startswith("ovr_")
        changed = api.put(
            path, {"subject": "acme", "limit_usd": "60"}, headers={"If-Match": made.headers["etag"]}
        )
        assert (changed["id"], changed["limit_usd"]) == (made["id"], "60")
        stale = api.put(
            path, {"subject": "acme", "limit_usd": "70"}, headers={"If-Match": made.headers["etag"]}
        )
        assert stale.status == 412
        api.put(path, {"subject": "a/b ?", "limit_usd": "1"})
        assert [o["subject"] for o in api.all(path, limit=1)] == ["a/b ?", "acme"]
        assert [o["limit_usd"] for o in api.all(path, subject="acme")] == ["60"]
        assert [o["subject"] for o in api.all(path, search="/B")] == ["a/b ?"]
        assert api.delete(f"{path}/{made['id']}", headers={"If-Match": made.headers["etag"]}).status == 412
        assert api.delete(f"{path}/{made['id']}").status == 204
        assert api.delete(f"{path}/{made['id']}").status == 404
        assert len(api.all(path)) == 1

    def test_name_what_is_wrong(self, api: Api) -> None:
        path = f"{budget(api)}/overrides"
        for body, wrong in (
            ({"limit_usd": "1"}, {"subject"}),
            ({"subject": "acme"}, {"limit_usd"}),
            ({"subject": "*", "limit_usd": "1"}, {"subject"}),
            ({"subject": " x", "limit_usd": "1"}, {"subject"}),
            ({"subject": "acme", "limit_usd": "1.0000000001"}, {"limit_usd"}),
            ({"subject": "acme", "limit_usd": "1", "limit_tokens": 1}, {"limit_tokens"}),
            ({"subject": "acme", "limit_usd": "1", "colour": "red"}, {"colour"}),
        ):
            assert set(api.put(path, body).fields) == wrong, body
        one = f"{budget(api, subject='acme')}/overrides"
        assert set(api.put(one, {"subject": "acme", "limit_usd": "1"}).fields) == {"budget"}
        assert api.put(f"{tokens(api)}/overrides", {"subject": "a", "limit_tokens": 5})["limit_tokens"] == 5

    def test_come_in_batches_all_or_none(self, api: Api) -> None:
        path = f"{budget(api)}/overrides"
        items: list[dict[str, Any]] = [{"subject": f"s{n}", "limit_usd": str(n)} for n in range(1_000)]
        saved = api.post(f"{path}/bulk", {"items": items})
        assert (saved.status, saved["items"][7]["limit_usd"]) == (200, "7")
        assert len(api.all(path, limit=200)) == 1_000
        refused = api.post(
            f"{path}/bulk",
            {
                "items": [
                    {"subject": "new", "limit_usd": "1"},
                    {"subject": "b"},
                    {"subject": "c", "limit_tokens": 1},
                ]
            },
        )
        assert set(refused.fields) == {"items[1].limit_usd", "items[2].limit_usd", "items[2].limit_tokens"}
        twice = [{"subject": "new", "limit_usd": "1"}] * 2
        assert set(api.post(f"{path}/bulk", {"items": twice}).fields) == {"items[1].subject"}
        assert api.all(path, subject="new") == []


class TestIncreases:
    def test_are_granted_listed_and_cancelled(self, api: Api, cast: Cast) -> None:
        path = f"{budget(api)}/increases"
        made = api.post(
            path, {"subject": "acme", "amount_usd": "5", "windows": 2, "reason": "a launch"}, key="k"
        )
        assert made.status == 201, made
        assert (made["subject"], made["amount_usd"], made["state"]) == ("acme", "5", "active")
        assert made["created_by"].startswith("key:key_")
        assert (made["cancelled_at"], made["cancelled_by"]) == (None, None)
        later = wire(datetime.now(UTC) + timedelta(days=1))
        ends = wire(datetime.now(UTC) + timedelta(days=2))
        scheduled = api.post(
            path, {"amount_usd": "1", "starts_at": later, "ends_at": ends, "reason": "x", "windows": None}
        )
        assert (scheduled["state"], scheduled["subject"]) == ("scheduled", "*")
        assert datetime.fromisoformat(scheduled["ends_at"]) == datetime.fromisoformat(ends)
        assert [i["id"] for i in api.all(path, limit=1)] == [scheduled["id"], made["id"]]
        assert [i["id"] for i in api.all(path, state="scheduled")] == [scheduled["id"]]
        assert [i["id"] for i in api.all(path, subject="acme")] == [made["id"]]
        again = api.post(
            path, {"subject": "acme", "amount_usd": "5", "windows": 2, "reason": "a launch"}, key="k"
        )
        assert again.body == made.body
        assert len(api.all(path)) == 2
        cancelled = api.post(f"{path}/{made['id']}/cancel")
        assert (cancelled.status, cancelled["state"]) == (200, "cancelled")
        assert cancelled["cancelled_by"] == made["created_by"]
        assert [i["id"] for i in api.all(path, state="cancelled")] == [made["id"]]
        assert api.all(path, state="active") == []

    @pytest.mark.parametrize(
        ("fields", "wrong"),
        [
            ({"amount_usd": None}, {"amount_usd"}),
            ({"amount_usd": "0"}, {"amount_usd"}),
            ({"amount_usd": 5}, {"amount_usd"}),
            ({"amount_tokens": 5}, {"amount_tokens"}),
            ({"reason": ""}, {"reason"}),
            ({"reason": None}, {"reason"}),
            ({"windows": 0}, {"windows"}),
            ({"windows": "1"}, {"windows"}),
            ({"windows": 1.5}, {"windows"}),
            ({"windows": None}, {"ends_at"}),
            ({"ends_at": "2099-01-01T00:00:00Z"}, {"ends_at"}),
            ({"windows": None, "ends_at": "2020-01-01T00:00:00Z"}, {"ends_at"}),
            ({"windows": None, "ends_at": "tomorrow"}, {"ends_at"}),
            ({"starts_at": "2020-01-01T00:00:00Z"}, {"starts_at"}),
            ({"subject": " "}, {"subject"}),
            ({"colour": "red"}, {"colour"}),
        ],
    )
    def test_name_what_is_wrong(self, api: Api, fields: dict[str, Any], wrong: set[str]) -> None:
        body = {"amount_usd": "5", "windows": 1, "reason": "x", **fields}
        refused = api.post(f"{budget(api)}/increases", body)
        assert (refused.status, set(refused.fields)) == (400, wrong)

    def test_are_not_found_under_another_budget(self, api: Api, cast: Cast) -> None:
        path = budget(api)
        made = api.post(f"{path}/increases", {"amount_usd": "5", "windows": 1, "reason": "x"})
        assert api.post(f"{budget(api)}/increases/{made['id']}/cancel").status == 404
        charlie = api_of(cast.charlie.tenant, "read", "manage")
        assert charlie.post(f"{path}/increases/{made['id']}/cancel").status == 404
        reader = api_of(cast.tenant, "read")
        assert reader.post(f"{path}/increases/{made['id']}/cancel").kind == "forbidden-scope"
        override = api.put(f"{path}/overrides", {"subject": "a", "limit_usd": "1"})
        assert api.delete(f"{budget(api)}/overrides/{override['id']}").status == 404


class TestCounters:
    def asked(self, alice: Account, name: str, **query: Any) -> Answer:
        from tenants.models import Tenant

        api = api_of(Tenant.objects.get(pk=alice.tenant_id), "read", "manage")
        return api.get(f"/v1/budgets/{ids.encode('bud', alice.budgets[name].pk)}/counters", **query)

    def test_show_how_each_subject_stands(self, alice: Account) -> None:
        alice.budget("each", "$10", subject="*", window="month")
        alice.override("each", "acme", "$20")
        alice.settle(alice.place("$2"), "$1.5")
        alice.place("$3")
        alice.settle(alice.place("$1", customer="other"), "$1")
        alice.acknowledged()
        first = self.asked(alice, "each", limit=1)
        (acme,) = first["items"]
        assert (acme["subject"], acme["limit_usd"], acme["spent_usd"]) == ("acme", "20", "1.5")
        assert (acme["remaining_usd"], acme["stranded_usd"]) == ("18.5", "0")
        assert float(acme["held_usd"]) >= 3
        assert acme["starts_at"] < acme["resets_at"]
        (other,) = self.asked(alice, "each", cursor=first["next_cursor"])["items"]
        assert (other["subject"], other["remaining_usd"]) == ("other", "9")
        (found,) = self.asked(alice, "each", subject="other", fields="subject,spent_usd")["items"]
        assert found == {"subject": "other", "spent_usd": "1"}
        assert self.asked(alice, "each", subject="nobody")["items"] == []
        for odd in ({"colour": "red"}, {"cursor": cursor_of(["a\x00", acme["subject"]])}):
            assert self.asked(alice, "each", **odd).status == 400

    def test_count_increases_in_and_what_a_lost_redis_locks_out(self, alice: Account) -> None:
        from budgets.services.increases import NewIncrease, create_increase

        budget = alice.budget("acme", 100, metric="tokens", window="day")
        assert alice.place("$1", max_output_tokens=30).decision == "allow"
        create_increase(
            tenant_id=alice.tenant_id,
            budget_id=budget.pk,
            increase=NewIncrease(amount=50, windows=1, reason="x"),
            actor="test",
            now=datetime.now(UTC),
        )
        alice.world.lose_redis()
        alice.world.recover()
        (row,) = self.asked(alice, "acme")["items"]
        assert row["limit_tokens"] == 150
        assert row["stranded_tokens"] == row["held_tokens"] >= 30
        assert row["remaining_tokens"] == 150 - row["stranded_tokens"]
