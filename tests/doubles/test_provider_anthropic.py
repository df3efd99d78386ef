"""The real Anthropic clients against the double, plain and streaming, sync and async."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import anthropic
import pytest
from anthropic.types import MessageParam

from tests.doubles.provider import ProviderDouble

MODEL = "claude-haiku-4-5"
HELLO: list[MessageParam] = [{"role": "user", "content": "hello"}]


@pytest.fixture
def client(double: ProviderDouble) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=double.anthropic_url, api_key="k", max_retries=0) as client:
        yield client


class TestMessages:
    def test_bills_within_the_measured_bound(self, client: anthropic.Anthropic) -> None:
        older = client.messages.create(model=MODEL, messages=HELLO, max_tokens=100)
        later = client.messages.create(
            model="claude-opus-4-7", messages=[{"role": "user", "content": "hello " * 100}], max_tokens=100
        )
        assert older.usage.input_tokens == 11
        assert older.usage.output_tokens == 24
        assert older.stop_reason == "end_turn"
        # 101 tokens of cl100k, times 1.7, and the frame; the bound is times 1.85 and 12.
        assert later.usage.input_tokens == 101 * 17 // 10 + 10

    def test_honours_max_tokens(self, client: anthropic.Anthropic) -> None:
        answer = client.messages.create(model=MODEL, messages=HELLO, max_tokens=7)
        assert (answer.usage.output_tokens, answer.stop_reason) == (7, "max_tokens")

    def test_leaves_cached_tokens_out_of_its_input(
        self, double: ProviderDouble, client: anthropic.Anthropic
    ) -> None:
        double.control(
            cached_fraction=0.5,
            cache_write_fraction=0.4,
            cache_write_1h_fraction=0.5,
            reasoning_fraction=0.5,
            web_searches=3,
        )
        answer = client.messages.create(
            model=MODEL, messages=[{"role": "user", "content": "hello " * 71}], max_tokens=100
        )
        usage = answer.usage
        total = 72 * 5 // 4 + 10
        assert usage.cache_read_input_tokens == total // 2
        assert usage.cache_creation_input_tokens == 40
        assert usage.input_tokens == total - total // 2 - 40
        assert usage.cache_creation is not None
        assert usage.cache_creation.ephemeral_5m_input_tokens == 20
        assert usage.cache_creation.ephemeral_1h_input_tokens == 20
        assert usage.output_tokens_details is not None
        assert usage.output_tokens_details.thinking_tokens == 12
        assert usage.server_tool_use is not None
        assert usage.server_tool_use.web_search_requests == 3
        assert double.ledger()[-1]["metered"]["input_tokens"] == total

    def test_streams_cumulative_usage(self, double: ProviderDouble, client: anthropic.Anthropic) -> None:
        double.control(cached_fraction=0.5)
        with client.messages.stream(model=MODEL, messages=HELLO, max_tokens=100) as stream:
            text = "".join(stream.text_stream)
            final = stream.get_final_message()
        events = list(client.messages.create(model=MODEL, messages=HELLO, max_tokens=100, stream=True))
        assert text == " ok" * 24
        assert (final.usage.output_tokens, final.usage.cache_read_input_tokens) == (24, 5)
        assert events[0].type == "message_start"
        assert events[0].message.usage.output_tokens == 1
        assert events[-2].type == "message_delta"
        assert events[-2].usage.output_tokens == 24
        assert events[-1].type == "message_stop"

    def test_serves_the_async_client(self, double: ProviderDouble) -> None:
        async def run() -> list[int]:
            async with anthropic.AsyncAnthropic(base_url=double.anthropic_url, api_key="k") as client:
                answer = await client.messages.create(model=MODEL, messages=HELLO, max_tokens=9)
                async with client.messages.stream(model=MODEL, messages=HELLO, max_tokens=9) as stream:
                    final = await stream.get_final_message()
                return [answer.usage.output_tokens, final.usage.output_tokens]

        assert asyncio.run(run()) == [9, 9]

    def test_counts_tokens_without_a_call(self, double: ProviderDouble, client: anthropic.Anthropic) -> None:
        assert client.messages.count_tokens(model=MODEL, messages=HELLO).input_tokens == 11
        assert double.summary()["requests"] == 0


class TestFailures:
    def test_answers_an_injected_status(self, double: ProviderDouble, client: anthropic.Anthropic) -> None:
        double.control(fail_status=529)
        with pytest.raises(anthropic.APIStatusError) as refused:
            client.messages.create(model=MODEL, messages=HELLO, max_tokens=9)
        assert refused.value.status_code == 529

    def test_cuts_a_stream(self, double: ProviderDouble, client: anthropic.Anthropic) -> None:
        double.control(cut_after_chunks=2, chunk_tokens=3)
        with pytest.raises(Exception, match="incomplete chunked read"):
            list(client.messages.create(model=MODEL, messages=HELLO, max_tokens=100, stream=True))
        entry = double.ledger()[-1]
        assert (entry["outcome"], entry["usage"]["output_tokens"]) == ("cut", 6)

    def test_reports_an_error_inside_a_stream(
        self, double: ProviderDouble, client: anthropic.Anthropic
    ) -> None:
        double.control(error_after_chunks=1)
        with pytest.raises(anthropic.APIStatusError) as failed:
            list(client.messages.create(model=MODEL, messages=HELLO, max_tokens=100, stream=True))
        # The status is the stream's 200: the call was under way, and billed.
        assert failed.value.status_code == 200

    def test_demands_max_tokens(self, client: anthropic.Anthropic) -> None:
        with pytest.raises(anthropic.BadRequestError, match="Field required"):
            client.post("/v1/messages", cast_to=object, body={"model": MODEL, "messages": HELLO})
