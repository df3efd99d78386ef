"""Reading a stream on its way to the caller: what the call used, or what was seen of it when it was cut."""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from noburn_sdk.errors import InvalidRequestError
from noburn_sdk.estimate import Estimate, count_text
from noburn_sdk.usage import Usage

EVENT_BYTES_MAX = 16 * 1024 * 1024
"""A longer event is passed on unread."""
SEEN_BYTES_MAX = 4 * 1024 * 1024
"""How much of a stream is kept until its usage is known; of what is longer, the rest counts by its bytes."""
BODY_BYTES_MAX = 64 * 1024 * 1024

_END = re.compile(rb"\r\n\r\n|\n\n|\r\r")


class Meter(ABC):
    """Reads what passes. `finished`: the usage is complete; `failed`: the provider reported a failure inside."""

    model: str | None = None
    failed = False

    @abstractmethod
    def feed(self, data: bytes) -> bytes:
        """Takes what arrived and returns what to pass on."""

    def end(self) -> bytes:
        """Returns what is left to pass on when nothing more arrives."""
        return b""

    @property
    @abstractmethod
    def finished(self) -> bool:
        """Whether `usage` is all that the call used."""

    @abstractmethod
    def usage(self) -> Usage | None:
        """What the provider said that the call used; None while it did not."""

    def seen(self, estimate: Estimate | None) -> Usage | None:  # noqa: ARG002
        """What a cut call used, as far as it can be told; None where it cannot, so that its hold is presumed."""
        return self.usage()

    @property
    def output_tokens(self) -> int:
        """Output seen so far, for streams that are cut at their hold."""
        return 0


class EventMeter(Meter):
    """Reads server-sent events. Subclasses say what an event means; texts are counted only if the stream is cut.

    `live` counts them at once instead.
    """

    def __init__(self, model: str, *, live: bool = False) -> None:
        self.model = None
        self._asked_model = model
        self._buffer = bytearray()
        self._live = live
        self._live_tokens = 0
        self._kept: list[bytes] = []
        self._kept_bytes = 0
        self._uncounted_bytes = 0
        self._texts: list[str] = []
        self.strips = False
        """Whether events may be withheld; only then is an event passed on as a whole."""

    @abstractmethod
    def event(self, data: bytes) -> bool:
        """Reads an event's data; False withholds it from the caller."""

    @abstractmethod
    def texts_of(self, value: Mapping[str, Any]) -> Iterable[str]:
        """The output in one event, as text."""

    def feed(self, data: bytes) -> bytes:
        """Takes bytes of the stream; returns those to pass on."""
        self._buffer += data
        out = bytearray()
        start = 0
        for found in _END.finditer(self._buffer):
            block = bytes(self._buffer[start : found.end()])
            start = found.end()
            if self._block(block):
                out += block
        del self._buffer[:start]
        if len(self._buffer) > EVENT_BYTES_MAX:
            out += self._buffer
            self._uncounted_bytes += len(self._buffer)
            self._buffer.clear()
        return bytes(out) if self.strips else data

    def end(self) -> bytes:
        """Reads and returns a last event that no blank line ends."""
        rest = bytes(self._buffer)
        self._buffer.clear()
        passes = not rest or self._block(rest)
        return rest if passes and self.strips else b""

    def _block(self, block: bytes) -> bool:
        lines = [line[5:].removeprefix(b" ") for line in block.splitlines() if line.startswith(b"data:")]
        return not lines or self.event(lines[0] if len(lines) == 1 else b"\n".join(lines))

    def keep(self, data: bytes) -> None:
        """Remembers an event that may carry output."""
        if self._live:
            for text in self.texts_of(_object(data)):
                self.add(text)
        elif self._kept_bytes + len(data) > SEEN_BYTES_MAX:
            self._uncounted_bytes += len(data)
        else:
            self._kept.append(data)
            self._kept_bytes += len(data)

    def add(self, text: str) -> None:
        """Notes output, also for those who read events as objects."""
        if self._live:
            self._live_tokens += count_text(text, self._asked_model)
        elif self._kept_bytes + len(text) > SEEN_BYTES_MAX:
            self._uncounted_bytes += len(text)
        else:
            self._texts.append(text)
            self._kept_bytes += len(text)

    def forget(self) -> None:
        """Drops what was kept, once the usage is known."""
        self._kept.clear()
        self._texts.clear()

    @property
    def output_tokens(self) -> int:
        """Tokens of the output seen so far."""
        if self._live:
            return self._live_tokens
        texts = self._texts + [text for data in self._kept for text in self.texts_of(_object(data))]
        return count_text("".join(texts), self._asked_model) + self._uncounted_bytes


class BodyMeter(Meter):
    """Reads a whole answer that is passed on piece by piece."""

    def __init__(self, read: Callable[[Any], Usage] | None) -> None:
        self._read = read
        self._body: bytearray | None = bytearray()
        self._usage: Usage | None = None

    def feed(self, data: bytes) -> bytes:
        """Takes bytes of the body and passes them on."""
        if self._body is not None and self._read is not None:
            if len(self._body) + len(data) > BODY_BYTES_MAX:
                self._body = None
            else:
                self._body += data
        return data

    def end(self) -> bytes:
        """Reads the body."""
        if self._body and self._read is not None:
            try:
                value = json.loads(self._body)
                self.model = value.get("model") if isinstance(value, dict) else None
                self._usage = self._read(value)
            except (ValueError, InvalidRequestError):
                pass
        self._body = None
        return b""

    @property
    def finished(self) -> bool:
        """Whether the body ended and said what was used."""
        return self._usage is not None

    def usage(self) -> Usage | None:
        """What the body said."""
        return self._usage


def _object(data: bytes) -> Mapping[str, Any]:
    try:
        value = json.loads(data)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


read_object = _object
