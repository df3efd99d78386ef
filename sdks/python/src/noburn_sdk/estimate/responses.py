"""Requests to OpenAI's Responses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from noburn_sdk.estimate.media import data_url
from noburn_sdk.estimate.openai import (
    CALL_FRAME,
    FORCED_FRAME,
    USES_ASSUMED,
    add_chat_frame,
    add_file,
    add_foreign_tools,
    add_image,
    add_message_frame,
    content,
)
from noburn_sdk.estimate.schemas import JSON_OBJECT_FRAME, add_functions, add_schema
from noburn_sdk.estimate.tally import Tally, plain, quoted, written

CLIENT_TOOL_TOKENS = 1_500
"""The hidden description of a tool that the caller runs: shell, patch, computer."""

_STORED = {
    "previous_response_id": "an earlier response",
    "conversation": "a stored conversation",
    "prompt": "a stored prompt",
}
_HOSTED = {
    "web_search": "web_search",
    "file_search": "file_search",
    "code_interpreter": "code_execution",
    "image_generation": "image_generation",
}
_FREE = ("mcp", "tool_search", "namespace")
"""What costs tokens and nothing else."""
_CLIENT = ("computer", "local_shell", "shell", "apply_patch")


def responses(tally: Tally, body: Mapping[str, Any]) -> None:
    """Adds a Responses body."""
    for name, what in _STORED.items():
        if body.get(name):
            tally.unknown(what, media=True)
    if body.get("instructions"):
        add_message_frame(tally, "developer")
        tally.text("text", body["instructions"])
    given = body.get("input")
    if isinstance(given, str):
        add_message_frame(tally, "user")
        tally.text("text", given)
    else:
        for item in given or ():
            _item(tally, plain(item))
    add_chat_frame(tally)
    _tools(tally, body)
    text = plain(body.get("text") or {})
    wanted = plain(text.get("format") or {}) if isinstance(text, Mapping) else {}
    if wanted.get("type") == "json_schema":
        add_schema(tally, wanted.get("name"), wanted.get("description"), wanted.get("schema"))
    elif wanted.get("type") == "json_object":
        tally.add("schema", JSON_OBJECT_FRAME, "measured")


def _item(tally: Tally, item: Any) -> None:
    if isinstance(item, str):
        add_message_frame(tally, "user")
        tally.text("text", item)
        return
    kind = item.get("type") or ("message" if "role" in item else None)
    if kind == "message":
        add_message_frame(tally, written(item.get("role") or "user"))
        content(tally, item.get("content") or ())
        return
    add_message_frame(tally, "tool")
    tally.add("calls", CALL_FRAME, "measured")
    match kind:
        case "function_call" | "custom_tool_call":
            for name in ("call_id", "name", "arguments", "input"):
                tally.text("calls", item.get(name))
        case "function_call_output" | "custom_tool_call_output":
            tally.text("calls", item.get("call_id"))
            content(tally, item.get("output") or ())
        case "reasoning":
            # What was encrypted is shorter than its base64.
            tally.add("text", len(item.get("encrypted_content") or ""), "bytes", "encrypted reasoning")
            content(tally, item.get("summary") or ())
            content(tally, item.get("content") or ())
            if not (item.get("encrypted_content") or item.get("content")):
                tally.unknown("stored reasoning")
        case "computer_call_output":
            output = plain(item.get("output") or {})
            add_image(tally, data_url(output.get("image_url")), "original")
        case "image_generation_call":
            add_image(
                tally, data_url("data:image/png;base64," + written(item.get("result") or "")), "original"
            )
        case (
            "computer_call"
            | "local_shell_call"
            | "local_shell_call_output"
            | "shell_call"
            | "shell_call_output"
            | "apply_patch_call"
            | "apply_patch_call_output"
            | "web_search_call"
            | "file_search_call"
            | "code_interpreter_call"
            | "mcp_call"
            | "mcp_list_tools"
            | "mcp_approval_request"
            | "mcp_approval_response"
        ):
            tally.json("calls", item)
            if kind in ("web_search_call", "file_search_call") and not item.get("results"):
                tally.unknown("the results of an earlier search")
        case "input_file":
            add_file(tally, item, item.get("file_data"))
        case _:
            tally.unknown(f"an item of type {quoted(kind)}", media=True)


def _tools(tally: Tally, body: Mapping[str, Any]) -> None:
    functions = []
    limit = body.get("max_tool_calls")
    limit = limit if type(limit) is int and limit > 0 else None
    uses = limit or USES_ASSUMED
    for tool in body.get("tools") or ():
        found = plain(tool)
        kind = written(found.get("type") or "function")
        if kind == "function":
            functions.append(found)
        elif kind == "custom":
            tally.json("tools", found, CALL_FRAME)
        elif kind.startswith(_CLIENT):
            tally.add("tools", CLIENT_TOOL_TOKENS, "maximum")
            tally.json("tools", found)
        else:
            name = next((own for start, own in _HOSTED.items() if kind.startswith(start)), kind)
            tally.unknown(f"what the tool {quoted(kind)} finds")
            tally.json("tools", found)
            if not kind.startswith(_FREE):
                tally.tools[name] = uses
            # The request's limit is for all tools together.
            tally.rounds = limit + 1 if limit else tally.rounds + uses
            if name == "image_generation":
                tally.images += 1
    add_functions(
        tally,
        [{key: one.get(key) for key in ("name", "description", "parameters")} for one in functions],
        parallel=body.get("parallel_tool_calls") is not False,
    )
    if functions and tally.family.vendor != "openai":
        add_foreign_tools(tally)
    choice = body.get("tool_choice")
    if isinstance(choice, Mapping):
        tally.json("tools", choice, FORCED_FRAME)
    elif choice not in (None, "auto"):
        tally.add("tools", FORCED_FRAME, "measured")
