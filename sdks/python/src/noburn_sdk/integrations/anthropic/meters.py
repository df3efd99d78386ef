"""Streams of Anthropic's Messages: its own events, and the same in the frames of AWS's event streams."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Iterator
from typing import Any

from noburn_sdk import usage as usages
from noburn_sdk.errors import InvalidRequestError
from noburn_sdk.estimate import Estimate
from noburn_sdk.gate.meters import EVENT_BYTES_MAX, EventMeter, read_object
from noburn_sdk.usage import Usage, read

_PRELUDE_BYTES, _FRAME_BYTES = 12, 16
"""Two lengths and their checksum before a frame's headers; those and a last checksum in all."""


class MessagesMeter(EventMeter):
    """Reads a message as it is made. Its start tells the input exactly, its last delta all the rest."""

    def __init__(self, model: str, *, live: bool = False) -> None:
        super().__init__(model, live=live)
        self._start: Any = None
        self._delta: Any = None
        self._stopped = False
        self._hides = False
        self._framed: bool | None = None
        self._frames = bytearray()

    def feed(self, data: bytes) -> bytes:
        """Takes bytes of the stream; returns those to pass on, which are the same."""
        if self._framed is None and data:
            # A frame begins with its length, which is below 16 MB; an event with a letter or a colon.
            self._framed = data[0] == 0
        if not self._framed:
            return super().feed(data)
        self._frames += data
        for payload in self._payloads():
            inner = read_object(payload).get("bytes")
            if isinstance(inner, str):
                self.event(base64.b64decode(inner))
        return data

    def _payloads(self) -> Iterator[bytes]:
        while len(self._frames) >= _PRELUDE_BYTES:
            total = int.from_bytes(self._frames[:4], "big")
            headers = int.from_bytes(self._frames[4:8], "big")
            if not _FRAME_BYTES + headers <= total <= EVENT_BYTES_MAX:
                self._frames.clear()
                return
            if len(self._frames) < total:
                return
            yield bytes(self._frames[_PRELUDE_BYTES + headers : total - 4])
            del self._frames[:total]

    def event(self, data: bytes) -> bool:
        """Reads an event."""
        if b"content_block_delta" in data:
            self.keep(data)
        else:
            self.chunk(read_object(data))
        return True

    def chunk(self, value: Any) -> None:
        """Reads an event that is an object or a mapping already."""
        match read(value, "type"):
            case "message_start":
                self._start = read(value, "message")
                model = read(self._start, "model")
                self.model = model if isinstance(model, str) else None
            case "message_delta":
                self._delta = read(value, "usage") or self._delta
                self._stopped |= read(read(value, "delta"), "stop_reason") is not None
            case "content_block_start":
                # What a model thinks is billed whole and shown as a summary, or not at all.
                kind = str(read(read(value, "content_block"), "type") or "")
                self._hides |= kind.endswith("thinking")
            case "content_block_delta":
                for text in self.texts_of(value):
                    self.add(text)
            case "error":
                self.failed = True
        if self.finished:
            self.forget()

    def texts_of(self, value: Any) -> Iterable[str]:
        """The output of an event."""
        delta = read(value, "delta")
        for name in ("text", "partial_json", "thinking"):
            if isinstance(text := read(delta, name), str) and text:
                yield text

    @property
    def finished(self) -> bool:
        """Whether the message ended."""
        return self._stopped and self._start is not None and self._delta is not None

    def usage(self) -> Usage | None:
        """What Anthropic told, once the message ended."""
        if not self.finished:
            return None
        try:
            return usages.from_anthropic(self._start, delta=self._delta)
        except InvalidRequestError:
            return None

    def seen(self, estimate: Estimate | None) -> Usage | None:  # noqa: ARG002
        """The input as Anthropic told it, and the output as far as it came, where nothing of it is hidden."""
        if self._start is None or self._hides:
            return None
        tokens = self.output_tokens
        if not tokens:
            return None
        used = read(self._start, "usage")
        told = used if isinstance(used, dict) else json.loads(used.model_dump_json()) if used else {}
        try:
            return usages.from_anthropic({**told, "output_tokens": tokens})
        except InvalidRequestError:
            return None
