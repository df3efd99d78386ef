"""A whole noburn of its own for a benchmark: `manage.py serve` in a temporary home, provisioned and ready."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType

ROOT = Path(__file__).resolve().parent.parent
READY_SECONDS = 240


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class System:
    """Starts on entering, stops with all its children on leaving."""

    def __init__(self, *, workers: int) -> None:
        self.home = Path(tempfile.mkdtemp(prefix="nbb-", dir="/tmp"))
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._env = {
            **{k: v for k, v in os.environ.items() if k not in ("DATABASE_URL", "REDIS_URL", "BROKER_URL")},
            "NOBURN_HOME": str(self.home),
            "PORT": str(self.port),
            "WEB_WORKERS": str(workers),
        }
        self._serve: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> System:
        log = (self.home / "serve.log").open("wb")
        self._serve = subprocess.Popen(
            [sys.executable, "manage.py", "serve"],
            cwd=ROOT,
            env=self._env,
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline:
            try:
                with urllib.request.urlopen(f"{self.url}/readyz", timeout=2) as answer:
                    if answer.status == 200:
                        return self
            except (urllib.error.URLError, OSError):
                time.sleep(0.2)
        # Nobody leaves what was not entered: its processes would stay. The log does.
        self._end()
        raise RuntimeError(f"noburn did not get ready; its log is {self.home}/serve.log")

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()
        shutil.rmtree(self.home, ignore_errors=True)

    def _end(self) -> None:
        assert self._serve is not None
        self._serve.send_signal(signal.SIGINT)
        self._serve.wait(timeout=30)

    def manage(self, *arguments: str) -> str:
        """Runs a manage.py command in this system; returns what it printed."""
        done = subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=ROOT,
            env=self._env,
            check=True,
            capture_output=True,
            text=True,
        )
        return done.stdout

    def provision(self, tenant: str, *budgets: str) -> dict[str, str]:
        """Makes a tenant with a key and budgets; returns what `provision --json` prints."""
        options = [option for budget in budgets for option in ("--budget", budget)]
        answer: dict[str, str] = json.loads(self.manage("provision", "--tenant", tenant, *options, "--json"))
        return answer

    def environment(self) -> dict[str, str]:
        """The environment in which other programs find this system."""
        return dict(self._env)
