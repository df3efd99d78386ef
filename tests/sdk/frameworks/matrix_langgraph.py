"""Graphs: whom a node's calls are for, and that a refusal ends a graph at once."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from typing import Annotated, Any, TypedDict

import noburn_sdk
import openai
import pytest
from langchain_openai import ChatOpenAI
from langgraph.graph import END, START, StateGraph
from langgraph.types import RetryPolicy
from noburn_sdk import BudgetExceededError, Gate
from noburn_sdk.langgraph import with_run

from tests.doubles.provider import ProviderDouble
from tests.sdk.frameworks import loop
from tests.sdk.frameworks.plane import Customer

Settled = Callable[[Customer], list[dict[str, Any]]]
Questions = Callable[[], int]
TEXT = "Write a haiku about budgets, please."


class State(TypedDict):
    """What nodes add to."""

    said: Annotated[list[str], operator.add]


def graph(double: ProviderDouble, *, asynchronous: bool, nodes: int = 1, raw: bool = False) -> Any:
    """Nodes that call a model beside each other, each tried three times."""
    model = ChatOpenAI(model="gpt-4o-mini", base_url=double.openai_url, api_key="k", max_retries=0)
    options: Any = {"base_url": double.openai_url, "api_key": "k", "max_retries": 0}
    asked: Any = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": TEXT}]}

    def node(state: State) -> Any:
        if raw:
            with openai.OpenAI(**options) as client:
                return {"said": [str(client.chat.completions.create(**asked))]}
        return {"said": [str(model.invoke(TEXT).content)]}

    async def node_async(state: State) -> Any:
        if raw:
            async with openai.AsyncOpenAI(**options) as client:
                return {"said": [str(await client.chat.completions.create(**asked))]}
        return {"said": [str((await model.ainvoke(TEXT)).content)]}

    made: Any = StateGraph(State)
    policy = RetryPolicy(initial_interval=0.0, max_attempts=3, jitter=False)
    for number in range(nodes):
        made.add_node(f"write{number}", node_async if asynchronous else node, retry_policy=policy)
        made.add_edge(START, f"write{number}")
        made.add_edge(f"write{number}", END)
    return made.compile()


async def _collect(stream: Any) -> list[Any]:
    return [part async for part in stream]


def run(made: Any, config: Any, *, asynchronous: bool, mode: str | None = None) -> Any:
    """Runs a graph to its end, streamed where a mode is named."""
    begin: Any = {"said": []}
    if mode is None:
        return loop.run(made.ainvoke(begin, config)) if asynchronous else made.invoke(begin, config)
    if asynchronous:
        return loop.run(_collect(made.astream(begin, config, stream_mode=mode)))
    return list(made.stream(begin, config, stream_mode=mode))


@pytest.fixture(autouse=True)
def _instrumented(gate: Gate) -> Iterator[None]:
    noburn_sdk.instrument("langgraph")
    yield
    noburn_sdk.uninstrument()


@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
class TestNodes:
    @pytest.mark.parametrize("raw", [False, True], ids=["langchain", "openai"])
    def test_attributes_calls_to_thread_node_and_step(
        self, settled: Settled, acme: Customer, double: ProviderDouble, raw: bool, asynchronous: bool
    ) -> None:
        thread = f"thread-of-{acme.name}"
        config = {"configurable": {"thread_id": thread}, "metadata": {"noburn_customer": acme.name}}
        run(graph(double, asynchronous=asynchronous, raw=raw), config, asynchronous=asynchronous)
        (booked,) = settled(acme)
        assert booked["run"] == thread
        assert booked["tags"] == {"langgraph_node": "write0", "langgraph_step": "1"}

    @pytest.mark.parametrize("mode", [None, "values", "updates", "messages"])
    def test_lets_a_refusal_out_at_once(
        self,
        questions: Questions,
        poor: Customer,
        double: ProviderDouble,
        mode: str | None,
        asynchronous: bool,
    ) -> None:
        made = graph(double, asynchronous=asynchronous)
        with pytest.raises(BudgetExceededError):
            run(made, {"metadata": {"noburn_customer": poor.name}}, asynchronous=asynchronous, mode=mode)
        assert double.ledger() == []
        # The node's RetryPolicy did not run it again.
        assert questions() == 1

    @pytest.mark.parametrize("mode", ["values", "messages"])
    def test_settles_the_calls_of_parallel_branches(
        self, settled: Settled, acme: Customer, double: ProviderDouble, mode: str, asynchronous: bool
    ) -> None:
        made = graph(double, asynchronous=asynchronous, nodes=3)
        run(made, {"metadata": {"noburn_customer": acme.name}}, asynchronous=asynchronous, mode=mode)
        booked = settled(acme)
        assert [one["kind"] for one in booked] == ["settled"] * 3
        assert {one["tags"]["langgraph_node"] for one in booked} == {"write0", "write1", "write2"}


@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
class TestRuns:
    def test_are_made_for_each_invocation_and_hold_its_calls_to_their_caps(
        self, settled: Settled, acme: Customer, double: ProviderDouble, asynchronous: bool
    ) -> None:
        config = {"configurable": {"thread_id": "a-thread"}, "metadata": {"noburn_customer": acme.name}}
        made = with_run(graph(double, asynchronous=asynchronous), steps=1, customer=acme.name)
        for _ in range(2):
            run(made, config, asynchronous=asynchronous)
        runs = acme.plane.get(f"/v1/runs?customer={acme.name}")["items"]
        assert {one["run"] for one in settled(acme)} == {one["id"] for one in runs}
        assert [one["state"] for one in runs] == ["ended", "ended"]
        two = with_run(graph(double, asynchronous=asynchronous, nodes=2), steps=1)
        with pytest.raises(BudgetExceededError) as refused:
            run(two, config, asynchronous=asynchronous)
        assert refused.value.reason in ("run_limit", "budget_busy")
