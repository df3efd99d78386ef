"""What LiteLLM's functions are asked to do, read as requests of OpenAI's, in whose terms all of them speak."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from noburn_sdk import attribution
from noburn_sdk.attribution import HEADER_PREFIX, NOTHING
from noburn_sdk.errors import InvalidRequestError
from noburn_sdk.estimate.families import family_of
from noburn_sdk.gate.endpoints import Asked, Endpoint
from noburn_sdk.integrations.litellm.usage import LiteLLMChatMeter, read_chat, read_embeddings
from noburn_sdk.integrations.openai import endpoints as openai

_CHAT_FIELDS = (
    "messages",
    "tools",
    "functions",
    "tool_choice",
    "function_call",
    "parallel_tool_calls",
    "n",
    "max_tokens",
    "max_completion_tokens",
    "response_format",
    "modalities",
    "audio",
    "prediction",
    "service_tier",
    "web_search_options",
    "stream",
    "stream_options",
)
_RESPONSES_FIELDS = (
    "input",
    "instructions",
    "tools",
    "tool_choice",
    "text",
    "max_output_tokens",
    "previous_response_id",
    "prompt",
    "conversation",
    "include",
    "background",
    "service_tier",
    "stream",
    "reasoning",
)
_CLAUDE_FIELDS = ("system", "thinking", "reasoning_effort")


@dataclass(frozen=True)
class Kind:
    """One of LiteLLM's functions: what bounds it, which of its arguments say how much it can use."""

    endpoint: Endpoint
    names: tuple[str, ...]
    fields: tuple[str, ...] = ()


CHAT = Kind(
    replace(
        openai.CHAT,
        name="litellm.completion",
        read=read_chat,
        meter=lambda model, live: LiteLLMChatMeter(model, live=live),
    ),
    ("model", "messages"),
    (*_CHAT_FIELDS, *_CLAUDE_FIELDS),
)
EMBEDDINGS = Kind(
    replace(openai.EMBEDDINGS, name="litellm.embedding", read=read_embeddings),
    ("model", "input"),
    ("input", "dimensions", "encoding_format"),
)
RESPONSES = Kind(replace(openai.RESPONSES, name="litellm.responses"), ("input", "model"), _RESPONSES_FIELDS)
IMAGES = Kind(replace(openai.IMAGES, name="litellm.image_generation"), ("prompt", "model"))
TRANSCRIPTIONS = Kind(replace(openai.TRANSCRIPTIONS, name="litellm.transcription"), ("model", "file"))
SPEECH = Kind(replace(openai.SPEECH, name="litellm.speech"), ("model", "input"))
BATCHES = Kind(replace(openai.BATCHES, name="litellm.create_batch"), ())
OTHER = Kind(replace(openai.OTHER, name="litellm.other"), ("model",))

_PROVIDERS = {
    "azure_ai": "azure",
    "azure_text": "azure",
    "bedrock": "aws",
    "bedrock_converse": "aws",
    "cohere_chat": "cohere",
    "fireworks_ai": "fireworks",
    "gemini": "google",
    "moonshot": "moonshotai",
    "sagemaker": "aws",
    "text-completion-openai": "openai",
    "together_ai": "together",
    "vertex_ai": "google",
    "vertex_ai_beta": "google",
    "voyage": "voyageai",
    "xai": "x-ai",
}
"""LiteLLM's names of providers that the price book calls otherwise."""

_ADDRESSED = frozenset({"custom_openai", "hosted_vllm", "litellm_proxy", "openai_like", "custom"})
"""What LiteLLM calls whatever answers at an address: only the model says whose it is."""

ASYNCHRONOUS = ("acompletion", "aembedding", "aresponses", "atext_completion", "async_call")


def arguments(function: Callable[..., Any], kind: Kind, args: tuple[Any, ...]) -> dict[str, Any]:
    """Names positional arguments, so that they can be read and replaced."""
    if not args:
        return {}
    named = inspect.Parameter.POSITIONAL_OR_KEYWORD
    names = [item.name for item in inspect.signature(function).parameters.values() if item.kind is named]
    return dict(zip(names or kind.names, args, strict=False))


def asked_of(kind: Kind, given: Mapping[str, Any]) -> Asked:
    """Reads a call. Raises InvalidRequestError for noburn's headers that are unknown."""
    model, provider = _model_of(given)
    body: dict[str, Any] = {}
    for name in kind.fields:
        if given.get(name) is not None:
            body[name] = given[name]
    extra = given.get("extra_body")
    if isinstance(extra, Mapping):
        body |= extra
    body["model"] = model
    if isinstance(body.get("response_format"), type):
        body["response_format"] = _schema_of(body["response_format"])
    endpoint = kind.endpoint
    if endpoint.api == "openai.chat" and given.get("text_completion") is True:
        endpoint = replace(endpoint, name="litellm.text_completion", operation="text_completion")
    headers: dict[str, str] = {}
    for name in ("headers", "extra_headers"):
        if isinstance(given.get(name), Mapping):
            headers |= {key: value for key, value in given[name].items() if _is_ours(key)}
    return Asked(
        endpoint,
        model or endpoint.name,
        body,
        provider=provider,
        said=attribution.from_headers(headers) if headers else NOTHING,
        stream=given.get("stream") is True,
    )


def told(asked: Asked, body: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the arguments of an admitted call: what was allowed in place of what was asked."""
    made = dict(given)
    for name in ("headers", "extra_headers"):
        if isinstance(made.get(name), Mapping):
            made[name] = {key: value for key, value in made[name].items() if not _is_ours(key)}
    for name, value in body.items():
        if name == "model":
            if value != asked.model:
                # The cheaper model is the same provider's, so that its address and key stay right.
                before = str(given.get("model") or "")
                made["model"] = before[: -len(asked.model)] + value if before.endswith(asked.model) else value
        elif asked.body.get(name) is not value:
            made[name] = value
    return made


def _is_ours(name: Any) -> bool:
    return isinstance(name, str) and name.lower().startswith(HEADER_PREFIX)


def _model_of(given: Mapping[str, Any]) -> tuple[str, str | None]:
    import litellm

    asked = str(given.get("model") or given.get("engine") or "")
    named = given.get("custom_llm_provider")
    try:
        model, provider, _, _ = litellm.get_llm_provider(
            model=asked, custom_llm_provider=named, api_base=given.get("api_base") or given.get("base_url")
        )
    except Exception:
        # LiteLLM says itself what is wrong with the name; here it only must not be cheaper than it is.
        model, provider = asked.rpartition("/")[2] or asked, str(named or asked.partition("/")[0])
    if provider == "openai" and not (given.get("api_base") or given.get("base_url")):
        return model, "openai"
    if provider == "openai" or provider in _ADDRESSED:
        # At an address of somebody's own, OpenAI's models are OpenAI's.
        return model, "openai" if family_of(model).vendor == "openai" else None
    return model, _PROVIDERS.get(provider, provider) or None


def _schema_of(kind: Any) -> Mapping[str, Any]:
    """A class of pydantic as the schema that LiteLLM sends in its place."""
    try:
        schema = kind.model_json_schema()
    except Exception as error:
        message = f"is no class of pydantic: {error}"
        raise InvalidRequestError("The call cannot be read", errors={"response_format": message}) from error
    return {"type": "json_schema", "json_schema": {"name": kind.__name__, "schema": schema, "strict": True}}
