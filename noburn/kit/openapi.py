"""The parts of an OpenAPI document that every interface of ours shares: problems, amounts, times, headers.

Plain dictionaries and no framework: the data plane and the management API both describe themselves with these.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from noburn.kit.problems import CONTENT_TYPE, REGISTRY

Schema = dict[str, Any]

JSON: Final = "application/json"
API_KEY: Final[list[dict[str, list[str]]]] = [{"apiKey": []}]
"""The security of an operation that only a key may call."""

NOBODY: Final[list[dict[str, list[str]]]] = []
"""The security of an operation that needs no key."""

USD_PATTERN: Final = r"^(0|[1-9][0-9]{0,11})(\.[0-9]{1,9})?$"

REASONS: Final[Mapping[str, str]] = {
    "invalid-request": "Some fields are not valid.",
    "idempotency-key-missing": "Every POST needs an Idempotency-Key header.",
    "invalid-authorization": "authorization: no authorization of this tenant: it was altered, cut off, or made for "
    "somebody else.",
    "unauthorized": "Send the API key as `Authorization: Bearer nb_live_…`.",
    "forbidden-scope": "This API key lacks the scope 'read'.",
    "not-found": "There is nothing of this id.",
    "body-too-large": "At most 65536 bytes of body are read here.",
    "unsupported-media": "Send `Content-Type: application/json`.",
    "internal-error": "Something is wrong on our side; it was logged.",
    "counters-unavailable": "No decision can be made now: no epoch is open for this tenant.",
    "storage-unavailable": "The ledger cannot be reached; nothing was recorded. Repeat the same request.",
}
"""What an example's `detail` says; for any other problem its title."""


def ref(name: str, room: str = "schemas") -> Schema:
    """A reference to a component."""
    return {"$ref": f"#/components/{room}/{name}"}


def nullable(schema: Schema) -> Schema:
    """A value that may be null."""
    kind = schema.get("type")
    return (
        {**schema, "type": [kind, "null"]} if isinstance(kind, str) else {"anyOf": [schema, {"type": "null"}]}
    )


def record(
    description: str, needed: Mapping[str, Schema], optional: Mapping[str, Schema] | None = None
) -> Schema:
    """An object: what is always there, and what may be. More fields may come with time, so none are ruled out."""
    return {
        "type": "object",
        "description": description,
        "properties": {**needed, **(optional or {})},
        "required": list(needed),
    }


def schemas() -> dict[str, Schema]:
    """The schemas that more than one interface uses."""
    return {
        "Usd": {
            "type": "string",
            "description": "An amount in USD as a decimal string with up to nine places; never a number.",
            "pattern": r"^-?(0|[1-9][0-9]{0,11})(\.[0-9]{1,9})?$",
            "examples": ["0.00048"],
        },
        "Time": {
            "type": "string",
            "format": "date-time",
            "description": "A moment by RFC 3339, in UTC.",
            "examples": ["2026-12-01T00:00:00.000Z"],
        },
        "FieldError": record(
            "What is wrong with one field.",
            {
                "field": {
                    "type": "string",
                    "description": "The field's path on the wire, such as `items[3].limit_usd`.",
                },
                "message": {"type": "string"},
            },
        ),
        "Problem": record(
            "A failure by RFC 9457.",
            {
                "type": {"type": "string", "description": "The address of a page that says what to do."},
                "title": {"type": "string"},
                "status": {"type": "integer", "minimum": 400, "maximum": 599},
                "detail": {"type": "string", "description": "What is wrong with this very request."},
                "instance": {
                    "type": "string",
                    "description": "Names the request in noburn's log.",
                    "pattern": "^urn:request:",
                },
            },
            {
                "errors": {
                    "type": "array",
                    "items": ref("FieldError"),
                    "description": "Every field that is not valid, not only the first.",
                }
            },
        ),
    }


def headers() -> dict[str, Schema]:
    """The headers of answers."""
    return {
        "RequestId": {
            "description": "Names the request in noburn's log; `instance` of a problem carries it too.",
            "schema": {"type": "string"},
        },
        "RetryAfter": {"description": "Seconds to wait before trying again.", "schema": {"type": "integer"}},
        "ETag": {"description": "Names this version of what was answered.", "schema": {"type": "string"}},
    }


def parameters() -> dict[str, Schema]:
    """The headers of requests."""
    return {
        "IdempotencyKey": {
            "name": "Idempotency-Key",
            "in": "header",
            "required": True,
            "description": "A fresh random value for each new request, and the same one for its retries: "
            "a repeated request is answered as the first was, and is never done twice.",
            "schema": {"type": "string", "minLength": 1, "maxLength": 255},
            "examples": {"random": {"value": "5f0c7b2e9d3a4e1c8f6b"}},
        },
        "IfNoneMatch": {
            "name": "If-None-Match",
            "in": "header",
            "description": "The ETag of what you have; the answer is 304 while nothing changed.",
            "schema": {"type": "string"},
        },
    }


def security_schemes() -> dict[str, Schema]:
    """How a request says whose it is."""
    return {
        "apiKey": {
            "type": "http",
            "scheme": "bearer",
            "bearerFormat": "nb_live_…",
            "description": "An API key of the tenant. Its scopes say what it may do: `preflight`, `settle`, `read`, "
            "`manage`.",
        }
    }


def answer(description: str, schema: Schema, examples: Mapping[str, Schema], *, etag: bool = False) -> Schema:
    """One answer with a body; `examples` by name as OpenAPI has them, `{"summary": …, "value": …}`."""
    more = {"ETag": ref("ETag", "headers")} if etag else {}
    return {
        "description": description,
        "headers": {"X-Request-Id": ref("RequestId", "headers"), **more},
        "content": {JSON: {"schema": schema, "examples": dict(examples)}},
    }


def problem_example(slug: str) -> Schema:
    """What a problem of this kind looks like."""
    kind = REGISTRY[slug]
    value: dict[str, Any] = {
        "type": f"https://noburn.example/docs/problems/{slug}",
        "title": kind.title,
        "status": kind.status,
        "detail": REASONS.get(slug, f"{kind.title}."),
        "instance": "urn:request:5925b37686d9071a",
    }
    if slug == "invalid-request":
        value["errors"] = [{"field": "model", "message": "is missing"}]
    return value


class Problems:
    """Collects the problems that operations answer; those of one status are one component, used by all that share it."""

    def __init__(self) -> None:
        self.responses: dict[str, Schema] = {}

    def answers(self, slugs: Iterable[str]) -> dict[str, Schema]:
        """The answers of an operation that may fail with these problems, by status. Raises KeyError for unknown ones."""
        by_status: dict[int, list[str]] = {}
        for slug in sorted(set(slugs)):
            by_status.setdefault(REGISTRY[slug].status, []).append(slug)
        return {str(status): self._shared(status, found) for status, found in sorted(by_status.items())}

    def _shared(self, status: int, slugs: list[str]) -> Schema:
        name = "Or".join("".join(word.title() for word in slug.split("-")) for slug in slugs)
        if name not in self.responses:
            self.responses[name] = _problem_response(status, slugs)
        return ref(name, "responses")


def _problem_response(status: int, slugs: list[str]) -> Schema:
    which = {
        "properties": {
            "type": {"pattern": f"/docs/problems/({'|'.join(slugs)})$"},
            "status": {"const": status},
        }
    }
    found = {"X-Request-Id": ref("RequestId", "headers")}
    if status == 503:
        found["Retry-After"] = ref("RetryAfter", "headers")
    return {
        "description": "; ".join(f"`{slug}`: {REGISTRY[slug].title.lower()}" for slug in slugs) + ".",
        "headers": found,
        "content": {
            CONTENT_TYPE: {
                "schema": {"allOf": [ref("Problem"), which]},
                "examples": {slug: {"value": problem_example(slug)} for slug in slugs},
            }
        },
    }
