"""What a look over the price book finds, one flaw at a time, and what it finds in the packaged prices."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from io import StringIO
from typing import TYPE_CHECKING, Any

import pytest
from django.core.management import CommandError, call_command

from budgets.domain.pricing_book import ModelEntry, PriceBook, PriceEntry
from budgets.domain.pricing_checks import Kind, flaws
from budgets.models import PriceImport
from budgets.services.policy import publish
from budgets.services.price_check import check_prices
from budgets.services.price_sources import package_book
from tenants.models import Tenant
from tests.budgets.price_books import NOW, entry, model, provider
from tests.tenants.cast import unique

if TYPE_CHECKING:
    from tests.support.world import Account

DAY = timedelta(days=1)


def kinds(*prices: PriceEntry, checked: dict[int, datetime] | None = None, **changes: Any) -> list[Kind]:
    named: ModelEntry = model("m", prices=prices, **{"context_window": 8_000, **changes})
    book = PriceBook(1, [provider("p", named)])
    return sorted(flaw.kind for flaw in flaws(book, now=NOW, checked=checked or {}, stale=60 * DAY))


def both(read: int = 100, written: int = 200) -> tuple[PriceEntry, PriceEntry]:
    return entry("input_tokens", read, 1), entry("output_tokens", written, 2)


class TestFlaws:
    def test_are_none_in_a_sound_model(self) -> None:
        assert kinds(*both()) == []
        assert (
            kinds(*both(), entry("cache_read_tokens", 10, 3), entry("output_tokens", 100, 4, variant="batch"))
            == []
        )

    @pytest.mark.parametrize(
        ("prices", "found"),
        [
            ((*both(), entry("thoughts", 1, 3)), Kind.UNUSABLE),
            ((entry("input_tokens", 1, 1, tier_start=1000),), Kind.UNUSABLE),
            ((entry("input_tokens", 1), entry("output_tokens", 2, 2, effective_to=NOW)), Kind.HALF),
            ((entry("input_tokens", 1), entry("output_tokens", 2, 2, variant="batch")), Kind.HALF),
            ((), Kind.UNPRICED),
            (both(0, 200), Kind.FREE),
            (both(201_000, 2_000), Kind.CHEAP_OUTPUT),
            ((*both(), entry("cache_read_tokens", 101, 3)), Kind.DEAR_CACHE),
            ((*both(), entry("input_tokens", 101, 3, variant="flex")), Kind.DEAR_BATCH),
        ],
    )
    def test_are_found_one_by_one(self, prices: tuple[PriceEntry, ...], found: Kind) -> None:
        assert kinds(*prices) == [found]

    def test_of_two_prices_at_once_are_that_and_that_neither_can_be_used(self) -> None:
        # PostgreSQL refuses such rows; a book made otherwise has to be looked over too.
        assert kinds(*both(), entry("input_tokens", 100, 3)) == [Kind.OVERLAP, Kind.UNUSABLE]

    def test_are_found_between_two_rows(self) -> None:
        end, again = NOW - 2 * DAY, NOW - DAY
        ended = entry("input_tokens", 100, 1, effective_to=end)
        output = entry("output_tokens", 200, 2)
        assert kinds(ended, entry("input_tokens", 100, 3, effective_from=end), output) == []
        assert kinds(ended, entry("input_tokens", 100, 3, effective_from=again), output) == [Kind.GAP]
        assert kinds(ended, entry("input_tokens", 1001, 3, effective_from=end), output) == [Kind.LEAP]
        assert kinds(ended, entry("input_tokens", 9, 3, effective_from=end), output) == [Kind.LEAP]

    def test_let_a_price_for_hours_follow_another(self) -> None:
        by_day = entry("input_tokens", 100, 1, daily_to=60), entry("input_tokens", 50, 2, daily_from=60)
        assert kinds(*by_day, entry("output_tokens", 200, 3)) == []

    def test_ask_for_the_window_of_what_is_offered_for_text(self) -> None:
        assert kinds(*both(), context_window=None) == [Kind.NO_WINDOW]
        assert kinds(*both(), context_window=None, offered=False) == []
        assert kinds(*both(), entry("output_audio_tokens", 300, 3), context_window=None) == []

    def test_ask_to_look_at_old_sources_again(self) -> None:
        old, new = NOW - 61 * DAY, NOW - 59 * DAY
        assert kinds(*both(), checked={1: new, 2: new}) == []
        assert kinds(*both(), checked={1: new, 2: old}) == [Kind.UNCHECKED]

    def test_allow_what_is_free_by_name(self) -> None:
        book = PriceBook(1, [provider("p", model("m:free", read=0, written=0, context_window=1))])
        assert list(flaws(book, now=NOW, checked={}, stale=DAY)) == []

    def test_of_the_packaged_prices_are_no_errors(self) -> None:
        found = list(flaws(package_book(), now=NOW, checked={}, stale=60 * DAY))
        count = {kind: sum(1 for flaw in found if flaw.kind is kind) for kind in Kind}
        assert count[Kind.OVERLAP] == count[Kind.UNUSABLE] == count[Kind.HALF] == count[Kind.GAP] == 0
        assert count[Kind.CHEAP_OUTPUT] == 0
        assert {flaw.model for flaw in found if flaw.kind is Kind.FREE} == {
            "gemma-4-26b-a4b-it",
            "gemma-4-31b-it",
        }
        assert count[Kind.LEAP] < 50


@pytest.mark.real_db
class TestCheck:
    def test_names_models_that_calls_were_settled_for_without_a_price(self, alice: Account) -> None:
        name = unique("gpt")
        call = alice.place(model=name, provider="openai", input_tokens=10, max_output_tokens=10)
        assert call["reason"] == "price_unknown"
        Tenant.objects.filter(pk=alice.tenant_id).update(unknown_model="dearest")
        publish(tenant_id=alice.tenant_id, now=datetime.now(UTC))
        placed = alice.place(model=name, provider="openai", input_tokens=10, max_output_tokens=10)
        alice.settle(placed, usage={"input_tokens": 10, "output_tokens": 10})
        flaw = next(f for f in check_prices(now=datetime.now(UTC)) if f.model == name)
        assert (flaw.kind, flaw.provider) == (Kind.BY_POLICY, "openai")
        assert flaw.detail.startswith("1 calls for $")

    def test_counts_a_source_as_read_when_it_was_first_read_in_that_release(self, alice: Account) -> None:
        long_after = datetime.now(UTC) + timedelta(days=1000)
        stale = [f for f in check_prices(now=long_after) if f.kind is Kind.UNCHECKED]
        assert len(stale) > 2_000
        for days in (1, 990):
            PriceImport.objects.create(
                actor="x", ran_at=long_after - timedelta(days=days), sources="two of a release", found={}
            )
        assert len([f for f in check_prices(now=long_after) if f.kind is Kind.UNCHECKED]) > 2_000
        PriceImport.objects.create(actor="x", ran_at=long_after, sources="newer ones", found={})
        assert len([f for f in check_prices(now=long_after) if f.kind is Kind.UNCHECKED]) < 100
        PriceImport.objects.create(
            actor="x", ran_at=long_after + timedelta(days=1), sources=unique("back"), found={}
        )

    def test_is_a_command_that_fails_for_errors_alone(self, alice: Account) -> None:
        out = StringIO()
        call_command("prices", "check", stdout=out)
        lines = out.getvalue().splitlines()
        assert lines[0].split() == [
            "ok",
            "0",
            "overlap",
            *["two", "prices", "of", "the", "same", "thing", "at", "once"],
        ]
        out = StringIO()
        with pytest.raises(CommandError, match="to look at"):
            call_command("prices", "check", "--strict", "--json", stdout=out)
        answer = json.loads(out.getvalue())
        assert answer["counts"]["unusable"] == 0
        assert {"kind": "free", "error": False, "provider": "google"}.items() <= next(
            flaw for flaw in answer["flaws"] if flaw["kind"] == "free"
        ).items()
