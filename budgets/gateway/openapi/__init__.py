"""The data plane's part of the OpenAPI document; `noburn.openapi` joins it with the management API's."""

from __future__ import annotations

from budgets.gateway.openapi import answers, requests
from budgets.gateway.openapi.operations import TAGS, paths
from noburn.kit.openapi import Schema

__all__ = ["TAGS", "paths", "schemas"]


def schemas() -> dict[str, Schema]:
    """Every schema that the data plane's paths refer to, but those that all interfaces share."""
    return {**requests.schemas(), **answers.schemas()}
