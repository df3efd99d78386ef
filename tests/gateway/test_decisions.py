"""The log of decisions: what of a pre-flight is kept, that it is kept once, and that it says where it has gaps."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import msgspec
import psycopg
import pytest
from django.conf import settings

from budgets.domain.decisions import Decision, fingerprint_of
from noburn.kit import ids

if TYPE_CHECKING:
    from budgets.services.decisions import DecisionLog
    from tests.support.world import Account, World

pytestmark = pytest.mark.real_db

MINI: dict[str, Any] = {"model": "gpt-4o-mini", "input_tokens": 1200, "max_output_tokens": 500}
CANARY = "the-quick-brown-canary"


def logged(account: Account) -> list[dict[str, Any]]:
    """What the log has of a tenant, oldest first, once the gateway has written."""
    world = account.world
    world.run(log_of(world).flush())
    cursor = world.owner.execute(
        "SELECT * FROM decisions WHERE tenant_id = %s ORDER BY id", [account.tenant_id]
    )
    names = [column.name for column in cursor.description or ()]
    return [dict(zip(names, row, strict=True)) for row in cursor]


def gaps(account: Account) -> list[dict[str, Any]]:
    """What the log knows to be missing of a tenant."""
    account.world.run(log_of(account.world).flush())
    rows = account.world.sql(
        "SELECT dropped, why, started_at, ended_at FROM decision_gaps WHERE tenant_id = %s ORDER BY id",
        account.tenant_id,
    )
    return [dict(zip(("dropped", "why", "started_at", "ended_at"), row, strict=True)) for row in rows]


def log_of(world: World) -> DecisionLog:
    return world.app._plane.decisions


def a_decision(account: Account, **fields: Any) -> Decision:
    """A record as the gateway makes it."""
    from budgets.services.decisions import now_us

    told = {"at_us": now_us(), "api_key": account.issued.key.pk, "policy_version": 1, **fields}
    return Decision(tenant_id=account.tenant_id, model="gpt-4o-mini", project="default", **told)


class TestAllowed:
    def test_is_logged_with_every_input_and_its_hold(self, alice: Account) -> None:
        alice.budget("acme", "$10", window="month")
        before = datetime.now(UTC)
        placed = alice.place(
            **MINI,
            subject={"customer": "acme", "user": "u1", "run": "run_1", "plan": "free"},
            tags={"feature": "chat"},
            cached_input_tokens=200,
            n=2,
            tools={"web_search": 1},
            ttl_seconds=60,
            fingerprint="abc",
        )
        (row,) = logged(alice)
        assert ids.encode("hold", row["hold_id"]) == placed["hold"]["id"]
        assert before <= row["decided_at"] <= datetime.now(UTC) + timedelta(seconds=1)
        assert row["estimate_nano"] == Decimal(placed["hold"]["amount_usd"]) * 10**9
        assert row["budget_id"] == alice.budgets["acme"].pk
        assert row["remaining"] == Decimal(placed["budgets"][0]["remaining_usd"]) * 10**9
        told = (
            "reason",
            "project",
            "customer",
            "end_user",
            "run",
            "plan",
            "tags",
            "provider",
            "model",
            "input_tokens",
        )
        assert [row[name] for name in told] == [
            None, "default", "acme", "u1", "run_1", "free", {"feature": "chat"}, "openai", "gpt-4o-mini", 1200,
        ]  # fmt: skip
        more = (
            "cached_input_tokens",
            "cap_asked",
            "cap",
            "n",
            "tools",
            "ttl_seconds",
            "subject",
            "metric",
            "limit_amount",
        )
        assert [row[name] for name in more] == [
            200,
            500,
            500,
            2,
            {"web_search": 1},
            60,
            "acme",
            "usd",
            10 * 10**9,
        ]
        assert row["api_key"] == alice.issued.key.pk
        assert row["policy_version"] >= 1
        assert row["price_id"]
        assert row["fingerprint"] == fingerprint_of("abc")

    def test_says_what_fit_made_of_the_cap(self, alice: Account) -> None:
        alice.budget("acme", "$0.0003")
        placed = alice.place(**MINI, fit=True)
        (row,) = logged(alice)
        assert (row["fit"], row["cap_asked"], row["cap"]) == (True, 500, placed["max_output_tokens"])
        assert row["cap"] < 500

    def test_says_which_cap_was_assumed_where_none_was_sent(self, alice: Account) -> None:
        alice.place(model="gpt-4o-mini", input_tokens=10)
        (row,) = logged(alice)
        assert (row["cap_asked"], row["cap"]) == (None, 4096)

    def test_names_the_tightest_budget(self, alice: Account) -> None:
        alice.budget("all", "$10", scope="tenant")
        alice.budget("acme", "$1")
        alice.place("$0.60")
        (row,) = logged(alice)
        assert (row["budget_id"], row["own_nano"]) == (alice.budgets["acme"].pk, 600_000_000)

    def test_names_the_warning_budgets_that_would_have_refused(self, alice: Account) -> None:
        alice.budget("acme", "$0.10", action="warn")
        assert alice.place("$0.20").decision == "allow"
        (row,) = logged(alice)
        assert row["shadow"] == [alice.budgets["acme"].pk]
        assert row["budget_id"] is None

    def test_is_logged_once_however_often_it_is_replayed(self, alice: Account) -> None:
        alice.budget("acme", "$1")
        alice.place("$0.40", key="k")
        alice.place("$0.40", key="k")
        assert len(logged(alice)) == 1


class TestRefused:
    def test_by_a_budget_says_which_and_what_was_left(self, alice: Account) -> None:
        alice.budget("acme", "$0.0003", window="month")
        assert alice.place(**MINI).decision == "budget_exceeded"
        (row,) = logged(alice)
        assert (row["reason"], row["hold_id"], row["estimate_nano"]) == ("budget_exceeded", None, 480_000)
        assert (row["budget_id"], row["subject"]) == (alice.budgets["acme"].pk, "acme")
        assert (row["limit_amount"], row["room"], row["cap"]) == (300_000, 300_000, 500)

    def test_because_of_holds_in_flight_says_what_would_fit_after_them(self, alice: Account) -> None:
        alice.budget("acme", "$1")
        alice.place("$0.90")
        assert alice.place("$0.40", wait_ms=1).decision == "budget_busy"
        row = logged(alice)[-1]
        assert (row["reason"], row["remaining"], row["room"]) == ("budget_busy", 100_000_000, 10**9)
        assert row["wait_ms"] == 1

    def test_for_want_of_a_price(self, alice: Account) -> None:
        assert alice.place(model="no-such-model", customer="bob").decision == "price_unknown"
        (row,) = logged(alice)
        assert (row["reason"], row["model"], row["customer"]) == ("price_unknown", "no-such-model", "bob")
        assert (row["estimate_nano"], row["cap"], row["price_id"]) == (None, None, None)

    def test_because_its_customer_is_suspended(self, alice: Account) -> None:
        from tenants.services.customers import ensure_customer, suspend_customer

        who: dict[str, Any] = {"tenant_id": alice.tenant_id, "external_id": "acme", "actor": "test"}
        ensure_customer(**who, now=datetime.now(UTC))
        suspend_customer(**who, now=datetime.now(UTC))
        assert alice.place(**MINI).decision == "customer_suspended"
        (row,) = logged(alice)
        assert (row["reason"], row["customer"], row["estimate_nano"]) == (
            "customer_suspended",
            "acme",
            480_000,
        )

    def test_is_logged_again_when_it_is_decided_again(self, alice: Account) -> None:
        alice.budget("acme", "$0.10")
        for _ in range(2):
            alice.place("$0.20", key="k")
        assert [row["reason"] for row in logged(alice)] == ["budget_exceeded"] * 2


class TestNotLogged:
    def test_is_a_dry_run(self, alice: Account) -> None:
        alice.budget("acme", "$0.10")
        alice.place("$0.05", dry_run=True)
        alice.place("$0.20", dry_run=True)
        alice.place(model="no-such-model", dry_run=True)
        assert logged(alice) == []

    def test_is_what_failed(self, alice: Account) -> None:
        assert alice.place(model="gpt-4o-mini", input_tokens=-1).status == 400
        alice.place("$0.40", key="k")
        assert alice.place("$0.41", key="k").status == 409
        assert len(logged(alice)) == 1

    def test_is_anything_that_is_not_asked_for(self, alice: Account) -> None:
        alice.place(
            **MINI,
            messages=[{"role": "user", "content": CANARY}],
            prompt=CANARY,
            fingerprint=CANARY,
            subject={"customer": "acme", "note": CANARY},
        )
        (row,) = logged(alice)
        assert CANARY not in repr(row)

    def test_are_more_tags_and_tools_than_a_call_may_have(self, alice: Account) -> None:
        many = {f"t{i}": "x" for i in range(50)}
        alice.place(model="no-such-model", tags=many, tools={name: 1 for name in many})
        (row,) = logged(alice)
        assert (len(row["tags"]), len(row["tools"])) == (10, 20)


class TestIds:
    def test_are_in_the_order_of_decisions(self, alice: Account) -> None:
        for i in range(20):
            alice.place(model="gpt-4o-mini", input_tokens=i)
        assert [row["input_tokens"] for row in logged(alice)] == list(range(20))

    def test_are_larger_than_every_one_that_could_be_read_before(self, alice: Account) -> None:
        newest = UUID(int=0)
        for _ in range(5):
            alice.place(**MINI)
            rows = logged(alice)
            assert rows[-1]["id"] > newest
            assert rows[-1]["id"].version == 7
            newest = rows[-1]["id"]

    def test_lie_in_the_partition_of_their_day(self, alice: Account) -> None:
        alice.place(**MINI)
        logged(alice)
        (table,) = alice.world.sql(
            "SELECT tableoid::regclass::text FROM decisions WHERE tenant_id = %s", alice.tenant_id
        )
        assert table[0].removeprefix("decisions_").isdigit()


@pytest.fixture
def small(world: World) -> Iterator[DecisionLog]:
    """The gateway's log with room for three decisions and a batch of two."""
    log = log_of(world)
    world.run(log.flush())
    room, log._queue_max = log._queue_max, 3
    yield log
    log._queue_max = room


@pytest.fixture
def shut(world: World) -> Iterator[World]:
    """The log's function, out of a gateway's reach until it is opened."""
    world.run(log_of(world).flush())
    signature = "nb_log_decisions(uuid, bigint, json, json, bigint, bigint)"
    world.sql(f"REVOKE EXECUTE ON FUNCTION {signature} FROM noburn_gateway")
    yield world
    world.sql(f"GRANT EXECUTE ON FUNCTION {signature} TO noburn_gateway")


def open_log(world: World) -> None:
    world.sql(
        "GRANT EXECUTE ON FUNCTION nb_log_decisions(uuid, bigint, json, json, bigint, bigint) TO noburn_gateway"
    )


class TestQueue:
    def test_that_is_full_keeps_the_older_ones_and_says_what_is_missing(
        self, alice: Account, shut: World, small: DecisionLog
    ) -> None:
        before = datetime.now(UTC)
        for i in range(5):
            assert alice.place(model="gpt-4o-mini", input_tokens=i).decision == "allow"
        open_log(shut)
        assert [row["input_tokens"] for row in logged(alice)][:3] == [0, 1, 2]
        (gap,) = gaps(alice)
        assert gap["why"] == "full"
        assert gap["dropped"] + len(logged(alice)) == 5
        assert before <= gap["started_at"] <= gap["ended_at"] <= datetime.now(UTC)

    def test_loses_nothing_while_the_database_takes_nothing(self, alice: Account, shut: World) -> None:
        for i in range(30):
            alice.place(model="gpt-4o-mini", input_tokens=i)
        shut.run(log_of(shut).flush())
        open_log(shut)
        assert [row["input_tokens"] for row in logged(alice)] == list(range(30))
        assert gaps(alice) == []

    def test_loses_nothing_with_its_connection(self, alice: Account, world: World) -> None:
        log = log_of(world)
        world.run(log.flush())
        for _ in range(5):
            ((pid,),) = world.run(log._store._rows("SELECT pg_backend_pid()", []))
            with psycopg.connect(settings.DATABASE_GATEWAY_URL, autocommit=True) as connection:
                connection.execute("SELECT pg_terminate_backend(%s, 10000)", [pid])  # returns once it is gone
            alice.place(**MINI)
            world.run(log.flush())
        assert len(logged(alice)) == 5
        assert gaps(alice) == []

    def test_is_written_once_where_the_answer_was_lost(self, alice: Account, world: World) -> None:
        log = log_of(world)
        world.run(log.flush())
        store, log._store = log._store, Forgetful(log._store)  # type: ignore[assignment]
        alice.place(**MINI)
        world.run(log.flush())
        log._store = store
        assert len(logged(alice)) == 1

    def test_is_written_batch_by_batch_by_several_at_once(self, alice: Account, world: World) -> None:
        log = log_of(world)
        for i in range(2_500):
            log.note(a_decision(alice, input_tokens=i))
        world.all(log.flush() for _ in range(3))
        assert [row["input_tokens"] for row in logged(alice)] == list(range(2_500))

    def test_gives_up_what_waited_for_an_hour(self, alice: Account, world: World) -> None:
        log = log_of(world)
        old = a_decision(alice)
        log.note(msgspec.structs.replace(old, at_us=old.at_us - 3_700_000_000))
        log.note(a_decision(alice))
        assert len(logged(alice)) == 1
        assert [(gap["dropped"], gap["why"]) for gap in gaps(alice)] == [(1, "late")]

    def test_asks_after_a_batch_that_was_sent_an_hour_ago(self, alice: Account, world: World) -> None:
        log = log_of(world)
        world.run(log.flush())
        store, log._store = log._store, Away()  # type: ignore[assignment]
        log.note(a_decision(alice))
        world.run(log.flush())
        log._store = store
        assert log._sent is not None
        log._sent = replace(log._sent, from_us=log._sent.from_us - 3_700_000_000)
        assert logged(alice) == []
        assert [(gap["dropped"], gap["why"]) for gap in gaps(alice)] == [(1, "late")]

    def test_is_written_when_the_gateway_ends(self, alice: Account, world: World) -> None:
        from budgets.gateway.app import GatewayApp
        from tests.support.asgi import send
        from tests.support.world import gateway_config

        async def serve_and_end() -> None:
            app = GatewayApp(gateway_config())
            await app.startup()
            await send(app, "POST", "/v1/preflight", body=MINI, secret=alice.secret)
            await app.shutdown()

        world.run(serve_and_end())
        assert len(logged(alice)) == 1


class TestPoison:
    def test_spoils_no_other_record(
        self, alice: Account, world: World, caplog: pytest.LogCaptureFixture
    ) -> None:
        log = log_of(world)
        for i in range(100):
            log.note(a_decision(alice, input_tokens=i, n=1_000_000 if i in (3, 70) else 1))
        with caplog.at_level(logging.ERROR):
            rows = logged(alice)
        assert [row["input_tokens"] for row in rows] == [i for i in range(100) if i not in (3, 70)]
        assert sum(gap["dropped"] for gap in gaps(alice)) == 2
        assert {gap["why"] for gap in gaps(alice)} == {"refused"}


class TestDefect:
    def test_of_the_log_fails_no_call_and_shows_as_a_gap(
        self, alice: Account, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        from budgets.gateway import app

        monkeypatch.setattr(app, "record", None)
        with caplog.at_level(logging.ERROR):
            assert alice.place(**MINI).decision == "allow"
        assert "a decision was not noted" in caplog.text
        assert logged(alice) == []
        assert [(gap["dropped"], gap["why"]) for gap in gaps(alice)] == [(1, "refused")]


class TestGatewayRole:
    def test_can_add_and_neither_read_nor_change(self, world: World) -> None:
        with psycopg.connect(settings.DATABASE_GATEWAY_URL, autocommit=True) as connection:
            for statement in (
                "SELECT 1 FROM decisions",
                "INSERT INTO decision_gaps SELECT",
                "DELETE FROM decisions_default",
                "SELECT nb_prune_decisions(now(), NULL, 1)",
                "SELECT nb_prune_counters(now(), 1)",
            ):
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    connection.execute(statement)

    def test_writes_without_waiting_for_the_disk(self, world: World) -> None:
        with psycopg.connect(settings.DATABASE_GATEWAY_URL) as connection:
            connection.execute("SET synchronous_commit = on")
            connection.commit()
            connection.execute("SELECT nb_log_decisions(%s, 1, '[]', '[]', 0, 0)", [uuid4()])
            assert connection.execute("SHOW synchronous_commit").fetchone() == ("off",)
            connection.commit()
            # What the money path does next on the same connection waits again.
            assert connection.execute("SHOW synchronous_commit").fetchone() == ("on",)


class TestApplicationRole:
    def test_can_read_the_log_and_not_write_it_on_any_partition(self, world: World) -> None:
        tables = world.sql(
            "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'decisions'::regclass"
        )
        assert len(tables) > 10
        with psycopg.connect(settings.DATABASE_URL, autocommit=True) as connection:
            for (table,) in [*tables, ("decisions",), ("decision_gaps",)]:
                connection.execute(f"SELECT 1 FROM {table} LIMIT 1")
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    connection.execute(f"DELETE FROM {table}")


class Away:
    """A store whose database is away."""

    async def log(self, **_: Any) -> bool:
        from budgets.stores.postgres.money import StorageUnavailable

        raise StorageUnavailable("away")


class Forgetful:
    """A store whose answers get lost."""

    def __init__(self, store: Any) -> None:
        self._store = store

    async def log(self, **batch: Any) -> bool:
        from budgets.stores.postgres.money import StorageUnavailable

        await self._store.log(**batch)
        raise StorageUnavailable("the answer was lost")


class TestLastUse:
    def test_is_noted_of_the_keys_that_asked_and_waits_for_no_edit(
        self, alice: Account, world: World
    ) -> None:
        from tenants.models import ApiKey

        other = alice.key()
        alice.place("$0.01")
        world.run(world.app._plane.decisions.flush())
        used = ApiKey.objects.get(pk=alice.issued.key.pk).last_used_at
        assert used is not None
        assert ApiKey.objects.get(pk=other.key.pk).last_used_at is None
        alice.place("$0.01")
        world.run(world.app._plane.decisions.flush())
        assert ApiKey.objects.get(pk=alice.issued.key.pk).last_used_at == used
        with world.owner.transaction():
            world.sql("SELECT 1 FROM tenants_apikey WHERE id = %s FOR UPDATE", other.key.pk)
            placed = world.run(alice.send("/v1/preflight", alice.call("$0.01"), secret=other.secret))
            assert placed.decision == "allow"
            world.run(world.app._plane.decisions.flush())
        assert ApiKey.objects.get(pk=other.key.pk).last_used_at is None
