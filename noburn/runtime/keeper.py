"""The keeper: one small process for each embedded server, which starts it, restarts it, and ends it.

Every process that uses the server holds a shared lock on `users.lock`. The keeper waits for the exclusive
one: when it gets it, nobody is left, however they ended, and it stops the server. The keeper itself holds
`keeper.lock`, which is how others know that it lives. A server that dies is restarted at once. Should the
keeper be killed, the kernel signals its server to shut down, and the next user starts a new keeper.
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
from typing import NoReturn

from noburn.runtime.errors import RuntimeProblem
from noburn.runtime.home import Home
from noburn.runtime.locks import FileLock
from noburn.runtime.servers import Server, launch_argv, plain_environment, server

START_SECONDS = 60.0
EARLIER_SERVER_SECONDS = 30.0
STOP_SECONDS_EACH_SIGNAL = 8.0
FAILURES_MAX = 20
LOG_BYTES_MAX = 10_000_000


class Keeper:
    """Keeps one server alive while it has users."""

    def __init__(self, kept: Server) -> None:
        self._server = kept
        self._process: subprocess.Popen[bytes] | None = None
        self._failures = 0
        self._wakeup_read, self._wakeup_write = os.pipe()
        os.set_blocking(self._wakeup_write, False)
        self._deserted = threading.Event()
        self._stop_asked = False

    def start(self) -> None:
        """Starts the server and returns when it serves. Raises RuntimeProblem when it does not."""
        self._server.ready_file.unlink(missing_ok=True)
        # Holding the server's lock ourselves for the moment of preparing: no earlier server is alive then.
        earlier = FileLock(self._server.directory / "server.lock")
        deadline = time.monotonic() + EARLIER_SERVER_SECONDS
        while not earlier.acquire(wait=False):
            if time.monotonic() > deadline:
                raise RuntimeProblem(
                    f"An earlier {self._server.name} server still runs in {self._server.directory} "
                    "and does not end. Stop it (`fuser` on server.lock there names it), then try again."
                )
            time.sleep(0.02)
        try:
            self._server.prepare()
        finally:
            earlier.release()
        self._spawn()
        deadline = time.monotonic() + START_SECONDS
        while not self._server.answers():
            if self._process is None or self._process.poll() is not None:
                raise RuntimeProblem(f"The {self._server.name} server did not start.{self._last_words()}")
            if time.monotonic() > deadline:
                raise RuntimeProblem(
                    f"The {self._server.name} server did not answer within {START_SECONDS:.0f} s; "
                    f"see {self._server.log}."
                )
            time.sleep(0.01)
        self._server.finish()
        assert self._process is not None
        partial = self._server.ready_file.with_name("ready.partial")
        partial.write_text(f"{self._process.pid}\n")
        partial.rename(self._server.ready_file)

    def _spawn(self) -> None:
        self._process = subprocess.Popen(
            launch_argv(
                self._server.argv(),
                lock=self._server.directory / "server.lock",
                lock_wait_seconds=EARLIER_SERVER_SECONDS,
                user=self._server.user,
                reach=self._server.reach,
                death_signal=self._server.stop_signals[0],
            ),
            stdin=subprocess.DEVNULL,
            cwd="/",
            env=plain_environment(),
        )

    def _last_words(self) -> str:
        with contextlib.suppress(OSError):
            lines = self._server.log.read_bytes()[-4000:].decode(errors="replace").strip().splitlines()
            return f" Its log, {self._server.log}, ends:\n" + "\n".join(lines[-8:])
        return ""

    def run(self) -> None:
        """Watches the server until its last user is gone or a SIGTERM comes; then stops it."""
        for number in (signal.SIGTERM, signal.SIGCHLD):
            signal.signal(number, self._on_signal)
        signal.set_wakeup_fd(self._wakeup_write, warn_on_full_buffer=False)
        threading.Thread(target=self._wait_for_desertion, daemon=True).start()
        while not (self._deserted.is_set() or self._stop_asked):
            if self._process is None or self._process.poll() is not None:
                if not self._restart():
                    break
                continue
            select.select([self._wakeup_read], [], [], 1.0)
            with contextlib.suppress(BlockingIOError):
                os.set_blocking(self._wakeup_read, False)
                os.read(self._wakeup_read, 4096)
        self.stop()

    def _on_signal(self, number: int, _frame: object) -> None:
        if number == signal.SIGTERM:
            self._stop_asked = True

    def _wait_for_desertion(self) -> None:
        users = FileLock(self._server.directory / "users.lock")
        users.acquire()
        # Kept until this process ends: whoever comes now waits, and then starts anew.
        self._deserted.set()
        os.write(self._wakeup_write, b"\0")

    def _restart(self) -> bool:
        print(f"noburn: {self._server.name} ended by itself; starting it again", file=sys.stderr, flush=True)
        try:
            self.start()
        except RuntimeProblem as problem:
            self._failures += 1
            print(f"noburn: {problem}", file=sys.stderr, flush=True)
            self._end_process()
            if self._failures >= FAILURES_MAX:
                return False
            self._deserted.wait(min(5.0, 0.1 * 2**self._failures))
            return True
        self._failures = 0
        return True

    def stop(self) -> None:
        """Stops the server, gently first."""
        self._server.ready_file.unlink(missing_ok=True)
        self._end_process()

    def _end_process(self) -> None:
        if self._process is None:
            return
        for number in self._server.stop_signals:
            if self._process.poll() is not None:
                break
            self._process.send_signal(number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_SECONDS_EACH_SIGNAL)


def main() -> None:
    """Starts the keeper of `name` in `home` as a daemon; returns to the caller when the server serves.

    Arguments: name, home, and `durable` or `fast`. The exit status is 0 when the server serves (or another
    keeper is at it), else 1 with the reason on standard error.
    """
    name, home_path, durability = sys.argv[1:4]
    kept = server(name, Home.at(home_path), durable=durability == "durable")
    kept.directory.mkdir(mode=0o711, parents=True, exist_ok=True)
    read, write = os.pipe()
    if os.fork() != 0:
        os.close(write)
        with os.fdopen(read) as pipe:
            answer = pipe.read()
        if answer != "serving":
            sys.exit(answer or f"The keeper of {name} died; see {kept.log}.")
        return
    os.close(read)
    os.setsid()
    _keep(kept, write)


def _keep(kept: Server, report: int) -> NoReturn:
    lock = FileLock(kept.directory / "keeper.lock")
    answer = "serving"
    status = 0
    keeper = None
    if lock.acquire(wait=False):
        _log_to(kept)
        keeper = Keeper(kept)
        try:
            keeper.start()
        except (RuntimeProblem, OSError, subprocess.SubprocessError) as problem:
            answer, status = str(problem), 1
            keeper.stop()
            keeper = None
    with contextlib.suppress(BrokenPipeError):
        os.write(report, answer.encode())
    os.close(report)
    if keeper is not None:
        keeper.run()
    os._exit(status)


def _log_to(kept: Server) -> None:
    if kept.log.exists() and kept.log.stat().st_size > LOG_BYTES_MAX:
        kept.log.rename(kept.log.with_suffix(".log.1"))
    log = os.open(kept.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.chdir("/")


if __name__ == "__main__":
    main()
