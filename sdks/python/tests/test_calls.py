"""The `with` block: what becomes of the hold when it ends, with real provider clients failing inside it."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import anthropic
import openai
import pytest

from noburn_sdk import AsyncNoburn, BudgetExceededError, Noburn, UnavailableError, Usage

if TYPE_CHECKING:
    from sdks.python.tests.conftest import Scripted

ASK: dict[str, Any] = {"model": "gpt-4o-mini", "input_tokens": 8, "customer": "acme"}


@pytest.fixture
def silent() -> Iterator[str]:
    """The address of a server that accepts and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture
def nowhere() -> str:
    """An address where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"http://127.0.0.1:{listener.getsockname()[1]}"


def ask_openai(url: str) -> None:
    with openai.OpenAI(base_url=url, api_key="k", max_retries=0, timeout=0.2) as client:
        client.chat.completions.create(model="gpt-4o-mini", messages=[{"role": "user", "content": "hi"}])


def ask_anthropic(url: str) -> None:
    with anthropic.Anthropic(base_url=url, api_key="k", max_retries=0, timeout=0.2) as client:
        client.messages.create(
            model="claude-haiku-4-5", max_tokens=9, messages=[{"role": "user", "content": "hi"}]
        )


class TestCall:
    def test_gives_model_and_cap_and_settles_once(self, server: Scripted, sync_client: Noburn) -> None:
        server.allows(model="gpt-4.1-nano", max_output_tokens=64).settles()
        with sync_client.call(**ASK) as call:
            assert (call.model, call.max_output_tokens) == ("gpt-4.1-nano", 64)
            call.settle({"prompt_tokens": 8, "completion_tokens": 3})
        assert [seen.path for seen in server.seen] == ["/v1/preflight", "/v1/settle"]
        body = server.seen[1].body
        assert body["usage"] == {"input_tokens": 8, "output_tokens": 3}
        assert body["latency_ms"] >= 0

    def test_never_runs_a_refused_block(self, server: Scripted, sync_client: Noburn) -> None:
        server.denies()
        ran = []
        with pytest.raises(BudgetExceededError), sync_client.call(**ASK):
            ran.append(1)
        assert ran == []
        assert len(server.seen) == 1

    def test_warns_and_presumes_when_nobody_settled(
        self, server: Scripted, sync_client: Noburn, caplog: pytest.LogCaptureFixture
    ) -> None:
        server.allows().settles()
        with caplog.at_level(logging.WARNING, "noburn_sdk"), sync_client.call(**ASK):
            pass
        assert "not settled" in caplog.text
        assert server.seen[1].body["usage"] is None
        assert server.seen[1].body["outcome"] == "ok"

    @pytest.mark.parametrize("ask", [ask_openai, ask_anthropic])
    @pytest.mark.parametrize("status", [400, 429, 500])
    def test_voids_after_a_status_that_is_not_billed(
        self, server: Scripted, sync_client: Noburn, ask: Any, status: int
    ) -> None:
        server.allows().answers({"error": {"message": "no"}}, status).answers({"released_usd": "1"})
        with pytest.raises((openai.APIStatusError, anthropic.APIStatusError)), sync_client.call(**ASK):
            ask(server.url)
        assert server.seen[-1].path == "/v1/void"

    @pytest.mark.parametrize("ask", [ask_openai, ask_anthropic])
    def test_voids_when_there_was_no_connection(
        self, server: Scripted, sync_client: Noburn, ask: Any, nowhere: str
    ) -> None:
        server.allows().answers({"released_usd": "1"})
        with (
            pytest.raises((openai.APIConnectionError, anthropic.APIConnectionError)),
            sync_client.call(**ASK),
        ):
            ask(nowhere)
        assert server.seen[-1].path == "/v1/void"

    @pytest.mark.parametrize("ask", [ask_openai, ask_anthropic])
    def test_presumes_after_a_lost_answer(self, server: Scripted, sync_client: Noburn, ask: Any) -> None:
        server.allows().drops().settles()
        with (
            pytest.raises((openai.APIConnectionError, anthropic.APIConnectionError)),
            sync_client.call(**ASK),
        ):
            ask(server.url)
        assert server.seen[-1].path == "/v1/settle"
        assert (server.seen[-1].body["usage"], server.seen[-1].body["outcome"]) == (None, "cut")

    @pytest.mark.parametrize("ask", [ask_openai, ask_anthropic])
    def test_presumes_after_a_time_out(
        self, server: Scripted, sync_client: Noburn, ask: Any, silent: str
    ) -> None:
        server.allows().settles()
        with (
            pytest.raises((openai.APITimeoutError, anthropic.APITimeoutError)),
            sync_client.call(**ASK),
        ):
            ask(silent)
        assert server.seen[-1].body["outcome"] == "cut"

    def test_presumes_after_a_failure_of_something_else(self, server: Scripted, sync_client: Noburn) -> None:
        class DatabaseDown(Exception):
            status_code = 500

        server.allows().settles()
        with pytest.raises(DatabaseDown), sync_client.call(**ASK):
            raise DatabaseDown
        assert server.seen[-1].body["outcome"] == "cut"

    def test_lets_the_blocks_own_error_through(
        self, server: Scripted, sync_client: Noburn, caplog: pytest.LogCaptureFixture
    ) -> None:
        server.allows().fails(400, "odd")
        with pytest.raises(KeyError, match="mine"), sync_client.call(**ASK):
            raise KeyError("mine")
        assert "could not be resolved" in caplog.text

    def test_never_contradicts_a_settle_whose_answer_was_lost(self, server: Scripted) -> None:
        server.allows().drops()
        with (
            Noburn("k", server.url, max_retries=0) as client,
            pytest.raises(UnavailableError),
            client.call(**ASK) as call,
        ):
            call.settle(Usage(8, 3))
        assert [seen.path for seen in server.seen] == ["/v1/preflight", "/v1/settle"]

    def test_settles_with_the_authorization_of_its_extension(
        self, server: Scripted, sync_client: Noburn
    ) -> None:
        hold = {"id": "hold_1", "expires_at": "2026-11-22T10:05:00Z"}
        server.allows().answers({"hold": hold, "authorization": "nba1.longer"}).settles()
        with sync_client.call(**ASK) as call:
            call.extend(300)
            call.settle(Usage(8, 3))
        assert server.seen[2].body["authorization"] == "nba1.longer"

    def test_can_be_voided_by_hand(self, server: Scripted, sync_client: Noburn) -> None:
        server.allows().answers({"released_usd": "1"})
        with sync_client.call(**ASK) as call:
            call.void()
        assert len(server.seen) == 2


class TestAsyncCall:
    def test_settles_voids_and_presumes(self, server: Scripted, nowhere: str) -> None:
        server.allows().settles()
        server.allows().answers({"released_usd": "1"})
        server.allows().settles()
        server.allows().settles()

        async def run() -> None:
            async with AsyncNoburn("k", server.url) as client:
                async with client.call(**ASK) as call:
                    await call.settle(Usage(8, 3))
                async with openai.AsyncOpenAI(base_url=nowhere, api_key="k", max_retries=0) as provider:
                    with pytest.raises(openai.APIConnectionError):
                        async with client.call(**ASK):
                            await provider.embeddings.create(model="m", input="x")
                async with client.call(**ASK):
                    pass

                async def cancelled() -> None:
                    async with client.call(**ASK):
                        entered.set()
                        await asyncio.Event().wait()

                entered = asyncio.Event()
                task = asyncio.create_task(cancelled())
                await entered.wait()
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task

        asyncio.run(run())
        assert [seen.path.removeprefix("/v1/") for seen in server.seen[1::2]] == [
            "settle",
            "void",
            "settle",
            "settle",
        ]
        assert [seen.body.get("outcome") for seen in server.seen[1::2]] == ["ok", None, "ok", "cut"]

    def test_never_runs_a_refused_block(self, server: Scripted) -> None:
        server.denies()

        async def run() -> None:
            async with AsyncNoburn("k", server.url) as client, client.call(**ASK):
                raise AssertionError("entered")

        with pytest.raises(BudgetExceededError):
            asyncio.run(run())
