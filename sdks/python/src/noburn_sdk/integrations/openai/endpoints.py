"""OpenAI's endpoints: which cost something, what bounds them, and how their answers tell what was used."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from noburn_sdk import usage as usages
from noburn_sdk.errors import InvalidRequestError
from noburn_sdk.gate.endpoints import Endpoint
from noburn_sdk.integrations.openai.meters import ChatMeter, ResponsesMeter
from noburn_sdk.usage import Usage, read


def _read_image(value: Any) -> Usage:
    """Reads an answer with images, whose tokens are counted apart from those of text."""
    used = read(value, "usage")
    if not isinstance(read(used, "input_tokens"), int):
        raise InvalidRequestError("The answer carries no usage", errors={"usage": "is missing"})
    units = {}
    for way in ("input", "output"):
        count = read(read(used, f"{way}_tokens_details"), "image_tokens")
        if isinstance(count, int) and count:
            units[f"{way}_image_tokens"] = count
    return Usage(read(used, "input_tokens"), read(used, "output_tokens") or 0, units=units)


def _read_transcription(value: Any) -> Usage:
    """Reads a transcription, which is billed by tokens or by seconds."""
    used = read(value, "usage")
    seconds = read(used, "seconds")
    if isinstance(seconds, int | float):
        return Usage(units={"audio_seconds": -int(-seconds // 1)})
    if not isinstance(read(used, "input_tokens"), int):
        raise InvalidRequestError("The answer carries no usage", errors={"usage": "is missing"})
    audio = read(read(used, "input_token_details"), "audio_tokens")
    return Usage(
        read(used, "input_tokens"),
        read(used, "output_tokens") or 0,
        audio_input_tokens=audio if isinstance(audio, int) else 0,
    )


CHAT = Endpoint(
    "openai.chat",
    "chat",
    api="openai.chat",
    read=usages.from_openai_chat,
    meter=lambda model, live: ChatMeter(model, live=live),
)
COMPLETIONS = replace(CHAT, name="openai.completions", operation="text_completion", api="openai.completions")
RESPONSES = Endpoint(
    "openai.responses",
    "chat",
    api="openai.responses",
    read=usages.from_openai_responses,
    meter=lambda model, live: ResponsesMeter(model, live=live),
)
EMBEDDINGS = Endpoint("openai.embeddings", "embeddings", api="openai.embeddings", read=usages.from_embeddings)
IMAGES = Endpoint(
    "openai.images",
    "generate_content",
    read=_read_image,
    why="what an image costs depends on its size and quality, and on the model",
)
TRANSCRIPTIONS = Endpoint(
    "openai.transcriptions",
    "generate_content",
    read=_read_transcription,
    why="what hearing costs depends on how long the audio is",
)
SPEECH = Endpoint(
    "openai.speech",
    "generate_content",
    why="what speaking costs depends on how long the audio becomes, and the answer never says",
)
BATCHES = Endpoint(
    "openai.batches",
    "chat",
    why="what a batch costs stands in its uploaded file, and each line of it is a call of its own; gate the lines "
    "before you upload them (noburn_sdk.estimate, batch=True), or bound the batch as a whole",
)
REALTIME = Endpoint(
    "openai.realtime", "chat", why="a session is made of calls over a socket, which pass no gate"
)
OTHER = Endpoint("openai.other", "chat", why="it is no endpoint whose cost noburn knows")

_GATED = (
    (re.compile(r"/chat/completions$"), CHAT),
    (re.compile(r"/responses(?:/compact)?$"), RESPONSES),
    (re.compile(r"/embeddings$"), EMBEDDINGS),
    (re.compile(r"/completions$"), COMPLETIONS),
    (re.compile(r"/images/(?:generations|edits|variations)$"), IMAGES),
    (re.compile(r"/audio/(?:transcriptions|translations)$"), TRANSCRIPTIONS),
    (re.compile(r"/audio/speech$"), SPEECH),
    (re.compile(r"/batches$"), BATCHES),
    (re.compile(r"/(?:realtime|live)(?:/.*)?$"), REALTIME),
)

_FREE = re.compile(
    r"/(?:files|uploads(?:/.*)?|vector_stores(?:/.*)?|moderations|models(?:/.*)?|conversations(?:/.*)?"
    r"|responses/input_tokens|chat/completions/[^/]+|(?:responses|batches|evals/[^/]+/runs)/[^/]+/cancel"
    r"|fine_tuning/(?:jobs/[^/]+/(?:cancel|pause|resume)|checkpoints/.*|alpha/graders/validate)"
    r"|organization/.*|projects/.*|webhooks(?:/.*)?|assistants(?:/[^/]+)?|threads(?:/[^/]+)?"
    r"|threads/[^/]+/messages(?:/[^/]+)?|threads/[^/]+/runs/[^/]+(?:/cancel)?|skills(?:/.*)?)$"
)
"""What is not billed as a call. Any other POST is, as far as is known here."""


def endpoint_of(path: str) -> Endpoint | None:
    """Returns what a POST to this path is; None where it is not billed."""
    for pattern, endpoint in _GATED:
        if pattern.search(path):
            return endpoint
    return None if _FREE.search(path) else OTHER


def with_usage(endpoint: Endpoint, body: Mapping[str, Any]) -> tuple[Endpoint, Mapping[str, Any]]:
    """Returns a streamed chat that tells its usage, and the endpoint that withholds what was not asked for."""
    options = body.get("stream_options")
    if endpoint.api not in ("openai.chat", "openai.completions") or not body.get("stream"):
        return endpoint, body
    if isinstance(options, Mapping) and options.get("include_usage"):
        return endpoint, body
    asked = {**(options if isinstance(options, Mapping) else {}), "include_usage": True}
    quiet = replace(endpoint, meter=lambda model, live: ChatMeter(model, live=live, strips=True))
    return quiet, {**body, "stream_options": asked}
