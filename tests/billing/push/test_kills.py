"""A worker is killed at every step of set-up, links, freezing, pushing and handling; the next one goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from django.conf import settings

from billing.models import StripeAccount
from noburn.runtime.secrets import Secrets
from tests.billing.push.till import HOUR, START

if TYPE_CHECKING:
    from tests.billing.push.till import Till

pytestmark = pytest.mark.real_db

ROOT = Path(__file__).resolve().parents[3]
NOON = START + 12 * HOUR


def environment(**more: str) -> dict[str, str]:
    """What a process needs to be a worker of this test's noburn."""
    secrets = Secrets(
        settings.SECRET_KEY,
        settings.NOBURN_PEPPER,
        settings.NOBURN_SIGNING_KEYS,
        settings.NOBURN_SIGNING_KID,
        tuple(settings.NOBURN_ENCRYPTION_KEYS),
    )
    return {
        **os.environ,
        **secrets.environment(),
        "DJANGO_SETTINGS_MODULE": "noburn.settings",
        "NOBURN_HOME": str(settings.NOBURN_HOME),
        "DATABASE_URL": settings.DATABASE_URL,
        "DATABASE_OWNER_URL": settings.DATABASE_OWNER_URL,
        "DATABASE_GATEWAY_URL": settings.DATABASE_GATEWAY_URL,
        "REDIS_URL": settings.REDIS_URL,
        "BROKER_URL": settings.BROKER_URL,
        "STRIPE_API_BASE": settings.STRIPE_API_BASE,
        "LOG_LEVEL": "ERROR",
        **more,
    }


def dies(till: Till, work: str, step: str, times: int = 1) -> None:
    """A worker does some work and dies at a step."""
    StripeAccount.objects.filter(tenant_id=till.tenant_id).update(bucket_tokens=1_000)
    argv = [sys.executable, "-m", "tests.billing.push.victim", work, step, str(times), till.now.isoformat()]
    done = subprocess.run(argv, cwd=ROOT, env=environment(), check=False, capture_output=True, timeout=120)
    assert done.returncode == -signal.SIGKILL, (step, done.returncode, done.stderr[-2_000:])


class TestAWorkerThatIsKilled:
    def test_in_set_up_leaves_one_of_each(self, till: Till) -> None:
        for step in ("meter made", "product made", "price made"):
            till.change(secret_key=till.key)
            dies(till, "set_up", step)
            till.later(minutes=6)
        till.set_up()
        assert till.account().state == "ready"
        for kind in ("meter", "product", "price"):
            assert len(till.double.objects(kind, key=till.key)) == 1, kind

    def test_in_linking_leaves_one_customer_and_one_subscription(self, till: Till) -> None:
        for step in ("customer made", "subscription made"):
            till.link(made=False)
            dies(till, "set_up", step)
            till.later(minutes=6)
        till.set_up()
        assert till.link_of().state == "linked"
        for kind in ("customer", "subscription"):
            assert len(till.double.objects(kind, key=till.key)) == 1, kind

    @pytest.mark.parametrize(("work", "step"), [("freeze", "frozen")])
    def test_in_freezing_leaves_nothing_half_written(self, till: Till, work: str, step: str) -> None:
        till.link()
        till.use(500, NOON)
        till.to(NOON + 2 * HOUR)
        till.book.roll()
        dies(till, work, step)
        assert till.rows() == []
        assert till.link_of().frozen_until is None
        till.work()
        assert till.values() == [500]
        assert till.counted() == 500

    def test_at_each_step_of_pushing_has_each_measurement_counted_once(self, till: Till) -> None:
        names = ("acme", "globex", "initech")
        for number, name in enumerate(names):
            till.link(name)
            till.use(1_000 + number, NOON, name)
        till.to(NOON + 2 * HOUR)
        till.freeze()
        for step in ("marked", "answered", "written"):
            dies(till, "push", step)
            till.later(minutes=2)
        till.push()
        for number, name in enumerate(names):
            assert till.states(name) == ["delivered"]
            assert till.counted(name) == 1_000 + number

    def test_in_handling_leaves_the_event_to_the_next(self, till: Till) -> None:
        till.link()
        sent = till.double.deliveries()
        assert sent
        for each in sent:
            till.receive(each)
        dies(till, "events", "handler done")
        till.later(minutes=6)
        till.events()
        assert till.link_of().state == "linked"
