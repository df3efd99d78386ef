"""The proxy as a process of its own, with a configuration made for the test."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.doubles.program import ROOT, free_port

READY_SECONDS = 60
STOP_SECONDS = 60
PATIENT = {"timeout": 30.0, "retry_timeout": 60.0, "wait_ms": 2_000, "busy_timeout": 200.0}
"""Time-outs of the gate that a busy machine does not reach."""


def toml(value: Any) -> str:
    """A value in TOML, tables in one line."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{json.dumps(name)} = {toml(one)}" for name, one in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    return json.dumps(value)


class Proxy:
    """`python -m proxy`. Its output is read all the time, so that it never waits for a reader."""

    def __init__(self, folder: Path, settings: Mapping[str, Any], environment: Mapping[str, str]) -> None:
        self.port = free_port()
        self.folder = folder
        self.url = f"http://127.0.0.1:{self.port}"
        limits = {"flush_seconds": 30.0, **settings.get("limits", {})}
        gate = {**PATIENT, "outbox": str(folder / "outbox"), **settings.get("gate", {})}
        listen = {"port": self.port, **settings.get("listen", {})}
        file = folder / f"proxy-{self.port}.toml"
        whole = {**settings, "limits": limits, "gate": gate, "listen": listen}
        file.write_text("".join(f"{name} = {toml(value)}\n" for name, value in whole.items()))
        self.lines: list[str] = []
        self._listening = threading.Event()
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith(("NOBURN", "DJANGO"))
        }
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", "-m", "proxy", "--config", str(file)],
            cwd=ROOT,
            env={**kept, **environment, "PYTHONUNBUFFERED": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        assert self._listening.wait(READY_SECONDS)
        assert self.process.poll() is None, "".join(self.lines)

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line)
            if "listening at" in line:
                self._listening.set()
        self._listening.set()

    @property
    def openai_url(self) -> str:
        """The base URL for OpenAI's clients."""
        return f"{self.url}/openai/v1"

    @property
    def anthropic_url(self) -> str:
        """The base URL for Anthropic's clients."""
        return f"{self.url}/anthropic"

    def accesses(self, count: int = 1) -> list[dict[str, Any]]:
        """The lines of its access log, once there are so many: a line is written after the answer is sent."""
        until = time.monotonic() + READY_SECONDS
        while True:
            found = [json.loads(line) for line in self.lines if line.startswith("{")]
            if len(found) >= count or time.monotonic() > until:
                assert len(found) == count, found
                return found
            time.sleep(0.01)

    def failures(self) -> list[str]:
        """What it logged as failures of its own: no request, nothing that it always says, and no late settlement."""
        usual = (" INFO ", " settlements wait: ")
        return [
            line
            for line in self.lines
            if not line.startswith("{") and not any(word in line for word in usual)
        ][:60]

    def terminate(self) -> None:
        """Asks it to end, and returns at once."""
        self.process.send_signal(signal.SIGTERM)

    def stop(self) -> int:
        """Ends it; what it ended with."""
        if self.process.poll() is None:
            self.terminate()
        try:
            code = self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = self.process.wait()
        self._reader.join(STOP_SECONDS)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return code
