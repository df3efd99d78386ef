"""Budgets under many calls at once, and what a call may ask for beside: fitting, waiting, cutting at its hold."""

from __future__ import annotations

import asyncio
import json
import threading
from collections import Counter
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import httpx
import openai
import pytest

from tests.doubles.provider import ProviderDouble
from tests.proxy.conftest import CALLERS_KEY, Start
from tests.proxy.programs import beside
from tests.proxy.recorder import Recorder, Told
from tests.proxy.running import Proxy
from tests.proxy.settling import booked, resolved
from tests.proxy.test_bytes import ANSWER, BEARER, CHAT, ODD
from tests.proxy.test_clients import headers_of
from tests.sdk.plane import Plane

pytestmark = pytest.mark.real_db

MODEL = "gpt-4"
OUTPUT_TOKENS = 162
# Eight tokens of input at $30 a million, 162 of output at $60.
COST = Decimal("0.00996")
BOUND = Decimal("0.00024") + 4_096 * Decimal("0.00006")
"""What a call holds that names no cap."""
SECONDS = 240


@dataclass(frozen=True)
class Answer:
    """What came of one call."""

    status_code: int
    headers: dict[str, str]


async def one(port: int, request: bytes) -> Answer:
    """A call over a connection of its own, by as little work as can be: the callers share a process with noburn."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(request)
        head, _, content = (await reader.read()).partition(b"\r\n\r\n")
    finally:
        writer.close()
    status, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    assert len(content) == int(headers["content-length"])
    return Answer(int(status.split()[1]), headers)


def many(proxy: Proxy, headers: dict[str, str], count: int, **body: Any) -> list[Answer]:
    """So many calls in the same moment, and their answers."""
    content = json.dumps(
        {"model": MODEL, "messages": [{"role": "user", "content": "hello"}], **body}
    ).encode()
    told = {
        "host": "proxy",
        "connection": "close",
        "content-type": "application/json",
        "content-length": str(len(content)),
        **headers,
    }
    lines = [
        "POST /openai/v1/chat/completions HTTP/1.1",
        *(f"{name}: {value}" for name, value in told.items()),
    ]
    request = "\r\n".join(lines).encode() + b"\r\n\r\n" + content

    async def run() -> list[Answer]:
        async with asyncio.timeout(SECONDS):
            return await asyncio.gather(*(one(proxy.port, request) for _ in range(count)))

    return asyncio.run(run())


class TestFiveHundredAtOnce:
    def test_with_caps_exactly_those_that_can_be_paid_for_reach_the_provider(
        self, proxy: Proxy, plane: Plane, double: ProviderDouble
    ) -> None:
        acme = plane.customer("1")
        double.control(output_fraction=1.0, latency_ms=20)
        headers = {**BEARER, **headers_of(plane, acme.name)}
        answers = beside(plane, lambda: many(proxy, headers, 500, max_tokens=OUTPUT_TOKENS))
        assert Counter(answer.status_code for answer in answers) == {200: 100, 402: 400}
        assert double.summary()["requests"] == 100
        entries = booked(acme, 100)
        assert {Decimal(entry["cost_usd"]) for entry in entries} == {COST}
        resolved(acme, 1 - 100 * COST)
        refused = {answer.headers["x-noburn-reason"] for answer in answers if answer.status_code == 402}
        assert refused <= {"budget_exceeded", "budget_busy"}

    def test_without_caps_the_budget_is_never_exceeded_and_used_until_a_bound_no_longer_fits(
        self, proxy: Proxy, plane: Plane, double: ProviderDouble
    ) -> None:
        acme = plane.customer("1")
        double.control(output_tokens=OUTPUT_TOKENS)
        headers = {**BEARER, **headers_of(plane, acme.name)}
        # A call that names no cap can cost up to $0.246, though it costs $0.00996. Four fit at once; the others wait
        # for those in flight. The last one fits while $0.246 is left: after 75 calls $0.253, after 76 $0.24304.
        most = int((1 - BOUND) / COST) + 1
        assert most == 76
        answers = beside(plane, lambda: many(proxy, headers, 500))
        reached = double.summary()["requests"]
        assert Counter(answer.status_code for answer in answers) == {200: most, 402: 500 - most}
        assert reached == most
        entries = booked(acme, most)
        assert sum(Decimal(entry["cost_usd"]) for entry in entries) == most * COST
        refused = {answer.headers["x-noburn-reason"] for answer in answers if answer.status_code == 402}
        assert refused == {"budget_exceeded"}

    def test_without_caps_but_fitted_nearly_all_of_the_budget_is_used(
        self, proxy: Proxy, plane: Plane, double: ProviderDouble
    ) -> None:
        acme = plane.customer("1")
        double.control(output_tokens=OUTPUT_TOKENS)
        headers = {**BEARER, **headers_of(plane, acme.name, fit="true")}
        answers = beside(plane, lambda: many(proxy, headers, 150))
        reached = double.summary()["requests"]
        assert Counter(answer.status_code for answer in answers) == {200: reached, 402: 150 - reached}
        spent = sum(Decimal(entry["cost_usd"]) for entry in booked(acme, reached))
        assert 1 - COST < spent <= 1
        assert reached >= 100


class TestFitting:
    def test_lowers_the_cap_instead_of_refusing(
        self, proxy: Proxy, plane: Plane, double: ProviderDouble
    ) -> None:
        poor = plane.customer("0.0001")
        with openai.OpenAI(base_url=proxy.openai_url, api_key=CALLERS_KEY) as client:
            raw = client.chat.completions.with_raw_response.create(
                model="gpt-4o-mini",
                messages=[{"role": "user", "content": "hello"}],
                max_completion_tokens=10_000,
                extra_headers=headers_of(plane, poor.name, fit="1"),
            )
        clamped = int(raw.headers["x-noburn-max-output-tokens"])
        assert double.ledger()[0]["cap"] == clamped < 10_000


class TestWaiting:
    def test_is_up_to_the_call(self, proxy: Proxy, plane: Plane, recorder: Recorder) -> None:
        acme = plane.customer("0.00004")
        end = threading.Event()
        recorder.answer = Told(pieces=[end, ANSWER])
        headers = {**BEARER, **headers_of(plane, acme.name, wait_ms="0")}
        with httpx.Client(base_url=proxy.url, timeout=SECONDS, trust_env=False) as http:
            first = threading.Thread(target=lambda: http.post(CHAT, content=ODD, headers=headers))
            first.start()
            while not recorder.seen:
                assert first.is_alive()
            answer = http.post(CHAT, content=ODD, headers=headers)
            assert (answer.status_code, answer.headers["x-noburn-reason"]) == (402, "budget_busy")
            assert answer.json()["error"]["noburn"]["retry_after_ms"] > 0
            end.set()
            first.join(SECONDS)


class TestOutage:
    def test_denies_and_lets_clients_try_again(self, start: Start, recorder: Recorder) -> None:
        impatient = {"timeout": 0.2, "max_retries": 0, "retry_timeout": 0.5}
        proxy = start(noburn={"url": "http://127.0.0.1:1"}, gate=impatient)
        with httpx.Client(base_url=proxy.url, timeout=SECONDS, trust_env=False) as http:
            answer = http.post(CHAT, content=ODD, headers={**BEARER, "x-noburn-key": "nb_live_x"})
            assert (answer.status_code, answer.headers["x-noburn-reason"]) == (503, "noburn_unavailable")
            assert answer.headers["retry-after"] == "1"
            assert http.get("/readyz").status_code == 503
            assert http.get("/healthz").status_code == 200
        assert recorder.seen == []


class TestOtherAttempts:
    def test_have_a_hold_each_and_go_to_fallbacks_with_a_key_of_their_own(
        self, start: Start, plane: Plane, recorder: Recorder
    ) -> None:
        base = {"private": True, "provider": "openai", "key_env": "PROVIDER_KEY"}
        url = f"http://127.0.0.1:{recorder.port}"
        backup = {**base, "base_url": f"{url}/backup", "models": {"gpt-4o-mini": "gpt-4.1-nano"}}
        main = {**base, "base_url": f"{url}/main", "retries": 1, "fallbacks": ["backup"]}
        proxy = start(upstreams={"recorder": main, "backup": backup}, keys=[])
        acme = plane.customer("1")
        recorder.script = [
            Told(500),
            Told(429),
            Told(pieces=[ANSWER.replace(b"gpt-4o-mini", b"gpt-4.1-nano")]),
        ]
        with httpx.Client(base_url=proxy.url, timeout=SECONDS, trust_env=False) as http:
            answer = http.post(CHAT, content=ODD, headers={**BEARER, **headers_of(plane, acme.name)})
        assert answer.status_code == 200
        assert answer.headers["x-noburn-upstream"] == "backup"
        lines = [seen.line.split()[1] for seen in recorder.seen]
        assert lines == ["/main/chat/completions", "/main/chat/completions", "/backup/chat/completions"]
        keys = [seen.header("authorization") for seen in recorder.seen]
        # The caller's own key is for the upstream that it called.
        assert keys == [f"Bearer {CALLERS_KEY}", f"Bearer {CALLERS_KEY}", "Bearer sk-of-the-proxy-itself"]
        assert recorder.seen[0].body == ODD
        assert recorder.seen[2].body == ODD.replace(b'"gpt-4o-mini"', b'"gpt-4.1-nano"')
        entries = booked(acme, 3)
        assert sorted(entry["kind"] for entry in entries) == ["settled", "voided", "voided"]
        (entry,) = [entry for entry in entries if entry["kind"] == "settled"]
        assert entry["model"] == "gpt-4.1-nano"
        assert proxy.accesses(1)[0]["attempts"] == 3
