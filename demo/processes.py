"""The processes of the demo: a whole noburn in a home of its own, the provider double, and their clean end."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

from noburn.runtime.embedded import ROOT, server_pid
from noburn.runtime.home import Home
from noburn.runtime.names import APP
from noburn.runtime.servers import Postgres, launch_argv
from tests.doubles.program import free_port
from tests.doubles.provider import ProviderDouble

START_SECONDS = 90.0
STOP_SECONDS = 30.0
COMMAND_SECONDS = 60.0
POLL_SECONDS = 0.05
LOG_LINES_SHOWN = 15

# What a shell may have set for another installation: the demo uses servers and secrets of its own.
_FOREIGN = (
    "DATABASE_URL",
    "DATABASE_OWNER_URL",
    "DATABASE_GATEWAY_URL",
    "REDIS_URL",
    "REDIS_GATEWAY_URL",
    "REDIS_CONTROL_URL",
    "BROKER_URL",
    "SECRET_KEY",
    "NOBURN_PEPPER",
    "NOBURN_PEPPER_PREVIOUS",
    "NOBURN_ID_KEY",
    "NOBURN_SIGNING_KEYS",
    "NOBURN_SIGNING_KID",
    "NOBURN_ENCRYPTION_KEYS",
    "NOBURN_API_KEY",
    "NOBURN_BASE_URL",
    "BASE_URL",
    "ALLOWED_HOSTS",
    "DJANGO_SETTINGS_MODULE",
)


class DemoFailed(Exception):
    """The demo cannot go on; the text says why, and what to look at."""


class Child:
    """A process of ours, in a session of its own so that a Ctrl-C reaches the demo alone, which then ends it.

    Should the demo itself be killed, the kernel sends the child a SIGTERM.
    """

    def __init__(self, name: str, argv: list[str], *, environment: dict[str, str], log: Path) -> None:
        self.name, self._log = name, log
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                launch_argv(argv, death_signal=signal.SIGTERM),
                cwd=ROOT,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def wait_until(self, ready: Callable[[], bool]) -> None:
        """Returns when `ready` says so. Raises DemoFailed when the process ends, or after 90 s."""
        deadline = time.monotonic() + START_SECONDS
        while not ready():
            if self._process.poll() is not None:
                raise DemoFailed(f"{self.name} ended with {self._process.returncode}.\n{self.last_words()}")
            if time.monotonic() > deadline:
                raise DemoFailed(
                    f"{self.name} is not ready after {START_SECONDS:.0f} s.\n{self.last_words()}"
                )
            time.sleep(POLL_SECONDS)

    def last_words(self) -> str:
        """Returns the end of its log."""
        lines = self._log.read_text(errors="replace").splitlines()
        return "\n".join(lines[-LOG_LINES_SHOWN:])

    def stop(self) -> None:
        """Ends it and what it started: politely, then not."""
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()


class Stage:
    """Everything that runs: use it as a context manager, and nothing is left of it afterwards."""

    def __init__(self) -> None:
        # A short path, for the sake of the unix sockets, and one of its own, so that two demos never meet.
        self.path = Path(tempfile.mkdtemp(prefix="noburn-demo-"))
        self.home = Home.at(self.path / "home")
        self.port = free_port()
        self.double = ProviderDouble()
        self.log = self.path / "serve.log"
        self._children: list[Child] = []
        self._environment = {name: value for name, value in os.environ.items() if name not in _FOREIGN} | {
            "NOBURN_HOME": str(self.home.path),
            "HOST": "127.0.0.1",
            "PORT": str(self.port),
            "WEB_WORKERS": "2",
            "PYTHONUNBUFFERED": "1",
        }
        # The clients in this process must not ask a proxy for 127.0.0.1.
        for name in ("NO_PROXY", "no_proxy"):
            os.environ[name] = ",".join(filter(None, [os.environ.get(name), "127.0.0.1"]))

    def __enter__(self) -> Stage:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # A second Ctrl-C must not cut the cleaning up short; every step of it is bounded.
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        for child in reversed(self._children):
            child.stop()
        self._wait_for_silence()
        shutil.rmtree(self.path, ignore_errors=True)
        if not self.home.sockets.is_relative_to(self.path):
            shutil.rmtree(self.home.sockets, ignore_errors=True)

    def start_double(self) -> None:
        """Starts the stand-in for OpenAI and Anthropic."""
        argv = [sys.executable, "-m", "tests.doubles.provider", "--port", str(self.double.port)]
        log = self.path / "provider.log"
        child = Child("the provider double", argv, environment=self._environment, log=log)
        self._children.append(child)
        child.wait_until(lambda: _answers(self.double.port, "/healthz"))

    def start_noburn(self) -> None:
        """Starts `manage.py serve`: PostgreSQL, two Valkeys, the gateway, Celery and the epoch controller."""
        argv = [sys.executable, str(ROOT / "manage.py"), "serve"]
        child = Child("manage.py serve", argv, environment=self._environment, log=self.log)
        self._children.append(child)
        child.wait_until(lambda: _answers(self.port, "/readyz"))

    @property
    def base_url(self) -> str:
        """Where noburn serves."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def database_url(self) -> str:
        """The ledger's database, as the application's role."""
        return Postgres(self.home).url(APP)

    def manage(self, *arguments: str) -> Any:
        """Runs `manage.py …` and returns the JSON that it prints. Raises DemoFailed with its words."""
        done = subprocess.run(
            [sys.executable, str(ROOT / "manage.py"), *arguments],
            cwd=ROOT,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=COMMAND_SECONDS,
        )
        if done.returncode != 0:
            said = (done.stdout + done.stderr).strip()
            raise DemoFailed(f"manage.py {' '.join(arguments)} ended with {done.returncode}:\n{said[-4000:]}")
        return json.loads(done.stdout)

    def last_words(self) -> str:
        """Returns the end of noburn's log."""
        return self._children[-1].last_words() if self._children else ""

    def counters_pid(self) -> int | None:
        """Returns the process id of the counters' Redis, from the file in which its keeper notes it."""
        return server_pid(self.home, "counters")

    def left_over(self) -> list[int]:
        """Returns the processes that still run for this demo, on a system that tells."""
        mark = os.fsencode(self.path)
        found = []
        for directory in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                words = (directory / "cmdline").read_bytes() + (directory / "environ").read_bytes()
                if mark in words and int(directory.name) != os.getpid():
                    found.append(int(directory.name))
        return found

    def _wait_for_silence(self) -> None:
        # The servers' keepers stop their servers a moment after the last user has left.
        deadline = time.monotonic() + STOP_SECONDS
        while self.left_over() and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)


def _answers(port: int, path: str) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    with contextlib.closing(connection), contextlib.suppress(OSError, http.client.HTTPException):
        connection.request("GET", path)
        return connection.getresponse().status == 200
    return False
