from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from uuid import UUID

import psycopg
import pytest

from tests.budgets.metering.conftest import owner as owner
from tests.budgets.metering.conftest import tenant as tenant

if TYPE_CHECKING:
    from tests.billing.book import Book


@pytest.fixture
def book(tenant: Callable[[str], UUID], owner: psycopg.Connection[Any]) -> Book:
    """The calls of a tenant of Alice's own."""
    # Django's applications are loaded after this file.
    from tests.billing.book import Book

    return Book(owner, tenant("alice"))
