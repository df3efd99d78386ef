from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any
from uuid import UUID

import psycopg
import pytest

from tests.budgets.metering.conftest import owner as owner
from tests.budgets.metering.conftest import tenant as tenant
from tests.doubles.stripe import StripeDouble

if TYPE_CHECKING:
    from tests.billing.book import Book


@pytest.fixture(scope="module")
def running_stripe() -> Iterator[StripeDouble]:
    """The double of Stripe, for the tests of a file."""
    # Django's applications are loaded after this file.
    from billing.stripe.client import close_connections

    with StripeDouble() as double:
        yield double
        close_connections()


@pytest.fixture
def book(tenant: Callable[[str], UUID], owner: psycopg.Connection[Any]) -> Iterator[Book]:
    """The calls of a tenant of Alice's own, at any time: also where other tests had hours pruned."""
    # Django's applications are loaded after this file.
    from tests.billing.book import Book

    kept = owner.execute("SELECT hours_from FROM usage_cursor").fetchone()
    owner.execute("UPDATE usage_cursor SET hours_from = '1970-01-01 00:00:00+00'")
    yield Book(owner, tenant("alice"))
    owner.execute("UPDATE usage_cursor SET hours_from = greatest(hours_from, %s)", kept)
