"""The OpenAPI document: it names every route, says enough about each, and what it shows is true."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import cache
from typing import Any

from drf_spectacular.drainage import GENERATOR_STATS
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.validation import validate_schema

from noburn.kit.problems import REGISTRY
from noburn.runtime.embedded import ROOT
from tests.api.routes import gateway_operations, management_routes
from tests.api.schemas import Checker
from tests.support.api import Api

METHODS = ("get", "post", "put", "patch", "delete")
NAME = re.compile(r"[a-z]+([A-Z][a-z0-9]*)+|preflight|settle|void")
PROBLEM = "application/problem+json"


@cache
def document() -> dict[str, Any]:
    """The document as it is served."""
    from noburn.openapi.document import document as served

    made: dict[str, Any] = json.loads(served()[0])
    return made


def resolve(part: Any) -> Any:
    """What a reference stands for."""
    while "$ref" in part:
        found: Any = document()
        for word in part["$ref"].removeprefix("#/").split("/"):
            found = found[word]
        part = found
    return part


def operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in document()["paths"].items():
        for method, operation in methods.items():
            assert method in METHODS, f"{path}: {method}"
            yield method.upper(), path, operation


def bodies() -> Iterator[tuple[str, dict[str, Any]]]:
    """Every body of a request and of an answer, with its place."""
    for method, path, operation in operations():
        if "requestBody" in operation:
            for kind, media in operation["requestBody"]["content"].items():
                yield f"{method} {path}: request {kind}", media
        for status, response in operation["responses"].items():
            for kind, media in resolve(response).get("content", {}).items():
                yield f"{method} {path}: {status} {kind}", media


class TestRoutes:
    def test_of_the_management_api_are_those_of_the_document(self) -> None:
        routes = {route.operation for route in management_routes()}
        assert routes == {(m, p) for m, p, _ in operations()} - gateway_operations()

    def test_of_the_gateway_are_those_of_the_document(self) -> None:
        written = {(method, path) for method, path, _ in operations()}
        assert gateway_operations() == written - {route.operation for route in management_routes()}


class TestOperations:
    def test_each_say_what_they_do(self) -> None:
        topics = {tag["name"] for tag in document()["tags"]}
        lacking = [
            f"{method} {path}: {what}"
            for method, path, operation in operations()
            for what, is_there in {
                "a summary": len(operation.get("summary", "")) > 5,
                "a description": len(operation.get("description", "")) > 20,
                "one topic that noburn/openapi/topics.py describes": len(operation["tags"]) == 1
                and operation["tags"][0] in topics,
                "who may": "security" in operation,
            }.items()
            if not is_there
        ]
        assert lacking == []

    def test_describe_every_parameter(self) -> None:
        lacking = [
            f"{method} {path}: {parameter['name']}"
            for method, path, operation in operations()
            for parameter in map(resolve, operation.get("parameters", []))
            if not parameter.get("description") and parameter["in"] != "path"
        ]
        assert lacking == []

    def test_have_names_of_their_own_that_a_client_can_use(self) -> None:
        names = [operation["operationId"] for _, _, operation in operations()]
        assert len(set(names)) == len(names)
        assert [name for name in names if not NAME.fullmatch(name)] == []

    def test_show_an_example_of_every_body(self) -> None:
        lacking = [place for place, media in bodies() if not media.get("examples")]
        assert lacking == []

    def test_take_an_idempotency_key_wherever_they_make_something(self) -> None:
        lacking = [
            f"{method} {path}"
            for method, path, operation in operations()
            # A report that anybody may make is no thing that could be made twice.
            if (method == "POST" and operation["security"] != [])
            != any(resolve(p)["name"] == "Idempotency-Key" for p in operation.get("parameters", []))
        ]
        assert lacking == []

    def test_name_only_problems_that_have_a_page(self) -> None:
        for place, media in bodies():
            if PROBLEM in place:
                assert set(media["examples"]) <= set(REGISTRY), place


class TestExamples:
    def test_are_what_their_schemas_say(self) -> None:
        checker = Checker(document()["components"]["schemas"])
        wrong = [
            f"{place} {name}: {error}"
            for place, media in bodies()
            for name, example in media["examples"].items()
            for error in checker.errors(media["schema"], example["value"])
        ]
        assert wrong == []


class TestDocument:
    def test_is_openapi_and_made_without_a_warning(self) -> None:
        made = SchemaGenerator().get_schema(request=None, public=True)
        validate_schema(made)
        # What drf-spectacular complained of; its own summary is only printed.
        assert [*GENERATOR_STATS._warn_cache, *GENERATOR_STATS._error_cache] == []
        assert made["openapi"].startswith("3.1")

    def test_refers_to_what_is_there_and_holds_nothing_that_nobody_needs(self) -> None:
        text = json.dumps(document())
        wanted = set(re.findall(r'"#/components/(\w+)/([\w.-]+)"', text))
        there = {
            (room, name)
            for room, parts in document()["components"].items()
            if room != "securitySchemes"
            for name in parts
        }
        assert wanted == there

    def test_is_the_one_in_the_repository(self) -> None:
        kept = json.loads((ROOT / "docs" / "openapi.json").read_text())
        made = {**document(), "servers": kept["servers"]}
        assert kept == made, "run `make openapi`: docs/openapi.json is not what the code says"

    def test_is_served_to_anybody_once(self) -> None:
        api = Api()
        answer = api.get("/v1/openapi.json")
        assert answer.status == 200
        assert answer.body == document()
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["cache-control"] == "public, max-age=300"
        again = api.get("/v1/openapi.json", headers={"If-None-Match": answer.headers["etag"]})
        assert (again.status, again.body) == (304, None)

    def test_is_not_to_be_changed(self) -> None:
        refused = Api().post("/v1/openapi.json", {})
        assert (refused.status, refused.kind) == (405, "method-not-allowed")
        assert refused.headers["allow"] == "GET, HEAD"
