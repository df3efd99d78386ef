"""Requests to OpenAI's Chat Completions, Embeddings and Completions, and to whatever speaks like them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from noburn_sdk import _ranks
from noburn_sdk.estimate.images import image_tokens, page_tokens
from noburn_sdk.estimate.media import Blob, Data, audio_ms, data_url, pdf_pages, pixels
from noburn_sdk.estimate.schemas import JSON_OBJECT_FRAME, add_functions, add_schema
from noburn_sdk.estimate.tally import Tally, plain, quoted, written

MESSAGE_FRAME, NAME_FRAME, CHAT_FRAME = 3, 1, 3
"""OpenAI's cookbook: 3 a message beside its role and text, 1 beside a name, 3 to prime the answer."""
CHANNEL_FRAME, INSTRUCTION_FRAME, CHANNELS_FRAME = 6, 12, 16
"""Models that answer in channels: what a message, an instruction and a request take beyond that at most."""
OPEN_FRAME, OTHER_FRAME, OTHER_MESSAGE_FRAME = 256, 512, 16
"""Open models: their chat templates begin with a preamble of their own, and frame messages by a few tokens."""
CLAUDE_FRAME, CLAUDE_TURN_FRAME, BLOCK_FRAME = 12, 5, 4
GEMINI_FRAME, GEMINI_TURN_FRAME = 16, 8
CALL_FRAME = 24
"""Around a call of a function in the history, within the wrapper for several calls."""
FORCED_FRAME = 8

PAGE_TEXT_TOKENS = 3_000
"""The text of a page: the most that Anthropic's guide names for a dense one."""
PAGES_MAX = 1_000
"""The longest PDF that a provider takes."""
AUDIO_A_SECOND = 10
AUDIO_A_SECOND_MAX = 32
"""Tokens: OpenAI's hear 10 a second, Gemini 32, which is the most of any."""
AUDIO_FRAME = 16

ROLES = frozenset({"system", "user", "assistant", "tool", "developer", "function"})
"""One token each in both ranks."""
_SEARCHES = ("web_search_options", "search_parameters", "plugins")
"""Where OpenAI, xAI and OpenRouter are told to search."""
USES_ASSUMED = 10
"""Uses of a provider's own tool in one call, where the request sets no limit."""


def chat(tally: Tally, body: Mapping[str, Any]) -> None:
    """Adds a Chat Completions body."""
    frame = tally.family.frame
    for message in body.get("messages") or ():
        _message(tally, plain(message))
    add_chat_frame(tally)
    functions = []
    for tool in body.get("tools") or ():
        found = plain(tool)
        if found.get("type", "function") == "function" and isinstance(found.get("function"), Mapping):
            functions.append(found["function"])
        else:
            tally.json("tools", found, CALL_FRAME)
    add_functions(tally, functions, parallel=body.get("parallel_tool_calls") is not False)
    older = [plain(one) for one in body.get("functions") or ()]
    add_functions(tally, older, parallel=False)
    if (functions or older) and frame not in ("published", "channels"):
        add_foreign_tools(tally)
    for choice in (body.get("tool_choice"), body.get("function_call")):
        if isinstance(choice, Mapping):
            tally.json("tools", choice, FORCED_FRAME)
        elif choice not in (None, "auto"):
            tally.add("tools", FORCED_FRAME, "measured")
    _response_format(tally, body.get("response_format"))
    modalities = body.get("modalities")
    tally.audio |= isinstance(modalities, list | tuple) and "audio" in modalities
    if any(body.get(name) for name in _SEARCHES) or "-search" in tally.family.name:
        tally.unknown("what a web search finds")
        tally.tools["web_search"] = USES_ASSUMED


def add_chat_frame(tally: Tally) -> None:
    """Adds what surrounds the whole of a chat."""
    match tally.family.frame:
        case "published":
            tally.add("frame", CHAT_FRAME, "exact")
        case "channels":
            tally.add("frame", CHAT_FRAME + CHANNELS_FRAME, "maximum")
        case "open":
            tally.add("frame", OPEN_FRAME, "maximum")
        case "claude":
            tally.add("frame", CLAUDE_FRAME - CLAUDE_TURN_FRAME, "measured")
        case "gemini":
            tally.add("frame", GEMINI_FRAME, "maximum")
        case _:
            tally.add("frame", OTHER_FRAME, "maximum", "a chat template that is not known")


def add_message_frame(tally: Tally, role: str) -> None:
    """Adds what surrounds one message, its role included."""
    own = 1 if role in ROLES else _ranks.utf8_bytes(role)
    match tally.family.frame:
        case "published":
            tally.add("frame", MESSAGE_FRAME + own, "exact")
        case "channels":
            more = INSTRUCTION_FRAME if role in ("system", "developer") else CHANNEL_FRAME
            tally.add("frame", MESSAGE_FRAME + own + (0 if role == "user" else more), "maximum")
        case "claude":
            tally.add("frame", CLAUDE_TURN_FRAME, "measured")
        case "gemini":
            tally.add("frame", GEMINI_TURN_FRAME, "maximum")
        case _:
            tally.add("frame", OTHER_MESSAGE_FRAME + own, "maximum")


def add_foreign_tools(tally: Tally) -> None:
    """Adds the hidden instruction on how to use tools, where the model is not one of OpenAI's."""
    if tally.family.vendor == "anthropic":
        tally.add("tools", 1_000 if tally.family.late else 530, "maximum")
    else:
        tally.add("tools", 512, "maximum")


def _message(tally: Tally, message: Mapping[str, Any]) -> None:
    role = written(message.get("role") or "user")
    add_message_frame(tally, role)
    for name, value in message.items():
        if value is None or name == "role":
            continue
        if name == "content":
            content(tally, value)
        elif name == "name":
            tally.add("frame", NAME_FRAME, "exact")
            tally.text("text", value)
        elif name == "tool_calls":
            for call in value:
                _call(tally, plain(call))
        elif name == "function_call":
            _call(tally, {"function": plain(value)})
        elif name == "tool_call_id":
            tally.add("calls", CALL_FRAME, "measured")
            tally.text("calls", value)
        elif name in ("reasoning_content", "reasoning", "refusal"):
            tally.text("text", value)
        elif name == "audio":
            tally.unknown("audio of an earlier answer", media=True)
        elif name not in ("annotations", "weight"):
            tally.json("text", value)


def _call(tally: Tally, call: Mapping[str, Any]) -> None:
    function: Any = plain(call.get("function") or call.get("custom")) or {}
    tally.add("calls", CALL_FRAME, "measured")
    tally.text("calls", call.get("id"))
    tally.text("calls", function.get("name"))
    tally.text("calls", function.get("arguments") or function.get("input"))


def content(tally: Tally, value: Any) -> None:
    """Adds a message's content: a text, or parts."""
    if isinstance(value, str):
        tally.text("text", value)
        return
    before = False
    for place, part in enumerate([value] if isinstance(value, Mapping) else value):
        found = plain(part)
        _part(tally, found)
        text = isinstance(found, str) or "text" in found
        # Nobody publishes what stands between two texts of one message.
        if place and (tally.family.frame != "published" or (text and before)):
            tally.add("frame", BLOCK_FRAME, "measured")
        before = text


def _part(tally: Tally, part: Any) -> None:
    if isinstance(part, str):
        tally.text("text", part)
        return
    image: Any
    sound: Any
    match part.get("type"):
        case "text" | "input_text" | "output_text" | "summary_text" | "reasoning_text":
            tally.text("text", part.get("text"))
        case "refusal":
            tally.text("text", part.get("refusal"))
        case "image_url" | "input_image":
            image = plain(part.get("image_url"))
            detail = part.get("detail")
            if isinstance(image, Mapping):
                image, detail = image.get("url"), image.get("detail", detail)
            add_image(tally, data_url(image), detail)
        case "input_audio":
            sound = plain(part.get("input_audio") or {})
            add_audio(tally, Data(written(sound.get("format") or ""), Blob(sound.get("data") or "")))
        case "file" | "input_file":
            file = plain(part.get("file") or part)
            add_file(tally, file, file.get("file_data"))
        case "image" | "document" | "tool_result" | "tool_use" | "thinking" | "redacted_thinking":
            from noburn_sdk.estimate.anthropic import block

            block(tally, part)
        case kind:
            tally.unknown(f"a part of type {quoted(kind)}", media=True)


def add_image(tally: Tally, data: Data | None, detail: Any = None) -> None:
    """Adds an image, given by its data or else by an address."""
    tally.images += 1
    size = None if data is None else pixels(data.blob)
    tokens, how = image_tokens(tally.family, size, detail if isinstance(detail, str) else None)
    tally.add("images", tokens, how, "" if size is not None else "of unknown size")


def add_audio(tally: Tally, data: Data) -> None:
    """Adds audio by its seconds, where its header or its size tells them."""
    tally.audio = True
    milliseconds = audio_ms(data.blob, data.media_type)
    if milliseconds is None:
        tally.add("audio", len(data.blob) + AUDIO_FRAME, "bytes", "of unknown length")
        return
    rate = AUDIO_A_SECOND if tally.family.vendor == "openai" else AUDIO_A_SECOND_MAX
    tally.add("audio", -(-milliseconds * rate // 1000) + AUDIO_FRAME, "measured")


def add_file(tally: Tally, file: Mapping[str, Any], value: Any) -> None:
    """Adds a file that came with the request; one that is only named is unknown."""
    tally.text("files", file.get("filename") or file.get("title"))
    if value is None:
        tally.unknown("a file that is not in the request", media=True)
        return
    data = data_url(value) or Data("application/pdf", Blob(value))
    if "pdf" in data.media_type or not data.media_type:
        add_pdf(tally, data.blob)
    elif data.media_type.startswith("image/"):
        add_image(tally, data)
    elif data.media_type.startswith("text/") or data.media_type in ("application/json", "application/xml"):
        tally.text("files", data.blob.read(0, len(data.blob)).decode("utf-8", "replace"))
    else:
        tally.unknown(f"the text of a {data.media_type} file", media=True)


def add_pdf(tally: Tally, blob: Blob) -> None:
    """Adds a PDF: each page is read as text and as an image."""
    pages = pdf_pages(blob)
    page = PAGE_TEXT_TOKENS * tally.family.percent // 100 + page_tokens(tally.family)
    tally.images += pages or PAGES_MAX
    if pages is None:
        tally.add("files", PAGES_MAX * page, "maximum", f"its pages cannot be counted: {PAGES_MAX}")
    else:
        tally.add("files", pages * page, "maximum", "a page of dense text")


def _response_format(tally: Tally, value: Any) -> None:
    wanted = plain(value)
    if not isinstance(wanted, Mapping):
        return
    if wanted.get("type") == "json_schema":
        inner = plain(wanted.get("json_schema") or {})
        add_schema(tally, inner.get("name"), inner.get("description"), inner.get("schema"))
    elif wanted.get("type") == "json_object":
        tally.add("schema", JSON_OBJECT_FRAME, "measured")
    elif wanted.get("type") != "text":
        tally.json("schema", wanted, JSON_OBJECT_FRAME)


def prompts(value: Any) -> list[Any]:
    """Returns the prompts of a request that takes one or many, as texts or as lists of tokens."""
    if value is None:
        return []
    if isinstance(value, str) or (isinstance(value, list | tuple) and value and type(value[0]) is int):
        return [value]
    return list(value)


def embeddings(tally: Tally, body: Mapping[str, Any]) -> None:
    """Adds an Embeddings body: its texts, or tokens that were counted already."""
    for prompt in prompts(body.get("input")):
        if isinstance(prompt, str):
            tally.text("text", prompt)
        elif isinstance(prompt, Mapping):
            content(tally, [prompt])
        else:
            tally.add("text", len(prompt), "exact")
        if tally.family.vendor != "openai":
            # Open models begin and end a text by tokens of their own, and some models prefix a task.
            tally.add("frame", OTHER_MESSAGE_FRAME, "maximum")


def completions(tally: Tally, body: Mapping[str, Any]) -> None:
    """Adds a Completions body; a `suffix` is part of the prompt."""
    many = prompts(body.get("prompt")) or [""]
    for prompt in many:
        tally.add("frame", 1 if tally.family.vendor == "openai" else OTHER_MESSAGE_FRAME, "measured")
        if isinstance(prompt, str):
            tally.text("text", prompt)
        else:
            tally.add("text", len(prompt), "exact")
        tally.text("text", body.get("suffix"))
