"""Settlements on disk until noburn has them, so that a killed process's arrive with the next one's start.

Every process appends to a file of its own, which it keeps locked: the system drops the lock when the process
ends, however it ends, and whoever gets it then delivers what the file holds. Lines are JSON: a resolution, or
`{"done": […]}`. A line holds an authorization, counts and names of models; never anything of a prompt.
A resolution is idempotent by its hold, so delivering one twice does no harm.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from noburn_sdk._config import logger

BYTES_MAX = 32 * 1024 * 1024
"""Of one process's file. What does not fit is kept in memory alone."""
COMPACT_BYTES = 1024 * 1024
FILES_MAX = 1_000
CLAIMS_MAX = 100
"""Files that one look takes over."""
AGE_SECONDS_MAX = 30 * 86_400
"""What could not be delivered for so long is dropped, and said so."""


def default_directory(base_url: str, api_key: str) -> Path:
    """Where a key's settlements lie: NOBURN_OUTBOX, else the user's state directory, else a temporary one.

    Each server and key has a folder of its own, named by a hash, since no other key may deliver them.
    """
    named = os.environ.get("NOBURN_OUTBOX", "").strip()
    mark = hashlib.sha256(f"{base_url}\0{api_key}".encode()).hexdigest()[:16]
    if named:
        return Path(named) / mark
    state = os.environ.get("XDG_STATE_HOME", "").strip()
    with contextlib.suppress(RuntimeError):
        return (Path(state) if state else Path.home() / ".local" / "state") / "noburn" / "outbox" / mark
    return Path(tempfile.gettempdir()) / f"noburn-outbox-{_user()}" / mark


def _user() -> str:
    return str(os.getuid()) if hasattr(os, "getuid") else os.environ.get("USERNAME", "user")


class Outbox:
    """One process's file, and the way to take over those of processes that ended.

    Appending is one `write` of a whole line, so it needs no lock against other threads and survives the death
    of this process at once. `sync` puts it on the platter; the settler calls it before each delivery, so what
    a power cut can take is what was made in the last moment.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._lock = threading.RLock()
        self._open: dict[str, None] = {}
        self._fd: int | None = None
        self._syncing: int | None = None
        """The same file, while it is put onto the disk."""
        self._size = 0
        self._dirty = False
        self._closed = False
        self._finished = 0
        self._rename()

    def append(self, key: str, item: dict[str, Any]) -> bool:
        """Writes a resolution; False if it could not be kept on disk. Never raises."""
        line = _line({"at": int(time.time()), **item, "key": key})
        try:
            with self._lock:
                if self._closed or self._size + len(line) > BYTES_MAX:
                    return False
                self._write(line)
                self._open[key] = None
        except OSError as error:
            logger.warning("the outbox %s cannot be written: %s", self.directory, error)
            return False
        return True

    def done(self, keys: Iterable[str]) -> None:
        """Notes that noburn has these, and empties the file once it has all. Never raises."""
        try:
            with self._lock:
                found = [key for key in keys if self._open.pop(key, self) is None]
                if self._fd is None or not found:
                    return
                if not self._open:
                    os.ftruncate(self._fd, 0)
                    self._size = 0
                else:
                    self._write(_line({"done": found}))
                    self._finished += len(found)
                    if self._size > COMPACT_BYTES and self._finished > len(self._open):
                        self._compact()
                        self._finished = 0
        except OSError as error:
            logger.warning("the outbox %s cannot be written: %s", self.directory, error)

    def sync(self) -> None:
        """Puts what was written onto the disk itself. Never raises.

        The disk may take its time, in which nobody who appends is to wait: a server's every caller would.
        """
        with self._lock, contextlib.suppress(OSError):
            if self._fd is None or not self._dirty:
                return
            self._dirty = False
            self._syncing = os.dup(self._fd)
        fd = self._syncing
        if fd is None:
            return
        with contextlib.suppress(OSError):
            os.fsync(fd)
        with self._lock, contextlib.suppress(OSError):
            self._syncing = None
            os.close(fd)

    def _write(self, line: bytes) -> None:
        if self._fd is None:
            self._fd = self._create()
        written = 0
        while written < len(line):
            written += os.write(self._fd, line[written:])
        self._size += len(line)
        self._dirty = True

    def _create(self) -> int:
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        if not _try_lock(fd) or not _same(fd, self.path):
            # A process that looked for what others left was faster; the next try is with another name.
            os.close(fd)
            self._rename()
            raise OSError("somebody else took a new file of the outbox")
        return fd

    def _rename(self) -> None:
        self.path = self.directory / f"{os.getpid()}-{secrets.token_hex(6)}.jsonl"

    def _compact(self) -> None:
        """Moves what is not delivered to a new file, and removes the old one after that."""
        kept, old_fd, old_path = self.held(), self._fd, self.path
        self._rename()
        self._fd, self._size = None, 0
        for item in kept:
            self._write(_line(item))
        if self._fd is not None:
            os.fsync(self._fd)
        old_path.unlink(missing_ok=True)
        if old_fd is not None:
            os.close(old_fd)

    def held(self) -> list[dict[str, Any]]:
        """Returns this process's undelivered resolutions, oldest first, as they lie on disk."""
        with self._lock:
            if self._fd is None:
                return []
            return _read(self.path.read_bytes())

    def claim(self) -> Iterator[tuple[Path, list[dict[str, Any]]]]:
        """Yields what processes that ended left, file by file; each is deleted once its turn is over.

        Its resolutions are to be in this process's own file, or delivered, by then.
        """
        for path in self._strangers():
            try:
                fd = os.open(path, os.O_RDWR)
            except OSError:
                continue
            try:
                if not _try_lock(fd) or not _same(fd, path):
                    continue
                items = _read(path.read_bytes())
                fresh = [item for item in items if item["at"] > time.time() - AGE_SECONDS_MAX]
                if len(fresh) < len(items):
                    logger.error(
                        "%d settlements of %s are too old, and dropped", len(items) - len(fresh), path
                    )
                yield path, fresh
                path.unlink(missing_ok=True)
            except OSError as error:
                logger.warning("the outbox's %s cannot be read: %s", path, error)
            finally:
                os.close(fd)

    def _strangers(self) -> list[Path]:
        try:
            found = sorted(path for path in self.directory.glob("*.jsonl") if path != self.path)
        except OSError:
            return []
        if len(found) > FILES_MAX:
            logger.warning("the outbox %s holds %d files", self.directory, len(found))
        return found[:CLAIMS_MAX]

    def leave(self) -> None:
        """Lets go of the file without a word: after a fork it is the parent's."""
        for fd in (self._fd, self._syncing):
            if fd is not None:
                with contextlib.suppress(OSError):
                    os.close(fd)
        self._fd = self._syncing = None
        self._closed = True

    def close(self) -> None:
        """Closes the file, and removes it if it is empty."""
        with self._lock:
            self._closed = True
            if self._fd is None:
                return
            if not self._open:
                with contextlib.suppress(OSError):
                    self.path.unlink()
            os.close(self._fd)
            self._fd = None


def _line(value: dict[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode() + b"\n"


def _read(content: bytes) -> list[dict[str, Any]]:
    """Reads lines; the last one may have been cut by the end of a machine, and is left out then."""
    found: dict[str, dict[str, Any]] = {}
    for line in content.split(b"\n"):
        try:
            value = json.loads(line) if line.strip() else None
        except ValueError:
            continue
        if not isinstance(value, dict):
            continue
        for key in value.get("done") or ():
            found.pop(key, None)
        if isinstance(value.get("key"), str) and isinstance(value.get("at"), int) and "body" in value:
            found[value["key"]] = value
    return list(found.values())


def _same(fd: int, path: Path) -> bool:
    """Whether the open file is still the one at this path: another process may have delivered and removed it."""
    try:
        return os.path.samestat(os.fstat(fd), os.stat(path))
    except OSError:
        return False


if sys.platform == "win32":
    import msvcrt

    def _try_lock(fd: int) -> bool:
        # Far beyond the content, since locks here bar reading as well.
        os.lseek(fd, 2**40, os.SEEK_SET)
        try:
            msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

else:
    import fcntl

    def _try_lock(fd: int) -> bool:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True
