"""Guards from the management API to the refusal, the log of decisions and the alert."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.support.api import Api

if TYPE_CHECKING:
    from tests.support.asgi import Answer
    from tests.support.world import Account, World

pytestmark = pytest.mark.real_db


def guard(alice: Account, kind: str, *, mode: str = "enforce", scope: str = "customer", **limits: Any) -> str:
    api = Api(secret=alice.key(["read", "manage"]).secret)
    answer = api.post("/v1/guards", {"kind": kind, "mode": mode, "scope": scope, "limits": limits})
    assert answer.status == 201, answer
    return str(answer["id"])


def logged(alice: Account) -> list[tuple[Any, ...]]:
    alice.world.run(alice.world.app._plane.decisions.flush())
    return alice.world.sql(
        """SELECT reason, guard_id IS NOT NULL, guards_observed IS NOT NULL FROM decisions
        WHERE tenant_id = %s ORDER BY id""",
        alice.tenant_id,
    )


class TestRepeat:
    def test_stops_a_loop_and_says_what_tripped(self, alice: Account) -> None:
        its = guard(alice, "repeat", times=3, seconds=60)
        answers = [alice.place("$0.01", fingerprint="same") for _ in range(5)]
        assert [a["decision"] for a in answers] == ["allow"] * 3 + ["deny"] * 2
        refused = answers[-1]
        assert refused["reason"] == "loop_detected"
        assert refused["guard"] == {
            "id": its,
            "name": "repeat of customer *",
            "kind": "repeat",
            "scope": "customer",
            "subject": "acme",
        }
        assert "3 times within 60 s" in refused["detail"]
        assert alice.place("$0.01", fingerprint="other")["decision"] == "allow"
        assert alice.place("$0.01", fingerprint="same", customer="bob")["decision"] == "allow"
        assert logged(alice)[3:5] == [("loop_detected", True, False)] * 2

    def test_that_observes_stops_nothing_and_is_told_of(self, alice: Account) -> None:
        its = guard(alice, "repeat", mode="observe", times=1, seconds=60)
        first, second = (alice.place("$0.01", fingerprint="same") for _ in range(2))
        assert (first["warnings"], second["decision"]) == ([], "allow")
        assert second["warnings"] == [f"guard {its} (repeat) would have stopped this call"]
        assert logged(alice) == [(None, False, False), (None, False, True)]

    def test_counts_a_repeated_pre_flight_once(self, alice: Account) -> None:
        guard(alice, "repeat", times=2, seconds=60)
        answers = [alice.place("$0.01", fingerprint="same", key="one") for _ in range(4)]
        assert len({a["authorization"] for a in answers}) == 1
        assert alice.place("$0.01", fingerprint="same")["decision"] == "allow"
        assert alice.place("$0.01", fingerprint="same")["reason"] == "loop_detected"

    def test_counts_once_what_a_budget_asks_for_on_the_way(self, alice: Account) -> None:
        guard(alice, "repeat", times=2, seconds=60)
        alice.budget("acme", "$1")
        answers = [alice.place("$0.01", fingerprint="same")["decision"] for _ in range(3)]
        assert answers == ["allow", "allow", "deny"]

    def test_counts_no_dry_run(self, alice: Account) -> None:
        guard(alice, "repeat", times=1, seconds=60)
        for _ in range(3):
            assert alice.place("$0.01", fingerprint="same", dry_run=True)["decision"] == "allow"

    def test_holds_against_many_at_once(self, alice: Account) -> None:
        guard(alice, "repeat", times=5, seconds=60)
        answers = alice.world.all([alice.placing("$0.01", fingerprint="same") for _ in range(40)])
        assert sum(a["decision"] == "allow" for a in answers) == 5


class TestVelocity:
    def test_counts_what_calls_cost_once_they_are_settled(self, alice: Account) -> None:
        guard(alice, "velocity", usd_per_minute="1")
        placed = alice.place("$0.80")
        refused = alice.place("$0.80")
        assert (refused["reason"], refused["guard"]["kind"]) == ("velocity", "velocity")
        alice.settle(placed, "$0.05")
        assert alice.place("$0.80")["decision"] == "allow"


class TestCall:
    def test_that_is_too_large_is_refused(self, alice: Account) -> None:
        guard(alice, "call", scope="tenant", cost_usd="0.50", input_tokens=1_000)
        assert alice.place("$0.50")["decision"] == "allow"
        dear, long = alice.place("$0.51"), alice.place("$0.01", input_tokens=1_001)
        assert (dear["reason"], "$0.51" in dear["detail"]) == ("call_too_large", True)
        assert (long["reason"], "1001" in long["detail"]) == ("call_too_large", True)


class TestDepth:
    def test_stops_runs_that_are_too_deep(self, alice: Account) -> None:
        guard(alice, "depth", scope="tenant", levels=1)
        parent = None
        answers: list[Answer] = []
        for name in ("top", "mid", "low"):
            alice.world.run(alice.send("/v1/runs", {"run": name, **({"parent": parent} if parent else {})}))
            answers.append(alice.place("$0.01", subject={"run": name}))
            parent = name
        assert [a["decision"] for a in answers] == ["allow", "allow", "deny"]
        assert (answers[2]["reason"], answers[2]["run"]) == ("run_limit", {"cap": "depth"})


class TestNewcomers:
    def test_may_spend_so_much_at_first(self, alice: Account, world: World) -> None:
        guard(alice, "newcomer", usd="0.10", minutes=60)
        assert alice.place("$0.08", customer="new")["decision"] == "allow"
        refused = alice.place("$0.08", customer="new")
        assert (refused["reason"], refused["guard"]["subject"]) == ("velocity", "new")
        world.run(world.app._plane.subjects._flush())
        world.sql(
            "INSERT INTO tenants_customer (id, tenant_id, external_id, name, created_at) "
            "VALUES (gen_random_uuid(), %s, 'old', '', now() - interval '2 hours')",
            alice.tenant_id,
        )
        assert [alice.place("$0.08", customer="old")["decision"] for _ in range(3)] == ["allow"] * 3
        # A loss of Redis makes nobody new, and lets a newcomer begin anew.
        world.lose_redis()
        world.recover()
        assert [alice.place("$0.08", customer="old")["decision"] for _ in range(3)] == ["allow"] * 3
        assert [alice.place("$0.08", customer="new")["decision"] for _ in range(2)] == ["allow", "deny"]


class TestEdits:
    def test_hold_for_the_next_call(self, alice: Account) -> None:
        api = Api(secret=alice.key(["read", "manage"]).secret)
        its = guard(alice, "repeat", times=1, seconds=60)
        alice.place("$0.01", fingerprint="same")
        assert alice.place("$0.01", fingerprint="same")["decision"] == "deny"
        assert api.send("PATCH", f"/v1/guards/{its}", {"mode": "observe"})["mode"] == "observe"
        assert alice.place("$0.01", fingerprint="same")["decision"] == "allow"
        api.send("PATCH", f"/v1/guards/{its}", {"mode": "enforce"})
        assert api.send("DELETE", f"/v1/guards/{its}")["archived_at"] is not None
        assert alice.place("$0.01", fingerprint="same")["warnings"] == []

    def test_name_every_bad_field(self, alice: Account) -> None:
        api = Api(secret=alice.key(["read", "manage"]).secret)
        bad = api.post(
            "/v1/guards", {"kind": "repeat", "scope": "customer", "limits": {"times": 0, "usd": "1"}}
        )
        assert {e["field"] for e in bad["errors"]} == {"limits.times", "limits.seconds", "limits.usd"}
        assert bad.status == 400


class TestAlerts:
    def test_tell_of_what_tripped_once_an_hour(self, alice: Account, world: World) -> None:
        from budgets.tasks import tell_guards

        guard(alice, "repeat", times=1, seconds=60)
        for _ in range(4):
            alice.place("$0.01", fingerprint="same")
        world.run(world.app._plane.decisions.flush())
        tell_guards.run()
        tell_guards.run()
        rows = world.sql(
            """SELECT kind, subject, details ->> 'calls', details ->> 'guard_subject' FROM alerts_alert
            WHERE tenant_id = %s""",
            alice.tenant_id,
        )
        assert len(rows) == 1
        assert (rows[0][0], rows[0][2], rows[0][3]) == ("guard_tripped", "3", "acme")
