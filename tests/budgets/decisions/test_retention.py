"""What pruning takes, and what it must never take."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

import psycopg
import pytest
from django.conf import settings
from django.db import connections

from budgets.services.retention import Pruned, Retention

if TYPE_CHECKING:
    from tests.support.world import Account, World

pytestmark = pytest.mark.real_db

KEPT_DAYS = 35


def pruned(world: World, now: datetime | None = None) -> Pruned:
    """One run over the decisions."""

    async def run() -> Pruned:
        async with Retention.connected(database_url=settings.DATABASE_URL) as retention:
            return await retention.prune_decisions(now=now or datetime.now(UTC))

    return world.run(run())


def pruned_counters(world: World, days: int = KEPT_DAYS) -> int:
    """One run over the counters."""

    async def run() -> int:
        async with Retention.connected(database_url=settings.DATABASE_URL) as retention:
            return await retention.prune_counters(now=datetime.now(UTC), days=days)

    return world.run(run())


def make_days(world: World, now: datetime, days: int) -> int:
    async def run() -> int:
        async with Retention.connected(database_url=settings.DATABASE_URL) as retention:
            return await retention.make_days(now=now, days=days)

    return world.run(run())


def add_decision(account: Account, at: datetime) -> UUID:
    """A decision of the past, put where it would lie now."""
    row = account.world.sql(
        """INSERT INTO decisions (tenant_id, id, decided_at, api_key, policy_version, input_tokens, n, images, audio, fit,
            wait_ms, waited_ms, ttl_seconds)
        SELECT %s, (left(replace(nb_decision_floor(%s)::text, '-', ''), 12) || '7'
            || substr(replace(gen_random_uuid()::text, '-', ''), 14))::uuid, %s, %s, 1, 0, 1, 0, false, false, 0, 0, 120
        RETURNING id""",
        account.tenant_id,
        at,
        at,
        account.issued.key.pk,
    )
    return UUID(str(row[0][0]))


def keep(account: Account, days: int) -> None:
    account.world.sql(
        "UPDATE tenants_tenant SET decision_retention_days = %s WHERE id = %s", days, account.tenant_id
    )


def kept(account: Account) -> list[UUID]:
    rows = account.world.sql("SELECT id FROM decisions WHERE tenant_id = %s ORDER BY id", account.tenant_id)
    return [row[0] for row in rows]


def money(account: Account) -> tuple[int, ...]:
    """How much of money's records there is."""
    tables = ("hold_resolutions", "ledger_entries", "counters", "grants")
    return tuple(
        account.world.sql(f"SELECT count(*) FROM {table} WHERE tenant_id = %s", account.tenant_id)[0][0]
        for table in tables
    )


class TestDecisions:
    def test_go_when_their_tenant_keeps_them_no_longer(self, alice: Account, world: World) -> None:
        now, charlie = datetime.now(UTC), world.account("charlie")
        keep(alice, 3)
        keep(charlie, 20)
        times = [now - timedelta(days=days) for days in (10, 5, 2, 0)]
        mine, his = ([add_decision(account, at) for at in times] for account in (alice, charlie))
        pruned(world)
        assert kept(alice) == mine[2:]
        assert kept(charlie) == his

    def test_go_with_their_whole_day_once_no_tenant_keeps_them(self, alice: Account, world: World) -> None:
        past = datetime(2020, 1, 10, 12, tzinfo=UTC)
        assert make_days(world, past, 3) == 3
        add_decision(alice, past)
        assert pruned(world).days == 3
        assert kept(alice) == []
        assert world.sql("SELECT to_regclass('decisions_20200110')") == [(None,)]

    def test_stay_for_the_longest_that_any_tenant_keeps_them(self, alice: Account, world: World) -> None:
        noon, past = datetime(2020, 3, 10, 12, tzinfo=UTC), datetime(2020, 3, 1, 12, tzinfo=UTC)
        make_days(world, past, 4)
        keep(alice, 400)
        add_decision(alice, past)
        assert pruned(world, noon).days == 0
        assert len(kept(alice)) == 1
        keep(alice, 30)
        assert pruned(world).days >= 4

    def test_that_no_partition_was_ready_for_go_row_by_row(self, alice: Account, world: World) -> None:
        add_decision(alice, datetime(2019, 5, 1, tzinfo=UTC))
        young = add_decision(alice, datetime.now(UTC))
        assert pruned(world).decisions >= 1
        assert kept(alice) == [young]

    def test_go_in_batches(self, alice: Account, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("budgets.services.retention.BATCH", 2)
        keep(alice, 1)
        for minute in range(5):
            add_decision(alice, datetime.now(UTC) - timedelta(days=6, minutes=minute))
        assert pruned(world).decisions >= 5
        assert kept(alice) == []

    def test_end_a_run_at_its_bound_and_go_on_in_the_next(
        self, alice: Account, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pruned(world)
        monkeypatch.setattr("budgets.services.retention.BATCH", 2)
        monkeypatch.setattr("budgets.services.retention.ROWS_MAX", 4)
        keep(alice, 1)
        for minute in range(5):
            add_decision(alice, datetime.now(UTC) - timedelta(days=6, minutes=minute))
        assert pruned(world) == Pruned(0, 4, more=True)
        assert pruned(world) == Pruned(0, 1, more=False)

    def test_take_gaps_and_forgotten_writers_with_them(self, alice: Account, world: World) -> None:
        old = datetime(2020, 1, 1, tzinfo=UTC)
        world.sql(
            "INSERT INTO decision_gaps VALUES (%s, nb_decision_floor(%s), %s, %s, 1, 'full')",
            alice.tenant_id, old, old, old,
        )  # fmt: skip
        world.sql("INSERT INTO decision_writers VALUES (gen_random_uuid(), 1, %s)", old)
        pruned(world)
        assert world.sql("SELECT 1 FROM decision_gaps WHERE tenant_id = %s", alice.tenant_id) == []
        assert world.sql("SELECT 1 FROM decision_writers WHERE written_at < now() - interval '2 days'") == []

    def test_leave_every_record_of_money_alone(self, alice: Account, world: World) -> None:
        alice.budget("acme", "$1")
        alice.settle(alice.place("$0.40"), "$0.25")
        before = money(alice)
        pruned(world, datetime.now(UTC) + timedelta(days=300))
        assert money(alice) == before
        assert not alice.verify().differences
        make_days(world, datetime.now(UTC), 15)


class TestDays:
    def test_are_made_ahead_once(self, world: World) -> None:
        past = datetime(2018, 6, 1, tzinfo=UTC)
        assert [make_days(world, past, 5), make_days(world, past, 5)] == [5, 0]
        assert pruned(world).days == 5

    def test_stay_in_the_default_partition_where_their_rows_came_first(
        self, alice: Account, world: World
    ) -> None:
        past = datetime(2017, 6, 2, 12, tzinfo=UTC)
        add_decision(alice, past)
        assert make_days(world, past, 3) == 2
        assert len(kept(alice)) == 1
        pruned(world)
        assert kept(alice) == []

    def test_begin_at_midnight_utc(self, world: World) -> None:
        make_days(world, datetime(2016, 2, 28, tzinfo=UTC), 4)
        (bound,) = world.sql(
            """SELECT pg_get_expr(relpartbound, oid), nb_decision_floor('2016-02-29T00:00:00Z')::text
            FROM pg_class WHERE relname = 'decisions_20160229'"""
        )
        assert bound[1] in bound[0]
        pruned(world)


@pytest.fixture
def template(alice: Account) -> Account:
    """Alice, with an hour's budget for each customer."""
    alice.budget("hourly", "$1", window="hour", subject="*")
    return alice


def end_windows(account: Account, days: int = 40) -> None:
    """Lets this tenant's windows of hours lie so many days back."""
    moved = timedelta(days=days)
    account.world.sql(
        """UPDATE counters SET starts_at = starts_at - %s, ends_at = ends_at - %s
        WHERE tenant_id = %s AND ends_at - starts_at <= interval '1 hour'""",
        moved, moved, account.tenant_id,
    )  # fmt: skip
    account.world.sql(
        "UPDATE counter_subjects SET starts_at = starts_at - %s WHERE tenant_id = %s",
        moved,
        account.tenant_id,
    )


def counters(account: Account) -> int:
    return int(
        account.world.sql("SELECT count(*) FROM counters WHERE tenant_id = %s", account.tenant_id)[0][0]
    )


class TestCountersOfHours:
    def test_go_with_their_grants_and_counts_once_all_is_settled(
        self, template: Account, world: World
    ) -> None:
        template.settle(template.place("$0.40"), "$0.25")
        assert template.acknowledged()
        end_windows(template)
        world.sweep()
        assert pruned_counters(world) >= 1
        for table in ("counters", "grants", "counter_subjects"):
            assert world.sql(f"SELECT 1 FROM {table} WHERE tenant_id = %s", template.tenant_id) == []
        assert [entry["cost"] for entry in template.ledger()] == [250_000_000]
        assert not template.verify().differences

    def test_stay_while_redis_has_one(self, template: Account, world: World) -> None:
        template.settle(template.place("$0.40"), "$0.25")
        end_windows(template)
        pruned_counters(world)
        assert counters(template) == 1
        assert template.acknowledged()
        world.sweep()
        pruned_counters(world)
        assert counters(template) == 0

    def test_stay_while_a_hold_may_still_draw_on_their_authority(
        self, template: Account, world: World
    ) -> None:
        placed = template.place("$0.40")
        assert template.acknowledged()
        end_windows(template)
        world.sweep()
        pruned_counters(world)
        assert counters(template) == 1
        template.settle(placed, "$0.25")
        assert not template.verify().differences
        pruned_counters(world)
        assert counters(template) == 0
        assert not template.verify().differences

    def test_stay_while_something_is_stranded_that_a_person_may_write_off(
        self, template: Account, world: World
    ) -> None:
        template.place("$0.40")
        assert template.acknowledged()
        world.lose_redis()
        world.recover()
        end_windows(template)
        pruned_counters(world)
        assert counters(template) == 1
        assert not template.verify().differences

    def test_do_not_keep_a_late_settlement_from_being_recorded_whole(
        self, template: Account, world: World
    ) -> None:
        placed = template.place("$0.40")
        assert template.acknowledged()
        template.expire(placed)
        assert world.sweep().presumed == 1
        end_windows(template)
        world.sweep()
        pruned_counters(world)
        assert counters(template) == 0
        assert not template.verify().differences
        settled = template.settle(placed, "$0.55")
        assert (settled.status, settled["late"], settled["cost_usd"]) == (200, True, "0.55")
        again = template.settle(placed, "$0.55")
        assert (again.status, again["replayed"]) == (200, True)
        assert [entry["cost"] for entry in template.ledger()] == [400_000_000, 150_000_000]
        assert not template.verify().differences

    def test_leave_a_hold_s_other_counters_to_be_corrected(self, template: Account, world: World) -> None:
        template.budget("acme", "$10", window="month")
        placed = template.place("$0.40")
        assert template.acknowledged()
        template.expire(placed)
        world.sweep()
        end_windows(template)
        world.sweep()
        pruned_counters(world)
        assert counters(template) == 1
        template.settle(placed, "$0.10")
        assert template.counter("acme")["spent"] == 100_000_000
        assert template.remaining("acme") == 9_900_000_000
        assert not template.verify().differences

    def test_stay_for_the_days_that_are_set(self, template: Account, world: World) -> None:
        template.settle(template.place("$0.40"), "$0.25")
        assert template.acknowledged()
        end_windows(template, days=30)
        world.sweep()
        pruned_counters(world)
        assert counters(template) == 1
        pruned_counters(world, days=20)
        assert counters(template) == 0

    def test_are_not_taken_by_a_run_that_meets_a_settlement(self, template: Account, world: World) -> None:
        template.settle(template.place("$0.40"), "$0.25")
        assert template.acknowledged()
        end_windows(template)
        world.sweep()
        with psycopg.connect(settings.DATABASE_OWNER_URL) as other:
            other.execute("SELECT 1 FROM counters WHERE tenant_id = %s FOR UPDATE", [template.tenant_id])
            pruned_counters(world)
            assert counters(template) == 1
        pruned_counters(world)
        assert counters(template) == 0

    def test_of_the_last_day_cannot_be_pruned_by_mistake(self, world: World) -> None:
        with pytest.raises(psycopg.errors.InvalidParameterValue, match="kept for a day"):
            world.sql("SELECT nb_prune_counters(now() - interval '1 hour', 10)")


class TestLongerWindows:
    @pytest.mark.parametrize("window", ["day", "month", "total"])
    def test_are_never_pruned(self, alice: Account, world: World, window: str) -> None:
        alice.budget("acme", "$1", window=window)
        alice.settle(alice.place("$0.40"), "$0.25")
        assert alice.acknowledged()
        alice.world.sql(
            """UPDATE counters SET starts_at = starts_at - interval '90 days', ends_at = ends_at - interval '90 days'
            WHERE tenant_id = %s""",
            alice.tenant_id,
        )
        world.sweep()
        pruned_counters(world)
        assert counters(alice) == 1


class TestTasks:
    @pytest.fixture(autouse=True)
    def _fresh_connections(self) -> Iterator[None]:
        yield
        connections.close_all()

    def test_prune_and_make_room_as_the_schedule_has_them(self, alice: Account, world: World) -> None:
        from budgets import tasks

        keep(alice, 1)
        add_decision(alice, datetime.now(UTC) - timedelta(days=6))
        for name in ("budgets.make_partitions", "budgets.prune_decisions", "budgets.prune_counters"):
            assert name in tasks.BEAT
        tasks.make_partitions()
        tasks.prune_decisions()
        tasks.prune_counters()
        assert kept(alice) == []
        ahead: Any = date.today() + timedelta(days=10)  # noqa: DTZ011
        assert world.sql("SELECT to_regclass(%s)", f"decisions_{ahead:%Y%m%d}") != [(None,)]
