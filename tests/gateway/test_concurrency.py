"""Four gateways in processes of their own against the same few dollars."""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from noburn.kit import ids

if TYPE_CHECKING:
    from tests.support.racers import Racers
    from tests.support.world import Account, World

pytestmark = pytest.mark.real_db

GATEWAYS = 4
CALLS = 200
AMOUNT_NANO = 7
START_MS = 60
RACES, RACES_SOAKED = 5, 100
LIVES_SOAKED = 20
LIFE_MS = 3_000


def now_ms() -> float:
    return time.time() * 1000


def a_seed() -> int:
    """A new one each time, told when something fails; NOBURN_SEED repeats one."""
    return int(os.environ.get("NOBURN_SEED", random.SystemRandom().randrange(10**6)))


def nano(amount: int) -> str:
    return f"0.{amount:09d}"


@pytest.fixture(scope="module")
def racers(real_database: None) -> Iterator[Racers]:
    # Django's models are loaded after this file.
    from tests.support.racers import Racers

    with Racers(GATEWAYS) as found:
        yield found


class TestTwoHundredCallsAtOnce:
    def race(self, world: World, racers: Racers) -> None:
        world.recover()
        alice = world.account("alice")
        limit = nano(4 * AMOUNT_NANO)
        alice.budget("tenant", limit, scope="tenant")
        alice.budget("project", limit, scope="project", subject="*")
        alice.budget("customer", limit, subject="*")
        racers.begin(
            {
                "do": "race",
                "secret": alice.secret,
                "amount": AMOUNT_NANO,
                "calls": CALLS // GATEWAYS,
                "at_ms": now_ms() + START_MS,
            }
        )
        answers = racers.end()
        decisions = Counter(decision for answer in answers for decision in answer["decisions"])
        assert decisions == {"allow": 4, "budget_busy": CALLS - 4}
        tokens = [token for answer in answers for token in answer["authorizations"]]
        assert len({world.keyring.verify(token).body.hold_id for token in tokens}) == 4
        for token in tokens:
            settled = world.run(
                alice.send("/v1/settle", {"authorization": token, "usage": {}, "cost_usd": nano(AMOUNT_NANO)})
            )
            assert settled["state"] == "settled"
        assert alice.counter("customer", "acme")["spent"] == 4 * AMOUNT_NANO
        assert not alice.verify().differences

    def test_let_exactly_four_through(self, world: World, racers: Racers) -> None:
        for _ in range(RACES):
            self.race(world, racers)

    @pytest.mark.soak
    def test_let_exactly_four_through_every_time(self, world: World, racers: Racers) -> None:
        for _ in range(RACES_SOAKED):
            self.race(world, racers)


class TestLiveTraffic:
    """Amounts are nano-USD of one tenant; its own budget is the tightest of three and the one that is edited.

    Each loss of Redis strands much of it, so that it is raised afterwards, or nothing would go on.
    """

    LIMIT, OTHER_LIMIT = 3_000, 30_000
    FAULTS = ("cut", "sweep", "close", "raise", "flush", "sweep", "cut", "restart", "raise", "sweep", "kill")

    def test_never_exceeds_a_limit_whatever_happens(self, world: World, racers: Racers) -> None:
        self.live(world, racers, a_seed())

    @pytest.mark.soak
    def test_never_exceeds_a_limit_through_many_lives(self, world: World, racers: Racers) -> None:
        seed = a_seed()
        for number in range(LIVES_SOAKED):
            self.live(world, racers, seed + number)

    def live(self, world: World, racers: Racers, seed: int) -> None:
        chance = random.Random(seed)
        world.recover()
        alice = world.account("alice")
        alice.budget("tenant", nano(self.LIMIT), scope="tenant")
        alice.budget("project", nano(self.OTHER_LIMIT), scope="project", subject="*")
        alice.budget("customer", nano(self.OTHER_LIMIT), subject="*")
        until = now_ms() + LIFE_MS
        racers.begin({"do": "live", "secret": alice.secret, "seed": seed, "until_ms": until})
        # Limit, and the times between which it came into force.
        limits = [(self.LIMIT, 0.0, 0.0)]
        coming = list(self.FAULTS)
        chance.shuffle(coming)
        for fault in coming:
            self.traffic(alice, chance)
            self.apply(fault, alice, limits, chance)
            self.assert_within_limits(alice, limits)
        while now_ms() < until:
            self.traffic(alice, chance)
        answers = racers.end()
        tallies = sum((Counter(answer["tallies"]) for answer in answers), Counter[str]())
        told = f"seed {seed}: {dict(tallies)}, faults in the order {coming}"
        world.recover()
        # A counter learns of an edit by the next call.
        self.traffic(alice, chance)
        while alice.verify().totals.open_holds:
            world.sweep()
        self.assert_placed_within(limits, [event for answer in answers for event in answer["events"]], told)
        self.assert_nothing_lost(
            alice, {k: v for answer in answers for k, v in answer["acknowledged"].items()}
        )
        assert not alice.verify().differences, told
        assert alice.verify().totals.overrun <= max(limits)[0] - limits[-1][0], told
        assert tallies["budget_busy"] + tallies["budget_exceeded"] > 0, told
        assert tallies["settled"] > 50, told

    def traffic(self, alice: Account, chance: random.Random) -> None:
        """Some calls through this process's gateway, whatever comes of them."""
        placed = alice.world.all(alice.placing(nano(chance.randint(1, 120))) for _ in range(10))
        voids = [alice.voiding(answer) for answer in placed if answer.decision == "allow"]
        for answer in alice.world.all(voids):
            assert answer.status in (200, 503)

    def apply(
        self, fault: str, alice: Account, limits: list[tuple[int, float, float]], chance: random.Random
    ) -> None:
        world = alice.world
        highest = max(limit for limit, _, _ in limits)
        if fault == "cut":
            self.edit(alice, limits, chance.randint(highest // 4, highest // 2))
        elif fault == "raise":
            self.edit(alice, limits, highest)
        elif fault == "sweep":
            world.sweep()
        elif fault == "close":
            world.run(world.operations.close(alice.shard))
        else:
            if fault == "kill":
                world.kill_redis()
            else:
                world.lose_redis(scripts=fault == "restart")
            world.recover()
            self.edit(alice, limits, highest + self.LIMIT)

    def edit(self, alice: Account, limits: list[tuple[int, float, float]], limit: int) -> None:
        began = now_ms()
        alice.limit("tenant", nano(limit))
        limits.append((limit, began, now_ms()))

    def assert_within_limits(self, alice: Account, limits: list[tuple[int, float, float]]) -> None:
        highest = max(limit for limit, _, _ in limits)
        for name, subject, most in (
            ("tenant", None, highest),
            ("project", "default", self.OTHER_LIMIT),
            ("customer", "acme", self.OTHER_LIMIT),
        ):
            counter = alice.counter(name, subject)
            assert counter["spent"] + counter["authority"] <= most, counter

    def assert_placed_within(
        self, limits: list[tuple[int, float, float]], events: list[list[Any]], told: str
    ) -> None:
        """Every call was placed beside what was committed then, as its callers saw it, within a limit then in force."""
        ends = [*(ended for _, _, ended in limits[1:]), float("inf")]
        committed = 0
        for at, hold, amount in sorted(events, key=lambda event: (event[0], event[2])):
            committed += amount
            if amount <= 0:
                continue
            limit = max(
                limit for (limit, began, _), end in zip(limits, ends, strict=True) if began <= at <= end + 1
            )
            assert committed <= limit, f"{hold} at {at}: {committed} of {limit}; {told}; {limits}"

    def assert_nothing_lost(self, alice: Account, acknowledged: dict[str, int]) -> None:
        rows = alice.world.sql(
            "SELECT hold_id, sum(cost_nano)::bigint FROM ledger_entries WHERE tenant_id = %s GROUP BY 1",
            alice.tenant_id,
        )
        recorded = {ids.encode("hold", hold): cost for hold, cost in rows}
        assert {hold: recorded.get(hold) for hold in acknowledged} == acknowledged
