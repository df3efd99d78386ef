"""The price book in PostgreSQL: appended rows, the seed, what the database refuses, and what `prices show` prints."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from decimal import Decimal
from io import StringIO
from typing import Any

import psycopg
import pytest
from django.core.management import CommandError, call_command
from django.db import DatabaseError, IntegrityError, connection, transaction

from budgets.domain.pricing import Rates
from budgets.domain.pricing_book import PriceBook
from budgets.domain.pricing_list import price_list
from budgets.models import PriceBookVersion, PriceModel, PriceProvider, PriceRow
from budgets.services.price_seed import seed_prices
from budgets.services.prices import BadPrice, NewPrice, PriceOverlap, add_price, close_price, price_book
from budgets.stores.postgres.prices import load_price_book, load_price_book_version
from tests.budgets.price_books import NOW, START, resolved


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
