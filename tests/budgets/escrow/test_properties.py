"""Random stories over real servers: every decision is the right one, and every figure stays exact."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from noburn.kit.money import to_usd

if TYPE_CHECKING:
    from tests.support.asgi import Answer
    from tests.support.world import Account, World

pytestmark = pytest.mark.real_db

LIMIT = 100
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("place"), st.integers(0, 60)),
        st.tuples(st.just("place"), st.integers(0, 60)),
        st.tuples(st.just("settle"), st.integers(0, 60)),
        st.tuples(st.just("settle"), st.integers(0, 60)),
        st.tuples(st.just("void"), st.just(0)),
        st.tuples(st.just("lose"), st.just(0)),
        st.tuples(st.just("expire"), st.just(0)),
        st.tuples(st.just("late"), st.integers(0, 60)),
        st.tuples(st.just("limit"), st.integers(20, 150)),
        st.tuples(st.sampled_from(["close", "lose-redis"]), st.just(0)),
    ),
    min_size=8,
    max_size=30,
)


@dataclass
class Life:
    """What the test knows: holds in flight with their amounts, and those that were resolved."""

    account: Account
    limit: int = LIMIT
    flying: list[tuple[Answer, int]] = field(default_factory=list)
    done: list[tuple[Answer, int]] = field(default_factory=list)
    named_overrun: bool = False
    told: list[str] = field(default_factory=list)

    def usd(self, amount: int) -> str:
        return to_usd(amount)

    def place(self, need: int) -> None:
        spent = stranded = 0
        if self.account.world.sql("SELECT 1 FROM counters WHERE tenant_id = %s", self.account.tenant_id):
            counter = self.account.counter("acme")
            spent, stranded = counter["spent"], counter["stranded"]
        # The holds of closed epochs are part of what is stranded.
        epoch = self.account.epoch().epoch_id
        held = sum(n for answer, n in self.flying if self.account.hold_of(answer).body.epoch_id == epoch)
        room = self.limit - spent - stranded
        expected = (
            "allow"
            if need <= room - held or need == 0
            else "budget_busy"
            if need <= room
            else "budget_exceeded"
        )
        answer = self.account.place(self.usd(need))
        story = f"{self.told}: {need} beside spent {spent}, stranded {stranded}, held {held} of {self.limit}"
        assert answer.decision == expected, story
        if expected == "allow":
            self.flying.append((answer, need))

    def settle(self, used: int) -> None:
        if self.flying:
            answer, held = self.flying.pop(0)
            self.named_overrun |= used > held
            assert self.account.settle(answer, self.usd(used))["state"] == "settled"
            self.done.append((answer, used))

    def void(self, _: int) -> None:
        if self.flying:
            assert self.account.void(self.flying.pop()[0])["state"] == "voided"

    def lose(self, _: int) -> None:
        if self.flying:
            answer, held = self.flying.pop()
            assert self.account.settle(answer)["state"] == "presumed"
            self.done.append((answer, -held))

    def expire(self, _: int) -> None:
        epoch = self.account.epoch().epoch_id
        if self.flying and self.account.hold_of(self.flying[0][0]).body.epoch_id == epoch:
            answer, held = self.flying.pop(0)
            self.account.expire(answer)
            # Holds that other tests left may expire now as well.
            assert self.account.world.sweep().presumed >= 1
            self.done.append((answer, -held))

    def late(self, used: int) -> None:
        """A settlement of what was presumed before; a negative amount marks those."""
        presumed = [pair for pair in self.done if pair[1] <= 0]
        if presumed:
            answer, held = presumed[0]
            self.done.remove(presumed[0])
            self.named_overrun |= used > -held
            answered = self.account.settle(answer, self.usd(used))
            assert answered.status in (200, 409)

    def limit_(self, limit: int) -> None:
        self.named_overrun |= limit < self.limit
        self.limit = limit
        self.account.limit("acme", self.usd(limit))

    def close(self, _: int) -> None:
        self.account.world.run(self.account.world.operations.close(self.account.shard))

    def lose_redis(self, _: int) -> None:
        self.account.world.lose_redis()
        self.account.world.recover()

    def step(self, verb: str, amount: int) -> None:
        self.told.append(f"{verb} {amount}")
        getattr(self, {"limit": "limit_"}.get(verb, verb.replace("-", "_")))(amount)

    def check(self) -> None:
        if not self.account.world.sql("SELECT 1 FROM counters WHERE tenant_id = %s", self.account.tenant_id):
            return
        counter = self.account.counter("acme")
        if not self.named_overrun:
            assert counter["spent"] + counter["authority"] <= self.limit, self.told


class TestRandomStories:
    @settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(steps=STEPS)
    def test_keep_to_the_limit_refuse_nothing_falsely_and_stay_exact(
        self, world: World, steps: list[tuple[str, int]]
    ) -> None:
        world.recover()
        life = Life(world.account("alice"))
        life.account.budget("acme", to_usd(LIMIT))
        for verb, amount in steps:
            life.step(verb, amount)
            life.check()
        assert not life.account.verify().differences, life.told
        for answer, _ in life.flying:
            life.account.void(answer)
        assert not life.account.verify().differences, life.told
