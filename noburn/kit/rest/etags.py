"""Optimistic concurrency: an ETag names a representation, If-Match changes it only while it is still that one."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from typing import Any

from rest_framework.request import Request

from noburn.kit.problems import ProblemError, problem


def etag_of(representation: Mapping[str, Any], observed: Collection[str] = ()) -> str:
    """Returns the strong ETag of a representation as it goes onto the wire, all fields included.

    `observed` names fields that nobody sets, as when something was last used: they come behind a point, since a
    change may be based on a state in which they were other ones.
    """
    kept = _digest({name: value for name, value in representation.items() if name not in observed})
    if not observed:
        return f'"{kept}"'
    return f'"{kept}.{_digest({name: representation.get(name) for name in sorted(observed)})}"'


def _digest(fields: Mapping[str, Any]) -> str:
    text = json.dumps(fields, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()


def _kept(tag: str) -> str:
    """The part of an ETag that a change must be based on."""
    tag = tag.strip()
    return tag.partition(".")[0] + '"' if "." in tag else tag


def require_match(request: Request, etag: str) -> None:
    """Raises a precondition-failed problem when If-Match names another state than the present one.

    Call it under the lock that the change itself takes; without the header there is nothing to check.
    """
    wanted = request.headers.get("If-Match")
    if wanted is None or wanted.strip() == "*":
        return
    # A weak tag never matches here, since a change must be based on exactly this state. Source: RFC 9110, 13.1.1.
    if _kept(etag) not in [_kept(tag) for tag in wanted.split(",")]:
        raise ProblemError(
            problem(
                "precondition-failed",
                "It was changed since you read it: read it again, and send the new ETag in If-Match.",
                etag=etag,
            )
        )


def is_unchanged(request: Request, etag: str) -> bool:
    """Tells whether If-None-Match holds this state already, so that 304 is the answer."""
    wanted = request.headers.get("If-None-Match", "")
    tags = [tag.strip().removeprefix("W/") for tag in wanted.split(",")]
    return etag in tags or wanted.strip() == "*"
