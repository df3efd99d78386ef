"""The real OpenAI clients against the double: every endpoint, plain and streaming, sync and async."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam

from tests.doubles.provider import ProviderDouble

MODEL = "gpt-4o-mini"
HELLO: list[ChatCompletionMessageParam] = [{"role": "user", "content": "hello"}]


@pytest.fixture
def client(double: ProviderDouble) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=double.openai_url, api_key="sk-test", max_retries=0) as client:
        yield client


class TestChat:
    def test_bills_exact_input_and_output(self, client: openai.OpenAI) -> None:
        answer = client.chat.completions.create(model=MODEL, messages=HELLO)
        assert answer.usage is not None
        # 3 for the message, 1 its role, 1 its text, 3 to prime the answer: what OpenAI bills for "hello".
        assert answer.usage.prompt_tokens == 8
        assert answer.usage.completion_tokens == 24
        assert answer.choices[0].finish_reason == "stop"
        assert answer.choices[0].message.content == " ok" * 24

    @pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
    def test_never_exceeds_the_cap(self, client: openai.OpenAI, name: str) -> None:
        answer = client.chat.completions.create(model=MODEL, messages=HELLO, extra_body={name: 5})
        assert answer.usage is not None
        assert answer.usage.completion_tokens == 5
        assert answer.choices[0].finish_reason == "length"

    def test_multiplies_output_by_n(self, client: openai.OpenAI) -> None:
        answer = client.chat.completions.create(model=MODEL, messages=HELLO, n=3, max_tokens=10)
        assert answer.usage is not None
        assert (len(answer.choices), answer.usage.completion_tokens) == (3, 30)

    def test_reports_cached_and_reasoning_tokens(self, double: ProviderDouble, client: openai.OpenAI) -> None:
        double.control(cached_fraction=0.5, cache_write_fraction=0.25, reasoning_fraction=0.5)
        answer = client.chat.completions.create(model=MODEL, messages=HELLO, max_tokens=100)
        usage = answer.usage
        assert usage is not None
        assert usage.prompt_tokens_details is not None
        assert usage.completion_tokens_details is not None
        assert usage.prompt_tokens == 8
        assert usage.prompt_tokens_details.cached_tokens == 4
        assert usage.prompt_tokens_details.cache_write_tokens == 2
        assert usage.completion_tokens_details.reasoning_tokens == 12
        assert answer.choices[0].message.content == " ok" * 12

    def test_streams_with_usage_only_when_asked(self, double: ProviderDouble, client: openai.OpenAI) -> None:
        asked = list(
            client.chat.completions.create(
                model=MODEL, messages=HELLO, stream=True, stream_options={"include_usage": True}
            )
        )
        unasked = list(client.chat.completions.create(model=MODEL, messages=HELLO, stream=True))
        assert asked[-1].choices == []
        assert asked[-1].usage is not None
        assert asked[-1].usage.completion_tokens == 24
        assert all(chunk.usage is None for chunk in unasked)
        text = "".join(chunk.choices[0].delta.content or "" for chunk in unasked)
        assert text == " ok" * 24
        assert [entry["outcome"] for entry in double.ledger()] == ["ok", "ok"]

    def test_serves_the_async_client(self, double: ProviderDouble) -> None:
        async def run() -> tuple[int, str]:
            async with openai.AsyncOpenAI(base_url=double.openai_url, api_key="sk-test") as client:
                answer = await client.chat.completions.create(model=MODEL, messages=HELLO)
                assert answer.usage is not None
                stream = await client.chat.completions.create(model=MODEL, messages=HELLO, stream=True)
                text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
                return answer.usage.prompt_tokens, text

        assert asyncio.run(run()) == (8, " ok" * 24)

    def test_counts_names_parts_and_older_ranks(self, client: openai.OpenAI) -> None:
        named = client.chat.completions.create(
            model="gpt-4", messages=[{"role": "user", "name": "bob", "content": "hello"}]
        )
        parts = client.chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": [{"type": "text", "text": "hello"}]}]
        )
        assert named.usage is not None
        assert parts.usage is not None
        assert named.usage.prompt_tokens == 10
        assert parts.usage.prompt_tokens == 8


class TestResponses:
    def test_answers_with_usage(self, double: ProviderDouble, client: openai.OpenAI) -> None:
        double.control(cached_fraction=0.5, reasoning_fraction=0.25, web_searches=2)
        answer = client.responses.create(model=MODEL, input="hello", max_output_tokens=16)
        usage = answer.usage
        assert usage is not None
        assert (usage.input_tokens, usage.output_tokens, usage.total_tokens) == (8, 16, 24)
        assert usage.input_tokens_details.cached_tokens == 4
        assert usage.output_tokens_details.reasoning_tokens == 4
        assert answer.output_text == " ok" * 12
        assert answer.status == "incomplete"
        assert [item.type for item in answer.output] == ["web_search_call"] * 2 + ["message"]

    def test_streams_events_in_order(self, client: openai.OpenAI) -> None:
        with client.responses.stream(model=MODEL, input="hello") as stream:
            events = list(stream)
            final = stream.get_final_response()
        assert events[0].type == "response.created"
        assert events[-1].type == "response.completed"
        numbers = [event.sequence_number for event in events]
        assert numbers == list(range(len(events)))
        assert final.usage is not None
        assert final.usage.output_tokens == 24
        assert final.output_text == " ok" * 24

    def test_serves_the_async_client(self, double: ProviderDouble) -> None:
        async def run() -> list[int]:
            async with openai.AsyncOpenAI(base_url=double.openai_url, api_key="sk-test") as client:
                answer = await client.responses.create(model=MODEL, input="hello")
                assert answer.usage is not None
                stream = await client.responses.create(model=MODEL, input="hello", stream=True)
                used = [
                    event.response.usage.output_tokens
                    async for event in stream
                    if event.type == "response.completed" and event.response.usage is not None
                ]
                return [answer.usage.output_tokens, *used]

        assert asyncio.run(run()) == [24, 24]


class TestEmbeddings:
    def test_embeds_texts_and_tokens(self, client: openai.OpenAI) -> None:
        texts = client.embeddings.create(model="text-embedding-3-small", input=["hello", "hello world"])
        tokens = client.embeddings.create(model="text-embedding-3-small", input=[[1, 2, 3]], dimensions=8)
        assert texts.usage.prompt_tokens == 3
        assert [len(item.embedding) for item in texts.data] == [1536, 1536]
        assert tokens.usage.total_tokens == 3
        assert sum(tokens.data[0].embedding) == 1.0

    def test_serves_the_async_client(self, double: ProviderDouble) -> None:
        async def run() -> int:
            async with openai.AsyncOpenAI(base_url=double.openai_url, api_key="sk-test") as client:
                answer = await client.embeddings.create(model="text-embedding-3-small", input="hello")
                return answer.usage.prompt_tokens

        assert asyncio.run(run()) == 1


class TestFailures:
    def test_answers_an_injected_status(self, double: ProviderDouble, client: openai.OpenAI) -> None:
        double.control(fail_status=429, retry_after="7")
        with pytest.raises(openai.RateLimitError) as refused:
            client.chat.completions.create(model=MODEL, messages=HELLO)
        assert refused.value.response.headers["retry-after"] == "7"
        entry = double.ledger()[-1]
        assert (entry["outcome"], entry["status"]) == ("error", 429)
        assert entry["metered"]["output_tokens"] == 0

    def test_cuts_a_stream_and_bills_what_was_sent(
        self, double: ProviderDouble, client: openai.OpenAI
    ) -> None:
        double.control(cut_after_chunks=3, chunk_tokens=2)
        seen: list[str] = []

        def read() -> None:
            for chunk in client.chat.completions.create(model=MODEL, messages=HELLO, stream=True):
                seen.append(chunk.choices[0].delta.content or "")

        with pytest.raises(openai.APIConnectionError):
            read()
        assert "".join(seen) == " ok" * 6
        entry = double.ledger()[-1]
        assert (entry["outcome"], entry["metered"]["output_tokens"]) == ("cut", 6)

    def test_cuts_a_plain_answer_and_bills_all_of_it(
        self, double: ProviderDouble, client: openai.OpenAI
    ) -> None:
        double.control(cut_after_chunks=0)
        with pytest.raises(openai.APIConnectionError):
            client.chat.completions.create(model=MODEL, messages=HELLO)
        entry = double.ledger()[-1]
        assert (entry["outcome"], entry["metered"]["output_tokens"]) == ("cut", 24)

    def test_reports_an_error_inside_a_stream(self, double: ProviderDouble, client: openai.OpenAI) -> None:
        double.control(error_after_chunks=1)
        with pytest.raises(openai.APIError, match="told to fail"):
            list(client.chat.completions.create(model=MODEL, messages=HELLO, stream=True))
        assert double.ledger()[-1]["outcome"] == "failed"

    def test_refuses_malformed_calls(self, double: ProviderDouble, client: openai.OpenAI) -> None:
        with pytest.raises(openai.BadRequestError, match="messages"):
            client.chat.completions.create(model=MODEL, messages=[])
        with pytest.raises(openai.BadRequestError, match="max_tokens"):
            client.chat.completions.create(model=MODEL, messages=HELLO, max_tokens=0)
        assert double.summary()["outcomes"] == {"error": 2}
