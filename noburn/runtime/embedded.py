"""Using the embedded servers: start what is not running, and be counted as a user until the process ends."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

from noburn.runtime.errors import RuntimeProblem
from noburn.runtime.home import Home
from noburn.runtime.locks import FileLock, exclusive
from noburn.runtime.servers import NAMES, Server, server

SERVE_SECONDS = 60.0
LEAVE_SECONDS = 20.0
ROOT = Path(__file__).resolve().parents[2]


def server_pid(home: Home, name: str) -> int | None:
    """Returns the process id of a serving embedded server, None when it does not serve."""
    try:
        return int(server(name, home).ready_file.read_text())
    except (OSError, ValueError):
        return None


def missing_servers(environment: dict[str, str]) -> tuple[str, ...]:
    """Returns the names of the servers that the environment gives no URL for; these are embedded."""
    needs = {"postgres": "DATABASE_URL", "counters": "REDIS_URL", "broker": "BROKER_URL"}
    return tuple(name for name in NAMES if not environment.get(needs[name]))


class EmbeddedServers:
    """The embedded servers of one home, as one process uses them."""

    def __init__(self, home: Home, names: tuple[str, ...] = NAMES, *, durable: bool = True) -> None:
        self.home = home
        self._durable = durable
        self._servers = [server(name, home, durable=durable) for name in names]
        self._users: dict[str, FileLock] = {}

    def environment(self) -> dict[str, str]:
        """Returns the URLs of the servers, as environment variables."""
        return {key: value for kept in self._servers for key, value in kept.environment().items()}

    def ensure(self) -> None:
        """Returns when every server serves, starting in parallel those that do not.

        Raises RuntimeProblem with the reason of each that could not be started.
        """
        if not self._servers:
            return
        self.home.create()
        problems: list[str] = []

        def one(kept: Server) -> None:
            try:
                self._ensure(kept)
            except (RuntimeProblem, OSError, subprocess.SubprocessError) as problem:
                problems.append(str(problem))

        threads = [threading.Thread(target=one, args=(kept,)) for kept in self._servers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if problems:
            raise RuntimeProblem("\n".join(problems))

    def _ensure(self, kept: Server) -> None:
        kept.directory.mkdir(mode=0o711, exist_ok=True)
        if kept.name not in self._users:
            users = FileLock(kept.directory / "users.lock")
            # Waits here while a keeper that found itself deserted stops the server.
            users.acquire(shared=True)
            self._users[kept.name] = users
        deadline = time.monotonic() + SERVE_SECONDS
        while True:
            with exclusive(kept.directory / "start.lock"):
                if FileLock(kept.directory / "keeper.lock").free():
                    self._start_keeper(kept)
            if kept.ready_file.exists() and kept.answers():
                return
            # The keeper is alive and restarting its server, or it just ended.
            if time.monotonic() > deadline:
                raise RuntimeProblem(f"The {kept.name} server does not come up; see {kept.log}.")
            time.sleep(0.02)

    def _start_keeper(self, kept: Server) -> None:
        durability = "durable" if self._durable else "fast"
        environment = {"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            [sys.executable, "-m", "noburn.runtime.keeper", kept.name, str(self.home.path), durability],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
            check=False,
            timeout=SERVE_SECONDS * 2,
        )
        if done.returncode != 0:
            raise RuntimeProblem(done.stderr.strip())

    def leave(self, *, wait: bool = False) -> None:
        """Stops being a user; the last to leave makes the servers stop, which `wait` waits for (bounded)."""
        deserted: list[Path] = []
        for name, users in self._users.items():
            directory = users.path.parent
            users.release()
            if wait and FileLock(directory / "users.lock").free():
                deserted.append(directory / "keeper.lock")
            del name
        self._users.clear()
        deadline = time.monotonic() + LEAVE_SECONDS
        while deserted and time.monotonic() < deadline:
            deserted = [path for path in deserted if not FileLock(path).free()]
            time.sleep(0.01)
