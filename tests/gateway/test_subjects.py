"""Customers and users that exist from their first call on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from django.conf import settings

from budgets.services.subjects import Subjects
from budgets.stores.postgres.money import MoneyStore

if TYPE_CHECKING:
    from tests.support.world import Account

pytestmark = pytest.mark.real_db


def names(account: Account) -> list[str]:
    rows = account.world.sql(
        "SELECT external_id FROM tenants_customer WHERE tenant_id = %s ORDER BY 1", account.tenant_id
    )
    return [row[0] for row in rows]


async def register(account: Account, *rounds: list[str]) -> None:
    """Each round is noted and then registered, on a store of its own."""
    store = MoneyStore(settings.DATABASE_GATEWAY_URL, connections=1)
    await store.open()
    subjects = Subjects(store)
    for customers in rounds:
        for customer in customers:
            subjects.seen(account.tenant_id, customer, "")
        await subjects.stop()
    await store.close()


class TestSubjects:
    def test_are_registered_once(self, alice: Account) -> None:
        alice.world.run(register(alice, ["one", "two", "one"], ["two", "three"]))
        assert names(alice) == ["one", "three", "two"]

    def test_that_postgresql_refuses_do_not_keep_later_ones_out(
        self, alice: Account, caplog: pytest.LogCaptureFixture
    ) -> None:
        alice.world.run(register(alice, ["a\u0000b"], ["later"]))
        assert names(alice) == ["later"]
        assert "cannot be registered" in caplog.text

    def test_come_from_calls_that_were_let_through(self, alice: Account) -> None:
        alice.budget("acme", "$0.10")
        assert alice.place("$0.20").decision == "budget_exceeded"
        assert alice.place("$0.10", customer="paying").decision == "allow"
        for _ in range(2_000):
            if names(alice):
                break
            alice.world.request("GET", "/readyz")
        assert names(alice) == ["paying"]
