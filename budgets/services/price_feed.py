"""The price book of a running program without the ORM: loaded once, loaded again when its version rises."""

from __future__ import annotations

import psycopg

from budgets.domain.pricing_book import PriceBook
from budgets.stores.postgres.prices import load_price_book, load_price_book_version


class PriceFeed:
    """Holds the current book. `book` is empty, with version 0, until the first refresh.

    A refresh swaps the whole book at once, so a call that took `book` keeps one consistent set of prices.
    """

    def __init__(self) -> None:
        self.book = PriceBook(0, [])

    async def refresh(self, conn: psycopg.AsyncConnection) -> bool:
        """Loads the book if its version differs and tells whether it did. Poll it every few seconds.

        Raises psycopg.Error; the book held so far stays in use then.
        """
        if len(self.book) and await load_price_book_version(conn) == self.book.version:
            return False
        self.book = await load_price_book(conn)
        return True
