"""`manage.py prices`: `seed` fills the price book, `show MODEL` prints what a model costs, and `propose`, `proposals`,
`approve` and `reject` are how a price gets into the book under two pairs of eyes."""

from __future__ import annotations

from argparse import ArgumentParser
from datetime import UTC, datetime
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from budgets.domain.pricing_book import DAY_MINUTES, AmbiguousProvider, Model
from budgets.domain.pricing_rates import TOKEN_UNITS
from budgets.models import PriceProposal, PriceRow, ProposalState
from budgets.services.price_proposals import NewProposal, ProposalNotFound, approve, propose, reject
from budgets.services.price_seed import seed_prices
from budgets.services.prices import price_book, rows_of
from noburn.kit import ids
from noburn.kit.money import pico_to_usd, rate_to_pico
from noburn.kit.problems import Invalid

PROPOSALS_SHOWN = 1_000


class Command(BaseCommand):
    help = "Fills the price book offline, or shows what a model costs and where the price comes from."

    def add_arguments(self, parser: ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True)
        actions.add_parser("seed", help="append the packaged prices; running it again changes nothing")
        show = actions.add_parser("show", help="print the prices of a model")
        show.add_argument("model", help="a model's name, or PROVIDER/MODEL")
        show.add_argument("--provider", help="whose prices to show when several sell the model")
        show.add_argument("--all", action="store_true", help="print past and future prices too")
        new = actions.add_parser("propose", help="lay a price before the operators")
        new.add_argument("model", help="PROVIDER/MODEL")
        new.add_argument("unit", help="what is priced, such as input_tokens")
        new.add_argument("price", help="USD for one unit, such as 0.00000015")
        new.add_argument("--source", required=True, help="where the price comes from")
        new.add_argument("--from", dest="starts", help="from when on (ISO 8601 with a zone); default: now")
        new.add_argument(
            "--variant", default="", help="batch, flex, priority, …; default: the standard price"
        )
        new.add_argument("--tier", type=int, default=0, help="from how many input tokens on")
        new.add_argument("--new-model", action="store_true", help="the provider did not have this model yet")
        new.add_argument("--note", default="")
        shown = actions.add_parser("proposals", help="list what waits for a decision")
        shown.add_argument("--all", action="store_true", help="list what was decided too (the newest 1,000)")
        for name, what in (("approve", "append it to the book"), ("reject", "turn it down")):
            decide = actions.add_parser(name, help=what)
            decide.add_argument("proposal", help="its id, prp_…")
            decide.add_argument("--as", dest="actor", default="command:prices", help="who decides")
            if name == "reject":
                decide.add_argument("--note", default="", help="why")

    def handle(self, *_args: Any, **options: Any) -> None:
        action, now = options["action"], datetime.now(UTC)
        try:
            if action == "seed":
                self._seed()
            elif action == "show":
                self._show(options["model"], options["provider"], options["all"])
            elif action == "propose":
                self._propose(options, now)
            elif action == "proposals":
                self._proposals(options["all"])
            else:
                self._decide(options, now)
        except (Invalid, ids.BadId) as error:
            raise CommandError(str(error)) from error
        except ProposalNotFound as error:
            raise CommandError(f"There is no proposal {options['proposal']}.") from error

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

    def _propose(self, options: dict[str, Any], now: datetime) -> None:
        provider, _, model = options["model"].partition("/")
        if not model:
            raise CommandError("Name the model as PROVIDER/MODEL.")
        try:
            starts = datetime.fromisoformat(options["starts"]) if options["starts"] else now
        except ValueError as error:
            raise CommandError(f"--from: {error}") from error
        proposal = NewProposal(
            provider=provider,
            model=model,
            unit=options["unit"],
            price=options["price"],
            effective_from=starts,
            source=options["source"],
            variant=options["variant"],
            tier_start=options["tier"],
            new_model=options["new_model"],
            note=options["note"],
        )
        made = propose(proposal=proposal, actor="command:prices", now=now)
        self.stdout.write(f"proposed {_proposal_line(made)}")

    def _proposals(self, everything: bool) -> None:
        rows = PriceProposal.objects.order_by("-proposed_at", "-pk")
        for row in (rows if everything else rows.filter(state=ProposalState.PROPOSED))[:PROPOSALS_SHOWN]:
            decided = f", {row.state} by {row.decided_by}" if row.decided_by else ""
            self.stdout.write(f"{_proposal_line(row)}, proposed by {row.proposed_by}{decided}")

    def _decide(self, options: dict[str, Any], now: datetime) -> None:
        proposal_id = ids.decode(ids.PRICE_PROPOSAL, options["proposal"])
        if options["action"] == "approve":
            row = approve(proposal_id=proposal_id, actor=options["actor"], now=now).price_row
            self.stdout.write(f"appended price row {row.pk if row else '?'}")
        else:
            reject(proposal_id=proposal_id, actor=options["actor"], now=now, note=options["note"])
            self.stdout.write("rejected")

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
