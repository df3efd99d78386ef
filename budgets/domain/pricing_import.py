"""What an import of prices would do to the book, worked out before anything is done. Pure.

Two sources must agree before a price changes by itself. What they disagree on, what would become free, and what one
source alone moves by more than ten times becomes a proposal, which a person decides. What a person let into the book
stays until a person changes it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Final

from budgets.domain.pricing_book import PriceBook, PriceEntry
from budgets.domain.pricing_differences import (
    AGREED,
    TOLERANCE,
    Comparison,
    Finding,
    Verdict,
    by_the_clock,
    differ,
    in_force,
    tolerance_ppm,
)
from budgets.domain.pricing_litellm import PriceKey

LEAP: Final = 10
"""A price that one source alone moves by more than this factor is a typing error until a person says otherwise."""

_BASES: Final = (("", "input_tokens", 0), ("", "output_tokens", 0))

Where = tuple[str, str, PriceKey]
"""Provider, model, and which of its prices."""


@dataclass(frozen=True)
class Decisions:
    """What people decided before.

    `rows` are the ids of price rows that a person let in, `refused` the prices that were turned down, `waiting` those
    that wait, by the pico-USD that they would set.
    """

    rows: frozenset[int] = frozenset()
    refused: frozenset[tuple[Where, int]] = frozenset()
    waiting: Mapping[Where, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Addition:
    """A row to append; `closes` is the id of the open row that ends where it starts. `confirmed`: both sources agree."""

    where: Where
    pico: int
    starts: datetime
    ends: datetime | None
    closes: int | None
    was: int | None
    confirmed: bool


@dataclass(frozen=True)
class Proposal:
    """A price for a person to decide, with what the book and both sources say."""

    where: Where
    pico: int
    starts: datetime
    reason: str
    book: int | None
    package: int
    other: int | None
    entries: tuple[str, ...] = ()

    @property
    def by_map(self) -> bool:
        """Whether the price that is proposed is the map's."""
        return self.pico == self.other != self.package


@dataclass
class Plan:
    """What an import would do. `counts` says of how many prices it would do nothing, and why."""

    starts: datetime
    additions: list[Addition] = field(default_factory=list)
    proposals: list[Proposal] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    kept: list[str] = field(default_factory=list)
    withheld: list[str] = field(default_factory=list)

    @property
    def empty(self) -> bool:
        """Whether it would change nothing."""
        return not self.additions and not self.proposals


def plan_import(
    book: PriceBook,
    package: PriceBook,
    comparison: Comparison,
    decisions: Decisions,
    *,
    starts: datetime,
    providers: Iterable[str] | None = None,
    tolerance: Decimal = TOLERANCE,
) -> Plan:
    """Works out how the package's prices get into the book.

    `comparison` is that of the package with the map as of `starts`, when new prices begin. What the book has and the
    package has not stays as it is.
    """
    found = {(f.provider, f.model, f.key): f for f in comparison.findings}
    planner = _Planner(Plan(starts), found, decisions, tolerance_ppm(tolerance))
    for provider in package.providers if providers is None else providers:
        mine = {model.entry.model: model.entry.prices for model in book.models(provider)}
        for model in package.models(provider):
            planner.model(provider, model.entry.model, model.entry.prices, mine.get(model.entry.model, ()))
    return planner.plan


@dataclass(frozen=True)
class _Planner:
    plan: Plan
    found: Mapping[Where, Finding]
    decisions: Decisions
    ppm: int

    def model(
        self, provider: str, name: str, package: Iterable[PriceEntry], mine: Iterable[PriceEntry]
    ) -> None:
        """Plans one model's prices, all or those that hold together."""
        plan, starts = self.plan, self.plan.starts
        coming = [p for p in package if p.effective_to is None or p.effective_to > starts]
        standing = [p for p in mine if p.effective_to is None or p.effective_to > starts]
        if by_the_clock([*coming, *standing]):
            plan.counts["by the time of day"] += len(in_force(coming, starts))
            return
        additions: list[Addition] = []
        for key in sorted({(p.variant, p.unit, p.tier_start) for p in coming}):
            where = (provider, name, key)
            segments = sorted(_of(coming, key), key=lambda p: p.effective_from)
            rows = sorted(_of(standing, key), key=lambda p: p.effective_from)
            additions += self._price(where, segments, rows)
        active = {(p.variant, p.unit, p.tier_start) for p in in_force(standing, starts)}
        wanted = {(p.variant, p.unit, p.tier_start) for p in in_force(coming, starts)}
        if alone := active - wanted:
            plan.counts["only in the book"] += len(alone)
        plan.additions += self._whole(f"{provider}/{name}", additions, active, wanted)

    def _whole(
        self, name: str, additions: list[Addition], active: set[PriceKey], wanted: set[PriceKey]
    ) -> list[Addition]:
        """Holds back what would leave a model with half of its prices: no output price, or a tier without a base."""
        held = active | {a.where[2] for a in additions}
        missing = [base for base in _BASES if base in wanted and base not in held]
        kept = [] if missing else [a for a in additions if (*a.where[2][:2], 0) in held]
        if len(kept) != len(additions):
            self.plan.withheld.append(name)
        return kept

    def _price(self, where: Where, segments: list[PriceEntry], rows: list[PriceEntry]) -> list[Addition]:
        starts = self.plan.starts
        additions: list[Addition] = []
        current = next((p for p in segments if p.effective_from <= starts), None)
        row = next((p for p in rows if p.effective_from <= starts), None)
        if current is not None:
            added = self._now(where, current, row, [p for p in rows if p.effective_from > starts])
            additions += [added] if added else []
        for later in segments:
            if later.effective_from > starts:
                before = additions[-1].pico if additions else (row.pico if row else None)
                added = self._later(where, later, rows, additions, before)
                additions += [added] if added else []
        return additions

    def _now(
        self, where: Where, price: PriceEntry, row: PriceEntry | None, later: list[PriceEntry]
    ) -> Addition | None:
        finding = self.found.get(where)
        verdict = finding.verdict if finding is not None else Verdict.BOOK_ONLY
        other = finding.map_pico if finding is not None else None
        confirmed = verdict in AGREED
        by_person = row is not None and row.price_id in self.decisions.rows
        if verdict is Verdict.DISAGREE and other:
            if by_person:
                self._count("decided by a person")
                return None
            self._disputed(where, price, row, other)
            return None
        if row is not None and row.pico == price.pico:
            self._count("the same in both sources" if confirmed else "the same, by one source")
            return None
        if by_person and not confirmed:
            self._count("decided by a person")
            return None
        reason = ""
        if by_person:
            reason = "both sources agree on another price than a person decided"
        elif price.pico == 0:
            reason = "it would be free"
        elif row is not None and not confirmed and _leaps(row.pico, price.pico):
            reason = f"one source alone changes it by more than {LEAP} times"
        if reason:
            self._propose(where, price.pico, self.plan.starts, reason, row, price.pico, finding)
            return None
        if row is not None and row.effective_to is not None:
            self.plan.kept.append(f"{_name(where)} until {row.effective_to.isoformat()}")
            return None
        ends = min((p.effective_from for p in later), default=None)
        if price.effective_to is not None:
            ends = min(ends or price.effective_to, price.effective_to)
        closes, was = (row.price_id, row.pico) if row is not None else (None, None)
        return Addition(where, price.pico, self.plan.starts, ends, closes, was, confirmed)

    def _disputed(self, where: Where, price: PriceEntry, row: PriceEntry | None, other: int) -> None:
        """Proposes the source that the book does not follow; where it follows neither, the dearer one."""
        if row is not None and row.pico == price.pico:
            pico = other
        elif row is not None and not differ(row.pico, other, self.ppm):
            pico = price.pico
        else:
            pico = max(price.pico, other)
        if pico == 0:
            self._count("the map has a price where the package has zero")
            return
        finding = self.found[where]
        self._propose(where, pico, self.plan.starts, "the sources disagree", row, price.pico, finding)

    def _later(
        self,
        where: Where,
        price: PriceEntry,
        rows: list[PriceEntry],
        additions: list[Addition],
        before: int | None,
    ) -> Addition | None:
        begins = price.effective_from
        for row in rows:
            if row.effective_to is not None and row.effective_to <= begins:
                continue
            if row.pico == price.pico and row.effective_from <= begins:
                self._count("a coming price, known")
                return None
            if row.effective_to is None and row.effective_from < begins:
                if any(a.closes == row.price_id for a in additions):
                    continue
                if row.price_id in self.decisions.rows or price.pico == 0 or _leaps(row.pico, price.pico):
                    self._propose(where, price.pico, begins, "it comes later", row, price.pico, None)
                    return None
                return Addition(
                    where, price.pico, begins, price.effective_to, row.price_id, row.pico, confirmed=False
                )
            self.plan.kept.append(f"{_name(where)} from {begins.isoformat()}")
            return None
        if any(a.ends is None or a.ends > begins for a in additions):
            self.plan.kept.append(f"{_name(where)} from {begins.isoformat()}")
            return None
        if price.pico == 0 or (before is not None and _leaps(before, price.pico)):
            self._propose(where, price.pico, begins, "it comes later", None, price.pico, None)
            return None
        return Addition(where, price.pico, begins, price.effective_to, None, None, confirmed=False)

    def _propose(
        self,
        where: Where,
        pico: int,
        starts: datetime,
        reason: str,
        row: PriceEntry | None,
        package: int,
        finding: Finding | None,
    ) -> None:
        if (where, pico) in self.decisions.refused:
            self._count("refused by a person")
            return
        if where in self.decisions.waiting:
            self._count("waiting for a person")
            return
        other = finding.map_pico if finding is not None else None
        self.plan.proposals.append(
            Proposal(
                where=where,
                pico=pico,
                starts=starts,
                reason=reason,
                book=row.pico if row is not None else None,
                package=package,
                other=other,
                entries=finding.entries if finding is not None else (),
            )
        )
        return

    def _count(self, what: str) -> None:
        self.plan.counts[what] += 1


def _of(prices: Iterable[PriceEntry], key: PriceKey) -> list[PriceEntry]:
    return [p for p in prices if (p.variant, p.unit, p.tier_start) == key]


def _leaps(one: int, other: int) -> bool:
    return max(one, other) > LEAP * min(one, other)


def _name(where: Where) -> str:
    provider, model, (variant, unit, tier) = where
    return f"{provider}/{model} {variant or 'standard'} {unit}" + (f" above {tier}" if tier else "")
