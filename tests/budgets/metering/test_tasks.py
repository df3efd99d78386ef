"""The tasks that roll up and forget, as beat and workers find them."""

from __future__ import annotations

import io
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest
from django.core.management import CommandError, call_command

from budgets import tasks
from budgets.services import metering
from noburn.celery import app
from tests.budgets.metering.ledger import RandomLedger, counted, resolve, rollups

pytestmark = pytest.mark.real_db


class TestTasks:
    @pytest.mark.parametrize("name", ["budgets.metering.roll", "budgets.metering.prune"])
    def test_are_scheduled_and_wait_in_their_own_queue(self, name: str) -> None:
        assert tasks.BEAT[name]["task"] == name
        assert app.amqp.router.route({}, name)["queue"].name == "metering"

    def test_roll_up_and_forget(
        self, owner: psycopg.Connection[Any], tenant: Callable[[str], UUID], settings: Any
    ) -> None:
        tenant_id = tenant("alice")
        ledger = RandomLedger([tenant_id], seed=2, now=datetime.now(UTC))
        items, _ = ledger.batch(200)
        resolve(owner, items)
        tasks.roll_usage()
        assert rollups(owner, [tenant_id]) == counted(owner, ledger)
        settings.USAGE_HOURS_DAYS = 60
        tasks.prune_usage()
        assert metering.status().hours_from >= datetime.now(UTC) - timedelta(days=61)
        assert rollups(owner, [tenant_id]) == counted(owner, ledger)


class TestCommand:
    def test_tells_how_far_the_rollups_are(self) -> None:
        metering.roll(now=datetime.now(UTC))
        out = io.StringIO()
        call_command("usage", "status", stdout=out)
        assert "s behind; 0 entries wait" in out.getvalue()

    def test_knows_only_tenants_that_there_are(self) -> None:
        with pytest.raises(CommandError, match="there is no tenant 'nobody'"):
            call_command("usage", "verify", "--tenant", "nobody")
