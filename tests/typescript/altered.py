"""Requests that are made of the shared vectors: parts left out, repeated, exchanged, and spoiled."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from tests.typescript.bodies import MODELS, as_read, places

VECTORS = Path(__file__).resolve().parents[1] / "vectors"
ODD: tuple[Any, ...] = (
    *(
        None,
        True,
        False,
        0,
        1,
        -1,
        7,
        4_096,
        10**6,
        1.5,
        "",
        "7",
        "auto",
        "hello",
        "漢字 🙂é",
        "data:image/png;base64,AAAA",
    ),
    *(
        [],
        {},
        [1],
        ["a", "b"],
        [[1, 2], [3]],
        {"type": "hologram"},
        {"type": "text", "text": "abc"},
        {"url": "x"},
    ),
)
"""What may stand anywhere in a request that somebody's program put together."""


OPTIONS = {
    "limit": (0, 1, 30, 500, 10**7),
    "max_output_tokens": (0, 1, 5_000),
    "max_input_tokens": (0, 40, 5_000),
    "context_window": (1, 100, 20_000),
    "batch": (True, False),
}


def vectors() -> dict[str, list[dict[str, Any]]]:
    """The shared vectors by their APIs."""
    found: dict[str, list[dict[str, Any]]] = {}
    for file in sorted(VECTORS.glob("estimates-*.json")):
        for case in json.loads(file.read_text())["cases"]:
            found.setdefault(case["api"], []).append(case)
    return found


def altered(chance: random.Random, known: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """A case made of a shared vector: parts left out, repeated, replaced by something odd, or taken from another."""
    api = chance.choice(sorted(known))
    vector = chance.choice(known[api])
    body = json.loads(json.dumps(vector["body"]))
    for _ in range(chance.choice((0, 1, 1, 2, 3))):
        body = _altered(chance, body, chance.choice(known[api])["body"])
    beside: dict[str, Any] = {}
    for name, values_ in OPTIONS.items():
        if chance.random() < 0.25:
            beside[name] = chance.choice(values_)
    if given := vector.get("options", {}).get("rates"):
        beside["rates"] = {"model": "m", "variants": {}, "context_window": None, **given}
    if "model" in vector.get("options", {}) or not isinstance(body, dict) or chance.random() < 0.3:
        beside["model"] = vector.get("options", {}).get("model") or chance.choice(MODELS)
    allowed = chance.choice(({}, {"model": "another"}, {"max_output_tokens": 77}))
    ranks = chance.random() < 0.75
    return {"api": api, "body": as_read(body), "options": beside, "ranks": ranks, "allowed": allowed}


def _altered(chance: random.Random, body: Any, other: Any) -> Any:
    path = chance.choice(list(places(body)))
    if not path:
        return chance.choice((body, body, other, chance.choice(ODD)))
    inner = body
    for key in path[:-1]:
        inner = inner[key]
    last = path[-1]
    does = chance.choice(("odd", "odd", "leave out", "repeat", "borrow", "borrow"))
    if does == "leave out":
        del inner[last]
    elif does == "repeat" and isinstance(inner, list):
        inner.insert(last, json.loads(json.dumps(inner[last])))
    elif does == "borrow":
        # From a place of the same name, where there is one.
        paths = [one for one in places(other) if one and (one[-1] == last or isinstance(last, int))]
        if paths:
            value = other
            for key in chance.choice(paths):
                value = value[key]
            inner[last] = json.loads(json.dumps(value))
    else:
        inner[last] = json.loads(json.dumps(chance.choice(ODD)))
    return body
