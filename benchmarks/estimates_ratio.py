"""How far bounds lie above what is used, by model and content: `python -m benchmarks.estimates_ratio`.

Prints the tables of docs/estimates.md, from the texts in `corpus/` and from seeded random ones. It measures no
time, so that every machine prints the same.
"""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from noburn_sdk import _ranks, estimate

from benchmarks.reference import chat_tokens, tokens, tool_tokens

CORPUS = Path(__file__).parent / "corpus"
SAMPLES = 100
SEED = 20261122
WORDS = [
    "account",
    "active",
    "amount",
    "budget",
    "city",
    "created",
    "customer",
    "email",
    "id",
    "name",
    "note",
    "plan",
    "price",
    "status",
    "tags",
    "total",
    "user",
]

Chat = list[dict[str, Any]]
Ratio = Callable[[Chat], float]


def _slice(rng: random.Random, text: str) -> str:
    size = round(200 * 20 ** rng.random())
    at = rng.randrange(max(1, len(text) - size))
    return text[at : at + size]


def _value(rng: random.Random, depth: int) -> Any:
    match rng.randrange(7 if depth else 5):
        case 0:
            return rng.randrange(10 ** rng.randint(1, 9))
        case 1:
            return rng.choice((True, False, None))
        case 2:
            return f"{rng.randrange(2020, 2027)}-{rng.randint(1, 12):02}-{rng.randint(1, 28):02}T09:30:00Z"
        case 3:
            return f"cus_{rng.randbytes(9).hex()}"
        case 4:
            return " ".join(rng.choice(WORDS) for _ in range(rng.randint(1, 6)))
        case 5:
            return [_value(rng, depth - 1) for _ in range(rng.randint(0, 4))]
        case _:
            return {name: _value(rng, depth - 1) for name in rng.sample(WORDS, rng.randint(1, 6))}


def _json(rng: random.Random) -> str:
    rows = [
        {name: _value(rng, 2) for name in rng.sample(WORDS, rng.randint(3, 8))}
        for _ in range(rng.randint(1, 12))
    ]
    return json.dumps(rows, indent=rng.choice((None, 2)), ensure_ascii=False)


def contents() -> dict[str, Callable[[random.Random], str]]:
    """Returns what draws a text of each kind."""
    read = {name: (CORPUS / f"{name}.txt").read_text(encoding="utf-8") for name in ("english", "code", "cjk")}
    return {
        "English": lambda rng: _slice(rng, read["english"]),
        "code": lambda rng: _slice(rng, read["code"]),
        "JSON": _json,
        "base64": lambda rng: base64.b64encode(rng.randbytes(round(150 * 20 ** rng.random()))).decode(),
        "Chinese, Japanese, Korean": lambda rng: _slice(rng, read["cjk"]),
    }


def chats(kind: str) -> Iterator[Chat]:
    """Draws SAMPLES chats of a kind: a question of one text, or a longer conversation of all kinds."""
    rng, drawers = random.Random(f"{SEED} {kind}"), contents()
    for _ in range(SAMPLES):
        if kind in drawers:
            yield [{"role": "user", "content": drawers[kind](rng)}]
            continue
        said: Chat = [{"role": "system", "content": "You are a helpful assistant of Acme's. Be brief."}]
        for turn in range(rng.randrange(1, 9, 2)):
            drawn = rng.choices(list(drawers), weights=(10, 4, 2, 0, 4))[0]
            said.append({"role": "assistant" if turn % 2 else "user", "content": drawers[drawn](rng)})
        yield said


def functions(count: int) -> Iterator[list[dict[str, Any]]]:
    """Draws SAMPLES sets of functions with one to six described properties."""
    rng, drawers = random.Random(f"{SEED} functions {count}"), contents()
    for _ in range(SAMPLES):
        made = []
        for number in range(count):
            properties: dict[str, Any] = {}
            for name in rng.sample(WORDS, rng.randint(1, 6)):
                kind = rng.choice(("string", "string", "integer", "boolean"))
                properties[name] = {"type": kind, "description": drawers["English"](rng)[:80]}
                if kind == "string" and rng.random() < 0.3:
                    properties[name]["enum"] = rng.sample(WORDS, 3)
            shape = {"type": "object", "properties": properties, "required": [*properties][:1]}
            made.append(
                {"name": f"{rng.choice(WORDS)}_{number}", "description": "Does it", "parameters": shape}
            )
        yield made


@contextmanager
def without_ranks() -> Iterator[None]:
    """Counts bytes for a while, as where the optional package is missing."""
    before = dict(_ranks._loaded)
    _ranks._loaded.update(dict.fromkeys(("o200k_base", "cl100k_base")))
    try:
        yield
    finally:
        _ranks._loaded.clear()
        _ranks._loaded.update(before)


def _chat(model: str) -> Callable[[Chat], int]:
    return lambda said: estimate.openai_chat({"model": model, "messages": said}).input_tokens


def _bytes(said: Chat) -> float:
    with without_ranks():
        return _chat("gpt-4o")(said) / chat_tokens(said)


def _claude(model: str) -> Ratio:
    def ratio(said: Chat) -> float:
        # A system prompt stands beside the turns there; in one list it is framed alike.
        bound = estimate.anthropic_messages({"model": model, "max_tokens": 1, "messages": said}).input_tokens
        return bound / sum(tokens(one["content"], "cl100k_base") for one in said)

    return ratio


def _gemini(said: Chat) -> float:
    contents = [{"parts": [{"text": one["content"]}]} for one in said]
    bound = estimate.gemini_generate_content({"contents": contents}, model="gemini-2.5-flash").input_tokens
    return bound / (sum(len(one["content"]) for one in said) / 4)


RATIOS: dict[str, Ratio] = {
    "gpt-4o": lambda said: _chat("gpt-4o")(said) / chat_tokens(said),
    "gpt-5": lambda said: _chat("gpt-5-mini")(said) / chat_tokens(said),
    "gpt-4o, bytes": _bytes,
    "Claude to 4.6": _claude("claude-haiku-4-5"),
    "Claude from 4.7": _claude("claude-opus-4-8"),
    "Gemini": _gemini,
    "unknown": lambda said: _chat("somebody-elses-9b")(said) / chat_tokens(said),
}


def summary(values: Sequence[float]) -> str:
    """Returns the median and the 95th of a hundred."""
    ordered = sorted(values)
    return f"{ordered[len(ordered) // 2]:.2f} / {ordered[len(ordered) * 95 // 100]:.2f}"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Returns a table in Markdown."""
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def texts_table() -> str:
    """Returns bound ÷ reference by content and model."""
    rows = []
    for kind in (*contents(), "mixed chat"):
        drawn = list(chats(kind))
        rows.append([kind, *(summary([ratio(said) for said in drawn]) for ratio in RATIOS.values())])
    return table(["content", *RATIOS], rows)


def functions_table() -> str:
    """Returns bound ÷ the cookbook's count for a question with functions."""
    rows = []
    asked: Chat = [{"role": "user", "content": "What is the total for customer 17 this month?"}]
    for count in (1, 2, 5):
        cells = [f"{count} function{'s' if count > 1 else ''}"]
        for model, ranks in (("gpt-4o", "o200k_base"), ("gpt-4", "cl100k_base")):
            values = []
            for made in functions(count):
                body = {
                    "model": model,
                    "messages": asked,
                    "tools": [{"type": "function", "function": f} for f in made],
                }
                bound = estimate.openai_chat(body).input_tokens
                values.append(bound / (chat_tokens(asked, ranks) + tool_tokens(made, ranks)))  # type: ignore[arg-type]
            cells.append(summary(values))
        rows.append(cells)
    return table(["functions", "gpt-4o", "gpt-4"], rows)


def main() -> None:
    """Prints both tables."""
    print(texts_table())
    print()
    print(functions_table())


if __name__ == "__main__":
    main()
