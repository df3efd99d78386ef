"""POST /v1/leases, …/report and …/close: many calls drawn from one hold, told in time, late, twice and never."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from tests.gateway.test_policies import logged

if TYPE_CHECKING:
    from tests.support.asgi import Answer
    from tests.support.world import Account

pytestmark = pytest.mark.real_db

NONCE = "n0nce-of-one-process"
MODEL = "gpt-4o-mini"
USAGE = {"input_tokens": 980, "output_tokens": 290}
COST, BOUND_USD = 321_000, "0.00048"


class Lease:
    """A lease as its holder has it; draws are numbered as they are told."""

    def __init__(self, alice: Account, amount: str = "0.01", **fields: Any) -> None:
        self.alice, self.number = alice, 0
        body = {
            "model": MODEL,
            "amount_usd": amount,
            "subject": {"customer": "acme"},
            "ttl_seconds": 60,
            **fields,
        }
        self.opened: Answer = alice.world.run(alice.send("/v1/leases", body))
        self.sent: list[dict[str, Any]] = []

    def draw(self, *, usage: dict[str, int] | None = USAGE, **fields: Any) -> dict[str, Any]:
        """What is told of one more draw."""
        self.number += 1
        told = {"seq": self.number, "bound_usd": BOUND_USD, "bound_tokens": 1700, "usage": usage, **fields}
        self.sent.append(told)
        return told

    def tell(self, word: str, draws: list[dict[str, Any]], **fields: Any) -> Answer:
        """A report or a close."""
        body = {"authorization": self.opened["authorization"], "nonce": NONCE, "draws": draws, **fields}
        answer: Answer = self.alice.world.run(
            self.alice.send(f"/v1/leases/{self.opened['lease']['id']}/{word}", body)
        )
        return answer

    def report(self, *draws: dict[str, Any]) -> Answer:
        """A report."""
        return self.tell("report", list(draws))

    def close(self, *draws: dict[str, Any], total: int | None = None) -> Answer:
        """A close, with the right total unless another is given."""
        return self.tell("close", list(draws), total=self.number if total is None else total)

    def expire(self) -> None:
        """Lets its hold expire, and a sweep find it."""
        self.alice.expire(self.opened)
        # With whatever other tenants' calls have expired meanwhile.
        assert self.alice.world.sweep().presumed >= 1


def figures(alice: Account) -> tuple[int, int]:
    """What the customer's counter has spent, and what Redis holds of it."""
    found = alice.counter("acme")
    name = alice.keys().counter(found["id"])
    return found["spent"], int(str(alice.world.redis.hget(name, "held") or 0))


def exact(alice: Account) -> bool:
    """Whether every figure is what its sources say."""
    found = alice.verify()
    assert found.differences == (), found.differences
    return found.unread == 0


def is_held(lease: Lease) -> bool:
    """Whether the current epoch's Redis still has its hold."""
    hold = lease.alice.hold_of(lease.opened)
    return bool(lease.alice.world.redis.exists(lease.alice.keys().hold(hold.body.hold_id)))


class TestLease:
    def test_is_a_hold_that_says_what_may_be_drawn(self, alice: Account) -> None:
        alice.budget("acme", "$1")
        opened = Lease(alice).opened
        assert opened.decision == "allow"
        lease = opened["lease"]
        assert (lease["amount_usd"], lease["tokens"], lease["requests"]) == ("0.01", None, None)
        assert (lease["draw_seconds"], lease["report_seconds"]) == (60, 5)
        assert opened["prices"][0]["model"] == MODEL
        assert figures(alice) == (0, 10_000_000)
        assert alice.remaining("acme") == 990_000_000

    def test_is_a_quarter_of_what_is_left_at_most(self, alice: Account) -> None:
        alice.budget("acme", "$0.02")
        sizes = [Lease(alice).opened["lease"]["amount_usd"] for _ in range(3)]
        assert sizes == ["0.005", "0.00375", "0.0028125"]

    def test_counts_tokens_and_requests_where_budgets_do(self, alice: Account) -> None:
        alice.budget("acme", 40_000, metric="tokens")
        alice.budget("calls", 80, metric="requests", subject="acme")
        lease = Lease(alice).opened["lease"]
        assert (lease["tokens"], lease["requests"]) == (10_000, 20)

    def test_is_refused_where_the_next_call_would_not_fit(self, alice: Account) -> None:
        alice.budget("acme", "$0.001")
        refused = Lease(alice, least_usd="0.0005").opened
        assert refused.decision == "not_leasable"
        assert alice.ledger() == []

    def test_is_refused_where_a_rate_by_the_minute_counts(self, alice: Account) -> None:
        alice.budget("acme", "$1", window="minute")
        assert Lease(alice).opened.decision == "not_leasable"

    def test_ends_with_the_window(self, alice: Account) -> None:
        alice.budget("acme", "$1", window="hour")
        found = Lease(alice)
        hold = alice.world.keyring.verify(found.opened["authorization"])
        assert hold.body.lease is not None
        left = (hold.body.lease.ends_ms - hold.placed_ms) / 1000
        assert found.opened["lease"]["draw_seconds"] == min(60, left)

    def test_is_answered_again_for_the_same_key(self, alice: Account) -> None:
        alice.budget("acme", "$1")
        body = {"model": MODEL, "amount_usd": "0.01", "subject": {"customer": "acme"}}
        one, two = (alice.world.run(alice.send("/v1/leases", body, key="k1")) for _ in range(2))
        assert one["authorization"] == two["authorization"]
        assert figures(alice) == (0, 10_000_000)

    def test_is_not_settled_itself(self, alice: Account) -> None:
        alice.budget("acme", "$1")
        lease = Lease(alice)
        assert alice.settle(lease.opened, usage=USAGE).kind == "invalid-authorization"
        assert alice.void(lease.opened).kind == "invalid-authorization"

    def test_names_every_bad_field(self, alice: Account) -> None:
        answer = alice.world.run(alice.send("/v1/leases", {"amount_usd": 1, "ttl_seconds": 5}))
        assert answer.kind == "invalid-request"
        assert set(answer.fields) == {"model", "amount_usd", "ttl_seconds"}


class TestReport:
    def test_posts_each_draw_as_a_call_of_its_own(self, alice: Account) -> None:
        alice.budget("acme", "$1")
        lease = Lease(alice)
        answer = lease.report(lease.draw(), lease.draw(model="gpt-4o-mini-2024-07-18"))
        assert [(r["status"], r["state"], r["cost_usd"]) for r in answer["results"]] == [
            (200, "settled", "0.000321"),
            (200, "settled", "0.000321"),
        ]
        assert (answer["draws"], answer["closed"], answer["recall"]) == (2, False, None)
        kinds = [(e["kind"], e["cost"], e["tokens"], e["requests"], e["model"]) for e in alice.ledger()]
        assert kinds == [("settled", COST, 1270, 1, MODEL)] * 2
        assert figures(alice)[0] == 2 * COST
        assert exact(alice)

    def test_twice_answers_the_same(self, alice: Account) -> None:
        alice.budget("acme", "$1")
        lease = Lease(alice)
        draw = lease.draw()
        lease.report(draw)
        again = lease.report(draw)
        assert (again["results"][0]["replayed"], again["draws"]) == (True, 1)
        assert figures(alice)[0] == COST
        conflict = lease.report({**draw, "usage": {"input_tokens": 1, "output_tokens": 1}})
        assert conflict["results"][0]["status"] == 409
        assert figures(alice)[0] == COST

    def test_of_another_process_is_another_draw(self, alice: Account) -> None:
        alice.budget("acme", "$1")
        lease = Lease(alice)
        draw = lease.draw()
        lease.report(draw)
        other = lease.tell("report", [draw], nonce="another-process")
        assert (other["results"][0]["replayed"], other["draws"]) == (False, 2)
        assert figures(alice)[0] == 2 * COST

    def test_of_a_bad_draw_spoils_no_other(self, alice: Account) -> None:
        alice.budget("acme", "$1")
        lease = Lease(alice)
        bad = {**lease.draw(), "usage": {"input_tokens": -1}}
        answer = lease.report(bad, lease.draw())
        assert [result["status"] for result in answer["results"]] == [400, 200]
        assert answer["draws"] == 1

    def test_of_what_was_not_seen_presumes_its_bound(self, alice: Account) -> None:
        alice.budget("acme", "$1")
        lease = Lease(alice)
        draw = lease.draw(usage=None, outcome="cut")
        assert lease.report(draw)["results"][0]["state"] == "presumed"
        assert figures(alice)[0] == 480_000
        corrected = lease.report({**draw, "usage": USAGE, "outcome": "ok"})
        assert (corrected["results"][0]["late"], corrected["draws"]) == (True, 1)
        assert figures(alice)[0] == COST
        lease.close()
        assert exact(alice)

    def test_above_its_bound_takes_of_its_own_lease(self, alice: Account) -> None:
        alice.budget("acme", "$1")
        lease = Lease(alice)
        lease.report(lease.draw(usage=None, cost_usd="0.008"))
        before = alice.counter("acme")
        assert (before["spent"], before["authority"]) == (8_000_000, before["authority"])
        assert exact(alice)
        lease.close()
        assert figures(alice) == (8_000_000, 0)
        assert exact(alice)

    def test_beyond_its_lease_is_recorded_whole(self, alice: Account) -> None:
        alice.budget("acme", "$1")
        lease = Lease(alice)
        lease.report(lease.draw(cost_usd="0.5"), lease.draw())
        assert figures(alice)[0] == 500_000_000 + COST
        lease.close()
        assert exact(alice)
        assert alice.remaining("acme") == 500_000_000 - COST

    def test_of_another_lease_s_address_is_not_found(self, alice: Account) -> None:
        alice.budget("acme", "$1")
        one, two = Lease(alice), Lease(alice)
        one.opened.body["lease"]["id"] = two.opened["lease"]["id"]
        assert one.report().kind == "not-found"


class TestClose:
    def test_releases_what_was_not_drawn(self, alice: Account) -> None:
        alice.budget("acme", "$1")
        lease = Lease(alice)
        lease.report(lease.draw())
        answer = lease.close(lease.draw())
        assert (answer["closed"], answer["draws"]) == (True, 2)
        assert figures(alice) == (2 * COST, 0)
        assert alice.remaining("acme") == 10**9 - 2 * COST
        assert exact(alice)

    def test_with_another_total_releases_nothing(self, alice: Account) -> None:
        alice.budget("acme", "$1")
        lease = Lease(alice)
        lost = lease.draw()
        answer = lease.close(lease.draw())
        assert (answer["closed"], answer["draws"]) == (False, 1)
        assert figures(alice) == (COST, 10_000_000)
        assert lease.close(lost)["closed"] is True
        assert figures(alice) == (2 * COST, 0)

    def test_twice_answers_the_same(self, alice: Account) -> None:
        alice.budget("acme", "$1")
        lease = Lease(alice)
        assert [lease.close()["closed"] for _ in range(2)] == [True, True]
        assert figures(alice) == (0, 0)
        assert exact(alice)

    def test_does_not_stop_a_draw_that_comes_after(self, alice: Account) -> None:
        alice.budget("acme", "$1")
        lease = Lease(alice)
        lease.close()
        assert lease.report(lease.draw())["results"][0]["state"] == "settled"
        assert figures(alice) == (COST, 0)
        assert exact(alice)

    def test_of_a_closed_epoch_gives_the_rest_back(self, alice: Account) -> None:
        alice.budget("acme", "$1")
        lease = Lease(alice)
        lease.report(lease.draw())
        alice.world.lose_redis()
        alice.world.recover()
        recalled = lease.report(lease.draw())
        # The gateway hears of the new epoch by its own polling.
        for _ in range(2_000):
            if recalled["recall"] is not None:
                break
            recalled = lease.report()
        assert recalled["recall"] == "epoch"
        lease.close(lease.draw())
        assert alice.counter("acme")["spent"] == 3 * COST
        assert exact(alice)


class TestExpiry:
    def test_presumes_what_nobody_drew(self, alice: Account) -> None:
        alice.budget("acme", "$1")
        lease = Lease(alice)
        lease.report(lease.draw())
        lease.expire()
        assert figures(alice) == (10_000_000, 0)
        (presumed,) = [entry for entry in alice.ledger() if entry["kind"] == "presumed"]
        assert (presumed["cost"], presumed["requests"]) == (10_000_000 - COST, 0)
        assert exact(alice)

    def test_is_turned_into_actuals_by_late_reports(self, alice: Account) -> None:
        alice.budget("acme", "$1")
        lease = Lease(alice)
        lease.report(lease.draw())
        lease.expire()
        for _ in range(3):
            lease.report(lease.draw(), lease.draw())
            assert figures(alice) == (10_000_000, 0)
            assert sum(entry["cost"] for entry in alice.ledger()) == 10_000_000
            assert exact(alice)
        settled = [entry for entry in alice.ledger() if entry["kind"] == "settled"]
        assert len(settled) == 7
        lease.report(lease.draw(cost_usd="0.02"))
        assert alice.counter("acme")["spent"] == 20_000_000 + 7 * COST
        assert exact(alice)

    def test_is_ended_by_a_late_close(self, alice: Account) -> None:
        alice.budget("acme", "$1")
        lease = Lease(alice)
        lease.expire()
        late = lease.draw()
        lease.report(late)
        assert lease.close(late)["closed"] is True
        assert figures(alice) == (COST, 0)
        assert alice.remaining("acme") == 10**9 - COST
        assert exact(alice)


class TestDecisions:
    def test_are_the_draws_as_calls_are_logged(self, alice: Account) -> None:
        alice.budget("acme", "$1")
        lease = Lease(alice)
        assert logged(alice) == []
        said = {"input_tokens": 1_200, "max_output_tokens": 500, "n": 1, "task": "extract", "steps": 3}
        draw = lease.draw(call=said)
        for _ in range(2):
            # A repetition decides nothing new.
            lease.report(draw)
        (row,) = logged(alice)
        assert (row["reason"], row["customer"], row["model"], row["estimate_nano"]) == (
            None,
            "acme",
            MODEL,
            480_000,
        )
        assert (row["input_tokens"], row["cap_asked"], row["cap"]) == (1_200, 500, 500)
        assert (row["routed"]["task"], row["routed"]["steps"]) == ("extract", 3)
        booked = alice.world.sql("SELECT hold_id FROM ledger_entries WHERE tenant_id = %s", alice.tenant_id)
        assert booked == [(row["hold_id"],)]

    @pytest.mark.parametrize("said", [None, 7, {"input_tokens": -1}, {"task": "x" * 1_000}])
    def test_never_keep_a_draw_from_being_booked(self, alice: Account, said: Any) -> None:
        alice.budget("acme", "$1")
        lease = Lease(alice)
        assert lease.report(lease.draw(call=said))["results"][0]["status"] == 200
        (row,) = logged(alice)
        assert (row["input_tokens"], row["cap"]) == (1_700, None)


class TestWarning:
    def test_budgets_are_told_of_each_call_near_their_limit(self, alice: Account) -> None:
        alice.budget("acme", "$1")
        alice.budget("look", "$0.0015", scope="customer", subject="acme", action="warn")
        assert Lease(alice, least_usd="0.0004").opened.decision == "not_leasable"
        alice.budget("far", "$0.04", scope="tenant", action="warn")
        alice.limit("look", "$1")
        lease = Lease(alice)
        assert (lease.opened["lease"]["amount_usd"], lease.report()["recall"]) == ("0.01", None)
        alice.place("$0.025")
        assert lease.report()["recall"] == "low"


class TestRecall:
    def test_of_an_edited_limit(self, alice: Account) -> None:
        alice.budget("acme", "$1")
        lease = Lease(alice)
        assert lease.report()["recall"] is None
        alice.limit("acme", "$0")
        assert lease.report()["recall"] == "policy"

    def test_of_a_suspended_customer_and_a_revoked_key(self, alice: Account) -> None:
        from tenants.services.customers import ensure_customer, suspend_customer
        from tenants.services.keys import revoke_key

        alice.budget("acme", "$1")
        lease = Lease(alice)
        now = datetime.now(UTC)
        ensure_customer(tenant_id=alice.tenant_id, external_id="acme", actor="test", now=now)
        suspend_customer(tenant_id=alice.tenant_id, external_id="acme", actor="test", now=now)
        assert lease.report()["recall"] == "suspended"
        revoke_key(tenant_id=alice.tenant_id, key_id=alice.issued.key.pk, actor="test", now=now)
        assert lease.report()["recall"] == "revoked"

    def test_where_too_little_is_left_for_others(self, alice: Account) -> None:
        alice.budget("acme", "$0.04")
        lease = Lease(alice)
        assert lease.opened["lease"]["amount_usd"] == "0.01"
        assert lease.report()["recall"] is None
        alice.place("$0.025")
        assert lease.report()["recall"] == "low"


class TestRandomLives:
    @pytest.mark.parametrize("seed", range(6))
    def test_end_exact(self, alice: Account, seed: int) -> None:
        rng = random.Random(seed)
        alice.budget("acme", "$0.05")
        alice.budget("tokens", 500_000, metric="tokens", subject="acme")
        for _ in range(4):
            lease = Lease(alice, str(rng.choice(("0.002", "0.01"))))
            if lease.opened.decision != "allow":
                continue
            kept: list[dict[str, Any]] = []
            for _ in range(rng.randint(1, 8)):
                kept.append(lease.draw(usage=rng.choice((USAGE, USAGE, None))))
                if rng.random() < 0.5:
                    told = rng.sample(kept, rng.randint(1, len(kept)))
                    lease.report(*told)
                    kept = [draw for draw in kept if draw not in told or rng.random() < 0.3]
                if rng.random() < 0.1:
                    alice.world.lose_redis()
                    alice.world.recover()
            end = rng.random()
            if end < 0.4:
                lease.close(*kept)
            elif end < 0.7 and is_held(lease):
                lease.expire()
                lease.report(*kept)
                if rng.random() < 0.5:
                    lease.close()
            else:
                lease.report(*kept)
            assert exact(alice)
