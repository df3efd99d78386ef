"""Finding wrong rollups, counting them anew, and forgetting old hours, while the ledger goes on."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from subprocess import Popen
from typing import Any
from uuid import UUID

import psycopg
import pytest
from django.core.management import call_command

from budgets.services import metering
from tests.budgets.metering.ledger import RandomLedger, counted, resolve, rollups

pytestmark = pytest.mark.real_db

Connection = psycopg.Connection[Any]
BATCHES_MAX = 1000
TAMPER = (
    "UPDATE usage_rollups SET cost_nano = cost_nano + 1 WHERE tenant_id = %s AND grain = 'days'",
    "UPDATE usage_rollups SET presumed_nano = presumed_nano - 1 WHERE tenant_id = %s AND grain = 'tag_hours'",
    "DELETE FROM usage_rollups WHERE tenant_id = %s AND grain = 'total_hours'",
    """INSERT INTO usage_rollups SELECT (jsonb_populate_record(u, '{"customer": "nobody", "grain": "hours",
        "key": "00000000-0000-0000-0000-000000000001", "cost_nano": 5}')).* FROM usage_rollups u
        WHERE tenant_id = %s LIMIT 1""",
)


def _roll() -> None:
    assert not metering.roll(now=datetime.now(UTC)).more


@pytest.fixture
def ledger(owner: Connection, tenant: Callable[[str], UUID]) -> RandomLedger:
    """A tenant's ledger, rolled up."""
    made = RandomLedger([tenant("alice")], seed=7, now=datetime.now(UTC))
    for _ in range(4):
        items, outcomes = made.batch(100)
        assert resolve(owner, items) == outcomes
    _roll()
    return made


def _tenants(ledger: RandomLedger) -> list[UUID]:
    return sorted({life.tenant_id for life in ledger.lives})


class TestVerify:
    def test_finds_nothing_in_what_was_left_alone(self, ledger: RandomLedger) -> None:
        (tenant_id,) = _tenants(ledger)
        assert list(metering.verify(tenant_id=tenant_id)) == []

    @pytest.mark.parametrize("statement", TAMPER)
    def test_finds_what_was_tampered_with_and_a_rebuild_mends_it(
        self, statement: str, ledger: RandomLedger, owner: Connection, tenant: Callable[[str], UUID]
    ) -> None:
        (tenant_id,) = _tenants(ledger)
        owner.execute(statement, [tenant_id])
        found = list(metering.verify(tenant_id=tenant_id))
        assert found
        assert all(figure.tenant_id == tenant_id and figure.stored != figure.derived for figure in found)
        out = io.StringIO()
        slug = owner.execute("SELECT slug FROM tenants_tenant WHERE id = %s", [tenant_id]).fetchone()
        assert slug is not None
        with pytest.raises(SystemExit) as ended:
            call_command("usage", "verify", "--tenant", slug[0], "--json", stdout=out)
        assert ended.value.code == 1
        assert len(json.loads(out.getvalue())) == len(found)
        call_command("usage", "rebuild", "--tenant", slug[0], stdout=out)
        assert rollups(owner, [tenant_id]) == counted(owner, ledger)
        call_command("usage", "verify", "--tenant", slug[0], stdout=out)

    def test_is_right_while_entries_wait_to_be_rolled_up(
        self, ledger: RandomLedger, owner: Connection
    ) -> None:
        (tenant_id,) = _tenants(ledger)
        items, _ = ledger.batch(100)
        resolve(owner, items)
        assert list(metering.verify(tenant_id=tenant_id)) == []
        _roll()
        assert list(metering.verify(tenant_id=tenant_id)) == []


class TestRebuild:
    def test_is_exact_while_settlements_and_a_roller_go_on(
        self,
        ledger: RandomLedger,
        owner: Connection,
        process: Callable[..., Popen[str]],
    ) -> None:
        (tenant_id,) = _tenants(ledger)
        for statement in TAMPER:
            owner.execute(statement, [tenant_id])
        roller = process("-m", "tests.budgets.metering.roller", "100")
        rebuilding = process("manage.py", "usage", "rebuild")
        for batches in range(BATCHES_MAX):
            items, outcomes = ledger.batch(100)
            assert resolve(owner, items) == outcomes
            if batches > 20 and rebuilding.poll() is not None:
                break
        assert rebuilding.wait(timeout=60) == 0
        roller.communicate(timeout=60)
        assert roller.returncode == 0
        assert rollups(owner, [tenant_id]) == counted(owner, ledger)
        assert metering.status().rebuild_began_at is None

    def test_goes_on_where_a_killed_one_was(self, ledger: RandomLedger, owner: Connection) -> None:
        (tenant_id,) = _tenants(ledger)
        owner.execute(TAMPER[0], [tenant_id])
        began = metering.rebuild(resume=False)
        first = next(began)
        began.close()
        status = metering.status()
        assert (status.rebuild_tenant, status.rebuild_day) == first[:2]
        rest = list(metering.rebuild())
        assert first[:2] not in [done[:2] for done in rest]
        assert tenant_id in {done[0] for done in [first, *rest]}
        assert rollups(owner, [tenant_id]) == counted(owner, ledger)


class TestPrune:
    def test_forgets_old_hours_keeps_days_and_counts_what_comes_late_in_days(
        self, ledger: RandomLedger, owner: Connection
    ) -> None:
        (tenant_id,) = _tenants(ledger)
        now = datetime.now(UTC)
        assert metering.prune(now=now, days=50) > 0
        since = metering.status().hours_from
        assert since == (now - timedelta(days=50)).replace(minute=0, second=0, microsecond=0)
        for _ in range(6):
            items, _ = ledger.batch(100)
            resolve(owner, items)
        _roll()
        assert any(life.at < since for life in ledger.lives)
        left = counted(owner, ledger)
        assert {row[2] < since for row in left if row[0] == "hours"} == {False}
        assert rollups(owner, [tenant_id]) == left
        assert list(metering.verify(tenant_id=tenant_id)) == []
        list(metering.rebuild(tenant_id=tenant_id))
        assert rollups(owner, [tenant_id]) == left

    def test_keeps_hours_for_at_least_as_long_as_one_may_ask_for(self, owner: Connection) -> None:
        now = datetime.now(UTC)
        metering.prune(now=now, days=0)
        assert metering.status().hours_from <= now - timedelta(days=31)
