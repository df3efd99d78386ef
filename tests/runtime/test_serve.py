"""`manage.py serve`: everything in the foreground, and nothing left of it afterwards."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest

from noburn.runtime.embedded import ROOT, server_pid
from noburn.runtime.home import Home
from tests.runtime.conftest import wait_for_death, wait_until_stopped

END_SECONDS = 120
READY_SECONDS = 300


class Served:
    """A whole noburn in a home of its own; its log is read line by line."""

    def __init__(self, home: Home, port: int) -> None:
        self.home = home
        self.port = port
        self.process = subprocess.Popen(
            [sys.executable, str(ROOT / "manage.py"), "serve"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={
                **os.environ,
                "NOBURN_HOME": str(home.path),
                "NOBURN_DURABLE": "0",
                "PORT": str(port),
                "WEB_WORKERS": "1",
            },
        )
        self.log: list[str] = []

    def read_until(self, words: str) -> None:
        """Returns when a line of the log holds these words; fails when the process ends before."""
        assert self.process.stdout is not None
        # Never ready means killed, whereupon the log ends.
        limit = threading.Timer(READY_SECONDS, self.process.kill)
        limit.start()
        try:
            self._read_until(words, self.process.stdout)
        finally:
            limit.cancel()

    def _read_until(self, words: str, stdout: IO[str]) -> None:
        for line in stdout:
            self.log.append(line)
            if words in line:
                return
        raise AssertionError("serve ended early:\n" + "".join(self.log))

    def status(self, path: str) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request("GET", path)
            return connection.getresponse().status
        finally:
            connection.close()

    def processes(self) -> list[int]:
        """Returns the ids of the programs that run with this home, serve itself among them."""
        mark = f"NOBURN_HOME={self.home.path}".encode()
        found = []
        for environ in Path("/proc").glob("[0-9]*/environ"):
            try:
                if mark in environ.read_bytes().split(b"\0"):
                    found.append(int(environ.parent.name))
            except OSError:
                continue
        return found


@pytest.fixture
def served(home: Home) -> Iterator[Served]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    running = Served(home, port)
    try:
        running.read_until("ready at")
        yield running
    finally:
        running.process.kill()
        running.process.communicate()


class TestServe:
    def test_answers_and_ends_cleanly_with_everything_it_started(self, served: Served) -> None:
        assert served.status("/readyz") == 200
        assert served.status("/account/login/") == 200
        # Operators sign in where everybody does.
        assert served.status("/admin/login/") == 302
        assert served.status("/static/admin/css/base.css") == 200
        pids = served.processes()
        # serve, web and its worker, Celery's worker and beat, at the least.
        assert len(pids) >= 5
        served.process.send_signal(signal.SIGINT)
        out, _ = served.process.communicate(timeout=END_SECONDS)
        assert served.process.returncode == 0
        assert out.endswith("noburn has ended.\n")
        assert served.processes() == []
        for name in ("postgres", "counters", "broker"):
            assert server_pid(served.home, name) is None

    def test_leaves_no_orphan_when_it_is_killed(self, served: Served) -> None:
        pids = served.processes()
        served.process.kill()
        for pid in pids:
            if pid != served.process.pid:
                wait_for_death(pid)
        wait_until_stopped(served.home, "counters")
        wait_until_stopped(served.home, "postgres")

    def test_refuses_a_port_that_is_taken(self, home: Home) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            port = taken.getsockname()[1]
            done = subprocess.run(
                [sys.executable, str(ROOT / "manage.py"), "serve"],
                capture_output=True,
                text=True,
                check=False,
                env={**os.environ, "NOBURN_HOME": str(home.path), "PORT": str(port)},
            )
        assert done.returncode == 1
        assert f"Port {port} cannot be used" in done.stderr
        assert f"PORT={port + 1} make serve" in done.stderr
