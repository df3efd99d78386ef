"""Work that is shared by those who ask for it at once."""

from __future__ import annotations

import asyncio

import pytest

from budgets.services.flights import Flights


class Work:
    """Counts its runs; each ends when it is let go."""

    def __init__(self) -> None:
        self.runs = 0
        self.begun = asyncio.Event()
        self.go = asyncio.Event()

    async def __call__(self) -> int:
        self.runs += 1
        mine = self.runs
        self.begun.set()
        await self.go.wait()
        return mine


class TestFlights:
    def test_do_the_work_of_a_burst_once(self) -> None:
        async def burst() -> tuple[list[int], int]:
            flights: Flights[str, int] = Flights()
            work = Work()
            work.go.set()
            return await asyncio.gather(*(flights.share("a", work) for _ in range(500))), work.runs

        assert asyncio.run(burst()) == ([1] * 500, 1)

    def test_answer_with_a_run_that_began_after_the_question(self) -> None:
        async def late() -> tuple[int, list[int], int]:
            flights: Flights[str, int] = Flights()
            work = Work()
            early = asyncio.ensure_future(flights.share("a", work))
            await work.begun.wait()
            others = [asyncio.ensure_future(flights.share("a", work)) for _ in range(10)]
            await asyncio.sleep(0)
            work.go.set()
            return await early, await asyncio.gather(*others), work.runs

        assert asyncio.run(late()) == (1, [2] * 10, 2)

    def test_keep_keys_apart_and_nothing_afterwards(self) -> None:
        async def two() -> tuple[list[int], int]:
            flights: Flights[str, int] = Flights()
            work = Work()
            work.go.set()
            found = await asyncio.gather(flights.share("a", work), flights.share("b", work))
            return list(found), len(flights._running) + len(flights._next)

        assert asyncio.run(two()) == ([1, 2], 0)

    def test_tell_everybody_of_a_failure_and_begin_anew(self) -> None:
        async def failing() -> tuple[list[object], int]:
            flights: Flights[str, int] = Flights()

            async def fail() -> int:
                raise OSError("no")

            work = Work()
            work.go.set()
            told = await asyncio.gather(*(flights.share("a", fail) for _ in range(3)), return_exceptions=True)
            return [type(one) for one in told], await flights.share("a", work)

        assert asyncio.run(failing()) == ([OSError] * 3, 1)

    def test_outlive_a_caller_that_gives_up(self) -> None:
        async def leaving() -> int:
            flights: Flights[str, int] = Flights()
            work = Work()
            gone, stays = (asyncio.ensure_future(flights.share("a", work)) for _ in range(2))
            await work.begun.wait()
            gone.cancel()
            with pytest.raises(asyncio.CancelledError):
                await gone
            work.go.set()
            return await stays

        assert asyncio.run(leaving()) == 1
