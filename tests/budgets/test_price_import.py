"""What an import does to the book: added, changed, proposed, kept; what a person decided; twice; dry."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import datetime, timedelta
from decimal import Decimal
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from budgets.domain.pricing import Rates
from budgets.domain.pricing_book import ModelEntry, PriceBook, PriceEntry
from budgets.domain.pricing_differences import compare
from budgets.domain.pricing_import import Addition, Decisions, Plan, plan_import
from budgets.domain.pricing_litellm import parse_map
from budgets.models import PriceBookVersion, PriceImport, PriceModel, PriceProposal, PriceRow
from budgets.services.price_import import Imported, import_prices
from budgets.services.price_offers import mark_offered
from budgets.services.price_proposals import approve, reject
from budgets.services.price_seed import seed_prices
from budgets.services.price_sources import MapFile, package_book
from budgets.services.prices import LEAD, add_price, close_price, price_book
from tests.budgets.price_books import NOW, START, entry, model, provider
from tests.budgets.test_price_rows import new_price

INPUT, OUTPUT, CACHE = ("", "input_tokens", 0), ("", "output_tokens", 0), ("", "cache_read_tokens", 0)
LATER = NOW + timedelta(days=30)


def quoted(read: float | None = None, written: float | None = None, **fields: float | None) -> bytes:
    """A map of one model, `m`; prices in pico-USD."""
    prices = {"input_cost_per_token": read, "output_cost_per_token": written, **fields}
    said = {name: price if price is None else price * 1e-12 for name, price in prices.items()}
    return json.dumps({"m": {"litellm_provider": "openai", **said}}).encode()


def plan(
    mine: Iterable[PriceEntry] | None, package: Iterable[PriceEntry], raw: bytes = b"{}", **decisions: Any
) -> Plan:
    """The plan for one model with these prices in the book (None: the book has no such model) and in the package."""

    def book(prices: Iterable[PriceEntry] | None) -> PriceBook:
        models: list[ModelEntry] = [] if prices is None else [model("m", prices=tuple(prices))]
        return PriceBook(1, [provider("openai", *models)])

    theirs = book(package)
    return plan_import(
        book(mine),
        theirs,
        compare(theirs, parse_map(raw), at=NOW),
        Decisions(**decisions),
        starts=NOW,
    )


def both(read: int, written: int, **changes: Any) -> tuple[PriceEntry, PriceEntry]:
    return entry("input_tokens", read, 1, **changes), entry("output_tokens", written, 2, **changes)


def added(found: Plan) -> list[tuple[tuple[str, str, int], int, int | None]]:
    return [(a.where[2], a.pico, a.closes) for a in found.additions]


def proposed(found: Plan) -> list[tuple[tuple[str, str, int], int]]:
    return [(p.where[2], p.pico) for p in found.proposals]


class TestPlan:
    def test_adds_a_new_model_by_both_sources_or_by_the_package_alone(self) -> None:
        for raw, confirmed in ((quoted(100, 200), True), (b"{}", False)):
            found = plan(None, both(100, 200), raw)
            assert added(found) == [(INPUT, 100, None), (OUTPUT, 200, None)]
            assert {a.confirmed for a in found.additions} == {confirmed}
            assert found.proposals == []

    def test_changes_a_price_where_both_sources_agree(self) -> None:
        found = plan(both(100, 200), both(90, 200), quoted(90, 200))
        (addition,) = found.additions
        assert addition == Addition(("openai", "m", INPUT), 90, NOW, None, 1, 100, confirmed=True)
        assert found.counts["the same in both sources"] == 1

    def test_changes_by_one_sources_word_only_what_it_moves_a_little(self) -> None:
        assert added(plan(both(100, 200), both(1000, 200))) == [(INPUT, 1000, 1)]
        for leap in (1001, 9):
            found = plan(both(100, 200), both(leap, 200))
            assert (added(found), proposed(found)) == ([], [(INPUT, leap)])
            assert "more than 10 times" in found.proposals[0].reason
        assert added(plan(both(100, 200), both(2000, 200), quoted(2000, 200))) == [(INPUT, 2000, 1)]

    @pytest.mark.parametrize(
        ("mine", "package", "other", "offer"),
        [
            (100, 100, 150, 150),  # The book follows the package: the map's price is the question.
            (150, 100, 150, 100),  # The book follows the map.
            (120, 100, 150, 150),  # It follows neither: the dearer one, which no call outruns.
            (120, 160, 150, 160),
        ],
    )
    def test_proposes_what_the_sources_disagree_on(
        self, mine: int, package: int, other: int, offer: int
    ) -> None:
        found = plan(both(mine, 200), both(package, 200), quoted(other, 200))
        assert (added(found), proposed(found)) == ([], [(INPUT, offer)])
        (asked,) = found.proposals
        assert (asked.book, asked.package, asked.other) == (mine, package, other)
        assert asked.by_map == (offer == other)

    def test_never_makes_anything_free(self) -> None:
        zero = both(0, 0)
        for found in (
            plan(both(100, 200), zero),
            plan(None, zero),
            plan(both(100, 200), zero, quoted(0, 0)),
            plan(None, zero, quoted(0, 0)),
        ):
            assert added(found) == []
            assert proposed(found) == [(INPUT, 0), (OUTPUT, 0)]
            assert {p.reason for p in found.proposals} == {"it would be free"}
        # A zero, a null or a gap in the map is no price, and no contradiction.
        for raw in (quoted(0, 0), quoted(None, None), b"{}"):
            assert plan(both(100, 200), both(100, 200), raw).empty
            assert added(plan(None, both(100, 200), raw)) == [(INPUT, 100, None), (OUTPUT, 200, None)]
        assert proposed(plan(zero, zero, quoted(100, 200))) == [(INPUT, 100), (OUTPUT, 200)]
        assert plan(both(100, 200), zero, quoted(100, 200)).empty

    def test_leaves_what_only_the_book_or_only_the_map_has(self) -> None:
        found = plan(
            (*both(100, 200), entry("cache_read_tokens", 10, 3)),
            both(100, 200),
            quoted(100, 200, cache_read_input_token_cost=20),
        )
        assert found.empty
        assert found.counts["only in the book"] == 1

    def test_adds_no_model_with_half_of_its_prices(self) -> None:
        found = plan(None, (*both(100, 200), entry("cache_read_tokens", 10, 3)), quoted(100, 300))
        assert (added(found), proposed(found), found.withheld) == ([], [(OUTPUT, 300)], ["openai/m"])
        # A part that is disputed is charged as the whole meanwhile, which is dearer.
        found = plan(
            None,
            (*both(100, 200), entry("cache_read_tokens", 10, 3)),
            quoted(100, 200, cache_read_input_token_cost=20),
        )
        assert added(found) == [(INPUT, 100, None), (OUTPUT, 200, None)]
        assert proposed(found) == [(CACHE, 20)]

    def test_adds_no_tier_without_its_base(self) -> None:
        tiers = (entry("cache_read_tokens", 10, 3), entry("cache_read_tokens", 20, 4, tier_start=200_000))
        raw = quoted(
            100, 200, cache_read_input_token_cost=11, cache_read_input_token_cost_above_200k_tokens=20
        )
        found = plan(both(100, 200), (*both(100, 200), *tiers), raw)
        assert (added(found), proposed(found), found.withheld) == ([], [(CACHE, 11)], ["openai/m"])

    def test_leaves_what_a_person_decided(self) -> None:
        by_person: dict[str, Any] = {"rows": frozenset({1})}
        assert plan(both(90, 200), both(100, 200), **by_person).empty
        assert plan(both(90, 200), both(100, 200), quoted(150, 200), **by_person).empty
        # Both sources against a person: that is for a person.
        found = plan(both(90, 200), both(100, 200), quoted(100, 200), **by_person)
        assert (added(found), proposed(found)) == ([], [(INPUT, 100)])

    def test_asks_nothing_twice(self) -> None:
        where = ("openai", "m", INPUT)
        raw = quoted(150, 200)
        assert plan(both(100, 200), both(100, 200), raw, waiting={where: 150}).empty
        assert plan(both(100, 200), both(100, 200), raw, refused=frozenset({(where, 150)})).empty
        assert not plan(both(100, 200), both(100, 200), raw, refused=frozenset({(where, 160)})).empty

    def test_leaves_prices_by_the_time_of_day_to_the_seed(self) -> None:
        found = plan(both(100, 200, daily_to=60), both(90, 200))
        assert (found.empty, found.counts) == (True, {"by the time of day": 2})

    def test_brings_coming_prices_with_their_dates(self) -> None:
        old, new = both(100, 200, effective_to=LATER), both(50, 200, effective_from=LATER)
        found = plan(None, (*old, *new))
        dates = {(a.where[2], a.pico): (a.starts, a.ends) for a in found.additions}
        assert dates[INPUT, 100] == (NOW, LATER)
        assert dates[INPUT, 50] == (LATER, None)
        # The package's row for output is cut in two by the same date; so is the book's.
        assert dates[OUTPUT, 200] == (LATER, None)

        found = plan(both(100, 200), (*old, *new))
        assert [(a.where[2], a.pico, a.starts, a.closes) for a in found.additions] == [(INPUT, 50, LATER, 1)]
        assert plan((*old, *new), (*old, *new)).empty

    def test_asks_before_a_coming_price_ends_a_persons_or_leaps(self) -> None:
        old, new = both(100, 200, effective_to=LATER), both(50, 200, effective_from=LATER)
        found = plan(both(100, 200), (*old, *new), rows=frozenset({1}))
        assert [(p.where[2], p.pico, p.starts) for p in found.proposals] == [(INPUT, 50, LATER)]
        found = plan(both(100, 200), (*old, *both(5, 200, effective_from=LATER)))
        assert proposed(found) == [(INPUT, 5)]

    def test_keeps_a_row_whose_end_is_set_already(self) -> None:
        found = plan(both(100, 200, effective_to=LATER), both(90, 200))
        assert found.additions == []
        assert found.kept[0] == f"openai/m standard input_tokens until {LATER.isoformat()}"


def map_file(**models: dict[str, Any]) -> MapFile:
    raw = {name: {"litellm_provider": "openai", **fields} for name, fields in models.items()}
    return MapFile("litellm 9.9.9", parse_map(json.dumps(raw).encode()))


MINI = "gpt-4o-mini"


@pytest.fixture(scope="module")
def seeded(real_database: None) -> None:
    """The seeded book, committed once; what a test does to it is taken back."""
    seed_prices()


def row(unit: str = "input_tokens", name: str = MINI, at: datetime = NOW) -> PriceRow:
    rows = PriceRow.objects.filter(
        price_model__provider="openai", price_model__model=name, variant="", unit=unit, tier_start=0
    )
    return rows.filter(effective_from__lte=at).order_by("-effective_from")[0]


def run(prices: MapFile, *, now: datetime = NOW, **options: Any) -> Imported:
    return import_prices(map_file=prices, now=now, providers=("openai",), **options)


def rates(at: datetime) -> Rates:
    found = price_book().resolve("openai", MINI, at)
    assert isinstance(found, Rates)
    return found


@pytest.mark.usefixtures("seeded")
@pytest.mark.django_db
class TestImport:
    """On the seeded book, with maps made by hand."""

    def test_changes_a_price_from_its_start_on_and_no_call_before(self) -> None:
        # The book is behind: somebody's release had another price, and both sources have moved since.
        before = PriceBookVersion.objects.get().version
        old = row()
        close_price(price_id=old.pk, at=NOW, now=NOW)
        PriceRow.objects.create(
            price_model=old.price_model, unit="input_tokens", price=Decimal("0.0000002"), effective_from=NOW,
            source="genai-prices 0.1.0, x", checked_at=NOW,
        )  # fmt: skip
        done = run(map_file(**{MINI: {"input_cost_per_token": 150e-9}}), now=NOW + timedelta(hours=1))
        starts = NOW + timedelta(hours=1) + LEAD
        assert [(a.pico, a.was, a.starts) for a in done.plan.additions] == [(150_000, 200_000, starts)]
        assert rates(starts - timedelta(microseconds=1)).tiers[0].input == 200_000
        assert rates(starts).tiers[0].input == 150_000
        assert row(at=starts).source.startswith("genai-prices 0.2.3 and litellm 9.9.9, https://")
        assert PriceBookVersion.objects.get().version > before

    def test_proposes_a_disagreement_with_both_numbers_and_changes_nothing_twice(self) -> None:
        prices = map_file(**{MINI: {"input_cost_per_token": 300e-9, "output_cost_per_token": 600e-9}})
        first = run(prices)
        waiting = PriceProposal.objects.get(provider="openai", model=MINI)
        assert (waiting.price, waiting.book_price, waiting.genai_price, waiting.litellm_price) == (
            Decimal("0.0000003"),
            Decimal("0.00000015"),
            Decimal("0.00000015"),
            Decimal("0.0000003"),
        )
        assert (waiting.source, waiting.proposed_by) == (f"litellm 9.9.9, {MINI}", "command:prices import")
        assert waiting.note == (
            "the sources disagree. the book: 0.00000015 USD; genai-prices 0.2.3: 0.00000015 USD; "
            "litellm 9.9.9: 0.0000003 USD"
        )
        version = PriceBookVersion.objects.get().version
        again = run(prices, now=NOW + timedelta(days=1))
        assert (len(first.plan.proposals), again.plan.empty, again.offers) == (1, True, 0)
        assert PriceBookVersion.objects.get().version == version
        assert again.plan.counts["waiting for a person"] == 1
        assert list(PriceImport.objects.order_by("ran_at").values_list("found__proposed", flat=True)) == [
            1,
            0,
        ]

    def test_takes_a_persons_word_for_good(self) -> None:
        prices = map_file(**{MINI: {"input_cost_per_token": 300e-9, "output_cost_per_token": 900e-9}})
        run(prices)
        by_unit = {p.unit: p for p in PriceProposal.objects.filter(model=MINI)}
        day = NOW + timedelta(days=1)
        approve(proposal_id=by_unit["input_tokens"].pk, actor="operator:1", now=day)
        reject(proposal_id=by_unit["output_tokens"].pk, actor="operator:1", now=day)
        assert rates(day).tiers[0].input == 150_000
        assert rates(day + LEAD).tiers[0].input == 300_000
        again = run(prices, now=day + timedelta(days=1))
        assert again.plan.empty
        assert again.plan.counts["decided by a person"] == 1
        assert again.plan.counts["refused by a person"] == 1

    def test_leaves_a_price_that_somebody_added(self) -> None:
        add_price(
            price=new_price(provider="openai", model=MINI, price="0.0000009", effective_from=NOW),
            now=NOW,
            close_open=True,
        )
        assert run(map_file(), now=NOW + timedelta(days=1)).plan.empty
        agreed = run(map_file(**{MINI: {"input_cost_per_token": 150e-9}}), now=NOW + timedelta(days=1))
        assert [(p.pico, p.book) for p in agreed.plan.proposals] == [(150_000, 900_000)]

    def test_says_in_a_dry_run_what_it_would_do_and_does_nothing(self) -> None:
        version = PriceBookVersion.objects.get().version
        done = run(map_file(**{MINI: {"input_cost_per_token": 300e-9}}), dry_run=True)
        assert len(done.plan.proposals) == 1
        assert not done.applied
        assert not PriceProposal.objects.filter(model=MINI).exists()
        assert not PriceImport.objects.exists()
        assert PriceBookVersion.objects.get().version == version
        assert PriceModel.objects.get(provider="openai", model="gpt-4").offered

    def test_begins_when_it_is_told_and_never_in_the_past(self) -> None:
        with pytest.raises(ValueError, match="must not begin in the past"):
            run(map_file(), starts=NOW - timedelta(seconds=1))
        done = run(map_file(**{MINI: {"input_cost_per_token": 300e-9}}), starts=LATER)
        assert {p.starts for p in done.plan.proposals} == {LATER}

    def test_adds_nothing_to_a_seeded_book_from_the_package_it_was_seeded_from(self) -> None:
        done = import_prices(map_file=MapFile("none", parse_map(b"{}")), now=NOW)
        assert done.plan.empty
        assert done.plan.counts["the same, by one source"] > 6_000


@pytest.mark.usefixtures("seeded")
@pytest.mark.django_db
class TestOffers:
    def offered(self, name: str, seller: str = "openai") -> bool:
        return PriceModel.objects.get(provider=seller, model=name).offered

    def test_are_not_what_the_package_only_borrowed_from_a_router(self) -> None:
        for name in ("gpt-oss-120b", "gpt-oss-20b", "gpt-5-image", "gpt-4o:extended"):
            assert not self.offered(name), name
        assert self.offered("openai/gpt-oss-120b", "groq")
        assert self.offered("anthropic/claude-sonnet-5", "openrouter")

    def test_are_what_the_map_lists_by_that_name_and_not_as_retired(self) -> None:
        price: dict[str, Any] = {"input_cost_per_token": 1}
        listed = map_file(
            **{
                MINI: price,
                "gpt-4": {**price, "deprecation_date": "2026-11-22"},
                "gpt-4.1": {**price, "deprecation_date": "2026-11-23"},
                "gpt-oss-20b": price,
            }
        )
        assert mark_offered(prices=listed.prices, now=NOW) > 50
        shown = {name: self.offered(name) for name in (MINI, "gpt-4", "gpt-4.1", "o1-mini", "gpt-oss-20b")}
        assert shown == {MINI: True, "gpt-4": False, "gpt-4.1": True, "o1-mini": False, "gpt-oss-20b": False}
        # Another seller's models are as before, and a second look changes nothing.
        assert self.offered("claude-haiku-4-5", "anthropic")
        assert mark_offered(prices=listed.prices, now=NOW) == 0
        seed_prices()
        assert not self.offered("o1-mini")
        entries = {m.entry.model: m.entry.offered for m in price_book().models("openai")}
        assert (entries[MINI], entries["o1-mini"]) == (True, False)

    def test_leave_a_model_that_somebody_added(self) -> None:
        add_price(price=new_price(provider="openai", model="ft:mine"), now=NOW, new_model=True)
        mark_offered(prices=map_file(m={"input_cost_per_token": 1}).prices, now=NOW)
        assert self.offered("ft:mine")


@pytest.mark.usefixtures("seeded")
@pytest.mark.django_db
class TestCommand:
    def run(self, *arguments: str) -> str:
        out = StringIO()
        call_command("prices", "import", *arguments, stdout=out)
        return out.getvalue()

    def test_asks_about_the_pinned_sources_once(self) -> None:
        dry = self.run("--dry-run")
        assert "a dry run: nothing was changed" in dry
        first = json.loads(self.run("--json"))
        assert first["appended"] == 0
        assert 100 < first["proposed"] == len(first["proposals"]) < 300
        assert first["left"]["the same in both sources"] > 2_000
        assert f"proposed to a person: {first['proposed']}" in dry
        again = self.run()
        assert "nothing changed" in again
        assert f"{first['proposed']:5}  waiting for a person" in again
        out = StringIO()
        call_command("prices", "proposals", stdout=out)
        assert "genai-prices 0.2.3: 0.0000002 USD; litellm 1.106.2: 0.000001 USD" in out.getvalue()

    def test_names_what_is_wrong(self) -> None:
        for arguments, message in (
            (("--from", "tomorrow"), "--from"),
            (("--from", "2030-01-01"), "time zone"),
            (("--from", "2020-01-01T00:00:00Z"), "must not begin in the past"),
        ):
            with pytest.raises(CommandError, match=message):
                self.run(*arguments)


@pytest.mark.django_db
def test_the_packages_book_is_the_seeded_one(seeded: None) -> None:
    mine, theirs = price_book(), package_book()
    for name in ("openai", "google", "deepseek"):
        # Other tests price models of their own beside them.
        seen = {model.entry.model: model for model in mine.models(name)}
        for other in theirs.models(name):
            one = seen[other.entry.model]
            assert [p.rates.tiers for p in one.periods] == [p.rates.tiers for p in other.periods]
            assert one.entry.offered == other.entry.offered
    assert START < NOW
