"""Running doubles for the tests of the doubles themselves, reset before each of them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.doubles.provider import ProviderDouble
from tests.doubles.stripe import StripeDouble
from tests.doubles.stripe.shop import START, Shop


@pytest.fixture(scope="module")
def running_double() -> Iterator[ProviderDouble]:
    with ProviderDouble() as double:
        yield double


@pytest.fixture
def double(running_double: ProviderDouble) -> ProviderDouble:
    running_double.reset()
    return running_double


@pytest.fixture(scope="module")
def running_stripe() -> Iterator[StripeDouble]:
    with StripeDouble() as double:
        yield double


@pytest.fixture
def stripe_double(running_stripe: StripeDouble) -> Iterator[StripeDouble]:
    running_stripe.reset(START)
    yield running_stripe
    assert running_stripe.broken() == []


@pytest.fixture
def shop(stripe_double: StripeDouble) -> Shop:
    return Shop(stripe_double)
