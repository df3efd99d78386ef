"""Requests to Gemini's generateContent, in REST's names or in those of Google's Python client."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from noburn_sdk.estimate.media import Blob, Data
from noburn_sdk.estimate.openai import (
    CALL_FRAME,
    GEMINI_FRAME,
    GEMINI_TURN_FRAME,
    USES_ASSUMED,
    add_audio,
    add_image,
    add_pdf,
)
from noburn_sdk.estimate.schemas import SCHEMA_FRAME
from noburn_sdk.estimate.tally import Tally, plain, quoted, written

PART_FRAME = 2
TOOL_FRAME = 32
TOOLS_FRAME = 256
_HOSTED = {
    "google_search": "web_search",
    "google_search_retrieval": "web_search",
    "enterprise_web_search": "web_search",
    "google_maps": "google_maps",
    "retrieval": "retrieval",
    "url_context": None,
    "code_execution": None,
    "file_search": None,
    "computer_use": None,
    "mcp_servers": None,
}
"""Google's own tools, and the name of their fee; None where they cost tokens and nothing else."""


def get(value: Any, name: str) -> Any:
    """Reads a field by its name in snake case or in camel case."""
    if not isinstance(value, Mapping):
        return None
    if name in value:
        return value[name]
    head, *rest = name.split("_")
    return value.get(head + "".join(word.title() for word in rest))


def config_of(body: Mapping[str, Any]) -> Mapping[str, Any]:
    """Returns what configures the answer: `generationConfig`, or the Python client's `config`."""
    found = plain(get(body, "generation_config") or body.get("config") or {})
    return found if isinstance(found, Mapping) else {}


def generate_content(tally: Tally, body: Mapping[str, Any]) -> None:
    """Adds a generateContent body."""
    config = config_of(body)
    resolution = get(config, "media_resolution")
    tally.add("frame", GEMINI_FRAME, "maximum")
    if get(body, "cached_content") or get(config, "cached_content"):
        tally.unknown("cached content", media=True)
    for source in (body, config):
        system = get(source, "system_instruction")
        if system:
            _content(tally, plain(system), resolution)
    contents = plain(body.get("contents"))
    for one in contents if isinstance(contents, list | tuple) else (contents,):
        _content(tally, plain(one), resolution)
    for source in (body, config):
        for tool in get(source, "tools") or ():
            _tool(tally, plain(tool))
    for name in ("response_schema", "response_json_schema"):
        if get(config, name) is not None:
            tally.json("schema", plain(get(config, name)), SCHEMA_FRAME)
    modalities = {written(one).upper() for one in get(config, "response_modalities") or ()}
    tally.audio |= "AUDIO" in modalities
    if "IMAGE" in modalities or "-image" in tally.family.name:
        tally.images += 1


def _content(tally: Tally, value: Any, resolution: Any) -> None:
    if value is None:
        return
    tally.add("frame", GEMINI_TURN_FRAME, "maximum")
    if isinstance(value, str):
        tally.text("text", value)
        return
    parts = plain(value.get("parts")) if "parts" in value else [value]
    for part in [parts] if isinstance(parts, str | Mapping) else parts or ():
        tally.add("frame", PART_FRAME, "maximum")
        _part(tally, plain(part), resolution)


def _part(tally: Tally, part: Any, resolution: Any) -> None:
    if isinstance(part, str):
        tally.text("text", part)
        return
    seen = False
    if part.get("text") is not None:
        tally.text("text", part["text"])
        seen = True
    signature = get(part, "thought_signature")
    if signature:
        tally.add("text", len(signature), "bytes", "encrypted thinking")
        seen = True
    own = get(part, "media_resolution")
    level = get(plain(own), "level") if isinstance(plain(own), Mapping) else own
    inline = plain(get(part, "inline_data"))
    if isinstance(inline, Mapping):
        kind = written(get(inline, "mime_type") or "")
        _data(tally, Data(kind.lower(), Blob(inline.get("data") or "")), level or resolution)
        seen = True
    named = plain(get(part, "file_data"))
    if isinstance(named, Mapping):
        kind = written(get(named, "mime_type") or "")
        if kind.startswith("image/"):
            add_image(tally, None, level or resolution)
        else:
            tally.audio |= not kind or kind.startswith(("audio/", "video/"))
            tally.images += not kind or kind.startswith("video/")
            tally.unknown("a file that is not in the request")
        seen = True
    for name in ("function_call", "function_response", "executable_code", "code_execution_result"):
        value = plain(get(part, name))
        if value is not None:
            tally.json("calls", value, CALL_FRAME)
            seen = True
    if not seen:
        tally.unknown("a part of a kind that is not known", media=True)


def _data(tally: Tally, data: Data, level: Any) -> None:
    kind = data.media_type
    if kind.startswith("image/"):
        add_image(tally, data, level)
    elif kind.startswith("audio/"):
        add_audio(tally, data)
    elif "pdf" in kind:
        add_pdf(tally, data.blob)
    elif kind.startswith("text/") or kind == "application/json":
        tally.text("files", data.blob.read(0, len(data.blob)).decode("utf-8", "replace"))
    else:
        tally.images += 1
        tally.audio = True
        tally.unknown(f"a file of type {quoted(kind)}")


def _tool(tally: Tally, tool: Any) -> None:
    declarations = get(tool, "function_declarations") or ()
    if declarations:
        tally.add("tools", TOOLS_FRAME, "maximum")
    for one in declarations:
        tally.json("tools", plain(one), TOOL_FRAME)
    for name, fee in _HOSTED.items():
        if get(tool, name) is not None:
            tally.unknown(f"what the tool {quoted(name)} finds")
            if fee is not None:
                tally.tools[fee] = tally.tools.get(fee, 0) + USES_ASSUMED
            tally.rounds += USES_ASSUMED
