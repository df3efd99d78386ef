"""Windows that end while calls are in flight. Redis TIME decides; hours last a second here."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from budgets.domain.windows import Window

if TYPE_CHECKING:
    from tests.support.world import Account

pytestmark = pytest.mark.real_db

SECOND = timedelta(seconds=1)


@pytest.fixture
def short_hours(monkeypatch: pytest.MonkeyPatch) -> None:
    def window_at(_kind: object, *, now: datetime, **_options: object) -> Window:
        starts = now.replace(microsecond=0)
        return Window(starts, starts + SECOND)

    monkeypatch.setattr("budgets.domain.demands.window_at", window_at)


def wait_for_another_window(account: Account, than_ms: int) -> None:
    while account.world.redis_ms() // 1000 == than_ms // 1000:
        account.world.request("GET", "/healthz")


@pytest.mark.usefixtures("short_hours")
class TestHoldInFlight:
    def test_belongs_to_the_window_in_which_it_was_placed(self, alice: Account) -> None:
        alice.budget("acme", "$1", window="hour")
        first = alice.place("$0.90")
        wait_for_another_window(alice, alice.hold_of(first).placed_ms)
        second = alice.place("$0.80")
        assert (first.decision, second.decision) == ("allow", "allow")
        assert first["budgets"][0]["resets_at"] < second["budgets"][0]["resets_at"]
        alice.settle(first, "$0.50")
        alice.settle(second, "$0.20")
        spent = alice.world.sql(
            "SELECT spent FROM counters WHERE tenant_id = %s ORDER BY starts_at", alice.tenant_id
        )
        assert spent == [(500_000_000,), (200_000_000,)]
        assert not alice.verify().differences

    def test_waits_in_vain_for_a_window_and_gets_the_next(self, alice: Account) -> None:
        alice.budget("acme", "$1", window="hour")
        alice.place("$0.90")
        # Nobody settles: what lets it through is the next window.
        assert alice.place("$0.80", wait_ms=5_000).decision == "allow"
        assert not alice.verify().differences


class TestClockOfTheGateway:
    @pytest.mark.parametrize("hours", [-30, 30])
    def test_may_be_wrong_since_redis_tells_the_time(
        self, alice: Account, monkeypatch: pytest.MonkeyPatch, hours: int
    ) -> None:
        wrong = datetime.now(UTC) + timedelta(hours=hours)
        monkeypatch.setattr("budgets.services.holds._now_ms", lambda: int(wrong.timestamp() * 1000))
        alice.budget("acme", "$1", window="hour")
        placed = alice.place("$0.40")
        assert placed.decision == "allow"
        ends = datetime.fromisoformat(placed["budgets"][0]["resets_at"])
        at = datetime.fromtimestamp(alice.hold_of(placed).placed_ms / 1000, UTC)
        assert timedelta() < ends - at <= timedelta(hours=1)


class TestEndedWindow:
    def test_is_retired_from_redis_by_the_sweep(self, alice: Account) -> None:
        alice.budget("acme", "$1", window="hour")
        alice.settle(alice.place("$0.40"), "$0.25")
        assert alice.acknowledged()
        counter = alice.counter("acme")
        alice.world.sql(
            """UPDATE counters SET starts_at = starts_at - interval '1 day', ends_at = ends_at - interval '1 day'
            WHERE counter_id = %s""",
            counter["id"],
        )
        assert alice.world.sweep().retired == 1
        assert not alice.world.redis.exists(alice.keys().counter(counter["id"]))
        assert alice.counter("acme")["authority"] == 0
        assert alice.counter("acme")["spent"] == 250_000_000
        assert not alice.verify().differences
