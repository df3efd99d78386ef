"""POST /v1/preflight: whom it lets through, under which budgets, and what it tells."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from budgets.domain.policy import EACH
from noburn.kit import ids

if TYPE_CHECKING:
    from tests.support.world import Account, World

pytestmark = pytest.mark.real_db

MINI: dict[str, Any] = {"model": "gpt-4o-mini", "input_tokens": 1200, "max_output_tokens": 500}
MINI_USD = "0.00048"


class TestAllow:
    def test_says_what_is_held_and_how_every_budget_stands(self, alice: Account) -> None:
        alice.budget("acme", "$10", window="month")
        answer = alice.place(**MINI)
        assert (answer.status, answer["decision"], answer["warnings"]) == (200, "allow", [])
        assert (answer["model"], answer["max_output_tokens"]) == ("gpt-4o-mini", 500)
        assert answer["hold"]["amount_usd"] == MINI_USD
        (budget,) = answer["budgets"]
        assert budget["id"] == ids.encode("bud", alice.budgets["acme"].pk)
        assert (budget["scope"], budget["limit_usd"], budget["remaining_usd"]) == (
            "customer",
            "10",
            "9.99952",
        )
        assert datetime.fromisoformat(budget["resets_at"]) > datetime.now(UTC)

    def test_carries_in_its_authorization_what_a_settlement_needs(self, alice: Account) -> None:
        alice.budget("acme", "$10")
        answer = alice.place(**MINI, tags={"feature": "chat"}, ttl_seconds=60)
        hold = alice.hold_of(answer)
        assert ids.encode("hold", hold.body.hold_id) == answer["hold"]["id"]
        assert (hold.body.tenant_id, hold.body.key_id) == (alice.tenant_id, alice.issued.key.pk)
        assert (hold.body.provider, hold.body.model, hold.body.customer) == ("openai", "gpt-4o-mini", "acme")
        assert (hold.body.tags, hold.body.project) == ({"feature": "chat"}, "default")
        assert [c.amount for c in hold.body.counters] == [480_000]
        assert hold.expires_ms - hold.placed_ms == 60_000

    def test_without_any_budget_places_a_hold_all_the_same(self, alice: Account) -> None:
        placed = alice.place(**MINI)
        assert (placed["decision"], placed["budgets"]) == ("allow", [])
        settled = alice.settle(placed, usage={"input_tokens": 1000, "output_tokens": 10})
        assert (settled["state"], settled["cost_usd"]) == ("settled", "0.000156")
        assert [e["cost"] for e in alice.ledger()] == [156_000]

    def test_assumes_the_tenant_s_cap_and_says_so(self, alice: Account) -> None:
        answer = alice.place(model="gpt-4o-mini", input_tokens=100)
        assert answer["max_output_tokens"] == 4096
        assert "send it to the provider" in answer["warnings"][0]

    def test_ignores_unknown_fields_with_a_warning(self, alice: Account) -> None:
        answer = alice.place(**MINI, colour="blue", shape=[1])
        assert answer["decision"] == "allow"
        assert answer["warnings"] == [
            "field 'colour' is not known and was ignored",
            "field 'shape' is not known and was ignored",
        ]


class TestDeny:
    def test_says_which_budget_what_would_fit_and_what_is_cheaper(self, alice: Account) -> None:
        alice.budget("acme", "$0.0003", window="month")
        answer = alice.place(**MINI)
        assert (answer["decision"], answer["reason"], answer["estimate_usd"]) == (
            "deny",
            "budget_exceeded",
            MINI_USD,
        )
        assert (answer["budget"]["scope"], answer["budget"]["remaining_usd"]) == ("customer", "0.0003")
        assert answer["fits_max_output_tokens"] == (300_000 - 1200 * 150) // 600
        assert answer["budget"]["resets_at"]
        cheaper = {a["model"]: a["estimate_usd"] for a in answer["alternatives"]}
        assert cheaper
        assert all(float(amount) <= 0.0003 for amount in cheaper.values())
        # Open weights that openai does not sell, though the price package lists them there.
        assert not [name for name in cheaper if "oss" in name]

    def test_names_the_tightest_of_several_budgets_whatever_their_order(self, alice: Account) -> None:
        alice.budget("all", "$5", scope="tenant")
        alice.budget("acme", "$0.10")
        assert alice.place("$0.20")["budget"]["scope"] == "customer"
        alice.limit("all", "$0.05")
        assert alice.place("$0.08")["budget"]["scope"] == "tenant"

    def test_is_not_stored_so_that_its_replay_is_decided_again(self, alice: Account) -> None:
        alice.budget("acme", "$0.10")
        assert alice.place("$0.20", key="again").decision == "budget_exceeded"
        alice.limit("acme", "$1")
        assert alice.place("$0.20", key="again").decision == "allow"


class TestReplay:
    def test_answers_the_same_authorization_while_the_hold_lives(self, alice: Account) -> None:
        alice.budget("acme", "$1")
        first, again = alice.place("$0.40", key="k"), alice.place("$0.40", key="k")
        assert again["authorization"] == first["authorization"]
        assert again["hold"] == first["hold"]
        assert alice.remaining("acme") == 600_000_000

    def test_thirty_two_times_at_once_makes_one_hold(self, alice: Account) -> None:
        alice.budget("acme", "$1")
        answers = alice.world.all(alice.placing("$0.40", key="k") for _ in range(32))
        assert len({answer["authorization"] for answer in answers}) == 1
        assert alice.remaining("acme") == 600_000_000
        assert alice.verify().totals.open_holds == 1

    def test_with_another_body_is_a_conflict(self, alice: Account) -> None:
        alice.place("$0.40", key="k")
        answer = alice.place("$0.41", key="k")
        assert (answer.status, answer.kind) == (409, "idempotency-conflict")
        assert "Idempotency-Key" in answer["detail"]

    def test_after_the_hold_is_resolved_is_a_new_call(self, alice: Account) -> None:
        alice.budget("acme", "$1")
        first = alice.place("$0.40", key="k")
        alice.settle(first, "$0.40")
        again = alice.place("$0.40", key="k")
        assert again["hold"]["id"] != first["hold"]["id"]
        alice.settle(again, "$0.40")
        assert alice.counter("acme")["spent"] == 800_000_000

    def test_after_an_epoch_change_is_a_new_hold(self, alice: Account) -> None:
        alice.budget("acme", "$1")
        first = alice.place("$0.40", key="k")
        alice.world.lose_redis()
        alice.world.recover()
        again = alice.place("$0.40", key="k")
        assert again["hold"]["id"] != first["hold"]["id"]
        assert [alice.settle(a, "$0.10")["state"] for a in (first, again)] == ["settled", "settled"]

    def test_of_one_key_by_two_tenants_makes_two_holds(self, alice: Account) -> None:
        charlie = alice.world.account("charlie")
        assert alice.place("$0.40", key="k")["hold"]["id"] != charlie.place("$0.40", key="k")["hold"]["id"]


class TestDryRun:
    def test_says_what_would_happen_and_places_nothing(self, alice: Account) -> None:
        alice.budget("acme", "$1")
        answer = alice.place("$0.40", dry_run=True)
        assert (answer["decision"], answer["estimate_usd"]) == ("allow", "0.4")
        assert "authorization" not in answer.body
        assert alice.place("$1.10", dry_run=True).decision == "budget_exceeded"
        assert alice.remaining("acme") == 1_000_000_000
        assert alice.verify().totals.open_holds == 0


class TestFit:
    def test_makes_the_output_cap_smaller_instead_of_refusing(self, alice: Account) -> None:
        alice.budget("acme", "$0.0003")
        answer = alice.place(**MINI, fit=True)
        assert (answer["decision"], answer["max_output_tokens"]) == ("allow", 200)
        assert answer["hold"]["amount_usd"] == "0.0003"
        assert alice.remaining("acme") == 0

    def test_still_refuses_what_cannot_be_made_small_enough(self, alice: Account) -> None:
        alice.budget("acme", "$0.0001")
        answer = alice.place(**MINI, fit=True)
        assert (answer.decision, answer["fits_max_output_tokens"]) == ("budget_exceeded", 0)

    def test_fits_a_budget_of_tokens(self, alice: Account) -> None:
        alice.budget("acme", 1500, metric="tokens")
        answer = alice.place(**MINI, fit=True)
        assert (answer["decision"], answer["max_output_tokens"]) == ("allow", 300)


class TestWait:
    def test_waits_for_a_hold_in_flight_and_is_woken(self, alice: Account) -> None:
        alice.budget("acme", "$1")
        first = alice.place("$0.80")
        waited, settled = alice.world.all(
            [alice.placing("$0.40", wait_ms=10_000), alice.settling(first, "$0.20")]
        )
        assert (waited["decision"], settled["state"]) == ("allow", "settled")

    def test_answers_busy_when_its_time_is_over(self, alice: Account) -> None:
        alice.budget("acme", "$1")
        alice.place("$0.80")
        answer = alice.place("$0.40", wait_ms=60)
        assert answer.decision == "budget_busy"
        assert answer["retry_after_ms"] > 0

    def test_does_not_wait_for_what_can_never_fit(self, alice: Account) -> None:
        alice.budget("acme", "$1")
        assert alice.place("$1.40", wait_ms=10_000).decision == "budget_exceeded"

    def test_serves_those_who_wait_in_the_order_in_which_they_came(self, alice: Account) -> None:
        alice.budget("acme", "$1")
        first = alice.place("$1")
        order: list[int] = []

        async def waits(number: int) -> None:
            placed = await alice.placing("$0.60", wait_ms=10_000)
            assert placed.decision == "allow"
            order.append(number)
            await alice.voiding(placed)

        async def leaves() -> None:
            await alice.voiding(first)

        alice.world.all([*(waits(number) for number in range(8)), leaves()])
        assert order == list(range(8))


class TestWarnBudget:
    def test_never_refuses_but_says_what_it_would_have_refused(self, alice: Account) -> None:
        alice.budget("acme", "$1", action="warn")
        for _ in range(5):
            answer = alice.place("$0.20")
            assert (answer["decision"], answer["warnings"]) == ("allow", [])
            alice.settle(answer, "$0.20")
        answer = alice.place("$0.20")
        assert answer["decision"] == "allow"
        (warning,) = answer["warnings"]
        assert "would have refused" in warning
        alice.settle(answer, "$0.20")
        assert alice.counter("acme")["spent"] == 1_200_000_000
        assert not alice.verify().differences

    def test_beside_a_blocking_one_lets_that_decide(self, alice: Account) -> None:
        alice.budget("acme", "$0.10", action="warn")
        alice.budget("all", "$1", scope="tenant")
        assert alice.place("$0.90")["decision"] == "allow"
        assert alice.place("$0.20")["budget"]["scope"] == "tenant"

    def test_stays_exact_when_settlements_exceed_their_holds(self, alice: Account) -> None:
        alice.budget("acme", "$1", action="warn")
        for _ in range(3):
            alice.settle(alice.place("$0.50"), "$0.70")
        assert alice.counter("acme")["spent"] == 2_100_000_000
        assert alice.remaining("acme") == 0
        alice.limit("acme", "$3")
        assert alice.remaining("acme") == 900_000_000
        assert not alice.verify().differences


class TestMetrics:
    def test_tokens_count_input_and_output(self, alice: Account) -> None:
        alice.budget("acme", 2000, metric="tokens")
        placed = alice.place(**MINI)
        (budget,) = placed["budgets"]
        assert (budget["limit_tokens"], budget["remaining_tokens"]) == (2000, 300)
        assert alice.place(**MINI).decision == "budget_busy"
        alice.settle(placed, usage={"input_tokens": 1200, "output_tokens": 100})
        assert alice.remaining("acme") == 700
        assert not alice.verify().differences

    def test_requests_count_calls(self, alice: Account) -> None:
        alice.budget("acme", 2, metric="requests")
        placed = [alice.place(**MINI) for _ in range(3)]
        assert [p.decision for p in placed] == ["allow", "allow", "budget_busy"]
        alice.settle(placed[0], usage={"input_tokens": 1, "output_tokens": 1})
        alice.void(placed[1])
        assert alice.remaining("acme") == 1
        assert not alice.verify().differences

    def test_of_one_call_are_all_or_none(self, alice: Account) -> None:
        alice.budget("usd", "$1", subject="acme")
        alice.budget("tokens", 1700, subject="acme", metric="tokens")
        alice.budget("calls", 5, subject="acme", metric="requests")
        assert [alice.place(**MINI).decision for _ in range(2)] == ["allow", "budget_busy"]
        assert alice.remaining("calls", "acme") == 4


class TestMinuteWindow:
    def test_is_a_rate_of_what_was_really_used(self, alice: Account) -> None:
        alice.budget("acme", 3, metric="requests", window="minute")
        placed = [alice.place(**MINI) for _ in range(4)]
        if alice.hold_of(placed[0]).placed_ms // 60_000 != alice.world.redis_ms() // 60_000:
            # The minute turned in between; the next one is long enough.
            placed = [alice.place(**MINI) for _ in range(4)]
        assert [p.decision for p in placed] == ["allow", "allow", "allow", "budget_exceeded"]
        assert placed[3]["budget"]["window"] == "minute"
        alice.void(placed[0])
        assert alice.place(**MINI).decision == "allow"
        assert not alice.verify().differences

    def test_leaves_no_trace_in_postgresql(self, alice: Account) -> None:
        alice.budget("acme", 3, metric="requests", window="minute")
        alice.settle(alice.place(**MINI), usage={"input_tokens": 1})
        assert alice.world.sql("SELECT 1 FROM counters WHERE tenant_id = %s", alice.tenant_id) == []


class TestTemplate:
    def test_holds_for_a_customer_s_very_first_call(self, alice: Account) -> None:
        alice.budget("each", "$0.10", subject=EACH)
        assert alice.place("$0.20", customer="unheard-of").decision == "budget_exceeded"

    def test_counts_each_subject_on_its_own(self, alice: Account) -> None:
        alice.budget("each", "$1", subject=EACH)
        assert alice.place("$0.90", customer="one").decision == "allow"
        assert alice.place("$0.90", customer="one").decision == "budget_busy"
        assert alice.place("$0.90", customer="two").decision == "allow"

    def test_lets_an_override_stand_for_one_subject(self, alice: Account) -> None:
        alice.budget("each", "$1", subject=EACH)
        alice.override("each", "big", "$5")
        assert alice.place("$4", customer="big").decision == "allow"
        assert alice.place("$4", customer="small").decision == "budget_exceeded"
        alice.override("each", "big", "$4.50")
        assert alice.place("$0.60", customer="big").decision == "budget_busy"
        assert alice.place("$0.50", customer="big").decision == "allow"

    def test_does_not_concern_a_call_without_a_subject(self, alice: Account) -> None:
        alice.budget("each", "$0.10", subject=EACH, scope="user")
        assert alice.place("$0.20")["budgets"] == []

    @pytest.mark.parametrize(
        ("scope", "more"),
        [
            ("user", {"subject": {"user": "u1"}}),
            ("run", {"subject": {"run": "r1"}}),
            ("plan", {"subject": {"plan": "free"}}),
            ("project", {}),
            ("api_key", {}),
            ("model", {}),
            ("tag", {"tags": {"feature": "chat"}}),
        ],
    )
    def test_may_be_of_any_scope(self, alice: Account, scope: str, more: dict[str, Any]) -> None:
        alice.budget("each", "$0.50", subject=EACH, scope=scope, tag="feature" if scope == "tag" else None)
        answer = alice.place("$0.40", **more)
        assert [b["scope"] for b in answer["budgets"]] == [scope]
        assert alice.place("$0.40", **more).decision == "budget_busy"


class TestBudgetMadeInsideItsWindow:
    def test_begins_with_what_the_ledger_holds(self, alice: Account) -> None:
        alice.settle(alice.place("$0.40"), "$0.40")
        alice.settle(alice.place("$0.40", customer="other"), "$0.30")
        alice.budget("acme", "$1", window="month")
        alice.budget("all", "$1", scope="tenant", window="month")
        placed = alice.place("$0.10")
        assert alice.counter("acme")["opening"] == 400_000_000
        assert [b["remaining_usd"] for b in placed["budgets"]] == ["0.5", "0.2"]
        assert not alice.verify().differences

    def test_does_not_count_a_hold_that_was_open_before_it(self, alice: Account) -> None:
        placed = alice.place("$0.40")
        alice.budget("acme", "$1", window="month")
        assert alice.place("$0.10")["budgets"][0]["remaining_usd"] == "0.9"
        alice.settle(placed, "$0.40")
        assert alice.remaining("acme") == 900_000_000
        assert not alice.verify().differences


class TestManyBudgets:
    def test_sixteen_are_checked_at_once(self, alice: Account) -> None:
        for number in range(16):
            alice.budget(f"b{number}", "$1", subject="acme")
        assert len(alice.place("$0.40")["budgets"]) == 16
        assert not alice.verify().differences

    def test_seventeen_are_refused_by_name(self, alice: Account) -> None:
        for number in range(17):
            alice.budget(f"b{number}", "$1", subject="acme")
        answer = alice.place("$0.40")
        assert (answer.status, answer.kind) == (422, "too-many-budgets")
        assert "17 budgets; at most 16" in answer["detail"]

    def test_new_subjects_end_at_the_tenant_s_limit(self, alice: Account) -> None:
        alice.world.sql("UPDATE tenants_tenant SET subject_limit = 2 WHERE id = %s", alice.tenant_id)
        alice.budget("each", "$1", subject=EACH)
        assert [alice.place("$0.1", customer=f"c{n}").decision for n in range(2)] == ["allow", "allow"]
        refused = alice.place("$0.1", customer="c2")
        assert (refused.status, refused.kind) == (422, "too-many-subjects")
        assert "limit" in refused["detail"]
        assert alice.place("$0.1", customer="c1").decision == "allow"


class TestWhoMayCall:
    def test_a_suspended_customer_may_not_and_its_calls_in_flight_settle(self, alice: Account) -> None:
        from tenants.services.customers import ensure_customer, resume_customer, suspend_customer

        placed, now = alice.place("$0.40"), datetime.now(UTC)
        ensure_customer(tenant_id=alice.tenant_id, external_id="acme", actor="test", now=now)
        suspend_customer(tenant_id=alice.tenant_id, external_id="acme", actor="test", now=now)
        refused = alice.place("$0.40")
        assert (refused.status, refused["reason"]) == (200, "customer_suspended")
        assert "acme" in refused["detail"]
        assert alice.place("$0.40", customer="other").decision == "allow"
        assert alice.settle(placed, "$0.10")["state"] == "settled"
        resume_customer(tenant_id=alice.tenant_id, external_id="acme", actor="test", now=now)
        assert alice.place("$0.40").decision == "allow"

    def test_a_suspended_tenant_may_not_and_its_calls_in_flight_settle(self, alice: Account) -> None:
        from budgets.services.policy import publish
        from tenants.models import Tenant

        placed = alice.place("$0.40")
        Tenant.objects.filter(pk=alice.tenant_id).update(suspended_at=datetime.now(UTC))
        publish(tenant_id=alice.tenant_id, now=datetime.now(UTC))
        assert alice.place("$0.40")["reason"] == "customer_suspended"
        assert alice.settle(placed, "$0.10")["state"] == "settled"

    def test_a_revoked_key_may_not_on_the_next_request_yet_it_settles(self, alice: Account) -> None:
        from tenants.services.keys import revoke_key

        placed = alice.place("$0.40")
        key_id = alice.issued.key.pk
        revoke_key(tenant_id=alice.tenant_id, key_id=key_id, actor="test", now=datetime.now(UTC))
        refused = alice.place("$0.40")
        assert (refused.status, refused.kind) == (401, "unauthorized")
        assert "revoked" in refused["detail"]
        assert alice.settle(placed, "$0.10")["state"] == "settled"

    def test_an_expired_key_may_not_yet_it_settles(self, alice: Account) -> None:
        soon = datetime.now(UTC) + timedelta(hours=1)
        short = alice.key(expires_at=soon)
        body = alice.call("$0.40")
        placed = alice.world.run(alice.send("/v1/preflight", body, secret=short.secret))
        assert placed.decision == "allow"
        from budgets.services.policy import publish
        from tenants.models import ApiKey

        past = datetime.now(UTC) - timedelta(seconds=1)
        ApiKey.objects.filter(pk=short.key.pk).update(created_at=past - timedelta(hours=1), expires_at=past)
        publish(tenant_id=alice.tenant_id, now=datetime.now(UTC))
        assert alice.place("$0.40").decision == "allow"
        refused = alice.world.run(alice.send("/v1/preflight", body, secret=short.secret))
        assert (refused.status, refused.kind) == (401, "unauthorized")
        assert "expired" in refused["detail"]
        settle = {"authorization": placed["authorization"], "usage": None}
        assert alice.world.run(alice.send("/v1/settle", settle, secret=short.secret))["state"] == "presumed"

    def test_a_key_without_the_scope_may_not(self, alice: Account) -> None:
        reader = alice.key(["read"])
        refused = alice.world.run(alice.send("/v1/preflight", alice.call("$0.40"), secret=reader.secret))
        assert (refused.status, refused.kind) == (403, "forbidden-scope")
        assert "preflight" in refused["detail"]

    def test_a_project_s_key_may_call_for_its_project_alone(self, alice: Account) -> None:
        from tenants.services.projects import create_project

        web = create_project(
            tenant_id=alice.tenant_id, slug="web", name="Web", actor="test", now=datetime.now(UTC)
        )
        key = alice.key(project_id=web.pk)
        body = alice.call("$0.40")
        placed = alice.world.run(alice.send("/v1/preflight", body, secret=key.secret))
        assert alice.hold_of(placed).body.project == "web"
        body["subject"]["project"] = "default"
        refused = alice.world.run(alice.send("/v1/preflight", body, secret=key.secret))
        assert refused.fields == {"subject.project": "this key belongs to project 'web'"}


class TestUnknownModel:
    def test_is_refused_unless_it_comes_with_an_estimate(self, alice: Account) -> None:
        refused = alice.place(model="gpt-99-turbo", input_tokens=10, max_output_tokens=10)
        assert (refused.status, refused["reason"]) == (200, "price_unknown")
        assert "'gpt-99-turbo'" in refused["detail"]
        assert "cost_usd" in refused["detail"]
        assert alice.place("$0.10", model="gpt-99-turbo")["decision"] == "allow"

    def test_of_an_unknown_provider_is_named(self, alice: Account) -> None:
        refused = alice.place(model="gpt-4o-mini", provider="openia", input_tokens=10)
        assert refused["reason"] == "price_unknown"
        assert "provider 'openia'" in refused["detail"]

    def test_costs_the_dearest_where_the_tenant_says_so(self, alice: Account, world: World) -> None:
        from budgets.services.policy import publish
        from tenants.models import Tenant

        Tenant.objects.filter(pk=alice.tenant_id).update(unknown_model="dearest")
        publish(tenant_id=alice.tenant_id, now=datetime.now(UTC))
        placed = alice.place(model="gpt-99-turbo", provider="openai", input_tokens=1000, max_output_tokens=10)
        assert placed["decision"] == "allow"
        known = alice.place(model="gpt-4o-mini", input_tokens=1000, max_output_tokens=10)
        assert float(placed["hold"]["amount_usd"]) > float(known["hold"]["amount_usd"])
