"""The same calls through every way in which a client can be gated, so that one test says what all must do."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import anthropic
import noburn_sdk
import noburn_sdk.anthropic
import noburn_sdk.openai
import openai

from tests.doubles.provider import ProviderDouble

TEXT = "Write a haiku about budgets, please."
CHAT = "gpt-4o-mini"
EMBEDDING = "text-embedding-3-small"
CLAUDE = "claude-haiku-4-5"

Call = Callable[[Any], Any]
MESSAGES: Any = [{"role": "user", "content": TEXT}]


def _read(stream: Any) -> list[Any]:
    return list(stream)


async def _read_async(stream: Any) -> list[Any]:
    return [event async for event in stream]


class Client:
    """A client of either kind behind one face: `call` runs to the end and returns what the caller got."""

    def __init__(self, client: Any, *, asynchronous: bool, loop: asyncio.Runner | None = None) -> None:
        self.client = client
        self.asynchronous = asynchronous
        self._loop = loop

    def run(self, sync: Callable[[Any], Any], asynchronous: Callable[[Any], Any]) -> Any:
        """Runs the one of both that this client is for."""
        if self._loop is None:
            return sync(self.client)
        # A runner has a context of its own, from when it was made.
        return self._loop.run(asynchronous(self.client), context=contextvars.copy_context())

    def call(self, kind: str, **options: Any) -> Any:
        """One call of a kind in KINDS, read to its end."""
        make, streams = KINDS[kind]
        if not streams:

            async def plain(client: Any) -> Any:
                return await make(client, **options)

            return self.run(lambda client: make(client, **options), plain)

        async def streamed(client: Any) -> Any:
            return await _read_async(await make(client, **options))

        return self.run(lambda client: _read(make(client, **options)), streamed)


KINDS: dict[str, tuple[Callable[..., Any], bool]] = {
    "chat": (lambda c, **o: c.chat.completions.create(model=CHAT, messages=MESSAGES, **o), False),
    "chat stream": (
        lambda c, **o: c.chat.completions.create(model=CHAT, messages=MESSAGES, stream=True, **o),
        True,
    ),
    "responses": (lambda c, **o: c.responses.create(model=CHAT, input=TEXT, **o), False),
    "responses stream": (lambda c, **o: c.responses.create(model=CHAT, input=TEXT, stream=True, **o), True),
    "embeddings": (lambda c, **o: c.embeddings.create(model=EMBEDDING, input=TEXT, **o), False),
    "messages": (
        lambda c, **o: c.messages.create(model=CLAUDE, max_tokens=200, messages=MESSAGES, **o),
        False,
    ),
    "messages stream": (
        lambda c, **o: c.messages.create(model=CLAUDE, max_tokens=200, messages=MESSAGES, stream=True, **o),
        True,
    ),
    "beta messages": (
        lambda c, **o: c.beta.messages.create(model=CLAUDE, max_tokens=200, messages=MESSAGES, **o),
        False,
    ),
}
OPENAI = ("chat", "chat stream", "responses", "responses stream", "embeddings")
ANTHROPIC = ("messages", "messages stream", "beta messages")
STREAMS = tuple(name for name, (_, streams) in KINDS.items() if streams)
ENTRIES = ("instrument", "wrap", "drop-in")
"""The ways in which a client gets its gate."""


@contextmanager
def client(
    kind: str, entry: str, double: ProviderDouble, *, asynchronous: bool, **options: Any
) -> Iterator[Client]:
    """A gated client for calls of this kind. Attempts are not repeated unless `max_retries` says so."""
    options = {"api_key": "k", "max_retries": 0, "timeout": 60, **options}
    family = "openai" if kind in OPENAI else "anthropic"
    options["base_url"] = double.openai_url if family == "openai" else double.anthropic_url
    own: Any = openai if family == "openai" else anthropic
    dropped: Any = noburn_sdk.openai if family == "openai" else noburn_sdk.anthropic
    name = {"openai": "OpenAI", "anthropic": "Anthropic"}[family]
    name = f"Async{name}" if asynchronous else name
    if entry == "instrument":
        noburn_sdk.instrument(family)
    inner = getattr(dropped if entry == "drop-in" else own, name)(**options)
    made = noburn_sdk.wrap(inner) if entry == "wrap" else inner
    if not asynchronous:
        with inner:
            yield Client(made, asynchronous=False)
        return
    with asyncio.Runner() as loop:
        try:
            yield Client(made, asynchronous=True, loop=loop)
        finally:
            loop.run(inner.close())
