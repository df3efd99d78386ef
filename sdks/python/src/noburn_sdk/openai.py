"""OpenAI's clients, gated: `from noburn_sdk.openai import OpenAI, AsyncOpenAI` instead of `from openai import …`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import openai as _openai

from noburn_sdk.integrations.openai import gated, gated_async
from noburn_sdk.integrations.openai.site import OpenAISite

_site = OpenAISite()

if TYPE_CHECKING:
    from openai import AsyncAzureOpenAI, AsyncOpenAI, AzureOpenAI, OpenAI
else:

    class OpenAI(_openai.OpenAI):
        """`openai.OpenAI`, each of whose attempts passes the gate."""

        _send_request = gated(_openai.OpenAI._send_request, _site)

    class AsyncOpenAI(_openai.AsyncOpenAI):
        """`openai.AsyncOpenAI`, each of whose attempts passes the gate."""

        _send_request = gated_async(_openai.AsyncOpenAI._send_request, _site)

    class AzureOpenAI(_openai.AzureOpenAI):
        """`openai.AzureOpenAI`, each of whose attempts passes the gate."""

        _send_request = gated(_openai.AzureOpenAI._send_request, _site)

    class AsyncAzureOpenAI(_openai.AsyncAzureOpenAI):
        """`openai.AsyncAzureOpenAI`, each of whose attempts passes the gate."""

        _send_request = gated_async(_openai.AsyncAzureOpenAI._send_request, _site)


def __getattr__(name: str) -> Any:
    return getattr(_openai, name)


__all__ = ["AsyncAzureOpenAI", "AsyncOpenAI", "AzureOpenAI", "OpenAI"]
