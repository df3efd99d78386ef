"""Celery: every task has a queue and an end, and work survives its worker and its broker."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from fnmatch import fnmatch
from typing import IO, Any
from uuid import uuid4

import pytest
import redis
from django.conf import settings

from noburn.runtime.embedded import ROOT
from noburn.runtime.workers import STATEMENT_SECONDS, WORKERS, limit_of, worker_argv
from tests.support.world import Account, World

WAIT_SECONDS = 240


@pytest.fixture(scope="module")
def app(real_database: None) -> Any:
    """The project's application with all tasks of all apps."""
    from noburn.celery import app

    app.loader.import_default_modules()
    app.finalize()
    return app


@pytest.fixture
def tasks(app: Any) -> dict[str, Any]:
    return {name: task for name, task in app.tasks.items() if not name.startswith(("celery.", "probe."))}


def queue_of(name: str) -> str:
    """The queue that the settings give to a task; none for one that they forget."""
    routes: dict[str, dict[str, str]] = settings.CELERY_TASK_ROUTES
    return next((route["queue"] for glob, route in routes.items() if fnmatch(name, glob)), "")


class TestTasks:
    def test_go_to_a_queue_by_name(self, tasks: dict[str, Any]) -> None:
        assert len(tasks) >= 6
        assert {name for name in tasks if queue_of(name) not in settings.CELERY_TASK_QUEUES} == set()

    def test_are_sent_there(self, app: Any, tasks: dict[str, Any]) -> None:
        for name in tasks:
            assert app.amqp.router.route({}, name)["queue"].name == queue_of(name)

    def test_are_served_by_one_worker_for_each_queue(self) -> None:
        served = sorted(queue for queues in WORKERS.values() for queue in queues)
        assert served == sorted(settings.CELERY_TASK_QUEUES)

    def test_leave_the_money_alone_with_its_metering(self) -> None:
        assert WORKERS["worker-money"] == ("money", "metering")

    def test_end_before_the_broker_gives_them_to_another(self, app: Any, tasks: dict[str, Any]) -> None:
        visibility = settings.CELERY_BROKER_TRANSPORT_OPTIONS["visibility_timeout"]
        assert {n: limit_of(t) for n, t in tasks.items() if not 0 < limit_of(t) < visibility} == {}
        assert 0 < STATEMENT_SECONDS < settings.CELERY_TASK_TIME_LIMIT

    def test_are_acknowledged_when_they_are_done(self, tasks: dict[str, Any]) -> None:
        assert [name for name, task in tasks.items() if not task.acks_late] == []

    def test_expire_when_beat_asks_for_them_again(self, app: Any, tasks: dict[str, Any]) -> None:
        entries = app.conf.beat_schedule
        assert {entry["task"] for entry in entries.values()} <= set(tasks)
        for name, entry in entries.items():
            # Beat counts from its own start: one that is restarted each day would never send a daily task.
            assert 0 < entry["schedule"] <= 10_800, name
            assert 0 < entry["options"]["expires"] <= entry["schedule"] * 2, name

    def test_are_in_the_operators_manual_with_queue_and_limit(self, tasks: dict[str, Any]) -> None:
        manual = (ROOT / "docs" / "operations.md").read_text()
        listed = re.findall(r"^\| `([a-z_.]+)` \| ([a-z]+) \| (\d+) s \|", manual, re.MULTILINE)
        assert sorted(listed) == sorted((n, queue_of(n), str(int(limit_of(t)))) for n, t in tasks.items())


class Celery:
    """A Celery process on this test's servers; its log is read line by line."""

    def __init__(self, *argv: str) -> None:
        self.process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=ROOT,
            start_new_session=True,
            env={
                **os.environ,
                "NOBURN_HOME": str(settings.NOBURN_HOME),
                "DJANGO_SETTINGS_MODULE": "noburn.settings",
                "PYTHONWARNINGS": "ignore::UserWarning:celery.platforms",
            },
        )
        self.log: list[str] = []

    def read_until(self, words: str) -> str:
        """Returns the first further line that holds these words; fails when the process ends before."""
        assert self.process.stdout is not None
        limit = threading.Timer(WAIT_SECONDS, self.process.kill)
        limit.start()
        try:
            return self._read(words, self.process.stdout)
        finally:
            limit.cancel()

    def _read(self, words: str, stdout: IO[str]) -> str:
        for line in stdout:
            self.log.append(line)
            if words in line:
                return line
        raise AssertionError(f"ended without {words!r}:\n" + "".join(self.log))

    def kill(self) -> None:
        assert self.process.stdout is not None
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


Start = Callable[..., Celery]


@pytest.fixture
def start(real_database: None) -> Iterator[Start]:
    """Starts Celery processes, and kills those that are left."""
    started: list[Celery] = []

    def starting(*argv: str) -> Celery:
        started.append(Celery(*argv))
        return started[-1]

    yield starting
    for one in started:
        one.kill()


def worker(name: str, *, app: str = "noburn.celery") -> list[str]:
    """A worker as `manage.py serve` starts it, but for what it says."""
    argv = worker_argv(sys.executable, name)
    argv[argv.index("WARNING")] = "INFO"
    argv[argv.index("noburn.celery")] = app
    return argv


def probe(name: str) -> list[str]:
    return worker(name, app="tests.support.celery_probe")


@pytest.fixture
def broker(servers: dict[str, str]) -> Iterator[redis.Redis]:
    from tests.support.celery_probe import broker_client

    with broker_client() as client:
        client.flushall()
        yield client
        client.flushall()


def pid_from(broker: redis.Redis, key: str) -> int:
    """Waits for a process to say that it is there."""
    found: Any = broker.blpop([key], WAIT_SECONDS)
    assert found is not None, key
    return int(found[1])


@pytest.mark.real_db
class TestWorkers:
    def test_run_a_killed_workers_task_again_on_another(
        self, start: Start, broker: redis.Redis, app: Any
    ) -> None:
        token = uuid4().hex
        first = start(*probe("worker-alerts"))
        first.read_until("ready.")
        app.send_task("probe.linger", [token], queue="default")
        assert pid_from(broker, f"probe:{token}:started") == first.process.pid
        first.process.send_signal(signal.SIGKILL)
        first.process.wait()
        second = start(*probe("worker-alerts"))
        assert pid_from(broker, f"probe:{token}:started") == second.process.pid
        broker.rpush(f"probe:{token}:end", "now")
        assert pid_from(broker, f"probe:{token}:ended") == second.process.pid
        second.read_until("succeeded")
        second.process.terminate()
        assert second.process.wait(WAIT_SECONDS) == 0
        assert broker.hlen("unacked") == broker.llen("default") == 0

    def test_end_with_a_task_that_does_not(self, start: Start, broker: redis.Redis, app: Any) -> None:
        token = uuid4().hex
        hung = start(*probe("worker-alerts"))
        hung.read_until("ready.")
        app.send_task("probe.overrun", [token], queue="default")
        assert pid_from(broker, f"probe:{token}:started") == hung.process.pid
        hung.read_until("probe.overrun is over its time limit")
        assert hung.process.wait(WAIT_SECONDS) == -signal.SIGKILL
        # Not acknowledged: the next worker gets it.
        assert broker.hlen("unacked") == 1

    def test_take_money_while_every_webhook_hangs(self, start: Start, broker: redis.Redis, app: Any) -> None:
        webhooks, money = start(*probe("worker-alerts")), start(*worker("worker-money"))
        webhooks.read_until("ready.")
        money.read_until("ready.")
        tokens = [uuid4().hex for _ in range(8)]
        for token in tokens:
            app.send_task("probe.linger", [token], queue="alerts")
        busy = [pid_from(broker, f"probe:{token}:started") for token in tokens[:4]]
        assert set(busy) == {webhooks.process.pid}
        app.send_task("budgets.clean_up", queue="money")
        money.read_until("budgets.clean_up")
        assert "succeeded" in money.read_until("succeeded")


@pytest.mark.real_db
class TestBroker:
    def test_loses_nothing_when_it_loses_everything(
        self, start: Start, broker: redis.Redis, world: World, alice: Account
    ) -> None:
        alice.budget("acme", "$1.00")
        placed = alice.place("$0.40")
        alice.expire(placed)
        beat = start(
            *(sys.executable, "-m", "celery", "--quiet", "-A", "noburn.celery"),
            *("beat", "--loglevel", "INFO", "--pidfile="),
        )
        beat.read_until("Sending due task budgets.sweep")
        broker.flushall()
        # Nobody could have swept before: there was no worker.
        assert alice.ledger() == []
        money = start(*worker("worker-money"))
        while "presumed=0" in money.read_until("sweep: Sweep("):
            pass
        assert [entry["kind"] for entry in alice.ledger()] == ["presumed"]
