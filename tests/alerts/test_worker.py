"""Real workers take hints from the broker; what one that was killed had under way, another delivers."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pytest_django.fixtures import Settings

from alerts.models import Attempt, Delivery
from alerts.services import hints
from noburn.kit import ids
from tests.alerts.desk import Desk
from tests.doubles.smtp import MailServer
from tests.doubles.webhook import WebhookReceiver
from tests.support import processes

pytestmark = pytest.mark.real_db

ROOT = Path(__file__).resolve().parents[2]


class Worker:
    """A Celery worker on the queue of alerts, a process of its own."""

    def __init__(self, **environment: str) -> None:
        argv = [
            sys.executable,
            "-m",
            "celery",
            "--quiet",
            "-A",
            "noburn.celery",
            "worker",
            "--queues",
            "alerts",
        ]
        argv += ["--pool", "threads", "--concurrency", "2", "--without-gossip", "--without-mingle"]
        self._process = subprocess.Popen(
            [*argv, "--without-heartbeat", "--loglevel", "WARNING"],
            cwd=ROOT,
            env=processes.environment(
                NOBURN_ALLOW_PRIVATE_WEBHOOKS="1", PYTHONWARNINGS="ignore", **environment
            ),
            stdout=subprocess.DEVNULL,
        )

    def kill(self) -> None:
        """Ends it by a SIGKILL."""
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def end(self) -> None:
        """Ends it by itself, or not."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self.kill()


@pytest.fixture
def workers() -> Iterator[list[Worker]]:
    running: list[Worker] = []
    yield running
    for worker in running:
        worker.end()


class TestWorker:
    def test_delivers_after_a_hint(
        self,
        desk: Desk,
        receiver: WebhookReceiver,
        mail: MailServer,
        workers: list[Worker],
        settings: Settings,
    ) -> None:
        workers.append(Worker(EMAIL_URL=f"smtp://127.0.0.1:{mail.port}"))
        made = desk.webhook(receiver.url)
        desk.destination("email", "ops@example.com")
        # Hints live for seconds, and a worker takes some to start: as beat does, ask until somebody answers.
        desk.alert()
        ask_until_arrived(receiver, 1)
        (got,) = receiver.wait_for(1)
        assert got.verify(made.secret)["type"] == "alert.threshold"
        mail.wait_for(1)
        assert mail.recipients == ["ops@example.com"]

    def test_that_is_killed_in_the_middle_leaves_its_delivery_to_another(
        self, desk: Desk, receiver: WebhookReceiver, workers: list[Worker]
    ) -> None:
        made = desk.webhook(receiver.url)
        receiver.hold()
        first = Worker()
        workers.append(first)
        desk.alert()
        ask_until_arrived(receiver, 1)
        first.kill()
        receiver.release.set()
        delivery = desk.only()
        assert delivery.state == "pending"
        assert delivery.claim is not None
        # The lease ends: a minute is let pass in the row, not on the clock.
        Delivery.objects.filter(pk=delivery.pk).update(next_attempt_at=desk.now)
        workers.append(Worker())
        ask_until_arrived(receiver, 2)
        before, after = receiver.wait_for(2)
        assert before.id == after.id == ids.encode(ids.DELIVERY, delivery.pk)
        assert before.body == after.body
        assert after.verify(made.secret)
        desk_settles(desk)
        died, arrived = Attempt.objects.filter(delivery=delivery).order_by("number")
        assert died.ended_at is None
        assert arrived.ok


def ask_until_arrived(receiver: WebhookReceiver, count: int) -> None:
    """Hints as beat does, until so many requests have come."""
    for _ in range(40):
        hints.deliveries_wait()
        if receiver.came(count, seconds=1.0):
            return
    raise AssertionError(f"{count} requests never came: {receiver.received}")


def desk_settles(desk: Desk) -> None:
    """Returns when the worker has written what became of the delivery, a moment after the receiver answered."""
    for _ in range(100_000):
        if desk.only().state == "delivered":
            return
    raise AssertionError(desk.only().state)
