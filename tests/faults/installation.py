"""A whole noburn whose every process can be killed: its own PostgreSQL, two Valkeys, broker, gateways and controllers.

Servers are started here and not by their keepers, which would start them again. Gateways reach the servers through
proxies, operators and controllers directly, so that either side can be cut off from the other.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import quote

import psycopg
import redis

from noburn.runtime.embedded import ROOT
from noburn.runtime.home import Home
from noburn.runtime.names import ACROSS, APP, GATEWAY, OWNER
from noburn.runtime.servers import Postgres, Server, Valkey, launch_argv, plain_environment
from tests.faults.proxy import Proxy
from tests.faults.syscalls import SyscallFaults

START_SECONDS = 90.0
POLL_SECONDS = 0.02
GATEWAYS = 3
CONTROLLERS = 2
MONTH_SECONDS = 5
PG_SOCKET = ".s.PGSQL.5432"


def wait_for(what: str, ready: Any, *, seconds: float = START_SECONDS) -> None:
    """Returns when `ready()` is true. Raises AssertionError after so long."""
    deadline = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < deadline, f"{what}: not within {seconds:.0f} s"
        time.sleep(POLL_SECONDS)


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def descendants(pid: int) -> list[int]:
    """A process and all that it started, directly or not."""
    found, parents = [pid], {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError):
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
    for one in found:
        found += [child for child, parent in parents.items() if parent == one]
    return found


@dataclass(frozen=True)
class NamedValkey(Valkey):
    """One of two Valkeys for the counters, and the broker; on a port as well, for replication."""

    name: str = "valkey"  # type: ignore[misc]
    port: int = 0

    def argv(self) -> list[str]:
        argv = super().argv()
        argv[argv.index("--port") + 1] = str(self.port)
        return [*argv, "--bind", "127.0.0.1", "--repl-diskless-sync-delay", "0", "--repl-timeout", "5"]

    def environment(self) -> dict[str, str]:
        return {}


@dataclass
class Running:
    """One server program."""

    server: Server
    process: subprocess.Popen[bytes] | None = None
    syscalls: SyscallFaults | None = None

    def start(self) -> None:
        """Starts it and returns when it serves."""
        self.server.prepare()
        argv = launch_argv(
            self.server.argv(),
            lock=self.server.directory / "server.lock",
            lock_wait_seconds=30,
            user=self.server.user,
            reach=self.server.reach,
        )
        with self.server.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.syscalls.wrap(argv) if self.syscalls is not None else argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd="/",
                env=plain_environment(),
                start_new_session=True,
            )

        def ready() -> bool:
            assert self.process is not None
            if self.process.poll() is not None:
                words = self.server.log.read_text(errors="replace")[-2000:]
                raise AssertionError(f"{self.server.name} ended with {self.process.returncode}: {words}")
            return self.server.answers()

        wait_for(self.server.name, ready)
        self.server.finish()

    def signal_all(self, number: signal.Signals) -> None:
        """Sends a signal to the program and to all its processes."""
        assert self.process is not None
        for pid in descendants(self.process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def kill(self) -> None:
        """Ends it without a word, its processes with it."""
        if self.process is None:
            return
        # Frozen first: PostgreSQL starts others again as fast as they die.
        self.signal_all(signal.SIGSTOP)
        self.signal_all(signal.SIGKILL)
        self.process.wait()
        self.process = None

    def stop(self) -> None:
        """Asks it to end, and waits."""
        if self.process is None:
            return
        self.process.send_signal(self.server.stop_signals[0])
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.kill()
        self.process = None


@dataclass
class Role:
    """One forked process, and the order that made it."""

    order: dict[str, Any]
    pid: int
    ended: threading.Event = field(default_factory=threading.Event)
    status: int | None = None

    def kill(self) -> None:
        """Ends it without a word."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        assert self.ended.wait(10)


class Installation:
    """Everything that runs. Use as a context; nothing is left afterwards."""

    def __init__(
        self, *, tenants: list[tuple[str, list[str]]], celery: bool = True, syscall_faults: bool = False
    ) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="nbf-", dir="/tmp"))
        self.home = Home.at(self.path)
        self._celery_wanted, self._tenants_wanted = celery, tenants
        traps = (
            {name: SyscallFaults(self.path / f"{name}.trap") for name in ("pg", "a", "b")}
            if syscall_faults
            else {}
        )
        self.postgres = Running(Postgres(self.home), syscalls=traps.get("pg"))
        self.valkeys = {
            name: Running(
                NamedValkey(self.home, name=f"counters-{name}", port=free_port()), syscalls=traps.get(name)
            )
            for name in ("a", "b")
        }
        self.broker = Running(NamedValkey(self.home, name="broker"))
        self.master = "a"
        self.gateways: list[Role] = []
        self.controllers: list[Role] = []
        self.celery: dict[str, subprocess.Popen[bytes]] = {}
        self.tenants: list[dict[str, Any]] = []
        self._started: queue.Queue[int] = queue.Queue()
        self._roles: dict[int, Role] = {}
        self._early: dict[int, int] = {}
        self._lock = threading.Lock()

    # --- start and end ---

    def __enter__(self) -> Installation:
        try:
            self._start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        self.close()

    def _start(self) -> None:
        self.home.create()
        (self.path / "proxies").mkdir(mode=0o755)
        for running in (self.postgres, self.valkeys["a"], self.broker):
            running.server.directory.mkdir(mode=0o711, exist_ok=True)
            running.start()
        self.valkeys["b"].server.directory.mkdir(mode=0o711, exist_ok=True)
        proxies = self.path / "proxies"
        socket_of = self._postgres.socket_directory / PG_SOCKET
        self.pg_proxy = Proxy(proxies / PG_SOCKET, socket_of)
        self.redis_proxy = Proxy(proxies / "redis-gateways", self._valkey("a").socket)
        self.control_proxy = Proxy(proxies / "redis-control", self._valkey("a").socket)
        self.replication = Proxy(free_port(), self._valkey("a").port)
        self.environment = {
            **os.environ,
            "NOBURN_HOME": str(self.path),
            "DATABASE_URL": self._postgres.url(APP),
            "DATABASE_OWNER_URL": self._postgres.url(OWNER),
            "DATABASE_GATEWAY_URL": self._postgres.url(GATEWAY),
            "REDIS_URL": f"unix://{quote(str(self.control_proxy.listen))}",
            "BROKER_URL": f"redis+socket://{self.broker.server.socket}?virtual_host=0",  # type: ignore[attr-defined]
            "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]),
            "PYTHONWARNINGS": "ignore::UserWarning:celery.platforms",
            "PYTHONUNBUFFERED": "1",
        }
        for name in (
            "DJANGO_SETTINGS_MODULE",
            "NOBURN_DURABLE",
            "NOBURN_SIGNING_KEYS",
            "NOBURN_PEPPER",
            "NOBURN_PEPPER_PREVIOUS",
            "NOBURN_ID_KEY",
            "SECRET_KEY",
        ):
            self.environment.pop(name, None)
        # No prices: clients name the costs of their tools, and gateways start in a tenth of the time.
        self.manage("migrate", "--verbosity", "0")
        made = json.loads(
            self.manage("shell", "--no-imports", "-c", _MAKE.format(tenants=self._tenants_wanted))
        )
        self.tenants = made["tenants"]
        self.config = {**made["secrets"], "base_url": "http://127.0.0.1:8420"}
        self._zygote = subprocess.Popen(
            launch_argv([sys.executable, "-m", "tests.faults.zygote"], death_signal=signal.SIGTERM),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=self.environment,
            start_new_session=True,
        )
        assert self._zygote.stdout is not None
        assert json.loads(self._zygote.stdout.readline()) == {"ready": True}
        self._hearing = threading.Thread(target=self._hear, name="zygote", daemon=True)
        self._hearing.start()
        self.controllers = [self.controller() for _ in range(CONTROLLERS)]
        self.operator_role = self._fork(
            {"role": "operator", "socket": str(self.path / "operator")}, control=True
        )
        self.gateways = [self.gateway(slot) for slot in range(GATEWAYS)]
        # Clients come through these, so that answers can be lost.
        self.fronts = [
            Proxy(proxies / f"front-{slot}", self.path / f"gateway-{slot}") for slot in range(GATEWAYS)
        ]
        if self._celery_wanted:
            for name in ("worker", "beat"):
                self.start_celery(name)

    def close(self) -> None:
        """Ends everything that was started."""
        for process in self.celery.values():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        if hasattr(self, "_zygote"):
            assert self._zygote.stdin is not None
            self._zygote.stdin.close()
            self._zygote.wait()
            self._hearing.join(10)
            assert self._zygote.stdout is not None
            self._zygote.stdout.close()
        named = [
            getattr(self, name, None) for name in ("pg_proxy", "redis_proxy", "control_proxy", "replication")
        ]
        for proxy in [*named, *getattr(self, "fronts", ())]:
            if proxy is not None:
                proxy.close()
        for running in (*self.valkeys.values(), self.broker, self.postgres):
            running.kill()
            if running.syscalls is not None:
                running.syscalls.close()
        shutil.rmtree(self.path, ignore_errors=True)

    # --- servers ---

    @property
    def _postgres(self) -> Postgres:
        assert isinstance(self.postgres.server, Postgres)
        return self.postgres.server

    def _valkey(self, name: str) -> NamedValkey:
        found = self.valkeys[name].server
        assert isinstance(found, NamedValkey)
        return found

    @property
    def counters(self) -> Running:
        """The Valkey that is master now."""
        return self.valkeys[self.master]

    def redis(self, name: str | None = None) -> redis.Redis:
        """A client of one Valkey, the master unless it is named."""
        return redis.Redis(
            unix_socket_path=str(self._valkey(name or self.master).socket), decode_responses=True
        )

    def lead_to(self, name: str, *proxies: Proxy) -> None:
        """Lets proxies lead to a Valkey, breaking what goes elsewhere."""
        for proxy in proxies:
            proxy.upstream = self._valkey(name).socket
            proxy.reset()

    def replicate(self) -> str:
        """Makes the other Valkey a replica that is in step, through the pausable proxy; returns its name."""
        other = "b" if self.master == "a" else "a"
        running = self.valkeys[other]
        running.kill()
        shutil.rmtree(running.server.directory / "appendonlydir", ignore_errors=True)
        running.start()
        self.replication.upstream = self._valkey(self.master).port
        self.replication.reset()
        with self.redis(other) as client:
            assert isinstance(self.replication.listen, int)
            client.replicaof("127.0.0.1", str(self.replication.listen))
            wait_for(
                "the replica", lambda: client.info("replication")["master_link_status"] == "up", seconds=20
            )
        return other

    def sql(self, text: str, *params: Any, owner: bool = False) -> list[tuple[Any, ...]]:
        """Rows of one statement, directly at the server."""
        url = (
            self._postgres.url("postgres")
            if owner
            else f"{self._postgres.url(APP)}&options=-crole%3D{ACROSS}"
        )
        with psycopg.connect(url, autocommit=True, connect_timeout=5) as connection:
            cursor = connection.execute(text, params)
            return cursor.fetchall() if cursor.description else []

    # --- our own programs ---

    def manage(self, *arguments: str, seconds: float = 120.0) -> str:
        """Runs `manage.py …` and returns what it prints. Raises AssertionError with its words when it fails."""
        done = subprocess.run(
            [sys.executable, str(ROOT / "manage.py"), *arguments],
            cwd=ROOT,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=seconds,
        )
        assert done.returncode == 0, f"manage.py {arguments}: {done.stdout}{done.stderr}"
        return done.stdout

    def gateway(self, slot: int, **extra: Any) -> Role:
        """A new gateway in a slot; `extra` is what a fault puts around it."""
        order = {
            "role": "gateway",
            "socket": str(self.path / f"gateway-{slot}"),
            "config": self.config,
            "month_seconds": MONTH_SECONDS,
            "database_url": f"postgresql://{GATEWAY}@/noburn?host={quote(str(self.path / 'proxies'), safe='')}",
            "redis_url": f"unix://{quote(str(self.redis_proxy.listen))}",
            **extra,
        }
        with contextlib.suppress(FileNotFoundError):
            os.unlink(order["socket"])
        return self._fork(order)

    def controller(self, **extra: Any) -> Role:
        """A new recovery controller."""
        return self._fork({"role": "controller", **extra}, control=True)

    def _fork(self, order: dict[str, Any], *, control: bool = False) -> Role:
        if control:
            urls = {
                "database_url": self.environment["DATABASE_URL"],
                "redis_url": self.environment["REDIS_URL"],
            }
            order = {**urls, **order}
        order = {"log": str(self.path / "logs" / f"{order['role']}.log"), **order}
        assert self._zygote.stdin is not None
        with self._lock:
            self._zygote.stdin.write(json.dumps(order) + "\n")
            self._zygote.stdin.flush()
            pid = self._started.get(timeout=30)
            role = Role(order, pid)
            self._roles[pid] = role
            if pid in self._early:
                self._bury(role, self._early.pop(pid))
        return role

    def _hear(self) -> None:
        assert self._zygote.stdout is not None
        for line in self._zygote.stdout:
            word = json.loads(line)
            if "pid" in word:
                self._started.put(word["pid"])
            elif (role := self._roles.pop(word["ended"], None)) is not None:
                self._bury(role, word["status"])
            else:
                self._early[word["ended"]] = word["status"]

    @staticmethod
    def _bury(role: Role, status: int) -> None:
        role.status = status
        role.ended.set()

    def ask(self, do: str, **fields: Any) -> Any:
        """One command to the operator. Returns {"failed": why} where it could not be done."""
        deadline = time.monotonic() + 30
        while True:
            try:
                with socket.socket(socket.AF_UNIX) as connection:
                    connection.settimeout(70)
                    connection.connect(str(self.path / "operator"))
                    connection.sendall(json.dumps({"id": 0, "do": do, **fields}).encode() + b"\n")
                    with connection.makefile() as file:
                        return json.loads(file.readline())["answer"]
            except (OSError, ValueError):
                assert time.monotonic() < deadline, "no operator answers"
                time.sleep(POLL_SECONDS)

    def start_celery(self, name: str) -> None:
        """Starts the real worker of all queues, or the real beat."""
        argv = [sys.executable, "-m", "celery", "--quiet", "-A", "noburn.celery"]
        if name == "beat":
            argv += ["beat", "--pidfile=", "--loglevel", "WARNING"]
        else:
            argv += [
                "worker",
                "--hostname",
                f"{name}@%h",
                "--queues",
                "money,metering,alerts,default,billing",
                "--pool",
                "threads",
            ]
            argv += ["--concurrency", "4", "--without-gossip", "--without-mingle", "--loglevel", "WARNING"]
        with (self.path / "logs" / f"{name}.log").open("ab") as log:
            self.celery[name] = subprocess.Popen(
                launch_argv(argv, death_signal=signal.SIGKILL),
                cwd=ROOT,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def kill_celery(self, name: str) -> None:
        """Ends one of them without a word."""
        process = self.celery.pop(name)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


# One process for all of it: to start Django takes longer than anything that it does here.
_MAKE = """
import base64, io, json
from django.conf import settings
from django.core.management import call_command

def provisioned(slug, budgets):
    said = io.StringIO()
    flags = [part for budget in budgets for part in ("--budget", budget)]
    call_command("provision", "--tenant", slug, *flags, "--json", stdout=said)
    return json.loads(said.getvalue())

keys = {{kid: base64.b64encode(key).decode() for kid, key in settings.NOBURN_SIGNING_KEYS.items()}}
secrets = {{"pepper": base64.b64encode(settings.NOBURN_PEPPER).decode(), "signing_keys": keys}}
secrets["signing_kid"] = settings.NOBURN_SIGNING_KID
print(json.dumps({{"secrets": secrets, "tenants": [provisioned(s, b) for s, b in {tenants!r}]}}))
"""
