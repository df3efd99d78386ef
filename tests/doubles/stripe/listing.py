"""Lists, searches and expansions, the same for every kind of object."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

from tests.doubles.stripe.failures import Failure
from tests.doubles.stripe.routing import Call
from tests.doubles.stripe.world import Account, Object

PAGE = 10
PAGE_MAX = 100
_RANGES: dict[str, Callable[[int, int], bool]] = {
    "gt": lambda value, bound: value > bound,
    "gte": lambda value, bound: value >= bound,
    "lt": lambda value, bound: value < bound,
    "lte": lambda value, bound: value <= bound,
}
_WORDS = ("limit", "starting_after", "ending_before", "expand")


def page(call: Call, found: Iterable[Object], url: str) -> Object:
    """Returns one page: ten unless `limit` says, at most a hundred, from a cursor on."""
    rows = list(found)
    limit = call.params.get("limit", PAGE)
    if not 1 <= limit <= PAGE_MAX:
        raise Failure(400, "This value must be between 1 and 100.", param="limit")
    ids = [row["id"] for row in rows]
    after, before = call.params.get("starting_after"), call.params.get("ending_before")
    for name, cursor in (("starting_after", after), ("ending_before", before)):
        if cursor is not None and cursor not in ids:
            raise Failure(400, f"No such object: '{cursor}'", code="resource_missing", param=name)
    if after is not None:
        rows = rows[ids.index(after) + 1 :]
    if before is not None:
        rows = rows[: ids.index(before)][-limit - 1 :]
        more = len(rows) > limit
        rows = rows[-limit:]
    else:
        more = len(rows) > limit
        rows = rows[:limit]
    return {"object": "list", "url": url, "has_more": more, "data": rows}


def listed(
    call: Call, kind: str, url: str, *others: str, only: Callable[[Object], bool] = lambda row: True
) -> Object:
    """Returns a page of a kind, newest first, of those that fit the request's other fields.

    `others` are fields that `only` judges.
    """
    wanted = {k: v for k, v in call.params.items() if k not in _WORDS and k not in others}
    held = reversed(call.account.tables[kind].values())
    return page(call, [row for row in held if _fits(row, wanted) and only(row)], url)


def _fits(row: Object, wanted: dict[str, Any]) -> bool:
    held: Any
    for name, value in wanted.items():
        held = row.get(name)
        if isinstance(value, dict) and isinstance(held, int):
            if not all(_RANGES[word](held, int(bound)) for word, bound in value.items()):
                return False
        elif held != value:
            return False
    return True


_CLAUSE = re.compile(r"""\s*(-?)(\w+)(?:\[["']([^"']+)["']\])?\s*([:~])\s*["']?([^"']*?)["']?\s*$""")


def searched(call: Call, kind: str, url: str) -> Object:
    """Returns what a search finds: clauses joined by AND, on fields and metadata; not yet what is new."""
    clauses = []
    for text in re.split(r"\s+(?:AND|and)\s+", call.params["query"]):
        fits = _CLAUSE.match(text)
        if fits is None:
            raise Failure(400, f"Failed to parse query: {text}", param="query")
        clauses.append(fits.groups())
    newest = call.now - call.world.settings.search_lag_seconds
    rows = [
        row
        for row in reversed(call.account.tables[kind].values())
        if _searchable(call.account, row) <= newest and all(_clause(row, *clause) for clause in clauses)
    ]
    limit = call.params.get("limit", PAGE)
    start = int(call.params.get("page") or 0)
    more = len(rows) > start + limit
    return {
        "object": "search_result",
        "url": url,
        "has_more": more,
        "next_page": str(start + limit) if more else None,
        "data": rows[start : start + limit],
    }


def _searchable(account: Account, row: Object) -> int:
    return int(account.side[row["id"]].get("searchable_at") or row["created"])


def _clause(row: Object, minus: str, name: str, key: str | None, sign: str, value: str) -> bool:
    held: Any = row.get(name)
    if key is not None:
        held = held.get(key) if isinstance(held, dict) else None
    text = "" if held is None else str(held).lower() if isinstance(held, bool) else str(held)
    fits = value.lower() in text.lower() if sign == "~" else text == value
    return fits != (minus == "-")


KINDS = {
    "cus_": "customer",
    "sub_": "subscription",
    "in_": "invoice",
    "price_": "price",
    "prod_": "product",
    "pm_": "payment_method",
    "pi_": "payment_intent",
    "ch_": "charge",
    "seti_": "setup_intent",
    "cn_": "credit_note",
}


def expand(account: Account, answer: Object, paths: Iterable[str]) -> Object:
    """Returns an answer with ids replaced by what they name, at paths such as `data.customer`."""
    for path in paths:
        answer = _expand(account, answer, path.split("."))
    return answer


def _expand(account: Account, value: Any, path: list[str]) -> Any:
    if not path:
        if isinstance(value, str):
            kind = next((kind for prefix, kind in KINDS.items() if value.startswith(prefix)), None)
            return account.tables[kind].get(value, value) if kind else value
        return value
    if isinstance(value, str):
        value = _expand(account, value, [])
    if isinstance(value, list):
        return [_expand(account, each, path) for each in value]
    if isinstance(value, dict) and path[0] in value:
        inner = _expand(account, value[path[0]], path[1:])
        return {**value, path[0]: inner}
    return value
