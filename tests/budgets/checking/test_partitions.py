"""Months whose partitions nobody made: rows wait in the default one, and are moved when the months are made."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.support.world import World

pytestmark = pytest.mark.real_db

MONTH = "2019-03-01"


class TestMissingPartition:
    def test_is_made_over_the_rows_that_came_meanwhile(self, world: World) -> None:
        alice = world.account("alice")
        alice.budget("acme", "$1.00")
        alice.settle(alice.place("$0.10"), "$0.04")
        for table in ("hold_resolutions", "ledger_entries"):
            # As if the hold had been placed in a month that nobody had made ready.
            world.sql(f"UPDATE {table} SET placed_month = %s WHERE tenant_id = %s", MONTH, alice.tenant_id)
            assert self.partitions(alice.tenant_id, world, table) == {f"{table}_default"}
        positions = world.sql("SELECT position FROM ledger_entries WHERE tenant_id = %s", alice.tenant_id)
        assert world.sql("SELECT nb_make_partitions(%s, 1)", MONTH) == [(2,)]
        assert world.sql("SELECT nb_make_partitions(%s, 1)", MONTH) == [(0,)]
        for table in ("hold_resolutions", "ledger_entries"):
            assert self.partitions(alice.tenant_id, world, table) == {f"{table}_201903"}
            rights = world.sql("SELECT has_table_privilege('noburn_app', %s, 'UPDATE')", f"{table}_201903")
            assert rights == [(False,)]
        assert positions == world.sql(
            "SELECT position FROM ledger_entries WHERE tenant_id = %s", alice.tenant_id
        )
        assert not alice.verify().differences

    def partitions(self, tenant_id: object, world: World, table: str) -> set[str]:
        rows = world.sql(
            f"SELECT DISTINCT tableoid::regclass::text FROM {table} WHERE tenant_id = %s", tenant_id
        )
        return {row[0] for row in rows}
