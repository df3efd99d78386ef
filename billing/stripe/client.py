"""The one place where Stripe's client is made, and where its failures become billing's own.

The API version is pinned: an account's default version changes nothing here. One pool of connections serves a
process; every request ends by a time-out, and is repeated by the client at most `retries` times, with one key.
"""

from __future__ import annotations

import atexit
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from http.cookiejar import DefaultCookiePolicy
from typing import Any, Final

import requests
import stripe
from django.conf import settings
from stripe import StripeClient

from billing.domain.sink import (
    AlreadyTaken,
    SinkBusy,
    SinkConflict,
    SinkError,
    SinkMissing,
    SinkRefused,
    SinkUnauthorized,
    SinkUnavailable,
)

API_VERSION: Final = "2026-10-28.endive"
"""What the code was written against. A newer client speaks this version until somebody has read what changed."""

CONNECT_SECONDS: Final = 5.0
ANSWER_SECONDS: Final = 10.0
RETRIES: Final = 1
"""The most repetitions that the client makes by itself. The pusher's requests have none: it has its own.

Few and short: a task that waits for a Stripe that says nothing must end long before its worker's watchdog ends it.
"""

CONNECTIONS: Final = 32
"""Kept open to one host; more may be open for a moment."""

MESSAGE_CHARACTERS_MAX: Final = 300
_TAKEN: Final = "An event already exists with identifier"

# Stripe asks for the times of earlier requests otherwise; nobody here has agreed to tell them.
stripe.enable_telemetry = False
# Their own logs name objects, parameters and addresses (of people, too) at INFO.
for _name in ("stripe", "urllib3"):
    logging.getLogger(_name).setLevel(logging.WARNING)


@dataclass(frozen=True, slots=True)
class StripeAccess:
    """With which key, and for which account: `account` is acct_… where the key is the platform's, else empty."""

    api_key: str = field(repr=False)
    account: str = ""


@lru_cache(maxsize=1)
def _session() -> requests.Session:
    """One pool of connections for all threads; nothing in it is changed once it is made."""
    session = requests.Session()
    for scheme in ("https://", "http://"):
        session.mount(scheme, requests.adapters.HTTPAdapter(pool_maxsize=CONNECTIONS))
    # What answers may set is nobody's business here.
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    return session


@lru_cache(maxsize=1)
def _transport() -> stripe.RequestsClient:
    return stripe.RequestsClient(timeout=(CONNECT_SECONDS, ANSWER_SECONDS), session=_session())


@atexit.register
def close_connections() -> None:
    """Closes what is open; the next request opens another pool."""
    if _session.cache_info().currsize:
        _session().close()
        _session.cache_clear()
        _transport.cache_clear()


def client_for(access: StripeAccess, *, retries: int = RETRIES) -> StripeClient:
    """Returns a client for one account. Cheap: connections are shared. STRIPE_API_BASE, where set, is called instead."""
    base: str = settings.STRIPE_API_BASE.rstrip("/")
    return StripeClient(
        access.api_key,
        stripe_account=access.account or None,
        stripe_version=API_VERSION,
        base_addresses={"api": base, "meter_events": base} if base else {},
        max_network_retries=retries,
        http_client=_transport(),
    )


def plain(found: stripe.StripeObject) -> dict[str, Any]:
    """What Stripe answered, as plain dictionaries and lists."""
    return found.to_dict()


@contextmanager
def translated() -> Iterator[None]:
    """Turns what Stripe's client raises into billing's SinkErrors, so that nobody else need know the client."""
    try:
        yield
    except stripe.StripeError as error:
        raise _translate(error) from None


def _translate(error: stripe.StripeError) -> SinkError:
    text = _shown(error)
    status = error.http_status or 0
    code, param = str(error.code or ""), str(getattr(error, "param", "") or "")
    if isinstance(error, stripe.APIConnectionError):
        return SinkUnavailable("no answer from Stripe")
    if isinstance(error, stripe.RateLimitError) or status == 429:
        headers = error.headers or {}
        narrow = code == "lock_timeout" or headers.get("stripe-rate-limited-reason") == "resource-specific"
        return SinkBusy(text, retry_after_seconds=_retry_after(headers), narrow=narrow)
    if isinstance(error, stripe.IdempotencyError):
        return SinkConflict(text, code="idempotency_error", status=status)
    if status == 409:
        # Two requests with one key at once: the other one may be doing it right now.
        return SinkUnavailable(text)
    if isinstance(error, (stripe.AuthenticationError, stripe.PermissionError)):
        return SinkUnauthorized(text, code=code, status=status)
    if status >= 500 or status == 0:
        return SinkUnavailable(text)
    if status == 404 or code == "resource_missing":
        return SinkMissing(text, code=code, param=param, status=status)
    if _TAKEN in text:
        return AlreadyTaken(text, code=code, param=param, status=status)
    return SinkRefused(text, code=code, param=param, status=status)


def _shown(error: stripe.StripeError) -> str:
    """One line of bounded length. Stripe masks keys in its messages itself."""
    return " ".join(str(error.user_message or type(error).__name__).split())[:MESSAGE_CHARACTERS_MAX]


def _retry_after(headers: Any) -> float | None:
    try:
        seconds = float(headers.get("retry-after", ""))
    except ValueError:
        return None
    return min(max(seconds, 0.0), 3_600.0)
