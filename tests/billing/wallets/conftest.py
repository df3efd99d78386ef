from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.billing.wallets.desk import Desk
    from tests.support.world import Account


@pytest.fixture
def desk(alice: Account) -> Desk:
    """Alice's wallets."""
    from tests.billing.wallets.desk import Desk

    return Desk(alice, datetime.now(UTC))
