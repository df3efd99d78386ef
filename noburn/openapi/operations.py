"""Describes an operation of the management API: what its author says, and what holds for all of them."""

from __future__ import annotations

from typing import Any, Final

from drf_spectacular.openapi import AutoSchema
from drf_spectacular.utils import OpenApiParameter
from rest_framework.serializers import Serializer

from noburn.kit import ids
from noburn.kit.openapi import NOBODY, Schema, ref
from noburn.kit.rest.serializers import Strict
from noburn.openapi.topics import tag_of
from tenants.domain.roles import OF_ONE_PROJECT, READABLE, WRITABLE, Topic

PROBLEMS: Final = "x-problems"
"""Where an operation says which problems it may answer beside the common ones: `extensions={PROBLEMS: [...]}`."""

COMMON: Final = ("invalid-request", "too-many-requests", "internal-error", "storage-unavailable")
KEYED: Final = ("unauthorized", "forbidden-scope", "forbidden-role")
BODIED: Final = ("body-too-large", "unsupported-media")
ANSWERS: Final = {"201": "It was made.", "204": "Done; there is nothing more to say."}
OF_PARENTS: Final = {"Budgets": ids.BUDGET}
OF_CHILDREN: Final = {
    "override": ids.BUDGET_OVERRIDE,
    "increase": ids.BUDGET_INCREASE,
    "version": ids.RATE_CARD_VERSION,
}
"""The kinds of ids in paths of things that belong to another thing."""

SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})


class ManagementSchema(AutoSchema):
    """Django REST framework's DEFAULT_SCHEMA_CLASS. `noburn.openapi.document` turns PROBLEMS into answers."""

    def get_operation(
        self, path: str, path_regex: str, path_prefix: str, method: str, registry: Any
    ) -> Schema | None:
        """The operation as OpenAPI has it; None for one that is left out."""
        operation: Schema | None = super().get_operation(path, path_regex, path_prefix, method, registry)
        if operation is None:
            return None
        if self._is_open:
            operation["security"] = NOBODY
        else:
            operation["security"] = [{"apiKey": []}, {"session": []}]
            operation["description"] = (
                f"{operation.get('description', '').strip()}\n\n{self._rights()}".strip()
            )
            operation["parameters"] = [*operation.get("parameters", []), *self._headers()]
        operation[PROBLEMS] = sorted({*self._problems(), *operation.get(PROBLEMS, ())})
        self._describe_answers(operation["responses"])
        return operation

    def get_tags(self) -> list[str]:
        """The topic by which documentation groups the operation."""
        return [tag_of(self.path)]

    def get_auth(self) -> list[dict[str, list[str]]]:
        """Nothing here: `get_operation` says it for all alike."""
        return []

    def _map_serializer(self, serializer: Any, direction: str, bypass_extensions: bool = False) -> Schema:
        """Says of input in which unknown fields are errors that there may be no others."""
        schema: Schema = super()._map_serializer(serializer, direction, bypass_extensions)  # type: ignore[no-untyped-call]
        if isinstance(serializer, Strict) and schema.get("type") == "object":
            schema["additionalProperties"] = False
        return schema

    def _resolve_path_parameters(self, variables: list[str]) -> list[Schema]:
        """Ids as the wire spells them, which the models' fields do not know."""
        own = getattr(self.view, "id_prefix", "") or OF_PARENTS.get(tag_of(self.path), "")
        found = []
        for name in variables:
            prefix = own if name in ("id", "pk") else OF_CHILDREN.get(name, "")
            schema: Schema = {"type": "string"}
            if prefix:
                schema["pattern"] = f"^{prefix}_[0-7][0-9a-hjkmnp-tv-z]{{25}}$"
            found.append({"name": name, "in": OpenApiParameter.PATH, "required": True, "schema": schema})
        return found

    def _get_parameters(self) -> list[Schema]:
        parameters: list[Schema] = super()._get_parameters()
        for parameter in parameters:
            if parameter["in"] == "query":
                _complete(parameter)
        representation: type[Serializer[Any]] | None = getattr(self.view, "representation", None)
        chosen = any(parameter["name"] == "fields" for parameter in parameters)
        if self.method == "GET" and representation is not None and not chosen:
            names = ", ".join(f"`{name}`" for name in representation().fields)
            parameters.append(
                {
                    "name": "fields",
                    "in": "query",
                    "description": f"Show these fields alone, with commas between them: {names}.",
                    "schema": {"type": "string"},
                }
            )
        return parameters

    @property
    def _is_open(self) -> bool:
        """Whether anybody may ask: its view looks for no key and no session."""
        return not self.view.authentication_classes

    @property
    def _is_one(self) -> bool:
        """Whether one object is read or changed, which then has an ETag."""
        return getattr(self.view, "action", "") in ("retrieve", "update", "partial_update", "destroy")

    def _headers(self) -> list[Schema]:
        names = []
        if self.method == "POST":
            names.append("IdempotencyKey")
        elif self.method not in SAFE_METHODS and self._is_one:
            names.append("IfMatch")
        elif self._is_one:
            names.append("IfNoneMatch")
        return [ref(name, "parameters") for name in (*names, "Tenant")]

    def _rights(self) -> str:
        topic: Topic | None = getattr(self.view, "topic", None)
        if topic is None:
            return "Needs a key of any scope, or a session."
        safe = self.method in SAFE_METHODS
        roles = [role for role, topics in (READABLE if safe else WRITABLE).items() if topic in topics]
        scope = "`read` or `manage`" if safe else "`manage`"
        own = "" if safe and topic in OF_ONE_PROJECT else " of the whole tenant"
        return (
            f"Needs a key{own} with the scope {scope}, or a session of a member with the role {_or(roles)}."
        )

    def _problems(self) -> list[str]:
        safe = self.method in SAFE_METHODS
        slugs = [*COMMON, *(() if safe else BODIED)]
        if self._is_open:
            return slugs
        slugs += KEYED
        if not safe:
            slugs.append("tenant-suspended")
        if self.method == "POST":
            slugs += ["idempotency-key-missing", "idempotency-conflict"]
        elif not safe and self._is_one:
            slugs.append("precondition-failed")
        if "{" in self.path:
            slugs.append("not-found")
        return slugs

    def _describe_answers(self, responses: dict[str, Schema]) -> None:
        """Adds the headers, and the answer to who has the present state already."""
        for status, response in responses.items():
            # An ETag stands for one whole object.
            tagged = (self._is_one and self.method != "DELETE") or status == "201"
            response["headers"] = {
                "X-Request-Id": ref("RequestId", "headers"),
                **({"ETag": ref("ETag", "headers")} if tagged and status in ("200", "201") else {}),
                **response.get("headers", {}),
            }
            response["description"] = response.get("description") or ANSWERS.get(status, "The answer.")
        if self.method == "GET" and self._is_one:
            responses["304"] = {
                "description": "Nothing changed.",
                "headers": {"X-Request-Id": ref("RequestId", "headers"), "ETag": ref("ETag", "headers")},
            }


def _complete(parameter: Schema) -> None:
    """Says of a filter what its author did not have to."""
    name = parameter["name"].replace("_", " ")
    if set(parameter["schema"].get("enum", ())) == {"true", "false"}:
        parameter["schema"] = {"type": "boolean"}
        parameter["description"] = parameter.get("description", "").split("\n")[0]
    of_two = parameter["schema"].get("type") == "boolean"
    words = f"Whether they are {name}; both without it." if of_two else f"Only those of this {name}."
    parameter["description"] = parameter.get("description") or words


def _or(words: list[str]) -> str:
    if len(words) < 2:
        return "".join(f"`{word}`" for word in words)
    return ", ".join(f"`{word}`" for word in words[:-1]) + f" or `{words[-1]}`"
