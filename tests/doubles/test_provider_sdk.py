"""The SDK's counts and readings against what the double bills, through the real clients."""

from __future__ import annotations

import msgspec
import openai
import pytest
from anthropic import Anthropic
from anthropic.types import MessageParam
from noburn_sdk import Usage, estimate
from noburn_sdk import usage as usages
from openai.types.chat import ChatCompletionMessageParam

from tests.doubles.provider import ProviderDouble
from tests.doubles.provider.ledger import Metered

TEXTS = [
    "hello",
    "naïve café 漢字 🙂",
    '{"rows": [1, 2, {"a": null}]}' * 40,
    "zzkq " * 500,
    "1234567890" * 30,
]


def metered(double: ProviderDouble) -> Usage:
    """Returns the last call of the ledger in the SDK's names."""
    found = msgspec.convert(double.ledger()[-1]["metered"], Metered)
    return Usage(
        found.input_tokens,
        found.output_tokens,
        cache_read_tokens=found.cached_tokens,
        cache_write_tokens=found.cache_write_tokens,
        cache_write_1h_tokens=found.cache_write_1h_tokens,
        reasoning_tokens=found.reasoning_tokens,
        tool_calls={"web_search": found.web_searches} if found.web_searches else {},
        service_tier="default",
    )


@pytest.fixture
def busy_double(double: ProviderDouble) -> ProviderDouble:
    double.control(cached_fraction=0.3, cache_write_fraction=0.2, reasoning_fraction=0.25)
    return double


class TestInput:
    @pytest.mark.parametrize("model", ["gpt-4o-mini", "gpt-4"])
    @pytest.mark.parametrize("text", TEXTS)
    def test_is_counted_exactly_for_openai(self, double: ProviderDouble, model: str, text: str) -> None:
        messages: list[ChatCompletionMessageParam] = [
            {"role": "system", "content": text},
            {"role": "user", "name": "bob", "content": [{"type": "text", "text": text}]},
        ]
        with openai.OpenAI(base_url=double.openai_url, api_key="k", max_retries=0) as client:
            client.chat.completions.create(model=model, messages=messages)
        assert metered(double).input_tokens == estimate.count_chat([dict(m) for m in messages], model)

    @pytest.mark.parametrize("model", ["claude-haiku-4-5", "claude-opus-4-7"])
    @pytest.mark.parametrize("text", TEXTS)
    def test_is_bounded_for_claude(self, double: ProviderDouble, model: str, text: str) -> None:
        messages: list[MessageParam] = [
            {"role": "user", "content": text},
            {"role": "assistant", "content": text},
        ]
        with Anthropic(base_url=double.anthropic_url, api_key="k", max_retries=0) as client:
            client.messages.create(model=model, messages=messages, max_tokens=5, system=text)
        bound = estimate.bound_anthropic([dict(m) for m in messages], model, system=text)
        assert 0.8 * bound - 20 < metered(double).input_tokens <= bound


class TestUsage:
    def test_is_read_from_openai(self, busy_double: ProviderDouble) -> None:
        with openai.OpenAI(base_url=busy_double.openai_url, api_key="k", max_retries=0) as client:
            chat = client.chat.completions.create(
                model="gpt-4o-mini", messages=[{"role": "user", "content": "hello " * 50}]
            )
            assert usages.from_openai_chat(chat) == usages.normalise(chat) == metered(busy_double)
            busy_double.control(web_searches=2)
            response = client.responses.create(model="gpt-4o-mini", input="hello " * 50)
            assert (
                usages.from_openai_responses(response) == usages.normalise(response) == metered(busy_double)
            )
            embedded = client.embeddings.create(model="text-embedding-3-small", input="hello")
            assert usages.from_embeddings(embedded) == Usage(1)

    def test_is_read_from_anthropic(self, busy_double: ProviderDouble) -> None:
        busy_double.control(cache_write_1h_fraction=0.5, web_searches=3)
        messages: list[MessageParam] = [{"role": "user", "content": "hello " * 50}]
        with Anthropic(base_url=busy_double.anthropic_url, api_key="k", max_retries=0) as client:
            message = client.messages.create(model="claude-haiku-4-5", messages=messages, max_tokens=50)
            assert usages.from_anthropic(message) == usages.normalise(message) == metered(busy_double)
            events = list(
                client.messages.create(
                    model="claude-haiku-4-5", messages=messages, max_tokens=50, stream=True
                )
            )
        start, delta = events[0], events[-2]
        assert start.type == "message_start"
        assert delta.type == "message_delta"
        assert usages.from_anthropic(start.message, delta=delta.usage) == metered(busy_double)
