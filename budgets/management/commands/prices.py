"""`manage.py prices`: the price book, its sources, and how a price gets into it; docs/prices.md."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from budgets.domain.pricing_book import DAY_MINUTES, AmbiguousProvider, Model
from budgets.domain.pricing_checks import ERRORS
from budgets.domain.pricing_differences import Verdict, compare
from budgets.domain.pricing_litellm import BadMap
from budgets.domain.pricing_rates import TOKEN_UNITS
from budgets.management import price_reports as reports
from budgets.models import PriceProposal, PriceRow, ProposalState
from budgets.queries.bounded import TookTooLong
from budgets.services.price_check import STALE_DAYS, check_prices
from budgets.services.price_import import import_prices
from budgets.services.price_offers import mark_offered
from budgets.services.price_proposals import NewProposal, ProposalNotFound, approve, propose, reject
from budgets.services.price_seed import seed_prices
from budgets.services.price_sources import MapNotFound, package_book, package_name, read_map
from budgets.services.prices import BadPrice, NewPrice, add_price, describe, first_start, price_book, rows_of
from noburn.kit import ids
from noburn.kit.clock import utc_now
from noburn.kit.money import pico_to_usd, rate_to_pico
from noburn.kit.problems import Invalid

PROPOSALS_SHOWN = 1_000

CANNOT_TELL = 2
"""The exit code where a source cannot be read; 1 says that something was found."""


class Command(BaseCommand):
    help = "Fills the price book, compares it with its sources, checks it, and shows what a model costs."

    def add_arguments(self, parser: ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True)
        actions.add_parser("seed", help="append the packaged prices; running it again changes nothing")
        show = actions.add_parser("show", help="print the prices of a model, and those to come")
        show.add_argument("model", help="a model's name, or PROVIDER/MODEL")
        show.add_argument("--provider", help="whose prices to show when several sell the model")
        show.add_argument("--all", action="store_true", help="print past prices too")
        add = actions.add_parser("add", help="append a price to the book at once")
        new = actions.add_parser("propose", help="lay a price before the operators")
        for each in (add, new):
            each.add_argument("model", help="PROVIDER/MODEL")
            each.add_argument("unit", help="what is priced, such as input_tokens")
            each.add_argument("price", help="USD for one unit, such as 0.00000015")
            each.add_argument("--source", required=True, help="where the price comes from")
            each.add_argument(
                "--from", dest="starts", help="from when on (ISO 8601 with a zone); default: now"
            )
            each.add_argument(
                "--variant", default="", help="batch, flex, priority, …; default: the standard price"
            )
            each.add_argument("--tier", type=int, default=0, help="from how many input tokens on")
            each.add_argument(
                "--new-model", action="store_true", help="the provider did not have this model yet"
            )
        add.add_argument(
            "--to", dest="ends", help="until when (ISO 8601 with a zone); default: further notice"
        )
        new.add_argument("--note", default="")
        shown = actions.add_parser("proposals", help="list what waits for a decision")
        shown.add_argument("--all", action="store_true", help="list what was decided too (the newest 1,000)")
        for name, what in (("approve", "append it to the book"), ("reject", "turn it down")):
            decide = actions.add_parser(name, help=what)
            decide.add_argument("proposal", help="its id, prp_…")
            decide.add_argument("--as", dest="actor", default="command:prices", help="who decides")
            if name == "reject":
                decide.add_argument("--note", default="", help="why")
        diff = actions.add_parser(
            "diff", help="compare prices with LiteLLM's map; exit code 1: they disagree"
        )
        diff.add_argument("--package", action="store_true", help="compare genai-prices instead of the book")
        taking = actions.add_parser("import", help="append what both sources agree on, propose the rest")
        taking.add_argument("--dry-run", action="store_true", help="only say what it would do")
        taking.add_argument(
            "--from", dest="starts", help="from when on (ISO 8601 with a zone); default: in a minute"
        )
        for each in (diff, taking):
            each.add_argument("--file", type=Path, help="a copy of LiteLLM's map, or a wheel of litellm")
            each.add_argument(
                "--tolerance", default="0.01", help="what still agrees; default: 0.01, one per cent"
            )
            each.add_argument("--provider", action="append", help="only this one's prices; may be repeated")
        check = actions.add_parser("check", help="look the book over; exit code 1: something is wrong")
        check.add_argument(
            "--days", type=int, default=STALE_DAYS, help="after how long a source is to be read again"
        )
        check.add_argument("--strict", action="store_true", help="exit code 1 for anything found")
        for each in (diff, taking, check):
            each.add_argument("--all", action="store_true", help="print everything, not the first of a kind")
            each.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *_args: Any, **options: Any) -> None:
        actions: dict[str, Callable[[dict[str, Any]], None]] = {
            "seed": self._seed,
            "show": self._show,
            "add": self._add,
            "propose": self._propose,
            "proposals": self._proposals,
            "approve": self._decide,
            "reject": self._decide,
            "diff": self._diff,
            "import": self._import,
            "check": self._check,
        }
        try:
            actions[options["action"]](options)
        except (Invalid, BadPrice, ids.BadId) as error:
            raise CommandError(str(error)) from error
        except ProposalNotFound as error:
            raise CommandError(f"There is no proposal {options['proposal']}.") from error
        except (MapNotFound, BadMap, TookTooLong) as error:
            raise CommandError(str(error), returncode=CANNOT_TELL) from error

    def _seed(self, _options: dict[str, Any]) -> None:
        report = seed_prices()
        try:
            marked = mark_offered(prices=read_map().prices, now=utc_now())
        except MapNotFound:
            marked = 0
        self.stdout.write(
            f"providers added or updated: {report.providers}\n"
            f"models added or updated:    {report.models}\n"
            f"models marked anew as offered or not: {marked}\n"
            f"prices appended:           {report.prices}\n"
            f"models without any price:  {len(report.unpriced)} (refused as price_unknown)"
        )
        for name in report.kept:
            self.stdout.write(f"kept the book's own prices of {name}: they overlap the package's")

    def _diff(self, options: dict[str, Any]) -> None:
        map_file, tolerance = read_map(options["file"]), _tolerance(options)
        book = package_book() if options["package"] else price_book()
        own = package_name() if options["package"] else "the book"
        if not len(book):
            raise CommandError(
                "The price book is empty. Run: python manage.py prices seed", returncode=CANNOT_TELL
            )
        found = compare(
            book, map_file.prices, at=utc_now(), tolerance=tolerance, providers=options["provider"]
        )
        self._print(
            options,
            lambda: reports.comparison_json(found, own=own, map_file=map_file),
            lambda: _chained(
                reports.comparison_lines(
                    found, own=own, other=map_file.name, tolerance=tolerance, everything=options["all"]
                ),
                reports.ignored_lines(map_file),
            ),
        )
        if disagreements := len(found.having(Verdict.DISAGREE, Verdict.ZERO)):
            raise CommandError(f"{disagreements} prices disagree")

    def _import(self, options: dict[str, Any]) -> None:
        map_file, now = read_map(options["file"]), utc_now()
        try:
            done = import_prices(
                map_file=map_file,
                now=now,
                starts=_time(options, "starts", "--from"),
                providers=tuple(options["provider"]) if options["provider"] else None,
                tolerance=_tolerance(options),
                dry_run=options["dry_run"],
            )
        except ValueError as error:
            raise CommandError(str(error)) from error
        self._print(
            options,
            lambda: reports.import_json(done, map_file),
            lambda: reports.import_lines(done, everything=options["all"]),
        )

    def _check(self, options: dict[str, Any]) -> None:
        found = check_prices(now=utc_now(), stale_days=options["days"])
        self._print(
            options,
            lambda: reports.check_json(found),
            lambda: reports.check_lines(found, everything=options["all"]),
        )
        if wrong := [flaw for flaw in found if options["strict"] or flaw.kind in ERRORS]:
            raise CommandError(f"{len(wrong)} to look at")

    def _print(
        self, options: dict[str, Any], as_json: Callable[[], Any], as_lines: Callable[[], Iterator[str]]
    ) -> None:
        if options["json"]:
            self.stdout.write(json.dumps(as_json(), indent=2))
        else:
            for line in as_lines():
                self.stdout.write(line)

    def _add(self, options: dict[str, Any]) -> None:
        provider, model = _names(options)
        now = utc_now()
        starts = first_start(
            provider=provider,
            model=model,
            variant=options["variant"],
            unit=options["unit"],
            tier_start=options["tier"],
            wanted=now,
            now=now,
        )
        price = NewPrice(
            provider=provider,
            model=model,
            unit=options["unit"],
            price=options["price"],
            effective_from=_time(options, "starts", "--from") or starts,
            effective_to=_time(options, "ends", "--to"),
            source=options["source"],
            checked_at=now,
            variant=options["variant"],
            tier_start=options["tier"],
        )
        row = add_price(price=price, now=now, new_model=options["new_model"], close_open=True)
        self.stdout.write(f"appended price row {row.pk}: {describe(row)}")

    def _propose(self, options: dict[str, Any]) -> None:
        provider, model = _names(options)
        now = utc_now()
        proposal = NewProposal(
            provider=provider,
            model=model,
            unit=options["unit"],
            price=options["price"],
            effective_from=_time(options, "starts", "--from") or now,
            source=options["source"],
            variant=options["variant"],
            tier_start=options["tier"],
            new_model=options["new_model"],
            note=options["note"],
        )
        made = propose(proposal=proposal, actor="command:prices", now=now)
        self.stdout.write(f"proposed {_proposal_line(made)}")

    def _proposals(self, options: dict[str, Any]) -> None:
        everything = options["all"]
        rows = PriceProposal.objects.order_by("-proposed_at", "-pk")
        for row in (rows if everything else rows.filter(state=ProposalState.PROPOSED))[:PROPOSALS_SHOWN]:
            decided = f", {row.state} by {row.decided_by}" if row.decided_by else ""
            self.stdout.write(f"{_proposal_line(row)}, proposed by {row.proposed_by}{decided}")
            if row.genai_price is not None:
                self.stdout.write(f"    {row.note}")

    def _decide(self, options: dict[str, Any]) -> None:
        now = utc_now()
        proposal_id = ids.decode(ids.PRICE_PROPOSAL, options["proposal"])
        if options["action"] == "approve":
            row = approve(proposal_id=proposal_id, actor=options["actor"], now=now).price_row
            self.stdout.write(f"appended price row {row.pk if row else '?'}")
        else:
            reject(proposal_id=proposal_id, actor=options["actor"], now=now, note=options["note"])
            self.stdout.write("rejected")

    def _show(self, options: dict[str, Any]) -> None:
        name, provider, everything = options["model"], options["provider"], options["all"]
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
        now = utc_now()
        rows = rows_of(provider=found.provider, model=found.entry.model)
        shown = rows if everything else [row for row in rows if _holds(row, now)]
        self.stdout.write(
            f"{found.provider}/{found.entry.model}" + (" (deprecated)" if found.entry.deprecated else "")
        )
        if not shown:
            self.stdout.write("  no price in force" if rows else "  no price")
        for row in shown:
            self.stdout.write("  " + _line(row, everything))
        for row in sorted(
            (row for row in rows if not everything and row.effective_from > now),
            key=lambda row: row.effective_from,
        ):
            self.stdout.write(
                f"  from {row.effective_from.astimezone(UTC):%Y-%m-%d %H:%M} UTC: {_line(row, everything)}"
            )
        for source in sorted({f"{row.source}, checked {row.checked_at:%Y-%m-%d}" for row in shown}):
            self.stdout.write(f"  source: {source}")


def _names(options: dict[str, Any]) -> tuple[str, str]:
    provider, _, model = options["model"].partition("/")
    if not model:
        raise CommandError("Name the model as PROVIDER/MODEL.")
    return provider, model


def _time(options: dict[str, Any], name: str, option: str) -> datetime | None:
    if not options[name]:
        return None
    try:
        found = datetime.fromisoformat(options[name])
    except ValueError as error:
        raise CommandError(f"{option}: {error}") from error
    if found.tzinfo is None:
        raise CommandError(f"{option}: must carry a time zone")
    return found


def _tolerance(options: dict[str, Any]) -> Decimal:
    try:
        tolerance = Decimal(options["tolerance"])
    except InvalidOperation as error:
        raise CommandError("--tolerance: must be a number such as 0.01") from error
    if not tolerance.is_finite() or not 0 <= tolerance <= 1:
        raise CommandError("--tolerance: must be from 0 to 1: 0.01 is one per cent")
    return tolerance


def _chained(*parts: Iterator[str]) -> Iterator[str]:
    for part in parts:
        yield from part


def _proposal_line(row: PriceProposal) -> str:
    tier = f" above {row.tier_start} input tokens" if row.tier_start else ""
    return (
        f"{ids.encode(ids.PRICE_PROPOSAL, row.pk)}  {row.provider}/{row.model} {row.variant or 'standard'} "
        f"{row.unit}{tier} {row.price.normalize():f} USD from {row.effective_from.isoformat()} ({row.source})"
    )


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
