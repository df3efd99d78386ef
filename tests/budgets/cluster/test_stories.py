"""The stories of holds, epochs and expiry once more, on a Redis Cluster."""

from tests.budgets.escrow.test_epochs import (
    TestFence,
    TestLossOfRedis,
    TestPlannedClose,
    TestTakeOver,
    TestWriteOff,
)
from tests.budgets.escrow.test_expiry import *  # noqa: F403
from tests.budgets.escrow.test_hold_stories import *  # noqa: F403

__all__ = ["TestFence", "TestLossOfRedis", "TestPlannedClose", "TestTakeOver", "TestWriteOff"]
