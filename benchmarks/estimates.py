"""How long an estimate takes, as ratios to bare tiktoken on the same text in the same run.

`python -m benchmarks.estimates` prints one JSON object; `make bench` prints it as rows. Both count without a limit;
a first count, which loads the ranks, stands apart.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from noburn_sdk import estimate

from benchmarks import reference

MODEL = "gpt-4o"
SIZES = (1_000, 10_000, 100_000)
TURNS = 10
PASTED_BYTES = 6_000_000
LIMIT = 1_000
LIMIT_COUNTED = 100_000
"""Above what bytes alone refuse, so that tokens have to be counted until the limit."""


def text_of(tokens: int) -> str:
    """Returns English of about so many tokens."""
    source = (Path(__file__).parent / "corpus" / "english.txt").read_text(encoding="utf-8")
    text = source * (tokens // reference.tokens(source) + 1)
    low, high = 0, len(text)
    while low < high:
        middle = (low + high) // 2
        if reference.tokens(text[:middle]) < tokens:
            low = middle + 1
        else:
            high = middle
    return text[:low]


def best_ms(work: Callable[[], Any], rounds: int) -> float:
    """Returns the milliseconds of the fastest of so many rounds: what others do to the machine only adds."""
    best = float("inf")
    for _ in range(rounds):
        started = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - started)
    return best * 1000


def chat(text: str) -> dict[str, Any]:
    """A request with this text."""
    return {"model": MODEL, "messages": [{"role": "user", "content": text}], "max_completion_tokens": 500}


def measure(quick: bool) -> dict[str, Any]:
    """Returns all figures, in milliseconds."""
    started = time.perf_counter()
    estimate.openai_chat(chat("hello world"))
    found: dict[str, Any] = {"first_ms": (time.perf_counter() - started) * 1000, "sizes": {}}
    for size in SIZES:
        text = text_of(size)
        body = chat(text)
        rounds = 1 if quick else max(3, 200_000 // size)
        works: dict[str, Callable[[], Any]] = {
            "tiktoken_ms": partial(reference.tokens, text),
            "count_ms": partial(estimate.count_text, text, MODEL),
            "estimate_ms": partial(estimate.openai_chat, body),
            "by_bytes_ms": partial(estimate.openai_chat, body, limit=10**6),
        }
        figures = dict.fromkeys(works, float("inf"))
        for _ in range(TURNS):
            # By turns, so that a busy minute falls on all of them.
            for name, work in works.items():
                figures[name] = min(figures[name], best_ms(work, rounds))
        found["sizes"][size] = figures
    source = (Path(__file__).parent / "corpus" / "english.txt").read_text(encoding="utf-8")
    pasted = chat((source * (PASTED_BYTES // len(source) + 1))[:PASTED_BYTES])
    for name, limit in (("refused_ms", LIMIT), ("refused_counting_ms", LIMIT_COUNTED)):
        assert estimate.openai_chat(pasted, limit=limit).exceeds_limit
        found[name] = best_ms(partial(estimate.openai_chat, pasted, limit=limit), 5 if quick else 20)
    content = pasted["messages"][0]["content"]
    found["pasted_tiktoken_ms"] = best_ms(partial(reference.tokens, content), 1 if quick else 3)
    return found


if __name__ == "__main__":
    json.dump(measure("--quick" in sys.argv), sys.stdout)
