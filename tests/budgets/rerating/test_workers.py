"""Workers that are killed, that work side by side, and that work while calls are settled."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from subprocess import Popen
from typing import TYPE_CHECKING, Any

import pytest

from budgets import tasks
from budgets.models import Rerating, ReratingState
from budgets.services import reratings
from budgets.services.reratings import NewRerating
from noburn.celery import app
from tests.budgets.rerating.desk import DAY, USAGE, now
from tests.budgets.rerating.test_rerating import CHEAP, DEAR

if TYPE_CHECKING:
    from tests.budgets.rerating.desk import Desk

pytestmark = pytest.mark.real_db

MEGABYTE = 1_024
WORKER = "tests.budgets.rerating.worker"
Start = Callable[..., Popen[str]]


def _asked(desk: Desk) -> Rerating:
    wanted = NewRerating(starts_at=now() - DAY, reason="a test")
    return reratings.request_rerating(
        tenant_id=desk.account.tenant_id, wanted=wanted, actor="command:test", now=now()
    )


def _applying(desk: Desk, row: Rerating) -> None:
    reratings.apply_rerating(
        tenant_id=desk.account.tenant_id, rerating_id=row.pk, actor="command:test", now=now()
    )


def _ready(process: Start, row: Rerating, calls: int) -> Popen[str]:
    worker = process("-m", WORKER, str(row.pk), str(calls))
    assert worker.stdout is not None
    assert worker.stdout.readline() == "ready\n"
    return worker


def _go(worker: Popen[str]) -> Popen[str]:
    assert worker.stdin is not None
    worker.stdin.write("\n")
    worker.stdin.flush()
    return worker


def _lines(process: Popen[str]) -> list[list[int]]:
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    return [[int(word) for word in line.split()] for line in out.splitlines()]


class TestWorkers:
    @pytest.mark.parametrize("count", [1_500, pytest.param(20_000, marks=pytest.mark.soak)])
    def test_go_on_where_a_killed_one_was_and_keep_their_memory_bounded(
        self, count: int, desk: Desk, process: Start
    ) -> None:
        desk.account.budget("all", "$1000", scope="tenant")
        desk.price("2")
        desk.call()
        ((price_id,),) = desk.world.sql(
            "SELECT price_id FROM ledger_entries WHERE tenant_id = %s", desk.account.tenant_id
        )
        desk.bulk(count - 1, price_id=price_id, cost=DEAR, usage=USAGE)
        desk.price("1")

        row = _asked(desk)
        doomed = _go(_ready(process, row, 200))
        assert doomed.stdout is not None
        for _ in range(3):
            assert doomed.stdout.readline()
        doomed.send_signal(signal.SIGKILL)
        doomed.wait(timeout=20)
        row.refresh_from_db()
        assert (row.state, 600 <= row.seen_calls < count) == (ReratingState.PREVIEWING, True)
        steps = _lines(_go(_ready(process, row, 200)))
        row.refresh_from_db()
        assert (row.state, row.seen_calls, row.changed_calls) == (ReratingState.PREVIEWED, count, count)
        assert (row.old_nano, row.new_nano) == (count * DEAR, count * CHEAP)
        assert steps[-1][1] - steps[0][1] < 32 * MEGABYTE

        _applying(desk, row)
        steady, doomed = (_ready(process, row, 100) for _ in range(2))
        _go(doomed)
        assert doomed.stdout is not None
        assert doomed.stdout.readline()
        _go(steady)
        doomed.send_signal(signal.SIGKILL)
        doomed.wait(timeout=20)
        steps = _lines(steady)
        assert steps[-1][1] - steps[0][1] < 32 * MEGABYTE
        row.refresh_from_db()
        assert (row.state, row.applied_calls, row.moved_calls) == (ReratingState.APPLIED, count, 0)
        assert row.applied_nano == count * (CHEAP - DEAR)
        assert desk.account.counter("all")["spent"] == count * CHEAP
        assert desk.usage() == (count * CHEAP, count)
        desk.exact()
        assert desk.preview().changed_calls == 0

    def test_and_settlements_of_the_same_holds_do_not_hinder_each_other(
        self, desk: Desk, process: Start
    ) -> None:
        desk.account.budget("acme", "$10")
        desk.account.budget("all", "$10", scope="tenant", window="month")
        desk.price("2")
        settled = [desk.place() for _ in range(60)]
        late = [desk.place() for _ in range(40)]
        first = desk.world.all(desk.account.settling(placed, usage=USAGE) for placed in settled)
        desk.world.all(desk.account.settling(placed, usage=None) for placed in late)
        desk.price("1")
        row = desk.preview()
        _applying(desk, row)
        worker = _go(_ready(process, row, 2))

        async def meanwhile() -> list[Any]:
            again = [desk.account.settling(placed, usage=USAGE) for placed in settled]
            other = [desk.account.settling(placed, usage={**USAGE, "output_tokens": 1}) for placed in settled]
            come = [desk.account.settling(placed, usage=USAGE) for placed in late]
            return [await asyncio.gather(*each) for each in (again, come, other)]

        assert worker.stdout is not None
        # It is at work once it said so.
        assert worker.stdout.readline()
        again, come, other = desk.world.run(meanwhile())
        assert sum(calls for calls, _ in _lines(worker)) >= 58
        assert [answer.body for answer in again] == [{**answer.body, "replayed": True} for answer in first]
        assert {answer.status for answer in other} == {409}
        assert {(answer.status, answer["cost_usd"]) for answer in come} == {(200, "0.003")}
        row.refresh_from_db()
        assert (row.state, row.applied_calls, row.moved_calls) == (ReratingState.APPLIED, 60, 0)
        assert desk.spent() == 60 * CHEAP + 40 * DEAR
        assert desk.account.counter("acme")["spent"] == 60 * CHEAP + 40 * DEAR
        desk.exact()
        # What came late is another re-rating's.
        assert desk.rerate().applied_calls == 40
        assert desk.spent() == 100 * CHEAP
        desk.exact()


class TestTasks:
    @pytest.mark.parametrize(
        ("name", "queue"), [("budgets.metering.rerate", "metering"), ("budgets.prune_reratings", "default")]
    )
    def test_are_scheduled_and_have_their_queue(self, name: str, queue: str) -> None:
        assert tasks.BEAT[name]["task"] == name
        assert app.amqp.router.route({}, name)["queue"].name == queue

    def test_go_on_with_what_was_asked_for(self, desk: Desk) -> None:
        desk.price("2")
        desk.call()
        desk.price("1")
        row = _asked(desk)
        tasks.rerate()
        row.refresh_from_db()
        assert (row.state, row.changed_calls) == (ReratingState.PREVIEWED, 1)
        _applying(desk, row)
        tasks.rerate()
        tasks.prune_reratings()
        row.refresh_from_db()
        assert (row.state, row.applied_calls) == (ReratingState.APPLIED, 1)
