from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from pytest_django.fixtures import Settings

from tests.doubles.stripe import StripeDouble

if TYPE_CHECKING:
    from tests.billing.book import Book
    from tests.billing.push.till import Till


@pytest.fixture
def stripe_double(running_stripe: StripeDouble, settings: Settings) -> Iterator[StripeDouble]:
    """The double, fresh; what it answered was at the end something that Stripe could have answered."""
    running_stripe.reset()
    settings.STRIPE_API_BASE = running_stripe.url
    yield running_stripe
    assert running_stripe.broken() == []


@pytest.fixture
def till(book: Book, stripe_double: StripeDouble) -> Iterator[Till]:
    """Alice's billing, set up at the double, with a clock that moves both."""
    # Django's applications are loaded after this file.
    from tests.billing.push.till import Till, forget_others

    forget_others()
    made = Till(book, stripe_double)
    made.open()
    yield made
    forget_others()
