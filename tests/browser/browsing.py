"""Chromium as people use it: desktop and phone, light and dark; axe-core's findings; screenshots for the documents."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from axe_playwright_python.base import AXE_SCRIPT
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Locator, Page, Playwright

from tests.api.serving import Serving

ROOT = Path(__file__).resolve().parents[2]
SCREENSHOTS = ROOT / "docs" / "screenshots"
# Written only when asked for: a font of another machine would change every picture.
WRITE_SCREENSHOTS = os.environ.get("WRITE_SCREENSHOTS") == "1"
SERIOUS = frozenset({"serious", "critical"})
WAIT_MS = 60_000

SIZES = {"desktop": (1280, 800), "phone": (390, 844)}
SCHEMES = ("light", "dark")
LOOKS = tuple((size, scheme) for size in SIZES for scheme in SCHEMES)
TWO_LOOKS = (("desktop", "light"), ("phone", "dark"))
"""Each size and each scheme once; the other two are looked at by `make soak`."""


def chromium_path() -> str:
    """Where Debian's Chromium is. Raises AssertionError that says how to get it."""
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    assert found, (
        "These tests need Debian's Chromium: `make browser` installs it (as root), or says what to do."
    )
    return found


def launched(playwright: Playwright) -> Browser:
    """A Chromium without a window."""
    # Its sandbox needs another user than root, or rights that containers lack.
    return playwright.chromium.launch(executable_path=chromium_path(), args=["--no-sandbox"])


@dataclass(frozen=True)
class Person:
    """Somebody with a session at the running noburn, and the tenant where they work."""

    email: str
    password: str
    session: str
    tenant: str


class Browsing:
    """A browser at one running noburn. Every page that it opens fails a test when it logs an error."""

    def __init__(self, browser: Browser, running: Serving) -> None:
        self._browser = browser
        self.running = running

    def person(self, *, tenant: str, role: str = "owner", name: str = "Acme Robotics") -> Person:
        """Makes a tenant, where it is not there yet, and a person with a password, a session and this role."""
        email, password = f"{role}@{tenant}.example.com", "correct horse battery"
        text = _MAKE_PERSON.format(email=email, password=password, role=role, slug=tenant, name=name)
        made = self.running.manage("shell", "--verbosity", "0", "-c", text)
        return Person(email=email, password=password, session=made["session"], tenant=tenant)

    @contextmanager
    def page(
        self,
        person: Person | None = None,
        *,
        size: str = "desktop",
        scheme: str = "light",
        scripts: bool = True,
    ) -> Iterator[Page]:
        """A page of a browser of its own, signed in as `person`. It fails when the page logged an error."""
        width, height = SIZES[size]
        context: BrowserContext = self._browser.new_context(
            base_url=self.running.url,
            viewport={"width": width, "height": height},
            color_scheme="dark" if scheme == "dark" else "light",
            reduced_motion="reduce",
            java_script_enabled=scripts,
        )
        context.set_default_timeout(WAIT_MS)
        context.add_init_script(_TELL_VIOLATIONS)
        if person is not None:
            context.add_cookies([{"name": "sessionid", "value": person.session, "url": self.running.url}])
        said: list[str] = []
        page = context.new_page()
        page.on("console", lambda message: said.extend(_complaint(message)))
        page.on("pageerror", lambda error: said.append(str(error)))
        try:
            yield page
        finally:
            context.close()
        assert not said, "\n".join(said)


# Chromium logs most of them itself; this also names those that it keeps to itself.
_TELL_VIOLATIONS = """
document.addEventListener("securitypolicyviolation", violation => console.error(
    `Content-Security-Policy: ${violation.effectiveDirective} ${violation.blockedURI} ${violation.sample}`
));
"""


def _complaint(message: ConsoleMessage) -> list[str]:
    # A page that says "not valid" has a status of its own, which Chromium logs as if it were a fault.
    if message.type != "error" or re.search(r"status of (400|403|404|409|422|429)", message.text):
        return []
    return [f"{message.text} at {message.location.get('url', '')}"]


def violations(page: Page, *, rules: tuple[str, ...] = ()) -> list[str]:
    """What axe-core finds serious or worse on the page, a line for each; by all rules, or by some."""
    if not page.evaluate("typeof axe === 'object'"):
        page.evaluate(AXE_SCRIPT)
    options: dict[str, Any] = {"resultTypes": ["violations"]}
    if rules:
        options["runOnly"] = {"type": "rule", "values": list(rules)}
    found: dict[str, Any] = page.evaluate("options => axe.run(options)", options)
    return [
        f"{each['id']}: {each['help']}: {node['html'][:200]}"
        for each in found["violations"]
        if each["impact"] in SERIOUS
        for node in each["nodes"]
    ]


def scrolls_sideways(page: Page) -> bool:
    """Whether the page as a whole is wider than the window."""
    wide: bool = page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth")
    return wide


OF_LOOKS = ("color-contrast", "scrollable-region-focusable", "target-size", "meta-viewport")
"""Rules of axe-core whose answer depends on the colours or the width; the others read the markup, which is the same."""


def take_look(page: Page, look: tuple[str, str]) -> None:
    """Turns the page as it stands into another look: nothing is loaded anew."""
    size, scheme = look
    width, height = SIZES[size]
    page.set_viewport_size({"width": width, "height": height})
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light", reduced_motion="reduce")


def unsound(page: Page, *, looks: Sequence[tuple[str, str]] = TWO_LOOKS) -> list[str]:
    """What is wrong with the page: by every rule in the first look, by those of looks in the others; and its width."""
    found = []
    for at, look in enumerate(looks):
        take_look(page, look)
        found += [f"{look}: {each}" for each in violations(page, rules=OF_LOOKS if at else ())]
        if scrolls_sideways(page):
            found.append(f"{look}: scrolls sideways")
    take_look(page, looks[0])
    return found


def unsound_pages(page: Page, addresses: Mapping[str, str], *, looks: Sequence[tuple[str, str]]) -> list[str]:
    """What is wrong with each of these pages, by their names."""
    found = []
    for name, address in addresses.items():
        page.goto(address)
        found += [f"{name}: {each}" for each in unsound(page, looks=looks)]
    return found


def screenshot(page: Page, name: str) -> None:
    """Writes a picture of the window to docs/screenshots."""
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SCREENSHOTS / f"{name}.png", animations="disabled")


def pictures(page: Page, name: str, *, of: Locator | None = None) -> None:
    """Pictures of the page as it stands, or of where something is on it, in all four looks, when they are wanted."""
    if not WRITE_SCREENSHOTS:
        return
    for look in LOOKS:
        take_look(page, look)
        if of is not None:
            of.evaluate("element => element.scrollIntoView({block: 'center'})")
        screenshot(page, f"{name}-{look[0]}-{look[1]}")
    take_look(page, LOOKS[0])


SIGN_IN = """
import json
from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.contrib.sessions.backends.db import SessionStore
session = SessionStore()
session[SESSION_KEY] = str(user.pk)
session[BACKEND_SESSION_KEY] = settings.AUTHENTICATION_BACKENDS[0]
session[HASH_SESSION_KEY] = user.get_session_auth_hash()
session.create()
print(json.dumps({{"session": session.session_key}}))
"""
"""What a program in noburn's shell ends with, to sign its `user` in; for `str.format`."""

_MAKE_PERSON = (
    """
from noburn.kit.clock import utc_now
from tenants.models import Member, Tenant, User
from tenants.services.tenants import create_tenant
now = utc_now()
tenant = Tenant.objects.filter(slug={slug!r}).first()
if tenant is None:
    tenant = create_tenant(
        slug={slug!r}, name={name!r}, email="owner@" + {slug!r} + ".example.com",
        time_zone="Europe/Berlin", actor="command:test", now=now,
    ).tenant
user = User.objects.filter(email={email!r}).first() or User.objects.create_user({email!r})
user.set_password({password!r})
user.save()
Member.objects.get_or_create(tenant=tenant, user=user, defaults={{"role": {role!r}}})
"""
    + SIGN_IN
)
