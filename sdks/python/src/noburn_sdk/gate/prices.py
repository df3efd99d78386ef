"""Prices held in this process, for what must be known without asking: outages, and streams cut at their hold."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from noburn_sdk._config import logger
from noburn_sdk.client import Noburn
from noburn_sdk.errors import InvalidRequestError, NoburnError
from noburn_sdk.estimate import Estimate, Rates, UnpricedError, bound_nano, rates_from
from noburn_sdk.results import Allowed
from noburn_sdk.usage import Usage

AGE_SECONDS = 900.0
RETRY_SECONDS = 10.0
_PROBE = 1_000_000


class PriceCache:
    """The price list, fetched by a thread now and again. Until it is here nothing is priced."""

    def __init__(self, client: Callable[[], Noburn]) -> None:
        self._make_client = client
        self._client: Noburn | None = None
        self._lock = threading.Lock()
        self._book: dict[str, Any] | None = None
        self._next = 0.0
        self._thread: threading.Thread | None = None
        self.book()

    def book(self) -> dict[str, Any] | None:
        """The list as it is here, perhaps a quarter of an hour old; None before the first one arrived."""
        with self._lock:
            if time.monotonic() >= self._next and (self._thread is None or not self._thread.is_alive()):
                self._next = time.monotonic() + RETRY_SECONDS
                self._thread = threading.Thread(target=self._fetch, name="noburn-prices", daemon=True)
                self._thread.start()
            return self._book

    def wait(self, timeout: float) -> bool:
        """Waits for the fetch under way; says whether there are prices."""
        thread = self._thread
        if thread is not None:
            thread.join(timeout)
        return self._book is not None

    def _fetch(self) -> None:
        try:
            if self._client is None:
                self._client = self._make_client()
            self._book = self._client.prices()
            self._next = time.monotonic() + AGE_SECONDS
        except NoburnError as error:
            logger.warning("the prices could not be fetched: %s", error)

    def rates(self, model: str, provider: str | None) -> Rates | None:
        """The rates of a model, if they are known."""
        return _rates(self.book(), model, provider)

    def cost_nano(self, usage: Usage, model: str, provider: str | None) -> int | None:
        """A bound of what a usage cost, or None where it cannot be told."""
        rates = self.rates(model, provider)
        if rates is None:
            return None
        try:
            return bound_nano(
                rates,
                input_tokens=usage.input_tokens,
                max_output_tokens=usage.output_tokens,
                tool_calls=usage.tool_calls,
                service_tier=usage.service_tier,
            )
        except UnpricedError:
            return None

    def close(self) -> None:
        """Closes the connection."""
        if self._thread is not None:
            self._thread.join(1.0)
        if self._client is not None:
            self._client.close()


def _rates(book: Mapping[str, Any] | None, model: str, provider: str | None) -> Rates | None:
    if book is None:
        return None
    for name in (provider, None):
        try:
            return rates_from(book, model, provider=name)
        except InvalidRequestError:
            continue
    return None


def bound_nano_of(prices: PriceCache | None, found: Estimate, provider: str | None, cap: int) -> int | None:
    """The most that a call can cost in nano-USD, by the prices held here; None where they do not say."""
    rates = prices.rates(found.model, provider) if prices is not None else None
    if rates is None:
        return None
    if found.has_output and found.max_output_tokens is None:
        found = replace(found, max_output_tokens=cap)
    try:
        return bound_nano(rates, **found.counts())
    except UnpricedError:
        return None


def tokens_within(
    book: Mapping[str, Any] | None, found: Estimate, allowed: Allowed, provider: str | None
) -> int | None:
    """The output of all answers that a hold pays for; None where it pays for the cap, or nobody knows."""
    rates = _rates(book, allowed.model or found.model, provider)
    if rates is None or allowed.amount_usd is None:
        return None
    counts = found.counts()
    try:
        fixed = bound_nano(rates, **{**counts, "max_output_tokens": 0})
        per = bound_nano(rates, **{**counts, "max_output_tokens": _PROBE, "n": 1}) - fixed
    except UnpricedError:
        return None
    if per <= 0:
        return None
    tokens = (int(allowed.amount_usd * 10**9) - fixed) * _PROBE // per
    cap = allowed.max_output_tokens
    return max(0, tokens) if cap is None or tokens < cap * found.n else None
