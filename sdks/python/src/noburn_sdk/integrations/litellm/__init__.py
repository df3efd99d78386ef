"""LiteLLM: every attempt of its functions passes the gate, whichever provider it goes to.

LiteLLM's hooks cannot stop a call, and its names are imported everywhere. What is gated is therefore the
function inside its decorator, which everything reaches: names imported long ago, its own retries, fallbacks,
Router, and the asynchronous forms. Its transport tells when that function sends again by itself.
"""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Callable
from functools import partial
from typing import Any, NoReturn

from noburn_sdk._config import logger
from noburn_sdk.errors import InvalidRequestError
from noburn_sdk.integrations.litellm import requests
from noburn_sdk.integrations.litellm.attempts import gated_httpx_async, gated_httpx_sync
from noburn_sdk.integrations.litellm.functions import gated, telling, telling_async
from noburn_sdk.integrations.litellm.requests import Kind
from noburn_sdk.integrations.patching import Patches

_GATED = (
    ("litellm.main", "completion", requests.CHAT),
    ("litellm.main", "embedding", requests.EMBEDDINGS),
    ("litellm.responses.main", "responses", requests.RESPONSES),
)
"""The synchronous functions, in which the asynchronous ones end."""

_TELLING: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("litellm.main", ("acompletion", "aembedding", "text_completion", "atext_completion")),
    ("litellm.responses.main", ("aresponses",)),
)
"""What calls those, and would turn a refusal into an error of the provider."""

_BARRED: tuple[tuple[str, tuple[str, ...], Kind], ...] = (
    ("litellm.images.main", ("image_generation", "image_edit", "image_variation"), requests.IMAGES),
    ("litellm.images.main", ("aimage_generation", "aimage_edit", "aimage_variation"), requests.IMAGES),
    ("litellm.main", ("transcription", "atranscription"), requests.TRANSCRIPTIONS),
    ("litellm.main", ("speech", "aspeech"), requests.SPEECH),
    ("litellm.rerank_api.main", ("rerank", "arerank"), requests.OTHER),
    ("litellm.batches.main", ("create_batch", "acreate_batch"), requests.BATCHES),
    ("litellm.responses.main", ("compact_responses", "acompact_responses"), requests.OTHER),
    ("litellm.videos.main", ("video_generation", "avideo_generation"), requests.OTHER),
    ("litellm.google_genai.main", ("generate_content", "agenerate_content"), requests.OTHER),
    ("litellm.google_genai.main", ("generate_content_stream", "agenerate_content_stream"), requests.OTHER),
    ("litellm.llms.anthropic.pass_through.messages.handler", ("anthropic_messages",), requests.OTHER),
    ("litellm.realtime_api.main", ("_arealtime",), requests.OTHER),
    ("litellm.ocr.dispatch", ("ocr", "aocr"), requests.OTHER),
)
"""What nothing bounds: it needs `cost_usd`."""

_DEPTH_MAX = 8

_patches = Patches()
_cells: list[tuple[Any, Any]] = []


def instrument() -> None:
    """Gates LiteLLM's functions. Raises InvalidRequestError for a version that is built otherwise."""
    if _cells:
        return
    import httpx

    try:
        for module, name, kind in _GATED:
            _inside(module, name, partial(gated, kind=kind))
        for module, names in _TELLING:
            for name in names:
                _inside(module, name, _tells)
        for module, names, kind in _BARRED:
            for name in names:
                _inside(module, name, partial(gated, kind=kind), needed=False)
        _patches.add(httpx.Client, "send", gated_httpx_sync)
        _patches.add(httpx.AsyncClient, "send", gated_httpx_async)
    except BaseException:
        uninstrument()
        raise


def uninstrument() -> None:
    """Puts LiteLLM back as it was."""
    while _cells:
        cell, before = _cells.pop()
        cell.cell_contents = before
    _patches.undo()


def wrap(client: Any, **_: Any) -> NoReturn:
    """Raises InvalidRequestError: LiteLLM's calls are functions, which have no client to be wrapped."""
    message = f"is a {type(client).__qualname__}; gate LiteLLM, its Router included, with "
    message += "noburn_sdk.instrument('litellm'), and say whom calls are for with noburn_sdk.context(…)"
    raise InvalidRequestError("Cannot wrap", errors={"client": message})


def _tells(before: Callable[..., Any]) -> Callable[..., Any]:
    return telling_async(before) if asyncio.iscoroutinefunction(before) else telling(before)


def _inside(
    module: str, name: str, make: Callable[[Callable[..., Any]], Callable[..., Any]], *, needed: bool = True
) -> None:
    """Puts `make(function)` in the place of the function that LiteLLM's decorator closes over."""
    try:
        owner = importlib.import_module(module)
    except ImportError:
        owner = None
    found = getattr(owner, name, None)
    cell = _cell(found)
    if cell is not None:
        before = cell.cell_contents
        cell.cell_contents = make(before)
        _cells.append((cell, before))
    elif needed:
        raise InvalidRequestError(
            "Cannot instrument",
            errors={"litellm": f"this version's {module}.{name} is built in a way that is not known"},
        )
    elif callable(found):
        # No decorator: the name itself is replaced, where it is defined and where it is offered.
        made = make(found)
        import litellm

        for place in (owner, litellm):
            if getattr(place, name, None) is found:
                _patches.add(place, name, partial(_put, made))
    else:
        logger.debug("litellm has no %s.%s", module, name)


def _put(made: Callable[..., Any], _: Any) -> Callable[..., Any]:
    return made


def _cell(function: Any) -> Any:
    for _ in range(_DEPTH_MAX):
        code = getattr(function, "__code__", None)
        if code is not None and "original_function" in code.co_freevars:
            return function.__closure__[code.co_freevars.index("original_function")]
        function = getattr(function, "__wrapped__", None)
        if function is None:
            return None
    return None
