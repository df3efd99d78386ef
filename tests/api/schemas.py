"""Checks values against schemas of the document, more strictly than a client may."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jsonschema_rs import Draft202012Validator

# Problems may carry members of their own, such as what is allowed instead.
OPEN = frozenset({"Problem"})


def strict(schema: Any, name: str = "") -> Any:
    """A schema in which an object may have nothing but what is described."""
    if isinstance(schema, list):
        return [strict(part) for part in schema]
    if not isinstance(schema, Mapping):
        return schema
    made = {key: strict(part) for key, part in schema.items()}
    if name not in OPEN and "properties" in schema and "object" in _types(schema):
        made.setdefault("additionalProperties", False)
    return made


def _types(schema: Mapping[str, Any]) -> list[str]:
    kind = schema.get("type", [])
    return [kind] if isinstance(kind, str) else list(kind)


class Checker:
    """The schemas of a document, each object closed to members that it does not describe."""

    def __init__(self, schemas: Mapping[str, Any]) -> None:
        self._components = {
            "schemas": {name: strict(schema, name) for name, schema in schemas.items()},
        }

    def errors(self, schema: Mapping[str, Any], value: object) -> list[str]:
        """What is wrong with a value, each with its place."""
        whole = {**strict(schema), "components": self._components}
        found = Draft202012Validator(whole).iter_errors(value)
        return [f"{'.'.join(map(str, error.instance_path))}: {error.message}" for error in found]


def shape(value: Any) -> Any:
    """What a value is made of: the names of its members, and the kinds of what they hold."""
    if isinstance(value, dict):
        return {name: shape(part) for name, part in value.items()}
    if isinstance(value, list):
        return [shape(part) for part in value[:1]]
    return type(value).__name__
