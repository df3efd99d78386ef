"""One request as ASGI brings it, read whole and bounded."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final
from urllib.parse import parse_qsl

from noburn.kit.problems import FieldError, ProblemError, problem

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]

KEY_CHARS_MAX: Final = 255
QUERY_FIELDS_MAX: Final = 50


class Request:
    """One request, with its body read and bounded."""

    __slots__ = ("_query", "body", "client", "headers", "id", "path")

    def __init__(self, scope: Scope, body: bytes, request_id: str) -> None:
        self.path: str = scope["path"]
        self._query: bytes = scope["query_string"]
        self.headers: dict[bytes, bytes] = dict(scope["headers"])
        self.client: str = (scope.get("client") or ("",))[0]
        self.body = body
        self.id = request_id

    @property
    def query(self) -> dict[str, str]:
        """The parameters of the address. Raises ProblemError for more than QUERY_FIELDS_MAX."""
        try:
            return dict(parse_qsl(self._query.decode("latin-1"), max_num_fields=QUERY_FIELDS_MAX))
        except ValueError as error:
            raise ProblemError(
                problem("invalid-request", f"At most {QUERY_FIELDS_MAX} parameters are read here.")
            ) from error

    def check_media(self) -> None:
        """Refuses a body that says it is no JSON; one that says nothing is read as JSON. Raises ProblemError."""
        kind = self.headers.get(b"content-type", b"application/json")
        media = kind.partition(b";")[0].strip().lower()
        if media != b"application/json" and not media.endswith(b"+json"):
            raise ProblemError(problem("unsupported-media", "Send `Content-Type: application/json`."))

    @property
    def idempotency_key(self) -> str:
        """The Idempotency-Key header of a POST, whose body must be JSON. Raises ProblemError."""
        self.check_media()
        key = self.headers.get(b"idempotency-key", b"").decode("latin-1").strip()
        if not key:
            raise ProblemError(
                problem("idempotency-key-missing", detail="Every POST needs an Idempotency-Key header.")
            )
        if len(key) > KEY_CHARS_MAX:
            detail = f"Idempotency-Key: at most {KEY_CHARS_MAX} characters."
            raise ProblemError(
                problem("invalid-request", detail=detail, errors=[FieldError("Idempotency-Key", detail)])
            )
        return key


async def read_body(receive: Receive, limit: int) -> bytes:
    """Returns the whole body of at most `limit` bytes. Raises ProblemError."""
    message = await receive()
    body: bytes = message.get("body", b"")
    if message.get("more_body"):
        parts, size = [body], len(body)
        while message.get("more_body") and size <= limit:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ProblemError(problem("invalid-request", detail="The client went away."))
            parts.append(message.get("body", b""))
            size += len(parts[-1])
        body = b"".join(parts)
    if len(body) > limit:
        raise ProblemError(problem("body-too-large", detail=f"At most {limit} bytes of body are read here."))
    return body
