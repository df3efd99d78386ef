"""Holds whose client never came back, and what a sweep makes good."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest

from budgets.domain.authorization import encode_body

if TYPE_CHECKING:
    from tests.support.world import Account, World

pytestmark = pytest.mark.real_db

POLLS_MAX = 2_000


class TestSweep:
    @pytest.fixture(autouse=True)
    def _swept(self, world: World) -> None:
        """What other tests left to expire is presumed before."""
        while world.sweep().presumed:
            pass

    def test_presumes_a_hold_once_its_time_by_redis_is_over(self, alice: Account) -> None:
        alice.budget("acme", "$1")
        placed = alice.place("$0.40", ttl_seconds=1)
        expires_ms = alice.hold_of(placed).expires_ms
        for _ in range(POLLS_MAX):
            early = alice.world.redis_ms() < expires_ms
            swept = alice.world.sweep()
            if swept.presumed:
                break
        assert swept.presumed == 1
        assert alice.world.redis_ms() >= expires_ms
        assert not (early and alice.world.redis_ms() < expires_ms)
        assert [(e["kind"], e["cost"], e["outcome"]) for e in alice.ledger()] == [
            ("presumed", 400_000_000, "expired")
        ]
        assert alice.remaining("acme") == 600_000_000
        assert not alice.verify().differences

    def test_leaves_holds_alone_whose_time_is_not_over(self, alice: Account) -> None:
        alice.place("$0.40")
        assert alice.world.sweep().presumed == 0
        assert alice.ledger() == []

    def test_gives_back_what_a_soft_budget_does_not_presume(self, alice: Account) -> None:
        alice.budget("soft", "$1", subject="acme", on_expiry="release")
        alice.budget("hard", "$1", subject="acme")
        alice.expire(alice.place("$0.40"))
        assert alice.world.sweep().presumed == 1
        assert (alice.counter("soft")["spent"], alice.counter("hard")["spent"]) == (0, 400_000_000)
        assert alice.remaining("soft", "acme") == 1_000_000_000
        assert not alice.verify().differences

    def test_applies_a_settlement_again_whose_apply_was_lost(self, alice: Account) -> None:
        alice.budget("acme", "$1")
        placed = alice.place("$0.40")
        name = alice.keys().hold(alice.hold_of(placed).body.hold_id)
        kept = alice.world.redis.dump(name)
        assert kept is not None
        counter = alice.keys().counter(alice.hold_of(placed).body.counters[0].counter_id)
        figures = alice.world.redis.hgetall(counter)
        alice.settle(placed, "$0.10")
        # As if Redis had never heard of it.
        alice.world.redis.restore(name, 0, kept)
        alice.world.redis.zadd(alice.keys().expiries, {name: alice.hold_of(placed).expires_ms})
        alice.world.redis.hset(counter, mapping={k: figures[k] for k in ("used", "held")})
        # No difference: the checker knows what Redis has not heard of yet.
        assert (alice.verify().differences, alice.verify().totals.unapplied) == ((), 1)
        alice.expire(placed)
        swept = alice.world.sweep()
        assert (swept.presumed, swept.found_resolved) == (0, 1)
        assert alice.counter("acme")["spent"] == 100_000_000
        assert alice.remaining("acme") == 900_000_000
        assert not alice.verify().differences

    def test_by_two_at_once_presumes_each_hold_once(self, alice: Account) -> None:
        alice.budget("acme", "$1")
        for placed in [alice.place("$0.01") for _ in range(30)]:
            alice.expire(placed)
        sweeps = alice.world.all(alice.world.operations.sweep() for _ in range(3))
        assert sum(sweep.presumed for sweep in sweeps) == 30
        assert len(alice.ledger()) == 30
        assert not alice.verify().differences

    def test_is_not_stopped_by_a_hold_that_cannot_be_recorded(
        self, alice: Account, caplog: pytest.LogCaptureFixture
    ) -> None:
        bad, good = alice.place("$0.40"), alice.place("$0.40")
        name = alice.keys().hold(alice.hold_of(bad).body.hold_id)
        poison = msgspec.structs.replace(alice.hold_of(bad).body, model="a\u0000b")
        alice.world.redis.hset(name, "body", encode_body(poison))
        for placed in (bad, good):
            alice.expire(placed)
        assert alice.world.sweep().presumed == 1
        assert len(alice.ledger()) == 1
        assert any("was refused" in record.message for record in caplog.records)
        # It is no defect of the tests that follow.
        alice.world.redis.delete(name)
        alice.world.sweep()

    def test_sends_a_load_message_again_that_nobody_acknowledged(self, alice: Account) -> None:
        alice.budget("acme", "$1")
        alice.place("$0.10")
        counter = alice.counter("acme")["id"]
        assert alice.acknowledged(), (
            "or the acknowledgement under way is booked between the two statements below"
        )
        alice.world.sql(
            "UPDATE grants SET acked_seq = 0, sent_at = now() - interval '1 minute' WHERE counter_id = %s",
            counter,
        )
        assert alice.world.sweep().resent == 1
        assert alice.world.sql("SELECT acked_seq = seq FROM grants WHERE counter_id = %s", counter) == [
            (True,)
        ]
        assert not alice.verify().differences
