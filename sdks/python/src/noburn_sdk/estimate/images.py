"""Tokens of an image by model, size and detail, by the formulas that the providers publish.

Sources, checked 2026-11-22: OpenAI's guide "Images and vision" and its table of costs, with the multipliers
that users measured where those were higher; Anthropic's guide "Vision"; Google's "Understand and count
tokens" and "Media resolution".
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from noburn_sdk.estimate.families import Family
from noburn_sdk.estimate.types import How

UNKNOWN_MAX = 48_169
"""The dearest image of any family: gpt-4o-mini's at eight tiles. Assumed where nothing is known."""

FIT, SHORT, TILE = 2_048, 768, 512
TILES_MAX = 8
"""Of an image of 2,048 by 768, the largest that is left after fitting."""
PATCH = 32
PATCHES = 1_536
BILLED_PERCENT = 120
"""What was billed where the guide says 100, and patches above 1,536: measured by users, not published."""

CLAUDE_PATCH = 28
CLAUDE_CAP, CLAUDE_LATE_CAP, CLAUDE_3_CAP = 1_568, 4_784, 1_600
GEMINI_TILE, GEMINI_SMALL, GEMINI_TOKENS, GEMINI_SIDE, GEMINI_TILES_MAX = 768, 384, 258, 3_072, 24
GEMINI_3 = {"low": 280, "medium": 560, "high": 1_120, "ultra_high": 2_240}
"""Tokens of an image by media resolution, from Gemini 3 on; 1,120 unless told otherwise."""


@dataclass(frozen=True)
class Tiles:
    """`base` and so much for each tile of 512 pixels; `base` alone at low detail."""

    base: int
    tile: int


@dataclass(frozen=True)
class Patches:
    """A token for each 32 pixels square, times `percent`; at most so many patches by detail."""

    percent: int
    high: int
    automatic: int
    original: int


_OPENAI: tuple[tuple[str, Tiles | Patches], ...] = (
    (r"gpt-4o-mini", Tiles(2_833, 5_667)),
    (r"gpt-4\.1-mini", Patches(162, PATCHES, PATCHES, PATCHES)),
    (r"gpt-4\.1-nano", Patches(246, PATCHES, PATCHES, PATCHES)),
    (r"(?:o4-mini|codex-mini)", Patches(172, PATCHES, PATCHES, PATCHES)),
    (r"gpt-5-mini", Patches(162, PATCHES, PATCHES, PATCHES)),
    (r"gpt-5-nano", Patches(246, PATCHES, PATCHES, PATCHES)),
    # The guide says 1,536 patches of these; 2,500 were billed.
    (r"gpt-5\.\d+.*-nano", Patches(246, 2_500, 2_500, 2_500)),
    (r"gpt-5\.\d+.*-mini", Patches(162, 2_500, 2_500, 2_500)),
    (r"gpt-5\.[01](?!\d)", Tiles(70, 140)),
    # The guide says one token a patch from 5.2 on; 1.2 were billed.
    (r"gpt-5\.[23](?!\d)", Patches(BILLED_PERCENT, PATCHES, PATCHES, PATCHES)),
    (r"gpt-5\.[45](?!\d)", Patches(BILLED_PERCENT, 2_500, 10_000, 10_000)),
    # From 5.6 on an image without a detail keeps its size, and one of more than 30,000 patches is refused.
    (r"gpt-(?:5\.\d|[6-9])", Patches(BILLED_PERCENT, 2_500, 30_000, 30_000)),
    (r"gpt-5", Tiles(70, 140)),
    (r"(?:gpt-4o|chatgpt-4o|gpt-4\.1|gpt-4\.5|gpt-4-turbo|gpt-4-vision|gpt-4-1106)", Tiles(85, 170)),
    (r"o[13](?:-|$)", Tiles(75, 150)),
    (r"computer-use", Tiles(65, 129)),
)
_RULES = tuple((re.compile(pattern), rule) for pattern, rule in _OPENAI)
_GEMINI_VERSION = re.compile(r"gemini-(?:[a-z-]+-)?(\d+)")


@lru_cache(maxsize=1024)
def _rule(name: str) -> Tiles | Patches | None:
    return next((rule for pattern, rule in _RULES if pattern.match(name)), None)


def image_tokens(family: Family, size: tuple[int, int] | None, detail: str | None = None) -> tuple[int, How]:
    """Returns the tokens of one image of this size in pixels; None: unknown, so the family's largest."""
    if family.vendor == "anthropic":
        return _claude(family, size)
    if family.vendor == "google":
        return _gemini(family, size, detail)
    rule = _rule(family.name) if family.vendor == "openai" else None
    if rule is None:
        return UNKNOWN_MAX, "maximum"
    if isinstance(rule, Tiles):
        if detail == "low":
            return rule.base, "exact"
        if size is None:
            return rule.base + rule.tile * TILES_MAX, "maximum"
        return rule.base + rule.tile * _tiles(*size), "exact"
    # Low detail was seen to make no difference to these.
    budget = rule.high if detail in ("high", "low") else rule.automatic
    budget = rule.original if detail == "original" else budget
    patches = budget if size is None else min(budget, _squares(size, PATCH))
    how: How = "maximum" if size is None or patches == budget else "exact"
    if how == "exact" and (rule.percent == BILLED_PERCENT or rule.high != PATCHES):
        how = "measured"
    return -(-patches * rule.percent // 100), how


def page_tokens(family: Family) -> int:
    """Returns the most tokens of a PDF's page seen as an image."""
    if family.vendor == "google":
        return GEMINI_3["high"]
    return image_tokens(family, None, "high")[0]


def _squares(size: tuple[int, int], side: int) -> int:
    return -(-size[0] // side) * -(-size[1] // side)


def _tiles(width: int, height: int) -> int:
    """Tiles after fitting into 2,048 pixels square and then to a short side of 768, never enlarging.

    Whichever way the sizes between are rounded, not fewer than that.
    """
    long, short = max(width, height), min(width, height)
    shorts = {short}
    if long > FIT:
        shorts = {max(1, short * FIT // long), -(-short * FIT // long)}
        long = FIT
    most = 0
    for side in shorts:
        if side > SHORT:
            most = max(most, -(-long * SHORT // (side * TILE)) * -(-SHORT // TILE))
        else:
            most = max(most, -(-long // TILE) * -(-side // TILE))
    return most


def _claude(family: Family, size: tuple[int, int] | None) -> tuple[int, How]:
    cap = CLAUDE_LATE_CAP if family.late else CLAUDE_CAP
    if "claude-3" in family.name:
        # These were documented by their area instead, which comes to a little more.
        cap = CLAUDE_3_CAP
        if size is not None:
            patches = max(_squares(size, CLAUDE_PATCH), -(-size[0] * size[1] // 750))
            return min(cap, patches), "exact" if patches < cap else "maximum"
    if size is None:
        return cap, "maximum"
    patches = _squares(size, CLAUDE_PATCH)
    return min(cap, patches), "exact" if patches <= cap else "maximum"


def _gemini(family: Family, size: tuple[int, int] | None, detail: str | None) -> tuple[int, How]:
    level = (detail or "").lower().removeprefix("media_resolution_")
    version = _GEMINI_VERSION.match(family.name)
    generation = int(version[1]) if version else None
    if generation is not None and generation >= 3:
        return GEMINI_3.get(level, GEMINI_3["high"]), "exact"
    most = GEMINI_TOKENS * GEMINI_TILES_MAX
    if size is None:
        return most, "maximum"
    width, height = size
    longest = max(size)
    if longest > GEMINI_SIDE:
        width, height = -(-width * GEMINI_SIDE // longest), -(-height * GEMINI_SIDE // longest)
    if max(width, height) <= GEMINI_SMALL:
        tokens = GEMINI_TOKENS
    else:
        # A tile's side is two thirds of the short side, within 256 and 768.
        side = min(GEMINI_TILE, max(256, int(min(width, height) / 1.5)))
        tokens = GEMINI_TOKENS * min(GEMINI_TILES_MAX, -(-width // side) * -(-height // side))
    if generation is None:
        return max(tokens, GEMINI_3["ultra_high"]), "maximum"
    return tokens, "exact"
