"""Compares models on a tenant's own settled calls: call by call where that can be, else by the rollups' sums."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, time, timedelta
from enum import StrEnum
from typing import Final
from uuid import UUID

from budgets.domain.comparison import Comparison, is_linear, sums_nano
from budgets.domain.comparison_figures import Call, Candidate, DayRates, Figures, Group, Note, Sums
from budgets.domain.comparison_question import Asked
from budgets.domain.pricing import PricingError, cost_nano
from budgets.domain.pricing_book import DAY_MINUTES, AmbiguousProvider, Model, PriceBook, UnknownModel
from budgets.domain.pricing_overrides import TenantPrices
from budgets.domain.pricing_rates import Rates, Usage
from budgets.domain.pricing_settled import listed_rates, named_rates, settled_rates
from budgets.queries import comparison as calls_of
from budgets.queries import usage
from budgets.queries.bounded import Row
from budgets.services.policy import price_rules
from budgets.services.price_shelf import shelf
from noburn.kit.problems import FieldError, Invalid

ROWS_MAX: Final = 5_000
"""The most rows of rollups that are priced, the dearest first."""

UNEXPLAINED_MAX: Final = 100
"""Sums stand for calls if all but a hundredth of the recorded cost is what they cost."""


class Basis(StrEnum):
    """What a comparison was made of: every call, the sums of every call, or the newest calls."""

    CALLS = "calls"
    ROLLUPS = "rollups"
    SAMPLE = "sample"


@dataclass(frozen=True, kw_only=True, slots=True)
class Compared:
    """An answer. `groups` are the dearest ones of `group_count`; `calls_from` is the oldest call of a sample.

    `calls_in_period` is the rollups' count, which includes all that was acknowledged before `complete_through`.
    """

    basis: Basis
    comparison: Comparison
    groups: list[tuple[Group, Figures]]
    group_count: int
    calls_in_period: int
    calls_from: datetime | None
    complete_through: datetime | None


def compare(*, tenant_id: UUID, asked: Asked, now: datetime, calls_max: int = calls_of.CALLS_MAX) -> Compared:
    """Compares models on the calls that are asked about.

    Raises Invalid for models that nobody knows, hours that are pruned, and what cannot be looked at in time.
    """
    rules = price_rules(tenant_id=tenant_id, since=asked.usage.since)
    with shelf.lock:
        made = _Making(asked, shelf.book(), TenantPrices(rules), now)
    rolled = usage.ask(tenant_id=tenant_id, question=asked.usage, after=None, limit=ROWS_MAX)
    in_period = int(rolled.totals["requests"])
    basis, comparison, calls_from = None, None, None
    if in_period > calls_max:
        comparison = made.by_rollups(tenant_id, rolled)
        basis = Basis.ROLLUPS
    if comparison is None:
        found = calls_of.settled_calls(tenant_id=tenant_id, question=asked.usage, limit=calls_max + 1)
        if found is not None:
            with shelf.lock:
                comparison = made.by_calls(found[:calls_max])
            basis = Basis.CALLS
            if len(found) > calls_max:
                basis, calls_from = Basis.SAMPLE, found[calls_max - 1].placed_at
                comparison.notes[Note.SAMPLE, ""] = max(in_period, len(found))
        else:
            comparison, basis = made.by_rollups(tenant_id, rolled), Basis.ROLLUPS
    if comparison is None or basis is None:
        raise Invalid([FieldError("from", "finding these calls takes longer than 5 s: ask for less time")])
    if presumed := int(rolled.totals["presumed_nano"]):
        comparison.leave_out(Note.PRESUMED, calls=0, nano=presumed)
    groups = sorted(comparison.groups.items(), key=lambda one: (-one[1].actual_nano, str(one[0])))
    made.note_unseen_writes(comparison)
    return Compared(
        basis=basis,
        comparison=comparison,
        groups=groups[: asked.limit],
        group_count=len(groups),
        calls_in_period=in_period,
        calls_from=calls_from,
        complete_through=rolled.complete_through,
    )


class _Making:
    """One comparison in the making: the models, and the prices of each call."""

    def __init__(self, asked: Asked, book: PriceBook, prices: TenantPrices, now: datetime) -> None:
        self._asked, self._book, self._prices, self._now = asked, book, prices, now
        self._today: dict[int, tuple[Rates, DayRates]] = {}
        errors: list[FieldError] = []
        candidates = [self._candidate(name, errors) for name in asked.models]
        self._candidates = [candidate for candidate in candidates if candidate is not None]
        names = [candidate.name for candidate in self._candidates]
        errors += [
            FieldError("models", f"names {name} twice")
            for name in dict.fromkeys(names)
            if names.count(name) > 1
        ]
        if errors:
            raise Invalid(errors)

    def _candidate(self, name: str, errors: list[FieldError]) -> Candidate | None:
        provider, slash, rest = name.partition("/")
        tries: list[tuple[str | None, str]] = [(provider, rest)] if slash and provider and rest else []
        tries.append((None, name))
        problems = []
        for seller, model in tries:
            found = self._prices.resolve(self._book, seller, model, self._now)
            if isinstance(found, AmbiguousProvider):
                sellers = ", ".join(found.providers[:5])
                problems.append(f"{name[:100]!r} is sold by several: name one of them, as in {sellers}")
            elif isinstance(found, Rates) or found.reason == "unpriced":
                return self._known(seller, model, found)
        unknown = f"{name[:100]!r} is not in the price book and has no negotiated price; GET /v1/prices lists models"
        errors.append(FieldError("models", problems[0] if problems else unknown))
        return None

    def _known(self, seller: str | None, model: str, found: Rates | UnknownModel) -> Candidate:
        if isinstance(found, Rates):
            name = f"{found.provider}/{found.model}"
        else:
            entry = self._book.find(seller, model)
            name = f"{entry.provider}/{entry.entry.model}" if isinstance(entry, Model) else model
        window = self._window(seller, model)
        return Candidate(name=name, rates=self._day(seller, model), context_window=window)

    def _day(self, seller: str | None, model: str) -> DayRates:
        """A model's rates on this day, by the minute from which each holds."""
        entry = self._book.find(seller, model)
        minutes = {0}
        if isinstance(entry, Model):
            for period in entry.periods:
                if period.effective_from <= self._now and (
                    period.effective_to is None or self._now < period.effective_to
                ):
                    minutes |= {period.daily_from, period.daily_to} - {DAY_MINUTES}
        midnight = datetime.combine(self._now.astimezone(UTC).date(), time(), UTC)
        steps = []
        for minute in sorted(minutes):
            at = self._now if len(minutes) == 1 else midnight + timedelta(minutes=minute)
            found = self._prices.resolve(self._book, seller, model, at)
            steps.append((minute, found if isinstance(found, Rates) else None))
        return DayRates(steps=tuple(steps))

    # --- call by call -------------------------------------------------------------------------------------

    def by_calls(self, found: Iterable[calls_of.SettledCall]) -> Comparison:
        """Prices every call by itself."""
        comparison = Comparison(self._candidates, self._asked.token_factor)
        for call in found:
            if call.usage is None:
                comparison.leave_out(Note.NOT_COUNTED, calls=1, nano=call.cost_nano)
                continue
            paid, listed = self._paid(call), self._listed(call)
            serving = paid or listed
            if paid is not None and _cost(paid, call.usage) != call.cost_nano:
                paid = None
                comparison.leave_out(Note.TOLD_COST, calls=1, nano=call.cost_nano)
            if paid is not None and self._changed(paid, call.placed_at):
                comparison.notes[Note.PRICE_CHANGED, ""] += 1
            try:
                comparison.add_call(
                    Call(
                        group=self._group(call.names),
                        placed_at=call.placed_at,
                        model=serving.model if serving is not None else call.reported_model or call.model,
                        usage=call.usage,
                        cost_nano=call.cost_nano,
                        paid=paid,
                        listed=listed,
                    )
                )
            except PricingError:
                comparison.leave_out(Note.NOT_COUNTED, calls=1, nano=call.cost_nano)
        return comparison

    def _paid(self, call: calls_of.SettledCall) -> Rates | None:
        """The rates that a call was settled at, found as a settlement finds them; of a re-rated one, its newest."""
        asked = {"provider": call.provider, "asked": call.model, "reported": call.reported_model}
        if call.rerated:
            return next(named_rates(self._book, self._prices, name=call.price_id, **asked), None)
        return settled_rates(self._book, self._prices, price_name=call.price_id, at=call.placed_at, **asked)

    def _listed(self, call: calls_of.SettledCall) -> Rates | None:
        return listed_rates(
            self._book,
            provider=call.provider,
            asked=call.model,
            reported=call.reported_model,
            at=call.placed_at,
        )

    def _changed(self, paid: Rates, at: datetime) -> bool:
        kept = self._today.get(id(paid))
        if kept is None:
            kept = self._today[id(paid)] = paid, self._day(paid.provider, paid.model)
        now = kept[1].at(at)
        return now is not paid and (now is None or _prices(now) != _prices(paid))

    # --- by sums ------------------------------------------------------------------------------------------

    def by_rollups(self, tenant_id: UUID, rolled: usage.Answer) -> Comparison | None:
        """Prices sums; None where they do not say what calls cost."""
        if any((rates := each.rates.only) is not None and not is_linear(rates) for each in self._candidates):
            return None
        if any(each.rates.only is None and each.priced is not None for each in self._candidates):
            return None
        question, rows = self._asked.usage, rolled.rows
        truncated = len(rows) > ROWS_MAX
        totals = rows
        if truncated or question.groups != ("provider", "model"):
            if question.tag_name and question.tag is None:
                if truncated:
                    return None
            else:
                models = replace(question, groups=("provider", "model"))
                totals = usage.ask(tenant_id=tenant_id, question=models, after=None, limit=ROWS_MAX).rows
                if len(totals) > ROWS_MAX:
                    return None
        comparison = Comparison(self._candidates, self._asked.token_factor)
        with shelf.lock:
            if not self._explained(comparison, totals):
                return None
            both = totals is rows
            self._add_rows(comparison, totals, to_totals=True, to_group=both)
            if not both:
                self._add_rows(comparison, rows[:ROWS_MAX], to_totals=False, to_group=True)
            windows = [
                self._window(row["names"]["provider"] or None, row["names"]["model"]) for row in totals
            ]
        if truncated:
            comparison.notes[Note.GROUPS, ""] = int(rolled.totals["requests"])
        for each in self._candidates:
            # What has as much room as all that the calls ran on has room for each of them.
            room = each.context_window
            if room is not None and any(window is None or window > room for window in windows):
                comparison.notes[Note.CONTEXT_WINDOW_UNCHECKED, each.name] = comparison.totals.calls
        return comparison

    def _window(self, provider: str | None, model: str) -> int | None:
        found = self._book.find(provider, model)
        return found.entry.context_window if isinstance(found, Model) else None

    def _explained(self, comparison: Comparison, rows: Iterable[Row]) -> bool:
        """Whether sums cost what the ledger has, all but little; notes what is unexplained."""
        total = unexplained = 0
        for row in rows:
            total += abs(row["cost_nano"] - row["presumed_nano"])
            rates = self._steady(row)
            if rates is None:
                continue
            paid, _ = rates
            cost = None if _is_bent(paid, row) else sums_nano(paid, _parts(row))
            if cost is None:
                return False
            difference = abs(row["cost_nano"] - row["presumed_nano"] - cost)
            # Each call was rounded by itself.
            unexplained += difference if difference > row["requests"] else 0
        if unexplained:
            comparison.leave_out(Note.UNEXPLAINED, calls=0, nano=unexplained)
        return unexplained * UNEXPLAINED_MAX <= total

    def _steady(self, row: Row) -> tuple[Rates, Rates | None] | None:
        """What a row's model is paid, and listed, at when the period ends; None without a price.

        A price that changed within the period shows in what is unexplained.
        """
        names = row["names"]
        provider, model = names["provider"] or None, names["model"]
        last = min(self._now, self._asked.usage.until - timedelta(microseconds=1))
        paid = self._prices.resolve(self._book, provider, model, last)
        listed = self._book.resolve(provider, model, last)
        if not isinstance(paid, Rates):
            return None
        return paid, listed if isinstance(listed, Rates) else None

    def _add_rows(
        self, comparison: Comparison, rows: Iterable[Row], *, to_totals: bool, to_group: bool
    ) -> None:
        for row in rows:
            settled = row["cost_nano"] - row["presumed_nano"]
            rates = self._steady(row)
            if rates is None or not row["input_tokens"] + row["output_tokens"] + row["images"]:
                if to_totals and (settled or rates is None):
                    comparison.leave_out(Note.NOT_COUNTED, calls=row["requests"], nano=settled)
                continue
            paid, listed = rates
            if to_totals and self._changed(paid, self._now):
                comparison.notes[Note.PRICE_CHANGED, ""] += row["requests"]
            sums = Sums(
                group=self._group(tuple(row["names"].values())) if to_group else (),
                model=paid.model,
                calls=row["requests"],
                parts=_parts(row),
                cost_nano=settled,
                paid=paid,
                listed=listed,
            )
            comparison.add_sums(sums, to_totals=to_totals, to_group=to_group)

    # --- both ---------------------------------------------------------------------------------------------

    def _group(self, names: tuple[str | None, ...]) -> Group:
        return names if self._asked.group == "model" else names[:1]

    def note_unseen_writes(self, comparison: Comparison) -> None:
        """Notes candidates that take a price for writes that nobody told."""
        for at, candidate in enumerate(self._candidates):
            if comparison.totals.unseen_writes_nano(at):
                calls = comparison.totals.versus[at].calls
                comparison.notes[Note.CACHE_WRITES_UNSEEN, candidate.name] = calls


def _is_bent(rates: Rates, row: Row) -> bool:
    """Whether a row's sums may cost something else than its calls."""
    cached = row["cache_read_tokens"] or row["cache_write_tokens"]
    return not is_linear(rates) or bool(row["tool_calls"]) or bool(row["audio_input_tokens"] and cached)


def _parts(row: Row) -> list[int]:
    audio, hour = row["audio_input_tokens"], row["cache_write_1h_tokens"]
    reads, writes = row["cache_read_tokens"], row["cache_write_tokens"]
    speech, reasoning = row["audio_output_tokens"], row["reasoning_tokens"]
    return [
        row["input_tokens"] - reads - writes - audio,
        reads,
        writes - hour,
        hour,
        audio,
        0,
        row["output_tokens"] - reasoning - speech,
        reasoning,
        speech,
        row["images"],
    ]


def _cost(rates: Rates, used: Usage) -> int | None:
    try:
        return cost_nano(rates, used)
    except PricingError:
        return None


def _prices(rates: Rates) -> object:
    return rates.units, {name: each.units for name, each in rates.variants.items()}
