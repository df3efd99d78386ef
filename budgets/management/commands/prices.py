"""`manage.py prices seed` fills the price book; `manage.py prices show MODEL` prints what a model costs."""

from __future__ import annotations

from argparse import ArgumentParser
from datetime import UTC, datetime
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from budgets.domain.pricing_book import DAY_MINUTES, AmbiguousProvider, Model
from budgets.domain.pricing_rates import TOKEN_UNITS
from budgets.models import PriceRow
from budgets.services.price_seed import seed_prices
from budgets.services.prices import price_book, rows_of
from noburn.kit.money import pico_to_usd, rate_to_pico


class Command(BaseCommand):
    help = "Fills the price book offline, or shows what a model costs and where the price comes from."

    def add_arguments(self, parser: ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True)
        actions.add_parser("seed", help="append the packaged prices; running it again changes nothing")
        show = actions.add_parser("show", help="print the prices of a model")
        show.add_argument("model", help="a model's name, or PROVIDER/MODEL")
        show.add_argument("--provider", help="whose prices to show when several sell the model")
        show.add_argument("--all", action="store_true", help="print past and future prices too")

    def handle(self, *_args: Any, **options: Any) -> None:
        if options["action"] == "seed":
            self._seed()
        else:
            self._show(options["model"], options["provider"], options["all"])

    def _seed(self) -> None:
        report = seed_prices()
        self.stdout.write(
            f"providers added or updated: {report.providers}\n"
            f"models added or updated:    {report.models}\n"
            f"prices appended:           {report.prices}\n"
            f"models without any price:  {len(report.unpriced)} (refused as price_unknown)"
        )
        for name in report.kept:
            self.stdout.write(f"kept the book's own prices of {name}: they overlap the package's")

    def _show(self, name: str, provider: str | None, everything: bool) -> None:
        book = price_book()
        if not len(book):
            raise CommandError("The price book is empty. Run: python manage.py prices seed")
        found = book.find(provider, name)
        if provider is None and not isinstance(found, Model) and "/" in name:
            maker, model = name.split("/", 1)
            if maker in book.providers:
                found = book.find(maker, model)
        if isinstance(found, AmbiguousProvider):
            raise CommandError(f"{name} is sold by {', '.join(found.providers)}. Choose one with --provider.")
        if not isinstance(found, Model):
            raise CommandError(
                f"The price book does not know {name}" + (f" of {provider}." if provider else ".")
            )
        now = datetime.now(UTC)
        rows = rows_of(provider=found.provider, model=found.entry.model)
        shown = rows if everything else [row for row in rows if _holds(row, now)]
        self.stdout.write(
            f"{found.provider}/{found.entry.model}" + (" (deprecated)" if found.entry.deprecated else "")
        )
        if not shown:
            self.stdout.write("  no price in force" if rows else "  no price")
        for row in shown:
            self.stdout.write("  " + _line(row, everything))
        for source in sorted({f"{row.source}, checked {row.checked_at:%Y-%m-%d}" for row in shown}):
            self.stdout.write(f"  source: {source}")


def _holds(row: PriceRow, now: datetime) -> bool:
    return row.effective_from <= now and (row.effective_to is None or now < row.effective_to)


def _line(row: PriceRow, everything: bool) -> str:
    pico = rate_to_pico(row.price, field="price")
    tokens = row.unit in TOKEN_UNITS
    amount = f"${pico_to_usd(pico, units=10**6)} a million" if tokens else f"${pico_to_usd(pico)} each"
    parts = [f"{row.variant or 'standard':<10} {row.unit:<26} {amount}"]
    if row.tier_start:
        parts.append(f"above {row.tier_start} input tokens")
    if row.daily_to - row.daily_from != DAY_MINUTES:
        parts.append(f"from {_clock(row.daily_from)} to {_clock(row.daily_to)} UTC")
    if everything:
        until = f"{row.effective_to:%Y-%m-%d}" if row.effective_to else "open"
        parts.append(f"[{row.effective_from:%Y-%m-%d}, {until})")
    return " ".join([*parts, f"(row {row.pk})"])


def _clock(minute: int) -> str:
    return f"{minute // 60:02d}:{minute % 60:02d}"
