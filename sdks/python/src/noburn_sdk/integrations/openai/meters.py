"""Streams of OpenAI's Chat Completions, Completions and Responses, and of whatever speaks like them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from noburn_sdk import usage as usages
from noburn_sdk.errors import InvalidRequestError
from noburn_sdk.estimate import Estimate
from noburn_sdk.estimate.families import family_of
from noburn_sdk.gate.meters import EventMeter, read_object
from noburn_sdk.usage import Usage, read


class _OpenAIMeter(EventMeter):
    """What the two kinds of streams share: what was seen of a cut one."""

    def __init__(self, model: str, *, live: bool = False) -> None:
        super().__init__(model, live=live)
        self._usage: Usage | None = None
        self._hides = False
        """Whether output was made that no event shows."""

    @property
    def finished(self) -> bool:
        """Whether the provider told the usage."""
        return self._usage is not None

    def usage(self) -> Usage | None:
        """What the provider told."""
        return self._usage

    def seen(self, estimate: Estimate | None) -> Usage | None:
        """The input as it was counted and the output as far as it came, where nothing of both is hidden.

        Models that reason do not show it, so nothing is known of how much they did.
        """
        if self._usage is not None:
            return self._usage
        if estimate is None or not estimate.complete or estimate.audio or self._hides:
            return None
        family = family_of(self._asked_model)
        if family.vendor != "openai" or family.frame != "published":
            return None
        tokens = self.output_tokens
        return Usage(estimate.input_tokens, tokens) if tokens else None


class ChatMeter(_OpenAIMeter):
    """Reads chunks; `strips` withholds the usage that the caller did not ask for."""

    def __init__(self, model: str, *, live: bool = False, strips: bool = False) -> None:
        super().__init__(model, live=live)
        self.strips = strips

    def event(self, data: bytes) -> bool:
        """Reads a chunk."""
        if data.startswith(b"[DONE]"):
            return True
        if b'"usage"' not in data and b'"error"' not in data and self.model is not None:
            self.keep(data)
            return True
        value = read_object(data)
        self._note(value)
        if read(value, "usage") is None:
            self.keep(data)
            return True
        return not self.strips or bool(value.get("choices"))

    def chunk(self, value: Any) -> None:
        """Reads a chunk that is an object or a mapping already."""
        self._note(value)
        for text in self.texts_of(value):
            self.add(text)

    def _note(self, value: Any) -> None:
        model = read(value, "model")
        if isinstance(model, str) and model:
            self.model = model
        if read(value, "error"):
            self.failed = True
        if isinstance(read(read(value, "usage"), "prompt_tokens"), int):
            self._usage = usages.from_openai_chat(value)
            self.forget()

    def texts_of(self, value: Any) -> Iterable[str]:
        """The output of a chunk."""
        for choice in read(value, "choices") or ():
            if text := read(choice, "text"):
                yield str(text)
            delta = read(choice, "delta")
            self._hides |= bool(read(delta, "audio"))
            for name in ("content", "refusal", "reasoning_content", "reasoning"):
                if isinstance(text := read(delta, name), str) and text:
                    yield text
            for call in read(delta, "tool_calls") or ():
                function = read(call, "function")
                for name in ("name", "arguments"):
                    if text := read(function, name):
                        yield str(text)


class ResponsesMeter(_OpenAIMeter):
    """Reads events of a response."""

    _LAST = frozenset({"response.completed", "response.incomplete", "response.failed", "response.cancelled"})

    def event(self, data: bytes) -> bool:
        """Reads an event."""
        if b'"usage"' not in data and b'"error"' not in data and self.model is not None:
            self.keep(data)
            return True
        self._note(read_object(data))
        self.keep(data)
        if self.finished:
            self.forget()
        return True

    def chunk(self, value: Any) -> None:
        """Reads an event that is an object or a mapping already."""
        self._note(value)
        for text in self.texts_of(value):
            self.add(text)

    def _note(self, value: Any) -> None:
        kind, response = read(value, "type"), read(value, "response")
        model = read(response, "model")
        if isinstance(model, str) and model:
            self.model = model
        self.failed |= kind in ("error", "response.failed")
        if kind in self._LAST and read(response, "usage") is not None:
            try:
                self._usage = usages.from_openai_responses(response)
            except InvalidRequestError:
                return

    def texts_of(self, value: Any) -> Iterable[str]:
        """The output of an event."""
        kind, delta = str(read(value, "type") or ""), read(value, "delta")
        if "audio" in kind or "image_generation" in kind or "_search_call" in kind:
            self._hides = True
        if kind.endswith(".delta") and isinstance(delta, str):
            yield delta
