"""Stripe's wire: forms with brackets come in, JSON goes out."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import parse_qsl

from tests.doubles.stripe.failures import Failure

FIELDS_MAX = 2_000
_PARTS = re.compile(r"\[([^\[\]]*)\]")


def parse_form(text: str) -> dict[str, Any]:
    """Returns a form's fields nested by their brackets: `a[b][0][c]=1` is {"a": {"b": [{"c": "1"}]}}.

    Values stay texts. Raises Failure for more than FIELDS_MAX fields or brackets that contradict each other.
    """
    pairs = parse_qsl(text, keep_blank_values=True, max_num_fields=FIELDS_MAX)
    root: dict[str, Any] = {}
    for name, value in pairs:
        head, _, rest = name.partition("[")
        parts = [head, *_PARTS.findall(f"[{rest}")] if rest else [head]
        place: dict[str, Any] = root
        for part in parts[:-1]:
            key = str(len(place)) if part == "" else part
            inner = place.setdefault(key, {})
            if not isinstance(inner, dict):
                raise Failure(400, f"Invalid parameter: {name}", param=name)
            place = inner
        last = str(len(place)) if parts[-1] == "" else parts[-1]
        place[last] = value
    listed = _lists(root)
    assert isinstance(listed, dict)
    return listed


def _lists(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    inner = {key: _lists(each) for key, each in value.items()}
    if inner and all(key.isdigit() for key in inner):
        return [inner[key] for key in sorted(inner, key=int)]
    return inner


def flat(params: dict[str, Any], prefix: str = "") -> list[str]:
    """Returns the full names of all fields, as error messages and logs name them."""
    names: list[str] = []
    for key, value in params.items():
        name = f"{prefix}[{key}]" if prefix else key
        if isinstance(value, dict):
            names += flat(value, name)
        elif isinstance(value, list):
            names += flat({str(at): each for at, each in enumerate(value)}, name)
        else:
            names.append(name)
    return names
