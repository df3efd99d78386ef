"""The script's guards say what the pure rules say, call for call, at any time."""

from __future__ import annotations

import random
import re
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import pytest

from budgets.domain.guards import Book, Watched, name_of, stateless
from budgets.domain.policy import EACH, GuardKind, GuardRule, Scope
from budgets.services.guards import _own
from budgets.stores.redis.scripts import texts_of

if TYPE_CHECKING:
    from tests.support.world import World

pytestmark = pytest.mark.real_db

NANO = 10**9
START_MS = 1_795_435_200_000
EXPIRY = re.compile(r"redis\.call\('PEXPIRE(AT)?'.*")
CLOCK = "{redis.call('GET', 'guards:seconds'), redis.call('GET', 'guards:micros')}"


def _rule(number: int, kind: GuardKind, *, enforce: bool = True, **limits: int) -> GuardRule:
    return GuardRule(UUID(int=number), str(number), kind, enforce, Scope.CUSTOMER, EACH, limits)


RULES = (
    _rule(1, GuardKind.REPEAT, times=2, seconds=60),
    _rule(2, GuardKind.VELOCITY, nano_per_minute=4 * NANO),
    _rule(3, GuardKind.VELOCITY, enforce=False, usual_thousandths=1_500, usual_floor_nano=NANO // 2),
    _rule(4, GuardKind.NEWCOMER, nano=3 * NANO, minutes=5),
    _rule(5, GuardKind.CALL, cost_nano=2 * NANO),
    _rule(6, GuardKind.REPEAT, enforce=False, times=1, seconds=5),
)


class Script:
    """The guarded script on a shard of its own, with a clock that a test sets."""

    def __init__(self, world: World) -> None:
        self.redis: Any = world.redis
        epoch = uuid4()
        texts = texts_of(epoch)
        self.guarded, self.ease = (
            # Keys would expire by the server's own clock, which is not the test's.
            self.redis.script_load(EXPIRY.sub("", texts[name].replace("redis.call('TIME')", CLOCK)))
            for name in ("guarded", "ease")
        )
        self.prefix = f"{{nbtest}}:{epoch.hex[:6]}"
        self.redis.hset(f"{self.prefix}:epoch", mapping={"id": epoch.hex, "until": str(10**15)})
        self.redis.set(f"{self.prefix}:policy", 1)

    def forget(self) -> None:
        self.redis.delete("guards:seconds", "guards:micros", *self.redis.keys(f"{self.prefix}*"))

    def at(self, now_ms: int) -> None:
        self.redis.set("guards:seconds", now_ms // 1000)
        self.redis.set("guards:micros", now_ms % 1000 * 1000)

    def _key(self, rule: GuardRule, customer: str, call: Watched) -> str:
        return f"{self.prefix}:g:{name_of(rule, customer, call)}"

    def decide(self, call: Watched, customer: str) -> tuple[bool, dict[UUID, int]]:
        keys, args, order = [], ["", "0", "go", call.cost_nano], []
        for rule in RULES:
            mode = "e" if rule.enforce else "o"
            if rule.kind is GuardKind.CALL:
                if (found := stateless(rule, call)) is not None:
                    order.append(rule)
                    args += ["x", mode, found[0], "", ""]
            elif (own := _own(rule, call)) is not None:
                order.append(rule)
                keys.append(self._key(rule, customer, call))
                args += [own[0], mode, *own[1:]]
        hold = f"{self.prefix}:h:{uuid4().hex}"
        keys += [f"{self.prefix}:epoch", f"{self.prefix}:policy", hold, f"{self.prefix}:x"]
        own_keys = len(keys) - 4
        reply = self.redis.evalsha(
            self.guarded,
            len(keys),
            *keys,
            own_keys,
            len(args) + 2,
            *args,
            1,
            "id",
            "rq",
            60_000,
            "body",
            "place",
        )
        told = reply[1]
        trips = {order[told[i] - 1].guard_id: told[i + 2] for i in range(0, len(told), 3)}
        return reply[0] == "PASSED", trips

    def settle(self, call: Watched, customer: str, *, placed_ms: int, actual_nano: int) -> None:
        states = [rule for rule in RULES if rule.kind in (GuardKind.VELOCITY, GuardKind.NEWCOMER)]
        keys = [f"{self.prefix}:epoch", *(self._key(rule, customer, call) for rule in states)]
        kinds = ["v" if rule.kind is GuardKind.VELOCITY else "n" for rule in states]
        self.redis.evalsha(self.ease, len(keys), *keys, actual_nano - call.cost_nano, placed_ms, *kinds)


class TestTheScript:
    @pytest.mark.parametrize("seed", range(3))
    def test_agrees_with_the_rules(self, world: World, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
        chance, script, book = random.Random(seed), Script(world), Book(RULES)
        # The program's own clock only spares keys of customers that are known for long.
        monkeypatch.setattr("budgets.services.guards.time.time_ns", lambda: 0)
        now, settled, tripped = START_MS, 0, set()
        first = {f"c{number}": START_MS + number * 240_000 for number in range(3)}
        under_way: list[tuple[Watched, str, int]] = []
        for _ in range(400):
            now += chance.choice((0, 7, 500, 3_000, 9_000, 31_000, 70_000))
            script.at(now)
            customer = chance.choice(("c0", "c1", "c2"))
            call = Watched(
                chance.choice((1, NANO // 10, NANO // 2, NANO, 3 * NANO)),
                fingerprint=chance.choice(("", "a", "b", "c")),
                first_ms=first[customer],
            )
            subjects = {rule.guard_id: customer for rule in RULES}
            passed, trips = book.decide(call, subjects, now_ms=now)
            assert script.decide(call, customer) == (passed, {t.rule.guard_id: t.figure for t in trips})
            tripped |= {trip.rule.guard_id for trip in trips}
            if passed:
                under_way.append((call, customer, now))
            if under_way and chance.random() < 0.4:
                done, whose, placed = under_way.pop(0)
                script.settle(done, whose, placed_ms=placed, actual_nano=done.cost_nano // 3)
                book.ease(
                    done,
                    {rule.guard_id: whose for rule in RULES},
                    placed_ms=placed,
                    actual_nano=done.cost_nano // 3,
                )
                settled += 1
        script.forget()
        assert {rule.guard_id for rule in RULES} - tripped == set()
        assert settled > 50
