"""Places at noburn: bounded in all and for each, given in turn, and never lost by who goes away."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from noburn_sdk._answers import Reply
from noburn_sdk._exchange import Lost
from noburn_sdk._requests import Request
from noburn_sdk.async_client import AsyncNoburn
from noburn_sdk.attribution import Attribution
from noburn_sdk.errors import BudgetExceededError, UnavailableError
from noburn_sdk.gate import Asked, HeldCall
from noburn_sdk.gate.serving import ASKING_MAX, ASKING_OF_SUBJECT_MAX, ServingGate
from noburn_sdk.gate.turns import Turns
from noburn_sdk.integrations.openai.endpoints import CHAT
from noburn_sdk.testing import MemoryGate, MemoryPlane

SECONDS = 60.0
BODY = {"model": "gpt-4o-mini", "max_tokens": 10, "messages": [{"role": "user", "content": "hi"}]}
CROWD = 3 * ASKING_OF_SUBJECT_MAX


async def settle_down() -> None:
    """Lets whatever can go on without anybody else do so."""
    for _ in range(20):
        await asyncio.sleep(0)


class Taking:
    """Callers who take places and keep them until they are told."""

    def __init__(self, turns: Turns) -> None:
        self.turns = turns
        self.order: list[str] = []
        self.back: list[Callable[[], None]] = []

    def come(self, subject: str, seconds: float = SECONDS) -> asyncio.Task[bool]:
        async def take() -> bool:
            found = await self.turns.take(subject, seconds)
            if found is not None:
                self.order.append(subject)
                self.back.append(found)
            return found is not None

        return asyncio.ensure_future(take())

    async def go(self) -> None:
        """The one that has kept its place for the longest time gives it back."""
        self.back.pop(0)()
        await settle_down()


class TestTurns:
    def test_are_taken_by_so_many_of_each_and_in_all(self) -> None:
        async def run() -> None:
            taking = Taking(Turns(5, 3))
            tasks = [taking.come(subject) for subject in "aaaaabbbb"]
            await settle_down()
            assert Counter(taking.order) == {"a": 3, "b": 2}
            assert taking.turns.waiting == 4
            for _ in tasks:
                await taking.go()
                assert len(taking.back) <= 5
            assert all([await task for task in tasks])
            assert Counter(taking.order) == {"a": 5, "b": 4}
            assert taking.turns.waiting == 0

        asyncio.run(run())

    def test_go_round_among_subjects_and_within_one_to_who_came_first(self) -> None:
        async def run() -> None:
            taking = Taking(Turns(1, 1))
            for subject in "aaaabbc":
                taking.come(subject)
            for _ in "aaaabbc":
                await settle_down()
                await taking.go()
            assert "".join(taking.order) == "aabcaba"

        asyncio.run(run())

    def test_that_one_subject_waits_for_are_taken_by_others_meanwhile(self) -> None:
        async def run() -> None:
            taking = Taking(Turns(4, 2))
            for subject in "aaab":
                taking.come(subject)
            await settle_down()
            assert Counter(taking.order) == {"a": 2, "b": 1}

        asyncio.run(run())

    def test_are_not_waited_for_beyond_the_time(self) -> None:
        async def run() -> None:
            taking = Taking(Turns(1, 1))
            taking.come("a")
            assert not await taking.come("a", 0.0)
            assert not await taking.come("b", 0.01)
            assert taking.turns.waiting == 0
            await taking.go()
            assert await taking.come("b", 0.0)

        asyncio.run(run())

    @pytest.mark.parametrize("called", [False, True])
    def test_of_who_goes_away_are_the_next_ones(self, called: bool) -> None:
        async def run() -> None:
            taking = Taking(Turns(1, 1))
            taking.come("a")
            await settle_down()
            gone, stays = taking.come("a"), taking.come("a")
            await settle_down()
            if called:
                # In the same moment its turn comes and it is cancelled.
                taking.back.pop()()
            gone.cancel()
            await settle_down()
            if not called:
                await taking.go()
            assert await stays
            assert gone.cancelled()
            assert taking.turns.waiting == 0
            await taking.go()
            assert await taking.come("a", 0.0)

        asyncio.run(run())

    def test_are_given_back_once(self) -> None:
        async def run() -> None:
            turns = Turns(1, 1)
            first = await turns.take("a", 0.0)
            assert first is not None
            first()
            first()
            assert await turns.take("a", 0.0) is not None
            assert await turns.take("a", 0.0) is None

        asyncio.run(run())


class Slow(AsyncNoburn):
    """Answers pre-flights when it is told to, and notes what asked meanwhile."""

    plane: MemoryPlane
    gate: Serving

    async def _send(self, request: Request) -> Reply | Lost:
        self.gate.asking.append(request)
        self.gate.asked.set()
        self.gate.most = max(self.gate.most, len(self.gate.asking))
        await self.gate.go.wait()
        self.gate.asking.remove(request)
        return self.plane.answer(request)


class Serving(MemoryGate, ServingGate):
    """A server's gate onto a plane in memory."""

    def __init__(self, plane: MemoryPlane, **settings: Any) -> None:
        self.asking: list[Request] = []
        self.most = 0
        self.go, self.asked = asyncio.Event(), asyncio.Event()
        super().__init__(plane, **settings)

    def _new_async_client(self, **options: Any) -> AsyncNoburn:
        client = Slow(self._key, self.base_url, **options)
        client.plane, client.gate = self.plane, self
        return client

    def come(self, customer: str, **fields: Any) -> asyncio.Task[HeldCall]:
        """A caller."""
        said = Attribution(customer=customer)
        return asyncio.ensure_future(self.admit_async(Asked(CHAT, "gpt-4o-mini", BODY, said=said, **fields)))

    def customers(self) -> Counter[str]:
        """Whose callers ask at present."""
        bodies = [json.loads(request.body or b"") for request in self.asking]
        return Counter(body["subject"]["customer"] for body in bodies)


class TestAServersCallers:
    """They ask noburn so many at once, so that its time-outs are for a noburn that does not answer."""

    def test_are_all_answered_though_only_some_ask_at_once(self) -> None:
        async def run() -> None:
            gate = Serving(MemoryPlane())
            tasks = [gate.come("acme") for _ in range(CROWD)]
            await settle_down()
            assert len(gate.asking) == ASKING_OF_SUBJECT_MAX
            gate.go.set()
            held = await asyncio.gather(*tasks)
            assert gate.most == ASKING_OF_SUBJECT_MAX
            assert len({one.allowed.hold_id for one in held if one.allowed is not None}) == CROWD
            assert await gate.aclose(SECONDS)

        asyncio.run(run())

    def test_of_many_customers_are_bounded_together(self) -> None:
        async def run() -> None:
            gate = Serving(MemoryPlane())
            tasks = [gate.come(f"acme-{number}") for number in range(2 * ASKING_MAX)]
            await settle_down()
            assert len(gate.asking) == ASKING_MAX
            gate.go.set()
            await asyncio.gather(*tasks)
            assert gate.most == ASKING_MAX
            assert await gate.aclose(SECONDS)

        asyncio.run(run())

    def test_ask_while_anothers_crowd_or_whoever_waits_for_holds_stands_in_line(self) -> None:
        async def run() -> None:
            gate = Serving(MemoryPlane())
            tasks = [gate.come("acme") for _ in range(CROWD)]
            tasks += [gate.come("globex"), gate.come("acme", wait_ms=0)]
            await settle_down()
            assert gate.customers() == {"acme": ASKING_OF_SUBJECT_MAX + 1, "globex": 1}
            gate.go.set()
            await asyncio.gather(*tasks)
            assert await gate.aclose(SECONDS)

        asyncio.run(run())

    def test_whose_time_to_wait_is_over_are_told_what_is_true_then(self) -> None:
        async def run() -> None:
            plane = MemoryPlane()
            plane.budget("customer", "acme", "0.000000001")
            gate = Serving(plane, busy_timeout=0.01)
            first = [gate.come("acme") for _ in range(ASKING_OF_SUBJECT_MAX)]
            await settle_down()
            gate.asked.clear()
            last = gate.come("acme")
            await gate.asked.wait()
            waits = [json.loads(request.body or b"").get("wait_ms", 0) for request in gate.asking]
            assert waits == [10] * ASKING_OF_SUBJECT_MAX + [0]
            gate.go.set()
            for refused in (last, *first):
                with pytest.raises(BudgetExceededError):
                    await refused
            assert await gate.aclose(SECONDS)

        asyncio.run(run())

    def test_that_go_away_before_their_turn_have_asked_nothing(self) -> None:
        async def run() -> None:
            plane = MemoryPlane()
            gate = Serving(plane)
            tasks = [gate.come("acme") for _ in range(ASKING_OF_SUBJECT_MAX)]
            await settle_down()
            gone = gate.come("acme")
            await settle_down()
            gone.cancel()
            gate.go.set()
            await asyncio.gather(*tasks)
            assert gone.cancelled()
            assert await gate.aclose(SECONDS)
            assert Counter(path for path, _ in plane.requests) == {"/v1/preflight": ASKING_OF_SUBJECT_MAX}

        asyncio.run(run())

    def test_that_go_away_while_they_ask_keep_their_place_until_they_are_answered(self) -> None:
        async def run() -> None:
            plane = MemoryPlane()
            gate = Serving(plane)
            gone = [gate.come("acme") for _ in range(ASKING_OF_SUBJECT_MAX)]
            await settle_down()
            stays = gate.come("acme")
            for task in gone:
                task.cancel()
            await settle_down()
            assert len(gate.asking) == ASKING_OF_SUBJECT_MAX
            gate.go.set()
            (await stays).finish(None)
            assert await gate.aclose(SECONDS)
            # What was placed for those who had gone is freed.
            states = Counter(one.state for one in plane.settlements)
            assert states["voided"] == ASKING_OF_SUBJECT_MAX

        asyncio.run(run())

    def test_do_not_ask_one_after_the_other_where_noburn_does_not_answer(self) -> None:
        async def run() -> None:
            plane = MemoryPlane()
            plane.unavailable = True
            gate = Serving(plane, max_retries=0)
            gate.go.set()
            tasks = [gate.come("acme") for _ in range(CROWD)]
            answers = await asyncio.gather(*tasks, return_exceptions=True)
            assert {type(answer) for answer in answers} == {UnavailableError}
            # A few more than had a place at first: theirs came back before it was known why.
            assert len(plane.requests) < CROWD // 2
            assert await gate.aclose(SECONDS)

        asyncio.run(run())

    def test_that_find_no_place_in_time_are_told_so_and_noburn_is_not_blamed(self) -> None:
        async def run() -> None:
            gate = Serving(MemoryPlane(), retry_timeout=0.01)
            tasks = [gate.come("acme", wait_ms=0) for _ in range(ASKING_MAX)]
            await settle_down()
            with pytest.raises(UnavailableError, match="too many callers"):
                await gate.come("globex", wait_ms=0)
            assert not gate.breaker.is_open
            gate.go.set()
            await asyncio.gather(*tasks)
            assert await gate.aclose(SECONDS)

        asyncio.run(run())
