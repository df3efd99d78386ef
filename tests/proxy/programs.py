"""Work beside a noburn of this process: its epochs are good for a minute, so they are renewed meanwhile."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from tests.sdk.plane import Plane

T = TypeVar("T")
RENEW_SECONDS = 10.0
SECONDS = 900


def beside(plane: Plane, work: Callable[[], T]) -> T:
    """Runs work in a thread, and keeps the epochs open in this one."""
    found: list[T] = []
    failed: list[BaseException] = []

    def run() -> None:
        try:
            found.append(work())
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=run)
    plane.account.world.recover()
    thread.start()
    while thread.is_alive():
        thread.join(RENEW_SECONDS)
        plane.account.world.recover()
    if failed:
        raise failed[0]
    return found[0]


def printed(plane: Plane, command: list[str], environment: Mapping[str, str], folder: Path) -> str:
    """Runs a program and returns what it printed. Raises AssertionError where it failed."""

    def run() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            cwd=folder,
            env=dict(environment),
            capture_output=True,
            text=True,
            check=False,
            timeout=SECONDS,
        )

    done = beside(plane, run)
    assert done.returncode == 0, done.stderr
    return done.stdout
