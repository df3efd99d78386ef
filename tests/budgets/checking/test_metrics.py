"""`/metrics`: gauges of what the checker found, for who has the token."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from django.test import Client

if TYPE_CHECKING:
    from tests.support.world import Account

pytestmark = pytest.mark.real_db

TOKEN = "a token that nobody guesses"


@pytest.fixture
def token(settings: Any) -> str:
    settings.METRICS_TOKEN = TOKEN
    return TOKEN


def gauges(client: Client) -> dict[str, float]:
    answer = client.get("/metrics", headers={"authorization": f"Bearer {TOKEN}"})
    assert answer.status_code == 200
    lines = answer.content.decode().splitlines()
    return {
        name: float(value)
        for name, value in (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    }


class TestMetrics:
    def test_is_not_there_without_a_token_in_the_settings(self, client: Client, settings: Any) -> None:
        settings.METRICS_TOKEN = ""
        assert client.get("/metrics", headers={"authorization": "Bearer "}).status_code == 404

    def test_is_for_who_has_the_token(self, client: Client, token: str) -> None:
        for told in ("", "Bearer", "Bearer ", f"Basic {token}", f"Bearer {token}s"):
            assert client.get("/metrics", headers={"authorization": told}).status_code == 401

    def test_tells_of_drift_and_of_its_end(self, client: Client, token: str, alice: Account) -> None:
        alice.budget("acme", "$1.00")
        alice.settle(alice.place("$0.10"), "$0.04")
        alice.acknowledged()
        world = alice.world
        counter = alice.counter("acme")["id"]
        world.run(world.operations.check(seconds=60.0))
        before = gauges(client)
        assert before['noburn_epochs{state="open"}'] == 64
        alice.settle(alice.place("$0.10"), "$0.04")
        world.sql("UPDATE counters SET spent = spent + 5 WHERE counter_id = %s", counter)
        world.run(world.operations.check(seconds=60.0))
        name = 'noburn_verify_differences{part="changes"}'
        assert gauges(client)[name] == before[name] + 1
        world.sql("UPDATE counters SET spent = spent - 5 WHERE counter_id = %s", counter)
        world.run(world.operations.check(seconds=60.0))
        assert gauges(client)[name] == before[name]
