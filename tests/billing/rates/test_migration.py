"""Sums that were made before presumed requests were counted apart get their count from the ledger."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

import pytest

from noburn.kit.money import NANO
from tests.billing.rates.office import DAY, START

if TYPE_CHECKING:
    from tests.billing.book import Book

pytestmark = pytest.mark.real_db


class TestPresumedRequests:
    def test_are_counted_in_sums_that_were_there(self, book: Book) -> None:
        count = importlib.import_module("budgets.migrations.0016_presumed_requests").COUNT
        settled = book.call("acme", START, cost_nano=NANO, state="presumed")
        for day in range(3):
            book.call("acme", START + day * DAY, cost_nano=NANO, state="presumed")
            book.call("acme", START + day * DAY, cost_nano=NANO)
        book.call("acme", START, cost_nano=1, hold=settled)
        book.roll()
        wrong = "SELECT figure FROM nb_verify_usage(%s)"
        assert book.owner.execute(wrong, [book.tenant_id]).fetchall() == []
        book.owner.execute(
            "UPDATE usage_rollups SET presumed_requests = 0 WHERE tenant_id = %s", [book.tenant_id]
        )
        figures = {row[0] for row in book.owner.execute(wrong, [book.tenant_id]).fetchall()}
        assert figures == {"presumed_requests"}
        with book.owner.transaction():
            book.owner.execute(count)
        assert book.owner.execute(wrong, [book.tenant_id]).fetchall() == []
