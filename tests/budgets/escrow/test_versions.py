"""Programs of two versions on one Redis: the epoch's own scripts serve both, and an upgrade strands nothing."""

from __future__ import annotations

import json

import pytest

from tests.support.world import Account, World

pytestmark = pytest.mark.real_db


def as_if_opened_by_another_version(world: World) -> None:
    """Marks every open epoch as another version's; its scripts stay loaded and named."""
    world.sql(
        "UPDATE epochs SET scripts = scripts || %s WHERE state <> 'closed'", json.dumps({"sources": "older"})
    )


class TestEpochOfAnotherVersion:
    def test_goes_on_serving_with_its_own_scripts(self, world: World, alice: Account) -> None:
        alice.budget("acme", "$1.00")
        as_if_opened_by_another_version(world)
        assert alice.place("$0.40", customer="acme")["decision"] == "allow"

    def test_is_closed_as_planned_when_a_controller_starts(self, world: World, alice: Account) -> None:
        alice.budget("acme", "$1.00")
        placed = alice.place("$0.40", customer="acme")
        as_if_opened_by_another_version(world)
        assert world.run(world.operations.upgrade()) == 64
        assert world.run(world.operations.upgrade()) == 0
        (stranded,) = alice.stranded()
        assert stranded["authority"] == 400_000_000, "the open hold, and nothing else"
        alice.settle(placed, "$0.25")
        assert alice.stranded() == []
        assert alice.place("$0.75", customer="acme")["decision"] == "allow"
        assert alice.verify().differences == ()
