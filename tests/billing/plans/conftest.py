from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from pytest_django.fixtures import Settings

from tests.doubles.stripe import StripeDouble

if TYPE_CHECKING:
    from tests.billing.book import Book
    from tests.billing.plans.seller import Seller


@pytest.fixture
def seller(book: Book, running_stripe: StripeDouble, settings: Settings) -> Iterator[Seller]:
    """noburn, hosted, selling plans to Alice through the double."""
    # Django's applications are loaded after this file.
    from tests.billing.plans.seller import PLATFORM_KEY, START, Seller

    running_stripe.reset(START)
    running_stripe.settings(signed_at="clock")
    settings.STRIPE_API_BASE = running_stripe.url
    settings.STRIPE_PLATFORM_KEY = PLATFORM_KEY
    settings.NOBURN_PLANS = "hosted"
    made = Seller(book, running_stripe)
    settings.STRIPE_PLATFORM_WEBHOOK_SECRET = made.open()
    yield made
    made.close()
    assert running_stripe.broken() == []
