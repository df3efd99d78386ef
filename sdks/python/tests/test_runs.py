"""Runs: caps, nesting, stops, ends; in threads, in asyncio, as decorators, and around graphs."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from decimal import Decimal
from typing import Any

import pytest

import noburn_sdk
from noburn_sdk import BudgetExceededError, InvalidRequestError
from noburn_sdk.gate.fingerprints import fingerprint
from noburn_sdk.langgraph import with_run
from noburn_sdk.testing import MemoryGate, MemoryPlane
from noburn_sdk.testing.plane import _AsyncMemoryNoburn


@pytest.fixture
def plane() -> MemoryPlane:
    return MemoryPlane()


@pytest.fixture
def gate(plane: MemoryPlane) -> Iterator[MemoryGate]:
    made = MemoryGate(plane, busy_timeout=0.0, wait_ms=0)
    noburn_sdk.configure(gate=made)
    yield made
    made.close()


def call(gate: MemoryGate, cost: str = "0.10") -> Any:
    said = noburn_sdk.attribution.current().options()
    return gate.client().preflight(model="tool", input_tokens=1, max_output_tokens=1, cost_usd=cost, **said)


class TestARun:
    def test_names_its_calls_and_ends(self, plane: MemoryPlane, gate: MemoryGate) -> None:
        with noburn_sdk.run("1", steps=5, customer="acme") as run:
            call(gate)
            assert (noburn_sdk.current_run(), plane.runs.by_id[run.id].state) == (run.id, "open")
        assert noburn_sdk.current_run() is None
        assert plane.decisions[0].subject == {"customer": "acme", "run": run.id}
        assert run.result is not None
        assert run.result.summary is not None
        assert (run.result.state, run.result.summary.calls) == ("ended", 1)

    def test_refuses_beyond_its_caps(self, gate: MemoryGate) -> None:
        with noburn_sdk.run("0.15"):
            call(gate)
            with pytest.raises(BudgetExceededError) as refused:
                call(gate, "0.20")
            assert refused.value.reason == "run_limit"
        with noburn_sdk.run(steps=1):
            call(gate)
            with pytest.raises(BudgetExceededError):
                call(gate)

    def test_inside_another_is_its_child(self, plane: MemoryPlane, gate: MemoryGate) -> None:
        with noburn_sdk.run("0.15") as outer, noburn_sdk.run(steps=9) as inner:
            assert plane.runs.by_id[inner.id].parent == outer.id
            call(gate)
            with pytest.raises(BudgetExceededError):
                call(gate)

    def test_that_is_stopped_lets_nothing_through(self, gate: MemoryGate) -> None:
        with noburn_sdk.run() as run:
            assert gate.client().stop_run(run.id, "enough").closed_now
            with pytest.raises(BudgetExceededError) as refused:
                call(gate)
            assert refused.value.reason == "run_stopped"
            with pytest.raises(BudgetExceededError), noburn_sdk.run():
                pass

    def test_says_why_it_ended(self, plane: MemoryPlane, gate: MemoryGate) -> None:
        with pytest.raises(ZeroDivisionError), noburn_sdk.run() as run:
            _ = 1 // 0
        assert plane.runs.by_id[run.id].reason == "failed: ZeroDivisionError"

    def test_whose_end_fails_hides_nothing(self, plane: MemoryPlane, gate: MemoryGate) -> None:
        client = gate._new_client(max_retries=0, retry_timeout=0.0)
        with client.run() as run:
            plane.unavailable = True
        assert run.result is None

    def test_follows_a_copied_context_into_a_thread(self, plane: MemoryPlane, gate: MemoryGate) -> None:
        with noburn_sdk.run() as run, ThreadPoolExecutor(1) as pool:
            pool.submit(copy_context().run, call, gate).result()
        assert plane.decisions[0].subject == {"run": run.id}

    def test_names_every_bad_field(self) -> None:
        with pytest.raises(InvalidRequestError) as wrong:
            noburn_sdk.run("-1", steps=-1, seconds=0, run="")
        assert set(wrong.value.errors) == {"usd", "steps", "seconds", "run"}

    def test_is_sent_with_exact_caps(self) -> None:
        wanted = noburn_sdk.NewRun(usd=Decimal("1e-3"), steps=2, run="r", metadata={"a": "b"})
        request = wanted.to_request("above")
        assert request.body == (
            b'{"caps":{"steps":2,"usd":"0.001"},"run":"r","parent":"above","metadata":{"a":"b"}}'
        )


class TestDecorators:
    def test_start_a_run_for_each_call(self, plane: MemoryPlane, gate: MemoryGate) -> None:
        @noburn_sdk.run(steps=1)
        def agent() -> str:
            call(gate)
            return str(noburn_sdk.current_run())

        assert agent() != agent()
        assert {run.state for run in plane.runs.by_id.values()} == {"ended"}

    def test_refuse_generators(self) -> None:
        def steps() -> Iterator[int]:
            yield 1

        with pytest.raises(InvalidRequestError):
            noburn_sdk.run()(steps)


class TestAsync:
    def test_by_the_process_s_gate_and_by_a_client(self, plane: MemoryPlane, gate: MemoryGate) -> None:
        async def both() -> None:
            async with noburn_sdk.run(steps=3) as outer:
                client = _AsyncMemoryNoburn("nb_test_memory", "http://noburn.invalid")
                client.plane = plane

                @client.run(steps=2)
                async def inner() -> str:
                    await asyncio.gather(*(asyncio.to_thread(call, gate) for _ in range(2)))
                    return str(noburn_sdk.current_run())

                name = await inner()
                assert plane.runs.by_id[name].parent == outer.id
                assert (await client.stop_run(outer.id)).state == "stopped"
                await client.aclose()
            assert outer.result is not None

        asyncio.run(both())


class _Graph:
    """What LangGraph's compiled graph has of it."""

    name = "graph"

    def __init__(self, step: Any) -> None:
        self._step = step

    def invoke(self, state: Any) -> Any:
        return self._step(state)

    async def ainvoke(self, state: Any) -> Any:
        return self._step(state)

    def stream(self, state: Any) -> Iterator[Any]:
        yield self._step(state)

    async def astream(self, state: Any) -> Any:
        yield self._step(state)


class TestGraphs:
    def test_have_a_run_for_each_invocation(self, plane: MemoryPlane, gate: MemoryGate) -> None:
        seen: list[Any] = []
        graph = with_run(_Graph(lambda _: seen.append(noburn_sdk.current_run())), steps=3)

        async def streamed() -> None:
            await graph.ainvoke({})
            async for _ in graph.astream({}):
                pass

        graph.invoke({})
        assert list(graph.stream({})) == [None]
        asyncio.run(streamed())
        assert (len(set(seen)), None in seen, graph.name) == (4, False, "graph")
        assert {run.state for run in plane.runs.by_id.values()} == {"ended"}


class TestFingerprints:
    def test_tell_the_same_request_from_another_and_nothing_else(self) -> None:
        body = {"messages": [{"role": "user", "content": "secret"}], "temperature": 0}
        one = fingerprint("m", body, key="k")
        assert one == fingerprint("m", dict(reversed(body.items())), key="k")
        assert one is not None
        assert "secret" not in one
        assert len(one) == 32
        assert one not in (
            fingerprint("m2", body, key="k"),
            fingerprint("m", body, key="k2"),
            fingerprint("m", {**body, "temperature": 1}, key="k"),
        )
        assert fingerprint("m", body, key="k", size=5_000_000) is None
        assert fingerprint("m", {"x": object()}, key="k") != fingerprint("m", {"x": object()}, key="k")
