"""The newest price book of this process, for programs that use the ORM."""

from __future__ import annotations

import threading

from budgets.domain.pricing_book import PriceBook
from budgets.services.prices import book_version, price_book


class PriceShelf:
    """Holds the book, which is used by one thread at a time: looking up a name changes it."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self._book = PriceBook(0, [])

    def book(self) -> PriceBook:
        """The book as it is now. Hold the lock."""
        if self._book.version != book_version() or not len(self._book):
            self._book = price_book()
        return self._book


shelf = PriceShelf()
