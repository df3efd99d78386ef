"""The price book: names and dates, the seed, appended rows, and what PostgreSQL refuses."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from io import StringIO
from typing import Any

import psycopg
import pytest
from django.core.management import CommandError, call_command
from django.db import DatabaseError, IntegrityError, connection, transaction

from budgets.domain.pricing import Rates, Usage, cost_nano
from budgets.domain.pricing_alternatives import alternatives
from budgets.domain.pricing_book import (
    CACHE_SIZE,
    AmbiguousProvider,
    ModelEntry,
    PriceBook,
    PriceEntry,
    ProviderEntry,
    UnknownModel,
)
from budgets.domain.pricing_list import price_list
from budgets.domain.pricing_match import BadPattern, compile_pattern, with_dashed_date
from budgets.models import PriceBookVersion, PriceModel, PriceProvider, PriceRow
from budgets.services.price_seed import seed_prices
from budgets.services.prices import BadPrice, NewPrice, PriceOverlap, add_price, close_price, price_book
from budgets.stores.postgres.prices import load_price_book, load_price_book_version

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
START = datetime(2020, 1, 1, tzinfo=UTC)


def entry(unit: str, pico: int, number: int = 1, **changes: Any) -> PriceEntry:
    fields: dict[str, Any] = {
        "variant": "",
        "tier_start": 0,
        "effective_from": START,
        "effective_to": None,
        "daily_from": 0,
        "daily_to": 1440,
    }
    return PriceEntry(price_id=number, unit=unit, pico=pico, **(fields | changes))


def model(
    name: str, *, pattern: Any = None, read: int = 100, written: int = 200, **changes: Any
) -> ModelEntry:
    fields: dict[str, Any] = {
        "deprecated": False,
        "context_window": None,
        "prices": (entry("input_tokens", read, 1), entry("output_tokens", written, 2)),
    }
    return ModelEntry(model=name, pattern=pattern, **(fields | changes))


def provider(
    name: str, *models: ModelEntry, own: Any = None, known_as: Any = None, resells: tuple[str, ...] = ()
) -> ProviderEntry:
    return ProviderEntry(name, known_as, own, resells, models)


BOOK = PriceBook(
    7,
    [
        provider(
            "openai",
            model("gpt-9", pattern={"starts_with": "gpt-9"}, read=900, written=1800),
            model("gpt-9-mini", pattern={"equals": "gpt-9-mini"}, read=90, written=180),
            model("gpt-9-nano", pattern={"equals": "gpt-9-nano"}, read=9, written=18),
            model("gpt-9-2026-01-02", pattern={"equals": "gpt-9-2026-01-02"}),
            own={"starts_with": "gpt-"},
            known_as={"contains": "openai"},
        ),
        provider("azure", model("local-1"), resells=("openai",)),
        provider("reseller", model("GPT-9"), model("shared-1"), model("only-here")),
        provider("other", model("shared-1"), model("odd", pattern={"regex": r"^odd-\d+$"})),
    ],
)


def resolved(
    name: str, *, seller: str | None = None, at: datetime = NOW, book: PriceBook = BOOK
) -> tuple[str, str]:
    rates = book.resolve(seller, name, at)
    assert isinstance(rates, Rates), rates
    return rates.provider, rates.model


class TestResolve:
    def test_prefers_the_exact_name_to_an_earlier_pattern(self) -> None:
        assert resolved("gpt-9-mini", seller="openai") == ("openai", "gpt-9-mini")
        assert resolved("gpt-9-turbo", seller="openai") == ("openai", "gpt-9")

    def test_ignores_case_in_names_of_providers_and_models(self) -> None:
        assert resolved("GPT-9-Mini", seller=" OpenAI ") == ("openai", "gpt-9-mini")

    def test_recognises_a_provider_by_its_pattern(self) -> None:
        assert resolved("gpt-9", seller="my-openai-proxy") == ("openai", "gpt-9")

    def test_infers_the_maker_before_any_reseller(self) -> None:
        assert resolved("gpt-9") == ("openai", "gpt-9")

    def test_infers_the_only_seller_of_an_exact_name(self) -> None:
        assert resolved("only-here") == ("reseller", "only-here")

    def test_infers_the_only_seller_with_a_pattern(self) -> None:
        assert resolved("odd-17") == ("other", "odd")

    def test_asks_which_when_several_sell_it(self) -> None:
        assert BOOK.resolve(None, "shared-1", NOW) == AmbiguousProvider("shared-1", ("reseller", "other"))

    def test_looks_at_the_models_that_a_provider_resells(self) -> None:
        assert resolved("gpt-9-mini", seller="azure") == ("openai", "gpt-9-mini")

    def test_reads_a_compact_date_as_a_dashed_one(self) -> None:
        assert resolved("gpt-9-20260102", seller="azure")[1] == "gpt-9"
        exact = PriceBook(1, [provider("p", model("m-2026-01-02"))])
        assert resolved("m-20260102", seller="p", book=exact) == ("p", "m-2026-01-02")

    @pytest.mark.parametrize(
        ("seller", "name", "reason"),
        [
            ("nobody", "gpt-9", "provider"),
            ("openai", "claude", "model"),
            (None, "claude", "model"),
            (None, "", "model"),
        ],
    )
    def test_says_what_is_unknown(self, seller: str | None, name: str, reason: str) -> None:
        found = BOOK.resolve(seller, name, NOW)
        assert isinstance(found, UnknownModel)
        assert found.reason == reason

    def test_cuts_an_absurd_name(self) -> None:
        found = BOOK.resolve(None, "x" * 10_000, NOW)
        assert isinstance(found, UnknownModel)
        assert len(found.model) == 200

    def test_forgets_names_beyond_its_bound(self) -> None:
        book = PriceBook(1, [provider("p", model("m"))])
        for number in range(CACHE_SIZE + 100):
            book.resolve(None, f"m{number}", NOW)
        assert len(book._found) == CACHE_SIZE


class TestDates:
    def book(self, *prices: PriceEntry) -> PriceBook:
        return PriceBook(1, [provider("p", model("m", prices=prices))])

    def test_choose_the_row_in_force(self) -> None:
        change = datetime(2026, 6, 1, tzinfo=UTC)
        book = self.book(
            entry("input_tokens", 100, 1, effective_to=change),
            entry("input_tokens", 50, 2, effective_from=change),
            entry("output_tokens", 7, 3),
        )
        before = book.resolve("p", "m", change - timedelta(microseconds=1))
        after = book.resolve("p", "m", change)
        assert isinstance(before, Rates)
        assert isinstance(after, Rates)
        assert (before.tiers[0].input, before.tiers[0].output, before.price_id) == (100, 7, 3)
        assert (after.tiers[0].input, after.tiers[0].output, after.price_id) == (50, 7, 3)

    def test_leave_a_gap_unpriced(self) -> None:
        end, again = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 2, 1, tzinfo=UTC)
        book = self.book(
            entry("input_tokens", 100, 1, effective_to=end),
            entry("input_tokens", 50, 2, effective_from=again),
        )
        assert isinstance(book.resolve("p", "m", end - timedelta(days=1)), Rates)
        assert book.resolve("p", "m", end) == UnknownModel("p", "m", "unpriced")
        assert book.resolve("p", "m", START - timedelta(days=1)) == UnknownModel("p", "m", "unpriced")
        assert isinstance(book.resolve("p", "m", again), Rates)

    def test_choose_by_the_time_of_day_in_utc(self) -> None:
        book = self.book(
            entry("input_tokens", 100, 1, daily_to=60),
            entry("input_tokens", 50, 2, daily_from=60),
        )
        for minute, pico in ((0, 100), (59, 100), (60, 50), (1439, 50)):
            rates = book.resolve("p", "m", NOW.replace(hour=minute // 60, minute=minute % 60))
            assert isinstance(rates, Rates)
            assert rates.tiers[0].input == pico

    def test_leave_a_model_with_prices_of_a_newer_release_unpriced(self) -> None:
        book = self.book(entry("input_tokens", 100), entry("thoughts", 5))
        assert book.resolve("p", "m", NOW) == UnknownModel("p", "m", "unpriced")

    def test_lay_a_variant_over_the_standard_prices(self) -> None:
        book = self.book(
            entry("input_tokens", 1000),
            entry("output_tokens", 2000),
            entry("input_tokens", 500, 3, variant="batch"),
        )
        rates = book.resolve("p", "m", NOW)
        assert isinstance(rates, Rates)
        usage = Usage(input_tokens=10, output_tokens=10, service_tier="batch")
        assert cost_nano(rates, usage) == 25


class TestDearest:
    def test_is_the_dearest_of_the_family_for_each_unit(self) -> None:
        rates = BOOK.dearest(None, "gpt-77", NOW)
        assert isinstance(rates, Rates)
        assert (rates.provider, rates.model, rates.variant) == ("openai", "gpt-77", "dearest")
        assert (rates.tiers[0].input, rates.tiers[0].output) == (900, 1800)

    def test_is_the_dearest_of_the_provider_when_there_is_no_such_family(self) -> None:
        rates = BOOK.dearest("reseller", "llama-9", NOW)
        assert isinstance(rates, Rates)
        assert rates.tiers[0].input == 100

    def test_is_unknown_when_nobody_claims_the_name(self) -> None:
        assert BOOK.dearest(None, "llama-9", NOW) == UnknownModel(None, "llama-9", "provider")


class TestAlternatives:
    def offer(self, **changes: Any) -> list[tuple[str, int]]:
        call: dict[str, Any] = {
            "at": NOW,
            "input_tokens": 10_000,
            "max_output_tokens": 10_000,
            "at_most_nano": 2_700,
        } | changes
        return [(a.model, a.bound_nano) for a in alternatives(BOOK, "openai", **call)]

    def test_are_those_that_fit_the_dearest_first(self) -> None:
        assert self.offer(at_most_nano=5_000) == [
            ("gpt-9-2026-01-02", 3000),
            ("gpt-9-mini", 2700),
            ("gpt-9-nano", 270),
        ]
        assert self.offer(at_most_nano=2_699) == [("gpt-9-nano", 270)]

    def test_keep_to_the_allow_list_and_the_limit(self) -> None:
        assert self.offer(allowed=lambda name: name != "gpt-9-mini") == [("gpt-9-nano", 270)]
        assert self.offer(limit=1) == [("gpt-9-mini", 2700)]

    def test_leave_out_what_could_not_take_the_call(self) -> None:
        book = PriceBook(
            1,
            [
                provider(
                    "p",
                    model("old", deprecated=True),
                    model("small", context_window=9_999),
                    model("free", read=0, written=0),
                    model("embedding", prices=(entry("input_tokens", 1),)),
                    model(
                        "ended",
                        prices=(entry("input_tokens", 1, effective_to=NOW), entry("output_tokens", 1)),
                    ),
                    model(
                        "sings",
                        prices=(
                            entry("input_tokens", 1),
                            entry("output_tokens", 1),
                            entry("output_audio_tokens", 9),
                        ),
                    ),
                    model("good"),
                )
            ],
        )
        found = alternatives(book, "p", at=NOW, input_tokens=10_000, max_output_tokens=1, at_most_nano=10**9)
        assert [each.model for each in found] == ["good"]


class TestPatterns:
    @pytest.mark.parametrize(
        ("pattern", "match", "other"),
        [
            ({"equals": "GPT-4"}, "gpt-4", "gpt-4o"),
            ({"starts_with": "gpt"}, "gpt-4", "a-gpt"),
            ({"ends_with": "mini"}, "gpt-mini", "mini-x"),
            ({"contains": "haiku"}, "claude-haiku-4", "claude"),
            ({"regex": r"^o\d"}, "o3-mini", "omni"),
            ({"or": [{"equals": "a"}, {"equals": "B"}]}, "b", "c"),
            ({"or": [{"equals": "a"}, {"starts_with": "b"}]}, "bb", "c"),
            ({"and": [{"starts_with": "a"}, {"ends_with": "z"}]}, "abz", "ab"),
        ],
    )
    def test_match_as_their_kind_says(self, pattern: Any, match: str, other: str) -> None:
        assert compile_pattern(pattern)(match)
        assert not compile_pattern(pattern)(other)

    @pytest.mark.parametrize(
        "pattern", [{}, {"equals": ""}, {"like": "x"}, {"or": []}, {"regex": "("}, [], {"a": 1, "b": 2}]
    )
    def test_refuse_what_cannot_be_compiled(self, pattern: Any) -> None:
        with pytest.raises(BadPattern):
            compile_pattern(pattern)

    def test_refuse_to_be_nested_without_end(self) -> None:
        pattern: dict[str, Any] = {"equals": "a"}
        for _ in range(10):
            pattern = {"and": [pattern]}
        with pytest.raises(BadPattern, match="nested"):
            compile_pattern(pattern)

    def test_leave_a_number_that_is_no_date(self) -> None:
        assert with_dashed_date("m-20260230") == "m-20260230"
        assert with_dashed_date("m-20260228:free") == "m-2026-02-28:free"


class TestPriceList:
    def test_writes_decimal_strings_for_a_million_tokens(self) -> None:
        tiered = (
            entry("input_tokens", 150_000),
            entry("input_tokens", 300_000, 2, tier_start=200_000),
            entry("web_searches", 10**10, 3),
            entry("input_tokens", 75_000, 4, variant="batch"),
        )
        book = PriceBook(1, [provider("p", model("m", prices=tiered, context_window=128_000))])
        standard, batch = price_list(book, provider="p", now=NOW)
        assert standard == {
            "provider": "p",
            "model": "m",
            "variant": "standard",
            "price_id": "4",
            "override": None,
            "currency": "USD",
            "effective_from": "2020-01-01T00:00:00+00:00",
            "effective_to": None,
            "daily": None,
            "deprecated": False,
            "context_window": 128_000,
            "prices": {
                "input_tokens": {
                    "usd_per_million_tokens": "0.15",
                    "tiers": [{"above_input_tokens": 200_000, "usd_per_million_tokens": "0.3"}],
                },
                "web_searches": {"usd_per_unit": "0.01"},
            },
        }
        assert batch["variant"] == "batch"
        assert batch["prices"]["input_tokens"] == {"usd_per_million_tokens": "0.075"}

    def test_is_empty_for_an_unknown_provider(self) -> None:
        assert price_list(BOOK, provider="nobody", now=NOW) == []

    def test_has_an_etag_that_changes_with_version_and_dates(self) -> None:
        change = datetime(2026, 12, 1, tzinfo=UTC)
        dated = (
            entry("input_tokens", 1, effective_to=change),
            entry("input_tokens", 2, effective_from=change),
        )
        book = PriceBook(1, [provider("p", model("m", prices=dated))])
        newer = PriceBook(2, [provider("p", model("m", prices=dated))])
        tags = {book.etag(NOW), book.etag(change), newer.etag(NOW), book.etag(NOW, provider="p")}
        assert len(tags) == 4
        assert book.etag(NOW) == book.etag(NOW + timedelta(days=1))


@pytest.fixture
def shop(db: None) -> PriceModel:
    """A provider and a model that no other test knows, without prices."""
    seller = PriceProvider.objects.create(id="test-shop", name="Test shop", position=9999)
    return PriceModel.objects.create(provider=seller, model="tm-1", position=0, pattern={"equals": "tm-1"})


def new_price(**changes: Any) -> NewPrice:
    fields: dict[str, Any] = {
        "provider": "test-shop",
        "model": "tm-1",
        "unit": "input_tokens",
        "price": "0.00000015",
        "effective_from": START,
        "source": "price page",
        "checked_at": NOW,
    }
    return NewPrice(**(fields | changes))


@pytest.mark.usefixtures("shop")
class TestAddPrice:
    def test_appends_a_row_that_the_book_then_has(self) -> None:
        before = PriceBookVersion.objects.get().version
        add_price(price=new_price(), now=NOW)
        row = add_price(price=new_price(unit="output_tokens", price=Decimal("0.0000006")), now=NOW)
        book = price_book()
        rates = book.resolve("test-shop", "tm-1", NOW)
        assert isinstance(rates, Rates)
        assert (rates.tiers[0].input, rates.tiers[0].output, rates.price_id) == (150_000, 600_000, row.pk)
        assert book.version > before

    def test_refuses_an_overlap_and_names_the_row_in_the_way(self) -> None:
        row = add_price(price=new_price(), now=NOW)
        with pytest.raises(PriceOverlap) as refused:
            add_price(price=new_price(price="0.0000002", effective_from=NOW), now=NOW)
        assert refused.value.row.pk == row.pk
        message = refused.value.errors["effective_from"]
        assert message.startswith(
            f"overlaps price row {row.pk}, test-shop/tm-1 standard input_tokens at 0.00000015 USD"
        )

    def test_appends_beside_what_it_does_not_overlap(self) -> None:
        add_price(price=new_price(effective_to=NOW), now=NOW)
        add_price(price=new_price(effective_from=NOW), now=NOW)
        add_price(price=new_price(variant="batch"), now=NOW)
        add_price(price=new_price(tier_start=200_000), now=NOW)
        add_price(price=new_price(unit="output_tokens", daily_to=60), now=NOW)
        add_price(price=new_price(unit="output_tokens", daily_from=60), now=NOW)
        assert PriceRow.objects.filter(price_model__provider_id="test-shop").count() == 6

    def test_ends_the_open_row_that_it_follows_when_asked(self) -> None:
        old = add_price(price=new_price(), now=NOW)
        later = NOW + timedelta(days=3)
        add_price(price=new_price(price="0.0000002", effective_from=later), now=NOW, close_open=True)
        old.refresh_from_db()
        assert old.effective_to == later
        with pytest.raises(PriceOverlap):
            add_price(price=new_price(effective_from=NOW), now=NOW, close_open=True)

    def test_does_not_change_the_price_of_calls_already_made(self) -> None:
        add_price(price=new_price(), now=NOW)
        with pytest.raises(BadPrice, match="must not be past"):
            add_price(price=new_price(effective_from=NOW - timedelta(days=1)), now=NOW, close_open=True)

    def test_names_every_wrong_field_at_once(self) -> None:
        wrong = new_price(
            provider="nobody",
            unit="parsecs",
            price="1e-7",
            source=" ",
            tier_start=-1,
            daily_from=5,
            daily_to=5,
        )
        with pytest.raises(BadPrice) as refused:
            add_price(price=wrong, now=NOW)
        fields = {"provider", "unit", "price", "source", "tier_start", "daily_to"}
        assert set(refused.value.errors) == fields

    def test_refuses_times_without_a_zone_and_periods_that_end_before_they_start(self) -> None:
        with pytest.raises(BadPrice, match="time zone"):
            add_price(price=new_price(effective_from=datetime(2026, 1, 1)), now=NOW)  # noqa: DTZ001
        with pytest.raises(BadPrice, match="later than effective_from"):
            add_price(price=new_price(effective_to=START), now=NOW)

    def test_adds_a_model_only_when_told_that_it_is_new(self) -> None:
        with pytest.raises(BadPrice, match="is not a model of test-shop"):
            add_price(price=new_price(model="tm-2"), now=NOW)
        add_price(price=new_price(model="tm-2"), now=NOW, new_model=True)
        assert isinstance(price_book().resolve("test-shop", "tm-2", NOW), Rates)


@pytest.mark.usefixtures("shop")
class TestClosePrice:
    def test_ends_an_open_row_once(self) -> None:
        row = add_price(price=new_price(), now=NOW)
        assert close_price(price_id=row.pk, at=NOW, now=NOW).effective_to == NOW
        with pytest.raises(BadPrice, match="ends already"):
            close_price(price_id=row.pk, at=NOW + timedelta(days=1), now=NOW)

    def test_refuses_a_past_end_and_an_unknown_row(self) -> None:
        row = add_price(price=new_price(), now=NOW)
        with pytest.raises(BadPrice, match="not past"):
            close_price(price_id=row.pk, at=NOW - timedelta(seconds=1), now=NOW)
        with pytest.raises(BadPrice, match="is not a row"):
            close_price(price_id=0, at=NOW, now=NOW)


class TestPriceRows:
    """What PostgreSQL itself refuses, whatever the services do."""

    def refused(self, statement: str, values: list[Any], *, because: str) -> None:
        with connection.cursor() as cursor, pytest.raises(DatabaseError, match=because), transaction.atomic():
            cursor.execute(statement, values)

    def test_never_overlap(self, shop: PriceModel) -> None:
        row = add_price(price=new_price(), now=NOW)
        with pytest.raises(IntegrityError, match="price_rows_no_overlap"), transaction.atomic():
            PriceRow.objects.create(
                price_model=shop, unit=row.unit, price=1, effective_from=NOW, source="s", checked_at=NOW
            )

    def test_are_never_edited_nor_deleted_by_the_application(self, shop: PriceModel) -> None:
        row = add_price(price=new_price(), now=NOW)
        self.refused("UPDATE price_rows SET price = 1 WHERE id = %s", [row.pk], because="permission denied")
        self.refused("DELETE FROM price_rows WHERE id = %s", [row.pk], because="permission denied")
        close_price(price_id=row.pk, at=NOW, now=NOW)
        self.refused(
            "UPDATE price_rows SET effective_to = NULL WHERE id = %s", [row.pk], because="never edited"
        )

    def test_are_never_edited_nor_deleted_by_the_owner(self, owner_database_url: str) -> None:
        with psycopg.connect(owner_database_url) as owner:
            owner.execute(
                "INSERT INTO price_providers VALUES ('owner-shop', 'x', 9999, NULL, NULL, '{}', '{}')"
            )
            made = owner.execute(
                "INSERT INTO price_models (provider_id, model, position, deprecated)"
                " VALUES ('owner-shop', 'm', 0, false) RETURNING id"
            ).fetchone()
            assert made is not None
            owner.execute(
                "INSERT INTO price_rows (price_model_id, variant, unit, tier_start, price, effective_from,"
                " daily_from, daily_to, source, checked_at)"
                " VALUES (%s, '', 'input_tokens', 0, 1, now(), 0, 1440, 's', now())",
                made,
            )
            for statement, because in (
                ("UPDATE price_rows SET price = 2 WHERE price_model_id = %s", "never edited"),
                (
                    "UPDATE price_rows SET source = 'x', effective_to = now() WHERE price_model_id = %s",
                    "never edited",
                ),
                ("DELETE FROM price_rows WHERE price_model_id = %s", "never deleted"),
            ):
                with pytest.raises(psycopg.IntegrityError, match=because), owner.transaction():
                    owner.execute(statement, made)
            owner.rollback()

    @pytest.mark.parametrize(
        ("changes", "constraint"),
        [
            ({"price": -1}, "price_rows_price"),
            ({"price": 1_000_001}, "price_rows_price"),
            ({"unit": "Input Tokens"}, "price_rows_unit"),
            ({"tier_start": -1}, "price_rows_tier_start"),
            ({"effective_to": START}, "price_rows_period"),
            ({"daily_from": 60, "daily_to": 60}, "price_rows_daily"),
            ({"source": ""}, "price_rows_source"),
        ],
    )
    def test_hold_only_what_can_be_a_price(
        self, shop: PriceModel, changes: dict[str, Any], constraint: str
    ) -> None:
        fields = {"unit": "input_tokens", "price": 1, "effective_from": NOW, "source": "s", "checked_at": NOW}
        with pytest.raises(IntegrityError, match=constraint), transaction.atomic():
            PriceRow.objects.create(price_model=shop, **(fields | changes))


@pytest.mark.django_db
class TestSeed:
    def test_holds_every_model_and_changes_nothing_the_second_time(self) -> None:
        seed_prices()
        version = PriceBookVersion.objects.get().version
        again = seed_prices()
        assert (again.providers, again.models, again.prices, again.kept) == (0, 0, 0, ())
        assert PriceBookVersion.objects.get().version == version
        assert PriceModel.objects.filter(prices__source__startswith="genai-prices").distinct().count() >= 2300
        assert len(again.unpriced) < 30

    def test_lets_rows_of_the_book_stand_over_the_package_s(self) -> None:
        seller = PriceProvider.objects.get_or_create(id="openai", defaults={"name": "OpenAI", "position": 0})[
            0
        ]
        if PriceModel.objects.filter(provider=seller, model="gpt-4o-mini").exists():
            row = PriceRow.objects.get(
                price_model__provider=seller,
                price_model__model="gpt-4o-mini",
                unit="input_tokens",
                variant="",
            )
            close_price(price_id=row.pk, at=NOW, now=NOW)
        add_price(
            price=new_price(provider="openai", model="gpt-4o-mini", price="0.0000009", effective_from=NOW),
            now=NOW,
            new_model=True,
        )
        assert "openai/gpt-4o-mini" in seed_prices().kept
        rates = price_book().resolve(None, "gpt-4o-mini", NOW)
        assert isinstance(rates, Rates)
        assert rates.tiers[0].input == 900_000

    def test_is_a_command_that_says_what_it_did(self) -> None:
        call_command("prices", "seed", stdout=StringIO())
        out = StringIO()
        call_command("prices", "seed", stdout=out)
        assert "prices appended:           0" in out.getvalue()


@pytest.fixture(scope="module")
def seeded(real_database: None) -> PriceBook:
    """The seeded book, committed once."""
    seed_prices()
    return price_book()


class TestSeededBook:
    @pytest.mark.parametrize(
        ("name", "seller", "found"),
        [
            ("gpt-4o-mini", None, ("openai", "gpt-4o-mini")),
            ("gpt-4o-mini-2024-07-18", None, ("openai", "gpt-4o-mini")),
            ("gpt-5-mini-20250807", None, ("openai", "gpt-5-mini")),
            ("claude-haiku-4-5-20251001", None, ("anthropic", "claude-haiku-4-5")),
            ("gemini-2.5-flash", None, ("google", "gemini-2.5-flash")),
            ("gpt-4o-mini", "azure", ("openai", "gpt-4o-mini")),
            ("claude-haiku-4-5", "google", ("google", "claude-haiku-4-5")),
            ("openai/gpt-4o-mini", "openrouter", ("openrouter", "openai/gpt-4o-mini")),
        ],
    )
    def test_finds_models_as_callers_name_them(
        self, seeded: PriceBook, name: str, seller: str | None, found: tuple[str, str]
    ) -> None:
        assert resolved(name, seller=seller, book=seeded) == found

    def test_is_the_whole_package_under_one_etag(self, seeded: PriceBook) -> None:
        assert len(seeded) >= 2330
        assert seeded.etag(NOW) == price_book().etag(NOW)


@pytest.mark.usefixtures("seeded")
@pytest.mark.django_db
class TestShow:
    def shown(self, *arguments: str) -> str:
        out = StringIO()
        call_command("prices", "show", *arguments, stdout=out)
        return out.getvalue()

    def test_prints_rates_and_source(self) -> None:
        text = self.shown("gpt-4o-mini")
        assert text.startswith("openai/gpt-4o-mini\n")
        assert "standard   input_tokens               $0.15 a million" in text
        assert "standard   web_searches               $0.01 each" in text
        assert (
            "source: genai-prices 0.2.3, https://developers.openai.com/api/docs/pricing, checked 2026-11-22"
            in text
        )

    def test_takes_the_provider_before_a_slash_and_prints_times_of_day(self) -> None:
        text = self.shown("deepseek/deepseek-v4-pro", "--all")
        assert "from 01:00 to 04:00 UTC" in text
        assert "[2020-01-01, 2026-08-17)" in text

    def test_says_which_providers_sell_it_or_that_nobody_does(self) -> None:
        with pytest.raises(CommandError, match=r"is sold by .*Choose one with --provider"):
            self.shown("deepseek-ai/DeepSeek-R1")
        with pytest.raises(CommandError, match="does not know llama-99 of openai"):
            self.shown("llama-99", "--provider", "openai")


@pytest.mark.real_db
@pytest.mark.usefixtures("seeded")
class TestGatewayRole:
    def test_loads_the_whole_book_and_its_version(self, gateway_database_url: str) -> None:
        async def load() -> tuple[PriceBook, int]:
            async with await psycopg.AsyncConnection.connect(gateway_database_url) as gateway:
                return await load_price_book(gateway), await load_price_book_version(gateway)

        book, version = asyncio.run(load())
        assert len(book) >= 2330
        assert book.version == version
        assert resolved("gpt-4o-mini", book=book) == ("openai", "gpt-4o-mini")
        assert price_list(book, provider="anthropic", now=NOW)

    def test_may_not_touch_the_tables(self, gateway_database_url: str) -> None:
        with psycopg.connect(gateway_database_url) as gateway:
            for table in ("price_rows", "price_models", "price_providers", "price_book_version"):
                with pytest.raises(psycopg.errors.InsufficientPrivilege), gateway.transaction():
                    gateway.execute(f"SELECT * FROM {table}")
