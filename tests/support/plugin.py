"""Fixtures of the money path. Django's applications are loaded after this file, so it imports them late."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.support.world import Account, World


@pytest.fixture(scope="session")
def _world(real_database: None, servers: dict[str, str]) -> Iterator[World]:
    from tests.support.world import World

    world = World()
    yield world
    world.close()


@pytest.fixture
def world(_world: World) -> World:
    """A gateway and an operator in this process, with an open epoch in every shard that is good for a minute."""
    _world.recover()
    return _world


@pytest.fixture
def alice(world: World) -> Account:
    """A tenant of its own, with a key that may do everything."""
    return world.account("alice")
