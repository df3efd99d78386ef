"""Requests to every API, drawn at random: of the forms that are documented, and spoiled in a place or two."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Iterator
from typing import Any

from hypothesis import strategies as st

from tests.estimates.test_bodies import messages, named
from tests.estimates.texts import anything, values
from tests.typescript.media import any_blob, blobs, urls

MODELS = (
    *(
        "gpt-4o",
        "gpt-4o-mini",
        "gpt-4",
        "gpt-4.1-nano",
        "gpt-4.1",
        "gpt-3.5-turbo",
        "chatgpt-4o-latest",
        "gpt-4-32k",
    ),
    *(
        "gpt-5",
        "gpt-5-mini",
        "gpt-5.1",
        "gpt-5.3",
        "gpt-5.4",
        "gpt-5.6",
        "gpt-5.2-nano",
        "o1",
        "o3",
        "o4-mini",
    ),
    *(
        "gpt-4o-search-preview",
        "gpt-oss-120b",
        "ft:gpt-4o-mini:acme",
        "azure/gpt-4o",
        "text-embedding-3-small",
    ),
    *("davinci-002", "codex-mini", "computer-use-preview", "claude-3-5-haiku-20241022", "claude-sonnet-4-6"),
    *(
        "us.anthropic.claude-opus-4-8-v1:0",
        "claude-opus-4-7",
        "claude",
        "openrouter/anthropic/claude-opus-4.7",
    ),
    *("gemini-2.5-flash", "gemini-3-pro-preview", "gemini-2.5-flash-image", "gemini-pro", "models/gemma-3"),
    *("llama-4", "somebody-elses-9b", "bge-m3"),
)

Values = st.SearchStrategy[Any]


def fields(required: dict[str, Values], /, **optional: Values) -> Values:
    """Objects with these fields, some of which may be missing."""
    return st.fixed_dictionaries(required, optional=optional)


def of_type(*kinds: str, **optional: Values) -> Values:
    """Objects of one of these types."""
    return fields({"type": st.sampled_from(kinds)}, **optional)


def some(inner: Values, most: int = 3) -> Values:
    """Lists of a few."""
    return st.lists(inner, max_size=most)


text = anything()
name = st.from_regex(r"[A-Za-z0-9_-]{1,12}", fullmatch=True)
counts = st.integers(-1, 300) | st.sampled_from((True, None, 4_096, 10**6, "7"))
details = st.sampled_from(("low", "high", "auto", "original", "MEDIA_RESOLUTION_LOW", "ultra_high", None))
marks = st.just({"type": "ephemeral"})

schemas = st.recursive(
    of_type("string", "number", "integer", "boolean", "null", "any", description=text, enum=some(values())),
    lambda inner: st.one_of(
        of_type(
            "object",
            description=text,
            properties=st.dictionaries(name, inner, max_size=3),
            required=some(name),
            additionalProperties=st.booleans() | inner,
        ),
        of_type("array", items=inner, title=text),
        fields(
            {"type": some(st.sampled_from(("object", "array", "string", "null", 5)))},
            items=inner,
            properties=st.dictionaries(name, inner, max_size=2),
        ),
        fields({}, anyOf=some(inner), oneOf=some(inner), allOf=some(inner)),
        fields({"properties": st.dictionaries(name, inner, max_size=2)}, minimum=st.integers(-9, 9)),
    ),
    max_leaves=6,
)
functions = named(text) | fields({"name": name}, description=text, parameters=schemas, strict=st.booleans())

anthropic_sources = st.one_of(
    blobs().map(lambda blob: {"type": "base64", "media_type": blob[0], "data": blob[1]}),
    fields({"type": st.just("url"), "url": urls()}),
    fields({"type": st.just("text"), "data": text}),
    fields({"type": st.just("content"), "content": text | some(of_type("text", text=text))}),
    of_type("file", file_id=name),
)
anthropic_blocks: Values = st.recursive(
    st.one_of(
        of_type("text", text=text, citations=some(values()), cache_control=marks),
        of_type("image", source=anthropic_sources, cache_control=marks),
        of_type(
            "document",
            source=anthropic_sources,
            title=text,
            context=text,
            citations=st.just({"enabled": True}) | values(),
            cache_control=marks,
        ),
        of_type("tool_use", "server_tool_use", "mcp_tool_use", id=name, name=name, input=values()),
        of_type("thinking", thinking=text, signature=any_blob()),
        of_type("redacted_thinking", data=any_blob()),
        of_type("web_search_tool_result", "mcp_tool_result", "code_execution_tool_result", content=values()),
        of_type("hologram", "container_upload"),
    ),
    lambda inner: of_type(
        "tool_result",
        "search_result",
        tool_use_id=name,
        title=text,
        source=text,
        content=text | some(inner),
        cache_control=marks,
    ),
    max_leaves=4,
)

parts = st.one_of(
    text,
    of_type("text", "input_text", "output_text", "summary_text", text=text),
    of_type("refusal", refusal=text),
    of_type("image_url", image_url=fields({"url": urls()}, detail=details), detail=details),
    of_type("input_image", image_url=urls(), detail=details),
    blobs().map(lambda blob: {"type": "input_audio", "input_audio": {"format": blob[0], "data": blob[1]}}),
    of_type("file", file=fields({}, file_data=urls() | any_blob(), filename=name, file_id=name)),
    of_type("input_file", file_data=urls() | any_blob(), filename=name),
    anthropic_blocks,
    of_type("video_url", "input_video"),
)
contents = text | some(parts) | st.none()
calls = of_type(
    "function", id=name, function=fields({}, name=name, arguments=text), custom=fields({}, input=text)
)
chat_messages = messages | some(
    fields(
        {"role": st.sampled_from(("user", "system", "developer", "assistant", "tool", "ролӭ"))},
        content=contents,
        name=name,
        tool_calls=some(calls),
        function_call=fields({"name": name}, arguments=text),
        tool_call_id=name,
        reasoning_content=text,
        refusal=text,
        audio=st.just({"id": "a"}),
        annotations=values(),
        extra=values(),
    )
)
choices = st.sampled_from(("auto", "none", "required")) | st.just(
    {"type": "function", "function": {"name": "f"}}
)
formats = st.one_of(
    of_type("text", "json_object", "grammar"),
    of_type("json_schema", json_schema=fields({"schema": schemas}, name=name, description=text)),
    of_type("json_schema", schema=schemas, name=name, description=text),
)
tiers = st.sampled_from(
    ("auto", "flex", "priority", "default", "standard_only", "batch", "", "turbo", None, 5)
)

chat = fields(
    {"messages": chat_messages},
    max_tokens=counts,
    max_completion_tokens=counts,
    n=counts,
    tools=some(of_type("function", "custom", function=functions) | fields({"function": functions})),
    functions=some(functions),
    parallel_tool_calls=st.booleans(),
    tool_choice=choices,
    function_call=choices,
    response_format=formats,
    modalities=some(st.sampled_from(("text", "audio"))),
    web_search_options=values(),
    service_tier=tiers,
    prediction=st.just({"type": "content", "content": "a prediction"}) | fields({"content": contents}),
)
items = st.one_of(
    text,
    fields({"role": st.sampled_from(("user", "developer"))}, type=st.just("message"), content=contents),
    of_type("function_call", "custom_tool_call", call_id=name, name=name, arguments=text, input=text),
    of_type("function_call_output", "custom_tool_call_output", call_id=name, output=contents),
    of_type(
        "reasoning",
        encrypted_content=any_blob(),
        summary=some(of_type("summary_text", text=text)),
        content=contents,
    ),
    of_type("computer_call_output", output=fields({"image_url": urls()})),
    of_type("image_generation_call", result=any_blob()),
    of_type(
        "web_search_call", "shell_call", "mcp_call", "file_search_call", action=values(), results=values()
    ),
    of_type("input_file", file_data=urls(), filename=name),
    of_type("item_reference", "hologram", id=name),
)
response_tools = st.one_of(
    st.builds(lambda one: {"type": "function", **one}, functions),
    of_type("custom", format=values()),
    of_type(
        "web_search", "web_search_preview_2025", "file_search", "code_interpreter", "image_generation", "mcp"
    ),
    of_type("computer_use_preview", "local_shell", "apply_patch", "tool_search", "__proto__", "hologram"),
)
responses = fields(
    {"input": text | some(items)},
    instructions=text,
    tools=some(response_tools),
    max_tool_calls=counts,
    tool_choice=choices,
    parallel_tool_calls=st.booleans(),
    text=fields({}, format=formats),
    max_output_tokens=counts,
    previous_response_id=name,
    conversation=name | st.just({"id": "c"}),
    prompt=st.just({"id": "p"}),
    service_tier=tiers,
)
prompts = text | some(text) | some(st.integers(0, 9)) | some(some(st.integers(0, 9)))
embeddings = fields({"input": prompts | some(parts)})
completions = fields(
    {"prompt": prompts}, suffix=text, max_tokens=counts, n=counts, best_of=counts, service_tier=tiers
)
anthropic_tools = st.one_of(
    fields({"name": name, "input_schema": schemas}, description=text, cache_control=marks),
    of_type(
        "web_search_20250305", "web_fetch_20250910", "code_execution_20250825", max_uses=counts, name=name
    ),
    of_type(
        "bash_20250124", "text_editor_20250728", "computer_20251124", "mcp_toolset", "hologram_1", name=name
    ),
)
turns = some(fields({"role": st.sampled_from(("user", "assistant"))}, content=text | some(anthropic_blocks)))
anthropic = fields(
    {"messages": turns},
    max_tokens=counts,
    system=text | some(anthropic_blocks),
    tools=some(anthropic_tools),
    tool_choice=of_type("tool", "auto", name=name),
    thinking=of_type("enabled", budget_tokens=counts),
    output_config=fields({}, format=formats),
    output_format=formats,
    container=name,
    mcp_servers=some(values()),
    cache_control=marks,
    speed=st.sampled_from(("fast", "standard", 1)),
    inference_geo=st.sampled_from(("us", "global", "not_available")),
    service_tier=tiers,
)


def either(one: str) -> Values:
    """A name in REST's spelling or in that of Google's Python client."""
    head, *rest = one.split("_")
    return st.sampled_from((one, head + "".join(word.title() for word in rest)))


def spelled(inner: dict[str, Values]) -> Values:
    """Objects with some of these fields, each in either spelling."""
    pairs = [st.tuples(either(one), found) for one, found in inner.items()]
    return st.lists(st.one_of(*pairs), max_size=4).map(dict)


def _inline(blob: tuple[str, str]) -> dict[str, str]:
    return {"mimeType": blob[0], "data": blob[1]}


gemini_parts = text | spelled(
    {
        "text": text,
        "thought_signature": any_blob(),
        "media_resolution": details | st.just({"level": "MEDIA_RESOLUTION_HIGH"}),
        "inline_data": blobs().map(_inline),
        "file_data": spelled(
            {"mime_type": st.sampled_from(("image/png", "video/mp4", "audio/wav", "text/plain"))}
        ),
        "function_call": values(),
        "function_response": values(),
        "executable_code": values(),
    }
)
gemini_contents = text | spelled({"parts": some(gemini_parts) | gemini_parts, "role": st.just("user")})
gemini_tools = spelled(
    {
        "function_declarations": some(functions),
        "google_search": st.just({}),
        "code_execution": st.just({}),
        "url_context": values(),
        "google_maps": values(),
    }
)
gemini_config = {
    "max_output_tokens": counts,
    "candidate_count": counts,
    "media_resolution": details,
    "response_schema": schemas,
    "response_modalities": some(st.sampled_from(("text", "Audio", "IMAGE"))),
    "system_instruction": gemini_contents,
    "tools": some(gemini_tools),
    "cached_content": name,
}
gemini = st.builds(
    lambda one, more: {**one, **more},
    fields({"contents": some(gemini_contents) | gemini_contents}, config=spelled(gemini_config)),
    spelled(
        {
            "generation_config": spelled(gemini_config),
            "system_instruction": gemini_contents,
            "tools": some(gemini_tools),
            "cached_content": name,
        }
    ),
)

BODIES: dict[str, Values] = {
    "openai.chat": chat,
    "openai.responses": responses,
    "openai.embeddings": embeddings,
    "openai.completions": completions,
    "anthropic.messages": anthropic,
    "gemini.generate_content": gemini,
}

UNITS = (
    *("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "cache_write_1h_tokens"),
    *("input_audio_tokens", "input_image_tokens", "output_audio_tokens", "output_reasoning_tokens", "images"),
    *("web_searches", "code_executions", "requests"),
)
prices = st.integers(0, 10**9)
tiered = st.tuples(prices, st.dictionaries(st.sampled_from((100, 5_000, 200_000)), prices, max_size=2)).map(
    lambda drawn: [[0, drawn[0]], *([start, price] for start, price in drawn[1].items())]
)
units = st.dictionaries(st.sampled_from(UNITS), tiered).map(lambda drawn: {"input_tokens": [[0, 7]], **drawn})
rates = fields(
    {
        "model": st.just("m"),
        "units": units,
        "variants": st.dictionaries(
            st.sampled_from(("batch", "flex", "priority", "fast")), units, max_size=2
        ),
        "context_window": st.sampled_from((None, 8_192, 5_000_000)),
    }
)
options = fields(
    {},
    limit=st.integers(0, 5_000) | st.just(10**7),
    max_output_tokens=st.integers(0, 5_000),
    max_input_tokens=st.integers(0, 5_000),
    context_window=st.integers(1, 20_000),
    batch=st.booleans(),
    rates=rates,
)


@st.composite
def cases(draw: Callable[[Values], Any]) -> dict[str, Any]:
    """A request, its API, what the caller passes beside it, whether there are ranks, and what was allowed."""
    api = draw(st.sampled_from(sorted(BODIES)))
    body = draw(BODIES[api])
    for _ in range(draw(st.sampled_from((0, 0, 0, 1, 2)))):
        body = _spoiled(body, draw(st.integers(0, 10**6)), draw(values()))
    model = draw(st.sampled_from(MODELS) | st.sampled_from(MODELS) | st.text(max_size=12))
    beside = draw(options)
    if isinstance(body, dict) and draw(st.booleans()):
        body = {**body, "model": model}
    else:
        beside = {**beside, "model": model}
    allowed = draw(fields({}, model=st.just("another"), max_output_tokens=st.integers(1, 5_000)))
    ranks = draw(st.sampled_from((True, True, True, False)))
    return {"api": api, "body": as_read(body), "options": beside, "ranks": ranks, "allowed": allowed}


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every value in a body, the whole first."""
    yield path
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in inner:
        yield from places(one, (*path, key))


def _spoiled(body: Any, place: int, value: Any) -> Any:
    """A copy with something else in one place."""
    paths = list(places(body))
    path = paths[place % len(paths)]
    if not path:
        return value
    made = json.loads(json.dumps(body))
    inner = made
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return made


_INDEX = re.compile(r"0|[1-9][0-9]{0,8}")


def as_read(value: Any) -> Any:
    """Returns a body as both languages read it from the wire.

    Halves of a letter become one where they meet, JavaScript puts names that are numbers first, and letters that
    only a later Unicode knows are left out, since the languages know different ones.
    """
    return _as_read(json.loads(json.dumps(value)))


def _as_read(value: Any) -> Any:
    if isinstance(value, str):
        return "".join("?" if unicodedata.category(letter) == "Cn" else letter for letter in value)
    if isinstance(value, list):
        return [_as_read(one) for one in value]
    if not isinstance(value, dict):
        return value
    numbered = sorted((key for key in value if _INDEX.fullmatch(key)), key=int)
    ordered = [*numbered, *(key for key in value if not _INDEX.fullmatch(key))]
    return {_as_read(key): _as_read(value[key]) for key in ordered}
