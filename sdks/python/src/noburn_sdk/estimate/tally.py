"""Adding up a request: the cheap bound first, and tokens counted only where that does not settle it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from noburn_sdk import _ranks
from noburn_sdk.estimate.families import Family
from noburn_sdk.estimate.types import ORDER, How, Part


@dataclass(frozen=True)
class _Item:
    kind: str
    texts: tuple[tuple[str, int], ...]
    """Renderings of one thing and what each needs beside its tokens: the longest counts. None for a number."""
    tokens: int
    how: How
    note: str = ""


@dataclass(frozen=True)
class Total:
    """What a tally came to. `cached` is the bound of what lies before the last mark."""

    tokens: int
    parts: tuple[Part, ...]
    cached: int
    exceeds: bool


class Tally:
    """Collects what a request consists of. Texts wait until the end, where it is decided how to count them."""

    def __init__(self, family: Family) -> None:
        self.family = family
        self._items: list[_Item] = []
        self._marked: int | None = None
        self.images = 0
        self.audio = False
        self.tools: dict[str, int] = {}
        self.warnings: list[str] = []
        self.rounds = 1
        """How often the provider may read the whole context within one call."""

    def text(self, kind: str, text: Any) -> None:
        """Adds a text that reaches the model as it is."""
        if text:
            self._items.append(_Item(kind, ((written(text), 0),), 0, "exact"))

    def rendered(self, kind: str, texts: Iterable[tuple[str, int]], extra: int) -> None:
        """Adds something whose rendering is not published: the longest of the likely ones, and `extra`.

        A rendering is a text and the tokens that it may need beside its own.
        """
        self._items.append(_Item(kind, tuple(texts), extra, "measured"))

    def json(self, kind: str, value: Any, extra: int = 0) -> None:
        """Adds a value that reaches the model as JSON, however it is spaced."""
        self.rendered(kind, [(text, 0) for text in renderings(value)], extra)

    def add(self, kind: str, tokens: int, how: How, note: str = "") -> None:
        """Adds a number that needs no counting."""
        if tokens:
            self._items.append(_Item(kind, (), tokens, how, note))

    def unknown(self, what: str, *, media: bool = False) -> None:
        """Notes something whose size only the provider knows; `media`: it may be more than text."""
        self.audio |= media
        self._items.append(_Item("unknown", (), 0, "unknown", what))

    def mark(self) -> None:
        """Says that everything so far may be written into a cache."""
        self._marked = len(self._items)

    @property
    def has_mark(self) -> bool:
        """Whether anything may be written into a cache."""
        return self._marked is not None

    def finish(
        self,
        *,
        limit: int | None = None,
        context: int | None = None,
        listed: int | None = None,
        max_input_tokens: int | None = None,
    ) -> Total:
        """Counts. Without a `limit` texts are counted to the end; with one, only where their bytes exceed it.

        `context` is the model's in the caller's words; `listed` is a price list's, which is now and then behind,
        so that it is believed only where nothing else is known.
        """
        counted, how = self._count(limit)
        percent = self.family.percent
        sums: dict[tuple[str, How, str], list[int]] = {}
        before = 0
        for place, (item, tokens) in enumerate(zip(self._items, counted, strict=True)):
            key = (item.kind, _worse(how[place], item.how), item.note)
            group = sums.setdefault(key, [0, 0, 0])
            group[0] += tokens
            group[1] += item.tokens
            group[2] += 1
            if self._marked is not None and place < self._marked:
                before += -(-tokens * percent // 100) + item.tokens
        parts = [
            Part(kind, -(-raw * percent // 100) + fixed, way, number, note)
            for (kind, way, note), (raw, fixed, number) in sums.items()
        ]
        total = sum(part.tokens for part in parts)
        assumed = [part for part in parts if part.how == "unknown" and not part.tokens]
        if assumed:
            most = (context or self._context(listed)) * self.rounds
            rest = max(0, most - total)
            first = assumed[0]
            parts[parts.index(first)] = Part("unknown", rest, "unknown", first.count, first.note)
            total += rest
            self.warnings.append(
                "only the provider knows the size of "
                + ", ".join(part.note for part in assumed)
                + ": its whole context is assumed; pass max_input_tokens where you know better"
            )
        elif context is not None and total > context * self.rounds:
            # The provider refuses a longer input, and bills nothing for it.
            total = context * self.rounds
            self.warnings.append(
                "the input may be longer than the model's context, beyond which it is refused"
            )
        if max_input_tokens is not None and total > max_input_tokens:
            total = max_input_tokens
        exceeds = limit is not None and total > limit
        return Total(total, tuple(parts), min(before, total), exceeds)

    def _context(self, listed: int | None) -> int:
        if self.family.vendor == "other":
            return listed or self.family.context
        return max(listed or 0, self.family.context)

    def _count(self, limit: int | None) -> tuple[list[int], list[How]]:
        """Returns, item by item, the tokens of its texts in the ranks' own tokens, and how they were found."""
        encoding, percent = self.family.encoding, self.family.percent
        cheap = [
            max((sized(text, self.family) + more for text, more in item.texts), default=0)
            for item in self._items
        ]
        hows: list[How] = ["bytes" if item.texts else "exact" for item in self._items]
        fixed = sum(item.tokens for item in self._items)
        if not _ranks.has_ranks(encoding):
            return cheap, hows
        if limit is not None and fixed + -(-sum(cheap) * percent // 100) <= limit:
            return cheap, hows
        room = None if limit is None else (limit - fixed) * 100 // percent
        found = list(cheap)
        way: How = "exact" if percent == 100 else "measured"
        for place, item in enumerate(self._items):
            most = 0
            for text, more in item.texts:
                tokens = _ranks.count_until(text, encoding, None if room is None else room - more)
                if tokens is None:
                    # The rest is not worth counting: it does not fit already.
                    return found, hows
                most = max(most, tokens + more)
            if item.texts:
                found[place], hows[place] = most, way
                if any(len(text) > _ranks.SLICE_CHARS for text, _ in item.texts) and way == "exact":
                    hows[place] = "measured"
            if room is not None:
                room -= most
        return found, hows


def sized(text: str, family: Family) -> int:
    """Returns the cheap bound of a text: its bytes, for a model of which nothing is known as it may read them."""
    return _ranks.widest_bytes(text) if family.vendor == "other" else _ranks.utf8_bytes(text)


def _worse(one: How, other: How) -> How:
    return max(one, other, key=ORDER.index)


def plain(value: Any) -> Any:
    """Returns a mapping as it is, and a client library's object (pydantic's) as the mapping it stands for."""
    if isinstance(value, Mapping) or value is None or isinstance(value, str | int | list):
        return value
    dump = getattr(value, "model_dump", None)
    return dump(exclude_none=True) if callable(dump) else value


def renderings(value: Any) -> tuple[str, ...]:
    """The spacings in which JSON is sent over the wire and shown to models: without blanks, and with them."""
    if isinstance(value, str):
        return (value,)

    def dump(separators: tuple[str, str]) -> str:
        return json.dumps(value, ensure_ascii=False, default=_other, separators=separators)

    return dump((",", ":")), dump((", ", ": "))


def written(value: Any) -> str:
    """Returns a text as it is, and any other value as the JSON that is sent of it."""
    return value if isinstance(value, str) else renderings(value)[-1]


def quoted(value: Any) -> str:
    """Returns a value of the request as notes name it."""
    return json.dumps(value, ensure_ascii=False, default=_other)


def _other(value: Any) -> Any:
    found = plain(value)
    return str(value) if found is value else found
