"""Connections to one address: kept, bounded, and never given on where what comes next would be somebody else's."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import httpcore
import pytest
from noburn_sdk.gate.connections import Connections

T = TypeVar("T")
SECONDS = {"connect": 60.0, "read": 60.0, "write": 60.0, "pool": 60.0}
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Server:
    """Answers each request with the next of its texts; counts connections."""

    def __init__(self, *answers: bytes) -> None:
        self.answers = list(answers)
        self.connections = 0
        self.asked = asyncio.Event()
        self.go = asyncio.Event()
        self.go.set()

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                await reader.readuntil(b"\r\n\r\n")
                self.asked.set()
                await self.go.wait()
                answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
                writer.write(answer)
                await writer.drain()
                if not answer or b"connection: close" in answer:
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


def with_server(serve: Server, work: Callable[[Connections], Awaitable[T]], **options: Any) -> T:
    """Runs work with connections to a server of its own."""

    async def run() -> T:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        chosen = {"most": 10, "kept": 10, "keep_seconds": 60.0, **options}
        connections = Connections(scheme="http", host="127.0.0.1", port=port, **chosen)
        try:
            return await work(connections)
        finally:
            await connections.aclose()
            server.close()

    return asyncio.run(run())


async def ask(connections: Connections, method: str = "GET", **seconds: float) -> tuple[int, bytes]:
    """One request."""
    answer = await connections.send(method, b"/", [(b"host", b"x")], b"", {**SECONDS, **seconds})
    try:
        return answer.status, await answer.aread()
    finally:
        await answer.aclose()


class TestConnections:
    def test_are_used_again(self) -> None:
        async def work(connections: Connections) -> list[tuple[int, bytes]]:
            return [await ask(connections) for _ in range(5)]

        server = Server(OK)
        assert with_server(server, work) == [(200, b"ok")] * 5
        assert server.connections == 1

    def test_beyond_those_kept_do_not_cost_the_others_theirs(self) -> None:
        """httpcore's pool closes every one while there are more than it keeps."""

        async def work(connections: Connections) -> list[int]:
            counts = []
            for _ in range(3):
                await asyncio.gather(*(ask(connections) for _ in range(8)))
                counts.append(server.connections)
            return counts

        server = Server(OK)
        first, second, third = with_server(server, work, kept=6)
        assert first == 8
        assert second - first <= 2
        assert third - second <= 2

    def test_are_as_many_as_allowed_and_the_rest_waits(self) -> None:
        async def work(connections: Connections) -> list[tuple[int, bytes]]:
            return await asyncio.gather(*(ask(connections) for _ in range(20)))

        server = Server(OK)
        assert with_server(server, work, most=3) == [(200, b"ok")] * 20
        assert server.connections == 3

    def test_are_waited_for_no_longer_than_told(self) -> None:
        async def work(connections: Connections) -> tuple[int, bytes]:
            server.go.clear()
            first = asyncio.ensure_future(ask(connections))
            await server.asked.wait()
            with pytest.raises(httpcore.PoolTimeout):
                await ask(connections, pool=0.0)
            server.go.set()
            return await first

        server = Server(OK)
        assert with_server(server, work, most=1) == (200, b"ok")

    def test_whose_answer_was_not_read_to_its_end_are_closed(self) -> None:
        async def work(connections: Connections) -> tuple[int, bytes]:
            answer = await connections.send("GET", b"/", [(b"host", b"x")], b"", SECONDS)
            await answer.aclose()
            return await ask(connections)

        server = Server(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nshort", OK)
        assert with_server(server, work, most=1) == (200, b"ok")
        assert server.connections == 2

    def test_with_bytes_behind_their_answer_serve_nobody_else(self) -> None:
        async def work(connections: Connections) -> list[tuple[int, bytes]]:
            return [await ask(connections) for _ in range(2)]

        evil = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil"
        server = Server(OK + evil, OK)
        assert with_server(server, work) == [(200, b"ok")] * 2
        assert server.connections == 2

    def test_that_the_server_closes_are_not_used_again(self) -> None:
        async def work(connections: Connections) -> list[tuple[int, bytes]]:
            return [await ask(connections) for _ in range(2)]

        server = Server(OK.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n"))
        assert with_server(server, work) == [(200, b"ok")] * 2
        assert server.connections == 2

    @pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 101 Switching\r\n\r\n", b"nonsense\r\n\r\n"])
    def test_that_fail_give_their_place_back(self, answer: bytes) -> None:
        async def work(connections: Connections) -> tuple[int, bytes]:
            with pytest.raises(httpcore.RemoteProtocolError):
                await ask(connections)
            return await ask(connections, pool=0.0)

        assert with_server(Server(answer, OK), work, most=1) == (200, b"ok")

    def test_of_callers_that_go_away_give_their_place_back(self) -> None:
        async def work(connections: Connections) -> tuple[int, bytes]:
            server.go.clear()
            gone = asyncio.ensure_future(ask(connections))
            await server.asked.wait()
            gone.cancel()
            with pytest.raises(asyncio.CancelledError):
                await gone
            server.go.set()
            return await ask(connections, pool=0.0)

        server = Server(OK)
        assert with_server(server, work, most=1) == (200, b"ok")

    def test_pass_over_what_is_said_before_the_answer(self) -> None:
        server = Server(b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" + OK)
        assert with_server(server, ask) == (200, b"ok")

    def test_know_that_some_answers_have_no_body(self) -> None:
        async def work(connections: Connections) -> list[tuple[int, bytes]]:
            return [await ask(connections, "HEAD"), await ask(connections, "HEAD")]

        server = Server(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n")
        assert with_server(server, work) == [(200, b"")] * 2
        assert server.connections == 1

    def test_count_an_answer_that_comes_although_the_request_could_not_be_written(self) -> None:
        class Stream(httpcore.AsyncMockStream):
            async def write(self, *_: Any, **__: Any) -> None:
                raise httpcore.WriteError("closed")

        class Backend(httpcore.AsyncMockBackend):
            async def connect_tcp(self, *_: Any, **__: Any) -> httpcore.AsyncNetworkStream:
                return Stream([b"HTTP/1.1 413 Too Large\r\ncontent-length: 2\r\n\r\nno"])

        assert with_server(Server(OK), ask, backend=Backend([])) == (413, b"no")

    def test_refuse_a_request_that_no_server_would_understand(self) -> None:
        async def work(connections: Connections) -> None:
            with pytest.raises(httpcore.LocalProtocolError):
                await connections.send("GET", b"/", [(b"host", b"a\r\nb: c")], b"", SECONDS)

        with_server(Server(OK), work)
