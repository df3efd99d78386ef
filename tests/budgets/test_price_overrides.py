"""Negotiated prices: what calls are held and settled at, what lists show, and what PostgreSQL refuses."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from io import StringIO
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from django.core.management import CommandError, call_command
from django.db import IntegrityError, ProgrammingError, connection, transaction
from hypothesis import given, settings
from hypothesis import strategies as st

from budgets.domain import policy as policies
from budgets.domain.policy import Policy, PriceOverrideRule
from budgets.domain.pricing import Rates, Usage, bound_nano, cost_nano
from budgets.domain.pricing_book import AmbiguousProvider, ModelEntry, PriceBook, PriceEntry, ProviderEntry
from budgets.domain.pricing_list import model_prices
from budgets.domain.pricing_overrides import TenantPrices
from budgets.models import PolicySnapshot, PriceOverride, PriceProposal, PriceProvider, PriceRow
from budgets.services.price_overrides import (
    InvalidPriceOverride,
    NewPriceOverride,
    OverridePrice,
    PriceOverrideNotFound,
    PriceOverrideOverlap,
    create_price_override,
    end_price_override,
)
from budgets.services.price_proposals import (
    InvalidProposal,
    NewProposal,
    ProposalNotFound,
    approve,
    propose,
    reject,
)
from budgets.services.price_seed import seed_prices
from budgets.services.prices import LEAD, price_book
from noburn.kit import ids
from tenants.models import AuditEntry
from tests.tenants.cast import ACTOR, NOW, Cast, make_cast, unique

if TYPE_CHECKING:
    from tests.support.world import Account

pytestmark = pytest.mark.real_db

DAY = timedelta(days=1)
MINI: dict[str, Any] = {"model": "gpt-4o-mini", "input_tokens": 1200, "max_output_tokens": 500}
USAGE = {"input_tokens": 980, "output_tokens": 290}


@pytest.fixture
def cast(real_database: None) -> Cast:
    seed_prices()
    return make_cast()


def now() -> datetime:
    return datetime.now(UTC)


def negotiated(tenant_id: Any, *, at: datetime | None = None, **fields: Any) -> PriceOverride:
    fields = {"provider": "openai", "model": "gpt-4o-mini", **fields}
    if "prices" not in fields:
        fields.setdefault("discount_percent", "50")
    return create_price_override(
        tenant_id=tenant_id, override=NewPriceOverride(**fields), actor=ACTOR, now=at or now()
    )


def per_token(**prices: str) -> tuple[OverridePrice, ...]:
    return tuple(OverridePrice(unit=unit, price=price) for unit, price in prices.items())


def end(row: PriceOverride, *, at: datetime | None = None, **fields: Any) -> PriceOverride:
    return end_price_override(
        tenant_id=row.tenant_id, override_id=row.pk, actor=ACTOR, now=at or now(), **fields
    )


class TestNegotiatedPriceInTheGateway:
    def test_halves_what_is_held_and_what_is_settled(self, alice: Account) -> None:
        alice.budget("acme", "$1")
        row = negotiated(alice.tenant_id)
        placed = alice.place(**MINI)
        assert placed["hold"]["amount_usd"] == "0.00024"
        name = ids.encode("pov", row.pk)
        assert alice.hold_of(placed).body.price_id.endswith(f"+{name}")
        settled = alice.settle(placed, usage=USAGE, model="gpt-4o-mini-2024-07-18")
        assert settled["cost_usd"] == "0.0001605"
        ((price_id,),) = alice.world.sql(
            "SELECT price_id FROM ledger_entries WHERE tenant_id = %s", alice.tenant_id
        )
        assert price_id.endswith(name)
        assert not alice.verify().differences

    def test_holds_for_the_very_next_call_and_no_longer_than_it_lasts(self, alice: Account) -> None:
        assert alice.place(**MINI)["hold"]["amount_usd"] == "0.00048"
        row = negotiated(alice.tenant_id)
        assert alice.place(**MINI)["hold"]["amount_usd"] == "0.00024"
        end(row)
        assert alice.place(**MINI)["hold"]["amount_usd"] == "0.00048"

    def test_settles_what_was_held_at_it_after_it_ended(self, alice: Account) -> None:
        row = negotiated(alice.tenant_id)
        placed = alice.place(**MINI)
        end(row)
        negotiated(alice.tenant_id, discount_percent="10")
        assert alice.settle(placed, usage=USAGE)["cost_usd"] == "0.0001605"

    def test_does_not_make_a_call_dearer_that_was_held_before_it(self, alice: Account) -> None:
        placed = alice.place(**MINI)
        negotiated(
            alice.tenant_id,
            discount_percent=None,
            prices=per_token(input_tokens="0.001", output_tokens="0.001"),
        )
        settled = alice.settle(placed, usage=USAGE, model="gpt-4o-mini-2024-07-18")
        assert (settled["cost_usd"], settled["overrun_usd"]) == ("0.000321", "0")
        assert alice.place(**MINI)["hold"]["amount_usd"] == "1.7"

    def test_gives_a_model_of_the_tenants_own_a_price(self, alice: Account) -> None:
        own: dict[str, Any] = {
            "model": "ft:acme-7",
            "provider": "acme-hosting",
            "input_tokens": 100,
            "max_output_tokens": 10,
        }
        assert alice.place(**own).decision == "price_unknown"
        prices = per_token(input_tokens="0.000001", output_tokens="0.000002")
        negotiated(alice.tenant_id, provider="acme-hosting", model="FT:acme-7", prices=prices)
        placed = alice.place(**own)
        assert placed["hold"]["amount_usd"] == "0.00012"
        usage = {"input_tokens": 90, "output_tokens": 5}
        assert alice.settle(placed, usage=usage, model="ft:acme-7:v2")["cost_usd"] == "0.0001"
        inferred = alice.place(**{**own, "provider": None})
        assert alice.hold_of(inferred).body.provider == "acme-hosting"
        assert not alice.verify().differences

    def test_prices_another_model_that_answered_by_its_own_negotiated_price(self, alice: Account) -> None:
        negotiated(alice.tenant_id, model="gpt-4o", discount_percent="100")
        placed = alice.place(**MINI)
        assert alice.settle(placed, usage=USAGE, model="gpt-4o-2024-08-06")["cost_usd"] == "0"

    def test_of_a_provider_is_not_the_price_of_who_resells_it(self, alice: Account) -> None:
        negotiated(alice.tenant_id, model="*")
        assert alice.place(**MINI)["hold"]["amount_usd"] == "0.00024"
        assert alice.place(**MINI, provider="azure")["hold"]["amount_usd"] == "0.00048"
        negotiated(alice.tenant_id, provider="azure", model="*", discount_percent="75")
        placed = alice.place(**MINI, provider="azure")
        assert placed["hold"]["amount_usd"] == "0.00012"
        assert alice.settle(placed, usage=USAGE)["cost_usd"] == "0.00008025"

    def test_makes_cheaper_models_fit_that_would_not_at_list_price(self, alice: Account) -> None:
        alice.budget("acme", "$0.0003")
        refused = alice.place(**{**MINI, "model": "gpt-4o"})
        assert "gpt-4o-mini" not in {a["model"] for a in refused["alternatives"]}
        negotiated(alice.tenant_id, discount_percent="40")
        refused = alice.place(**{**MINI, "model": "gpt-4o"})
        assert {"model": "gpt-4o-mini", "estimate_usd": "0.000288"} in refused["alternatives"]

    def test_is_nobody_elses(self, alice: Account) -> None:
        negotiated(alice.tenant_id)
        charlie = alice.world.account("charlie")
        assert charlie.place(**MINI)["hold"]["amount_usd"] == "0.00048"

    def test_is_read_anew_by_a_gateway_that_never_heard_of_it(self, alice: Account) -> None:
        negotiated(alice.tenant_id)
        placed = alice.place(**MINI)
        snapshots = alice.world.app._plane.snapshots
        snapshot = snapshots.get(alice.tenant_id)
        assert snapshot is not None
        older = msgspec.structs.replace(
            snapshot.policy, version=snapshot.policy.version - 1, price_overrides=()
        )
        snapshots._by_tenant[alice.tenant_id] = type(snapshot)(older)
        assert alice.settle(placed, usage=USAGE)["cost_usd"] == "0.0001605"


class TestPrices:
    def prices(self, alice: Account, **headers: str) -> Any:
        answer = alice.world.request(
            "GET", "/v1/prices?provider=openai", secret=alice.secret, headers=headers
        )
        if answer.status == 304:
            return None
        assert answer.status == 200, answer
        return {(p["model"], p["variant"]): p for p in answer["prices"]}, answer.headers["etag"]

    def test_show_what_the_tenant_pays_under_an_etag_of_its_own(self, alice: Account) -> None:
        before, etag = self.prices(alice)
        assert before["gpt-4o-mini", "standard"]["override"] is None
        row = negotiated(alice.tenant_id, effective_to=now() + DAY)
        own, own_etag = self.prices(alice)
        shown = own["gpt-4o-mini", "standard"]
        assert own_etag != etag
        assert shown["override"] == ids.encode("pov", row.pk)
        assert shown["prices"]["input_tokens"] == {"usd_per_million_tokens": "0.075"}
        assert row.effective_to is not None
        assert shown["effective_to"] == row.effective_to.isoformat()
        assert own["gpt-4o", "standard"] == before["gpt-4o", "standard"]
        assert self.prices(alice, **{"if-none-match": own_etag}) is None
        end(row)
        assert self.prices(alice)[1] == etag

    def test_list_names_of_the_tenants_own(self, alice: Account) -> None:
        prices = per_token(input_tokens="0.000001", output_tokens="0.000002")
        negotiated(alice.tenant_id, model="ft:acme", prices=prices)
        negotiated(alice.tenant_id, model="gpt-4o-mini-2024-07-18", discount_percent="10")
        own, _ = self.prices(alice)
        assert own["ft:acme", "standard"]["prices"]["output_tokens"] == {"usd_per_million_tokens": "2"}
        alias = own["gpt-4o-mini-2024-07-18", "standard"]
        assert alias["prices"]["input_tokens"] == {"usd_per_million_tokens": "0.135"}
        assert own["gpt-4o-mini", "standard"]["prices"]["input_tokens"] == {"usd_per_million_tokens": "0.15"}


START = datetime(2020, 1, 1, tzinfo=UTC)


def entry(unit: str, pico: int, *, variant: str = "", tier: int = 0) -> PriceEntry:
    return PriceEntry(1, variant, unit, tier, pico, START, None, 0, 1440)


def book_of(*entries: PriceEntry, model: str = "m") -> PriceBook:
    models = (ModelEntry(model, {"starts_with": model}, False, None, entries),)
    return PriceBook(1, [ProviderEntry("p", None, None, (), models)])


def rule(**changes: Any) -> PriceOverrideRule:
    fields = {
        "override_id": ids.new_uuid(NOW),
        "provider": "p",
        "model": "m",
        "kept_ppm": None,
        "prices": (),
        "effective_from": START,
        "effective_to": None,
        **changes,
    }
    return PriceOverrideRule(**fields)


BOOK = book_of(
    entry("input_tokens", 1000),
    entry("input_tokens", 2000, tier=1000),
    entry("cache_read_tokens", 100),
    entry("output_tokens", 4000),
    entry("input_tokens", 500, variant="batch"),
    entry("web_searches", 10**10),
)


def resolved(prices: TenantPrices, model: str = "m", provider: str | None = "p") -> Rates:
    found = prices.resolve(BOOK, provider, model, NOW)
    assert isinstance(found, Rates)
    return found


class TestLaidOver:
    def test_a_discount_is_on_everything_fees_and_variants_too(self) -> None:
        rates = resolved(TenantPrices([rule(kept_ppm=875_000)]))
        assert rates.units["input_tokens"] == ((0, 875), (1000, 1750))
        assert rates.fees["web_searches"] == 8_750_000_000
        assert rates.variants["batch"].units["input_tokens"] == ((0, 438),)  # 437.5, half to even.
        assert rates.variants["batch"].units["output_tokens"] == ((0, 3500),)

    def test_a_unit_of_its_own_replaces_the_books_with_its_tiers(self) -> None:
        prices = (("", "input_tokens", 0, 700), ("batch", "output_tokens", 0, 9))
        rates = resolved(TenantPrices([rule(prices=prices)]))
        assert rates.units["input_tokens"] == ((0, 700),)
        assert rates.units["output_tokens"] == ((0, 4000),)
        assert rates.variants["batch"].units["input_tokens"] == ((0, 500),)
        assert rates.variants["batch"].units["output_tokens"] == ((0, 9),)
        assert rates.price_id == 1
        assert rates.name.startswith("1+pov_")
        assert rates.variants["batch"].name == rates.name

    def test_the_name_as_it_is_written_comes_before_the_model_and_the_model_before_all(self) -> None:
        prices = TenantPrices(
            [
                rule(model="*", kept_ppm=900_000),
                rule(model="m", kept_ppm=800_000),
                rule(model="m-2", kept_ppm=700_000),
            ]
        )
        assert resolved(prices, "M-2").units["output_tokens"] == ((0, 2800),)
        assert resolved(prices, "m-3").units["output_tokens"] == ((0, 3200),)
        only = TenantPrices([rule(model="*", kept_ppm=900_000)])
        assert resolved(only, "m-3").units["output_tokens"] == ((0, 3600),)

    @pytest.mark.parametrize("asked", ["m", "M", "m-2", "m-3"])
    def test_is_what_one_models_prices_say(self, asked: str) -> None:
        prices = TenantPrices(
            [rule(model="*", kept_ppm=900_000), rule(kept_ppm=800_000), rule(model="m-2", kept_ppm=700_000)]
        )
        rates = resolved(prices, asked)
        items = model_prices(BOOK, "p", asked, now=NOW, prices=prices)
        assert {item["model"] for item in items} == {asked}
        assert {item["variant"] for item in items} == {"standard", "batch"}
        (standard,) = (item for item in items if item["variant"] == "standard")
        pico = rates.units["output_tokens"][0][1]
        told = standard["prices"]["output_tokens"]["usd_per_million_tokens"]
        assert Decimal(told) * 10**6 == pico
        assert model_prices(BOOK, "p", "unknown", now=NOW, prices=prices) == []

    def test_holds_from_its_start_up_to_its_end(self) -> None:
        prices = TenantPrices([rule(kept_ppm=0, effective_from=NOW, effective_to=NOW + DAY)])
        for at, price in ((NOW - DAY, 4000), (NOW, 0), (NOW + DAY, 4000)):
            rates = prices.resolve(BOOK, "p", "m", at)
            assert isinstance(rates, Rates)
            assert rates.units["output_tokens"] == ((0, price),)
        assert prices.in_force(NOW - DAY) == {}

    def test_a_name_that_two_providers_have_needs_one_named(self) -> None:
        own = (("", "input_tokens", 0, 1), ("", "output_tokens", 0, 1))
        prices = TenantPrices([rule(model="x", prices=own), rule(model="x", provider="q", prices=own)])
        assert isinstance(prices.resolve(BOOK, None, "x", NOW), AmbiguousProvider)
        assert resolved(prices, "x", "q").provider == "q"

    def test_rates_are_compiled_once_and_anew_for_another_book(self) -> None:
        prices = TenantPrices([rule(kept_ppm=500_000)])
        assert resolved(prices) is resolved(prices)
        other = prices.resolve(book_of(entry("input_tokens", 10), entry("output_tokens", 10)), "p", "m", NOW)
        assert isinstance(other, Rates)
        assert other.units["output_tokens"] == ((0, 5),)

    @given(
        kept=st.none() | st.integers(0, 1_000_000),
        picos=st.lists(st.integers(0, 10**7), min_size=4, max_size=4),
        held=st.tuples(st.integers(0, 3000), st.integers(1, 500)),
        used=st.tuples(st.integers(0, 3000), st.integers(0, 500), st.integers(0, 3000)),
        tier=st.sampled_from([None, "batch"]),
    )
    @settings(max_examples=300, deadline=None)
    def test_a_bound_is_never_below_the_cost(
        self, kept: int | None, picos: list[int], held: Any, used: Any, tier: str | None
    ) -> None:
        own = (
            ("", "input_tokens", 0, picos[0]),
            ("", "cache_read_tokens", 0, picos[1]),
            ("", "output_tokens", 0, picos[2]),
            ("batch", "output_tokens", 0, picos[3]),
        )
        negotiated_price = rule(kept_ppm=kept, prices=() if kept is not None else own)
        rates = resolved(TenantPrices([negotiated_price]))
        bound = bound_nano(
            rates, input_tokens=held[0], max_output_tokens=held[1], service_tier=tier, text_only=True
        )
        tokens = min(used[0], held[0])
        usage = Usage(
            input_tokens=tokens,
            output_tokens=min(used[1], held[1]),
            cache_read_tokens=min(used[2], tokens),
            service_tier=tier,
        )
        settled = TenantPrices([negotiated_price]).settled(
            BOOK, rates.name, provider="p", asked="m", reported="m-2024", at=NOW
        )
        assert settled is not None
        assert cost_nano(settled, usage) <= bound


class TestPolicyBodies:
    def test_of_older_gateways_have_no_negotiated_prices_and_theirs_read_ours(self, cast: Cast) -> None:
        negotiated(cast.tenant.pk, at=NOW)
        body = bytes(PolicySnapshot.objects.get(pk=cast.tenant.pk).body)
        fields = msgspec.msgpack.decode(body)
        place = Policy.__struct_fields__.index("price_overrides")
        older = policies.decode(msgspec.msgpack.encode(fields[:place]))
        assert older.price_overrides == ()
        assert len(policies.decode(body).price_overrides) == 1
        longer = msgspec.msgpack.encode([*fields, "of a later release"])
        assert policies.decode(longer).version == older.version

    def test_keep_what_ended_as_long_as_it_may_be_settled(self, cast: Cast) -> None:
        def stored() -> Policy:
            return policies.decode(bytes(PolicySnapshot.objects.get(pk=cast.tenant.pk).body))

        row = negotiated(cast.tenant.pk, at=NOW)
        end(row, at=NOW + DAY)
        (kept,) = stored().price_overrides
        assert (kept.override_id, kept.kept_ppm, kept.effective_to) == (row.pk, 500_000, NOW + DAY)
        negotiated(cast.tenant.pk, model="gpt-4o", at=NOW + 402 * DAY)
        assert [r.model for r in stored().price_overrides] == ["gpt-4o"]


class TestNewPriceOverride:
    @pytest.mark.parametrize(
        ("fields", "field"),
        [
            ({"provider": ""}, "provider"),
            ({"model": "x" * 201}, "model"),
            ({"discount_percent": None}, "discount_percent"),
            ({"prices": per_token(input_tokens="1"), "discount_percent": "1"}, "discount_percent"),
            ({"discount_percent": "100.0001"}, "discount_percent"),
            ({"discount_percent": "-1"}, "discount_percent"),
            ({"discount_percent": "0.00001"}, "discount_percent"),
            ({"discount_percent": "1e1"}, "discount_percent"),
            ({"discount_percent": Decimal("NaN")}, "discount_percent"),
            ({"prices": ()}, "prices"),
            ({"prices": per_token(input_tokens="1") * 101}, "prices"),
            ({"prices": per_token(thoughts="1")}, "prices[0].unit"),
            ({"prices": per_token(input_tokens="1.0000000000001")}, "prices[0].price"),
            ({"prices": per_token(input_tokens="1") * 2}, "prices[1].unit"),
            ({"prices": (OverridePrice(unit="input_tokens", price="1", tier_start=5),)}, "prices"),
            ({"prices": (OverridePrice(unit="images", price="1", tier_start=5),)}, "prices[0].tier_start"),
            ({"effective_from": NOW - DAY}, "effective_from"),
            ({"effective_to": NOW}, "effective_to"),
            ({"note": "x" * 501}, "note"),
            ({"model": "of-our-own"}, "model"),
            ({"provider": "of-our-own"}, "provider"),
            (
                {
                    "model": "of-our-own",
                    "prices": (OverridePrice(unit="input_tokens", price="1", variant="batch"),),
                },
                "prices",
            ),
        ],
    )
    def test_is_refused_by_field(self, cast: Cast, fields: dict[str, Any], field: str) -> None:
        with pytest.raises(InvalidPriceOverride) as refused:
            negotiated(cast.tenant.pk, at=NOW, **fields)
        assert [e.field for e in refused.value.errors] == [field]

    def test_may_not_overlap_another_of_the_same_model(self, cast: Cast) -> None:
        first = negotiated(cast.tenant.pk, at=NOW, effective_to=NOW + 2 * DAY)
        for fields in ({}, {"effective_from": NOW + DAY}, {"effective_to": NOW + DAY}):
            with pytest.raises(PriceOverrideOverlap) as refused:
                negotiated(cast.tenant.pk, at=NOW, **fields)
            assert refused.value.standing == first
        negotiated(cast.tenant.pk, at=NOW, effective_from=NOW + 2 * DAY)
        negotiated(cast.tenant.pk, at=NOW, model="*")
        negotiated(cast.charlie.tenant.pk, at=NOW)

    def test_is_kept_under_the_providers_own_name(self, cast: Cast) -> None:
        row = negotiated(cast.tenant.pk, at=NOW, provider=" OpenAI".strip(), model="GPT-4o")
        assert (row.provider, row.model) == ("openai", "gpt-4o")

    def test_and_its_end_are_in_the_audit_log(self, cast: Cast) -> None:
        row = negotiated(cast.tenant.pk, at=NOW, note="contract 7")
        end(row, at=NOW)
        made, ended = AuditEntry.objects.filter(
            tenant=cast.tenant, object=ids.encode("pov", row.pk)
        ).order_by("action")
        assert made.after is not None
        assert (made.after["discount_percent"], made.after["note"]) == ("50", "contract 7")
        assert ended.after is not None
        assert ended.after["effective_to"] == NOW.isoformat()


class TestEndPriceOverride:
    def test_withdraws_one_that_has_not_begun(self, cast: Cast) -> None:
        row = end(negotiated(cast.tenant.pk, at=NOW, effective_from=NOW + DAY), at=NOW)
        assert row.effective_to == row.effective_from
        negotiated(cast.tenant.pk, at=NOW)

    def test_is_refused_for_the_past_and_for_later_than_its_end(self, cast: Cast) -> None:
        row = negotiated(cast.tenant.pk, at=NOW, effective_to=NOW + DAY)
        with pytest.raises(InvalidPriceOverride, match="effective_to: must not be past"):
            end_price_override(
                tenant_id=cast.tenant.pk,
                override_id=row.pk,
                at=NOW,
                actor=ACTOR,
                now=NOW + timedelta(hours=1),
            )
        with pytest.raises(InvalidPriceOverride, match="effective_to: must be earlier than its end"):
            end(row, at=NOW + 2 * DAY)

    def test_does_not_find_another_tenants(self, cast: Cast) -> None:
        row = negotiated(cast.tenant.pk, at=NOW)
        with pytest.raises(PriceOverrideNotFound):
            end_price_override(tenant_id=cast.charlie.tenant.pk, override_id=row.pk, actor=ACTOR, now=NOW)

    def test_is_all_that_the_database_lets_anybody_change(self, cast: Cast) -> None:
        row = negotiated(cast.tenant.pk, at=NOW)
        for sql in (
            "UPDATE price_overrides SET discount_percent = 99 WHERE id = %s",
            "DELETE FROM price_overrides WHERE id = %s",
        ):
            with (
                pytest.raises((IntegrityError, ProgrammingError)),
                transaction.atomic(),
                connection.cursor() as cursor,
            ):
                cursor.execute(sql, [row.pk])
        with pytest.raises(IntegrityError, match="price_overrides_no_overlap"), transaction.atomic():
            PriceOverride.objects.create(
                tenant=cast.tenant,
                provider="openai",
                model="gpt-4o-mini",
                discount_percent=1,
                effective_from=NOW + DAY,
                created_by="x",
            )


@pytest.fixture
def provider(real_database: None) -> str:
    name = unique("vendor")
    PriceProvider.objects.create(id=name, name=name, position=10_000)
    return name


def proposed(provider: str, **fields: Any) -> PriceProposal:
    fields = {
        "model": "m-1",
        "unit": "input_tokens",
        "price": "0.000002",
        "effective_from": NOW,
        "source": "the price page",
        "new_model": True,
        **fields,
    }
    return propose(proposal=NewProposal(provider=provider, **fields), actor="command:prices", now=NOW)


class TestPriceProposals:
    def test_change_the_book_once_they_are_approved(self, provider: str) -> None:
        first = proposed(provider)
        assert not PriceRow.objects.filter(price_model__provider_id=provider).exists()
        done = approve(proposal_id=first.pk, actor=ACTOR, now=NOW)
        assert (done.state, done.decided_by, done.decided_at) == ("approved", ACTOR, NOW)
        approve(
            proposal_id=proposed(provider, price="0.000003", effective_from=NOW + DAY).pk,
            actor=ACTOR,
            now=NOW,
        )
        older, newer = PriceRow.objects.filter(price_model__provider_id=provider).order_by("effective_from")
        assert (older.effective_to, newer.effective_from) == (NOW + DAY, NOW + DAY)
        assert done.price_row == older
        assert price_book().find(provider, "m-1")

    def test_begin_now_when_their_start_has_passed_before_anybody_looked(self, provider: str) -> None:
        waiting = proposed(provider)
        row = approve(proposal_id=waiting.pk, actor=ACTOR, now=NOW + DAY).price_row
        assert row is not None
        assert row.effective_from == NOW + DAY

    def test_begin_a_minute_later_where_they_end_another(self, provider: str) -> None:
        approve(proposal_id=proposed(provider).pk, actor=ACTOR, now=NOW)
        row = approve(proposal_id=proposed(provider, price="0.5").pk, actor=ACTOR, now=NOW + DAY).price_row
        assert row is not None
        assert row.effective_from == NOW + DAY + LEAD

    def test_are_decided_once(self, provider: str) -> None:
        waiting = proposed(provider)
        assert reject(proposal_id=waiting.pk, actor=ACTOR, now=NOW, note="a typing error").note
        for decide in (approve, reject):
            with pytest.raises(InvalidProposal, match="proposal: was rejected"):
                decide(proposal_id=waiting.pk, actor=ACTOR, now=NOW)
        with pytest.raises(ProposalNotFound):
            approve(proposal_id=ids.new_uuid(NOW), actor=ACTOR, now=NOW)

    def test_stay_undecided_when_the_book_does_not_take_them(self, provider: str) -> None:
        approve(proposal_id=proposed(provider, effective_from=NOW + DAY).pk, actor=ACTOR, now=NOW)
        waiting = proposed(provider, effective_from=NOW)
        with pytest.raises(InvalidProposal, match="effective_from: overlaps"):
            approve(proposal_id=waiting.pk, actor=ACTOR, now=NOW)
        waiting.refresh_from_db()
        assert waiting.state == "proposed"

    def test_are_refused_by_field(self, provider: str) -> None:
        for fields, field in (
            ({"unit": "thoughts"}, "unit"),
            ({"price": "-1"}, "price"),
            ({"new_model": False}, "model"),
            ({"note": "x" * 501}, "note"),
        ):
            with pytest.raises(InvalidProposal) as refused:
                proposed(provider, **fields)
            assert [e.field for e in refused.value.errors] == [field]
        with pytest.raises(InvalidProposal, match="provider: is not in the price book"):
            proposed("nobody")
        proposed(provider)
        with pytest.raises(InvalidProposal, match="is waiting"):
            proposed(provider, price="0.5")

    def test_are_a_command(self, provider: str) -> None:
        def run(*arguments: str) -> str:
            out = StringIO()
            call_command("prices", *arguments, stdout=out)
            return out.getvalue()

        text = run(
            "propose", f"{provider}/m-1", "input_tokens", "0.000002", "--source", "a page", "--new-model"
        )
        name = text.split()[1]
        assert name.startswith("prp_")
        assert f"{name}  {provider}/m-1 standard input_tokens 0.000002 USD" in run("proposals")
        assert "appended" in run("approve", name)
        assert name not in run("proposals")
        assert "approved" in run("proposals", "--all")
        with pytest.raises(CommandError, match="was approved"):
            run("reject", name)
        with pytest.raises(CommandError, match="starts with prp_"):
            run("approve", "17")
        with pytest.raises(CommandError, match="unit: must be one of"):
            run("propose", f"{provider}/m-1", "thoughts", "1", "--source", "x")
        with pytest.raises(CommandError, match="PROVIDER/MODEL"):
            run("propose", "m-1", "input_tokens", "1", "--source", "x")
