"""A second gateway, and services that never wait for a clock."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from budgets.gateway.app import GatewayApp
    from tests.support.world import World


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether a call waits for a recovery, or a message for its repetition, is no question here."""
    monkeypatch.setattr("budgets.services.epochs.RECOVERY_SECONDS", 0.0)
    monkeypatch.setattr("budgets.services.epochs.RELOAD_SECONDS_MIN", 0.0)
    monkeypatch.setattr("budgets.services.grants.ACK_SECONDS", 0.0)
    monkeypatch.setattr("budgets.services.sweeping.UNACKED_AGE_MS", 0)


@pytest.fixture(autouse=True)
def _one_shard(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """All tenants in one shard, since recoveries and sweeps of the 63 others would be most of the work."""
    if "world" not in request.fixturenames:
        yield
        return
    world: World = request.getfixturevalue("world")
    with monkeypatch.context() as patch:
        patch.setattr("budgets.stores.redis.keys.SHARDS", 1)
        patch.setattr("budgets.services.recovery.SHARDS", 1)
        world.sql(
            """UPDATE epochs SET state = 'closed', closed_at = now(), cleaned_at = now(), reason = 'set aside by a test'
            WHERE shard > 0 AND state <> 'closed'"""
        )
        yield
    world.lose_redis()
    world.recover()


@pytest.fixture
def other(world: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[GatewayApp]:
    """A gateway that learns of epochs and policies only when it has to."""
    from budgets.gateway.app import GatewayApp
    from tests.support.world import gateway_config

    monkeypatch.setattr("budgets.services.epochs.POLL_SECONDS", 3_600.0)
    monkeypatch.setattr("budgets.services.snapshots.POLL_SECONDS", 3_600.0)
    app = GatewayApp(gateway_config())
    world.run(app.startup())
    yield app
    world.run(app.shutdown())
