"""Homes of their own, and other processes that use the servers in them."""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from noburn.runtime.embedded import ROOT
from noburn.runtime.home import Home
from noburn.runtime.locks import FileLock
from noburn.runtime.servers import NAMES

DEATH_SECONDS = 120.0


@pytest.fixture
def home() -> Iterator[Home]:
    """An empty home with a short path; gone at the end, when whatever ran in it has stopped."""
    yield from _temporary_home("")


@pytest.fixture
def long_home() -> Iterator[Home]:
    """A home whose path is longer than that of a unix socket may be, below a directory closed to others."""
    yield from _temporary_home("/".join(["directory-" * 6] * 2))


def _temporary_home(below: str) -> Iterator[Home]:
    top = Path(tempfile.mkdtemp(prefix="nbr-", dir="/tmp"))
    home = Home.at(top / below)
    yield home
    for name in NAMES:
        if (home.path / name).exists():
            wait_until_stopped(home, name)
    shutil.rmtree(top)
    if not home.sockets.is_relative_to(top):
        shutil.rmtree(home.sockets)


class OtherCommand:
    """Another process that uses embedded servers until it is told to end, or killed."""

    def __init__(self, home: Home, *names: str) -> None:
        text = (
            "import sys; from noburn.runtime.embedded import EmbeddedServers, Home\n"
            f"EmbeddedServers(Home.at(sys.argv[1]), {names!r}, durable=False).ensure()\n"
            "print('up', flush=True); sys.stdin.read()"
        )
        self.process = subprocess.Popen(
            [sys.executable, "-c", text, str(home.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == b"up\n"

    def end(self) -> None:
        """Lets it end by itself."""
        self.process.communicate()

    def kill(self) -> None:
        """Ends it by a SIGKILL."""
        self.process.kill()
        self.process.communicate()


def wait_for_death(pid: int) -> None:
    """Returns when no process has this id any more. Raises AssertionError when it lives on."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        readable, _, _ = select.select([descriptor], [], [], DEATH_SECONDS)
        assert readable, f"process {pid} lives on"
    finally:
        os.close(descriptor)


def wait_until_stopped(home: Home, name: str) -> None:
    """Returns when the keeper of this server is gone, and the server with it."""
    for lock in ("keeper.lock", "server.lock"):
        waiting = FileLock(home.path / name / lock)
        with _Alarm():
            waiting.acquire()
        waiting.release()


class _Alarm:
    """Breaks a wait that never ends."""

    def __enter__(self) -> None:
        signal.signal(signal.SIGALRM, self._ring)
        signal.alarm(int(DEATH_SECONDS))

    def __exit__(self, *_: object) -> None:
        signal.alarm(0)

    @staticmethod
    def _ring(*_: object) -> None:
        raise AssertionError("the server was not stopped")
