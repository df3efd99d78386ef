"""The management API as a client sees it, inside this process."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from uuid import uuid4

from django.test import Client

from tests.support.asgi import Answer


class Api:
    """One caller: a key's secret, or a signed-in user; every POST gets a new Idempotency-Key unless told otherwise."""

    def __init__(self, *, secret: str = "", user: Any = None, tenant: str = "") -> None:
        self._client = Client(raise_request_exception=False)
        self._headers = {"Authorization": f"Bearer {secret}"} if secret else {}
        if user is not None:
            self._client.force_login(user)
        if tenant:
            self._headers["Noburn-Tenant"] = tenant

    def send(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        raw: bytes | None = None,
        key: str | None = "new",
        headers: Mapping[str, str] | None = None,
        **query: Any,
    ) -> Answer:
        """One request. `key` "new" makes an Idempotency-Key up for a POST; None leaves it out."""
        sent = {**self._headers, **(headers or {})}
        if method == "POST" and key is not None:
            sent["Idempotency-Key"] = uuid4().hex if key == "new" else key
        content = raw if raw is not None else b"" if body is None else json.dumps(body).encode()
        response = self._client.generic(
            method, path, content, content_type="application/json", headers=sent, query_params=query or None
        )
        text = response.content
        is_json = "json" in response.headers.get("Content-Type", "")
        return Answer(
            status=response.status_code,
            headers={name.lower(): value for name, value in response.headers.items()},
            body=json.loads(text) if text and is_json else text.decode() or None,
        )

    def get(self, path: str, *, headers: Mapping[str, str] | None = None, **query: Any) -> Answer:
        """A GET; `query` names its parameters (`from_` is `from`)."""
        named: dict[str, Any] = {name.rstrip("_"): value for name, value in query.items()}
        return self.send("GET", path, headers=headers, **named)

    def post(self, path: str, body: Any = None, **options: Any) -> Answer:
        """A POST."""
        return self.send("POST", path, body, **options)

    def patch(self, path: str, body: Any, **options: Any) -> Answer:
        """A PATCH."""
        return self.send("PATCH", path, body, **options)

    def put(self, path: str, body: Any, **options: Any) -> Answer:
        """A PUT."""
        return self.send("PUT", path, body, **options)

    def delete(self, path: str, **options: Any) -> Answer:
        """A DELETE."""
        return self.send("DELETE", path, **options)

    def all(self, path: str, **query: Any) -> list[Any]:
        """Every item of a list, page by page."""
        items: list[Any] = []
        cursor: dict[str, Any] = {}
        for _ in range(1_000):
            answer = self.get(path, **query, **cursor)
            assert answer.status == 200, answer
            items += answer["items"]
            if answer["next_cursor"] is None:
                return items
            cursor = {"cursor": answer["next_cursor"]}
        raise AssertionError(f"{path} has no last page")
