"""A whole noburn and a Chromium at it, for the tests of this room."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.api.serving import Attached, Serving, serving
from tests.browser.browsing import Browsing, launched

# Of a noburn that runs already, so that who writes pages need not wait for one each time.
HOME, PORT = os.environ.get("NOBURN_BROWSER_HOME"), int(os.environ.get("NOBURN_BROWSER_PORT", "8420"))


@pytest.fixture(scope="package")
def running() -> Iterator[Serving]:
    """A noburn as `make serve` starts it, for all tests of this room; or one that runs."""
    if HOME is not None:
        yield Attached(HOME, PORT)
        return
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
