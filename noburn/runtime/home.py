"""Where an installation keeps its own files: NOBURN_HOME, and the short directory of its unix sockets.

Everything is a pure function of the path, so that a second command finds the servers of the first without
asking anybody, and settings can name a server's URL without starting it.
"""

from __future__ import annotations

import hashlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from noburn.runtime.errors import RuntimeProblem

# A unix socket's path holds 107 bytes; the longest name that we append is "/postgres/.s.PGSQL.5432.lock".
SOCKET_DIRECTORY_MAX_BYTES = 78


@dataclass(frozen=True)
class Home:
    """NOBURN_HOME as an absolute path, and what lies inside."""

    path: Path

    @classmethod
    def at(cls, path: str | Path) -> Home:
        """Returns the home at `path`, made absolute; nothing is created."""
        return cls(Path(path).expanduser().absolute())

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    @property
    def secrets(self) -> Path:
        return self.path / "secrets.json"

    @property
    def sockets(self) -> Path:
        """The directory of the unix sockets: inside the home, or a private one under /tmp for a long path."""
        inside = self.path / "run"
        if len(os.fsencode(inside)) <= SOCKET_DIRECTORY_MAX_BYTES:
            return inside
        digest = hashlib.sha256(os.fsencode(self.path)).hexdigest()[:16]
        # Not the temporary directory of the environment: every command must compute the same path.
        return Path("/tmp") / f"noburn-{os.geteuid()}-{digest}"  # noqa: S108

    def create(self) -> None:
        """Makes the directories, private to this user. Raises RuntimeProblem if somebody else owns them.

        As root they may be passed through (0711), since PostgreSQL then runs as another user; everything
        of value inside is 0700 or 0600.
        """
        mode = 0o711 if os.geteuid() == 0 else 0o700
        for directory in (self.path, self.logs, self.sockets):
            _create_private(directory, mode)


def _create_private(directory: Path, mode: int) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True)
        found = directory.lstat()
    except OSError as problem:
        raise RuntimeProblem(
            f"noburn cannot create {directory} ({problem.strerror}). "
            "Set NOBURN_HOME to a directory that you own."
        ) from problem
    # A directory planted under /tmp by somebody else would hand them our sockets.
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        raise RuntimeProblem(
            f"{directory} does not belong to the user that runs noburn. "
            "Set NOBURN_HOME to a directory that you own, or run as its owner."
        )
    if stat.S_IMODE(found.st_mode) != mode:
        directory.chmod(mode)
