"""A wallet as a counter of the escrow: held in the customer's price, refused by name, corrected from outside."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from budgets.domain.charging import Ceiling, CeilingRule, ChargeRules
from budgets.domain.escrow import ENDS_EARLY_SECONDS
from budgets.services.policy import publish
from budgets.services.wallet_limits import (
    Fall,
    WalletLimit,
    drop_limit,
    set_charges,
    set_limit,
    wallet_id_of,
    wallets_of,
)
from noburn.kit import ids
from tests.machine.mutants import SQL, Mutant
from tests.support.world import Account, usd

pytestmark = pytest.mark.real_db

TWICE = ChargeRules(tables=((CeilingRule("*", "*", Ceiling(2_000_000)),),), default=(0,))


class Purse:
    """A customer's wallet as the escrow sees it, filled by hand."""

    def __init__(self, account: Account, customer: str = "acme") -> None:
        self.account, self.customer = account, customer
        self.wallets_id = wallets_of(tenant_id=account.tenant_id, now=datetime.now(UTC))
        self.id = wallet_id_of(wallets_id=self.wallets_id, customer=customer)

    def fill(self, base: str, *, burnt: str = "$0", falls: tuple[Fall, ...] = (), fresh: bool = True) -> None:
        limit = WalletLimit(base=usd(base), burnt=usd(burnt), falls=falls)
        set_limit(
            tenant_id=self.account.tenant_id, wallets_id=self.wallets_id, customer=self.customer, limit=limit
        )
        if fresh:
            publish(tenant_id=self.account.tenant_id, now=datetime.now(UTC))


class TestWalletCounters:
    def test_holds_the_customers_price_and_refuses_in_the_wallets_name(self, alice: Account) -> None:
        purse = Purse(alice)
        set_charges(tenant_id=alice.tenant_id, rules=TWICE, now=datetime.now(UTC))
        purse.fill("$1")
        first = alice.place("$0.30")
        assert first["decision"] == "allow"
        (shown,) = first["budgets"]
        assert shown["id"] == ids.encode(ids.WALLET, purse.id)
        assert (shown["scope"], shown["subject"]) == ("wallet", "acme")
        assert (shown["limit_usd"], shown["remaining_usd"]) == ("1", "0.4")
        assert alice.settle(first, "$0.30").status == 200
        refused = alice.place("$0.21")
        assert (refused["decision"], refused["reason"]) == ("deny", "budget_exceeded")
        assert refused["budget"]["scope"] == "wallet"
        assert refused["budget"]["remaining_usd"] == "0.4"
        assert "top its wallet up" in refused["remedy"]
        assert alice.place("$0.20")["decision"] == "allow"
        assert not alice.verify().differences

    def test_leaves_customers_without_a_wallet_alone(self, alice: Account) -> None:
        purse = Purse(alice)
        purse.fill("$1")
        assert alice.place("$5", customer="globex")["budgets"] == []
        before = alice.world.sql("SELECT count(*) FROM counters WHERE tenant_id = %s", alice.tenant_id)
        assert alice.place("$5", customer="globex")["decision"] == "allow"
        assert (
            alice.world.sql("SELECT count(*) FROM counters WHERE tenant_id = %s", alice.tenant_id) == before
        )
        # One that gets a wallet is under it from its next call on.
        Purse(alice, "globex").fill("$2")
        refused = alice.place("$5", customer="globex")
        assert (refused["decision"], refused["budget"]["subject"]) == ("deny", "globex")

    def test_asks_nobody_twice_for_a_wallet_that_is_not_there(self, alice: Account) -> None:
        Purse(alice).fill("$1")
        alice.place("$5", customer="globex")
        grants = alice.world.app._plane.holds._grants
        asked: list[object] = []
        really, grants.ask = grants.ask, lambda lacks: asked.append(lacks)  # type: ignore[method-assign, assignment, return-value]
        try:
            assert alice.place("$5", customer="globex")["decision"] == "allow"
        finally:
            grants.ask = really  # type: ignore[method-assign]
        assert asked == []

    def test_comes_back_to_the_balance_once_the_exact_charge_was_burnt(self, alice: Account) -> None:
        purse = Purse(alice)
        set_charges(tenant_id=alice.tenant_id, rules=TWICE, now=datetime.now(UTC))
        purse.fill("$1")
        alice.settle(alice.place("$0.40"), "$0.40")
        assert alice.place("$0.15")["decision"] == "deny"
        # 0.80 was posted, 0.50 is the exact charge: 0.50 is left, at once.
        purse.fill("$0.50", burnt="$0.80", fresh=False)
        placed = alice.place("$0.25")
        (shown,) = placed["budgets"]
        assert (shown["limit_usd"], shown["remaining_usd"]) == ("0.5", "0")
        alice.void(placed)
        assert not alice.verify().differences

    def test_shows_in_remaining(self, alice: Account) -> None:
        Purse(alice).fill("$3")
        for customer, left in (("acme", ["3"]), ("globex", [])):
            answer = alice.world.request("GET", f"/v1/remaining?customer={customer}", secret=alice.secret)
            assert [b["remaining_usd"] for b in answer["budgets"]] == left

    def test_fits_an_output_cap_into_what_is_left(self, alice: Account) -> None:
        rules = ChargeRules(
            tables=((CeilingRule("openai", "gpt-4o*", Ceiling(1_500_000, output_pico=10**6)),),),
            default=(0,),
        )
        Purse(alice).fill("$0.01")
        set_charges(tenant_id=alice.tenant_id, rules=rules, now=datetime.now(UTC))
        call: dict[str, Any] = {"model": "gpt-4o-mini", "input_tokens": 100, "max_output_tokens": 16_000}
        refused = alice.place(**call)
        assert refused["decision"] == "deny"
        placed = alice.place(fit=True, **call)
        assert placed["decision"] == "allow"
        assert placed["max_output_tokens"] == refused["fits_max_output_tokens"]
        # 0.6 USD a million of output, half as much again, and a dollar a million on top.
        assert 5_000 < placed["max_output_tokens"] < 5_300
        settled = alice.settle(placed, usage={"input_tokens": 100, "output_tokens": 200})
        assert settled.status == 200
        (entry,) = alice.ledger()
        assert entry["deltas"] == [int(entry["cost"] * 3 / 2) + 200_000 + (entry["cost"] % 2)]
        assert not alice.verify().differences

    def test_is_taken_away_when_it_is_closed_and_put_back_when_it_is_opened(self, alice: Account) -> None:
        purse = Purse(alice)
        purse.fill("$1")
        alice.settle(alice.place("$0.75"), "$0.75")
        drop_limit(
            tenant_id=alice.tenant_id, wallets_id=purse.wallets_id, customer="acme", now=datetime.now(UTC)
        )
        free = alice.place("$7")
        assert (free["decision"], free["budgets"]) == ("allow", [])
        purse.fill("$2", burnt="$0.75")
        assert alice.place("$2.01")["decision"] == "deny"
        assert alice.place("$2")["decision"] == "allow"
        assert not alice.verify().differences


class TestCreditThatEnds:
    def falls(self, account: Account, purse: Purse) -> None:
        """The instant has come: by PostgreSQL's clock, and by Redis's."""
        before = account.world.redis_ms() - 1
        account.world.sql(
            "UPDATE wallet_limits SET falls_at = ARRAY[now()] WHERE tenant_id = %s", account.tenant_id
        )
        name = account.keys().counter(purse.id)
        if account.world.redis.hget(name, "end") is not None:
            account.world.redis.hset(name, "end", before)

    def test_is_not_held_from_its_instant_on(self, alice: Account) -> None:
        purse = Purse(alice)
        later = datetime.now(UTC) + timedelta(hours=1)
        purse.fill("$0.25", falls=(Fall(at=later, amount=usd("$0.75")),))
        assert alice.place("$0.50")["decision"] == "allow"
        self.falls(alice, purse)
        # A quarter dollar does not end; half a dollar is in flight, and keeps what it has.
        refused = alice.place("$0.05")
        assert (refused["decision"], refused["reason"]) == ("deny", "budget_busy")
        assert not alice.verify().differences

    def test_leaves_what_does_not_end(self, alice: Account) -> None:
        purse = Purse(alice)
        later = datetime.now(UTC) + timedelta(hours=1)
        purse.fill("$0.25", falls=(Fall(at=later, amount=usd("$0.75")),))
        alice.void(alice.place("$1"))
        self.falls(alice, purse)
        assert alice.place("$0.26")["decision"] == "deny"
        assert alice.place("$0.25")["decision"] == "allow"
        assert not alice.verify().differences

    @pytest.mark.parametrize(
        "mutant",
        [
            Mutant("lua:preflight", ((" or (c[9] and now >= tonumber(c[9]))", ""),)),
            Mutant("lua:load", (("if ARGV[8] and ARGV[8] ~= '' then", "if false then"),)),
        ],
        ids=["ended_credit_held", "end_not_told"],
    )
    def test_is_held_where_a_rule_is_altered(self, alice: Account, mutant: Mutant) -> None:
        """The simulator's mutants on the real scripts: what was granted before the instant is still drawn from."""
        with mutant.applied(alice.world):
            purse = Purse(alice)
            later = datetime.now(UTC) + timedelta(hours=1)
            purse.fill("$0.25", falls=(Fall(at=later, amount=usd("$0.75")),))
            alice.void(alice.place("$1"))
            self.falls(alice, purse)
            assert alice.place("$0.26")["decision"] == "allow"

    def test_ends_as_early_as_the_specification_says(self) -> None:
        sql = (SQL / "wallets.sql").read_text()
        assert sql.count(f"p_at + interval '{ENDS_EARLY_SECONDS} seconds'") == 1


class TestThePolicy:
    def test_does_not_grow_with_wallets(self, alice: Account) -> None:
        from budgets.models import PolicySnapshot

        def size() -> int:
            return len(PolicySnapshot.objects.get(pk=alice.tenant_id).body)

        Purse(alice).fill("$1")
        before = size()
        for number in range(10):
            Purse(alice, f"customer-{number}").fill("$1")
        assert size() == before
        assert alice.place("$1.01", customer="customer-7")["decision"] == "deny"

    def test_says_nothing_of_wallets_where_there_are_none(self, alice: Account) -> None:
        set_charges(tenant_id=alice.tenant_id, rules=TWICE, now=datetime.now(UTC))
        publish(tenant_id=alice.tenant_id, now=datetime.now(UTC))
        placed = alice.place("$5")
        assert (placed["decision"], placed["budgets"]) == ("allow", [])
        assert alice.hold_of(placed).body.ceiling is None
