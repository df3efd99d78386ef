from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.budgets.metering.conftest import process as process

if TYPE_CHECKING:
    from tests.budgets.rerating.desk import Desk
    from tests.support.world import Account


@pytest.fixture
def desk(alice: Account) -> Desk:
    """Alice's calls, on a model of her own whose price she negotiates as she likes."""
    from tests.budgets.rerating.desk import Desk

    return Desk(alice)
