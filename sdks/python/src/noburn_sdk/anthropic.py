"""Anthropic's clients, gated: `from noburn_sdk.anthropic import Anthropic` instead of `from anthropic import …`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anthropic as _anthropic

from noburn_sdk.integrations.anthropic import with_gate

if TYPE_CHECKING:
    from anthropic import (
        Anthropic,
        AnthropicBedrock,
        AnthropicVertex,
        AsyncAnthropic,
        AsyncAnthropicBedrock,
        AsyncAnthropicVertex,
    )
else:

    def _gated(kind: Any) -> Any:
        """A subclass of a client, each of whose attempts passes the gate."""

        class Gated(kind):
            def __init__(self, *args: Any, **options: Any) -> None:
                options["middleware"] = with_gate(self, options.get("middleware"))
                super().__init__(*args, **options)

        Gated.__name__, Gated.__qualname__, Gated.__doc__ = kind.__name__, kind.__qualname__, kind.__doc__
        Gated.__module__ = __name__
        return Gated

    Anthropic = _gated(_anthropic.Anthropic)
    AsyncAnthropic = _gated(_anthropic.AsyncAnthropic)
    AnthropicBedrock = _gated(_anthropic.AnthropicBedrock)
    AsyncAnthropicBedrock = _gated(_anthropic.AsyncAnthropicBedrock)
    AnthropicVertex = _gated(_anthropic.AnthropicVertex)
    AsyncAnthropicVertex = _gated(_anthropic.AsyncAnthropicVertex)


def __getattr__(name: str) -> Any:
    return getattr(_anthropic, name)


__all__ = [
    "Anthropic",
    "AnthropicBedrock",
    "AnthropicVertex",
    "AsyncAnthropic",
    "AsyncAnthropicBedrock",
    "AsyncAnthropicVertex",
]
