"""Sends requests to an ASGI application inside this process."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from budgets.gateway.app import GatewayApp


@dataclass(frozen=True)
class Answer:
    """What came back; `body` is None when it was empty."""

    status: int
    headers: dict[str, str]
    body: Any

    def __getitem__(self, name: str) -> Any:
        return self.body[name]

    @property
    def kind(self) -> str:
        """The slug of a problem."""
        return str(self.body["type"]).rsplit("/", 1)[-1]

    @property
    def fields(self) -> dict[str, str]:
        """A problem's messages by field."""
        return {error["field"]: error["message"] for error in self.body["errors"]}

    @property
    def decision(self) -> str:
        """`allow`, or the reason of a refusal; the slug of a problem."""
        if self.status != 200:
            return self.kind
        return str(self.body.get("reason", self.body["decision"]))


async def send(
    app: GatewayApp,
    method: str,
    path: str,
    *,
    body: object = None,
    raw: bytes | None = None,
    secret: str = "",
    idempotency_key: str | None = "new",
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """One request. `idempotency_key` "new" makes one up for a POST; None leaves it out."""
    path, _, query = path.partition("?")
    sent = {"content-type": "application/json", **(headers or {})}
    if secret:
        sent["authorization"] = f"Bearer {secret}"
    if method == "POST" and idempotency_key is not None:
        sent["idempotency-key"] = uuid4().hex if idempotency_key == "new" else idempotency_key
    content = raw if raw is not None else b"" if body is None else json.dumps(body).encode()
    told: dict[str, Any] = {}

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": content}

    async def answer(message: Any) -> None:
        told.update(message)

    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "query_string": query.encode(),
        "headers": [(name.encode(), value.encode("latin-1")) for name, value in sent.items()],
    }
    await app(scope, receive, answer)
    return Answer(
        status=told["status"],
        headers={name.decode(): value.decode() for name, value in told["headers"]},
        body=json.loads(told["body"]) if told["body"] else None,
    )
