"""A whole noburn and a Chromium at it, for the tests of this room."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.api.serving import Serving, serving
from tests.browser.browsing import Browsing, launched


@pytest.fixture(scope="package")
def running() -> Iterator[Serving]:
    """A noburn as `make serve` starts it, for all tests of this room."""
    with serving() as served:
        yield served


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """A Chromium; of a module, since Playwright has an event loop that tests elsewhere would stumble over."""
    with sync_playwright() as playwright:
        browser = launched(playwright)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def browsing(chromium: Browser, running: Serving) -> Browsing:
    """The browser at the running noburn."""
    return Browsing(chromium, running)
