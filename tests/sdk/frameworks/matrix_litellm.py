"""LiteLLM's functions x what may become of a call, against a real noburn.

Refused: nothing reaches the provider, and one refusal is raised. Settled: what the provider's usage costs.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import httpx
import litellm
import noburn_sdk
import pytest
from noburn_sdk import BudgetExceededError, Gate, UnboundedError

from tests.doubles.provider import ProviderDouble
from tests.sdk.frameworks import loop
from tests.sdk.frameworks.plane import Customer, Plane, cost

MESSAGES: Any = [{"role": "user", "content": "Write a haiku about budgets, please."}]
GPT, CLAUDE, EMBEDDING = "gpt-4o-mini", "claude-haiku-4-5", "text-embedding-3-small"

COLLECTIONS_MAX = 200

Function = Callable[..., Any]
Settled = Callable[[Customer], list[dict[str, Any]]]
Questions = Callable[[], int]


def gpt(double: ProviderDouble) -> dict[str, Any]:
    return {"api_key": "k", "api_base": double.openai_url}


def claude(double: ProviderDouble) -> dict[str, Any]:
    return {"api_key": "k", "api_base": double.anthropic_url, "max_tokens": 200}


KINDS: dict[str, Function] = {
    "completion": lambda d, **o: litellm.completion(model=GPT, messages=MESSAGES, **gpt(d), **o),
    "claude": lambda d, **o: litellm.completion(
        model=f"anthropic/{CLAUDE}", messages=MESSAGES, **claude(d), **o
    ),
    "completion stream": lambda d, **o: litellm.completion(GPT, MESSAGES, stream=True, **gpt(d), **o),
    "claude stream": lambda d, **o: litellm.completion(
        f"anthropic/{CLAUDE}", MESSAGES, stream=True, **claude(d), **o
    ),
    "text_completion": lambda d, **o: litellm.text_completion(model=GPT, prompt="A haiku.", **gpt(d), **o),
    "embedding": lambda d, **o: litellm.embedding(model=EMBEDDING, input=["a haiku"], **gpt(d), **o),
    "responses": lambda d, **o: litellm.responses(model=GPT, input="A haiku.", **gpt(d), **o),
    "responses stream": lambda d, **o: litellm.responses(
        model=GPT, input="A haiku.", stream=True, **gpt(d), **o
    ),
    "responses of claude": lambda d, **o: litellm.responses(
        model=f"anthropic/{CLAUDE}",
        input="A haiku.",
        api_key="k",
        api_base=d.anthropic_url,
        max_output_tokens=200,
        **o,
    ),
}
ASYNCHRONOUS: dict[str, Function] = {
    "acompletion": lambda d, **o: litellm.acompletion(model=GPT, messages=MESSAGES, **gpt(d), **o),
    "async claude": lambda d, **o: litellm.acompletion(
        model=f"anthropic/{CLAUDE}", messages=MESSAGES, **claude(d), **o
    ),
    "acompletion stream": lambda d, **o: litellm.acompletion(GPT, MESSAGES, stream=True, **gpt(d), **o),
    "async claude stream": lambda d, **o: litellm.acompletion(
        f"anthropic/{CLAUDE}", MESSAGES, stream=True, **claude(d), **o
    ),
    "atext_completion": lambda d, **o: litellm.atext_completion(model=GPT, prompt="A haiku.", **gpt(d), **o),
    "aembedding": lambda d, **o: litellm.aembedding(model=EMBEDDING, input=["a haiku"], **gpt(d), **o),
    "aresponses": lambda d, **o: litellm.aresponses(model=GPT, input="A haiku.", **gpt(d), **o),
    "aresponses stream": lambda d, **o: litellm.aresponses(
        model=GPT, input="A haiku.", stream=True, **gpt(d), **o
    ),
}
ALL = [*KINDS, *ASYNCHRONOUS]
STREAMS = [kind for kind in ALL if "stream" in kind]
CHAT_STREAMS = [kind for kind in STREAMS if "responses" not in kind]


def call(kind: str, double: ProviderDouble, **options: Any) -> Any:
    """One call, read to its end: its answer, or the chunks of its stream."""
    if kind in KINDS:
        answer = KINDS[kind](double, **options)
        return list(answer) if kind in STREAMS else answer

    async def run() -> Any:
        answer = await ASYNCHRONOUS[kind](double, **options)
        return [chunk async for chunk in answer] if kind in STREAMS else answer

    return loop.run(run())


@pytest.fixture(autouse=True)
def _instrumented(gate: Gate) -> Iterator[None]:
    noburn_sdk.instrument("litellm", "openai")
    yield
    litellm.num_retries = None
    noburn_sdk.uninstrument()


@pytest.mark.parametrize("kind", ALL)
class TestGating:
    def test_settles_what_the_provider_billed(
        self, settled: Settled, acme: Customer, double: ProviderDouble, kind: str
    ) -> None:
        with noburn_sdk.context(customer=acme.name, tags={"feature": "test"}):
            assert call(kind, double)
        (billed,) = double.ledger()
        (booked,) = settled(acme)
        assert (booked["kind"], booked["outcome"]) == ("settled", "ok")
        assert Decimal(booked["cost_usd"]) == cost(billed)
        assert booked["tags"] == {"feature": "test"}
        assert Decimal(10) - acme.remaining() == cost(billed)

    def test_refuses_before_anything_is_sent(
        self, settled: Settled, questions: Questions, poor: Customer, double: ProviderDouble, kind: str
    ) -> None:
        retries = {} if "embedding" in kind else {"num_retries": 2}
        with noburn_sdk.context(customer=poor.name), pytest.raises(BudgetExceededError) as refusal:
            call(kind, double, **retries)
        assert isinstance(refusal.value, litellm.BudgetExceededError)
        assert isinstance(refusal.value, RuntimeError)
        assert refusal.value.scope == "customer"
        assert double.ledger() == []
        assert questions() == 1
        assert settled(poor) == []

    def test_frees_the_hold_of_every_failed_attempt(
        self, settled: Settled, acme: Customer, double: ProviderDouble, kind: str
    ) -> None:
        double.control(fail_status=503, retry_after="0")
        with noburn_sdk.context(customer=acme.name), pytest.raises(Exception, match="told to fail"):
            call(kind, double, max_retries=1)
        booked = settled(acme)
        # What LiteLLM does with max_retries differs by provider; a hold for each attempt is what must be.
        assert [one["kind"] for one in booked] == ["voided"] * len(double.ledger())
        assert booked
        assert acme.remaining() == 10

    def test_presumes_what_was_lost_on_its_way_back(
        self, settled: Settled, acme: Customer, double: ProviderDouble, kind: str
    ) -> None:
        if kind in STREAMS:
            double.control(output_tokens=100, chunk_tokens=10, cut_after_chunks=4)
        else:
            double.control(cut_after_chunks=1)
        with noburn_sdk.context(customer=acme.name), pytest.raises(Exception):  # noqa: B017, PT011
            call(kind, double, max_retries=0)
        billed = double.ledger()
        booked = settled(acme)
        assert len(booked) == len(billed) >= 1
        for one, entry in zip(booked, billed, strict=True):
            assert one["outcome"] == "cut"
            assert one["kind"] == ("settled" if one["usage"] else "presumed")
            assert Decimal(one["cost_usd"]) >= cost(entry) * Decimal("0.75")


class TestAttempts:
    def test_holds_every_attempt_of_num_retries(
        self, settled: Settled, acme: Customer, double: ProviderDouble
    ) -> None:
        double.control(fail_status=503, retry_after="0")
        with noburn_sdk.context(customer=acme.name), pytest.raises(litellm.ServiceUnavailableError):
            litellm.completion(model=GPT, messages=MESSAGES, num_retries=2, **gpt(double))
        attempts = len(double.ledger())
        assert attempts > 3
        assert [one["kind"] for one in settled(acme)] == ["voided"] * attempts

    def test_holds_every_attempt_of_num_retries_when_awaited(
        self, settled: Settled, acme: Customer, double: ProviderDouble
    ) -> None:
        double.control(script=[{"fail_status": 503, "retry_after": "0"}] * 2)

        async def run() -> Any:
            return await litellm.acompletion(model=GPT, messages=MESSAGES, num_retries=2, **gpt(double))

        with noburn_sdk.context(customer=acme.name):
            assert loop.run(run())
        booked = settled(acme)
        assert sorted(one["kind"] for one in booked) == ["settled", "voided", "voided"]
        assert len(double.ledger()) == 3

    def test_refuses_an_attempt_that_the_budget_no_longer_allows(
        self, settled: Settled, plane: Plane, double: ProviderDouble
    ) -> None:
        # The first attempt is lost on its way back, so that its hold is presumed spent; a second does not fit.
        tight = plane.customer("0.0002")
        double.control(cut_after_chunks=1)
        with noburn_sdk.context(customer=tight.name), pytest.raises(BudgetExceededError) as refusal:
            litellm.completion(model=GPT, messages=MESSAGES, max_tokens=200, max_retries=2, **gpt(double))
        assert isinstance(refusal.value, litellm.BudgetExceededError)
        assert len(double.ledger()) == 1
        assert [one["kind"] for one in settled(tight)] == ["presumed"]


def router(double: ProviderDouble, **options: Any) -> litellm.Router:
    """A Router with two groups of models."""
    models = [
        {"model_name": "fast", "litellm_params": {"model": GPT, "max_retries": 0, **gpt(double)}},
        {"model_name": "careful", "litellm_params": {"model": f"anthropic/{CLAUDE}", **claude(double)}},
    ]
    return litellm.Router(model_list=models, retry_after=0, **options)


def routed(made: litellm.Router, asynchronous: bool) -> Any:
    """One call through a Router."""
    if not asynchronous:
        return made.completion("fast", MESSAGES)

    async def run() -> Any:
        return await made.acompletion("fast", MESSAGES)

    return loop.run(run())


@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
class TestRouter:
    def test_settles_the_fallback_and_frees_the_attempts_before(
        self, settled: Settled, acme: Customer, double: ProviderDouble, asynchronous: bool
    ) -> None:
        double.control(script=[{"fail_status": 503, "retry_after": "0"}] * 2)
        made = router(double, num_retries=1, fallbacks=[{"fast": ["careful"]}])
        with noburn_sdk.context(customer=acme.name):
            assert routed(made, asynchronous)
        booked, billed = settled(acme), double.ledger()
        assert [entry["model"] for entry in billed] == [GPT, GPT, CLAUDE]
        assert sorted(one["kind"] for one in booked) == ["settled", "voided", "voided"]
        assert sum(Decimal(one["cost_usd"]) for one in booked) == cost(billed[-1])

    def test_raises_one_refusal_and_takes_no_deployment_out(
        self,
        settled: Settled,
        questions: Questions,
        poor: Customer,
        acme: Customer,
        double: ProviderDouble,
        asynchronous: bool,
    ) -> None:
        made = router(double, num_retries=3)
        with noburn_sdk.context(customer=poor.name), pytest.raises(BudgetExceededError):
            routed(made, asynchronous)
        assert double.ledger() == []
        assert questions() == 1
        with noburn_sdk.context(customer=acme.name):
            assert routed(made, asynchronous)


def collected(settled: Settled, acme: Customer) -> dict[str, Any]:
    """What was booked for an abandoned stream, which LiteLLM's logging threads may hold a little longer."""
    for _ in range(COLLECTIONS_MAX):
        gc.collect()
        if found := settled(acme):
            return found[0]
    raise AssertionError("the stream was never collected")


@pytest.mark.parametrize("kind", CHAT_STREAMS)
class TestStreams:
    def test_gives_the_usage_only_to_those_who_asked(
        self, settled: Settled, acme: Customer, double: ProviderDouble, kind: str
    ) -> None:
        with noburn_sdk.context(customer=acme.name):
            quiet = call(kind, double)
            told = call(kind, double, stream_options={"include_usage": True})
        assert not [chunk for chunk in quiet if getattr(chunk, "usage", None)]
        assert [chunk for chunk in told if getattr(chunk, "usage", None)]
        assert [one["kind"] for one in settled(acme)] == ["settled", "settled"]

    def test_ends_one_that_was_abandoned(
        self, settled: Settled, acme: Customer, double: ProviderDouble, kind: str
    ) -> None:
        double.control(output_tokens=100, chunk_tokens=10, chunk_delay_ms=20)
        with noburn_sdk.context(customer=acme.name):
            if kind in KINDS:
                stream = KINDS[kind](double)
                next(stream)
                del stream
            else:

                async def run() -> None:
                    stream = await ASYNCHRONOUS[kind](double)
                    await anext(stream)

                loop.run(run())
        booked = collected(settled, acme)
        assert booked["outcome"] == "cut"
        assert Decimal(booked["cost_usd"]) > 0


class TestEdges:
    def test_strips_headers_of_noburn_and_follows_them(
        self, settled: Settled, acme: Customer, double: ProviderDouble
    ) -> None:
        litellm.completion(
            model=GPT, messages=MESSAGES, extra_headers={"x-noburn-customer": acme.name}, **gpt(double)
        )
        (billed,) = double.ledger()
        assert billed["noburn_headers"] == []
        assert len(settled(acme)) == 1

    def test_injects_the_cap_that_was_allowed(
        self, settled: Settled, acme: Customer, double: ProviderDouble
    ) -> None:
        with noburn_sdk.context(customer=acme.name, max_output_tokens=77):
            litellm.completion(model=GPT, messages=MESSAGES, **gpt(double))
        assert double.ledger()[0]["cap"] == 77

    def test_asks_nothing_for_a_mocked_answer(self, questions: Questions, double: ProviderDouble) -> None:
        assert litellm.completion(model=GPT, messages=MESSAGES, mock_response="hello")
        assert questions() == 0

    def test_frees_the_hold_of_a_call_that_nothing_sent(
        self, settled: Settled, acme: Customer, double: ProviderDouble
    ) -> None:
        gone = ProviderDouble()
        with noburn_sdk.context(customer=acme.name), pytest.raises(litellm.InternalServerError):
            litellm.completion(model=GPT, messages=MESSAGES, max_retries=0, **gpt(gone))
        assert [one["kind"] for one in settled(acme)] == ["voided"]

    def test_bounds_a_model_of_somebody_else_by_its_bytes(
        self, settled: Settled, acme: Customer, double: ProviderDouble
    ) -> None:
        # No price is known for it, so the tenant's refusal of such models is what answers.
        with (
            noburn_sdk.context(customer=acme.name),
            pytest.raises(noburn_sdk.PriceUnknownError) as refusal,
        ):
            litellm.completion(model="openai/our-own-model", messages=MESSAGES, **gpt(double))
        assert double.ledger() == []
        assert refusal.value.model == "our-own-model"

    @pytest.mark.parametrize(
        ("function", "arguments"),
        [
            ("image_generation", {"prompt": "a fox", "model": "gpt-image-1"}),
            ("speech", {"model": "tts-1", "input": "hello", "voice": "alloy"}),
            ("transcription", {"model": "whisper-1", "file": ("a.wav", b"RIFF")}),
            ("rerank", {"model": "cohere/rerank-v3.5", "query": "q", "documents": ["d"]}),
        ],
    )
    def test_refuses_what_nothing_bounds(
        self,
        settled: Settled,
        acme: Customer,
        double: ProviderDouble,
        function: str,
        arguments: dict[str, Any],
    ) -> None:
        with noburn_sdk.context(customer=acme.name), pytest.raises(UnboundedError, match="cost_usd"):
            getattr(litellm, function)(**arguments, **gpt(double))
        assert double.ledger() == []

    def test_is_undone_exactly(self, gate: Gate, acme: Customer, double: ProviderDouble) -> None:
        gated = httpx.Client.send
        noburn_sdk.uninstrument("litellm")
        assert httpx.Client.send is not gated
        assert not hasattr(httpx.Client.send, "__wrapped__")
        noburn_sdk.uninstrument()
        with noburn_sdk.context(customer=acme.name):
            assert litellm.completion(model=GPT, messages=MESSAGES, **gpt(double))
        assert len(double.ledger()) == 1
        assert acme.ledger() == []
