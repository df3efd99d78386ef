"""What every rate card keeps, whatever it says and whatever was used."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from billing.domain.ceilings import ceilings, marginal_ceiling
from billing.domain.charging import (
    Charge,
    Model,
    Stretch,
    Use,
    charge,
    tiered_yocto,
    units_atto,
)
from billing.domain.rate_card_reading import read_terms
from billing.domain.rate_cards import INPUT_UNITS, OUTPUT_UNITS, Terms, Unit, show_terms
from tests.billing.rates.cards import MODELS, terms, uses, version


def joined(parts: Sequence[dict[Model, Use]]) -> dict[Model, Use]:
    whole: dict[Model, Use] = {}
    for part in parts:
        for model, use in part.items():
            whole[model] = whole[model] + use if model in whole else use
    return whole


def owed(said: Terms, *parts: dict[Model, Use]) -> Charge:
    return charge([Stretch(version=version(said), uses=part) for part in parts])


class TestCharge:
    @settings(max_examples=25)
    @given(terms(), uses())
    def test_is_what_its_lines_add_up_to(self, said: Terms, used: dict[Model, Use]) -> None:
        found = owed(said, used)
        assert sum(line.charge_nano for line in found.lines) == found.total_nano
        assert sum(line.cost_nano for line in found.lines) == found.cost_nano
        assert all(line.charge_nano >= 0 for line in found.lines if line.kind in ("cost", "units"))

    @settings(max_examples=25)
    @given(terms(), uses(), uses(), uses())
    def test_is_the_same_however_a_period_is_split(
        self, said: Terms, a: dict[Model, Use], b: dict[Model, Use], c: dict[Model, Use]
    ) -> None:
        whole, split = owed(said, joined([a, b, c])), owed(said, a, b, c)
        assert (split.total_nano, split.exact_yocto) == (whole.total_nano, whole.exact_yocto)
        assert split.total_nano == sum(line.charge_nano for line in split.lines)

    @settings(max_examples=25)
    @given(terms(), terms(), uses(), uses(), uses())
    def test_never_falls_when_more_is_used(
        self, first: Terms, then: Terms, a: dict[Model, Use], b: dict[Model, Use], more: dict[Model, Use]
    ) -> None:
        later = version(then, 2)
        before = charge([Stretch(version=version(first), uses=a), Stretch(version=later, uses=b)])
        after = charge(
            [Stretch(version=version(first), uses=a), Stretch(version=later, uses=joined([b, more]))]
        )
        assert 0 <= before.total_nano <= after.total_nano

    @settings(max_examples=25)
    @given(terms(), terms(), st.lists(st.tuples(st.booleans(), uses()), max_size=6))
    def test_is_at_most_the_ceilings_of_its_calls(
        self, one: Terms, other: Terms, calls: list[tuple[bool, dict[Model, Use]]]
    ) -> None:
        ceiling = 0
        for first, used in calls:
            for model, use in used.items():
                marginal = marginal_ceiling(one if first else other, *model)
                kinds = marginal.ceiling_of_use(use)
                # What is known before a call is less: how much goes in and out, and none of the kinds.
                bound = marginal.ceiling_nano(
                    cost_bound_nano=use.cost_nano,
                    input_tokens=sum(use.units.get(unit, 0) for unit in INPUT_UNITS),
                    output_tokens=sum(use.units.get(unit, 0) for unit in OUTPUT_UNITS),
                    images=use.units.get(Unit.IMAGES, 0),
                    tool_calls=use.units.get(Unit.TOOL_CALLS, 0),
                    requests=use.units.get(Unit.REQUESTS, 0),
                )
                assert kinds <= bound
                ceiling += kinds
        found = charge(
            [
                Stretch(version=version(one, 1) if first else version(other, 2), uses=used)
                for first, used in calls
            ]
        )
        assert found.total_nano <= ceiling

    @settings(max_examples=25)
    @given(terms(), uses(), uses())
    def test_counts_no_use_without_a_card(
        self, said: Terms, before: dict[Model, Use], used: dict[Model, Use]
    ) -> None:
        found = charge([Stretch(version=None, uses=before), Stretch(version=version(said), uses=used)])
        assert found.total_nano == owed(said, used).total_nano
        assert found.unbilled_nano == sum(use.cost_nano for use in before.values())


class TestTiers:
    @settings(max_examples=25)
    @given(terms(), st.integers(0, 400 * 10**18), st.integers(1, 10**9))
    def test_of_the_price_have_no_jump(self, said: Terms, gross: int, step: int) -> None:
        grown = tiered_yocto(said.tiers, said.included_nano, gross + step)
        dearest = max([1_000_000, *(int(tier.percent * 10_000) for tier in said.tiers)])
        assert 0 <= grown - tiered_yocto(said.tiers, said.included_nano, gross) <= step * dearest

    @settings(max_examples=25)
    @given(terms(), st.integers(0, 30_000))
    def test_of_units_have_no_jump(self, said: Terms, count: int) -> None:
        for rule in said.rules:
            for rate in rule.rates:
                dearest = max([rate.price, *(tier.price for tier in rate.tiers)])
                grown = units_atto(rate, count + 1) - units_atto(rate, count)
                assert 0 <= grown * rate.per <= int(dearest.scaleb(18))


class TestTerms:
    @settings(max_examples=25)
    @given(terms())
    def test_are_read_as_they_are_shown(self, said: Terms) -> None:
        shown = show_terms(said)
        assert read_terms(shown) == said
        assert show_terms(read_terms(shown)) == shown


class TestCeilings:
    @settings(max_examples=25)
    @given(terms())
    def test_are_data_in_which_the_first_match_holds(self, said: Terms) -> None:
        from fnmatch import fnmatchcase

        for provider, model in MODELS:
            found = next(
                entry
                for entry in ceilings(said)
                if fnmatchcase(provider, entry["provider"]) and fnmatchcase(model, entry["model"])
            )
            alone = marginal_ceiling(said, provider, model).as_data()
            assert {name: found[name] for name in alone} == alone

    def test_are_nothing_without_a_card(self) -> None:
        assert marginal_ceiling(None, "openai", "gpt-4o").ceiling_nano(cost_bound_nano=10**9) == 0
        assert [entry["cost_ppm"] for entry in ceilings(None)] == [0]
