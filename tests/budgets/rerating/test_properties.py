"""Whatever is settled, voided, presumed and re-rated in whatever order: each call is in the ledger at its last price."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.budgets.rerating.desk import Desk
    from tests.support.asgi import Answer

pytestmark = pytest.mark.real_db

STEPS = 30
CUSTOMERS = ("acme", "zeta")


@dataclass
class Life:
    """A call: what its tokens cost in nano-USD when it was placed and now, and what its caller said of it."""

    placed: Answer
    customer: str
    placed_rate: int
    rate: int
    said: str = "nothing"
    tokens: int = 0
    told: int = 0

    @property
    def cost(self) -> int:
        """What it costs."""
        if self.said == "presumed":
            return 4_000 * self.placed_rate
        return self.told if self.said == "told" else self.tokens * self.rate


class Play:
    """A random tale of one tenant, beside a count that knows no ledger."""

    def __init__(self, desk: Desk, seed: int) -> None:
        self.desk, self.chance = desk, random.Random(seed)
        self.lives: list[Life] = []
        self.moments: list[tuple[datetime, int]] = []
        self.reprice()

    def reprice(self) -> None:
        """From now on a token costs so many nano-USD."""
        rate = self.chance.randint(1, 9) * 1_000
        self.moments.append((self.desk.price(str(rate // 1_000)), rate))

    def place(self) -> None:
        """A call that nobody has settled yet."""
        customer, rate = self.chance.choice(CUSTOMERS), self.moments[-1][1]
        self.lives.append(Life(self.desk.place(customer=customer), customer, rate, rate))

    def settle(self) -> None:
        """A settlement: a first, a late one, one after a void, one that tells the cost."""
        life = self.of("nothing", "presumed", "voided")
        if life is None:
            return
        tokens = self.chance.randint(1, 4_000)
        usage = {"input_tokens": tokens}
        if self.chance.random() < 0.25:
            life.said, life.told = "told", self.chance.randint(1, 10**9)
            told = f"{life.told / 10**9:.9f}"
            answer = self.desk.account.settle(life.placed, told, usage=usage)
        else:
            life.said, life.tokens = "settled", tokens
            answer = self.desk.account.settle(life.placed, usage=usage)
        assert answer.status == 200, answer

    def void(self) -> None:
        """A void, of what is presumed too."""
        life = self.of("nothing", "presumed")
        if life is not None:
            assert self.desk.account.void(life.placed).status == 200
            life.said = "voided"

    def presume(self) -> None:
        """Nothing was seen of a call."""
        life = self.of("nothing")
        if life is not None:
            assert self.desk.account.settle(life.placed, usage=None).status == 200
            life.said = "presumed"

    def replay(self) -> None:
        """The same settlement once more, and another one."""
        life = self.of("settled")
        if life is not None:
            again = self.desk.account.settle(life.placed, usage={"input_tokens": life.tokens})
            assert (again.status, again["replayed"]) == (200, True)
            other = self.desk.account.settle(life.placed, usage={"input_tokens": life.tokens + 1})
            assert other.status == 409

    def rerate(self) -> None:
        """All calls, or one customer's, at some price that there was, or as they were placed."""
        customer = self.chance.choice(("", "", *CUSTOMERS))
        back = self.chance.random() < 0.3
        at, rate = self.chance.choice(self.moments)
        prices: dict[str, Any] = {"as_placed": True} if back else {"prices_at": at}
        done = self.desk.rerate(customer=customer, **prices)
        changed = 0
        for life in self.lives:
            if life.said == "settled" and customer in ("", life.customer):
                new = life.placed_rate if back else rate
                changed += life.rate != new
                life.rate = new
        assert (done.applied_calls, done.moved_calls) == (changed, 0)

    def of(self, *said: str) -> Life | None:
        """Some call of which this was said."""
        found = [life for life in self.lives if life.said in said]
        return self.chance.choice(found) if found else None

    def step(self) -> None:
        """Something happens."""
        doings = (self.place, self.settle, self.void, self.presume, self.replay, self.rerate, self.reprice)
        self.chance.choices(doings, weights=(30, 30, 6, 8, 5, 12, 6))[0]()


class TestLedger:
    @pytest.mark.parametrize(
        "seed", [*range(2), *(pytest.param(seed, marks=pytest.mark.soak) for seed in range(2, 60))]
    )
    def test_is_what_each_call_costs_at_its_last_price(self, desk: Desk, seed: int) -> None:
        for customer in CUSTOMERS:
            desk.account.budget(customer, "$1000")
        desk.account.budget("all", "$1000", scope="tenant", window="day")
        desk.account.budget("count", 10_000, scope="tenant", metric="requests", window="month")
        play = Play(desk, seed)
        for _ in range(STEPS):
            play.step()
        owed = {
            customer: sum(life.cost for life in play.lives if life.customer == customer)
            for customer in CUSTOMERS
        }
        assert desk.spent() == sum(owed.values())
        assert desk.account.counter("all")["spent"] == sum(owed.values())
        for customer in CUSTOMERS:
            if any(life.customer == customer for life in play.lives):
                assert desk.account.counter(customer)["spent"] == owed[customer]
        requests = sum(life.said in ("settled", "told", "presumed") for life in play.lives)
        assert desk.account.counter("count")["spent"] == requests
        assert desk.usage() == (sum(owed.values()), requests)
        desk.exact()
