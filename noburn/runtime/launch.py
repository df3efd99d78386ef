"""Becomes a server program, with what must be arranged before it: a lock, a user, a death signal.

Run as a plain script (`python -I -S launch.py '<json>'`), standard library only. The JSON object holds
`argv`; `lock` (a path: taken exclusively and inherited by the server and all its children, so that the kernel
frees it only when the last of them is gone, and two servers never share one directory); `lock_wait_seconds`;
`user` (a numeric id to become, when run as root); `reach` (paths that this user must be able to use);
`death_signal` (sent to the server when the process that started this one dies); `parent` (that process).
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import sys
import time
from typing import Any

LOCK_TAKEN_EXIT = 75
UNREACHABLE_EXIT = 77

PR_SET_PDEATHSIG = 1
PR_SET_KEEPCAPS = 8
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_RAISE = 2
CAP_DAC_OVERRIDE = 1
CAP_DAC_READ_SEARCH = 2
CAPABILITY_VERSION_3 = 0x20080522


def main() -> None:
    order = json.loads(sys.argv[1])
    os.umask(0o077)
    if order.get("lock"):
        _take_lock(order["lock"], order.get("lock_wait_seconds", 0))
    if order.get("user") is not None:
        _become(order["user"], order.get("reach", []))
    if order.get("death_signal") and sys.platform == "linux":
        # After the change of user, which would clear it.
        _prctl(PR_SET_PDEATHSIG, order["death_signal"])
        if order.get("parent") and os.getppid() != order["parent"]:
            sys.exit(0)
    os.execv(order["argv"][0], order["argv"])  # noqa: S606


def _take_lock(path: str, wait_seconds: float) -> None:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    os.set_inheritable(descriptor, True)
    deadline = time.monotonic() + wait_seconds
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() >= deadline:
                print(f"{path} is still held by an earlier server", file=sys.stderr)
                sys.exit(LOCK_TAKEN_EXIT)
            time.sleep(0.01)


def _become(user: int, reach: list[str]) -> None:
    group = _group_of(user)
    os.setgroups([])
    os.setegid(group)
    os.seteuid(user)
    reachable = all(os.access(path, os.R_OK | os.X_OK, effective_ids=True) for path in reach)
    os.seteuid(0)
    os.setegid(0)
    # A clone under /root is closed to other users. Instead of opening somebody's directories, the server gets
    # the one capability to pass through them (in a container that lacks it, the stronger one that it has).
    capability = None if reachable else _spare_capability()
    if capability is not None:
        _prctl(PR_SET_KEEPCAPS, 1)
    os.setresgid(group, group, group)
    os.setresuid(user, user, user)
    if capability is not None:
        _keep_capability(capability)
    # By effective ids: access() by the real ones leaves capabilities out.
    if not all(os.access(path, os.R_OK | os.X_OK, effective_ids=True) for path in reach):
        print(f"user {user} cannot reach {' and '.join(reach)}", file=sys.stderr)
        sys.exit(UNREACHABLE_EXIT)


def _group_of(user: int) -> int:
    import pwd

    return pwd.getpwuid(user).pw_gid


def _spare_capability() -> int | None:
    with open("/proc/self/status") as status:
        permitted = next(int(line.split()[1], 16) for line in status if line.startswith("CapPrm:"))
    for capability in (CAP_DAC_READ_SEARCH, CAP_DAC_OVERRIDE):
        if permitted & (1 << capability):
            return capability
    return None


def _keep_capability(capability: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0)
    mask = 1 << capability
    sets = (ctypes.c_uint32 * 6)(mask, mask, mask, 0, 0, 0)
    if libc.capset(header, sets) != 0:
        raise OSError(ctypes.get_errno(), "capset")
    _prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, capability)


def _prctl(*arguments: Any) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    padded = [*arguments, 0, 0, 0, 0][:5]
    if libc.prctl(padded[0], *(ctypes.c_ulong(value) for value in padded[1:])) != 0:
        raise OSError(ctypes.get_errno(), "prctl")


if __name__ == "__main__":
    main()
