"""Errors of the disk, by the kernel: a seccomp filter asks us before each fsync and write of a program; we may say no.

It needs no package and no root: the program asks for it itself before it starts (`python -m tests.faults.syscalls`), and
hands us the descriptor at which the kernel asks. x86-64 and arm64, Linux 5.5 and later.
"""

from __future__ import annotations

import array
import ctypes
import errno
import fcntl
import os
import platform
import socket
import struct
import sys
import threading
from pathlib import Path

ARM = platform.machine() == "aarch64"
NUMBERS = (
    {
        "fsync": 82,
        "fdatasync": 83,
        "write": 64,
        "pwrite64": 68,
        "pwritev": 70,
        "fallocate": 47,
        "ftruncate": 46,
    }
    if ARM
    else {
        "fsync": 74,
        "fdatasync": 75,
        "write": 1,
        "pwrite64": 18,
        "pwritev": 296,
        "fallocate": 285,
        "ftruncate": 77,
    }
)
SYS_SECCOMP = 277 if ARM else 317
SYNCS = frozenset((NUMBERS["fsync"], NUMBERS["fdatasync"]))
PR_SET_NO_NEW_PRIVS = 38
SET_MODE_FILTER, NEW_LISTENER, TSYNC_ESRCH = 1, 8, 16
RET_USER_NOTIF, RET_ALLOW = 0x7FC00000, 0x7FFF0000
FLAG_CONTINUE = 1
NOTIF = struct.Struct("QIIiIQ6Q")
RESPONSE = struct.Struct("QqiI")


def _ioc(number: int, size: int) -> int:
    return 3 << 30 | size << 16 | ord("!") << 8 | number


RECEIVE, SEND = _ioc(0, NOTIF.size), _ioc(1, RESPONSE.size)


class SyscallFaults:
    """Decides about one server program's writes. `failing`: None, "fsync" (EIO) or "full" (ENOSPC)."""

    def __init__(self, path: Path) -> None:
        self.failing: str | None = None
        self.refused = 0
        self._path = path
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        path.chmod(0o777)
        self._listener.listen()
        threading.Thread(target=self._take, name=path.name, daemon=True).start()

    def wrap(self, argv: list[str]) -> list[str]:
        """The command that runs `argv` under the filter."""
        return [sys.executable, "-I", "-S", str(Path(__file__)), str(self._path), *argv]

    def close(self) -> None:
        """Takes no more programs."""
        self._listener.close()

    def _take(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                _, ancillary, _, _ = connection.recvmsg(1, socket.CMSG_SPACE(4))
            for level, kind, data in ancillary:
                if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                    descriptor = array.array("i", data[:4])[0]
                    threading.Thread(target=self._answer, args=(descriptor,), daemon=True).start()

    def _answer(self, descriptor: int) -> None:
        while True:
            asked = bytearray(NOTIF.size)
            try:
                fcntl.ioctl(descriptor, RECEIVE, asked)
                number, pid, _, syscall, _, _, target, *_ = NOTIF.unpack(asked)
                code = self._verdict(pid, syscall, target)
                answer = RESPONSE.pack(number, 0, -code, 0 if code else FLAG_CONTINUE)
                fcntl.ioctl(descriptor, SEND, bytearray(answer))
            except OSError as error:
                if error.errno in (errno.ENOENT, errno.EINTR):
                    # The caller was killed meanwhile; or nobody is left, and the next answer says so.
                    if not _alive(descriptor):
                        break
                    continue
                break
        os.close(descriptor)

    def _verdict(self, pid: int, syscall: int, target: int) -> int:
        if self.failing is None or (syscall in SYNCS) != (self.failing == "fsync"):
            return 0
        try:
            named = os.readlink(f"/proc/{pid}/fd/{target}")
        except OSError:
            return 0
        if not named.startswith("/") or named.startswith("/dev/") or named.endswith(".log"):
            return 0
        self.refused += 1
        return errno.EIO if self.failing == "fsync" else errno.ENOSPC


def _alive(descriptor: int) -> bool:
    import select

    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return not any(event & select.POLLHUP for _, event in poll.poll(0))


def _statement(code: int, yes: int, no: int, value: int) -> bytes:
    return struct.pack("HBBI", code, yes, no, value)


def _install() -> int:
    """Puts the filter on this process and returns the descriptor at which the kernel asks."""
    numbers = list(NUMBERS.values())
    program = [_statement(0x20, 0, 0, 0)]
    for at, number in enumerate(numbers):
        program.append(_statement(0x15, len(numbers) - at, 0, number))
    program += [_statement(0x06, 0, 0, RET_ALLOW), _statement(0x06, 0, 0, RET_USER_NOTIF)]
    text = ctypes.create_string_buffer(b"".join(program))
    header = struct.pack("HxxxxxxP", len(program), ctypes.addressof(text))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "PR_SET_NO_NEW_PRIVS")
    descriptor = int(libc.syscall(SYS_SECCOMP, SET_MODE_FILTER, NEW_LISTENER, ctypes.c_char_p(header)))
    if descriptor < 0:
        raise OSError(ctypes.get_errno(), "seccomp")
    return descriptor


def main() -> None:
    """Becomes the program `argv[2:]` under a filter, whose descriptor goes to the socket `argv[1]`."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(sys.argv[1])
        descriptor = _install()
        rights = array.array("i", [descriptor])
        connection.sendmsg([b"!"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights.tobytes())])
    os.close(descriptor)
    os.execv(sys.argv[2], sys.argv[2:])


if __name__ == "__main__":
    main()
