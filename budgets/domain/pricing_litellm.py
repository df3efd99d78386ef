"""LiteLLM's public map of model prices, read as data: a second source beside genai-prices. No code of LiteLLM's runs.

The map is one JSON object: names of models, each with prices in USD per token as JSON numbers, which are read as
decimals and never as floats. Whatever is malformed is left out and counted with its reason; nothing in the map can
stop a reading half-way. A price of zero is not a price: the map writes zero where nobody looked.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from typing import Any, Final

from noburn.kit.money import RATE_PICO_MAX, rate_to_pico, round_rate

MAP_BYTES_MAX: Final = 32 * 2**20
"""The largest map that is read; the one of litellm 1.106.2 has 2.8 MiB."""

ENTRIES_MAX: Final = 50_000
NAME_MAX: Final = 200
EXAMPLES_MAX: Final = 20

PriceKey = tuple[str, str, int]
"""Variant ("" is the standard one), unit, and the number of input tokens that the price begins at."""

SELLERS: Final[Mapping[str, str]] = {
    "anthropic": "anthropic",
    "azure": "azure",
    "azure_ai": "azure",
    "azure_text": "azure",
    "baseten": "baseten",
    "bedrock": "aws",
    "bedrock_converse": "aws",
    "cerebras": "cerebras",
    "cloudflare": "cloudflare",
    "codestral": "mistral",
    "cohere": "cohere",
    "cohere_chat": "cohere",
    "databricks": "databricks",
    "deepseek": "deepseek",
    "elevenlabs": "elevenlabs",
    "fireworks_ai": "fireworks",
    "fireworks_ai-embedding-models": "fireworks",
    "gemini": "google",
    "github_copilot": "github-copilot",
    "groq": "groq",
    "meta": "meta",
    "minimax": "minimax",
    "mistral": "mistral",
    "moonshot": "moonshotai",
    "novita": "novita",
    "openai": "openai",
    "openrouter": "openrouter",
    "ovhcloud": "ovhcloud",
    "perplexity": "perplexity",
    "text-completion-codestral": "mistral",
    "text-completion-openai": "openai",
    "together_ai": "together",
    "typesafe": "typesafe",
    "voyage": "voyageai",
    "xai": "x-ai",
    "zai": "zai",
}
"""The map's names of sellers that the price book knows, and the book's. All of `vertex_ai…` is google."""

_PREFIXES: Final = frozenset({*SELLERS, "vertex_ai", "amazon"})
_REGIONS: Final = re.compile(
    r"(?:us|eu|apac|us-gov|global|global-standard|[a-z]{2}(?:-gov)?-[a-z]+-\d)/|us-gov\.", re.ASCII
)
_UNITS: Final[Mapping[str, str]] = {
    "input_cost_per_token": "input_tokens",
    "output_cost_per_token": "output_tokens",
    "cache_read_input_token_cost": "cache_read_tokens",
    "cache_creation_input_token_cost": "cache_write_tokens",
    "input_cost_per_audio_token": "input_audio_tokens",
    "output_cost_per_audio_token": "output_audio_tokens",
    "cache_read_input_audio_token_cost": "cache_audio_read_tokens",
    "input_cost_per_image_token": "input_image_tokens",
    "output_cost_per_image_token": "output_image_tokens",
    "cache_read_input_image_token_cost": "cache_image_read_tokens",
    "input_cost_per_video_token": "input_video_tokens",
    "output_cost_per_video_token": "output_video_tokens",
    "output_cost_per_reasoning_token": "output_reasoning_tokens",
    "citation_cost_per_token": "output_citation_tokens",
    "input_cost_per_character": "input_characters",
    "input_cost_per_request": "requests",
    "input_cost_per_text_message": "input_text_messages",
    "ocr_cost_per_page": "input_document_pages",
    "annotation_cost_per_page": "input_annotated_document_pages",
}
_VARIANTS: Final = {"batches": "batch", "flex": "flex", "priority": "priority"}
_FIELD = re.compile(
    r"(?P<base>[a-z_]+?)(?P<hour>_above_1hr)?(?:_above_(?P<tier>[0-9]{1,5})k_tokens)?"
    r"(?:_(?P<variant>batches|flex|priority))?",
    re.ASCII,
)


class BadMap(ValueError):
    """A file that is no map of prices at all; the message says why."""


@dataclass(frozen=True)
class MapEntry:
    """One model of a seller in the map. `prices` are pico-USD for one unit, never zero.

    `zeros` are the prices that the map gives as zero, which may mean free and more often means unknown.
    `timed` says that the price depends on the time of day. `name` is what a call to that seller names.
    """

    key: str
    provider: str
    name: str
    prices: Mapping[PriceKey, int]
    zeros: frozenset[PriceKey]
    window: int | None
    retired_on: date | None
    timed: bool


@dataclass
class PriceMap:
    """What was read. `ignored` counts what was left out by its reason; `examples` names some of it."""

    entries: list[MapEntry] = field(default_factory=list)
    ignored: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)

    def ignore(self, reason: str, what: str) -> None:
        """Counts something that was left out."""
        self.ignored[reason] += 1
        named = self.examples.setdefault(reason, [])
        if len(named) < EXAMPLES_MAX:
            named.append(what[:NAME_MAX])

    @property
    def providers(self) -> frozenset[str]:
        """The book's ids of the sellers that the map has models of."""
        return frozenset(entry.provider for entry in self.entries)


def parse_map(raw: bytes) -> PriceMap:
    """Reads a map. Raises BadMap when it is not a JSON object of at most MAP_BYTES_MAX bytes."""
    if len(raw) > MAP_BYTES_MAX:
        raise BadMap(f"has more than {MAP_BYTES_MAX} bytes")
    try:
        # NaN and Infinity, which JSON does not have, become text and are then refused as prices.
        found = json.loads(raw, parse_float=Decimal, parse_int=Decimal, parse_constant=str)
    except (ValueError, ArithmeticError, RecursionError) as error:
        raise BadMap(f"is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise BadMap("is not a JSON object of models")
    if len(found) > ENTRIES_MAX:
        raise BadMap(f"has more than {ENTRIES_MAX} models")
    result = PriceMap()
    for key, value in found.items():
        _read_entry(result, key, value)
    return result


def _read_entry(result: PriceMap, key: str, value: Any) -> None:
    if not isinstance(value, dict):
        return result.ignore("not an object", key)
    if not 0 < len(key) <= NAME_MAX or not key.isprintable():
        return result.ignore("name is not 1 to 200 printable characters", repr(key[:NAME_MAX]))
    seller = value.get("litellm_provider")
    provider = _provider(seller)
    if provider is None:
        return result.ignore("seller is not in the price book", key)
    name = _name(key)
    if _REGIONS.match(name):
        return result.ignore("regional price", key)
    prices: dict[PriceKey, int] = {}
    zeros: set[PriceKey] = set()
    for price_key, price in _prices(result, key, value):
        pico = _pico(result, f"{key}: {'/'.join(map(str, price_key))}", price)
        if pico == 0:
            zeros.add(price_key)
        elif pico is not None:
            prices[price_key] = pico
    if not prices and not zeros:
        return result.ignore("no price that the price book has a unit for", key)
    window = value.get("max_input_tokens") or value.get("max_tokens")
    result.entries.append(
        MapEntry(
            key=key,
            provider=provider,
            name=name,
            prices=prices,
            zeros=frozenset(zeros),
            window=int(window) if isinstance(window, Decimal) and 0 < window < 10**9 else None,
            retired_on=_date(value.get("deprecation_date")),
            timed="off_peak_pricing" in value or "tiered_pricing" in value,
        )
    )
    return None


def _provider(seller: Any) -> str | None:
    if not isinstance(seller, str):
        return None
    return "google" if seller.startswith("vertex_ai") else SELLERS.get(seller)


def _name(key: str) -> str:
    first, slash, rest = key.partition("/")
    return rest if slash and rest and first in _PREFIXES else key


def _prices(result: PriceMap, key: str, value: Mapping[str, Any]) -> Iterator[tuple[PriceKey, Any]]:
    for name, price in value.items():
        match = _FIELD.fullmatch(name)
        unit = _UNITS.get(match["base"]) if match else None
        if match is not None and unit is not None:
            if match["hour"]:
                if unit != "cache_write_tokens":
                    continue
                unit = "cache_write_1h_tokens"
            yield (
                (_VARIANTS.get(match["variant"] or "", ""), unit, int(match["tier"] or 0) * 1000),
                price,
            )
        elif name == "search_context_cost_per_query" and isinstance(price, dict):
            # Searches of three sizes; the book has one price for a search.
            if len(sizes := {p for p in price.values() if isinstance(p, Decimal)}) == 1:
                yield ("", "web_searches", 0), sizes.pop()
        elif "cost" in name:
            result.ignore("price that the price book has no unit for", f"{key}: {name}")


def _pico(result: PriceMap, what: str, price: Any) -> int | None:
    """Returns a price in pico-USD, 0 for a zero, None for what is no price."""
    if not isinstance(price, Decimal) or not price.is_finite():
        result.ignore("price is null" if price is None else "price is not a number", what)
    elif price < 0:
        result.ignore("price is negative", what)
    elif price == 0:
        return 0
    elif price.adjusted() > 6 or price * 10**12 > RATE_PICO_MAX:
        result.ignore("price is above a million USD", what)
    elif price.adjusted() < -12 or (rounded := round_rate(price)) == 0:
        result.ignore("price is below a millionth of a millionth USD", what)
    else:
        return rate_to_pico(rounded, field="price")
    return None


def _date(text: Any) -> date | None:
    try:
        return date.fromisoformat(text) if isinstance(text, str) else None
    except ValueError:
        return None
