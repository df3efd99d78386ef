"""Reading the JSON of a call once, strictly, and changing a few of its top-level members in the text itself.

What is estimated here must be what the provider reads. So whatever two parsers may understand differently is
refused: a name that stands twice, an encoding other than UTF-8, NaN. What is not changed keeps its bytes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from json import JSONDecoder
from json.decoder import scanstring  # type: ignore[attr-defined]
from typing import Any

_SPACE = re.compile(r"[ \t\n\r]*")
_COUNTS = (
    "n",
    "best_of",
    "max_tokens",
    "max_completion_tokens",
    "max_output_tokens",
    "max_tool_calls",
    "thinking_budget",
)
_FLAGS = ("stream", "background", "store", "echo", "parallel_tool_calls")
_BOUNDING = frozenset({*_COUNTS, *_FLAGS, "model", "messages", "input", "prompt", "tools", "stream_options"})


class BadBody(ValueError):
    """The body is not one that both sides understand in the same way; the text says what is wrong."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise BadBody(f"names {twice[:100]!r} twice in one object")
    return made


def _constant(name: str) -> Any:
    raise BadBody(f"holds {name}, which is no JSON")


_decoder: Any = JSONDecoder(object_pairs_hook=_object, parse_constant=_constant)
_scan_once = _decoder.scan_once


class Body:
    """A call's JSON object: its value, and where each of its members stands in the text."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        try:
            self._text = content.decode("utf-8")
            self._read()
        except UnicodeDecodeError:
            raise BadBody("is not UTF-8") from None
        except BadBody:
            raise
        except RecursionError:
            raise BadBody("is nested too deeply") from None
        except (ValueError, StopIteration, IndexError):
            raise BadBody("is no JSON object") from None

    def _read(self) -> None:
        text = self._text
        self.value: dict[str, Any] = {}
        self._spans: dict[str, tuple[int, int]] = {}
        at = self._after_space(0)
        if text[at] != "{":
            raise ValueError
        self._inside = at + 1
        at = self._after_space(at + 1)
        if text[at] == "}":
            return self._ends(at + 1)
        while True:
            if text[at] != '"':
                raise ValueError
            name, at = scanstring(text, at + 1, True)
            at = self._after_space(at)
            if text[at] != ":":
                raise ValueError
            start = self._after_space(at + 1)
            value, end = _scan_once(text, start)
            if name in self.value:
                raise BadBody(f"names {name[:100]!r} twice in one object")
            self.value[name] = value
            self._spans[name] = (start, end)
            at = self._after_space(end)
            if text[at] == "}":
                return self._ends(at + 1)
            if text[at] != ",":
                raise ValueError
            at = self._after_space(at + 1)

    def _after_space(self, at: int) -> int:
        found = _SPACE.match(self._text, at)
        assert found is not None
        return found.end()

    def _ends(self, at: int) -> None:
        if self._after_space(at) != len(self._text):
            raise ValueError

    def with_members(self, wanted: Mapping[str, Any]) -> bytes:
        """Returns the text with its members as in `wanted`, which names all of them: these bytes, but for changes."""
        changed = {
            name: value
            for name, value in wanted.items()
            if name not in self.value or self.value[name] is not value
        }
        changed = {name: value for name, value in changed.items() if self.value.get(name, self) != value}
        if not changed:
            return self.content
        parts: list[str] = []
        at = 0
        for name, (start, end) in self._spans.items():
            if name in changed:
                parts += (self._text[at:start], _dumped(changed[name]))
                at = end
        parts.append(self._text[at:])
        made = "".join(parts)
        # New members come first, which needs no look at how the object ends.
        new = [
            f"{_dumped(name)}:{_dumped(value)}" for name, value in changed.items() if name not in self._spans
        ]
        if new:
            comma = "," if self.value else ""
            made = made[: self._inside] + ",".join(new) + comma + made[self._inside :]
        return made.encode()


def _dumped(value: Any) -> str:
    return json.dumps(value, ensure_ascii=True, separators=(",", ":"), allow_nan=False)


def check_members(value: Mapping[str, Any]) -> dict[str, str]:
    """Returns what is wrong with the members that bound a call: a `"5"` may be 5 to others."""
    errors = {}
    for name in value:
        if (low := name.lower()) != name and low in _BOUNDING:
            # Some providers' parsers take names in any case, and then this one would count there.
            errors[name[:100]] = f"must be written {low}"
    for name in _COUNTS:
        found = value.get(name)
        if found is not None and (not isinstance(found, int) or isinstance(found, bool) or found < 0):
            errors[name] = "must be a whole number"
    for name in _FLAGS:
        found = value.get(name)
        if found is not None and not isinstance(found, bool):
            errors[name] = "must be true or false"
    model = value.get("model")
    if model is not None and (not isinstance(model, str) or not 0 < len(model) <= 200):
        errors["model"] = "must be a text of 1 to 200 characters"
    options = value.get("stream_options")
    if options is not None and not isinstance(options, Mapping):
        errors["stream_options"] = "must be an object"
    elif options and not isinstance(options.get("include_usage", False), bool):
        errors["stream_options.include_usage"] = "must be true or false"
    return errors


def member_at(value: Mapping[str, Any], path: tuple[str, ...]) -> str | None:
    """Returns the text at a place in a body, if there is one."""
    found: Any = value
    for name in path:
        if not isinstance(found, Mapping):
            return None
        found = found.get(name)
    return found if isinstance(found, str) and found else None
