"""A gateway refuses with `plan_limit` while the policy says so, and no longer."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from tenants.services.suspension import refuse_calls

if TYPE_CHECKING:
    from tests.support.world import Account

pytestmark = pytest.mark.real_db


class TestPlanLimit:
    def test_refuses_at_once_and_lets_through_again(self, alice: Account) -> None:
        now = datetime.now(UTC)
        held = alice.place("$0.01")
        assert held["decision"] == "allow"
        refuse_calls(tenant_id=alice.tenant_id, until=now + timedelta(days=1), actor="test", now=now)
        refused = alice.place("$0.01")
        assert (refused["decision"], refused["reason"]) == ("deny", "plan_limit")
        # What is in flight settles all the same.
        assert alice.world.run(alice.settling(held, "$0.01")).status == 200
        refuse_calls(tenant_id=alice.tenant_id, until=None, actor="test", now=now)
        assert alice.place("$0.01")["decision"] == "allow"

    def test_ends_by_itself_with_the_period(self, alice: Account) -> None:
        now = datetime.now(UTC)
        refuse_calls(tenant_id=alice.tenant_id, until=now - timedelta(seconds=1), actor="test", now=now)
        assert alice.place("$0.01")["decision"] == "allow"
