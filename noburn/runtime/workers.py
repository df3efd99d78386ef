"""Celery's workers: which queues each serves, and what bounds a task.

The pool is threads, since tasks wait for databases and for other people's servers. Threads cannot be interrupted, so
Celery's own limits do nothing there. Instead each wait within a task is bounded (statements here, connections and
requests where they are made); and a task that is at work beyond its `time_limit` all the same takes its worker with
it: the process is killed, its supervisor starts another, and what it had not acknowledged runs again.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import count
from types import MappingProxyType
from typing import Any, Final

from celery import Task

from noburn.kit.tenancy import across_tenants

log = logging.getLogger(__name__)

WORKERS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {"worker-money": ("money", "metering"), "worker-alerts": ("alerts", "default", "billing")}
)
"""The queues of each worker that `manage.py serve` runs: money waits for no webhook."""

CONCURRENCY: Final = 4
"""Threads of a worker."""

STATEMENT_SECONDS: Final = 60
"""The longest statement of Django's connections in a worker."""


class Watchdog:
    """Ends the process when something in it runs too long. Times are monotonic seconds."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._running: dict[int, tuple[float, str]] = {}
        self._numbers = count()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begins to watch; until then nothing is ended, so that tasks can be called anywhere."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
            self._thread.start()

    @contextmanager
    def watching(self, name: str, seconds: float) -> Iterator[None]:
        """Watches over what runs inside."""
        number = next(self._numbers)
        with self._changed:
            self._running[number] = (time.monotonic() + seconds, name)
            self._changed.notify()
        try:
            yield
        finally:
            with self._changed:
                del self._running[number]

    def _watch(self) -> None:
        with self._changed:
            while True:
                ends_at, name = min(self._running.values(), default=(None, ""))
                left = None if ends_at is None else ends_at - time.monotonic()
                if left is not None and left <= 0:
                    self._end(name)
                self._changed.wait(left)

    def _end(self, name: str) -> None:
        log.critical("%s is over its time limit: this worker ends, and its tasks run again elsewhere", name)
        # Not an exit: that would wait for the very thread that does not come back.
        os.kill(os.getpid(), signal.SIGKILL)


watchdog = Watchdog()


class BoundedTask(Task):  # type: ignore[type-arg]
    """A task that ends in time, or ends its worker. It spans tenants, unless it says by `for_tenant` whose it is."""

    abstract = True

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        with watchdog.watching(str(self.name), limit_of(self)), across_tenants():
            return super().__call__(*args, **kwargs)


def limit_of(task: Task[Any, Any]) -> float:
    """How many seconds a task may take: its own `time_limit`, or the setting for all."""
    return float(task.time_limit or task.app.conf.task_time_limit)


def bound_statements() -> None:
    """Gives Django's connections of this process, all opened later, the limit for one statement."""
    from django.db import connections

    options = connections.settings["default"]["OPTIONS"]
    limit = f"-c statement_timeout={STATEMENT_SECONDS * 1000}"
    options["options"] = f"{options['options']} {limit}" if options.get("options") else limit


def worker_argv(python: str, name: str) -> list[str]:
    """The command line of one of WORKERS."""
    argv = [python, "-m", "celery", "--quiet", "-A", "noburn.celery", "worker", "--hostname", f"{name}@%h"]
    argv += ["--queues", ",".join(WORKERS[name]), "--pool", "threads", "--concurrency", str(CONCURRENCY)]
    return [*argv, "--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel", "WARNING"]
