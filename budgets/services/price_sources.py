"""The two public sources of prices, both read from packages: genai-prices as a book, LiteLLM's map as it is.

The map is taken out of LiteLLM's wheel, which lies beside the environment and is not installed in it. None of its
code runs, and none of its dependencies is needed.
"""

from __future__ import annotations

import re
import sys
import zipfile
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from itertools import count
from pathlib import Path
from typing import Final

from genai_prices import data

from budgets.domain.pricing_book import ModelEntry, PriceBook, PriceEntry, ProviderEntry
from budgets.domain.pricing_litellm import MAP_BYTES_MAX, BadMap, PriceMap, parse_map
from budgets.services.price_seed import dated_prices, is_borrowed, pattern_json
from noburn.kit.money import rate_to_pico

MAP_IN_WHEEL: Final = "litellm/model_prices_and_context_window_backup.json"

_WHEEL = re.compile(r"litellm-([0-9][0-9a-z.]*)-", re.ASCII)


class MapNotFound(Exception):
    """There is no map to compare with."""


@dataclass(frozen=True)
class MapFile:
    """A map that was read, and what to call it: `litellm 1.106.2`, or the file's name."""

    name: str
    prices: PriceMap


def package_name() -> str:
    """Returns what rows name as their source: `genai-prices 0.2.3`."""
    return f"genai-prices {version('genai-prices')}"


@cache
def package_book() -> PriceBook:
    """Returns the prices of the genai-prices package as a book, with numbers of its own for rows."""
    numbers = count(1)
    return PriceBook(
        1,
        [
            ProviderEntry(
                provider.id,
                pattern_json(provider.provider_match),
                pattern_json(provider.model_match),
                tuple(provider.fallback_model_providers or ()),
                tuple(
                    ModelEntry(
                        model.id,
                        pattern_json(model.match),
                        bool(model.deprecated),
                        model.context_window,
                        tuple(
                            PriceEntry(
                                next(numbers),
                                price.variant,
                                price.unit,
                                price.tier_start,
                                rate_to_pico(price.price, field="price"),
                                price.effective_from,
                                price.effective_to,
                                price.daily_from,
                                price.daily_to,
                            )
                            for price in dated_prices(model)
                        ),
                        not is_borrowed(provider.id, model),
                    )
                    for model in provider.models
                ),
            )
            for provider in data.providers
        ],
    )


def page_of(provider: str) -> str:
    """Returns the address of a provider's price page as the package has it, else its name."""
    found = next((each for each in data.providers if each.id == provider), None)
    return (found.pricing_urls or [found.name])[0] if found is not None else provider


def wheel_path() -> Path | None:
    """Returns where `make setup` puts LiteLLM's wheel, or None when it is not there."""
    return next(iter(sorted((Path(sys.prefix) / "price-sources").glob("litellm-*.whl"))), None)


def read_map(path: Path | None = None) -> MapFile:
    """Reads a map: a JSON file, a wheel of litellm, or by default the wheel beside the environment.

    Raises MapNotFound when there is none, and BadMap when the file cannot be one.
    """
    path = path or wheel_path()
    if path is None:
        raise MapNotFound(
            "LiteLLM's map is not here. `make setup` downloads it; elsewhere run "
            "`pip download --no-deps -r requirements-prices.txt`, and name the wheel or a copy of the map with --file"
        )
    try:
        wheel = zipfile.is_zipfile(path)
        if wheel:
            with zipfile.ZipFile(path) as archive, archive.open(MAP_IN_WHEEL) as member:
                raw = member.read(MAP_BYTES_MAX + 1)
        else:
            with path.open("rb") as file:
                raw = file.read(MAP_BYTES_MAX + 1)
    except KeyError as error:
        raise BadMap(f"{path} has no {MAP_IN_WHEEL}") from error
    except (OSError, zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        raise BadMap(f"{path} cannot be read: {error}") from error
    try:
        prices = parse_map(raw)
    except BadMap as error:
        raise BadMap(f"{path} {error}") from error
    named = _WHEEL.match(path.name) if wheel else None
    return MapFile(f"litellm {named[1]}" if named else path.name[:100], prices)
