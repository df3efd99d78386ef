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
