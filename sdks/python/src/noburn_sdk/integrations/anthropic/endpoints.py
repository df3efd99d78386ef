"""Anthropic's endpoints: which cost something, and what bounds them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from noburn_sdk import usage as usages
from noburn_sdk.gate.endpoints import Asked, Endpoint
from noburn_sdk.integrations.anthropic.meters import MessagesMeter

MESSAGES = Endpoint(
    "anthropic.messages",
    "chat",
    api="anthropic.messages",
    read=usages.from_anthropic,
    meter=lambda model, live: MessagesMeter(model, live=live),
)
BATCHES = Endpoint(
    "anthropic.batches",
    "chat",
    why="each request of a batch is a call of its own, billed when it is done; gate them before you hand them in "
    "(noburn_sdk.estimate, batch=True), or bound the batch as a whole",
)
OTHER = Endpoint("anthropic.other", "chat", why="it is no endpoint whose cost noburn knows")

_FREE = re.compile(
    r"/v1/(?:messages/count_tokens|messages/batches/[^/]+/cancel|files|skills(?:/.*)?|organizations?(?:/.*)?"
    r"|models(?:/.*)?|user_profiles(?:/.*)?|environments(?:/.*)?|agents(?:/.*)?|vaults(?:/.*)?"
    r"|memory_stores(?:/.*)?)$"
)
"""What is not billed as a call. Any other POST is, as far as is known here."""


def endpoint_of(address: str) -> Endpoint | None:
    """Returns what a POST to this address is; None where it is not billed."""
    path = address.partition("?")[0].rstrip("/")
    if path.endswith("/messages"):
        return MESSAGES
    if path.endswith("/messages/batches"):
        return BATCHES
    return None if _FREE.search(path) else OTHER


def asked_for(address: str, body: Mapping[str, Any], **known: Any) -> Asked | None:
    """Returns what a POST asks for; None for one that costs nothing. `known` are further fields of `Asked`."""
    endpoint = endpoint_of(address)
    if endpoint is None:
        return None
    model = body.get("model")
    return Asked(
        endpoint,
        model if isinstance(model, str) and model else endpoint.name,
        body,
        stream=bool(body.get("stream")),
        **known,
    )
