"""Stripe's own OpenAPI document: what a request may contain, and what an answer must.

The document (8 MB) is in a wheel that `make setup` lays beside the environment and does not install. What
the double's routes need of it is pruned once, kept there as JSON, and compiled when a route is first used.
"""

from __future__ import annotations

import hashlib
import json
import sys
import zipfile
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import jsonschema_rs

from tests.doubles.stripe.failures import Failure

WHEELS = Path(sys.prefix) / "stripe-spec"
MEMBER = "seahaven_stripe_world/spec/spec3.json"
FORM = "application/x-www-form-urlencoded"
PRUNING = 5
"""Raised when the pruning changes, so that what was kept is made again."""

Key = tuple[str, str]


def _wheel() -> Path:
    found = sorted(WHEELS.glob("seahaven_stripe_world-*.whl"))
    if not found:
        raise RuntimeError(f"{WHEELS} holds no wheel with Stripe's document: run make setup")
    return found[0]


def _kept(routes: list[Key]) -> Path:
    wheel = _wheel()
    text = json.dumps([PRUNING, wheel.name, wheel.stat().st_size, sorted(routes)])
    return WHEELS / f"pruned-{hashlib.sha256(text.encode()).hexdigest()[:16]}.json"


def load(routes: list[Key]) -> dict[str, Any]:
    """Returns {"operations": {"POST /v1/…": {"request", "answer"}}, "schemas"} of these routes."""
    kept = _kept(routes)
    if kept.exists():
        read: dict[str, Any] = json.loads(kept.read_bytes())
        return read
    with zipfile.ZipFile(_wheel()) as archive:
        document = json.loads(archive.read(MEMBER))
    pruned = _prune(document, routes)
    part = kept.with_suffix(f".{hashlib.sha256(str(id(pruned)).encode()).hexdigest()[:8]}.part")
    part.write_text(json.dumps(pruned))
    part.replace(kept)
    return pruned


def _prune(document: dict[str, Any], routes: list[Key]) -> dict[str, Any]:
    operations: dict[str, Any] = {}
    wanted: set[str] = set()
    for method, path in routes:
        operation = document["paths"].get(path, {}).get(method.lower())
        if operation is None:
            continue
        answer = _schema(operation["responses"]["200"]["content"]["application/json"]["schema"], wanted)
        operations[f"{method} {path}"] = {"request": _request(operation, wanted), "answer": answer}
    schemas: dict[str, Any] = {}
    while wanted - schemas.keys():
        for name in wanted - schemas.keys():
            schemas[name] = _schema(document["components"]["schemas"][name], wanted)
    return {"operations": operations, "schemas": schemas}


def _request(operation: dict[str, Any], wanted: set[str]) -> dict[str, Any]:
    body = operation.get("requestBody", {}).get("content", {}).get(FORM, {}).get("schema", {})
    schema: dict[str, Any] = _schema(body, wanted) or {"type": "object", "properties": {}}
    for parameter in operation.get("parameters", []):
        if parameter["in"] == "query":
            schema.setdefault("properties", {})[parameter["name"]] = _schema(parameter["schema"], wanted)
            if parameter.get("required"):
                schema.setdefault("required", []).append(parameter["name"])
    schema["additionalProperties"] = False
    return schema


_KEPT = (
    "type",
    "enum",
    "required",
    "additionalProperties",
    "maxLength",
    "anyOf",
    "items",
    "properties",
    "minimum",
    "maximum",
)


def _schema(node: Any, wanted: set[str]) -> Any:
    """Returns an OpenAPI 3.0 schema as JSON Schema: nullable becomes a type, prose and expansions go away."""
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        name = node["$ref"].removeprefix("#/components/schemas/")
        wanted.add(name)
        return {"$ref": f"#/schemas/{name}"}
    made: dict[str, Any] = {}
    for word in _KEPT:
        if word not in node:
            continue
        value = node[word]
        if word == "properties":
            made[word] = {name: _schema(each, wanted) for name, each in value.items()}
        elif word == "anyOf":
            expands = "x-expansionResources" in node
            # What may be expanded is checked by its id: the whole of Stripe hangs together by expansions.
            kept = [each for each in value if not (expands and "$ref" in each)]
            made[word] = [_schema(each, wanted) for each in kept]
            if expands:
                made[word].append({"type": "object", "required": ["id", "object"]})
        elif word in ("items", "additionalProperties"):
            made[word] = _schema(value, wanted)
        else:
            made[word] = value
    if node.get("nullable"):
        return {"anyOf": [made, {"type": "null"}]}
    return made


class Spec:
    """The pruned document, compiled as it is used."""

    def __init__(self, routes: list[Key]) -> None:
        self._document = load(routes)
        self._compiled: dict[str, jsonschema_rs.Draft202012Validator] = {}

    def __contains__(self, key: Key) -> bool:
        return " ".join(key) in self._document["operations"]

    def _wrong(self, key: Key, side: str, value: Any) -> list[jsonschema.ValidationError]:
        """Returns what is wrong; the compiled form answers first, since nearly always nothing is."""
        schema = self._document["operations"][" ".join(key)][side]
        if self._fits(schema, value):
            return []
        whole = {**schema, "schemas": self._document["schemas"]}
        return sorted(jsonschema.Draft202012Validator(whole).iter_errors(value), key=str)

    def _fits(self, schema: dict[str, Any], value: Any) -> bool:
        name = json.dumps(schema, sort_keys=True)
        if name not in self._compiled:
            whole = {**schema, "schemas": self._document["schemas"]}
            self._compiled[name] = jsonschema_rs.Draft202012Validator(whole)
        return self._compiled[name].is_valid(value)

    def read(self, key: Key, params: dict[str, Any]) -> dict[str, Any]:
        """Returns a request's fields in the document's types. Raises Failure as Stripe does."""
        if key not in self:
            return params
        schema = self._document["operations"][" ".join(key)]["request"]
        typed: dict[str, Any] = self._typed(schema, params)
        for error in self._wrong(key, "request", typed):
            raise _told(error)
        return typed

    def check(self, key: Key, answer: dict[str, Any]) -> None:
        """Raises AssertionError where an answer of the double is not one of Stripe's."""
        if key not in self:
            return
        errors = self._wrong(key, "answer", answer)
        if errors:
            said = "; ".join(f"{_where(error)}: {error.message[:200]}" for error in errors[:5])
            raise AssertionError(f"{' '.join(key)}: {said}")

    def _typed(self, schema: dict[str, Any], value: Any) -> Any:
        if "$ref" in schema:
            return self._typed(self._document["schemas"][schema["$ref"].removeprefix("#/schemas/")], value)
        if "anyOf" in schema:
            return self._typed_any(schema["anyOf"], value)
        kind = schema.get("type")
        if kind == "object" and isinstance(value, dict):
            known = schema.get("properties", {})
            rest = schema.get("additionalProperties")
            other = rest if isinstance(rest, dict) else {}
            return {name: self._typed(known.get(name, other), each) for name, each in value.items()}
        if kind == "object" and isinstance(value, list):
            # Names that are all digits look like a list on the wire.
            return self._typed(schema, {str(at): each for at, each in enumerate(value)})
        if kind == "array" and isinstance(value, list):
            return [self._typed(schema.get("items", {}), each) for each in value]
        if not isinstance(value, str):
            return value
        if kind == "integer" and value.lstrip("-").isdigit():
            return int(value)
        if kind == "boolean" and value in ("true", "false"):
            return value == "true"
        if kind == "number":
            try:
                return float(value)
            except ValueError:
                return value
        return value

    def _typed_any(self, choices: list[dict[str, Any]], value: Any) -> Any:
        for choice in choices:
            typed = self._typed(choice, value)
            if self._fits(choice, typed):
                return typed
        return self._typed(choices[0], value)


def _where(error: jsonschema.ValidationError) -> str:
    path = list(error.absolute_path)
    return "".join(f"[{part}]" if at else str(part) for at, part in enumerate(path))


def _told(error: jsonschema.ValidationError) -> Failure:
    inside = _where(error)
    if error.validator == "required":
        name = error.message.split("'")[1]
        param = f"{inside}[{name}]" if inside else name
        return Failure(400, f"Missing required param: {param}.", code="parameter_missing", param=param)
    if error.validator == "additionalProperties":
        name = error.message.split("'")[1]
        param = f"{inside}[{name}]" if inside else name
        return Failure(400, f"Received unknown parameter: {param}", code="parameter_unknown", param=param)
    if error.validator == "maxLength":
        said = f"Invalid string: {inside} is too long"
        return Failure(400, said, code="parameter_invalid_string_too_long", param=inside)
    if error.validator == "type" and error.validator_value == "integer":
        said = f"Invalid integer: {error.instance}"
        return Failure(400, said, code="parameter_invalid_integer", param=inside)
    return Failure(400, f"Invalid {inside}: {error.message[:200]}", param=inside or None)


@cache
def shared(routes: tuple[Key, ...]) -> Spec:
    """One compiled document for all doubles of a process."""
    return Spec(list(routes))
