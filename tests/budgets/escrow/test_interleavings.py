"""What two gateways, the sweeper and the controller may do between one another's steps, and what must not come of it."""

from __future__ import annotations

import asyncio
import json
import threading
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import psycopg
import pytest
from django.conf import settings

from budgets.domain.policy import EACH
from budgets.services.epochs import EpochDirectory
from budgets.services.grants import ASKS_PER_BATCH
from budgets.services.recovery import Controller
from budgets.services.waiting import Waiters
from budgets.stores.postgres.control import ControlStore
from budgets.stores.postgres.money import MoneyStore
from budgets.stores.redis.connection import RedisConnection, RedisUnavailable
from tests.support.asgi import send

if TYPE_CHECKING:
    from budgets.gateway.app import GatewayApp
    from tests.support.world import Account, World

pytestmark = pytest.mark.real_db

POLLS_MAX = 2_000


@pytest.fixture
def other(world: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[GatewayApp]:
    """A second gateway, that learns of epochs only when it has to."""
    from budgets.gateway.app import GatewayApp
    from tests.support.world import gateway_config

    monkeypatch.setattr("budgets.services.epochs.POLL_SECONDS", 3_600.0)
    app = GatewayApp(gateway_config())
    world.run(app.startup())
    yield app
    world.run(app.shutdown())


def through(app: GatewayApp, account: Account, path: str, body: object) -> Any:
    """A POST to another gateway than the world's."""
    return account.world.run(send(app, "POST", path, body=body, secret=account.secret))


def held_in_redis(account: Account, name: str) -> int:
    counter = account.keys().counter(account.counter(name)["id"])
    return int(account.world.redis.hget(counter, "held") or -1)


class TestStaleDirectory:
    def test_frees_a_hold_of_an_epoch_that_only_the_placing_gateway_knew(
        self, alice: Account, other: GatewayApp
    ) -> None:
        alice.budget("acme", "$1")
        alice.world.lose_redis()
        assert alice.world.recover() == 64
        placed = alice.place("$0.40")
        assert held_in_redis(alice, "acme") == 400_000_000
        settled = through(
            other,
            alice,
            "/v1/settle",
            {"authorization": placed["authorization"], "usage": None, "cost_usd": "0.25"},
        )
        assert settled["state"] == "settled"
        assert held_in_redis(alice, "acme") == 0
        assert not alice.world.redis.zcard(alice.keys().expiries)
        assert not alice.verify().differences

    def test_keeps_what_it_has_when_epochs_cannot_be_read_for_once(self, alice: Account) -> None:
        async def reread() -> None:
            store = MoneyStore(settings.DATABASE_GATEWAY_URL, connections=1)
            await store.open()
            directory = EpochDirectory(store)
            await directory.start()
            alice.world.sql("REVOKE SELECT ON epochs FROM noburn_gateway")
            try:
                await directory.reload()
                assert directory.current(alice.tenant_id) is not None
            finally:
                alice.world.sql("GRANT SELECT ON epochs TO noburn_gateway")
                await directory.stop()
                await store.close()

        alice.world.run(reread())


class TestAskForAuthority:
    def test_answers_all_of_more_new_customers_than_one_question_takes(self, alice: Account) -> None:
        alice.budget("each", "$1", subject=EACH)
        answers = alice.world.all(
            alice.placing("$0.40", customer=f"c{number}") for number in range(2 * ASKS_PER_BATCH + 50)
        )
        assert {answer.decision for answer in answers} == {"allow"}

    def test_survives_needs_that_no_number_of_the_database_can_sum(self, alice: Account) -> None:
        alice.budget("acme", "$1")
        answers = alice.world.all(alice.placing("$9000000") for _ in range(1_100))
        assert Counter(answer.decision for answer in answers) == {"budget_exceeded": 1_100}

    def test_never_deadlocks_with_one_that_makes_other_subjects_of_its_budget(self, alice: Account) -> None:
        alice.budget("each", "$1", subject=EACH)
        budget = alice.budgets["each"].pk
        prefix = uuid4().hex[:24]
        first, middle, last = (UUID(f"{prefix}{n:08x}") for n in (1, 2, 3))

        def ask(counter: UUID) -> dict[str, Any]:
            return {
                "tenant": str(alice.tenant_id),
                "shard": alice.shard,
                "epoch": str(alice.epoch().epoch_id),
                "budget": str(budget),
                "counter": str(counter),
                "subject": str(counter),
                "starts": 0,
                "ends": None,
                "need": 1,
                "lost": 0,
                "chunk": 0,
                "used": 0,
            }

        def granting(*counters: UUID) -> tuple[str, list[dict[str, Any]]]:
            return "SELECT nb_grant(%s::jsonb)", [ask(counter) for counter in counters]

        sql, asks = granting(middle)
        alice.world.sql(sql, json.dumps(asks))
        failures: list[BaseException] = []

        def run(statement: str, params: list[dict[str, Any]]) -> None:
            try:
                with psycopg.connect(settings.DATABASE_OWNER_URL, autocommit=True) as connection:
                    connection.execute(statement, [json.dumps(params)])
            except BaseException as error:
                failures.append(error)

        blocker = psycopg.connect(settings.DATABASE_OWNER_URL)
        blocker.execute("SELECT 1 FROM counters WHERE counter_id = %s FOR UPDATE", [middle])
        threads = []
        for counters in ((middle, last), (first, middle)):
            threads.append(threading.Thread(target=run, args=granting(*counters)))
            threads[-1].start()
            self.wait_for_waiting(alice, len(threads))
        blocker.rollback()
        blocker.close()
        for thread in threads:
            thread.join()
        assert not failures
        made = alice.world.sql("SELECT subjects FROM counter_subjects WHERE budget_id = %s", budget)
        assert made == [(3,)]

    @staticmethod
    def wait_for_waiting(alice: Account, number: int) -> None:
        sql = """SELECT count(*) FROM pg_stat_activity
            WHERE wait_event_type = 'Lock' AND query LIKE 'SELECT nb_grant%%' AND pid <> pg_backend_pid()"""
        for _ in range(POLLS_MAX):
            if alice.world.sql(sql)[0][0] >= number:
                return
        pytest.fail("the other transaction never waited")

    def test_carries_no_proof_of_a_loss_into_another_epoch(self, alice: Account, other: GatewayApp) -> None:
        alice.budget("acme", "$1")
        placed = alice.place("$0.10")
        assert alice.acknowledged()
        alice.world.redis.delete(alice.keys().counter(alice.counter("acme")["id"]))
        # Above its hold: the change of headroom is told to a key that is gone.
        alice.settle(placed, "$0.20")
        alice.world.lose_redis()
        alice.world.recover()
        first = through(other, alice, "/v1/preflight", alice.call("$0.10"))
        assert first.decision == "allow"
        assert alice.place("$0.40").decision == "allow"
        rows = alice.world.sql(
            "SELECT incarnation, state FROM grants WHERE tenant_id = %s AND epoch_id = %s",
            alice.tenant_id,
            alice.epoch().epoch_id,
        )
        assert rows == [(1, "live")]
        assert not alice.verify().differences

    def test_fails_alone_where_the_database_refuses_it(self, alice: Account) -> None:
        charlie = alice.world.account("charlie")
        for account in (alice, charlie):
            account.budget("acme", "$1")
            assert account.place("$0.10").decision == "allow"
        spent = "UPDATE counters SET spent = %s WHERE tenant_id = %s"
        # No sum with it is a number of the database any more.
        alice.world.sql(spent, -(2**63) + 1, charlie.tenant_id)
        for account in (alice, charlie):
            account.limit("acme", "$2")
        works = [account.placing("$0.10") for account in (charlie, alice) for _ in range(3)]
        answers = alice.world.all(works)
        assert [answer.status for answer in answers] == [503] * 3 + [200] * 3
        assert {answer.decision for answer in answers[3:]} == {"allow"}
        alice.world.sql(spent, 0, charlie.tenant_id)
        assert charlie.place("$0.10").decision == "allow"

    def test_never_waits_for_the_renewal_of_its_epoch(self, alice: Account) -> None:
        alice.budget("acme", "$1")
        alice.place("$0.10")
        epoch = alice.epoch().epoch_id
        with psycopg.connect(settings.DATABASE_OWNER_URL) as granting:
            # What an insert of a grant takes on its epoch, by its foreign key.
            granting.execute("SELECT 1 FROM epochs WHERE epoch_id = %s FOR KEY SHARE", [epoch])
            with psycopg.connect(settings.DATABASE_OWNER_URL, autocommit=True) as renewing:
                renewing.execute("SET lock_timeout = '1s'")
                renewing.execute("SELECT nb_epoch_renew(%s, '60 seconds')", [[epoch]])


class TestWarnings:
    def test_of_a_rate_by_the_minute_never_refuse(self, alice: Account) -> None:
        alice.budget("acme", "$0.10", window="minute", action="warn")
        answers = [alice.place("$0.08") for _ in range(3)]
        assert {answer.decision for answer in answers} == {"allow"}
        assert "would have refused" in answers[-1]["warnings"][-1]

    def test_let_a_call_through_whose_subject_is_one_too_many(self, alice: Account) -> None:
        alice.budget("each", "$1", subject=EACH, action="warn")
        alice.world.sql("UPDATE tenants_tenant SET subject_limit = 1 WHERE id = %s", alice.tenant_id)
        assert alice.place("$0.10", customer="bob").decision == "allow"
        assert alice.place("$0.10", customer="charlie").decision == "allow"
        assert not alice.verify().differences


class TestOverrunOfARate:
    def test_hides_no_other_budget_and_refuses_nothing_that_costs_nothing(self, alice: Account) -> None:
        alice.budget("rate", "$0.10", subject="acme", window="minute")
        alice.budget("acme", "$1")
        alice.settle(alice.place("$0.10"), "$0.20")
        assert alice.remaining("acme") == 800_000_000
        assert alice.place("$0").decision == "allow"
        assert alice.place("$0.01").decision == "budget_exceeded"


class TestWaitingCall:
    def test_whose_client_left_makes_room_for_the_next(self, alice: Account) -> None:
        alice.budget("acme", "$1")
        placed = alice.place("$1")

        async def leave_and_wait() -> str:
            gone = asyncio.create_task(alice.placing("$0.50", wait_ms=10_000))
            patient = asyncio.create_task(alice.placing("$0.60", wait_ms=10_000))
            await alice.placing("$0.10")
            gone.cancel()
            await alice.settling(placed, "$0.40")
            return str((await patient).decision)

        assert alice.world.run(leave_and_wait()) == "allow"
        assert not alice.verify().differences

    def test_that_becomes_the_first_is_told_and_need_not_look(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("budgets.services.waiting.POLL_SECONDS", 3_600.0)

        async def queue() -> None:
            waiters, counter = Waiters(), uuid4()
            tickets = [waiters.join(counter) for _ in range(3)]
            turns = [asyncio.create_task(waiters.turn(ticket, seconds=3_600)) for ticket in tickets]
            for ticket, turn in zip(tickets, turns, strict=True):
                waiters.wake(counter)
                assert await turn
                waiters.leave(ticket)
            assert counter not in waiters

        asyncio.run(queue())


class TestController:
    def test_goes_on_after_redis_refused_a_round(
        self, alice: Account, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("budgets.services.recovery.CHECK_SECONDS", 0.0)
        monkeypatch.setattr("budgets.services.recovery.RENEW_SECONDS", 0.0)
        before = alice.epoch()

        async def control() -> None:
            store, redis = ControlStore(settings.DATABASE_URL), RedisConnection(settings.REDIS_CONTROL_URL)
            await store.open()
            task = asyncio.create_task(Controller(store=store, redis=redis).run())
            try:
                # A failover that is under way: reads are answered, writes are not.
                alice.world.redis.replicaof("127.0.0.1", 1)
                for _ in range(20):
                    await redis.call("PING")
                    await store.epochs()
                alice.world.redis.replicaof("NO", "ONE")
                assert not task.done()
            finally:
                alice.world.redis.replicaof("NO", "ONE")
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
                await redis.close()
                await store.close()

        alice.world.run(control())
        assert alice.epoch().epoch_id == before.epoch_id


class TestConnectionToRedis:
    def test_is_tried_once_for_all_who_wait_for_it_and_closed_if_it_fails(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("budgets.stores.redis.connection.CALL_SECONDS", 0.1)
        ended: list[asyncio.Future[bool]] = []

        async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            ended.append(asyncio.get_running_loop().create_future())
            told = ended[-1]
            await reader.read()
            writer.close()
            told.set_result(True)

        async def calls() -> None:
            server = await asyncio.start_server(silent, "127.0.0.1", 0)
            port = server.sockets[0].getsockname()[1]
            redis = RedisConnection(f"redis://:secret@127.0.0.1:{port}")
            answers = await asyncio.gather(*(redis.call("PING") for _ in range(20)), return_exceptions=True)
            assert all(isinstance(answer, RedisUnavailable) for answer in answers)
            assert [await end for end in ended] == [True]
            await redis.close()
            server.close()
            await server.wait_closed()

        asyncio.run(calls())

    def test_is_to_the_database_that_the_address_names(self) -> None:
        heard = bytearray()
        ended: list[asyncio.Future[bool]] = []

        async def polite(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            ended.append(asyncio.get_running_loop().create_future())
            told = ended[-1]
            while data := await reader.read(1_000):
                heard.extend(data)
                writer.write(b"+OK\r\n")
            writer.close()
            told.set_result(True)

        async def call() -> None:
            server = await asyncio.start_server(polite, "127.0.0.1", 0)
            redis = RedisConnection(f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/3")
            await redis.call("PING")
            await redis.close()
            assert [await end for end in ended] == [True]
            server.close()
            await server.wait_closed()

        asyncio.run(call())
        assert heard.startswith(b"*2\r\n$6\r\nSELECT\r\n$1\r\n3\r\n")


class TestQuestion:
    def test_with_a_character_that_no_text_can_hold_is_a_bad_request(self, alice: Account) -> None:
        alice.budget("each", "$1", subject=EACH)
        answer = alice.world.request("GET", "/v1/remaining?customer=a%00b", secret=alice.secret)
        assert (answer.status, answer.kind) == (400, "invalid-request")

    def test_of_a_project_s_key_is_about_its_project_alone(self, alice: Account) -> None:
        from tenants.services.projects import create_project

        web = create_project(
            tenant_id=alice.tenant_id, slug="web", name="Web", actor="test", now=datetime.now(UTC)
        )
        alice.budget("each", "$1", scope="project", subject=EACH)
        key = alice.key(project_id=web.pk)
        own = alice.world.request("GET", "/v1/remaining", secret=key.secret)
        assert [budget["subject"] for budget in own["budgets"]] == ["web"]
        refused = alice.world.request("GET", "/v1/remaining?project=default", secret=key.secret)
        assert refused.fields == {"project": "this key belongs to project 'web'"}


class TestLimitOfNothing:
    @pytest.mark.parametrize("window", ["total", "minute"])
    def test_refuses_what_costs_and_lets_the_rest_through(self, alice: Account, window: str) -> None:
        alice.budget("acme", "$0", window=window)
        assert alice.place("$0.000000001").decision == "budget_exceeded"
        assert alice.place("$0.000000001", wait_ms=10_000, fit=True).decision == "budget_exceeded"
        assert alice.place("$0.000000001", dry_run=True).decision == "budget_exceeded"
        assert alice.place("$0").decision == "allow"
        assert alice.remaining("acme") == 0
        assert not alice.verify().differences
