"""Function tools and JSON schemas as OpenAI's models get to read them.

Functions are shown to a model as TypeScript. For the older models and for schemas of plain kinds that
rendering and a formula of OpenAI's cookbook are known, and the larger of the two counts; for everything else
the longest of the likely renderings does, JSON as it was sent among them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from noburn_sdk.estimate.families import Family
from noburn_sdk.estimate.tally import Tally, plain, renderings, written

DEPTH_MAX = 64
TOOLS_FRAME = 16
"""Around all functions; 9 and 12 are what the known formulas say."""
FUNCTION_FRAME = 16
"""Around one function; 7 to 10, and 3 where it has properties."""
PROPERTY_FRAME = 4
PARALLEL_FRAME = 128
"""The description of the wrapper through which two functions are called at once."""
SCHEMA_FRAME = 64
JSON_OBJECT_FRAME = 32

_COOKBOOK = ("gpt-4o", "chatgpt-4o", "gpt-4", "gpt-3.5", "gpt-35")
_LATER = ("gpt-4.",)
_KNOWN = frozenset(
    {
        "type",
        "description",
        "properties",
        "required",
        "items",
        "enum",
        "additionalProperties",
        "title",
        "$schema",
        "strict",
    }
)
_TYPES = {"string": "string", "number": "number", "integer": "number", "boolean": "boolean", "null": "null"}


def add_functions(tally: Tally, functions: Sequence[Mapping[str, Any]], *, parallel: bool = True) -> None:
    """Adds the definitions of functions (`{"name", "description", "parameters"}`)."""
    if not functions:
        return
    tally.add("tools", TOOLS_FRAME + (PARALLEL_FRAME if parallel and len(functions) > 1 else 0), "measured")
    for function in functions:
        shown, nodes = typescript(function)
        texts = [(shown, PROPERTY_FRAME * nodes)]
        if not (_published(tally.family) and _is_plain(function.get("parameters"))):
            texts += [(text, 0) for text in renderings(function)]
        tally.rendered("tools", texts, FUNCTION_FRAME)


def add_schema(tally: Tally, name: Any, description: Any, schema: Any) -> None:
    """Adds the schema that a structured answer has to follow."""
    tally.text("schema", name)
    tally.text("schema", description)
    tally.json("schema", {} if schema is None else schema, SCHEMA_FRAME)


def typescript(function: Mapping[str, Any]) -> tuple[str, int]:
    """Returns a function as TypeScript, and how many properties and choices it has."""
    lines: list[str] = []
    if function.get("description"):
        lines.append(f"// {written(function['description'])}")
    nodes = _Nodes()
    parameters = plain(function.get("parameters")) or {}
    properties = parameters.get("properties") if isinstance(parameters, Mapping) else None
    name = written(function.get("name") or "")
    if isinstance(properties, Mapping) and properties:
        lines += [f"type {name} = (_: {{", *_properties(parameters, 0, nodes), "}) => any;"]
    else:
        lines.append(f"type {name} = () => any;")
    return "\n".join(["namespace functions {", "", *lines, "", "} // namespace functions"]), nodes.count


class _Nodes:
    def __init__(self) -> None:
        self.count = 0


def _properties(schema: Mapping[str, Any], depth: int, nodes: _Nodes) -> Iterable[str]:
    required = schema.get("required")
    required = required if isinstance(required, list | tuple) else ()
    indent = "  " * depth
    for name, value in (schema.get("properties") or {}).items():
        nodes.count += 1
        if isinstance(value, Mapping) and value.get("description"):
            yield f"{indent}// {written(value['description'])}"
        mark = "" if name in required else "?"
        yield f"{indent}{name}{mark}: {_type(value, depth, nodes)},"


def _type(schema: Any, depth: int, nodes: _Nodes) -> str:
    if not isinstance(schema, Mapping) or depth > DEPTH_MAX:
        return "any"
    choices = schema.get("enum")
    if isinstance(choices, list | tuple):
        nodes.count += len(choices)
        return " | ".join(json.dumps(choice, ensure_ascii=False, default=str) for choice in choices)
    for name in ("anyOf", "oneOf", "allOf"):
        if isinstance(schema.get(name), list | tuple):
            nodes.count += len(schema[name])
            return " | ".join(_type(one, depth, nodes) for one in schema[name])
    kind = schema.get("type")
    if isinstance(kind, list | tuple):
        nodes.count += len(kind)
        # Each kind once: properties that were shown again for every one of them would double with every level.
        kinds = dict.fromkeys(one if isinstance(one, str) else "any" for one in kind)
        return " | ".join(_kind(schema, one, depth + 1, nodes) for one in kinds)
    named = kind if isinstance(kind, str) else "any"
    shaped = named != "array" and "properties" in schema
    return _kind(schema, "object" if shaped else named, depth, nodes)


def _kind(schema: Mapping[str, Any], kind: str, depth: int, nodes: _Nodes) -> str:
    if kind == "array":
        return f"{_type(schema.get('items'), depth + 1, nodes)}[]"
    if kind != "object":
        return _TYPES.get(kind, "any")
    body = "\n".join(_properties(schema, depth + 1, nodes))
    return "{\n" + body + "\n" + "  " * depth + "}"


def _published(family: Family) -> bool:
    return (
        family.vendor == "openai" and family.name.startswith(_COOKBOOK) and not family.name.startswith(_LATER)
    )


def _is_plain(schema: Any, depth: int = 0) -> bool:
    """Whether a schema consists of what the known rendering covers."""
    if schema is None:
        return True
    if not isinstance(schema, Mapping) or depth > DEPTH_MAX or not _KNOWN.issuperset(schema):
        return False
    kind = schema.get("type")
    if kind is not None and not isinstance(kind, str):
        return False
    if isinstance(schema.get("additionalProperties"), Mapping):
        return False
    items, properties = schema.get("items"), schema.get("properties") or {}
    if items is not None and not _is_plain(items, depth + 1):
        return False
    return isinstance(properties, Mapping) and all(_is_plain(one, depth + 1) for one in properties.values())
