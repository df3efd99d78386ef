"""A worker is killed at every step of set-up, links, freezing, pushing and handling; the next one goes on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.billing.push.processes import dies
from tests.billing.push.till import HOUR, START

if TYPE_CHECKING:
    from tests.billing.push.till import Till

pytestmark = pytest.mark.real_db

NOON = START + 12 * HOUR


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

    def test_in_freezing_leaves_nothing_half_written(self, till: Till) -> None:
        till.link()
        till.use(500, NOON)
        till.to(NOON + 2 * HOUR)
        till.book.roll()
        dies(till, "freeze", "frozen")
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
