"""The data plane's part of the OpenAPI document; `noburn.openapi` joins it with the management API's."""

from __future__ import annotations

from budgets.gateway.openapi import answers, leases, operations, requests
from budgets.gateway.openapi.operations import TAGS
from noburn.kit.openapi import Problems, Schema

__all__ = ["TAGS", "paths", "schemas"]


def paths(problems: Problems) -> dict[str, Schema]:
    """Every path of the data plane. What may fail is collected in `problems`."""
    return {**operations.paths(problems), **leases.paths(problems)}


def schemas() -> dict[str, Schema]:
    """Every schema that the data plane's paths refer to, but those that all interfaces share."""
    return {**requests.schemas(), **answers.schemas(), **leases.schemas()}
