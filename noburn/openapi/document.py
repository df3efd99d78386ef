"""Joins the management API's description with the data plane's into one document."""

from __future__ import annotations

import hashlib
import json
from functools import cache
from typing import Any

from drf_spectacular.generators import SchemaGenerator

from budgets.gateway import openapi as gateway
from noburn.kit import openapi as kit
from noburn.kit.openapi import NOBODY, Problems, Schema, answer, ref
from noburn.openapi.operations import PROBLEMS
from noburn.openapi.topics import DESCRIPTIONS, tag_of

DESCRIPTION = """noburn refuses an LLM call before it fires when nobody has budget left to pay for it.

The **data plane** (*Calls*) is asked before each call and told after it. The **management API** is everything else.

- Send an API key as `Authorization: Bearer nb_live_…`. Members' sessions work for the management API as well.
- Send a fresh `Idempotency-Key` with every POST, and the same one when you repeat it.
- Amounts of USD are decimal strings (`"0.00048"`), never numbers. Times are RFC 3339 in UTC. Ids begin with a word
  that says what they name (`bud_…`).
- Failures are `application/problem+json` by RFC 9457; `errors` names every field that is not valid. A refused call is
  no failure: its answer is 200 with `"decision": "deny"`.
- Lists come in pages: `limit` items, and `next_cursor` for the next page.
- Objects have an `ETag`. Send it in `If-Match` to change only what nobody else has changed meanwhile.
- Answers may gain members with time; ignore those that you do not know.
"""


def join(result: Schema, generator: Any, request: Any, public: bool) -> Schema:  # noqa: ARG001 (the hook's own names)
    """drf-spectacular's postprocessing hook: makes the management API's description the whole document."""
    problems = Problems()
    paths: dict[str, Schema] = result["paths"]
    for methods in paths.values():
        for operation in methods.values():
            operation["responses"] |= problems.answers(operation.pop(PROBLEMS, ()))
    # The data plane and the management API share paths by method.
    for path, methods in (gateway.paths(problems) | _own_path()).items():
        paths[path] = {**paths.get(path, {}), **methods}
    components = result.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    for name, schema in {**kit.schemas(), **gateway.schemas()}.items():
        if name in schemas:
            raise ValueError(f"two schemas are called {name}; rename the serializer")
        schemas[name] = schema
    components["schemas"] = dict(sorted(schemas.items()))
    components["responses"] = dict(sorted(problems.responses.items()))
    components["parameters"] = kit.parameters() | _parameters()
    components["headers"] = kit.headers()
    components["securitySchemes"] = kit.security_schemes() | _session()
    used = {tag for methods in paths.values() for operation in methods.values() for tag in operation["tags"]}
    result["info"]["description"] = DESCRIPTION
    result["tags"] = [
        {"name": name, "description": DESCRIPTIONS[name]} for name in DESCRIPTIONS if name in used
    ]
    result["paths"] = dict(sorted(paths.items()))
    return result


def _own_path() -> dict[str, Schema]:
    """The document's own path, which is no view of Django REST framework's."""
    path = "/v1/openapi.json"
    described = answer(
        "The document.",
        {"type": "object", "required": ["openapi", "info", "paths"]},
        {"document": {"summary": "Its beginning", "value": {"openapi": "3.1.0", "info": {}, "paths": {}}}},
        etag=True,
    )
    del described["headers"]["X-Request-Id"]
    return {
        path: {
            "get": {
                "operationId": "getOpenapi",
                "tags": [tag_of(path)],
                "summary": "Get this document",
                "description": "Everything that noburn serves under /v1, in OpenAPI 3.1. Needs no key.",
                "parameters": [ref("IfNoneMatch", "parameters")],
                "security": NOBODY,
                "responses": {
                    "200": described,
                    "304": {"description": "Nothing changed.", "headers": {"ETag": ref("ETag", "headers")}},
                },
            }
        }
    }


def _parameters() -> dict[str, Schema]:
    return {
        "IfMatch": {
            "name": "If-Match",
            "in": "header",
            "description": "The ETag of the state that the change is based on; 412 if it is another by now.",
            "schema": {"type": "string"},
        },
        "Tenant": {
            "name": "Noburn-Tenant",
            "in": "header",
            "description": "Which tenant, by id or slug, for a person who is a member of several. A key needs none.",
            "schema": {"type": "string"},
        },
    }


def _session() -> dict[str, Schema]:
    return {
        "session": {
            "type": "apiKey",
            "in": "cookie",
            "name": "sessionid",
            "description": "A signed-in member's session. Changes need the header `X-CSRFToken` too.",
        }
    }


@cache
def document() -> tuple[bytes, str]:
    """The whole document as JSON, and its ETag; made once a process, since routes do not change in one."""
    made = SchemaGenerator().get_schema(request=None, public=True)
    text = json.dumps(made, ensure_ascii=False, separators=(",", ":")).encode()
    return text, f'"{hashlib.blake2b(text, digest_size=12).hexdigest()}"'
