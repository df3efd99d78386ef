"""POST /v1/runs, stop and end: what a run may use, who is told, and what becomes of its calls."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from budgets.domain import runs
from budgets.tasks import end_runs
from tests.support.api import Api

if TYPE_CHECKING:
    from tests.support.asgi import Answer
    from tests.support.world import Account, World

pytestmark = pytest.mark.real_db


def start(alice: Account, *, key: str = "new", **fields: Any) -> Answer:
    answer: Answer = alice.world.run(alice.send("/v1/runs", fields, key=key))
    return answer


def close(alice: Account, run: str, how: str = "stop", **fields: Any) -> Answer:
    answer: Answer = alice.world.run(alice.send(f"/v1/runs/{run}/{how}", fields))
    return answer


def place(alice: Account, run: str, amount: str = "$0.10", **fields: Any) -> Answer:
    return alice.place(amount, subject={"customer": "acme", "run": run}, **fields)


class TestStart:
    def test_answers_its_caps_and_places_calls_under_them(self, alice: Account) -> None:
        started = start(alice, run="r1", caps={"usd": "0.25", "steps": 10, "seconds": 600, "depth": 2})
        assert (started.status, started["decision"], started["state"]) == (200, "allow", "open")
        assert started["caps"] == {"usd": "0.25", "steps": 10, "seconds": 600, "depth": 2}
        placed = place(alice, "r1")
        shown = {
            (b["scope"], b["id"], b.get("remaining_usd"), b.get("remaining_requests"))
            for b in placed["budgets"]
        }
        assert shown == {("run", "r1", "0.15", None), ("run", "r1", None, 9)}

    def test_is_answered_again_and_not_started_twice(self, alice: Account) -> None:
        first = start(alice, key="once", caps={"usd": "1"})
        again = start(alice, key="once", caps={"usd": "1"})
        assert (first["replayed"], again["replayed"], first["run"]) == (False, True, again["run"])
        assert start(alice, key="once", caps={"usd": "2"}).status == 409
        assert start(alice, run="mine", caps={"usd": "1"})["run"] == "mine"
        assert start(alice, run="mine", caps={"usd": "1"})["replayed"] is True
        assert start(alice, run="mine", caps={"usd": "3"}).status == 409

    def test_names_every_bad_field(self, alice: Account) -> None:
        answer = start(alice, caps={"usd": "-1"}, subject={"project": "nowhere"}, parent="nobody")
        assert (answer.status, {e["field"] for e in answer["errors"]}) == (
            400,
            {"caps.usd", "subject.project"},
        )
        answer = start(alice, parent="nobody")
        assert (answer.status, answer["errors"][0]["field"]) == (400, "parent")

    def test_of_so_many_that_a_key_may_have_leaked_is_refused(
        self, alice: Account, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(runs, "OPEN_MAX", 2)
        assert [start(alice).status for _ in range(3)] == [200, 200, 422]


class TestCaps:
    def test_refuse_what_does_not_fit_as_a_budget_does(self, alice: Account) -> None:
        start(alice, run="r1", caps={"usd": "0.25"})
        place(alice, "r1"), place(alice, "r1")
        busy = place(alice, "r1")
        assert (busy["decision"], busy["reason"], busy["run"]) == (
            "deny",
            "budget_busy",
            {"id": "r1", "cap": "usd"},
        )
        refused = place(alice, "r1", "$0.30")
        assert (refused["reason"], refused["budget"]["limit_usd"]) == ("run_limit", "0.25")
        assert place(alice, "r2", "$0.30")["decision"] == "allow"

    def test_count_steps(self, alice: Account) -> None:
        start(alice, run="r1", caps={"steps": 2})
        for _ in range(2):
            assert alice.settle(place(alice, "r1"), "$0.01").status == 200
        third = place(alice, "r1")
        assert (third["reason"], third["run"]) == ("run_limit", {"id": "r1", "cap": "steps"})
        assert alice.verify().differences == ()

    def test_of_a_parent_hold_for_its_children(self, alice: Account) -> None:
        start(alice, run="top", caps={"usd": "0.25"})
        start(alice, run="mid", parent="top", caps={"steps": 5})
        start(alice, run="low", parent="mid")
        assert place(alice, "low")["decision"] == "allow"
        assert alice.settle(place(alice, "mid"), "$0.1").status == 200
        last = place(alice, "low", "$0.20")
        assert (last["reason"], last["run"]) == ("run_limit", {"id": "top", "cap": "usd"})
        assert alice.verify().differences == ()

    def test_of_depth_refuse_to_start_what_is_too_deep(self, alice: Account) -> None:
        start(alice, run="top", caps={"depth": 1})
        assert start(alice, run="mid", parent="top")["decision"] == "allow"
        low = start(alice, run="low", parent="mid")
        assert (low["decision"], low["reason"], low["run"]) == (
            "deny",
            "run_limit",
            {"id": "mid", "cap": "depth"},
        )

    def test_of_seconds_end_it_by_redis_s_clock(self, alice: Account) -> None:
        start(alice, run="top", caps={"seconds": 600})
        start(alice, run="low", parent="top")
        assert place(alice, "low")["decision"] == "allow"
        _set_back(alice, "top", "low")
        late = place(alice, "low")
        assert (late["decision"], late["reason"], late["run"]["cap"], late["run"]["id"]) == (
            "deny",
            "run_limit",
            "seconds",
            "top",
        )

    def test_hold_against_many_calls_at_once(self, alice: Account) -> None:
        start(alice, run="r1", caps={"usd": "0.40"})
        answers = alice.world.all(
            [alice.placing("$0.10", subject={"customer": "acme", "run": "r1"}) for _ in range(30)]
        )
        assert sum(a["decision"] == "allow" for a in answers) == 4


def _set_back(alice: Account, *names: str) -> None:
    """Lets the time of runs be over, wherever it is kept."""
    alice.world.sql(
        "UPDATE budgets_run SET ends_at = now() - interval '1 second', version = version + 1 WHERE tenant_id = %s",
        alice.tenant_id,
    )
    for name in names:
        alice.world.redis.delete(alice.keys().run(runs.key_name(alice.tenant_id, name)))


class TestStop:
    def test_holds_for_the_next_call_and_for_runs_below(self, alice: Account) -> None:
        start(alice, run="top")
        start(alice, run="low", parent="top", caps={"usd": "1"})
        assert place(alice, "low")["decision"] == "allow"
        stopped = close(alice, "top", reason="it went astray")
        assert (stopped["state"], stopped["closed_now"], stopped["runs_closed"]) == ("stopped", True, 2)
        for name in ("top", "low"):
            refused = place(alice, name)
            assert (refused["decision"], refused["reason"]) == ("deny", "run_stopped")
        assert "it went astray" in place(alice, "top")["detail"]
        again = close(alice, "top")
        assert (again["closed_now"], again["reason"]) == (False, "it went astray")

    def test_holds_on_a_gateway_that_knows_the_run_as_open(self, alice: Account, world: World) -> None:
        from budgets.gateway.app import GatewayApp
        from tests.support.asgi import send
        from tests.support.world import gateway_config

        other = GatewayApp(gateway_config())
        world.run(other.startup())
        try:
            start(alice, run="r1", caps={"usd": "5"})
            body = alice.call("$0.01", subject={"run": "r1"})

            def there() -> Answer:
                answer: Answer = world.run(
                    send(
                        other, "POST", "/v1/preflight", body=body, idempotency_key="new", secret=alice.secret
                    )
                )
                return answer

            assert there()["decision"] == "allow"
            close(alice, "r1")
            assert there()["reason"] == "run_stopped"
        finally:
            world.run(other.shutdown())

    def test_outlives_a_loss_of_redis(self, alice: Account, world: World) -> None:
        start(alice, run="r1")
        start(alice, run="r2", caps={"usd": "0.15"})
        assert place(alice, "r2")["decision"] == "allow"
        close(alice, "r1")
        world.lose_redis()
        world.recover()
        assert place(alice, "r1")["reason"] == "run_stopped"
        # What the lost Redis may have spent of the cap stays locked.
        assert place(alice, "r2")["reason"] == "run_limit"

    def test_of_a_run_that_calls_alone_named_works(self, alice: Account) -> None:
        assert place(alice, "r1")["decision"] == "allow"
        assert close(alice, "r1")["state"] == "stopped"
        assert place(alice, "r1")["reason"] == "run_stopped"

    def test_lets_what_is_under_way_be_settled(self, alice: Account) -> None:
        start(alice, run="r1", caps={"usd": "1"})
        placed = alice.place("$0.10", key="k", subject={"run": "r1"})
        close(alice, "r1")
        replayed = alice.place("$0.10", key="k", subject={"run": "r1"})
        assert replayed["authorization"] == placed["authorization"]
        assert alice.settle(placed, "$0.07")["cost_usd"] == "0.07"
        assert alice.verify().differences == ()

    def test_needs_a_key_that_may_manage_or_call(self, alice: Account) -> None:
        for scopes, status in ((["manage"], 200), (["preflight"], 200), (["read"], 403)):
            secret = alice.key(scopes).secret
            start(alice, run="-".join(scopes))
            answer = alice.world.run(alice.send(f"/v1/runs/{'-'.join(scopes)}/stop", {}, secret=secret))
            assert answer.status == status

    def test_of_another_tenant_s_run_stops_nothing(self, alice: Account, world: World) -> None:
        start(alice, run="r1")
        close(world.account("charlie"), "r1")
        assert place(alice, "r1")["decision"] == "allow"


class TestEnd:
    def test_tells_what_the_run_used(self, alice: Account) -> None:
        start(alice, run="top", caps={"usd": "1", "steps": 2})
        start(alice, run="low", parent="top")
        placed = alice.place(
            model="gpt-4o-mini", input_tokens=100, max_output_tokens=10, subject={"run": "low"}
        )
        alice.settle(placed, usage={"input_tokens": 100, "output_tokens": 10})
        alice.settle(place(alice, "top"), "$0.02")
        assert place(alice, "top")["reason"] == "run_limit"
        alice.world.run(alice.world.app._plane.decisions.flush())
        summary = close(alice, "top", "end", reason="done")["summary"]
        assert (summary["calls"], summary["cost_usd"], summary["runs"]) == (2, "0.020021", 2)
        assert [(m["model"], m["cost_usd"]) for m in summary["models"]] == [
            ("own-tool", "0.02"),
            ("gpt-4o-mini", "0.000021"),
        ]
        assert summary["refused"] == {"run_limit": 1}
        assert place(alice, "low")["reason"] == "run_stopped"

    def test_of_a_run_that_nobody_started_is_not_found(self, alice: Account) -> None:
        assert close(alice, "nobody", "end").status == 404

    def test_gives_its_counters_up_once_no_hold_can_be_open(self, alice: Account, world: World) -> None:
        start(alice, run="r1", caps={"usd": "1"})
        alice.settle(place(alice, "r1"), "$0.02")
        close(alice, "r1", "end")
        world.sql(
            "UPDATE counters SET ends_at = ends_at - interval '1 hour' WHERE tenant_id = %s", alice.tenant_id
        )
        alice.acknowledged()
        world.sweep()
        assert world.sql("SELECT state FROM grants WHERE tenant_id = %s", alice.tenant_id) == [("retired",)]
        assert alice.verify().differences == ()


class TestIdleRuns:
    def test_are_ended_when_nobody_calls_any_more(self, alice: Account, world: World) -> None:
        start(alice, run="idle", idle_seconds=300)
        start(alice, run="busy", idle_seconds=300)
        world.sql(
            "UPDATE budgets_run SET last_seen_at = now() - interval '301 seconds' WHERE tenant_id = %s",
            alice.tenant_id,
        )
        # A call that finds its run no longer in Redis notes that it lives.
        world.redis.delete(alice.keys().run(runs.key_name(alice.tenant_id, "busy")))
        assert place(alice, "busy")["decision"] == "allow"
        end_runs.run()
        assert place(alice, "idle")["reason"] == "run_stopped"
        assert place(alice, "busy")["decision"] == "allow"


class TestTheList:
    def test_shows_runs_with_what_they_used(self, alice: Account) -> None:
        api = Api(secret=alice.key(["read"]).secret)
        start(alice, run="top", caps={"usd": "1"}, subject={"customer": "acme"}, metadata={"agent": "a"})
        start(alice, run="low", parent="top")
        alice.settle(place(alice, "low"), "$0.02")
        close(alice, "low", "end", reason="done")
        assert [(r["id"], r["state"]) for r in api.all("/v1/runs")] == [("low", "ended"), ("top", "open")]
        assert [r["id"] for r in api.all("/v1/runs", root="true")] == ["top"]
        assert [r["id"] for r in api.all("/v1/runs", state="ended", parent="top")] == ["low"]
        found = api.get("/v1/runs/top")
        assert (found["caps"]["usd"], found["metadata"], found["customer"]) == ("1", {"agent": "a"}, "acme")
        assert (found["summary"]["cost_usd"], found["summary"]["runs"]) == ("0.02", 2)
        assert api.get("/v1/runs/nobody").status == 404
