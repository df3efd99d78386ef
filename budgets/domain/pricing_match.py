"""Patterns that recognise a model or a provider by name, compiled from their JSON form.

A pattern is one of `{"equals": s}`, `{"starts_with": s}`, `{"ends_with": s}`, `{"contains": s}`,
`{"regex": s}`, `{"or": [pattern, …]}`, `{"and": [pattern, …]}`. Names are compared in lower case.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date
from typing import Any, Final

MAX_DEPTH: Final = 8
MAX_CLAUSES: Final = 200

Matcher = Callable[[str], bool]

_COMPACT_DATE = re.compile(r"-(20\d{2})(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])(?=-|:|$)", re.ASCII)


class BadPattern(ValueError):
    """A pattern that cannot be compiled; the message says which part and why."""


def compile_pattern(pattern: Any, *, depth: int = 0) -> Matcher:
    """Returns a function that tells whether a lower-case name matches. Raises BadPattern."""
    if depth > MAX_DEPTH:
        raise BadPattern(f"patterns may be nested {MAX_DEPTH} deep")
    if not isinstance(pattern, dict) or len(pattern) != 1:
        raise BadPattern(f"a pattern is an object with one key, not {pattern!r}")
    ((kind, value),) = pattern.items()
    if kind in ("or", "and"):
        if not isinstance(value, list) or not 1 <= len(value) <= MAX_CLAUSES:
            raise BadPattern(f'"{kind}" needs a list of 1 to {MAX_CLAUSES} patterns')
        if kind == "or" and all(isinstance(part, dict) and list(part) == ["equals"] for part in value):
            # Most models are a list of exact names: one look in a set instead of a chain of calls.
            return frozenset(str(part["equals"]).lower() for part in value).__contains__
        parts = [compile_pattern(part, depth=depth + 1) for part in value]
        if kind == "or":
            return lambda name: any(part(name) for part in parts)
        return lambda name: all(part(name) for part in parts)
    if not isinstance(value, str) or not value:
        raise BadPattern(f'"{kind}" needs a text')
    if kind == "regex":
        try:
            search = re.compile(value).search
        except re.error as error:
            raise BadPattern(f"not a regular expression: {value!r}: {error}") from error
        return lambda name: search(name) is not None
    lower = value.lower()
    if kind == "equals":
        return lambda name: name == lower
    if kind == "starts_with":
        return lambda name: name.startswith(lower)
    if kind == "ends_with":
        return lambda name: name.endswith(lower)
    if kind == "contains":
        return lambda name: lower in name
    raise BadPattern(f"unknown kind of pattern {kind!r}")


def with_dashed_date(name: str) -> str:
    """Returns a name with a compact date, such as `-20251211`, written with dashes: routers differ."""

    def dashed(match: re.Match[str]) -> str:
        year, month, day = match.groups()
        try:
            date(int(year), int(month), int(day))
        except ValueError:
            return match.group(0)
        return f"-{year}-{month}-{day}"

    return _COMPACT_DATE.sub(dashed, name)
