"""The supervisor restarts what dies, ends everything when told to, and leaves no orphan when it is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from noburn.runtime.embedded import ROOT
from tests.runtime.conftest import wait_for_death

# Says its process id, starts a child of its own that says its id too, and waits for a signal.
PROGRAM = """
import os, signal, subprocess, sys
leaf = "import os, signal; os.write(1, b'leaf %d%c' % (os.getpid(), 10)); signal.pause()"
child = subprocess.Popen([sys.executable, "-c", leaf])
{ignore}
os.write(1, b"trunk %d\\n" % os.getpid())
signal.pause()
child.terminate()
"""

SUPERVISE = """
import sys
from noburn.runtime.supervisor import Program, Supervisor
program = Program("tree", [sys.executable, "-c", sys.argv[1]])
Supervisor([program], environment=None, stop_seconds=float(sys.argv[2])).run()
print("ended", flush=True)
"""


class Supervised:
    """A supervisor in a process of its own, over one program with a child."""

    def __init__(self, program: str, *, stop_seconds: float = 20) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", SUPERVISE, program, str(stop_seconds)],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def processes(self) -> dict[str, int]:
        """Returns the ids of trunk and leaf, once both have spoken."""
        found: dict[str, int] = {}
        while len(found) < 2:
            words = self.line().split()
            if words[-2:-1] in (["trunk"], ["leaf"]):
                found[words[-2]] = int(words[-1])
        return found


@pytest.fixture
def tree() -> Supervised:
    return Supervised(PROGRAM.format(ignore="signal.signal(signal.SIGTERM, lambda *_: None)"))


def finish(supervised: Supervised) -> str:
    out, _ = supervised.process.communicate(timeout=20)
    return out


class TestSupervisor:
    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_ends_with_all_its_children(self, tree: Supervised, number: signal.Signals) -> None:
        pids = tree.processes()
        tree.process.send_signal(number)
        assert finish(tree).endswith("ended\n")
        assert tree.process.returncode == 0
        for pid in pids.values():
            wait_for_death(pid)

    def test_kills_a_child_that_does_not_heed(self) -> None:
        deaf = Supervised(
            PROGRAM.format(ignore="signal.signal(signal.SIGTERM, signal.SIG_IGN)"), stop_seconds=0.1
        )
        pids = deaf.processes()
        deaf.process.terminate()
        finish(deaf)
        for pid in pids.values():
            wait_for_death(pid)

    def test_restarts_a_child_that_was_killed_and_clears_what_it_left(self, tree: Supervised) -> None:
        first = tree.processes()
        os.kill(first["trunk"], signal.SIGKILL)
        assert "tree ended with status -9; again in 0.2 s" in tree.line()
        wait_for_death(first["leaf"])
        assert tree.processes().keys() == {"trunk", "leaf"}
        tree.process.terminate()
        finish(tree)

    def test_takes_its_children_with_it_when_it_is_killed(self, tree: Supervised) -> None:
        pids = tree.processes()
        tree.process.kill()
        finish(tree)
        for pid in pids.values():
            wait_for_death(pid)


class TestLaunch:
    def test_says_when_a_server_still_holds_the_directory(self, tmp_path: Path) -> None:
        from noburn.runtime.launch import LOCK_TAKEN_EXIT
        from noburn.runtime.locks import exclusive
        from noburn.runtime.servers import launch_argv

        with exclusive(tmp_path / "lock"):
            done = subprocess.run(
                launch_argv([sys.executable, "-c", "pass"], lock=tmp_path / "lock"),
                capture_output=True,
                text=True,
                check=False,
            )
        assert done.returncode == LOCK_TAKEN_EXIT
        assert "still held by an earlier server" in done.stderr
