"""What OpenAI's client is about to send, read from the request itself."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from noburn_sdk import attribution
from noburn_sdk.attribution import Attribution
from noburn_sdk.errors import InvalidRequestError
from noburn_sdk.estimate.families import family_of
from noburn_sdk.gate.endpoints import Asked
from noburn_sdk.gate.http import headers_of
from noburn_sdk.integrations.openai.endpoints import endpoint_of, with_usage

_HOSTS = (
    ("api.openai.com", "openai"),
    (".openai.azure.com", "azure"),
    (".services.ai.azure.com", "azure"),
    ("openrouter.ai", "openrouter"),
    ("api.groq.com", "groq"),
    ("api.mistral.ai", "mistral"),
    ("api.deepseek.com", "deepseek"),
    ("api.x.ai", "x-ai"),
    ("api.together.xyz", "together"),
    ("api.fireworks.ai", "fireworks"),
    ("api.cerebras.ai", "cerebras"),
    ("api.perplexity.ai", "perplexity"),
    ("generativelanguage.googleapis.com", "google"),
    (".amazonaws.com", "aws"),
)
_FORM_MODEL = re.compile(rb'name="model"\r\n(?:[^\r\n]+\r\n)*\r\n([^\r\n]{1,200})\r\n')
_DEPLOYMENT = re.compile(r"/deployments/([^/]+)/")


def form_model(content: bytes) -> str | None:
    """Returns the model that a form names."""
    found = _FORM_MODEL.search(content)
    return found[1].decode("utf-8", "replace") if found else None


def model_of(path: str, body: Mapping[str, Any]) -> str | None:
    """Returns the model that a body names, or else its address."""
    model = body.get("model")
    if isinstance(model, str) and model:
        return model
    deployed = _DEPLOYMENT.search(path)
    return deployed[1] if deployed else None


def asked_for(
    path: str, body: Mapping[str, Any], model: str | None, *, signed: bool = False, **known: Any
) -> Asked | None:
    """Returns what a POST asks for, told to say its usage where it streams; None for one that costs nothing.

    `known` are further fields of `Asked`.
    """
    endpoint = endpoint_of(path)
    if endpoint is None:
        return None
    endpoint, told = (endpoint, body) if signed else with_usage(endpoint, body)
    return Asked(
        endpoint,
        model or endpoint.name,
        told,
        changed=told is not body,
        signed=signed,
        model_fixed=_DEPLOYMENT.search(path) is not None,
        stream=body.get("stream") is True,
        **known,
    )


class OpenAISite:
    """Reads requests of OpenAI's client, whichever provider it was pointed to."""

    def __init__(self, defaults: Attribution | None = None) -> None:
        self._defaults = defaults or Attribution()

    def find(self, request: Any) -> Asked | None:
        """Reads a request; None for one that costs nothing. Raises InvalidRequestError."""
        if request.method != "POST":
            return None
        if endpoint_of(request.url.path) is None:
            return None
        body, model = self._body(request)
        return asked_for(
            request.url.path,
            body,
            model,
            provider=provider_of(request.url.host, model),
            said=attribution.from_headers(headers_of(request)),
            framework=self._defaults,
            signed=request.headers.get("authorization", "").startswith("AWS4-"),
        )

    def _body(self, request: Any) -> tuple[Mapping[str, Any], str | None]:
        content: bytes = request.content
        if request.headers.get("content-type", "").lower().startswith("multipart/"):
            return {}, form_model(content)
        try:
            value = json.loads(content) if content else {}
        except ValueError as error:
            raise InvalidRequestError("The call cannot be read", errors={"body": "is not JSON"}) from error
        if not isinstance(value, dict):
            raise InvalidRequestError("The call cannot be read", errors={"body": "is no JSON object"})
        return value, model_of(request.url.path, value)

    def error_base(self) -> type[BaseException]:
        """The class of errors that OpenAI's client does not retry."""
        from openai import OpenAIError

        return OpenAIError


def provider_of(host: str, model: str | None) -> str | None:
    """Returns the provider at a host, by the price book's names; None where only the model says it.

    Behind an address that nobody knows, such as a proxy's, OpenAI's models are OpenAI's.
    """
    for name, provider in _HOSTS:
        if host == name or (name.startswith(".") and host.endswith(name)):
            return provider
    return "openai" if model is not None and family_of(model).vendor == "openai" else None
