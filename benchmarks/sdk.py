"""What the Python SDK's gate adds to a provider call: bare and gated ones by turns, on the same double.

The double answers at once, so nothing hides what is added; a provider takes a thousand times as long.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import noburn_sdk
import openai

from tests.doubles.provider import ProviderDouble

ROUNDS = 20
WARM = 50
CHAT: dict[str, Any] = {
    "model": "gpt-4o-mini",
    "messages": [{"role": "user", "content": "Write a haiku about budgets, please. " * 20}],
    "max_completion_tokens": 50,
}


@dataclass(frozen=True)
class Added:
    """Medians in milliseconds."""

    kind: str
    bare_ms: float
    gated_ms: float
    asked_ms: float
    """One pre-flight by the SDK's own client, with nothing around it."""


def _by_turns(calls: list[Callable[[], Any]], count: int) -> list[float]:
    """The median of each."""
    return [statistics.median(taken) for taken in by_turns(calls, count)]


def by_turns(calls: list[Callable[[], Any]], count: int) -> list[list[float]]:
    """Milliseconds of each call, taken by turns so that the machine's moods strike all of them."""
    for call in calls:
        for _ in range(WARM):
            call()
    found: list[list[float]] = [[] for _ in calls]
    for _ in range(ROUNDS):
        for call, taken in zip(calls, found, strict=True):
            for _ in range(max(1, count // ROUNDS)):
                begun = time.perf_counter()
                call()
                taken.append((time.perf_counter() - begun) * 1000)
    return found


def measure(base_url: str, api_key: str, count: int) -> list[Added]:
    """Calls a chat bare and gated, plain and streamed, by threads' client and by asyncio's."""
    with (
        ProviderDouble() as double,
        tempfile.TemporaryDirectory() as outbox,
        noburn_sdk.Noburn(api_key, base_url) as noburn,
    ):
        noburn_sdk.configure(
            api_key, base_url, outbox=outbox, timeout=10, retry_timeout=20, customer="bench", flush_timeout=60
        )

        def ask() -> None:
            allowed = noburn.preflight(
                model="gpt-4o-mini",
                provider="openai",
                input_tokens=200,
                max_output_tokens=50,
                customer="bench",
            )
            held.append(allowed.authorization)

        held: list[str | None] = []
        try:
            found = [*_sync(double, ask, count), *_asynchronous(double, ask, count)]
        finally:
            if not noburn_sdk.flush(60):
                raise RuntimeError("settlements did not arrive")
            noburn_sdk.uninstrument()
            noburn_sdk._default.release()
        for authorization in held:
            noburn.void(str(authorization))
    return found


def _sync(double: ProviderDouble, ask: Callable[[], None], count: int) -> list[Added]:
    found = []
    with openai.OpenAI(base_url=double.openai_url, api_key="k", max_retries=0) as bare:
        gated = noburn_sdk.wrap(bare)
        for kind, more in (("chat", {}), ("streamed chat", {"stream": True})):

            def call(client: Any, more: dict[str, Any] = more) -> None:
                answer = client.chat.completions.create(**CHAT, **more)
                if more:
                    for _ in answer:
                        pass

            bare_ms, gated_ms, asked_ms = _by_turns([lambda: call(bare), lambda: call(gated), ask], count)
            found.append(Added(kind, bare_ms, gated_ms, asked_ms))
    return found


def _asynchronous(double: ProviderDouble, ask: Callable[[], None], count: int) -> list[Added]:
    with asyncio.Runner() as runner:
        bare = openai.AsyncOpenAI(base_url=double.openai_url, api_key="k", max_retries=0)
        gated = noburn_sdk.wrap(bare)

        def run(work: Callable[[], Awaitable[Any]]) -> Callable[[], Any]:
            async def once() -> None:
                await work()

            return lambda: runner.run(once())

        bare_ms, gated_ms, asked_ms = _by_turns(
            [
                run(lambda: bare.chat.completions.create(**CHAT)),
                run(lambda: gated.chat.completions.create(**CHAT)),
                ask,
            ],
            count,
        )
        runner.run(bare.close())
    return [Added("chat in asyncio", bare_ms, gated_ms, asked_ms)]
