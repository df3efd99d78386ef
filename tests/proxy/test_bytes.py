"""What reaches the provider and what comes back: the same bytes, but for what enforcement must change."""

from __future__ import annotations

import gzip
import json
import re
import threading
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import httpx
import pytest

from tests.doubles.provider import ProviderDouble
from tests.proxy.conftest import CALLERS_KEY, PROVIDER_KEY, Keys
from tests.proxy.recorder import Recorder, Told
from tests.proxy.running import Proxy
from tests.proxy.settling import booked, resolved
from tests.proxy.test_clients import headers_of
from tests.sdk.plane import Customer, Plane

pytestmark = pytest.mark.real_db

# Spaces, an order, numbers and escapes that no encoder would write again in this way.
ODD = rb'{ "zeta":1.50,"model" : "gpt-4o-mini", "x_new":[1e5,{"q":"\u00e9\ud83d\ude00"}],' + (
    rb'"messages":[{"role":"user","content":"hello"}]  ,"max_completion_tokens":50 , "n":null}'
)
USAGE = {"prompt_tokens": 9, "completion_tokens": 5, "total_tokens": 14}
ANSWER = b'{ "id":"c1","object":"chat.completion" ,"model":"gpt-4o-mini","new":1.0,"usage":' + (
    json.dumps(USAGE).encode() + b"}\n"
)
BEARER = {"authorization": f"Bearer {CALLERS_KEY}", "content-type": "application/json"}
CHAT = "/recorder/v1/chat/completions"


@pytest.fixture
def http(proxy: Proxy) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=proxy.url, timeout=120, trust_env=False) as made:
        yield made


@pytest.fixture
def acme(plane: Plane) -> Customer:
    return plane.customer()


@pytest.fixture
def said(plane: Plane, acme: Customer) -> dict[str, str]:
    """The headers of a call for acme, by its tenant's own key."""
    return {**BEARER, **headers_of(plane, acme.name)}


def events(*values: dict[str, Any]) -> list[bytes]:
    return [b"data: " + json.dumps(value).encode() + b"\n\n" for value in values] + [b"data: [DONE]\n\n"]


CHUNKS = [
    {"model": "gpt-4o-mini", "choices": [{"index": 0, "delta": {"content": "a"}}], "usage": None},
    {"model": "gpt-4o-mini", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}], "usage": None},
]
LAST = {"model": "gpt-4o-mini", "choices": [], "usage": USAGE}
STREAM = {"content-type": "text/event-stream; charset=utf-8", "x-ratelimit-remaining": "7"}


class TestRequests:
    def test_are_passed_on_byte_for_byte(
        self, http: httpx.Client, recorder: Recorder, said: dict[str, str], acme: Customer
    ) -> None:
        recorder.answer = Told(
            pieces=[ANSWER], headers={"content-type": "application/json", "x-request-id": "r1"}
        )
        answer = http.post(f"{CHAT}?a=b&c=%20d", content=ODD, headers={**said, "x-mine": "kept"})
        (seen,) = recorder.seen
        assert seen.line == "POST /base/v1/chat/completions?a=b&c=%20d HTTP/1.1"
        assert seen.body == ODD
        assert seen.header("authorization") == f"Bearer {CALLERS_KEY}"
        assert seen.header("x-mine") == "kept"
        assert seen.header("host") == f"127.0.0.1:{recorder.port}"
        assert not any(name.lower().startswith("x-noburn") for name, _ in seen.headers)
        assert (answer.status_code, answer.content) == (200, ANSWER)
        assert answer.headers["x-request-id"] == "r1"
        assert booked(acme)[0]["usage"]["output_tokens"] == 5

    def test_get_the_cap_and_nothing_else(
        self, http: httpx.Client, recorder: Recorder, said: dict[str, str], acme: Customer
    ) -> None:
        recorder.answer = Told(pieces=[ANSWER])
        body = ODD.replace(b' ,"max_completion_tokens":50 ', b"")
        http.post(CHAT, content=body, headers=said)
        assert recorder.seen[0].body == b'{"max_completion_tokens":4096,' + body[1:]
        resolved(acme, "9.99999565")

    def test_get_the_clamped_cap_in_its_place(
        self, http: httpx.Client, recorder: Recorder, plane: Plane
    ) -> None:
        recorder.answer = Told(pieces=[ANSWER])
        poor = plane.customer("0.00001")
        said = {**BEARER, **headers_of(plane, poor.name, fit="true")}
        answer = http.post(CHAT, content=ODD, headers=said)
        clamped = int(answer.headers["x-noburn-max-output-tokens"])
        assert 0 < clamped < 50
        assert recorder.seen[0].body == ODD.replace(b":50 ", b":%d " % clamped)
        booked(poor)

    def test_with_hop_by_hop_headers_lose_them(
        self, http: httpx.Client, recorder: Recorder, said: dict[str, str]
    ) -> None:
        hops = {"connection": "keep-alive, x-hop", "x-hop": "1", "te": "trailers", "keep-alive": "5"}
        more = {
            "accept-encoding": "gzip, br",
            "x-http-method-override": "DELETE",
            "proxy-authorization": "Basic x",
        }
        recorder.answer = Told(pieces=[ANSWER])
        http.post(CHAT, content=ODD, headers={**said, **hops, **more})
        names = {name.lower() for name, _ in recorder.seen[0].headers}
        assert not names & {
            "connection",
            "x-hop",
            "te",
            "keep-alive",
            "x-http-method-override",
            "proxy-authorization",
        }
        assert recorder.seen[0].header("accept-encoding") == "identity"

    @pytest.mark.parametrize("name", ["authorization", "x-api-key", "api-key"])
    def test_with_a_virtual_key_carry_the_providers_instead(
        self, http: httpx.Client, recorder: Recorder, virtual: Keys, house: Plane, name: str
    ) -> None:
        recorder.answer = Told(pieces=[ANSWER])
        key = virtual["acme"]
        headers = {
            "content-type": "application/json",
            name: f"Bearer {key}" if name == "authorization" else key,
            "openai-organization": "other",
            "cookie": "a=b",
        }
        assert http.post(CHAT, content=ODD, headers=headers).status_code == 200
        (seen,) = recorder.seen
        assert seen.header("authorization") == f"Bearer {PROVIDER_KEY}"
        assert key not in str(seen.headers)
        assert not {"openai-organization", "cookie", "x-api-key", "api-key"} & {
            one.lower() for one, _ in seen.headers
        }


class TestAnswers:
    @pytest.mark.parametrize("chunked", [False, True])
    def test_of_any_size_are_passed_back_as_they_are(
        self, http: httpx.Client, recorder: Recorder, said: dict[str, str], acme: Customer, chunked: bool
    ) -> None:
        large = ANSWER.replace(b'"new"', b'"pad":"' + b"x" * 5_000_000 + b'","new"')
        pieces: list[Any] = [large[at : at + 100_000] for at in range(0, len(large), 100_000)]
        recorder.answer = Told(pieces=pieces, chunked=chunked)
        assert http.post(CHAT, content=ODD, headers=said).content == large
        assert booked(acme)[0]["kind"] == "settled"

    @pytest.mark.parametrize("status", [400, 401, 404, 422, 429, 500, 503])
    def test_of_failures_are_the_providers_own(
        self, http: httpx.Client, recorder: Recorder, said: dict[str, str], acme: Customer, status: int
    ) -> None:
        recorder.answer = Told(
            status, {"content-type": "application/json", "retry-after": "9"}, [b'{ "error":{} }']
        )
        answer = http.post(CHAT, content=ODD, headers=said)
        assert (answer.status_code, answer.content) == (status, b'{ "error":{} }')
        assert answer.headers["retry-after"] == "9"
        resolved(acme, "10")

    def test_that_redirect_are_not_followed(
        self, http: httpx.Client, recorder: Recorder, said: dict[str, str]
    ) -> None:
        recorder.answer = Told(307, {"location": "http://127.0.0.1:1/"}, [b""])
        answer = http.post(CHAT, content=ODD, headers=said)
        assert (answer.status_code, answer.headers["location"]) == (307, "http://127.0.0.1:1/")

    def test_that_are_compressed_all_the_same_are_passed_on_and_presumed_spent(
        self, http: httpx.Client, recorder: Recorder, said: dict[str, str], acme: Customer
    ) -> None:
        headers = {"content-type": "application/json", "content-encoding": "gzip"}
        recorder.answer = Told(headers=headers, pieces=[gzip.compress(ANSWER)])
        assert http.post(CHAT, content=ODD, headers=said).content == ANSWER
        assert booked(acme)[0]["kind"] == "presumed"

    def test_broken_off_are_presumed_spent_and_no_answer(
        self, http: httpx.Client, recorder: Recorder, said: dict[str, str], acme: Customer
    ) -> None:
        recorder.answer = Told(pieces=[ANSWER[:20], None, ANSWER[20:]])
        answer = http.post(CHAT, content=ODD, headers=said)
        assert (answer.status_code, answer.json()["error"]["code"]) == (502, "upstream")
        assert booked(acme)[0]["outcome"] == "cut"


class TestStreams:
    def test_come_as_they_are_sent(
        self, http: httpx.Client, recorder: Recorder, said: dict[str, str], acme: Customer
    ) -> None:
        got = threading.Event()
        first, *rest = events(*CHUNKS, LAST)
        recorder.answer = Told(headers=STREAM, pieces=[first, got, *rest], chunked=True)
        body = ODD.replace(b'"n":null', b'"stream":true,"stream_options":{"include_usage":true}')
        with http.stream("POST", CHAT, content=body, headers=said) as answer:
            pieces = answer.iter_raw()
            whole = next(pieces)
            # What follows is sent only when this was received: a buffer would wait for ever.
            got.set()
            whole += b"".join(pieces)
            assert answer.headers["content-type"] == STREAM["content-type"]
            assert answer.headers["x-ratelimit-remaining"] == "7"
        assert whole == b"".join([first, *rest])
        assert recorder.seen[0].body == body
        assert booked(acme)[0]["usage"]["output_tokens"] == 5

    def test_lose_the_usage_that_was_not_asked_for(
        self, http: httpx.Client, recorder: Recorder, said: dict[str, str], acme: Customer
    ) -> None:
        recorder.answer = Told(headers=STREAM, pieces=events(*CHUNKS, LAST), chunked=True)
        answer = http.post(CHAT, content=ODD.replace(b'"n":null', b'"stream":true'), headers=said)
        assert answer.content == b"".join(events(*CHUNKS))
        assert json.loads(recorder.seen[0].body)["stream_options"] == {"include_usage": True}
        assert booked(acme)[0]["usage"]["output_tokens"] == 5

    def test_that_break_off_break_off_for_the_caller_too(
        self, http: httpx.Client, recorder: Recorder, said: dict[str, str], acme: Customer
    ) -> None:
        recorder.answer = Told(headers=STREAM, pieces=[events(*CHUNKS)[0], None], chunked=True)
        body = ODD.replace(b'"n":null', b'"stream":true')
        with (
            pytest.raises(httpx.RemoteProtocolError),
            http.stream("POST", CHAT, content=body, headers=said) as answer,
        ):
            list(answer.iter_raw())
        entry = booked(acme)[0]
        assert (entry["outcome"], entry["usage"]["output_tokens"]) == ("cut", 1)


class TestOtherEndpoints:
    @pytest.mark.parametrize(
        ("method", "path"),
        [
            ("GET", "models"),
            ("GET", "models/gpt-4o"),
            ("GET", "files"),
            ("DELETE", "files/f1"),
            ("POST", "moderations"),
        ],
    )
    def test_that_cost_nothing_pass(
        self,
        http: httpx.Client,
        recorder: Recorder,
        said: dict[str, str],
        method: str,
        path: str,
        acme: Customer,
    ) -> None:
        recorder.answer = Told(pieces=[b'{"data":[ ]}'])
        answer = http.request(method, f"/recorder/v1/{path}", headers=said)
        assert (answer.status_code, answer.content) == (200, b'{"data":[ ]}')
        assert recorder.seen[0].line == f"{method} /base/v1/{path} HTTP/1.1"
        assert acme.ledger() == []

    @pytest.mark.parametrize(
        "path", ["files", "files/f1", "responses/r1", "batches", "fine_tuning/jobs", "assistants"]
    )
    def test_of_the_account_are_closed_to_virtual_keys(
        self, http: httpx.Client, recorder: Recorder, virtual: Keys, path: str
    ) -> None:
        key = {"authorization": f"Bearer {virtual['acme']}"}
        for method in ("GET", "POST"):
            answer = http.request(method, f"/recorder/v1/{path}", headers=key, content=b"{}")
            assert (answer.status_code, answer.headers["x-noburn-reason"]) == (403, "not_allowed")
        assert recorder.seen == []

    @pytest.mark.parametrize(
        "path", ["batches", "audio/speech", "videos", "fine_tuning/jobs", "something/new"]
    )
    def test_without_a_bound_are_refused_with_the_reason(
        self, http: httpx.Client, recorder: Recorder, said: dict[str, str], path: str
    ) -> None:
        answer = http.post(f"/recorder/v1/{path}", content=b'{"model":"gpt-4o-mini"}', headers=said)
        assert (answer.status_code, answer.headers["x-noburn-reason"]) == (402, "unbounded")
        assert answer.headers["x-should-retry"] == "false"
        assert "x-noburn-cost-usd" in answer.headers["x-noburn-remedy"]
        assert recorder.seen == []

    def test_with_a_bound_of_the_callers_pass(
        self, http: httpx.Client, recorder: Recorder, said: dict[str, str], acme: Customer
    ) -> None:
        recorder.answer = Told(headers={"content-type": "audio/mpeg"}, pieces=[b"\xff\xfb" * 100])
        told = {**said, "x-noburn-cost-usd": "0.25"}
        answer = http.post(
            "/recorder/v1/audio/speech", content=b'{"model":"tts-1","input":"hi"}', headers=told
        )
        assert answer.content == b"\xff\xfb" * 100
        entry = booked(acme)[0]
        assert (entry["kind"], entry["cost_usd"]) == ("presumed", Decimal("0.25"))

    def test_with_a_bound_of_the_operators_pass(
        self, http: httpx.Client, recorder: Recorder, said: dict[str, str], acme: Customer
    ) -> None:
        recorder.answer = Told(pieces=[b'{"data":[{"b64_json":"eA=="}]}'])
        answer = http.post(
            "/recorder/v1/images/generations", content=b'{"model":"dall-e-3","prompt":"x"}', headers=said
        )
        assert answer.status_code == 200
        assert booked(acme)[0]["cost_usd"] == Decimal("0.04")

    def test_that_are_forms_pass_untouched(
        self, http: httpx.Client, recorder: Recorder, said: dict[str, str], acme: Customer
    ) -> None:
        recorder.answer = Told(pieces=[b'{"text":"hi","usage":{"type":"duration","seconds":3}}'])
        form = b'--q\r\nContent-Disposition: form-data; name="model"\r\n\r\nwhisper-1\r\n--q\r\n' + (
            b'Content-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n\x00\x01\xff\r\n--q--\r\n'
        )
        told = {**said, "content-type": "multipart/form-data; boundary=q"}
        assert http.post("/recorder/v1/audio/transcriptions", content=form, headers=told).status_code == 200
        assert recorder.seen[0].body == form
        assert booked(acme)[0]["kind"] == "settled"
        twice = form.replace(
            b"--q--", b'--q\r\nContent-Disposition: form-data; name="model"\r\n\r\nother\r\n--q--'
        )
        assert http.post("/recorder/v1/audio/transcriptions", content=twice, headers=told).status_code == 400

    @pytest.mark.parametrize("path", ["realtime", "realtime/client_secrets", "realtime/sessions"])
    def test_that_open_sockets_are_refused(
        self, http: httpx.Client, recorder: Recorder, said: dict[str, str], path: str
    ) -> None:
        upgrade = {"connection": "Upgrade", "upgrade": "websocket"}
        for method, more in (("GET", upgrade), ("POST", {})):
            answer = http.request(
                method, f"/recorder/v1/{path}", headers={**said, **more, "x-noburn-cost-usd": "1"}
            )
            assert (answer.status_code, answer.headers["x-noburn-reason"]) == (403, "not_gated")
        answer = http.get("/recorder/v1/responses", headers={**said, **upgrade})
        assert answer.status_code == 403
        assert recorder.seen == []

    def test_of_anthropic_count_tokens_for_nothing(
        self, http: httpx.Client, recorder: Recorder, virtual: Keys
    ) -> None:
        recorder.answer = Told(pieces=[b'{"input_tokens": 7}'])
        headers = {
            "x-api-key": virtual["acme"],
            "content-type": "application/json",
            "anthropic-version": "2023-06-01",
        }
        path = "/recorder-claude/v1/messages/count_tokens"
        answer = http.post(path, content=b'{"model":"claude-haiku-4-5","messages":[]}', headers=headers)
        assert answer.json() == {"input_tokens": 7}
        assert recorder.seen[0].header("x-api-key") == PROVIDER_KEY
        assert recorder.seen[0].header("anthropic-version") == "2023-06-01"


_TIME = re.compile(rb'"created(_at)?":\d+')
_TEXT = '"messages":[{"role":"user","content":"Write a haiku."}]'
_CAPPED: list[tuple[str, str, str]] = [
    ("openai", "chat/completions", f'{{"model":"gpt-4o-mini","max_completion_tokens":50,{_TEXT}}}'),
    (
        "openai",
        "chat/completions",
        f'{{"model":"gpt-4o-mini","max_tokens":50,"stream":true,"stream_options":{{"include_usage":true}},{_TEXT}}}',
    ),
    ("openai", "responses", '{"model":"gpt-4o-mini","max_output_tokens":50,"input":"Write a haiku."}'),
    ("openai", "responses", '{"model":"gpt-4o-mini","max_output_tokens":50,"input":"Hi.","stream":true}'),
    ("openai", "embeddings", '{"model":"text-embedding-3-small","input":"Write a haiku."}'),
    ("anthropic", "messages", f'{{"model":"claude-haiku-4-5","max_tokens":50,{_TEXT}}}'),
    ("anthropic", "messages", f'{{"model":"claude-haiku-4-5","max_tokens":50,"stream":true,{_TEXT}}}'),
    ("anthropic", "messages", '{"model":"claude-haiku-4-5","max_tokens":5}'),
]


@pytest.mark.parametrize(("upstream", "path", "body"), _CAPPED)
class TestDirectCalls:
    def test_are_answered_with_the_same_bytes(
        self,
        http: httpx.Client,
        double: ProviderDouble,
        said: dict[str, str],
        upstream: str,
        path: str,
        body: str,
    ) -> None:
        through = http.post(f"/{upstream}/v1/{path}", content=body, headers=said)
        # Its ids count the calls since it was reset.
        double.reset()
        direct = httpx.post(f"{double.url}/v1/{path}", content=body, headers=BEARER, trust_env=False)
        assert through.status_code == direct.status_code
        assert _TIME.sub(b"", through.content) == _TIME.sub(b"", direct.content)
        assert through.headers["content-type"] == direct.headers["content-type"]
