"""The runbooks, typed as they are written, at a whole `manage.py serve` that suffers what they are for."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
import redis

from demo.processes import Stage
from noburn.runtime.embedded import ROOT, server_pid
from noburn.runtime.names import OWNER
from noburn.runtime.servers import Postgres, server

RUNBOOKS = ROOT / "docs" / "runbooks"
PAGES = sorted(path.stem for path in RUNBOOKS.glob("*.md") if path.stem != "README")
FENCE = re.compile(r"^ *```\n(.*?)^ *```", re.DOTALL | re.MULTILINE)
SERVICE_SECONDS = 60.0
START_SECONDS = 300.0
FAST = ("redis-lost", "drift")


def commands(page: str) -> list[str]:
    """The commands of a page, in their order."""
    text = (RUNBOOKS / f"{page}.md").read_text()
    return [line.strip() for block in FENCE.findall(text) for line in block.splitlines() if line.strip()]


class Installation:
    """A noburn with one tenant, as its operator and its client see it."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        made = stage.manage("provision", "--tenant", "acme", "--budget", "customer:*:10:month", "--json")
        self.key = made["api_key"]
        self.open: list[str] = []
        self.counters = redis.Redis(unix_socket_path=str(server("counters", stage.home).socket))  # type: ignore[attr-defined]

    def post(self, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        """One request over HTTP; status 0 when the connection broke."""
        connection = http.client.HTTPConnection("127.0.0.1", self.stage.port, timeout=10)
        headers = {"Authorization": f"Bearer {self.key}", "Idempotency-Key": uuid4().hex}
        with (
            contextlib.closing(connection),
            contextlib.suppress(OSError, http.client.HTTPException, ValueError),
        ):
            connection.request(
                "POST", path, json.dumps(body), {**headers, "Content-Type": "application/json"}
            )
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        return 0, None

    def call(self) -> bool:
        """Places a call, and settles the one before it; whether both were answered."""
        body = {
            "model": "own-tool",
            "max_output_tokens": 1,
            "cost_usd": "0.01",
            "subject": {"customer": "acme"},
        }
        status, answer = self.post("/v1/preflight", body)
        if status != 200 or answer["decision"] != "allow":
            return False
        self.open.append(answer["authorization"])
        if len(self.open) < 2:
            return True
        settle = {"authorization": self.open[0], "usage": {}, "cost_usd": "0.004"}
        if self.post("/v1/settle", settle)[0] != 200:
            return False
        self.open.pop(0)
        return True

    def served(self) -> float:
        """Seconds until calls are decided and recorded."""
        began = time.monotonic()
        while not self.call():
            assert time.monotonic() - began < SERVICE_SECONDS, self.stage.last_words()
            time.sleep(0.05)
        return time.monotonic() - began

    def sql(self, text: str, role: str = OWNER) -> list[tuple[Any, ...]]:
        """Rows of a statement."""
        with psycopg.connect(Postgres(self.stage.home).url(role), autocommit=True) as connection:
            cursor = connection.execute(text)
            return cursor.fetchall() if cursor.description else []

    def type(self, command: str) -> tuple[int, str]:
        """Types a command of a runbook; its status and what it says."""
        if "a233d252-…" in command:
            command = command.replace("a233d252-…", self.stranding_epoch())
        words = shlex.split(command)
        if words[0] == "redis-cli":
            answer = self.counters.execute_command(*words[1:])  # type: ignore[no-untyped-call]
            return 0, str(answer)
        assert words[0] == "manage.py", command
        process = subprocess.Popen(
            [sys.executable, str(ROOT / "manage.py"), *words[1:]],
            cwd=ROOT,
            env=self.stage._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        if words[1:] == ["epoch", "run"]:
            # Once it handles signals itself, it is at work.
            while process.poll() is None and not _handles(process.pid, signal.SIGTERM):
                time.sleep(0.05)
            self.served()
            process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=120)
        return process.returncode, said

    def stranding_epoch(self) -> str:
        """The newest epoch that has something stranded."""
        rows = self.sql(
            """SELECT e.epoch_id FROM epochs e JOIN grants g ON g.epoch_id = e.epoch_id AND g.authority > 0
            WHERE e.state = 'closed' ORDER BY e.closed_at DESC LIMIT 1"""
        )
        return str(rows[0][0])

    def processes(self, *words: str) -> list[int]:
        """Our programs that have all these words in their command line."""
        found = []
        for pid in self.stage.left_over():
            with contextlib.suppress(OSError):
                line = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
                if all(word in line for word in words):
                    found.append(pid)
        return found


def _handles(pid: int, number: signal.Signals) -> bool:
    """Whether a process has a handler of its own for a signal."""
    status = Path(f"/proc/{pid}/status").read_text()
    caught = next(line for line in status.splitlines() if line.startswith("SigCgt:"))
    return bool(int(caught.split()[1], 16) >> (number - 1) & 1)


def kill(*pids: int | None) -> None:
    """Kills without a word."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid or 0, signal.SIGKILL)


@pytest.fixture(scope="module")
def noburn() -> Iterator[Installation]:
    with pytest.MonkeyPatch.context() as patch, Stage() as stage:
        patch.setattr("demo.processes.START_SECONDS", START_SECONDS)
        patch.setattr("demo.processes.COMMAND_SECONDS", START_SECONDS)
        # Other tests do without fsync; a PostgreSQL that is killed would lose what it acknowledged.
        stage._environment["NOBURN_DURABLE"] = "1"
        stage.start_noburn()
        made = Installation(stage)
        made.served()
        yield made


@contextlib.contextmanager
def suffering(noburn: Installation, page: str) -> Iterator[None]:
    """What the page is for, while its commands are typed; mended afterwards where that is not the commands' part."""
    match page:
        case "redis-lost" | "stranded":
            kill(server_pid(noburn.stage.home, "counters"))
        case "redis-does-not-write":
            noburn.counters.config_set("min-replicas-to-write", 1)
            assert (
                noburn.post("/v1/preflight", {"model": "x", "cost_usd": "0.01", "max_output_tokens": 1})[0]
                == 503
            )
            noburn.counters.config_set("min-replicas-to-write", 0)
        case "postgres-away" | "postgres-disk":
            kill(server_pid(noburn.stage.home, "postgres"))
            noburn.served()
        case "workers-gone":
            kill(*noburn.processes("worker"), *noburn.processes("beat"))
            broker = server("broker", noburn.stage.home)
            with redis.Redis(unix_socket_path=str(broker.socket)) as client:  # type: ignore[attr-defined]
                client.flushall()
        case "controller-gone":
            kill(*noburn.processes("epoch", "run"))
        case "partition-missing":
            month = time.strftime("%Y%m", time.gmtime())
            for table in ("hold_resolutions", "ledger_entries"):
                noburn.sql(
                    f"""BEGIN; ALTER TABLE {table} DETACH PARTITION {table}_{month};
                    INSERT INTO {table}_default SELECT * FROM {table}_{month}; DROP TABLE {table}_{month}; COMMIT""",
                    "postgres",
                )
        case "drift":
            noburn.sql("UPDATE counters SET spent = spent + 5")
    yield
    if page == "partition-missing":
        assert noburn.sql("SELECT count(*) FROM ledger_entries_default") == [(0,)]


def try_page(noburn: Installation, page: str) -> None:
    """Suffers, types, and is served again."""
    noburn.served()
    drifting = page == "drift"
    with suffering(noburn, page):
        seconds = noburn.served()
        print(f"{page}: served after {seconds:.1f} s")
        for command in commands(page):
            status, said = noburn.type(command)
            if command.startswith("manage.py verify") and drifting:
                assert (status, '"figure": "spent"' in said) == (1, True), said
                noburn.sql("UPDATE counters SET spent = spent - 5")
                drifting = False
            elif "writeoff" in command:
                # As the page says: not before 17 minutes have passed.
                assert status == 0 or "write off after that" in said or "holds of this epoch" in said, said
            else:
                assert status == 0, f"{page}: {command}: {said}"
    noburn.served()


@pytest.mark.parametrize("page", FAST)
def test_a_runbook_does_what_it_says(noburn: Installation, page: str) -> None:
    try_page(noburn, page)


@pytest.mark.soak
@pytest.mark.parametrize("page", [page for page in PAGES if page not in FAST])
def test_every_runbook_does_what_it_says(noburn: Installation, page: str) -> None:
    try_page(noburn, page)


def test_every_runbook_is_in_the_list() -> None:
    listed = set(re.findall(r"\]\(([a-z-]+)\.md\)", (RUNBOOKS / "README.md").read_text()))
    assert listed == set(PAGES)
