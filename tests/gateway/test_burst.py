"""A burst whose holds would fill the budget many times over, although the budget can afford what it really uses."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from budgets.domain.policy import EACH
from budgets.stores.postgres.money import MoneyStore
from noburn.kit.money import to_usd

if TYPE_CHECKING:
    from tests.support.world import Account

pytestmark = pytest.mark.real_db

CALLS = 500
AFFORDABLE = 100
INPUT_TOKENS, INPUT_NANO = 200, 150
CAP, OUTPUT_NANO = 4096, 600
"""gpt-4o-mini at 0.15 and 0.60 USD a million tokens; 4,096 is the cap of a call that names none."""
BOUND_NANO = INPUT_TOKENS * INPUT_NANO + CAP * OUTPUT_NANO
USED_NANO = BOUND_NANO // 4
LATENCY_SECONDS = 0.02


class TestBurstWithoutOutputCaps:
    @pytest.mark.parametrize(("fit", "through_min"), [(False, 95), (True, 98)])
    def test_gets_through_as_far_as_the_budget_can_afford(
        self, alice: Account, fit: bool, through_min: int
    ) -> None:
        alice.budget("each", to_usd(AFFORDABLE * USED_NANO), subject=EACH)
        decisions: Counter[str] = Counter()

        async def one() -> None:
            placed = await alice.placing(
                model="gpt-4o-mini", input_tokens=INPUT_TOKENS, fit=fit, wait_ms=10_000
            )
            decisions[placed.decision] += 1
            if placed.decision != "allow":
                return
            await asyncio.sleep(LATENCY_SECONDS)
            output = min(placed["max_output_tokens"], (USED_NANO - INPUT_TOKENS * INPUT_NANO) // OUTPUT_NANO)
            settled = await alice.settling(
                placed, usage={"input_tokens": INPUT_TOKENS, "output_tokens": output}
            )
            assert settled["state"] == "settled"

        alice.world.all(one() for _ in range(CALLS))
        counter = alice.counter("each", "acme")
        assert decisions["allow"] >= through_min, decisions
        assert set(decisions) == {"allow", "budget_exceeded"}
        assert counter["spent"] <= counter["limit"]
        if not fit:
            # Nobody was refused who could have been let through.
            assert counter["limit"] - counter["spent"] < BOUND_NANO
        assert not alice.verify().differences


class TestBurstOfATenantThatTheGatewayDoesNotHold:
    """Its policy is read once for all: each call for itself would use up the connections until some were refused."""

    def test_reads_the_policy_once(self, alice: Account, monkeypatch: pytest.MonkeyPatch) -> None:
        alice.budget("acme", "$1")
        read = counting(monkeypatch, "policy_by_key")
        # Epochs are good for a minute, which a busy machine may have spent by now.
        alice.world.recover()
        answers = alice.world.all(alice.placing("$0.01") for _ in range(CALLS))
        assert Counter(answer.decision for answer in answers) == {"allow": 100, "budget_busy": CALLS - 100}
        assert read == ["policy_by_key"]

    def test_reads_an_edited_one_once(self, alice: Account, monkeypatch: pytest.MonkeyPatch) -> None:
        alice.budget("acme", "$1")
        assert alice.place("$0.01").decision == "allow"
        alice.limit("acme", "$2")
        read = counting(monkeypatch, "policies_newer")
        # Epochs are good for a minute, which a busy machine may have spent by now.
        alice.world.recover()
        answers = alice.world.all(alice.placing("$0.01") for _ in range(CALLS))
        assert Counter(answer.decision for answer in answers) == {"allow": 199, "budget_busy": CALLS - 199}
        # One for those who found it old, and the gateway's own polling beside, each two seconds.
        assert 1 <= len(read) < 20


def counting(monkeypatch: pytest.MonkeyPatch, name: str) -> list[str]:
    """Notes each call of one of the money store's methods."""
    called: list[str] = []
    method = getattr(MoneyStore, name)

    async def noted(store: MoneyStore, *args: object) -> object:
        called.append(name)
        return await method(store, *args)

    monkeypatch.setattr(MoneyStore, name, noted)
    return called
