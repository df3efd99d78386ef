"""Brings the price book up to its sources: what both agree on is appended, what they do not is proposed to a person."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from django.db import transaction
from django.db.models import Q

from budgets.domain.pricing_book import PriceBook
from budgets.domain.pricing_differences import TOLERANCE, Comparison, compare
from budgets.domain.pricing_import import Addition, Decisions, Plan, Proposal, Where, plan_import
from budgets.models import PriceImport, PriceProposal, PriceRow, ProposalState
from budgets.services.price_offers import mark
from budgets.services.price_seed import BATCH, seed_names
from budgets.services.price_sources import MapFile, package_book, package_name, page_of
from budgets.services.prices import LEAD, price_book
from noburn.kit import ids
from noburn.kit.money import pico_to_usd, rate_to_pico

ACTOR: Final = "command:prices import"


@dataclass(frozen=True)
class Imported:
    """What an import did, or would do. `offers` models were marked or unmarked as offered."""

    sources: str
    comparison: Comparison
    plan: Plan
    offers: int
    applied: bool


def import_prices(
    *,
    map_file: MapFile,
    now: datetime,
    starts: datetime | None = None,
    providers: tuple[str, ...] | None = None,
    tolerance: Decimal = TOLERANCE,
    dry_run: bool = False,
    package: PriceBook | None = None,
    actor: str = ACTOR,
) -> Imported:
    """Compares the packaged prices with a map and appends to the book what follows, in one transaction.

    New prices begin at `starts`, by default in LEAD: every gateway knows them by then. Rows are never edited; a
    changed price ends the open row and begins another. Running it again changes nothing. A dry run takes its
    transaction back. Raises ValueError for a start that has passed or a tolerance that is none.
    """
    begins = starts or now + LEAD
    if begins < now:
        raise ValueError("prices must not begin in the past: calls were priced without them")
    package = package or package_book()
    with transaction.atomic():
        *_, models = seed_names()
        comparison = compare(package, map_file.prices, at=begins, tolerance=tolerance, providers=providers)
        plan = plan_import(
            price_book(),
            package,
            comparison,
            _decisions(),
            starts=begins,
            providers=providers,
            tolerance=tolerance,
        )
        sources = f"{package_name()} and {map_file.name}"
        _append(plan.additions, models, map_file, now)
        _propose(plan.proposals, map_file, actor, now)
        offers = mark(prices=map_file.prices, now=now)
        if not dry_run:
            PriceImport.objects.create(
                id=ids.new_uuid(now),
                actor=actor,
                ran_at=now,
                sources=sources,
                found=summary(comparison, plan) | {"offers": offers},
            )
        else:
            transaction.set_rollback(True)
    return Imported(sources, comparison, plan, offers, not dry_run)


def summary(comparison: Comparison, plan: Plan) -> dict[str, Any]:
    """Returns the counts of an import, as its record keeps them."""
    totals: dict[str, int] = {}
    for counts in comparison.counts().values():
        for verdict, number in counts.items():
            totals[verdict.value] = totals.get(verdict.value, 0) + number
    return {
        "compared": dict(sorted(totals.items())),
        "appended": len(plan.additions),
        "ended": sum(1 for addition in plan.additions if addition.closes is not None),
        "proposed": len(plan.proposals),
        "kept": len(plan.kept),
        "withheld": len(plan.withheld),
        "left": dict(sorted(plan.counts.items())),
    }


def _decisions() -> Decisions:
    """What people decided: rows that did not come from the package, and proposals."""
    approved = PriceProposal.objects.filter(state=ProposalState.APPROVED)
    rows = PriceRow.objects.filter(
        ~Q(source__startswith="genai-prices ") | Q(pk__in=approved.values("price_row_id"))
    )
    undone = PriceProposal.objects.exclude(state=ProposalState.APPROVED).order_by("pk")
    refused: set[tuple[Where, int]] = set()
    waiting: dict[Where, int] = {}
    for each in undone.iterator(chunk_size=BATCH):
        where = (each.provider, each.model, (each.variant, each.unit, each.tier_start))
        pico = rate_to_pico(each.price, field="price")
        if each.state == ProposalState.REJECTED:
            refused.add((where, pico))
        else:
            waiting[where] = pico
    return Decisions(frozenset(rows.values_list("pk", flat=True)), frozenset(refused), waiting)


def _append(
    additions: list[Addition], models: Mapping[tuple[str, str], int], map_file: MapFile, now: datetime
) -> None:
    ends: dict[datetime, list[int]] = {}
    for addition in additions:
        if addition.closes is not None:
            ends.setdefault(addition.starts, []).append(addition.closes)
    for at, rows in sorted(ends.items()):
        PriceRow.objects.filter(pk__in=rows, effective_to__isnull=True).update(effective_to=at)
    if not additions:
        # The book's version rises with every statement that inserts, also with one that inserts nothing.
        return
    PriceRow.objects.bulk_create(
        [
            PriceRow(
                price_model_id=models[provider, model],
                variant=variant,
                unit=unit,
                tier_start=tier,
                price=Decimal(addition.pico).scaleb(-12),
                effective_from=addition.starts,
                effective_to=addition.ends,
                source=source_of(provider, map_file if addition.confirmed else None),
                checked_at=now,
            )
            for addition in additions
            for provider, model, (variant, unit, tier) in (addition.where,)
        ],
        batch_size=BATCH,
    )


def source_of(provider: str, map_file: MapFile | None) -> str:
    """Returns what a row says about where its price comes from; it starts with the package's name."""
    both = f" and {map_file.name}" if map_file is not None else ""
    return f"{package_name()}{both}, {page_of(provider)}"[:300]


def _propose(proposals: list[Proposal], map_file: MapFile, actor: str, now: datetime) -> None:
    PriceProposal.objects.bulk_create(
        [
            PriceProposal(
                id=ids.new_uuid(now),
                provider=provider,
                model=model,
                variant=variant,
                unit=unit,
                tier_start=tier,
                price=Decimal(proposal.pico).scaleb(-12),
                effective_from=proposal.starts,
                source=_said_by(proposal, map_file),
                book_price=_usd(proposal.book),
                genai_price=_usd(proposal.package),
                litellm_price=_usd(proposal.other),
                proposed_by=actor,
                proposed_at=now,
                note=_note(proposal, map_file),
            )
            for proposal in proposals
            for provider, model, (variant, unit, tier) in (proposal.where,)
        ],
        batch_size=BATCH,
    )


def _said_by(proposal: Proposal, map_file: MapFile) -> str:
    if proposal.by_map:
        return f"{map_file.name}, {', '.join(proposal.entries)}"[:300]
    return source_of(proposal.where[0], None)


def _note(proposal: Proposal, map_file: MapFile) -> str:
    said = [("the book", proposal.book), (package_name(), proposal.package), (map_file.name, proposal.other)]
    numbers = "; ".join(f"{who}: {pico_to_usd(pico)} USD" for who, pico in said if pico is not None)
    return f"{proposal.reason}. {numbers}"[:500]


def _usd(pico: int | None) -> Decimal | None:
    return None if pico is None else Decimal(pico).scaleb(-12)
