"""What a hostile or broken caller may send: malformed, too much, too slowly, or framed in two ways at once."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest

from tests.proxy.conftest import Keys, Start
from tests.proxy.recorder import Recorder, Told
from tests.proxy.running import Proxy
from tests.proxy.settling import booked, resolved
from tests.proxy.test_bytes import ANSWER, BEARER, CHAT, ODD
from tests.proxy.test_clients import headers_of
from tests.sdk.plane import Plane

pytestmark = pytest.mark.real_db

MIB = 1024 * 1024
SECONDS = 120


@pytest.fixture
def http(proxy: Proxy) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=proxy.url, timeout=SECONDS, trust_env=False) as made:
        yield made


@pytest.fixture
def said(plane: Plane) -> dict[str, str]:
    return {**BEARER, **headers_of(plane, plane.customer().name)}


@contextmanager
def connected(proxy: Proxy) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=SECONDS) as made:
        yield made


def read(made: socket.socket) -> bytes:
    """Everything until the other side closes."""
    found = b""
    try:
        while piece := made.recv(65_536):
            found += piece
    except ConnectionResetError:
        pass
    return found


def statuses(answer: bytes) -> list[int]:
    return [int(part[:3]) for part in answer.split(b"HTTP/1.1 ")[1:]]


def head(said: dict[str, str], *lines: str, path: str = CHAT, method: str = "POST") -> bytes:
    named = [f"{name}: {value}" for name, value in said.items()]
    return "\r\n".join([f"{method} {path} HTTP/1.1", "host: proxy", *named, *lines, "", ""]).encode()


class TestBodies:
    @pytest.mark.parametrize(
        ("body", "why"),
        [
            (b"", "JSON"),
            (b"[]", "JSON"),
            (b"{", "JSON"),
            (b'{"model":"gpt-4o-mini"} {}', "JSON"),
            (b"\xff\xfe{}", "UTF-8"),
            ('{"model":"gpt-4o-mini"}'.encode("utf-16"), "UTF-8"),
            (b'{"model":"gpt-4o-mini","max_tokens":1,"max_tokens":100000}', "twice"),
            (b'{"model":"gpt-4o-mini","messages":[{"content":"long","content":"x"}]}', "twice"),
            (b'{"model":"gpt-4o-mini","max_tokens":1,"m\\u0061x_tokens":100000}', "twice"),
            (b'{"model":"gpt-4o-mini","Max_Tokens":100000}', "max_tokens"),
            (b'{"model":"gpt-4o-mini","max_tokens":NaN}', "NaN"),
            (b'{"model":"gpt-4o-mini","max_tokens":"5"}', "whole number"),
            (b'{"model":"gpt-4o-mini","n":2.0}', "whole number"),
            (b'{"model":"gpt-4o-mini","n":-2}', "whole number"),
            (b'{"model":"gpt-4o-mini","stream":"true"}', "true or false"),
            (b'{"model":["gpt-4o-mini"]}', "model"),
            (b'{"model":"gpt-4o-mini","messages":7}', "body"),
            (b'{"model":"gpt-4o-mini","x":' + b"[" * 100_000, "deeply"),
            (b'{"model":"gpt-4o-mini","x":' + b"9" * 10_000 + b"}", "JSON"),
        ],
    )
    def test_that_two_sides_may_read_in_two_ways_are_refused(
        self, http: httpx.Client, recorder: Recorder, said: dict[str, str], body: bytes, why: str
    ) -> None:
        answer = http.post(CHAT, content=body, headers=said)
        assert answer.status_code == 400
        assert why in answer.json()["error"]["message"]
        assert answer.headers["x-should-retry"] == "false"
        assert recorder.seen == []

    def test_of_50_megabytes_are_refused_by_their_length_before_they_are_read(
        self, proxy: Proxy, said: dict[str, str]
    ) -> None:
        with connected(proxy) as made:
            made.sendall(head(said, f"content-length: {50 * MIB}", "expect: 100-continue"))
            # Nothing of the body was sent, and the answer is here.
            assert statuses(read(made)) == [413]

    def test_of_50_megabytes_without_a_length_are_refused_while_they_arrive(
        self, proxy: Proxy, said: dict[str, str]
    ) -> None:
        piece = b"%x\r\n" % MIB + b"x" * MIB + b"\r\n"
        sent = 0
        with connected(proxy) as made:
            made.sendall(head(said, "transfer-encoding: chunked"))
            try:
                for _ in range(50):
                    made.sendall(piece)
                    sent += 1
            except (BrokenPipeError, ConnectionResetError):
                pass
            assert sent < 50 or statuses(read(made)) == [413]
        (line,) = proxy.accesses(1)
        assert (line["status"], line["reason"]) == (413, "too_large")
        assert line["bytes_in"] <= 32 * MIB

    def test_of_20_megabytes_pass(
        self, http: httpx.Client, recorder: Recorder, said: dict[str, str], plane: Plane
    ) -> None:
        recorder.answer = Told(pieces=[ANSWER])
        rich = {**said, **headers_of(plane, plane.customer("1000").name)}
        large = ODD.replace(b"hello", b"hello " * (20 * MIB // 6))
        assert http.post(CHAT, content=large, headers=rich).status_code == 200
        assert recorder.seen[0].body == large

    def test_compressed_are_refused(
        self, http: httpx.Client, recorder: Recorder, said: dict[str, str]
    ) -> None:
        answer = http.post(CHAT, content=b"\x1f\x8b", headers={**said, "content-encoding": "gzip"})
        assert answer.status_code == 400
        assert recorder.seen == []


SMUGGLED = b"POST /recorder/v1/chat/completions HTTP/1.1\r\nhost: smuggled\r\ncontent-length: 0\r\n\r\n"


class TestFraming:
    """A request is read whole and framed anew, so nothing of its framing reaches a provider in any case."""

    def test_by_length_and_by_chunks_at_once_ends_the_connection_after_one_request(
        self, proxy: Proxy, recorder: Recorder, said: dict[str, str]
    ) -> None:
        recorder.answer = Told(pieces=[ANSWER])
        chunked = b"%x\r\n" % len(ODD) + ODD + b"\r\n0\r\n\r\n"
        with connected(proxy) as made:
            length = f"content-length: {len(chunked) + len(SMUGGLED)}"
            made.sendall(head(said, length, "transfer-encoding: chunked") + chunked + SMUGGLED)
            answer = read(made)
        assert len(statuses(answer)) == 1
        assert all(seen.body == ODD for seen in recorder.seen)
        proxy.accesses(1)

    @pytest.mark.parametrize(
        "lines",
        [
            ("content-length: 5", "content-length: 6"),
            ("content-length: +5",),
            ("content-length: 5, 5",),
            ("content-length: 0x5",),
            ("content-length : 5",),
            ("transfer-encoding: xchunked",),
            ("transfer-encoding: chunked", "transfer-encoding: identity"),
            ("transfer-encoding: gzip, chunked",),
            ("transfer-encoding:\x0bchunked",),
            ("x-a: b\r\n folded: c", "content-length: 5"),
            ("x-a: b\x00c", "content-length: 5"),
            ("authorization: Bearer other", "content-length: 5"),
            ("x-noburn-customer: other", "content-length: 5"),
            ("x-noburn-key: other", "content-length: 5"),
            ("content-type: text/plain", "content-length: 5"),
            ("host: other", "content-length: 5"),
        ],
    )
    def test_that_is_ambiguous_is_refused(
        self, proxy: Proxy, recorder: Recorder, said: dict[str, str], lines: tuple[str, ...]
    ) -> None:
        with connected(proxy) as made:
            made.sendall(head(said, *lines, "connection: close") + b"0\r\n\r\n" + SMUGGLED)
            answer = read(made)
        assert statuses(answer)[:1] == [400]
        assert recorder.seen == []

    def test_with_too_large_a_head_is_refused(self, http: httpx.Client, said: dict[str, str]) -> None:
        assert http.post(CHAT, content=ODD, headers={**said, "x-a": "b" * 40_000}).status_code == 431
        assert (
            http.post(CHAT, content=ODD, headers={**said, **{f"x-{n}": "b" for n in range(200)}}).status_code
            == 431
        )

    @pytest.mark.parametrize(
        "path",
        [
            "/recorder/v1/../../secret",
            "/recorder/v1/files/../chat/completions",
            "/recorder/v1/%2e%2e/chat/completions",
            "/recorder/v1/files%2f..%2fchat/completions",
            "/recorder/v1/chat/completion%73",
            "/recorder/v1//chat/completions",
            "/recorder/v1/chat\\completions",
            "/recorder/v2/chat/completions",
            "/unknown/v1/chat/completions",
            "/",
        ],
    )
    def test_of_the_address_is_strict(
        self, proxy: Proxy, recorder: Recorder, said: dict[str, str], path: str
    ) -> None:
        with connected(proxy) as made:
            made.sendall(head(said, "content-length: 2", "connection: close", path=path) + b"{}")
            assert statuses(read(made)) in ([404], [400])
        assert recorder.seen == []

    @pytest.mark.parametrize("method", ["PUT", "PATCH", "OPTIONS", "TRACE", "CONNECT", "POSTS"])
    def test_with_other_methods_is_refused(
        self, proxy: Proxy, recorder: Recorder, said: dict[str, str], method: str
    ) -> None:
        with connected(proxy) as made:
            made.sendall(head(said, "connection: close", "content-length: 0", method=method))
            assert statuses(read(made))[0] in (404, 405)
        assert recorder.seen == []


class TestTime:
    def test_of_slow_callers_is_bounded_and_holds_nobody_up(
        self, start: Start, plane: Plane, recorder: Recorder
    ) -> None:
        proxy = start(limits={"header_seconds": 1.0, "body_idle_seconds": 1.0})
        said = {**BEARER, **headers_of(plane, plane.customer().name)}
        recorder.answer = Told(pieces=[ANSWER])
        with connected(proxy) as slow_head, connected(proxy) as slow_body, connected(proxy) as idle:
            slow_head.sendall(b"POST /recorder/v1/chat/completions HTT")
            slow_body.sendall(head(said, f"content-length: {len(ODD)}") + ODD[:10])
            with httpx.Client(base_url=proxy.url, timeout=SECONDS, trust_env=False) as http:
                assert http.post(CHAT, content=ODD, headers=said).status_code == 200
            assert statuses(read(slow_head)) in ([], [408])
            assert statuses(read(slow_body)) == [408]
            assert read(idle) == b""
        assert len(recorder.seen) == 1

    def test_of_a_silent_upstream_is_bounded_and_its_call_presumed(
        self, start: Start, plane: Plane, recorder: Recorder
    ) -> None:
        proxy = start(limits={"read_seconds": 0.5})
        acme = plane.customer()
        end = threading.Event()
        recorder.answer = Told(pieces=[end, ANSWER])
        with httpx.Client(base_url=proxy.url, timeout=SECONDS, trust_env=False) as http:
            answer = http.post(CHAT, content=ODD, headers={**BEARER, **headers_of(plane, acme.name)})
        end.set()
        assert answer.status_code in (502, 504)
        assert booked(acme)[0]["outcome"] == "cut"


class TestNumbers:
    def test_of_calls_at_once_are_capped(self, start: Start, plane: Plane, recorder: Recorder) -> None:
        proxy = start(limits={"calls_max": 2})
        said = {**BEARER, **headers_of(plane, plane.customer().name)}
        end = threading.Event()
        recorder.answer = Told(pieces=[end, ANSWER])
        found: list[int] = []

        def call() -> None:
            with httpx.Client(base_url=proxy.url, timeout=SECONDS, trust_env=False) as http:
                found.append(http.post(CHAT, content=ODD, headers=said).status_code)

        held = [threading.Thread(target=call) for _ in range(2)]
        for thread in held:
            thread.start()
        while len(recorder.seen) < 2:
            assert all(thread.is_alive() for thread in held)
        with httpx.Client(base_url=proxy.url, timeout=SECONDS, trust_env=False) as http:
            answer = http.post(CHAT, content=ODD, headers=said)
            assert http.get("/healthz").status_code == 200
        assert (answer.status_code, answer.headers["x-noburn-reason"]) == (503, "too_many_calls")
        end.set()
        for thread in held:
            thread.join(SECONDS)
        assert found == [200, 200]


class TestUpstreams:
    def test_at_addresses_of_our_own_network_are_not_called(
        self, start: Start, plane: Plane, recorder: Recorder
    ) -> None:
        hosts = ("127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "169.254.169.254", "2130706433")
        own = {
            f"own-{number}": {"base_url": f"https://{host}:{recorder.port}/v1", "provider": "openai"}
            for number, host in enumerate(hosts)
        }
        proxy = start(upstreams=own, keys=[])
        acme = plane.customer("1")
        with httpx.Client(base_url=proxy.url, timeout=SECONDS, trust_env=False) as http:
            for name, host in zip(own, hosts, strict=True):
                said = {**BEARER, **headers_of(plane, acme.name)}
                answer = http.post(f"/{name}/v1/chat/completions", content=ODD, headers=said)
                assert (answer.status_code, answer.json()["error"]["code"]) == (502, "upstream")
                assert host not in answer.text
        assert recorder.seen == []
        # Which was not sent costs nothing.
        resolved(acme, "1")
        kinds = [line for line in proxy.accesses(len(hosts)) if line["decision"] == "allow"]
        assert len(kinds) == len(hosts)


class TestSecrets:
    def test_neither_prompts_nor_keys_are_logged(
        self, proxy: Proxy, http: httpx.Client, recorder: Recorder, said: dict[str, str], virtual: Keys
    ) -> None:
        canary = "canary-4f1c-in-the-prompt"
        recorder.answer = Told(pieces=[ANSWER.replace(b"c1", canary.encode())])
        body = ODD.replace(b"hello", canary.encode())
        http.post(CHAT, content=body, headers=said)
        http.post(CHAT, content=body.replace(b"}", b"", 1), headers=said)
        http.post(
            f"{CHAT}?prompt={canary}",
            content=body,
            headers={**BEARER, "authorization": f"Bearer {virtual['acme']}"},
        )
        recorder.answer = Told(500, pieces=[canary.encode()])
        http.post(CHAT, content=body, headers=said)
        proxy.accesses(4)
        log = "".join(proxy.lines)
        for secret in (canary, said["x-noburn-key"], virtual["acme"], "sk-of"):
            assert secret not in log

    def test_keys_of_noburns_never_reach_a_provider(
        self, http: httpx.Client, recorder: Recorder, plane: Plane, virtual: Keys
    ) -> None:
        acme = headers_of(plane, plane.customer().name)
        for headers in (
            {"authorization": f"Bearer {plane.secret}"},
            {"x-api-key": plane.secret},
            {**acme, "authorization": f"Bearer {plane.secret}"},
            {**acme, "authorization": f"Bearer {virtual['acme']}"},
            {"authorization": f"Bearer {virtual['acme']}x"},
            {"authorization": "Bearer sk-x", "x-api-key": virtual["acme"]},
            {},
            acme,
        ):
            answer = http.post(CHAT, content=ODD, headers={"content-type": "application/json", **headers})
            assert answer.status_code == 401, headers
            assert json.loads(answer.content)["error"]["type"] == "authentication_error"
        assert recorder.seen == []
