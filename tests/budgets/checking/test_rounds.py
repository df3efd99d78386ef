"""The checker's minute: it finds what somebody changed by hand, and nothing while calls are in flight."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from budgets.services.checking import Round
    from tests.support.world import Account

pytestmark = pytest.mark.real_db


def check(alice: Account, *, seconds: float = 60.0) -> Round:
    return alice.world.run(alice.world.operations.check(seconds=seconds))


def found(alice: Account, **options: float) -> list[tuple[str, int]]:
    """What a round finds of this tenant: figures, and by how much each is off."""
    return [
        (d.figure, d.stored - d.derived)
        for d in check(alice, **options).differences
        if d.tenant_id == alice.tenant_id
    ]


@contextmanager
def changed(alice: Account, table: str, figure: str, by: int = 5) -> Iterator[None]:
    """A figure of the tenant's that somebody changed by hand."""
    change = f"UPDATE {table} SET {figure} = {figure} + %s WHERE tenant_id = %s"
    alice.world.sql(change, by, alice.tenant_id)
    try:
        yield
    finally:
        alice.world.sql(change, -by, alice.tenant_id)


@pytest.fixture
def busy(alice: Account) -> Account:
    """A tenant with one settled and one open hold."""
    alice.budget("acme", "$1.00")
    alice.settle(alice.place("$0.10"), "$0.04")
    alice.place("$0.20")
    alice.acknowledged()
    return alice


class TestRound:
    def test_finds_nothing_where_nothing_is_wrong(self, busy: Account) -> None:
        assert found(busy) == []

    @pytest.mark.parametrize("figure", ["spent", "opening"])
    def test_finds_a_counter_that_changed_by_itself(self, busy: Account, figure: str) -> None:
        with changed(busy, "counters", figure):
            assert found(busy) == [("spent", 5 if figure == "spent" else -5)]
        assert found(busy) == []

    def test_finds_authority_that_changed_by_itself(self, busy: Account) -> None:
        with changed(busy, "grants", "authority"):
            assert set(found(busy)) == {("authority", 5), ("redis free and held", -5)}
        assert found(busy) == []

    def test_finds_a_ledger_entry_that_changed(self, busy: Account) -> None:
        with changed(busy, "ledger_entries", "cost_nano"):
            assert found(busy) == [("ledger cost_nano", -5)]
        assert found(busy) == []

    def test_finds_a_counter_that_changed_in_redis(self, busy: Account) -> None:
        name = busy.keys().counter(busy.counter("acme")["id"])
        busy.world.redis.hincrby(name, "held", 3)
        assert set(found(busy)) == {("redis held", 3), ("redis free and held", 3)}
        busy.world.redis.hincrby(name, "held", -3)
        assert found(busy) == []

    def test_finds_what_was_spent_unseen_long_before_it_looked_again(self, busy: Account) -> None:
        check(busy)
        for _ in range(3):
            busy.settle(busy.place("$0.01"), "$0.01")
        with changed(busy, "counters", "spent", by=-1):
            assert found(busy) == [("spent", -1)]
            # It stays told while it stays so, though nothing new came.
            assert found(busy) == [("spent", -1)]

    def test_takes_no_settlement_in_flight_for_a_difference(self, busy: Account) -> None:
        placed = busy.place("$0.05")
        name = busy.keys().hold(busy.hold_of(placed).body.hold_id)
        counter = busy.keys().counter(busy.hold_of(placed).body.counters[0].counter_id)
        before, kept = busy.world.redis.hgetall(counter), busy.world.redis.dump(name)
        assert kept is not None
        busy.settle(placed, "$0.01")
        # As between the commit and the apply.
        busy.world.redis.restore(name, 0, kept)
        busy.world.redis.zadd(busy.keys().expiries, {name: busy.hold_of(placed).expires_ms})
        busy.world.redis.hset(counter, mapping={k: before[k] for k in ("used", "held")})
        assert found(busy) == []
        busy.expire(placed)
        busy.world.sweep()
        assert found(busy) == []

    def test_takes_no_loss_of_redis_for_a_difference(self, busy: Account) -> None:
        # Before the controller has seen it.
        busy.world.lose_redis(scripts=False)
        assert found(busy) == []
        busy.world.recover()
        assert found(busy) == []

    def test_recomputes_from_nothing_in_turns_those_first_that_differed(self, busy: Account) -> None:
        check(busy)
        # Behind the sums' back: no entry of the ledger tells that this counter should be looked at.
        with changed(busy, "counters", "spent"):
            busy.world.sql("DELETE FROM verify_turns WHERE tenant_id = %s", busy.tenant_id)
            assert found(busy) == [("spent", 5)]
            (turn,) = busy.world.sql(
                "SELECT differences, recounted_at IS NOT NULL FROM verify_turns WHERE tenant_id = %s",
                busy.tenant_id,
            )
            assert turn == (1, True)
            # The others have waited longer; this one is looked at all the same.
            assert found(busy, seconds=0.0) == [("spent", 5)]
        assert found(busy, seconds=0.0) == []

    def test_notes_each_part_for_whoever_watches(self, busy: Account) -> None:
        check(busy)
        noted = dict(busy.world.sql("SELECT part, (behind, differences) FROM verify_checks"))
        assert set(noted) == {"changes", "redis", "recount"}

    def test_begins_anew_where_positions_were_counted_anew(self, busy: Account) -> None:
        check(busy)
        busy.world.sql("UPDATE verify_cursor SET shift = shift - 1")
        busy.world.sql("UPDATE verified_counters SET posted = posted + 7")
        assert found(busy) == []

    def test_leaves_while_another_round_is_at_it(self, busy: Account) -> None:
        import psycopg
        from django.conf import settings

        with psycopg.connect(settings.DATABASE_OWNER_URL) as other:
            other.execute("SELECT * FROM verify_cursor FOR UPDATE")
            assert check(busy).busy
        assert not check(busy).busy
