"""What `manage.py prices` prints of differences, imports and checks: as lines, and as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from decimal import Decimal
from typing import Any, Final

from budgets.domain.pricing_checks import ERRORS, MEANING, Flaw, Kind
from budgets.domain.pricing_differences import AGREED, Comparison, Finding, Verdict
from budgets.domain.pricing_import import Addition, Proposal, Where
from budgets.domain.pricing_rates import TOKEN_UNITS
from budgets.services.price_import import Imported, summary
from budgets.services.price_sources import MapFile
from noburn.kit.money import pico_to_usd

MILLION: Final = 10**6
SHOWN: Final = 20
"""How many lines of a kind are printed unless all are asked for."""


def price(unit: str, pico: int | None) -> str:
    """Returns a price for people: of tokens by the million."""
    if pico is None:
        return "-"
    if unit in TOKEN_UNITS:
        return f"${pico_to_usd(pico, units=MILLION)} a million"
    return f"${pico_to_usd(pico)} each"


def what(where: Where) -> str:
    """Returns which price of which model is meant."""
    provider, model, (variant, unit, tier) = where
    return f"{provider}/{model} {variant or 'standard'} {unit}" + (f" above {tier}" if tier else "")


def ignored_lines(map_file: MapFile) -> Iterator[str]:
    """What of a map was left out, and why."""
    for reason, count in map_file.prices.ignored.most_common():
        yield f"  left out {count:5}  {reason}"


def comparison_lines(
    comparison: Comparison, *, own: str, other: str, tolerance: Decimal, everything: bool
) -> Iterator[str]:
    """Counts by provider, each disagreement, and on demand what only one of them has."""
    titles = ("models", "agree", "implied", "disagree", "zero", "only here", "only there")
    yield f"{own} and {other}; a difference is more than {(tolerance * 100).normalize():f} %"
    yield f"{'':<16}" + "".join(f"{title:>11}" for title in titles)
    total = [0] * len(titles)
    for provider, counts in comparison.counts().items():
        numbers = [len(comparison.compared[provider]), *(counts[verdict] for verdict in Verdict)]
        total = [one + two for one, two in zip(total, numbers, strict=True)]
        yield f"{provider:<16}" + "".join(f"{number:>11}" for number in numbers)
    yield f"{'all':<16}" + "".join(f"{number:>11}" for number in total)
    for title, models in (
        (f"models only in {own}", comparison.book_models),
        (f"models only in {other}", comparison.map_entries),
        ("models priced as another provider's", comparison.resold),
        ("models priced by the time of day, not compared", comparison.timed),
    ):
        yield f"{title}: {sum(map(len, models.values()))}"
        if everything:
            yield from (f"  {provider}/{name}" for provider in models for name in models[provider])
    for finding in comparison.having(Verdict.DISAGREE, Verdict.ZERO):
        yield _finding_line(finding, own, other)
    if everything:
        for finding in comparison.having(Verdict.BOOK_ONLY, Verdict.MAP_ONLY):
            yield _finding_line(finding, own, other)


def _finding_line(finding: Finding, own: str, other: str) -> str:
    where = what((finding.provider, finding.model, finding.key))
    said = f"{own} {price(finding.unit, finding.book_pico)}, {other} {price(finding.unit, finding.map_pico)}"
    entries = f" ({', '.join(finding.entries[:3])})" if finding.entries else ""
    return f"{finding.verdict.value:<10} {where}: {said}{entries}"


def comparison_json(comparison: Comparison, *, own: str, map_file: MapFile) -> dict[str, Any]:
    """The same as an object. Prices are decimal strings in USD for one unit."""
    return {
        "sources": [own, map_file.name],
        "at": comparison.at.isoformat(),
        "providers": {
            provider: {
                "models": len(comparison.compared[provider]),
                **{verdict.value: counts[verdict] for verdict in Verdict},
                "models_only_here": list(comparison.book_models[provider]),
                "models_only_there": list(comparison.map_entries[provider]),
                "resold": list(comparison.resold[provider]),
                "by_the_time_of_day": list(comparison.timed[provider]),
            }
            for provider, counts in comparison.counts().items()
        },
        "findings": [_finding_json(f) for f in comparison.findings if f.verdict not in AGREED],
        "ignored": dict(map_file.prices.ignored),
        "examples": map_file.prices.examples,
    }


def _finding_json(finding: Finding) -> dict[str, Any]:
    return {
        "verdict": finding.verdict.value,
        "provider": finding.provider,
        "model": finding.model,
        "variant": finding.variant or "standard",
        "unit": finding.unit,
        "tier_start": finding.tier_start,
        "here_usd": None if finding.book_pico is None else pico_to_usd(finding.book_pico),
        "there_usd": None if finding.map_pico is None else pico_to_usd(finding.map_pico),
        "entries": list(finding.entries),
    }


def import_lines(done: Imported, *, everything: bool) -> Iterator[str]:
    """What an import did, or would do."""
    plan, counts = done.plan, summary(done.comparison, done.plan)
    yield f"{done.sources}; new prices begin at {plan.starts.isoformat(timespec='seconds')}"
    yield f"prices appended:      {counts['appended']}, {counts['ended']} of them in the place of another"
    yield f"proposed to a person: {counts['proposed']}"
    yield f"models marked anew as offered or not: {done.offers}"
    for reason, count in counts["left"].items():
        yield f"  left as it is {count:5}  {reason}"
    shown = None if everything else SHOWN
    yield from _some([_addition_line(addition) for addition in plan.additions], shown)
    yield from _some([_proposal_line(proposal) for proposal in plan.proposals], shown)
    yield from _some([f"kept      the book's own price of {name}" for name in plan.kept], shown)
    yield from _some(
        [f"withheld  {name}: half of its prices wait for a person" for name in plan.withheld], shown
    )
    if plan.empty and not done.offers:
        yield "nothing changed" if done.applied else "nothing would change"
    elif not done.applied:
        yield "a dry run: nothing was changed"
    if plan.proposals and done.applied:
        yield "decide with: manage.py prices proposals, approve, reject; or in the admin"


def import_json(done: Imported, map_file: MapFile) -> dict[str, Any]:
    """The same as an object."""
    return {
        "sources": done.sources,
        "applied": done.applied,
        "starts": done.plan.starts.isoformat(),
        "offers": done.offers,
        **summary(done.comparison, done.plan),
        "appended_rows": [
            {
                **_where_json(addition.where),
                "price_usd": pico_to_usd(addition.pico),
                "was_usd": None if addition.was is None else pico_to_usd(addition.was),
                "effective_from": addition.starts.isoformat(),
                "both_sources": addition.confirmed,
            }
            for addition in done.plan.additions
        ],
        "proposals": [
            {
                **_where_json(proposal.where),
                "price_usd": pico_to_usd(proposal.pico),
                "book_usd": None if proposal.book is None else pico_to_usd(proposal.book),
                "genai_usd": pico_to_usd(proposal.package),
                "litellm_usd": None if proposal.other is None else pico_to_usd(proposal.other),
                "reason": proposal.reason,
            }
            for proposal in done.plan.proposals
        ],
        "ignored": dict(map_file.prices.ignored),
    }


def _where_json(where: Where) -> dict[str, Any]:
    provider, model, (variant, unit, tier) = where
    return {
        "provider": provider,
        "model": model,
        "variant": variant or "standard",
        "unit": unit,
        "tier_start": tier,
    }


def _addition_line(addition: Addition) -> str:
    unit = addition.where[2][1]
    was = f" after {price(unit, addition.was)}" if addition.was is not None else ""
    by = "both sources" if addition.confirmed else "one source"
    return f"appended  {what(addition.where)}: {price(unit, addition.pico)}{was}, by {by}"


def _proposal_line(proposal: Proposal) -> str:
    unit = proposal.where[2][1]
    said = ", ".join(
        f"{who} {price(unit, pico)}"
        for who, pico in (
            ("book", proposal.book),
            ("genai-prices", proposal.package),
            ("litellm", proposal.other),
        )
    )
    return f"proposed  {what(proposal.where)}: {price(unit, proposal.pico)}; {proposal.reason} ({said})"


def check_lines(found: Iterable[Flaw], *, everything: bool) -> Iterator[str]:
    """What a check found, by kind: the number, what it means, and examples."""
    by_kind: dict[Kind, list[Flaw]] = {}
    for flaw in found:
        by_kind.setdefault(flaw.kind, []).append(flaw)
    for kind in Kind:
        flaws = by_kind.get(kind, [])
        level = "error" if kind in ERRORS else "look "
        yield f"{level if flaws else 'ok   '} {len(flaws):5}  {kind.value:<13} {MEANING[kind]}"
        lines = [f"  {flaw.provider}/{flaw.model} {flaw.detail}".rstrip() for flaw in flaws]
        yield from _some(lines, None if everything else SHOWN // 4)


def check_json(found: Iterable[Flaw]) -> dict[str, Any]:
    """The same as an object."""
    flaws = list(found)
    return {
        "counts": {kind.value: sum(1 for flaw in flaws if flaw.kind is kind) for kind in Kind},
        "flaws": [
            {
                "kind": flaw.kind.value,
                "error": flaw.kind in ERRORS,
                "provider": flaw.provider,
                "model": flaw.model,
                "detail": flaw.detail,
            }
            for flaw in flaws
        ],
    }


def _some(lines: list[str], shown: int | None) -> Iterator[str]:
    yield from lines[:shown]
    if shown is not None and len(lines) > shown:
        yield f"  … and {len(lines) - shown} more (--all)"
