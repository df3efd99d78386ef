"""The double as a plain ASGI application: routing, waiting, failing, streaming, remembering.

Controls: `GET` and `POST /__control`, `x-double-*` headers. Ledger: `GET /__ledger?after=0&limit=1000`,
`GET /__ledger/summary`, `DELETE /__ledger`. `POST /__control {"reset": true}` clears both.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import parse_qs

import msgspec

from tests.doubles.provider.anthropic_wire import MESSAGES, count_input
from tests.doubles.provider.calls import BadCall, Call, Wire, encode, meter
from tests.doubles.provider.controls import BadControl, Controls, Plan
from tests.doubles.provider.ledger import ENTRIES_MAX, Entry, Ledger, Metered
from tests.doubles.provider.openai_wire import CHAT, EMBEDDINGS, failure
from tests.doubles.provider.responses_wire import RESPONSES

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

BODY_MAX = 32 * 1024 * 1024
"""Bytes of a request; larger ones get 413, as from the providers."""

ROUTES: dict[str, Wire] = {
    "/v1/chat/completions": CHAT,
    "/v1/responses": RESPONSES,
    "/v1/embeddings": EMBEDDINGS,
    "/v1/messages": MESSAGES,
}
JSON = (b"content-type", b"application/json")
EVENTS = (b"content-type", b"text/event-stream; charset=utf-8")


class Cut(Exception):
    """Ends a response short of what its headers promised, which makes the server drop the connection."""


class TooLarge(ValueError):
    """A body beyond BODY_MAX."""


async def _read(receive: Receive) -> bytes:
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise TooLarge("the caller left before its request ended")
        part = message.get("body", b"")
        size += len(part)
        if size > BODY_MAX:
            raise TooLarge(f"The request exceeds {BODY_MAX} bytes.")
        parts.append(part)
        if not message.get("more_body"):
            return parts[0] if len(parts) == 1 else b"".join(parts)


async def _send(send: Send, status: int, value: object, headers: Headers | None = None) -> None:
    body = encode(value)
    length = (b"content-length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": status, "headers": [JSON, length, *(headers or [])]})
    await send({"type": "http.response.body", "body": body})


class Provider:
    """One double: its controls, its ledger, and the ASGI entry."""

    def __init__(self, entries_max: int = ENTRIES_MAX) -> None:
        self.controls = Controls()
        self.ledger = Ledger(entries_max)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        try:
            body = await _read(receive)
        except TooLarge as error:
            await _send(send, 413, failure(413, str(error), None))
            return
        path, method = scope["path"], scope["method"]
        wire = ROUTES.get(path) if method == "POST" else None
        if wire is not None:
            await self._call(wire, list(scope["headers"]), body, receive, send)
        else:
            status, value = self._manage(method, path, scope.get("query_string", b""), body)
            await _send(send, status, value)

    def _manage(self, method: str, path: str, query: bytes, body: bytes) -> tuple[int, object]:
        try:
            match method, path:
                case "GET", "/healthz":
                    return 200, {"ok": True}
                case "GET", "/__ledger/summary":
                    return 200, self.ledger.summary()
                case "GET", "/__ledger":
                    asked = {name: int(values[0]) for name, values in parse_qs(query.decode()).items()}
                    after, limit = asked.get("after", 0), asked.get("limit", ENTRIES_MAX)
                    return 200, self.ledger.page(after=after, limit=max(limit, 0))
                case "DELETE", "/__ledger":
                    self.ledger.clear()
                    return 200, self.ledger.summary()
                case "POST", "/__control":
                    self._change(msgspec.json.decode(body, type=dict[str, Any]))
                    return 200, self._settings()
                case "GET", "/__control":
                    return 200, self._settings()
                case "POST", "/v1/messages/count_tokens":
                    asked_for = msgspec.json.decode(body, type=dict[str, Any])
                    return 200, {"input_tokens": count_input(asked_for)}
                case _:
                    return 404, failure(404, f"Unknown request URL: {method} {path}.", None)
        except BadControl as error:
            return 400, {"errors": error.errors}
        except (msgspec.DecodeError, UnicodeDecodeError, ValueError) as error:
            return 400, {"errors": [str(error)]}

    def _change(self, message: dict[str, Any]) -> None:
        if message.pop("reset", False):
            self.controls.reset()
            self.ledger.clear()
        self.controls.change(message)

    def _settings(self) -> dict[str, Any]:
        return {"defaults": self.controls.defaults, "script_left": len(self.controls.script)}

    async def _call(self, wire: Wire, headers: Headers, body: bytes, receive: Receive, send: Send) -> None:
        started = time.perf_counter()
        by_name = dict(headers)
        named = by_name.get(b"x-double-customer") or by_name.get(b"x-noburn-customer")
        entry = self.ledger.open(
            Entry(
                seq=0,
                received_at=time.time(),
                endpoint=wire.endpoint,
                model="",
                stream=False,
                customer=named.decode("latin-1") if named else None,
                label=None,
                cap=None,
                noburn_headers=sorted(
                    {k.decode("latin-1") for k, _ in headers if k.startswith(b"x-noburn-")}
                ),
            )
        )

        def close(outcome: str, status: int = 200, metered: Metered | None = None) -> None:
            entry.outcome, entry.status = outcome, status
            if metered is not None:
                entry.metered, entry.usage = metered, wire.usage(plan, metered)
            entry.latency_ms = round((time.perf_counter() - started) * 1000, 3)
            self.ledger.close(entry)

        try:
            plan = self.controls.plan(headers)
            entry.label = plan.label
            call = wire.read(msgspec.json.decode(body, type=dict[str, Any]), entry.seq)
        except (BadControl, BadCall, msgspec.DecodeError, UnicodeDecodeError) as error:
            close("error", 400)
            await _send(send, 400, wire.failure(400, str(error), getattr(error, "param", None)))
            return
        entry.model, entry.stream, entry.cap = call.model, call.stream, call.cap
        entry.customer = entry.customer or call.customer
        identity = f"req_double_{entry.seq}".encode()
        marks: Headers = [(b"x-request-id", identity), (b"request-id", identity)]
        delay = self.controls.delay_seconds(plan)
        fails = self.controls.fails(plan)
        if delay:
            await asyncio.sleep(delay)
        if fails and plan.fail_status is not None:
            close("error", plan.fail_status)
            if plan.retry_after is not None:
                marks.append((b"retry-after", plan.retry_after.encode("latin-1")))
            value = wire.failure(plan.fail_status, "The double was told to fail.", None)
            await _send(send, plan.fail_status, value, marks)
            return
        metered = meter(call, plan)
        if call.stream:
            await self._stream(wire, call, plan, metered, marks, close, receive, send)
        elif plan.cut_after_chunks is not None:
            # The provider did the work and bills it; only the answer is lost.
            close("cut", 200, metered)
            await self._half(encode(wire.answer(call, plan, metered)), marks, send)
        else:
            close("ok", 200, metered)
            await _send(send, 200, wire.answer(call, plan, metered), marks)

    async def _half(self, body: bytes, marks: Headers, send: Send) -> None:
        length = (b"content-length", str(len(body)).encode())
        await send({"type": "http.response.start", "status": 200, "headers": [JSON, length, *marks]})
        await send({"type": "http.response.body", "body": body[: len(body) // 2], "more_body": True})
        raise Cut

    async def _stream(
        self,
        wire: Wire,
        call: Call,
        plan: Plan,
        metered: Metered,
        marks: Headers,
        close: Callable[[str, int, Metered], None],
        receive: Receive,
        send: Send,
    ) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [EVENTS, *marks]})
        gone = asyncio.ensure_future(receive())
        sent = seen = 0
        held = b""
        stops = [n for n in (plan.cut_after_chunks, plan.error_after_chunks) if n is not None]
        stop = min(stops, default=None)

        def so_far() -> Metered:
            billed = metered.reasoning_tokens + sent
            return msgspec.structs.replace(metered, output_tokens=min(billed, metered.output_tokens))

        try:
            for part in wire.stream(call, plan, metered):
                if part.piece and seen == stop:
                    break
                # One part is held back, so that the ledger is closed before a caller can see the end.
                if held:
                    await send({"type": "http.response.body", "body": held, "more_body": True})
                if plan.chunk_delay_ms and part.piece:
                    await asyncio.sleep(plan.chunk_delay_ms / 1000)
                if gone.done():
                    close("disconnected", 200, so_far())
                    return
                held, sent, seen = part.data, sent + part.tokens, seen + part.piece
            else:
                close("ok", 200, metered)
                await send({"type": "http.response.body", "body": held, "more_body": False})
                return
            failed = stop == plan.error_after_chunks
            close("failed" if failed else "cut", 200, so_far())
            await send({"type": "http.response.body", "body": held, "more_body": True})
            if not failed:
                raise Cut
            last = wire.stream_failure("The double was told to fail in the stream.")
            await send({"type": "http.response.body", "body": last, "more_body": False})
        finally:
            gone.cancel()
