"""What schemathesis must know of noburn to come beyond 400 and 404: ids and authorizations that exist, fresh keys.

Loaded by schemathesis itself (SCHEMATHESIS_HOOKS). Only what was generated to be valid is exchanged for what exists.
"""

from __future__ import annotations

import json
import os
import random
import re
from pathlib import Path
from typing import Any

import schemathesis
from schemathesis.core.parameters import ParameterLocation

from tests.api.schemas import strict

POOL: dict[str, Any] = json.loads(Path(os.environ["NOBURN_SCHEMATHESIS_POOL"]).read_text())
RANDOM = random.Random(POOL["seed"])
REAL_SHARE = 0.8
PREFIX = re.compile(r"\^(\w+)_\[")
EXTEND = "/v1/holds/{id}/extend"


@schemathesis.hook
def before_load_schema(context: Any, raw_schema: dict[str, Any]) -> None:
    """Checks answers more strictly than a client may, and leaves chosen fields to tests of their own.

    With `fields` an answer rightly lacks what its schema requires.
    """
    schemas = raw_schema["components"]["schemas"]
    sent = _of_requests(raw_schema)
    for name in schemas:
        if name not in sent:
            schemas[name] = strict(schemas[name], name)
    for methods in raw_schema["paths"].values():
        for operation in methods.values():
            operation["parameters"] = [
                p for p in operation.get("parameters", []) if p.get("name") != "fields"
            ]


def _of_requests(raw_schema: dict[str, Any]) -> set[str]:
    """The schemas that requests use."""
    found: set[str] = set()
    bodies = [
        operation["requestBody"]
        for methods in raw_schema["paths"].values()
        for operation in methods.values()
        if "requestBody" in operation
    ]
    todo = set(re.findall(r"#/components/schemas/(\w+)", json.dumps(bodies)))
    while todo:
        found |= todo
        inner = json.dumps([raw_schema["components"]["schemas"][name] for name in todo])
        todo = set(re.findall(r"#/components/schemas/(\w+)", inner)) - found
    return found


def _is_valid(case: Any, location: ParameterLocation) -> bool:
    """Whether this part of a case was generated to be accepted."""
    if case.meta is None:
        return True
    part = case.meta.components.get(location)
    return part is None or part.mode.is_positive


@schemathesis.hook
def filter_case(context: Any, case: Any) -> bool:
    """Lets nothing revoke the key that asks, or have it end."""
    return bool((case.path_parameters or {}).get("id") != POOL["own_key"])


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: dict[str, Any]) -> None:
    """Exchanges what was made up for what exists."""
    if case.headers.get("Idempotency-Key") and _is_valid(case, ParameterLocation.HEADER):
        case.headers["Idempotency-Key"] = f"{RANDOM.getrandbits(96):024x}"
    real = RANDOM.random() < REAL_SHARE
    hold, token = RANDOM.choice(POOL["holds"])
    parameters = case.path_parameters or {}
    if real and parameters and _is_valid(case, ParameterLocation.PATH):
        for name, wanted in _wanted(case.operation).items():
            if name in parameters and POOL["ids"].get(wanted):
                parameters[name] = RANDOM.choice(POOL["ids"][wanted])
        if case.operation.path == EXTEND:
            parameters["id"] = hold
    if real and _is_valid(case, ParameterLocation.BODY) and isinstance(case.body, dict):
        _exchange(case.body, token)


def _wanted(operation: Any) -> dict[str, str]:
    """The prefix of the id that each of an operation's path parameters is."""
    found = {}
    for parameter in operation.definition.raw.get("parameters", []):
        match = PREFIX.match(parameter.get("schema", {}).get("pattern", ""))
        if match:
            found[parameter["name"]] = match.group(1)
    return found


def _exchange(body: dict[str, Any], token: str) -> None:
    if isinstance(body.get("authorization"), str):
        body["authorization"] = token
    for item in body.get("settlements") or []:
        if isinstance(item, dict) and isinstance(item.get("authorization"), str):
            item["authorization"] = RANDOM.choice(POOL["holds"])[1]
