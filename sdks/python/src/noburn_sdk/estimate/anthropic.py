"""Requests to Anthropic's Messages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from noburn_sdk.estimate.media import Blob, Data
from noburn_sdk.estimate.openai import (
    BLOCK_FRAME,
    CALL_FRAME,
    CLAUDE_FRAME,
    CLAUDE_TURN_FRAME,
    USES_ASSUMED,
    add_foreign_tools,
    add_image,
    add_pdf,
)
from noburn_sdk.estimate.schemas import SCHEMA_FRAME
from noburn_sdk.estimate.tally import Tally, plain, quoted, written

TOOL_FRAME = 16
CITATIONS_TOKENS = 1_024
"""The hidden instruction on how to cite."""
OWN_TOOL_TOKENS = {"bash": 512, "text_editor": 1_024, "computer": 2_048, "memory": 2_048}
"""Tools that Anthropic defines and the caller runs: above what its guides name for each (245, 700, 735)."""

_HOSTED = ("web_search", "web_fetch", "code_execution", "tool_search", "advisor", "mcp")
_FREE = ("web_fetch", "tool_search", "mcp")
"""What costs tokens and nothing else."""


def messages(tally: Tally, body: Mapping[str, Any]) -> None:
    """Adds a Messages body, in the order in which prompt caching sees it: tools, system, messages."""
    _tools(tally, body)
    config = plain(body.get("output_config") or {})
    # A schema is explained to the model ahead of everything said.
    for wanted in (plain(body.get("output_format")), plain(config.get("format"))):
        if isinstance(wanted, Mapping):
            tally.json("schema", wanted, SCHEMA_FRAME)
    system = body.get("system")
    if isinstance(system, str):
        tally.text("text", system)
    else:
        _blocks(tally, system or ())
    if body.get("thinking"):
        tally.add("frame", 64, "maximum", "thinking")
    tally.add("frame", CLAUDE_FRAME - CLAUDE_TURN_FRAME, "measured")
    for message in body.get("messages") or ():
        tally.add("frame", CLAUDE_TURN_FRAME, "measured")
        content = plain(message).get("content")
        if isinstance(content, str):
            tally.text("text", content)
        else:
            _blocks(tally, content or ())
    for name in ("container", "mcp_servers"):
        if body.get(name):
            tally.unknown(f"what {quoted(name)} brings")
    if body.get("cache_control"):
        tally.mark()
    if (dearer := dearer_tier(body)) is not None:
        tally.warnings.append(f"{dearer}: without a price of its own, bounded by 2.5 times the dearest")


def dearer_tier(body: Mapping[str, Any]) -> str | None:
    """Returns the name of the prices that a faster speed or a region is billed by."""
    speed, region = body.get("speed"), body.get("inference_geo")
    if isinstance(speed, str) and speed != "standard":
        return speed
    if isinstance(region, str) and region not in ("global", "not_available"):
        return f"inference_geo:{region}"
    return None


def _blocks(tally: Tally, blocks: Any) -> None:
    for place, one in enumerate(blocks):
        found = plain(one)
        if place:
            tally.add("frame", BLOCK_FRAME, "measured")
        if isinstance(found, str):
            tally.text("text", found)
            continue
        block(tally, found)
        if found.get("cache_control"):
            tally.mark()


def block(tally: Tally, found: Mapping[str, Any]) -> None:
    """Adds one content block."""
    match found.get("type"):
        case "text":
            tally.text("text", found.get("text"))
            if found.get("citations"):
                tally.json("text", found["citations"])
        case "image":
            _source(tally, found.get("source"), image=True)
        case "document":
            tally.text("files", found.get("title"))
            tally.text("files", found.get("context"))
            if plain(found.get("citations") or {}).get("enabled"):
                tally.add("files", CITATIONS_TOKENS, "maximum", "citations")
            _source(tally, found.get("source"), image=False)
        case "search_result":
            tally.text("files", found.get("title"))
            tally.text("files", found.get("source"))
            tally.add("files", CITATIONS_TOKENS, "maximum", "citations")
            _blocks(tally, found.get("content") or ())
        case "tool_use" | "server_tool_use" | "mcp_tool_use":
            tally.text("calls", found.get("id"))
            tally.text("calls", found.get("name"))
            tally.json("calls", found.get("input") or {}, CALL_FRAME)
        case "tool_result":
            tally.add("calls", CALL_FRAME, "measured")
            tally.text("calls", found.get("tool_use_id"))
            inner = found.get("content")
            if isinstance(inner, str):
                tally.text("text", inner)
            else:
                _blocks(tally, inner or ())
        case "thinking":
            tally.text("text", found.get("thinking"))
            # The signature carries the whole of what was thought, of which `thinking` may be a summary.
            tally.add("text", len(written(found.get("signature") or "")), "bytes", "encrypted thinking")
        case "redacted_thinking":
            tally.add("text", len(written(found.get("data") or "")), "bytes", "encrypted thinking")
        case (
            "web_search_tool_result" | "web_fetch_tool_result" | "mcp_tool_result" | "tool_search_tool_result"
        ):
            # Encrypted contents come as base64, which is longer than what it stands for.
            tally.json("calls", found, CALL_FRAME)
        case "code_execution_tool_result" | "bash_code_execution_tool_result":
            tally.json("calls", found, CALL_FRAME)
        case kind:
            tally.unknown(f"a block of type {quoted(kind)}", media=True)


def _source(tally: Tally, value: Any, *, image: bool) -> None:
    source = plain(value or {})
    kind, data = source.get("type"), source.get("data")
    if kind == "base64" and isinstance(data, str | bytes):
        if image:
            add_image(tally, Data(written(source.get("media_type") or ""), Blob(data)))
        else:
            add_pdf(tally, Blob(data))
    elif image:
        add_image(tally, None)
    elif kind == "text":
        tally.text("files", data)
    elif kind == "content":
        inner = source.get("content")
        _blocks(tally, [{"type": "text", "text": inner}] if isinstance(inner, str) else inner or ())
    else:
        tally.unknown("a document that is not in the request", media=True)


def _tools(tally: Tally, body: Mapping[str, Any]) -> None:
    tools = [plain(tool) for tool in body.get("tools") or ()]
    if not tools:
        return
    add_foreign_tools(tally)
    for tool in tools:
        kind = written(tool.get("type") or "custom")
        own = next((tokens for name, tokens in OWN_TOOL_TOKENS.items() if kind.startswith(name)), None)
        if kind.startswith(_HOSTED):
            limit = tool.get("max_uses")
            uses = limit if type(limit) is int and limit > 0 else USES_ASSUMED
            name = next(name for name in _HOSTED if kind.startswith(name))
            tally.unknown(f"what the tool {quoted(name)} finds")
            if name not in _FREE:
                tally.tools[name] = tally.tools.get(name, 0) + uses
            tally.rounds += uses
        elif own is not None:
            tally.add("tools", own, "maximum")
        elif kind != "custom":
            tally.unknown(f"the tool of type {quoted(kind)}")
            tally.tools[kind] = USES_ASSUMED
        shown = {name: value for name, value in tool.items() if name != "cache_control"}
        tally.json("tools", shown, TOOL_FRAME)
        if tool.get("cache_control"):
            tally.mark()
    choice = plain(body.get("tool_choice"))
    if isinstance(choice, Mapping):
        tally.text("tools", choice.get("name"))
