"""A whole noburn as `make serve` starts it, in a home of its own on a free port."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx

from noburn.runtime.embedded import ROOT
from noburn.runtime.home import Home
from tests.doubles.program import free_port

READY_SECONDS = 300
STOP_SECONDS = 60
LINES_SHOWN = 40


class Serving:
    """`manage.py serve` in another process. Its log is read all the time, so that it never waits for a reader."""

    def __init__(self, path: Path) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._environment = {
            **os.environ,
            "NOBURN_HOME": str(path / "home"),
            "NOBURN_DURABLE": "0",
            "PORT": str(self.port),
            "WEB_WORKERS": "1",
            "PYTHONUNBUFFERED": "1",
            # Tests sign up after others have made tenants.
            "NOBURN_SIGNUP": "open",
        }
        for name in ("DJANGO_SETTINGS_MODULE", "BASE_URL"):
            self._environment.pop(name, None)
        self.log: list[str] = []
        self._ready = threading.Event()
        self._process = subprocess.Popen(
            [sys.executable, str(ROOT / "manage.py"), "serve"],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env=self._environment,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.log.append(line)
            if "ready at" in line:
                self._ready.set()
        self._ready.set()

    def wait_until_ready(self) -> None:
        """Returns when it serves. Raises AssertionError with the end of its log if it ended instead."""
        self._ready.wait(READY_SECONDS)
        assert any("ready at" in line for line in self.log), "".join(self.log[-LINES_SHOWN:])

    def errors(self) -> list[str]:
        """What it logged as errors of its own."""
        return [line for line in self.log if " ERROR " in line or " CRITICAL " in line]

    def manage(self, *arguments: str) -> Any:
        """Runs `manage.py …` and returns the JSON that it prints."""
        done = subprocess.run(
            [sys.executable, str(ROOT / "manage.py"), *arguments],
            cwd=ROOT,
            env=self._environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=READY_SECONDS,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout)

    def key(self, tenant_id: str) -> str:
        """Issues a key of the whole tenant with every scope, which only its people can do: its secret."""
        text = (
            "import json; from noburn.kit import ids; from noburn.kit.clock import utc_now\n"
            "from tenants.models import KeyScope; from tenants.services.keys import issue_key\n"
            f"issued = issue_key(tenant_id=ids.decode('ten', {tenant_id!r}), name='everything', "
            "scopes=KeyScope.values, actor='test', now=utc_now())\n"
            "print(json.dumps(issued.secret))"
        )
        secret: str = self.manage("shell", "--verbosity", "0", "-c", text)
        return secret

    def stop(self) -> None:
        """Ends it with everything that it started."""
        self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join(STOP_SECONDS)
        assert self._process.stdout is not None
        self._process.stdout.close()


class Attached(Serving):
    """A noburn that somebody started with `make serve`, for who writes pages and looks at them again and again."""

    def __init__(self, home: str, port: int) -> None:
        self.port, self.url, self.log = port, f"http://127.0.0.1:{port}", []
        self._environment = {**os.environ, "NOBURN_HOME": home, "PORT": str(port), "NOBURN_DURABLE": "0"}
        for name in ("DJANGO_SETTINGS_MODULE", "BASE_URL"):
            self._environment.pop(name, None)


@contextmanager
def serving() -> Iterator[Serving]:
    """A running noburn; nothing is left of it afterwards."""
    path = Path(tempfile.mkdtemp(prefix="nba-", dir="/tmp"))
    running = Serving(path)
    try:
        running.wait_until_ready()
        yield running
    finally:
        running.stop()
        home = Home.at(path / "home")
        shutil.rmtree(path, ignore_errors=True)
        if not home.sockets.is_relative_to(path):
            shutil.rmtree(home.sockets, ignore_errors=True)


@dataclass(frozen=True)
class Told:
    """An answer: its status and its JSON."""

    status: int
    body: Any


class Caller:
    """One key at a running noburn."""

    def __init__(self, url: str, secret: str) -> None:
        self._client = httpx.Client(
            base_url=url, headers={"Authorization": f"Bearer {secret}"}, timeout=30, trust_env=False
        )

    def __enter__(self) -> Caller:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def send(self, method: str, path: str, body: Any = None) -> Told:
        """One request, with a new Idempotency-Key."""
        headers = {"Idempotency-Key": uuid4().hex} if method == "POST" else {}
        answer = self._client.request(method, path, json=body, headers=headers)
        return Told(answer.status_code, answer.json() if answer.content else None)
