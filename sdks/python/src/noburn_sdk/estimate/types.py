"""What an estimate says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from noburn_sdk.errors import InvalidRequestError

How: TypeAlias = Literal["exact", "bytes", "measured", "maximum", "unknown"]
"""How a number was obtained.

exact: counted with the model's public ranks, or by the provider's published formula. bytes: the UTF-8 bytes,
which no byte-level tokenizer exceeds. measured: a bound that held in every measured case. maximum: the most
that the family or the documentation names. unknown: only the provider knows; the number is an assumption.
"""

Api: TypeAlias = Literal[
    "openai.chat",
    "openai.responses",
    "openai.embeddings",
    "openai.completions",
    "anthropic.messages",
    "gemini.generate_content",
]

ORDER: tuple[How, ...] = ("exact", "bytes", "measured", "maximum", "unknown")
"""From the surest to the least sure."""


N_MAX = 128
IMAGES_MAX = 10_000
"""What a pre-flight can name."""


@dataclass(frozen=True)
class Part:
    """Some of the input: `tokens` of `count` things of one kind, and how that was obtained."""

    kind: str
    tokens: int
    how: How
    count: int = 1
    note: str = ""


@dataclass(frozen=True)
class Estimate:
    """Upper bounds of one call, and how each was obtained. Tokens are the model's; costs nano-USD.

    `max_output_tokens` is the cap of one answer: the request's own, else the default that the caller named,
    else None; where `inject_cap` is True the request carries none, and a bound that the provider does not
    enforce is no bound: send what `prepare` returns. `output_tokens` is the bound of all `n` answers.
    `cached_input_tokens` is how much of the input may be written into a cache at most (None: all of it).
    `tools` are uses of the provider's own tools that may carry a fee, by name. `audio` says that there is, or may
    be, audio. `exceeds_limit`: more than the `limit` asked about.
    """

    api: Api
    model: str
    input_tokens: int
    parts: tuple[Part, ...]
    max_output_tokens: int | None
    n: int = 1
    cached_input_tokens: int | None = None
    images: int = 0
    audio: bool = False
    tools: Mapping[str, int] = field(default_factory=dict)
    service_tier: str | None = None
    output_extra: int = 0
    """Part of `max_output_tokens` that is not the request's cap: a prediction's rejected tokens."""
    has_output: bool = True
    inject_cap: bool = False
    exceeds_limit: bool = False
    cost_nano: int | None = None
    warnings: tuple[str, ...] = ()

    @property
    def output_tokens(self) -> int | None:
        """The bound of all output; None while there is no cap."""
        if not self.has_output:
            return 0
        return None if self.max_output_tokens is None else self.n * self.max_output_tokens

    @property
    def complete(self) -> bool:
        """Whether nothing had to be assumed: no part of the input is unknown."""
        return all(part.how != "unknown" for part in self.parts)

    @property
    def how(self) -> How:
        """The least sure of the ways in which the input was obtained."""
        return max((part.how for part in self.parts), key=ORDER.index, default="exact")

    def counts(self) -> dict[str, Any]:
        """Returns the counts as a price's bound takes them: `bound_nano(rates, **estimate.counts())`."""
        return {
            "input_tokens": self.input_tokens,
            "max_output_tokens": self.max_output_tokens or 0,
            "n": self.n,
            "cached_input_tokens": self.cached_input_tokens,
            "text_only": not (self.images or self.audio),
            "images": self.images,
            "tool_calls": dict(self.tools),
            "service_tier": self.service_tier,
        }

    def options(self) -> dict[str, Any]:
        """Returns what a pre-flight takes: `nb.call(**estimate.options(), customer="acme")`."""
        options: dict[str, Any] = {"model": self.model, "input_tokens": self.input_tokens}
        if not self.has_output:
            # The wire's least: nothing that is charged for, and a token at most where tokens are budgeted.
            options["max_output_tokens"] = 1
        elif self.max_output_tokens is not None:
            options["max_output_tokens"] = max(1, self.max_output_tokens)
            if self.n > N_MAX:
                # More answers than a pre-flight names are told as one that is longer.
                options["max_output_tokens"] *= self.n
        elif self.n > N_MAX:
            message = f"of more than {N_MAX} answers needs an output cap"
            raise InvalidRequestError("Cannot ask for this call", errors={"n": message})
        if 1 < self.n <= N_MAX:
            options["n"] = self.n
        if self.cached_input_tokens is not None:
            options["cached_input_tokens"] = self.cached_input_tokens
        if self.images:
            options["images"] = min(self.images, IMAGES_MAX)
        if self.audio:
            options["audio"] = True
        if self.tools:
            options["tools"] = dict(self.tools)
        if self.service_tier is not None:
            options["service_tier"] = self.service_tier
        return options
