from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.support.api import Api
    from tests.tenants.cast import Cast


@pytest.fixture
def cast(real_database: None) -> Cast:
    # Django's applications are loaded after this file.
    from tests.tenants.cast import make_cast

    return make_cast()


@pytest.fixture
def api(cast: Cast) -> Api:
    """Alice's tenant, asked with a key that may manage and read."""
    from tests.tenants.cast import api_of

    return api_of(cast.tenant, "read", "manage")
