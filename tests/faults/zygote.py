"""Forks the processes that the harness kills. It has imported everything, so that a new one serves in tenths of a second.

Orders come as lines of JSON on standard input; `{"pid": …}` and `{"ended": pid, "status": …}` go to standard output.
When its input ends, it kills what it forked.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
from typing import Any

from tests.faults import roles


def main() -> None:
    """Serves until standard input ends."""
    read, write = os.pipe()
    os.set_blocking(write, False)
    os.set_blocking(read, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    children: set[int] = set()
    say({"ready": True})
    buffer = b""
    while True:
        ready, _, _ = select.select([0, read], [], [])
        if read in ready:
            os.read(read, 4096)
            bury(children)
        if 0 in ready:
            data = os.read(0, 65_536)
            if not data:
                break
            buffer += data
            *lines, buffer = buffer.split(b"\n")
            for line in lines:
                children.add(fork(json.loads(line)))
    for pid in children:
        os.kill(pid, signal.SIGKILL)


def fork(order: dict[str, Any]) -> int:
    """Forks one role and tells its process id."""
    pid = os.fork()
    if pid == 0:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        nothing = os.open(os.devnull, os.O_RDONLY)
        for descriptor, number in ((nothing, 0), (log, 1), (log, 2)):
            os.dup2(descriptor, number)
        try:
            roles.run(order)
        except BaseException:
            import traceback

            traceback.print_exc()
        os._exit(1)
    say({"pid": pid})
    return pid


def bury(children: set[int]) -> None:
    """Tells of every child that has ended."""
    while children:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            return
        children.discard(pid)
        say({"ended": pid, "status": os.waitstatus_to_exitcode(status)})


def say(word: dict[str, Any]) -> None:
    """One line to the harness."""
    sys.stdout.write(json.dumps(word) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
