"""Runs of the original client: their own cap, their end, and a stop from anywhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.original.wire import booked, check, posting, tell
from tests.support.asgi import Answer

if TYPE_CHECKING:
    from tests.support.world import Account

pytestmark = pytest.mark.real_db


def start(alice: Account, **fields: Any) -> Answer:
    """Starts a run."""
    body = {"project_id": "default", "budget_cap_usd": 0.5, "end_user_id": None, "metadata": None, **fields}
    answer: Answer = alice.world.run(posting(alice, "/api/v1/runs", body))
    return answer


def close(alice: Account, run: str, how: str, **fields: Any) -> Answer:
    """Ends or stops a run."""
    body = {"project_id": "default", **fields}
    answer: Answer = alice.world.run(posting(alice, f"/api/v1/runs/{run}/{how}", body))
    return answer


class TestRun:
    def test_is_held_to_its_cap(self, alice: Account) -> None:
        started = start(alice, end_user_id="u1", metadata={"kind": "nightly", "items": [1, 2], "n": 3})
        assert (started.status, started["budget_cap_usd"]) == (201, 0.5)
        run = started["run_id"]
        allowed = check(alice, 0.3, run_id=run)
        assert (allowed["allowed"], allowed["run_spend_usd"], allowed["run_cap_usd"]) == (True, 0, 0.5)
        tell(alice, 0.25, run_id=run)
        refused = check(alice, 0.3, run_id=run)
        assert (refused["allowed"], refused["reason"]) == (False, "budget_exceeded")
        assert (refused["run_spend_usd"], refused["run_remaining_usd"]) == (0.25, 0.25)

    def test_of_which_nothing_was_refused_ends_completed(self, alice: Account) -> None:
        run = start(alice)["run_id"]
        check(alice, 0.3, run_id=run)
        tell(alice, 0.25, run_id=run)
        ended = close(alice, run, "end")
        assert (ended["status"], ended["spend_usd"], ended["budget_cap_usd"]) == ("completed", 0.25, 0.5)
        assert ended["started_at"] <= ended["ended_at"]
        assert close(alice, run, "end").body == ended.body

    def test_without_a_cap_has_none(self, alice: Account) -> None:
        started = start(alice, budget_cap_usd=None)
        assert started["budget_cap_usd"] is None
        assert check(alice, 100, run_id=started["run_id"])["allowed"] is True

    def test_that_spent_its_cap_ends_as_such(self, alice: Account) -> None:
        run = start(alice)["run_id"]
        tell(alice, 0.5, run_id=run)
        assert close(alice, run, "end")["status"] == "budget_exceeded"

    def test_that_is_stopped_lets_nothing_more_through_and_records_what_was_under_way(
        self, alice: Account
    ) -> None:
        run = start(alice)["run_id"]
        check(alice, 0.3, run_id=run)
        stopped = close(alice, run, "stop", reason="spend spike")
        assert (stopped["status"], stopped["stopped_now"]) == ("stopped", True)
        assert (stopped["stopped_reason"], stopped["stopped_at"]) == ("spend spike", stopped["ended_at"])
        assert close(alice, run, "stop")["stopped_now"] is False
        refused = check(alice, 0.01, run_id=run)
        assert (refused["allowed"], refused["reason"]) == (False, "run_stopped")
        assert tell(alice, 0.2, run_id=run)["matched"] is True
        assert tell(alice, 0.1, run_id=run, timestamp="later")["matched"] is False
        assert booked(alice) == [("settled", "0.2"), ("settled", "0.1")]
        assert close(alice, run, "end")["spend_usd"] == 0.3

    def test_that_nobody_started_is_404(self, alice: Account) -> None:
        answer = close(alice, "nowhere", "end")
        assert (answer.status, answer.kind) == (404, "not-found")

    def test_of_another_tenant_goes_on(self, alice: Account) -> None:
        charlie = alice.world.account("charlie")
        run = start(charlie)["run_id"]
        assert close(alice, run, "end").status == 404
        # A name may be stopped before anybody starts it: that is Alice's, and Charlie's is another.
        assert close(alice, run, "stop")["status"] == "stopped"
        assert check(charlie, 0.1, run_id=run)["allowed"] is True

    def test_names_every_bad_field(self, alice: Account) -> None:
        answer = start(alice, budget_cap_usd=-1, end_user_id=[], metadata="x")
        assert (answer.status, set(answer.fields)) == (400, {"budget_cap_usd", "end_user_id", "metadata"})
        assert start(alice, project_id="nowhere").status == 403
        assert alice.world.request("GET", "/api/v1/runs", secret=alice.secret).status == 405
