"""Pages of a list, by keyset: a page begins after the last key of the one before it, however many rows come between.

A cursor is that key, packed and spelled in URL-safe letters. It grants nothing: every list is scoped to its
tenant by the query itself.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

import msgspec
from rest_framework.pagination import BasePagination
from rest_framework.request import Request
from rest_framework.response import Response

from noburn.kit.problems import FieldError, Invalid

LIMIT_DEFAULT: Final = 50
LIMIT_MAX: Final = 200
CURSOR_CHARS_MAX: Final = 2_000
PARAMETERS: Final = frozenset({"limit", "cursor"})

Key = tuple[Any, ...]


class BadPage(Invalid):
    """A `limit` or `cursor` that cannot be used."""


@dataclass(frozen=True, slots=True)
class PageRequest:
    """Which page is wanted: at most `limit` rows after the key `after` (None: from the start)."""

    limit: int
    after: Key | None


def read_page(params: Mapping[str, str], *, key: Sequence[Callable[[str], Any]]) -> PageRequest:
    """Reads `limit` and `cursor`; `key` parses each part of the list's key from text. Raises BadPage."""
    errors = []
    limit, text = LIMIT_DEFAULT, params.get("limit")
    if text is not None:
        if text.isascii() and text.isdigit() and len(text) <= 4 and 1 <= int(text) <= LIMIT_MAX:
            limit = int(text)
        else:
            errors.append(FieldError("limit", f"must be between 1 and {LIMIT_MAX}"))
    after, cursor = None, params.get("cursor")
    if cursor is not None:
        after = _read_cursor(cursor, key)
        if after is None:
            errors.append(FieldError("cursor", "must be the next_cursor of an earlier page"))
    if errors:
        raise BadPage(errors)
    return PageRequest(limit, after)


def _read_cursor(cursor: str, key: Sequence[Callable[[str], Any]]) -> Key | None:
    if len(cursor) > CURSOR_CHARS_MAX:
        return None
    try:
        packed = base64.urlsafe_b64decode(cursor.encode() + b"=" * (-len(cursor) % 4))
        parts = msgspec.msgpack.decode(packed, type=list[str])
        if len(parts) != len(key):
            return None
        return tuple(parse(part) for parse, part in zip(key, parts, strict=True))
    except (ValueError, ArithmeticError, binascii.Error, msgspec.MsgspecError):
        return None


def cursor_of(key: Sequence[object]) -> str:
    """Spells a row's key as a cursor. Times must be given as text that their parser reads back exactly."""
    packed = msgspec.msgpack.encode([str(part) for part in key])
    return base64.urlsafe_b64encode(packed).rstrip(b"=").decode()


def page_answer(items: Sequence[Any], next_cursor: str | None, **more: Any) -> dict[str, Any]:
    """The body of a list's answer."""
    return {"items": list(items), "next_cursor": next_cursor, **more}


def cut(
    rows: Sequence[Any], limit: int, key: Callable[[Any], Sequence[object]]
) -> tuple[list[Any], str | None]:
    """Splits up to `limit` + 1 rows into a page and the cursor of the next one, None after the last."""
    page = list(rows[:limit])
    return page, cursor_of(key(page[-1])) if len(rows) > limit else None


class KeysetPages(BasePagination):
    """Pages of a queryset by primary key, newest first: ids are made in the order of time."""

    def paginate_queryset(self, queryset: Any, request: Request, view: Any | None = None) -> list[Any]:
        """Returns one page's rows."""
        wanted = read_page(request.query_params, key=[UUID])
        rows = queryset.order_by("-pk")
        if wanted.after is not None:
            rows = rows.filter(pk__lt=wanted.after[0])
        page, self.next_cursor = cut(list(rows[: wanted.limit + 1]), wanted.limit, lambda row: [row.pk])
        return page

    def get_paginated_response(self, data: Any) -> Response:
        """Returns the answer of a page."""
        return Response(page_answer(data, self.next_cursor))

    def get_paginated_response_schema(self, schema: dict[str, Any]) -> dict[str, Any]:
        """Describes the answer in the API document."""
        return {
            "type": "object",
            "required": ["items", "next_cursor"],
            "properties": {
                "items": schema,
                "next_cursor": {
                    "type": ["string", "null"],
                    "example": None,
                    "description": "Send it as `cursor` for the next page; null after the last.",
                },
            },
        }

    def get_schema_operation_parameters(self, view: Any) -> list[dict[str, Any]]:
        """Describes the parameters in the API document."""
        return [
            {
                "name": "limit",
                "in": "query",
                "description": "The most items of a page.",
                "schema": {
                    "type": "integer",
                    "minimum": 1,
                    "maximum": LIMIT_MAX,
                    "default": LIMIT_DEFAULT,
                },
            },
            {
                "name": "cursor",
                "in": "query",
                "description": "The `next_cursor` of the page before.",
                "schema": {"type": "string", "maxLength": CURSOR_CHARS_MAX},
            },
        ]
