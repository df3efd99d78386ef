"""One running provider double for the tests of the double itself, reset before each of them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.doubles.provider import ProviderDouble


@pytest.fixture(scope="module")
def running_double() -> Iterator[ProviderDouble]:
    with ProviderDouble() as double:
        yield double


@pytest.fixture
def double(running_double: ProviderDouble) -> ProviderDouble:
    running_double.reset()
    return running_double
