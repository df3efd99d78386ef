"""Running the proxy: its pages, its ends, several processes, its command line."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import httpx
import pytest

from proxy import keys
from tests.doubles.program import ROOT
from tests.proxy.conftest import Start
from tests.proxy.recorder import Recorder, Told
from tests.proxy.running import Proxy
from tests.proxy.settling import booked
from tests.proxy.test_bytes import ANSWER, BEARER, CHAT, CHUNKS, LAST, ODD, STREAM, events
from tests.proxy.test_clients import headers_of
from tests.sdk.plane import Plane

pytestmark = pytest.mark.real_db

SECONDS = 120
STREAMED = ODD.replace(b'"n":null', b'"stream":true')
METRICS = {"authorization": "Bearer metrics-token"}


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "proxy", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS,
        env={"PATH": "/usr/bin"},
    )


class TestPages:
    def test_say_whether_it_lives_and_is_ready(self, proxy: Proxy) -> None:
        with httpx.Client(base_url=proxy.url, timeout=SECONDS, trust_env=False) as http:
            assert http.get("/healthz").text == "ok\n"
            assert http.get("/readyz").text == "ready\n"
            assert http.post("/healthz").status_code == 405

    def test_show_metrics_to_who_has_the_token(self, proxy: Proxy, recorder: Recorder, plane: Plane) -> None:
        recorder.answer = Told(pieces=[ANSWER])
        poor = plane.customer("0.000000001")
        with httpx.Client(base_url=proxy.url, timeout=SECONDS, trust_env=False) as http:
            http.post(CHAT, content=ODD, headers={**BEARER, **headers_of(plane, poor.name)})
            assert http.get("/metrics").status_code == 401
            text = http.get("/metrics", headers=METRICS).text
        assert 'noburn_proxy_decisions_total{decision="deny",reason="budget_exceeded"}' in text
        assert 'noburn_proxy_requests_total{endpoint="openai.chat",status="402",upstream="recorder"}' in text
        assert "# TYPE noburn_proxy_added_seconds histogram" in text
        assert poor.name not in text


class TestEnd:
    def test_waits_for_streams_under_way_and_settles_them(
        self, start: Start, recorder: Recorder, plane: Plane
    ) -> None:
        proxy, acme, end = start(), plane.customer(), threading.Event()
        first, *rest = events(*CHUNKS, LAST)
        recorder.answer = Told(headers=STREAM, pieces=[first, end, *rest], chunked=True)
        said = {**BEARER, **headers_of(plane, acme.name)}
        with (
            httpx.Client(base_url=proxy.url, timeout=SECONDS, trust_env=False) as http,
            http.stream("POST", CHAT, content=STREAMED, headers=said) as answer,
        ):
            pieces = answer.iter_raw()
            whole = next(pieces)
            proxy.terminate()
            with httpx.Client(base_url=proxy.url, timeout=SECONDS, trust_env=False) as other:
                while other.get("/readyz").text != "draining\n":
                    pass
                refused = other.post(CHAT, content=ODD, headers=said)
            assert (refused.status_code, refused.headers["x-noburn-reason"]) == (503, "draining")
            end.set()
            whole += b"".join(pieces)
        assert whole == b"".join(events(*CHUNKS))
        assert proxy.stop() == 0
        assert booked(acme)[0]["outcome"] == "ok"

    def test_cuts_what_takes_longer_and_settles_it(
        self, start: Start, recorder: Recorder, plane: Plane
    ) -> None:
        proxy, acme, end = start(limits={"drain_seconds": 0.2}), plane.customer(), threading.Event()
        recorder.answer = Told(headers=STREAM, pieces=[*events(*CHUNKS)[:1], end], chunked=True)
        with httpx.Client(base_url=proxy.url, timeout=SECONDS, trust_env=False) as http:
            said = {**BEARER, **headers_of(plane, acme.name)}
            with http.stream("POST", CHAT, content=STREAMED, headers=said) as answer:
                pieces = answer.iter_raw()
                next(pieces)
                proxy.terminate()
                with pytest.raises(httpx.RemoteProtocolError):
                    list(pieces)
        end.set()
        assert proxy.stop() == 0
        assert booked(acme)[0]["outcome"] == "cut"


class TestWorkers:
    def test_share_the_port_and_add_their_counts_up(
        self, start: Start, recorder: Recorder, plane: Plane
    ) -> None:
        proxy = start(listen={"workers": 2})
        recorder.answer = Told(pieces=[ANSWER])
        said = {**BEARER, **headers_of(plane, plane.customer().name)}
        for _ in range(10):
            with httpx.Client(base_url=proxy.url, timeout=SECONDS, trust_env=False) as http:
                assert http.post(CHAT, content=ODD, headers=said).status_code == 200
        with httpx.Client(base_url=proxy.url, timeout=SECONDS, trust_env=False) as http:
            wanted = 'noburn_proxy_attempts_total{upstream="recorder"} 10\n'
            # A process tells the other within a second.
            while wanted not in http.get("/metrics", headers=METRICS).text:
                pass
        assert proxy.stop() == 0


class TestCommandLine:
    def test_names_every_mistake_of_a_configuration(self, tmp_path: Path) -> None:
        file = tmp_path / "proxy.toml"
        file.write_text(
            'colour = "red"\n[listen]\nport = 0\n[noburn]\nkey = "nb_live_x"\n'
            '[upstreams.openai]\nbase_url = "http://api.openai.com/v1"\nfallbacks = ["none"]\n'
            '[[keys]]\nhash = "x"\nmay = ["provider"]\n[limits]\ncalls_max = "many"\n'
            '[gate]\nmode = "off"\ntimeout = "x"\nleases = 1\n'
        )
        done = command("check", "--config", str(file))
        assert done.returncode == 2
        named = {line.partition(":")[0] for line in done.stderr.splitlines()[1:]}
        assert named == {
            "colour",
            "listen.port",
            "noburn.key",
            "noburn.key_env",
            "upstreams.openai.base_url",
            "upstreams.openai.fallbacks[0]",
            "keys[0].name",
            "keys[0].hash",
            "keys[0].may",
            "limits.calls_max",
            "gate.leases",
            "gate.mode",
            "gate.timeout",
        }

    def test_makes_keys_whose_hash_is_in_the_configuration(self) -> None:
        done = command("key")
        key, digest = (line.split('"')[1] for line in done.stdout.splitlines())
        assert key.startswith("nb_proxy_")
        assert keys.hash_of(key) == digest

    def test_refuses_a_port_that_is_taken(self, proxy: Proxy, tmp_path: Path) -> None:
        file = tmp_path / "proxy.toml"
        file.write_text(f"[listen]\nport = {proxy.port}\n[upstreams.openai]\n")
        done = command("--config", str(file))
        assert done.returncode == 1
        assert "cannot be used" in done.stderr
