"""Which upstream a request is for, what it is there, and whether its caller may ask for it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from noburn_sdk.errors import InvalidRequestError
from noburn_sdk.gate import Asked, Endpoint
from noburn_sdk.integrations.anthropic import endpoints as anthropic
from noburn_sdk.integrations.openai import endpoints as openai
from noburn_sdk.integrations.openai import site

from proxy.answers import Refusal
from proxy.callers import Caller, Said
from proxy.config import Config
from proxy.upstream_config import Upstream

METHODS = ("GET", "HEAD", "POST", "DELETE")
# What is encoded may be no letter, dot or slash: what is matched here must be what the provider reads.
_SEGMENT = r"(?:[A-Za-z0-9._~:@+,=-]|%(?:20|3[AaDd]|40|2[BbCc]))+"
_PATH = re.compile(rf"/(?P<name>[a-z][a-z0-9-]*)/v1(?P<rest>(?:/{_SEGMENT})+)")
_DOTS = re.compile(r"/\.{1,2}(?:/|$)")
_QUERY = re.compile(r"[!-~]{0,2000}")
_OPEN_POSTS = re.compile(r"/(?:messages/count_tokens|responses/input_tokens|moderations)$")
_OPEN_GETS = re.compile(r"/models(?:/[^/]+)?$")


@dataclass(frozen=True)
class Route:
    """Where a request goes. `endpoint` is None where the provider bills nothing for it."""

    upstream: Upstream
    rest: str
    endpoint: Endpoint | None
    query: str

    def target(self, upstream: Upstream) -> bytes:
        """The path and query at an upstream, this one or a fallback."""
        own = [f"{name}={value}" for name, value in upstream.query if f"{name}=" not in self.query]
        query = "&".join([*([self.query] if self.query else []), *own])
        return (upstream.path + self.rest + (f"?{query}" if query else "")).encode()


def find(
    method: str, path: str, query: str, headers: Mapping[str, str], caller: Caller, config: Config
) -> Route:
    """Reads an address. Raises Refusal for one that is not to be called."""
    if method not in METHODS:
        raise Refusal(
            405, "method", f"{method[:20]} is not passed on; {', '.join(METHODS)} are.", retry=False
        )
    found = _PATH.fullmatch(path)
    upstream = None if found is None else config.upstreams.get(found["name"])
    if found is None or upstream is None or _DOTS.search(path) or not _QUERY.fullmatch(query) or "#" in query:
        known = ", ".join(f"/{name}/v1/…" for name in config.upstreams)
        raise Refusal(404, "no_such_path", f"There is no such path here; there are {known}.", retry=False)
    if caller.grant.upstreams is not None and upstream.name not in caller.grant.upstreams:
        raise Refusal(403, "not_allowed", f"This key does not allow calls of {upstream.name}.", retry=False)
    rest = found["rest"]
    endpoint = None
    if method == "POST":
        endpoint = (
            anthropic.endpoint_of(f"/v1{rest}") if upstream.api == "anthropic" else openai.endpoint_of(rest)
        )
    if endpoint is openai.REALTIME or "upgrade" in headers or rest.startswith("/realtime"):
        why = f"The proxy does not pass this on: {openai.REALTIME.why}."
        raise Refusal(403, "not_gated", why, retry=False)
    _check_account(method, rest, endpoint, caller)
    return Route(upstream, rest, endpoint, query)


def _check_account(method: str, rest: str, endpoint: Endpoint | None, caller: Caller) -> None:
    """Who shares the provider's account with others sees nothing of theirs: no files, stored answers, batches."""
    if caller.grant.account:
        return
    if endpoint is None:
        opened = (_OPEN_POSTS if method == "POST" else _OPEN_GETS).search(rest) is not None
    else:
        opened = endpoint not in (openai.BATCHES, openai.OTHER, anthropic.BATCHES, anthropic.OTHER)
    if not opened:
        why = (
            "This key makes calls; what is kept in the provider's account is not open to it (account = true)."
        )
        raise Refusal(403, "not_allowed", why, retry=False)


def asked_at(
    route: Route, upstream: Upstream, value: Mapping[str, Any], model: str | None, said: Said, size: int
) -> Asked:
    """Returns what an attempt at an upstream asks for. Raises Refusal."""
    assert route.endpoint is not None
    attribution = said.attribution
    bound = upstream.cost_usd.get(route.endpoint.name)
    if bound is not None and attribution.cost_usd is None:
        attribution = replace(attribution, cost_usd=bound)
    known: dict[str, Any] = {
        "provider": upstream.provider or site.provider_of(upstream.host, model),
        "said": attribution,
        "fit": said.fit,
        "wait_ms": said.wait_ms,
        "cut": said.cut,
        "size": size,
    }
    try:
        if upstream.api == "anthropic":
            asked = anthropic.asked_for(f"/v1{route.rest}", value, **known)
        else:
            asked = site.asked_for(route.rest, value, model, **known)
    except InvalidRequestError as error:
        raise Refusal(400, "invalid_request", str(error), retry=False) from None
    assert asked is not None
    return asked
