"""The price book that a gateway holds, loaded anew when its version rises."""

from __future__ import annotations

import logging
from collections import OrderedDict
from datetime import datetime

import msgspec

from budgets.domain.pricing_book import PriceBook
from budgets.domain.pricing_list import price_list
from budgets.domain.pricing_overrides import TenantPrices
from budgets.services.polling import Poller
from budgets.stores.postgres.money import MoneyStore
from budgets.stores.postgres.prices import load_price_book, load_price_book_version

log = logging.getLogger(__name__)

POLL_SECONDS = 5.0
LOAD_SECONDS = 60.0
"""The whole book is read at once, now and then."""

LISTS_MAX = 32


class Books:
    """Holds the newest price book."""

    def __init__(self, store: MoneyStore) -> None:
        self._store = store
        self.book = PriceBook(0, [])
        self._lists: OrderedDict[bytes, bytes] = OrderedDict()
        self._poller = Poller(self._load, seconds=POLL_SECONDS, what="prices")

    async def start(self) -> None:
        """Loads the book and goes on polling."""
        await self._load()
        self._poller.start()

    async def stop(self) -> None:
        """Stops polling."""
        await self._poller.stop()

    def price_list(
        self, provider: str | None, now: datetime, etag: bytes, prices: TenantPrices | None = None
    ) -> bytes:
        """The prices in force as JSON; kept by their ETag, since the whole list takes a while to write."""
        found = self._lists.get(etag)
        if found is None:
            found = msgspec.json.encode(
                {"prices": price_list(self.book, provider=provider, now=now, prices=prices)}
            )
            self._lists[etag] = found
            if len(self._lists) > LISTS_MAX:
                self._lists.popitem(last=False)
        return found

    async def _load(self) -> None:
        async with self._store.connection(seconds=LOAD_SECONDS) as connection:
            if await load_price_book_version(connection) != self.book.version or not len(self.book):
                self.book = await load_price_book(connection)
