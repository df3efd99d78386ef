"""A real worker, told by hints, freezes, pushes and handles events."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
import redis
from django.conf import settings

from billing.models import StripeEvent
from billing.services import hints
from noburn.kit.jobs import hint
from tests.billing.push.processes import ROOT, environment
from tests.billing.push.till import HOUR, Till, forget_others

if TYPE_CHECKING:
    from tests.billing.book import Book
    from tests.doubles.stripe import StripeDouble

pytestmark = pytest.mark.real_db

TURNS_MAX = 240


@pytest.fixture
def worker(stripe_double: StripeDouble) -> Iterator[subprocess.Popen[bytes]]:
    """A Celery worker on the queue of billing."""
    argv = [sys.executable, "-m", "celery", "--quiet", "-A", "noburn.celery", "worker", "--queues", "billing"]
    argv += ["--pool", "threads", "--concurrency", "2", "--without-gossip", "--without-mingle"]
    process = subprocess.Popen(
        [*argv, "--without-heartbeat", "--loglevel", "WARNING"],
        cwd=ROOT,
        env=environment(PYTHONWARNINGS="ignore"),
        stdout=subprocess.DEVNULL,
    )
    yield process
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


class TestWorker:
    def test_brings_use_to_stripe_and_takes_its_events_in(
        self, book: Book, stripe_double: StripeDouble, worker: subprocess.Popen[bytes]
    ) -> None:
        forget_others()
        now = datetime.now(UTC)
        till = Till(book, stripe_double)
        till.now = now.replace(minute=0, second=0, microsecond=0) - 6 * HOUR
        till.open()
        till.link()
        till.use(123_456, till.now + 2 * HOUR)
        book.roll()
        stripe_double.move(now)
        ask_until(hints.PUSH, lambda: "delivered" in till.states())
        assert till.counted() == 123_456
        till.now = now
        for sent in stripe_double.deliveries():
            till.receive(sent)
        events = StripeEvent.objects.filter(tenant_id=till.tenant_id)
        assert events.filter(state="pending").exists()
        ask_until(hints.EVENTS, lambda: not events.filter(state="pending").exists())
        assert not events.filter(state="failed").exists()
        assert worker.poll() is None
        forget_others()


def ask_until(task: str, done: Callable[[], bool]) -> None:
    """Hints as beat does, until it is done. A worker takes some time to start, the more so on a busy machine."""
    with redis.Redis(unix_socket_path=urlsplit(settings.BROKER_URL).path) as broker:
        for _ in range(TURNS_MAX):
            hint(task, queue=hints.QUEUE, expires_seconds=hints.HINT_SECONDS)
            if done():
                return
            # Nobody ever pushes to it: the turn ends after a second.
            broker.blpop(["nobody:pushes:here"], 1)
    raise AssertionError(f"{task} never did it")
