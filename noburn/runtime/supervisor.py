"""Runs a set of programs in the foreground: restarts what dies, prefixes what they say, ends them all.

Each child leads a session of its own, so that a Ctrl-C reaches the supervisor alone, which then ends the
children in order; and it gets a SIGTERM from the kernel should the supervisor itself be killed.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import IO

from noburn.runtime.servers import launch_argv

RESTART_SECONDS_MIN = 0.2
RESTART_SECONDS_MAX = 10.0
STEADY_SECONDS = 30.0
STOP_SECONDS = 6.0
LINE_BYTES_MAX = 8000


@dataclass(frozen=True)
class Program:
    """One program to keep running: what it is called in the log, and its command line."""

    name: str
    argv: list[str]


@dataclass
class Child:
    """A program as it runs now, or waits to run again."""

    program: Program
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    restart_at: float = 0.0
    deaths: int = field(default=0)


class Supervisor:
    """Keeps programs running until SIGINT, SIGTERM or `stop`. Times are monotonic seconds."""

    def __init__(
        self,
        programs: list[Program],
        *,
        environment: dict[str, str] | None,
        output: IO[str] = sys.stdout,
        stop_seconds: float = STOP_SECONDS,
    ) -> None:
        self._children = [Child(program) for program in programs]
        self._environment = environment
        self._output = output
        self._stop_seconds = stop_seconds
        self._writing = threading.Lock()
        self._width = max(len(program.name) for program in programs)
        self._wakeup_read, self._wakeup_write = os.pipe()
        for end in (self._wakeup_read, self._wakeup_write):
            os.set_blocking(end, False)
        self.stopping = threading.Event()

    def say(self, line: str, *, who: str = "noburn") -> None:
        """Prints one line of the log, with who said it."""
        with self._writing, contextlib.suppress(OSError, ValueError):
            self._output.write(f"{who:<{self._width}} | {line}\n")
            self._output.flush()

    def stop(self) -> None:
        """Makes `run` end the children and return; may be called from any thread."""
        self.stopping.set()
        with contextlib.suppress(OSError):
            os.write(self._wakeup_write, b"\0")

    def run(self, *, beside: list[Callable[[], None]] | None = None) -> None:
        """Runs the programs until told to stop; `beside` are functions that run in threads meanwhile.

        Call it from the main thread: children die with the thread that started them.
        """
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, lambda *_: self.stopping.set())
        signal.signal(signal.SIGCHLD, lambda *_: None)
        before = signal.set_wakeup_fd(self._wakeup_write, warn_on_full_buffer=False)
        for function in beside or []:
            threading.Thread(target=function, daemon=True).start()
        try:
            while not self.stopping.is_set():
                wait = self._tend(time.monotonic())
                select.select([self._wakeup_read], [], [], wait)
                with contextlib.suppress(BlockingIOError):
                    os.read(self._wakeup_read, 4096)
        finally:
            self._end_all()
            signal.set_wakeup_fd(before)
            os.close(self._wakeup_read)

    def _tend(self, now: float) -> float:
        """Starts what should run and does not; returns how long nothing else needs doing."""
        wait = 1.0
        for child in self._children:
            if child.process is not None and child.process.poll() is not None:
                self._bury(child, now)
            if child.process is None:
                if child.restart_at <= now:
                    self._start(child, now)
                else:
                    wait = min(wait, child.restart_at - now)
        return wait

    def _start(self, child: Child, now: float) -> None:
        child.started_at = now
        child.process = subprocess.Popen(
            launch_argv(child.program.argv, death_signal=signal.SIGTERM),
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        threading.Thread(target=self._relay, args=(child.program.name, child.process), daemon=True).start()

    def _bury(self, child: Child, now: float) -> None:
        assert child.process is not None
        # Its own children would go on holding the port.
        _signal_group(child.process, signal.SIGKILL)
        child.deaths = 1 if now - child.started_at >= STEADY_SECONDS else child.deaths + 1
        pause = min(RESTART_SECONDS_MAX, RESTART_SECONDS_MIN * 2 ** min(child.deaths - 1, 10))
        self.say(f"{child.program.name} ended with status {child.process.returncode}; again in {pause:.1f} s")
        child.process = None
        child.restart_at = now + pause

    def _relay(self, name: str, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        with process.stdout:
            while line := process.stdout.readline(LINE_BYTES_MAX):
                self.say(line.decode(errors="replace").rstrip(), who=name)

    def _end_all(self) -> None:
        alive = [child.process for child in self._children if child.process is not None]
        for process in alive:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
        deadline = time.monotonic() + self._stop_seconds
        for process in alive:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, deadline - time.monotonic()))
            # Whatever a child left behind, and the child itself if it did not heed the first signal.
            _signal_group(process, signal.SIGKILL)
            process.wait()


def _signal_group(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)
