"""What the proxy makes of answers of noburn's that are hard to bring about: here a stand-in gives them."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.proxy.conftest import Start
from tests.proxy.recorder import Recorder, Seen, Told
from tests.proxy.test_bytes import ANSWER, BEARER, CHAT, ODD
from tests.sdk.plane import Plane

pytestmark = pytest.mark.real_db

SECONDS = 120
RATES = {"input_tokens": "0.15", "output_tokens": "0.6"}
PRICES = {
    "prices": [
        {
            "provider": "openai",
            "model": "gpt-4o-mini",
            "variant": "standard",
            "context_window": 128_000,
            "prices": {name: {"usd_per_million_tokens": usd} for name, usd in RATES.items()},
        }
    ]
}
SAID = {**BEARER, "x-noburn-key": "nb_live_stand-in"}


class StandIn:
    """Answers as noburn would: every call is allowed, for so much, with this model."""

    def __init__(self) -> None:
        self.recorder = Recorder()
        self.recorder.answer = self._answer
        self.amount_usd = "0.01"
        self.model: str | None = None
        self.takes_settlements = True
        self.settled: list[dict[str, Any]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.recorder.port}"

    def _answer(self, seen: Seen) -> Told:
        path = seen.line.split()[1].partition("?")[0]
        asked = json.loads(seen.body) if seen.body else {}
        value: Any = {}
        match path:
            case "/v1/preflight":
                value = {
                    "decision": "allow",
                    "authorization": f"nba1.{len(self.recorder.seen)}",
                    "hold": {"id": f"hold_{len(self.recorder.seen)}", "amount_usd": self.amount_usd},
                    "model": self.model or asked["model"],
                    "max_output_tokens": asked.get("max_output_tokens", 4096),
                }
            case "/v1/settle/batch" if not self.takes_settlements:
                return Told(503, pieces=[b"{}"])
            case "/v1/settle/batch":
                self.settled += asked["settlements"]
                value = {"results": [{"status": 200, "state": "settled"} for _ in asked["settlements"]]}
            case "/v1/prices":
                value = PRICES
        return Told(pieces=[json.dumps(value).encode()])

    def wait(self, count: int) -> list[dict[str, Any]]:
        """So many settlements, once they are here."""
        until = time.monotonic() + SECONDS
        while len(self.settled) < count and time.monotonic() < until:
            time.sleep(0.01)
        assert len(self.settled) == count
        return self.settled


@pytest.fixture
def noburn() -> Iterator[StandIn]:
    made = StandIn()
    yield made
    made.recorder.close()


class TestCutting:
    def test_ends_a_stream_at_its_hold_where_asked_and_there_alone(
        self, start: Start, noburn: StandIn, recorder: Recorder
    ) -> None:
        proxy = start(noburn={"url": noburn.url})
        # Pays for 14 tokens of output, as a learned estimate might.
        noburn.amount_usd = "0.00001"
        chunk = {"model": "gpt-4o-mini", "choices": [{"index": 0, "delta": {"content": "word " * 10}}]}
        pieces = [b"data: " + json.dumps(chunk).encode() + b"\n\n"] * 4
        recorder.answer = Told(headers={"content-type": "text/event-stream"}, pieces=pieces, chunked=True)
        body = ODD.replace(b'"n":null', b'"stream":true')
        with httpx.Client(base_url=proxy.url, timeout=SECONDS, trust_env=False) as http:
            cut = http.post(CHAT, content=body, headers={**SAID, "x-noburn-cut": "true"}).content
            whole = http.post(CHAT, content=body, headers=SAID).content
        assert whole == b"".join(pieces)
        *events, last = cut.strip().split(b"\n\n")
        assert events == [pieces[0].strip()]
        assert json.loads(last.removeprefix(b"data: "))["error"]["code"] == "stream_cut"
        first, second = noburn.wait(2)
        # Two events of at least ten tokens were seen when the second one went beyond.
        assert first["outcome"] == "cut"
        assert 20 <= first["usage"]["output_tokens"] < 30 < second["usage"]["output_tokens"]


class TestOtherModels:
    def test_are_called_and_named(self, start: Start, noburn: StandIn, recorder: Recorder) -> None:
        proxy = start(noburn={"url": noburn.url})
        noburn.model = "gpt-4.1-nano"
        recorder.answer = Told(pieces=[ANSWER.replace(b"gpt-4o-mini", b"gpt-4.1-nano")])
        with httpx.Client(base_url=proxy.url, timeout=SECONDS, trust_env=False) as http:
            answer = http.post(CHAT, content=ODD, headers=SAID)
            fixed = "/recorder/v1/deployments/gpt-4o-mini/chat/completions"
            refused = http.post(fixed, content=ODD, headers=SAID)
        assert answer.headers["x-noburn-model"] == "gpt-4.1-nano"
        assert recorder.seen[0].body == ODD.replace(b'"gpt-4o-mini"', b'"gpt-4.1-nano"')
        # Where the address names the model, the body alone cannot be changed.
        assert (refused.status_code, len(recorder.seen)) == (400, 1)
        assert noburn.wait(1)[0]["model"] == "gpt-4.1-nano"


class TestKilled:
    def test_leaves_its_settlements_to_the_next_process(
        self, start: Start, house: Plane, noburn: StandIn, recorder: Recorder
    ) -> None:
        own = {"noburn": {"url": noburn.url}}
        noburn.takes_settlements = False
        proxy = start(**own)
        recorder.answer = Told(pieces=[ANSWER])
        with httpx.Client(base_url=proxy.url, timeout=SECONDS, trust_env=False) as http:
            for _ in range(3):
                # By the proxy's own key, whose outbox the next process looks into at once.
                key = {**BEARER, "x-noburn-key": house.secret}
                assert http.post(CHAT, content=ODD, headers=key).status_code == 200
        proxy.process.kill()
        proxy.process.wait()
        noburn.takes_settlements = True
        start(**own)
        assert len({one["authorization"] for one in noburn.wait(3)}) == 3
