"""LangChain's models and agents x what may become of a call, against a real noburn."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import noburn_sdk
import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import ModelRetryMiddleware
from langchain.chat_models import init_chat_model
from langchain_anthropic import ChatAnthropic
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from noburn_sdk import BudgetExceededError, Gate
from noburn_sdk.langchain import NoburnMiddleware
from pydantic import BaseModel

from tests.doubles.provider import ProviderDouble
from tests.sdk.frameworks import loop
from tests.sdk.frameworks.plane import Customer, cost

TEXT = "Write a haiku about budgets, please."
Settled = Callable[[Customer], list[dict[str, Any]]]
Questions = Callable[[], int]


class Haiku(BaseModel):
    """Three lines."""

    lines: list[str]


def lookup(word: str) -> str:
    """Looks a word up."""
    return word


def gpt(double: ProviderDouble, **options: Any) -> Any:
    return ChatOpenAI(
        model="gpt-4o-mini", base_url=double.openai_url, api_key="k", **{"max_retries": 0, **options}
    )


def claude(double: ProviderDouble, **options: Any) -> Any:
    return ChatAnthropic(
        model="claude-haiku-4-5",
        base_url=double.anthropic_url,
        api_key="k",
        max_tokens=200,
        **{"max_retries": 0, **options},
    )


def initialised(double: ProviderDouble, **options: Any) -> Any:
    return init_chat_model("openai:gpt-4o-mini", base_url=double.openai_url, api_key="k", **options)


MODELS: dict[str, Callable[..., Any]] = {"gpt": gpt, "claude": claude, "init_chat_model": initialised}


async def _collect(stream: Any) -> list[Any]:
    return [chunk async for chunk in stream]


WAYS: dict[str, Callable[[Any, Any], Any]] = {
    "invoke": lambda m, c: m.invoke(TEXT, c),
    "ainvoke": lambda m, c: loop.run(m.ainvoke(TEXT, c)),
    "stream": lambda m, c: list(m.stream(TEXT, c)),
    "astream": lambda m, c: loop.run(_collect(m.astream(TEXT, c))),
    "batch": lambda m, c: m.batch([TEXT], c),
    "bind_tools": lambda m, c: m.bind_tools([lookup]).invoke(TEXT, c),
    "with_structured_output": lambda m, c: m.with_structured_output(
        Haiku, method="function_calling", include_raw=True
    ).invoke(TEXT, c),
}
STREAMS = ("stream", "astream")


@pytest.fixture(autouse=True)
def _instrumented(gate: Gate) -> Iterator[None]:
    noburn_sdk.instrument("langchain")
    yield
    noburn_sdk.uninstrument()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("model", MODELS)
class TestModels:
    def test_settles_what_the_provider_billed_for_whom_the_metadata_names(
        self, settled: Settled, acme: Customer, double: ProviderDouble, model: str, way: str
    ) -> None:
        config = {"metadata": {"noburn_customer": acme.name}, "tags": ["feature=test"]}
        assert WAYS[way](MODELS[model](double), config)
        (billed,) = double.ledger()
        (booked,) = settled(acme)
        assert (booked["kind"], booked["outcome"]) == ("settled", "ok")
        assert Decimal(booked["cost_usd"]) == cost(billed)
        assert booked["tags"]["feature"] == "test"

    def test_refuses_before_anything_is_sent(
        self, questions: Questions, poor: Customer, double: ProviderDouble, model: str, way: str
    ) -> None:
        made = MODELS[model](double, max_retries=2)
        with noburn_sdk.context(customer=poor.name), pytest.raises(BudgetExceededError):
            WAYS[way](made, None)
        assert double.ledger() == []
        assert questions() == 1


@pytest.mark.parametrize("model", ["gpt", "claude"])
class TestFailures:
    @pytest.mark.parametrize("way", ["invoke", "ainvoke", *STREAMS])
    def test_frees_the_hold_of_every_failed_attempt(
        self, settled: Settled, acme: Customer, double: ProviderDouble, model: str, way: str
    ) -> None:
        double.control(fail_status=503, retry_after="0")
        with noburn_sdk.context(customer=acme.name), pytest.raises(Exception, match="503"):
            WAYS[way](MODELS[model](double, max_retries=1), None)
        assert [one["kind"] for one in settled(acme)] == ["voided"] * 2
        assert len(double.ledger()) == 2

    @pytest.mark.parametrize("way", STREAMS)
    def test_settles_what_was_seen_of_a_stream_that_was_cut(
        self, settled: Settled, acme: Customer, double: ProviderDouble, model: str, way: str
    ) -> None:
        double.control(output_tokens=100, chunk_tokens=10, cut_after_chunks=4)
        with noburn_sdk.context(customer=acme.name), pytest.raises(Exception):  # noqa: B017, PT011
            WAYS[way](MODELS[model](double), None)
        (booked,) = settled(acme)
        assert booked["outcome"] == "cut"
        assert Decimal(booked["cost_usd"]) > 0


class TestAttribution:
    def test_lets_the_context_win_over_metadata(
        self, settled: Settled, acme: Customer, poor: Customer, double: ProviderDouble
    ) -> None:
        with noburn_sdk.context(customer=acme.name):
            gpt(double).invoke(TEXT, {"metadata": {"noburn_customer": poor.name}})
        assert len(settled(acme)) == 1

    def test_forgets_a_run_when_it_has_ended(
        self, settled: Settled, acme: Customer, double: ProviderDouble
    ) -> None:
        gpt(double).invoke(TEXT, {"metadata": {"noburn_customer": acme.name}})
        gpt(double).invoke(TEXT)
        stream = gpt(double).stream(TEXT, {"metadata": {"noburn_customer": acme.name}})
        next(stream)
        stream.close()
        gpt(double).invoke(TEXT)
        assert len(settled(acme)) == 2

    @pytest.mark.parametrize("way", ["embed_documents", "aembed_documents"])
    def test_gates_embeddings(
        self, settled: Settled, acme: Customer, poor: Customer, double: ProviderDouble, way: str
    ) -> None:
        made = OpenAIEmbeddings(
            model="text-embedding-3-small",
            base_url=double.openai_url,
            api_key="k",
            max_retries=0,
            check_embedding_ctx_length=False,
        )

        def embed() -> Any:
            found = getattr(made, way)([TEXT])
            return loop.run(found) if way.startswith("a") else found

        with noburn_sdk.context(customer=acme.name):
            assert embed()
        (billed,) = double.ledger()
        assert [Decimal(one["cost_usd"]) for one in settled(acme)] == [cost(billed)]
        with noburn_sdk.context(customer=poor.name), pytest.raises(BudgetExceededError):
            embed()
        assert len(double.ledger()) == 1


def run_agent(double: ProviderDouble, asynchronous: bool, customer: str) -> Any:
    """An agent whose retries would make an answer of an error."""
    hides = ModelRetryMiddleware(max_retries=1, initial_delay=0.0, jitter=False, on_failure="continue")
    agent = create_agent(gpt(double), middleware=[NoburnMiddleware(customer=customer), hides])
    asked: Any = {"messages": [{"role": "user", "content": TEXT}]}
    return loop.run(agent.ainvoke(asked)) if asynchronous else agent.invoke(asked)


@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
class TestAgents:
    def test_settles_the_calls_of_an_agent(
        self, settled: Settled, acme: Customer, double: ProviderDouble, asynchronous: bool
    ) -> None:
        assert run_agent(double, asynchronous, acme.name)["messages"]
        (billed,) = double.ledger()
        assert [Decimal(one["cost_usd"]) for one in settled(acme)] == [cost(billed)]

    def test_lets_a_refusal_out_that_other_middleware_would_make_an_answer(
        self, poor: Customer, double: ProviderDouble, asynchronous: bool
    ) -> None:
        with pytest.raises(BudgetExceededError):
            run_agent(double, asynchronous, poor.name)
        assert double.ledger() == []
