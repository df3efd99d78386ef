"""curl through the proxy, as docs/proxy.md shows it. It is part of every machine that Debian's images make."""

from __future__ import annotations

import json
import shutil
import subprocess
from decimal import Decimal

import pytest

from tests.doubles.provider import ProviderDouble
from tests.proxy.conftest import CALLERS_KEY
from tests.proxy.running import Proxy
from tests.proxy.settling import booked
from tests.proxy.test_clients import headers_of
from tests.sdk.plane import Plane

pytestmark = pytest.mark.real_db

BODY = {
    "model": "gpt-4o-mini",
    "max_completion_tokens": 50,
    "messages": [{"role": "user", "content": "Write a haiku about budgets."}],
}


def curl(url: str, headers: dict[str, str], body: object) -> tuple[int, dict[str, str], str]:
    """Status, headers and text of an answer."""
    program = shutil.which("curl")
    assert program is not None, "curl is missing; on Debian or Ubuntu: apt-get install curl"
    said = {"Content-Type": "application/json", "Authorization": f"Bearer {CALLERS_KEY}", **headers}
    command = [program, "-sS", "-N", "--noproxy", "*", "-m", "240", "-D", "/dev/stderr", url, "-d", "@-"]
    for name, value in said.items():
        command += ["-H", f"{name}: {value}"]
    done = subprocess.run(command, input=json.dumps(body), capture_output=True, text=True, check=True)
    # Of several heads, as before a body that is waited for, the last one is the answer's.
    status, *lines = done.stderr.strip().replace("\r", "").rsplit("HTTP/1.1 ", 1)[1].splitlines()
    told = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    return int(status.split()[0]), told, done.stdout


class TestCurl:
    @pytest.mark.parametrize("streamed", [False, True])
    def test_is_answered_and_settled(
        self, proxy: Proxy, plane: Plane, double: ProviderDouble, streamed: bool
    ) -> None:
        acme = plane.customer("1")
        body = {**BODY, "stream": True} if streamed else BODY
        url = f"{proxy.openai_url}/chat/completions"
        status, told, text = curl(url, headers_of(plane, acme.name), body)
        assert status == 200
        assert Decimal(told["x-noburn-remaining-usd"]) < 1
        if streamed:
            assert text.strip().endswith("data: [DONE]")
        else:
            assert json.loads(text)["choices"]
        (entry,) = booked(acme, 1)
        assert entry["kind"] == "settled"
        assert double.summary()["requests"] == 1

    def test_is_refused_in_the_providers_shape(
        self, proxy: Proxy, plane: Plane, double: ProviderDouble
    ) -> None:
        poor = plane.customer("0")
        status, told, text = curl(f"{proxy.openai_url}/chat/completions", headers_of(plane, poor.name), BODY)
        assert (status, told["x-noburn-reason"]) == (402, "budget_exceeded")
        assert told["x-should-retry"] == "false"
        assert json.loads(text)["error"]["code"] == "budget_exceeded"
        assert double.summary()["requests"] == 0
