"""Who calls, whom the call is for, and what of it may be said by the call itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from noburn_sdk import attribution
from noburn_sdk._requests import WAIT_MS_MAX
from noburn_sdk.attribution import HEADER_PREFIX, NOTHING, Attribution
from noburn_sdk.errors import InvalidRequestError

from proxy.answers import Refusal
from proxy.bodies import member_at
from proxy.config import Config
from proxy.keys import ASKED, EVERYTHING, PREFIX, WHO, Grant, hash_of
from proxy.upstream_config import Upstream

KEY_HEADER = f"{HEADER_PREFIX}key"
NAME_LENGTH_MAX = 200
_OURS = "nb_"
"""How every key of noburn's begins. None of them is ever passed on to a provider."""


@dataclass(frozen=True)
class Caller:
    """Who calls. `swaps`: the provider is called with the proxy's key for it, not with the caller's own."""

    grant: Grant
    noburn_key: str = field(repr=False)
    swaps: bool

    @property
    def name(self) -> str:
        """What the log calls it."""
        return self.grant.name


def _denied(status: int, reason: str, message: str) -> Refusal:
    return Refusal(status, reason, message, retry=False)


def _credential(headers: Mapping[str, str]) -> str | None:
    """The key that a client sends, wherever its provider's clients put it."""
    bearer = headers.get("authorization", "").strip()
    kind, _, token = bearer.partition(" ")
    if kind.lower() == "bearer" and token.strip():
        return token.strip()
    return headers.get("x-api-key") or headers.get("api-key") or bearer or None


def identify(headers: Mapping[str, str], config: Config) -> Caller:
    """Says who calls. Raises Refusal for who may not."""
    told, tenant = _credential(headers), headers.get(KEY_HEADER)
    everywhere = [headers.get(name, "") for name in ("authorization", "x-api-key", "api-key")]
    virtual = [one for one in everywhere if PREFIX in one]
    if virtual:
        if (
            told is None
            or not told.startswith(PREFIX)
            or "virtual" not in config.accept
            or tenant is not None
        ):
            raise _denied(401, "key", "A virtual key stands alone, as the one key of the request.")
        grant = config.keys.get(hash_of(told))
        if grant is None:
            raise _denied(401, "key", "This virtual key is not known.")
        return Caller(grant, grant.noburn_key or config.noburn_key or "", swaps=True)
    if any(one.removeprefix("Bearer ").strip().startswith(_OURS) for one in everywhere):
        raise _denied(
            401, "key", f"A key of noburn's goes into {KEY_HEADER}: where it stands, a provider would see it."
        )
    if tenant is not None:
        if (
            "tenant" not in config.accept
            or not tenant.startswith(_OURS)
            or not tenant.isascii()
            or len(tenant) > 200
        ):
            raise _denied(401, "key", f"{KEY_HEADER} is not accepted here, or holds no key of noburn's.")
        return Caller(EVERYTHING, tenant, swaps=False)
    if "anyone" in config.accept:
        return Caller(config.anyone, config.noburn_key or "", swaps=False)
    ways = [f"a virtual key ({PREFIX}…) in the place of the provider's"] if "virtual" in config.accept else []
    ways += [f"noburn's key in {KEY_HEADER}"] if "tenant" in config.accept else []
    raise _denied(401, "key", f"Send {' or '.join(ways)}.")


def credential_for(caller: Caller, upstream: Upstream) -> list[tuple[bytes, bytes]] | None:
    """Returns the header that authorizes the call in the place of the caller's own; None to keep that one."""
    if not caller.swaps:
        return None
    return own_credential(upstream)


def own_credential(upstream: Upstream) -> list[tuple[bytes, bytes]]:
    """Returns the header with the proxy's own key. Raises Refusal where there is none."""
    if upstream.auth == "none":
        return []
    if upstream.key is None:
        raise _denied(
            403, "upstream_key", f"The proxy has no key for {upstream.name}; call it with one of your own."
        )
    key = upstream.key.encode()
    if upstream.auth == "bearer":
        return [(b"authorization", b"Bearer " + key)]
    return [(upstream.auth.encode(), key)]


@dataclass(frozen=True)
class Said:
    """What one call is for, and what it asked for beside."""

    attribution: Attribution
    fit: bool
    cut: bool
    wait_ms: int | None


def _asked(headers: dict[str, str]) -> tuple[dict[str, Any], dict[str, str]]:
    """Takes what is no attribution out of the headers."""
    found: dict[str, Any] = {}
    errors: dict[str, str] = {}
    for name in ASKED:
        header = HEADER_PREFIX + name.replace("_", "-")
        value = headers.pop(header, None)
        if value is None:
            continue
        low = value.strip().lower()
        if name == "wait_ms":
            if low.isdecimal() and len(low) <= 6 and int(low) <= WAIT_MS_MAX:
                found[name] = int(low)
            else:
                errors[header] = f"must be a whole number from 0 to {WAIT_MS_MAX}"
        elif low in ("true", "1", "false", "0"):
            found[name] = low in ("true", "1")
        else:
            errors[header] = "must be true or false"
    return found, errors


def said_by(caller: Caller, headers: Mapping[str, str], body: Mapping[str, Any], config: Config) -> Said:
    """Reads what a call says of itself, within what its caller may say. Raises Refusal for anything beyond."""
    grant = caller.grant
    own = {
        name: value
        for name, value in headers.items()
        if name.startswith(HEADER_PREFIX) and name != KEY_HEADER
    }
    asked, errors = _asked(own)
    by_header = NOTHING
    try:
        by_header = attribution.from_headers(own)
    except InvalidRequestError as error:
        errors |= error.errors
    errors |= _odd(by_header)
    if errors:
        raise Refusal(400, "invalid_request", _listed(errors), retry=False, more={"errors": errors})
    _check(grant, by_header, asked)
    mapped = {}
    for name, path in config.metadata.items():
        value = member_at(body, path)
        # Metadata is the provider's business as well, so what a key does not leave open is not taken from it.
        if value is not None and len(value) <= NAME_LENGTH_MAX and _open(grant, name):
            mapped[name] = value
    by_body: Any = Attribution(**mapped)  # type: ignore[arg-type]
    found = by_header.over(by_body).over(grant.fixed)
    # Tags are joined, and a key's own stay what they are.
    found = Attribution(tags=grant.fixed.tags).over(found)
    return Said(found, asked.get("fit", grant.fit), asked.get("cut", grant.cut), asked.get("wait_ms"))


def _odd(said: Attribution) -> dict[str, str]:
    errors = {}
    for name in (*WHO, "task"):
        value = getattr(said, name)
        if value is not None and len(value) > NAME_LENGTH_MAX:
            errors[f"{HEADER_PREFIX}{name}"] = f"must be at most {NAME_LENGTH_MAX} characters"
    if len(said.tags) > 10:
        errors[f"{HEADER_PREFIX}tags"] = "must be at most 10"
    return errors


def _listed(errors: Mapping[str, str]) -> str:
    return "The call's noburn headers are invalid: " + "; ".join(
        f"{name}: {text}" for name, text in errors.items()
    )


def _open(grant: Grant, name: str) -> bool:
    return name in grant.may


def _check(grant: Grant, said: Attribution, asked: Mapping[str, Any]) -> None:
    """Raises Refusal for what a header says beyond what the key allows."""
    beyond = [name for name in asked if name not in grant.may and asked[name] != getattr(grant, name, None)]
    if said.provider is not None:
        beyond.append("provider")
    for name in (*WHO, "task", "cost_usd", "max_input_tokens", "max_output_tokens"):
        value = getattr(said, name)
        if value is not None and name not in grant.may and value != getattr(grant.fixed, name):
            beyond.append(name)
    for tag, value in said.tags.items():
        fixed = grant.fixed.tags.get(tag)
        if value != fixed and (fixed is not None or "tags" not in grant.may):
            beyond.append(f"tags ({tag})")
    if beyond:
        names = ", ".join(beyond)
        raise _denied(403, "not_allowed", f"This key does not allow the call to say by header: {names}.")
