"""What the proxy adds to a provider call: direct and proxied ones by turns, on the same double, in the same run.

`.venv/bin/python -m benchmarks.proxy`. The double answers at once, so nothing hides what is added.
"""

from __future__ import annotations

import argparse
import http.client
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import noburn_sdk

from benchmarks.load import require_wrk, wrk
from benchmarks.sdk import by_turns
from benchmarks.system import ROOT, System, free_port
from tests.doubles.provider import ProviderDouble

BODY = (
    b'{"model":"gpt-4o-mini","max_completion_tokens":50,"messages":[{"role":"user","content":"'
    + b"Write a haiku about budgets, please. " * 20
    + b'"}]}'
)
STREAMED = BODY.replace(b'"max_completion', b'"stream":true,"max_completion')
HERTZ = os.sysconf("SC_CLK_TCK")


class Running:
    """A proxy of one process."""

    def __init__(self, process: subprocess.Popen[bytes], port: int) -> None:
        self._process = process
        self.port = port
        self.url = f"http://127.0.0.1:{port}"

    def cpu_seconds(self) -> float:
        """What it has used of a core so far."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / HERTZ


@contextmanager
def proxying(noburn_url: str, double: ProviderDouble, *, leases: bool = False) -> Iterator[Running]:
    """Starts a proxy as `make proxy` does, with the double as OpenAI."""
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "proxy.toml"
        file.write_text(
            f'listen.port = {port}\nnoburn.url = "{noburn_url}"\ngate.outbox = "{folder}/outbox"\n'
            f"gate.leases = {str(leases).lower()}\n"
            f'upstreams.openai = {{ base_url = "{double.openai_url}", provider = "openai", private = true }}\n'
        )
        process = subprocess.Popen(
            [sys.executable, "-m", "proxy", "--config", str(file)], cwd=ROOT, stdout=subprocess.DEVNULL
        )
        try:
            until = time.monotonic() + 60
            while True:
                try:
                    with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5):
                        break
                except (urllib.error.URLError, OSError):
                    if time.monotonic() > until:
                        raise
                    time.sleep(0.1)
            yield Running(process, port)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(120)


def caller(port: int, path: str, headers: dict[str, str], body: bytes) -> Callable[[], None]:
    """A call over one connection that stays open."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

    def call() -> None:
        connection.request("POST", path, body, headers)
        answer = connection.getresponse()
        content = answer.read()
        if answer.status != 200 or not content:
            raise RuntimeError(f"{answer.status}: {content[:300]!r}")

    return call


def at(taken: list[float], share: float) -> float:
    """A percentile."""
    return statistics.quantiles(taken, n=100)[round(share * 100) - 1]


def row(name: str, value: str, ratio: str = "") -> None:
    """Prints one line of the table as soon as it is known."""
    print(f"| {name} | {value} | {ratio} |", flush=True)


def latencies(
    proxy: Running, leasing: Running, double: ProviderDouble, base_url: str, key: str, count: int
) -> None:
    """One caller, one call after the other; the same through a proxy with leases."""
    provider = {"authorization": "Bearer sk-bench", "content-type": "application/json"}
    said = {**provider, "x-noburn-key": key, "x-noburn-customer": "bench"}
    with noburn_sdk.Noburn(key, base_url) as noburn:
        held: list[str] = []

        def ask() -> None:
            options = {"provider": "openai", "max_output_tokens": 50, "customer": "bench"}
            held.append(str(noburn.preflight(model="gpt-4o-mini", input_tokens=200, **options).authorization))  # type: ignore[arg-type]

        for kind, body in (("a chat", BODY), ("a streamed chat", STREAMED)):
            direct = caller(double.port, "/v1/chat/completions", provider, body)
            through = caller(proxy.port, "/openai/v1/chat/completions", said, body)
            leased = caller(leasing.port, "/openai/v1/chat/completions", said, body)
            bare, proxied, drawn, asked = by_turns([direct, through, leased, ask], count)
            for share in (0.5, 0.99):
                added, less = (at(taken, share) - at(bare, share) for taken in (proxied, drawn))
                row(
                    f"{kind}, one caller, p{share * 100:g}: direct / through / with leases / a pre-flight alone",
                    f"{at(bare, share):.2f} / {at(proxied, share):.2f} / {at(drawn, share):.2f} / "
                    f"{at(asked, share):.2f} ms",
                    f"{added:.2f} ms added, {less:.2f} with leases",
                )
        for authorization in held:
            noburn.void(authorization)


def throughput(proxy: Running, double: ProviderDouble, key: str, seconds: int, how: str) -> None:
    """As many calls as go through one process."""
    for connections in (16, 64, 256):
        bare = wrk(
            double.url,
            "chat.lua",
            seconds=seconds,
            connections=connections,
            key="",
            path="/v1/chat/completions",
        )
        path = "/openai/v1/chat/completions"
        wrk(proxy.url, "chat.lua", seconds=2, connections=connections, key=key, path=path)
        # What that load left unfinished ends first.
        time.sleep(3)
        before = proxy.cpu_seconds()
        load = wrk(proxy.url, "chat.lua", seconds=seconds, connections=connections, key=key, path=path)
        used = proxy.cpu_seconds() - before
        if load.said["failed"] or bare.said["failed"]:
            raise RuntimeError(f"calls failed: {bare} {load}")
        row(
            f"{connections} callers, direct",
            f"{bare.rate:,.0f}/s, p50 {bare.p50_ms:.1f}, p99 {bare.p99_ms:.1f} ms",
        )
        row(
            f"{connections} callers, through one process{how}",
            f"{load.rate:,.0f}/s, p50 {load.p50_ms:.1f}, p99 {load.p99_ms:.1f} ms",
            f"{load.rate / bare.rate:.2f} of direct",
        )
        row(
            "calls for a second of the proxy's core",
            f"{load.rate * seconds / used:,.0f}",
            f"{used:.1f} s used",
        )


def main() -> None:
    """Runs everything; `--quick` for a look, which is no measurement."""
    options = argparse.ArgumentParser(description=main.__doc__)
    options.add_argument("--quick", action="store_true")
    options.add_argument("--count", type=int, default=2_000, help="calls of one caller, of each kind")
    chosen = options.parse_args()
    quick = chosen.quick
    require_wrk()
    print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    row("what", "measured", "")
    with System(workers=1) as system, ProviderDouble() as double:
        key = system.provision("bench", "customer:*:8000000:month")["api_key"]
        with proxying(system.url, double) as proxy, proxying(system.url, double, leases=True) as leasing:
            latencies(proxy, leasing, double, system.url, key, 200 if quick else chosen.count)
            seconds = 3 if quick else 10
            throughput(proxy, double, key, seconds, "")
            throughput(leasing, double, key, seconds, ", with leases")
    print(f"load average {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
