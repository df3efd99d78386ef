"""Calls of every kind by whatever client is installed here, onto a noburn in memory. Prints what came of them."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import noburn_sdk
import openai
from noburn_sdk.testing import MemoryGate, MemoryPlane

CHAT: dict[str, Any] = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "hi"}]}


def sync(url: str, make: Any) -> list[str]:
    """Runs the calls of a synchronous client."""
    client = make(openai.OpenAI(base_url=url, api_key="k", max_retries=1))
    client.chat.completions.create(**CHAT)
    assert all(chunk.choices for chunk in client.chat.completions.create(**CHAT, stream=True))
    client.chat.completions.with_raw_response.create(**CHAT)
    with client.chat.completions.with_streaming_response.create(**CHAT) as streamed:
        assert b"".join(streamed.iter_bytes())
    list(client.responses.create(model="gpt-4o-mini", input="hi", stream=True))
    client.embeddings.create(model="text-embedding-3-small", input="hi")
    with noburn_sdk.context(customer="poor"):
        try:
            client.chat.completions.create(**CHAT)
        except noburn_sdk.BudgetExceededError as refused:
            return [type(refused).__name__, str(isinstance(refused, openai.OpenAIError))]
    return []


async def asynchronous(url: str, make: Any) -> list[str]:
    """Runs the calls of an asynchronous client."""
    client = openai.AsyncOpenAI(base_url=url, api_key="k", max_retries=1)
    made = make(client)
    try:
        await made.chat.completions.create(**CHAT)
        async for chunk in await made.chat.completions.create(**CHAT, stream=True):
            assert chunk.choices
        await made.embeddings.create(model="text-embedding-3-small", input="hi")
        with noburn_sdk.context(customer="poor"):
            try:
                await made.chat.completions.create(**CHAT)
            except noburn_sdk.BudgetExceededError as refused:
                return [type(refused).__name__, str(isinstance(refused, openai.OpenAIError))]
        return []
    finally:
        await client.close()


def main() -> None:
    url = sys.argv[1]
    plane = MemoryPlane()
    plane.budget("customer", "poor", "0.000001")
    noburn_sdk.configure(gate=MemoryGate(plane))
    refused = [sync(url, noburn_sdk.wrap), asyncio.run(asynchronous(url, noburn_sdk.wrap))]
    noburn_sdk.instrument("openai")
    refused += [sync(url, lambda client: client), asyncio.run(asynchronous(url, lambda client: client))]
    assert noburn_sdk.flush(60)
    settled = [[one.decision.model, one.state, one.usage] for one in plane.settlements]
    modules = sorted({name.partition(".")[0] for name in sys.modules} & {"httpx", "httpx2"})
    print(
        json.dumps(
            {"version": openai.__version__, "refused": refused, "settled": settled, "modules": modules}
        )
    )


if __name__ == "__main__":
    main()
