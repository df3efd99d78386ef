"""Costs that a client told, beyond all reason: they stop nobody's sums."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import psycopg
import pytest

from budgets.services import metering
from noburn.kit.money import LIMIT_NANO_MAX, to_usd
from tests.budgets.metering.ledger import RandomLedger, counted, resolve, rollups

pytestmark = pytest.mark.real_db

ENTRIES = 2_100
"""So many of the largest cost are more than a column holds, twice over: in one step's sum, and when steps add up."""
BIGINT_MAX = 2**63 - 1


class TestAbsurdCosts:
    def test_are_held_at_the_most_and_keep_nobody_waiting(
        self, owner: psycopg.Connection[Any], tenant: Callable[[str], UUID]
    ) -> None:
        from tenants.models import Tenant
        from tests.tenants.cast import api_of

        now = datetime.now(UTC)
        charlie, bob = tenant("charlie"), RandomLedger([tenant("bob")], seed=5, now=now)
        for _ in range(2):
            owner.execute(
                """INSERT INTO ledger_entries (hold_id, placed_month, revision, tenant_id, kind, placed_at, project,
                    cost_nano, tokens, requests, counters, deltas)
                SELECT gen_random_uuid(), date_trunc('month', %(now)s, 'UTC')::date, 1, %(tenant)s, 'settled', %(now)s,
                    'web', %(cost)s, 1, 1, '{}', '{}' FROM generate_series(1, %(entries)s)""",
                {"now": now, "tenant": charlie, "cost": LIMIT_NANO_MAX, "entries": ENTRIES},
            )
            items, outcomes = bob.batch(20)
            assert resolve(owner, items) == outcomes
            assert not metering.roll(now=now).more
        assert rollups(owner, [bob.lives[0].tenant_id]) == counted(owner, bob)
        answer = api_of(Tenant.objects.get(pk=charlie), "read").get("/v1/usage", bucket="none")
        assert answer.status == 200
        (row,) = answer["items"]
        assert (row["cost_usd"], row["requests"]) == (to_usd(BIGINT_MAX), 2 * ENTRIES)
