"""A double that runs as a process of its own: started until it answers, ended gently and then not."""

from __future__ import annotations

import contextlib
import http.client
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 20


def free_port() -> int:
    """Returns a port of 127.0.0.1 that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Program:
    """`python -m MODULE --port PORT`, whose name is for messages."""

    def __init__(self, name: str, module: str, port: int) -> None:
        self._name, self._command = name, [sys.executable, "-m", module, "--port", str(port)]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, ask: Callable[[], object]) -> None:
        """Starts it and returns once `ask` gets an answer. Raises RuntimeError when it gets none."""
        self._process = subprocess.Popen(self._command, cwd=ROOT, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise RuntimeError(f"{self._name} ended at once with {self._process.returncode}")
            with contextlib.suppress(OSError, http.client.HTTPException):
                ask()
                return
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(0.05)
        self.stop()
        raise RuntimeError(f"{self._name} did not answer within {START_SECONDS} s")

    def stop(self) -> None:
        """Ends it, if it runs."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None
