"""The API reference: the OpenAPI document, turned into what a page can show without a script."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from django.urls import reverse
from django.utils.safestring import SafeString, mark_safe
from django.utils.text import slugify

from noburn.docs.markdown import inline
from noburn.openapi.document import document

Schema = Mapping[str, Any]
DEPTH_MAX: Final = 4
"""How deep members of members are listed; below it the example shows what there is."""

METHODS: Final = ("get", "post", "put", "patch", "delete")


@dataclass(frozen=True, kw_only=True, slots=True)
class Field:
    """A parameter, or a member of a body by its path (`items[].limit_usd`)."""

    name: str
    kind: str
    required: bool
    said: SafeString
    where: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Example:
    """An example of a body, as JSON."""

    title: str
    text: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Reply:
    """An answer that is no failure."""

    status: str
    said: SafeString
    fields: tuple[Field, ...]
    examples: tuple[Example, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Operation:
    """One operation. `problems` are (status, slug) of the failures that it may answer."""

    id: str
    method: str
    path: str
    summary: str
    description: str
    said: SafeString
    address: str
    parameters: tuple[Field, ...]
    body: tuple[Field, ...]
    body_examples: tuple[Example, ...]
    replies: tuple[Reply, ...]
    problems: tuple[tuple[str, str], ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Topic:
    """The operations of one topic."""

    slug: str
    name: str
    description: str
    operations: tuple[Operation, ...]


@cache
def topics() -> tuple[Topic, ...]:
    """Every topic that has operations, in the document's order."""
    spec: Schema = json.loads(document()[0])
    by_name: dict[str, list[Operation]] = {tag["name"]: [] for tag in spec["tags"]}
    for path, methods in spec["paths"].items():
        for method in METHODS:
            if method in methods:
                name = methods[method]["tags"][0]
                by_name[name].append(_operation(spec, path, method, methods[method], slugify(name)))
    return tuple(
        Topic(slug=slugify(tag["name"]), name=tag["name"], description=tag["description"], operations=found)
        for tag in spec["tags"]
        if (found := tuple(by_name[tag["name"]]))
    )


@cache
def description() -> SafeString:
    """What holds for all operations."""
    spec: Schema = json.loads(document()[0])
    return _said(spec["info"]["description"])


def _operation(spec: Schema, path: str, method: str, told: Schema, topic: str) -> Operation:
    content = told.get("requestBody", {}).get("content", {}).get("application/json", {})
    answers = {status: _resolved(spec, answer) for status, answer in told["responses"].items()}
    return Operation(
        id=told["operationId"],
        method=method.upper(),
        path=path,
        summary=told["summary"],
        description=told["description"],
        said=_said(told["description"]),
        address=f"{reverse('docs:topic', kwargs={'topic': topic})}#{told['operationId']}",
        parameters=tuple(_parameter(spec, parameter) for parameter in told.get("parameters", ())),
        body=tuple(_members(spec, content.get("schema", {}))),
        body_examples=_examples(content),
        replies=tuple(
            _reply(spec, status, answer) for status, answer in answers.items() if status.startswith("2")
        ),
        problems=tuple(
            (status, slug)
            for status, answer in answers.items()
            for slug in answer.get("content", {}).get("application/problem+json", {}).get("examples", {})
        ),
    )


def _parameter(spec: Schema, told: Schema) -> Field:
    parameter = _resolved(spec, told)
    return Field(
        name=parameter["name"],
        where=parameter["in"],
        kind=_kind(spec, parameter.get("schema", {})),
        required=bool(parameter.get("required")),
        said=_said(_text(parameter, parameter.get("schema", {}))),
    )


def _reply(spec: Schema, status: str, answer: Schema) -> Reply:
    content = answer.get("content", {}).get("application/json", {})
    return Reply(
        status=status,
        said=_said(answer.get("description", "")),
        fields=tuple(_members(spec, content.get("schema", {}))),
        examples=_examples(content),
    )


def _examples(content: Schema) -> tuple[Example, ...]:
    return tuple(
        Example(
            title=example.get("summary", name),
            text=json.dumps(example["value"], ensure_ascii=False, indent=2),
        )
        for name, example in content.get("examples", {}).items()
    )


def _members(spec: Schema, schema: Schema, prefix: str = "", depth: int = 1) -> Iterator[Field]:
    whole = _merged(spec, schema)
    if whole.get("type") == "array":
        yield from _members(spec, whole.get("items", {}), f"{prefix}[]" if prefix else "[]", depth)
        return
    required = set(whole.get("required", ()))
    for name, told in whole.get("properties", {}).items():
        path = f"{prefix}.{name}" if prefix else name
        member = _merged(spec, told)
        yield Field(
            name=path,
            kind=_kind(spec, told),
            required=name in required,
            said=_said(_text(told, member)),
        )
        inner = member.get("items") if member.get("type") == "array" else member
        if depth < DEPTH_MAX and inner:
            yield from _members(spec, inner, f"{path}[]" if inner is not member else path, depth + 1)


def _merged(spec: Schema, schema: Schema) -> dict[str, Any]:
    """A schema with what it refers to; of alternatives the members of all of them."""
    whole = dict(_resolved(spec, schema))
    parts = [*whole.pop("allOf", ()), *whole.pop("oneOf", ()), *whole.pop("anyOf", ())]
    properties = dict(whole.get("properties", {}))
    for part in parts:
        other = _merged(spec, part)
        for name, told in other.get("properties", {}).items():
            properties.setdefault(name, told)
        for key in ("type", "items", "enum", "format", "description"):
            if other.get("type") != "null" and key in other:
                whole.setdefault(key, other[key])
    if properties:
        whole["properties"] = properties
    return whole


def _resolved(spec: Schema, schema: Schema) -> Schema:
    if "$ref" not in schema:
        return schema
    found: Any = spec
    for step in schema["$ref"].removeprefix("#/").split("/"):
        found = found[step]
    return {**found, **{name: value for name, value in schema.items() if name != "$ref"}}


def _kind(spec: Schema, schema: Schema) -> str:
    """What a value is, in a few words."""
    whole = _merged(spec, schema)
    kinds = whole.get("type", "")
    listed = list(kinds) if isinstance(kinds, list) else [kinds] if kinds else []
    if any(part.get("type") == "null" for part in schema.get("oneOf", schema.get("anyOf", ()))):
        listed.append("null")
    if "array" in listed and whole.get("items"):
        listed[listed.index("array")] = f"array of {_kind(spec, whole['items']) or 'values'}"
    text = " or ".join(listed)
    values = whole.get("enum", [whole["const"]] if "const" in whole else [])
    if values:
        text = ", ".join("null" if value is None else str(value) for value in values)
    elif whole.get("format") == "date-time":
        text = text.replace("string", "time")
    return text


def _text(*told: Schema) -> str:
    return next((schema["description"] for schema in told if schema.get("description")), "")


def _said(text: str) -> SafeString:
    # What the renderer makes holds no HTML of its source.
    return mark_safe(inline(text))  # noqa: S308
