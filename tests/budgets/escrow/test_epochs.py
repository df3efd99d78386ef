"""Epochs: what happens when Redis is lost, closed, cut off or taken over."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from budgets.domain.policy import EACH
from budgets.stores.redis.keys import Keys, epoch_key

if TYPE_CHECKING:
    from tests.support.world import Account

pytestmark = pytest.mark.real_db


class TestLossOfRedis:
    @pytest.mark.parametrize("scripts", [False, True], ids=["flush", "flush and script flush"])
    def test_opens_a_new_epoch_and_locks_the_old_authority(self, alice: Account, scripts: bool) -> None:
        alice.budget("acme", "$1")
        placed = alice.place("$0.40")
        before = alice.epoch()
        alice.world.lose_redis(scripts=scripts)
        assert alice.world.recover() == 64
        assert alice.epoch().epoch_id != before.epoch_id
        (stranded,) = alice.stranded()
        assert (stranded["authority"], stranded["epoch_state"]) == (400_000_000, "closed")
        assert alice.place("$0.70").decision == "budget_exceeded"
        assert alice.settle(placed, "$0.25")["state"] == "settled"
        assert alice.stranded() == []
        assert not alice.verify().differences

    def test_of_the_scripts_alone_is_a_loss_too(self, alice: Account) -> None:
        alice.budget("acme", "$1")
        placed = alice.place("$0.40")
        alice.world.redis.script_flush()
        assert alice.world.recover() == 64
        assert alice.settle(placed, "$0.10")["state"] == "settled"
        assert alice.remaining("acme") == 900_000_000
        assert not alice.verify().differences

    def test_of_one_counter_alone_locks_all_that_it_was_granted(self, alice: Account) -> None:
        alice.budget("acme", "$1")
        placed = alice.place("$0.40")
        assert alice.acknowledged()
        alice.world.redis.delete(alice.keys().counter(alice.counter("acme")["id"]))
        # What was granted on the way to the vanished key is locked with it: it cannot be told from what was used.
        assert alice.place("$0.60").decision == "budget_exceeded"
        assert [(row["authority"], row["grant_state"]) for row in alice.stranded()] == [
            (1_000_000_000, "lost")
        ]
        assert alice.settle(placed, "$0.10")["state"] == "settled"
        alice.limit("acme", "$1.50")
        assert alice.place("$0.81").decision == "budget_exceeded"
        assert alice.place("$0.80").decision == "allow"
        assert not alice.verify().differences

    def test_leaves_every_other_tenant_s_limit_whole(self, alice: Account) -> None:
        charlie = alice.world.account("charlie")
        for account in (alice, charlie):
            account.budget("each", "$1", subject=EACH)
        holds = [account.place("$0.40") for account in (alice, charlie)]
        alice.world.lose_redis()
        alice.world.recover()
        for account, placed in zip((alice, charlie), holds, strict=True):
            assert account.place("$0.61").decision == "budget_exceeded"
            account.settle(placed, "$0.40")
            assert account.place("$0.60").decision == "allow"
            assert not account.verify().differences


class TestFence:
    def test_refuses_every_placing_once_its_time_is_over(self, alice: Account) -> None:
        alice.budget("acme", "$1")
        placed = alice.place("$0.40")
        alice.world.redis.hset(epoch_key(alice.shard), "until", alice.world.redis_ms() - 1)
        refused = alice.place("$0.10")
        assert (refused.status, refused.kind) == (503, "counters-unavailable")
        assert refused.headers["retry-after"] == "1"
        assert alice.verify().totals.open_holds == 1
        # A settlement does not depend on it.
        assert alice.settle(placed, "$0.10")["state"] == "settled"
        assert alice.world.recover() == 0
        assert alice.place("$0.90").decision == "allow"
        assert not alice.verify().differences

    def test_is_renewed_only_while_the_key_carries_this_epoch(self, alice: Account) -> None:
        epoch = alice.epoch()
        alice.world.redis.hset(epoch_key(alice.shard), "id", uuid4().hex)
        assert alice.world.recover() == 1
        assert alice.epoch().epoch_id != epoch.epoch_id

    def test_records_its_time_in_postgresql_before_redis_hears_of_it(self, alice: Account) -> None:
        alice.world.recover()
        sent = int(alice.world.redis.hget(epoch_key(alice.shard), "until") or 0)
        assert sent <= alice.epoch().valid_until.timestamp() * 1000


class TestPlannedClose:
    def test_strands_nothing_without_holds(self, alice: Account) -> None:
        alice.budget("acme", "$1")
        alice.settle(alice.place("$0.40"), "$0.25")
        closed = alice.world.run(alice.world.operations.close(alice.shard))
        assert closed.unknown == 0
        assert closed.retired >= 1
        assert alice.stranded() == []
        assert alice.remaining("acme") == 750_000_000
        assert not alice.verify().differences

    def test_locks_exactly_the_open_holds(self, alice: Account) -> None:
        alice.budget("acme", "$1")
        placed = [alice.place("$0.10") for _ in range(4)]
        alice.world.run(alice.world.operations.close(alice.shard))
        assert [row["authority"] for row in alice.stranded()] == [400_000_000]
        assert alice.place("$0.60").decision == "allow"
        for hold in placed:
            alice.settle(hold, "$0.05")
        assert alice.stranded() == []
        assert alice.remaining("acme") == 200_000_000
        assert not alice.verify().differences

    def test_is_finished_by_whoever_comes_next(self, alice: Account) -> None:
        alice.budget("acme", "$1")
        alice.place("$0.40")
        epoch = alice.epoch()
        alice.world.sql("SELECT nb_epoch_closing(%s)", epoch.epoch_id)
        assert alice.world.recover() == 1
        assert alice.epoch().epoch_id != epoch.epoch_id
        assert [row["authority"] for row in alice.stranded()] == [400_000_000]
        assert alice.place("$0.60").decision == "allow"
        assert not alice.verify().differences

    def test_leaves_nothing_in_redis_once_its_holds_are_swept(self, alice: Account) -> None:
        # An epoch in which nobody else has left a hold.
        alice.world.lose_redis()
        alice.world.recover()
        alice.budget("acme", "$1")
        placed, epoch = alice.place("$0.40"), alice.epoch()
        alice.world.run(alice.world.operations.close(alice.shard))
        keys = Keys(shard=alice.shard, epoch_id=epoch.epoch_id)
        alice.world.sql(
            "UPDATE epochs SET valid_until = now() - interval '2 minutes' WHERE epoch_id = %s", epoch.epoch_id
        )
        self.clean_up(alice)
        assert alice.world.redis.exists(keys.expiries) == 1
        alice.expire(placed)
        alice.world.sweep()
        self.clean_up(alice)
        assert list(alice.world.redis.scan_iter(keys.pattern())) == []
        assert not alice.verify().differences

    def clean_up(self, alice: Account) -> None:
        """Until only epochs with holds are left: each round takes a bounded number, the oldest first."""
        due = """SELECT count(*) FROM epochs WHERE state = 'closed' AND cleaned_at IS NULL
            AND valid_until < now() - interval '1 minute'"""
        before = None
        while (left := alice.world.sql(due)) != before:
            before = left
            alice.world.run(alice.world.operations.clean_up())


class TestTakeOver:
    def test_replaces_an_epoch_that_another_controller_was_opening(self, alice: Account) -> None:
        before, half_open = alice.epoch(), uuid4()
        alice.world.sql(
            "SELECT nb_epoch_replace(%s, %s, %s, interval '60 seconds', 'test', '{}')",
            alice.shard,
            before.epoch_id,
            half_open,
        )
        assert alice.world.recover() == 1
        assert alice.epoch().state == "open"
        assert alice.epoch().epoch_id not in (before.epoch_id, half_open)
        assert alice.world.sql("SELECT nb_epoch_opened(%s)", half_open) == [(False,)]

    def test_by_two_controllers_at_once_ends_with_one_open_epoch_each(self, alice: Account) -> None:
        alice.budget("acme", "$1")
        alice.world.lose_redis()
        opened = alice.world.all(alice.world.operations.recover() for _ in range(2))
        assert sum(opened) >= 64
        alice.world.recover()
        status = alice.world.run(alice.world.operations.status())
        assert sorted(row.shard for row in status.epochs) == list(range(64))
        assert {row.state for row in status.epochs} == {"open"}
        assert alice.place("$1").decision == "allow"


class TestWriteOff:
    def stranded(self, alice: Account) -> dict[str, object]:
        alice.budget("acme", "$1")
        self.placed = alice.place("$0.40")
        alice.world.lose_redis()
        alice.world.recover()
        (row,) = alice.stranded()
        return row

    def test_is_refused_before_its_time(self, alice: Account) -> None:
        from budgets.services.operations import WriteoffTooEarly

        row = self.stranded(alice)
        with pytest.raises(WriteoffTooEarly, match="may still be settled until"):
            alice.world.run(alice.world.operations.write_off(row, actor="alice", reason="gone"))
        assert alice.counter("acme")["stranded"] == 400_000_000

    def test_returns_the_amount_and_is_named_in_the_ledger(self, alice: Account) -> None:
        row = self.stranded(alice)
        alice.world.sql(
            "UPDATE epochs SET valid_until = now() - interval '17 minutes' WHERE epoch_id = %s", row["epoch"]
        )
        assert alice.place("$0.70").decision == "budget_exceeded"
        amount = alice.world.run(
            alice.world.operations.write_off(row, actor="alice", reason="provider said no")
        )
        assert amount == 400_000_000
        (entry,) = alice.ledger()
        assert (entry["kind"], entry["cost"], entry["note"]) == ("written_off", 0, "alice: provider said no")
        assert alice.place("$1").decision == "allow"
        assert not alice.verify().differences
        again = alice.world.run(alice.world.operations.write_off(row, actor="alice", reason="again"))
        assert again == 0

    def test_is_corrected_by_a_settlement_that_comes_all_the_same(self, alice: Account) -> None:
        row = self.stranded(alice)
        alice.world.sql(
            "UPDATE epochs SET valid_until = now() - interval '17 minutes' WHERE epoch_id = %s", row["epoch"]
        )
        alice.world.run(alice.world.operations.write_off(row, actor="alice", reason="gone"))
        assert alice.settle(self.placed, "$0.30")["state"] == "settled"
        assert alice.counter("acme")["spent"] == 300_000_000
        assert alice.remaining("acme") == 700_000_000
        assert not alice.verify().differences

    def test_of_authority_in_use_is_refused(self, alice: Account) -> None:
        from budgets.services.operations import WriteoffTooEarly

        alice.budget("acme", "$1")
        alice.place("$0.40")
        row = {
            "tenant": alice.tenant_id,
            "counter": alice.counter("acme")["id"],
            "epoch": alice.epoch().epoch_id,
            "inc": 1,
        }
        with pytest.raises(WriteoffTooEarly, match="in use, not stranded"):
            alice.world.run(alice.world.operations.write_off(row, actor="alice", reason="impatient"))


class TestVerify:
    def test_finds_figures_that_somebody_changed(self, alice: Account) -> None:
        alice.budget("acme", "$1")
        alice.settle(alice.place("$0.40"), "$0.25")
        alice.place("$0.10")
        assert not alice.verify().differences
        counter = alice.counter("acme")["id"]
        name = alice.keys().counter(counter)
        for change, undo, figures in (
            (
                lambda: alice.world.sql(
                    "UPDATE counters SET spent = spent + 1 WHERE counter_id = %s", counter
                ),
                lambda: alice.world.sql(
                    "UPDATE counters SET spent = spent - 1 WHERE counter_id = %s", counter
                ),
                {"spent"},
            ),
            (
                lambda: alice.world.sql(
                    "UPDATE grants SET authority = authority + 1 WHERE counter_id = %s", counter
                ),
                lambda: alice.world.sql(
                    "UPDATE grants SET authority = authority - 1 WHERE counter_id = %s", counter
                ),
                {"authority", "redis free and held"},
            ),
            (
                lambda: alice.world.redis.hincrby(name, "used", 1),
                lambda: alice.world.redis.hincrby(name, "used", -1),
                {"redis free and held"},
            ),
            (
                lambda: alice.world.redis.hincrby(name, "chunk", 1),
                lambda: alice.world.redis.hincrby(name, "chunk", -1),
                {"redis chunk"},
            ),
            (
                lambda: alice.world.sql(
                    "UPDATE ledger_entries SET cost_nano = 1 WHERE tenant_id = %s", alice.tenant_id
                ),
                lambda: alice.world.sql(
                    "UPDATE ledger_entries SET cost_nano = 250000000 WHERE tenant_id = %s", alice.tenant_id
                ),
                {"ledger cost_nano"},
            ),
        ):
            change()
            assert {difference.figure for difference in alice.verify().differences} == figures
            undo()
        assert not alice.verify().differences

    def test_finds_a_counter_that_vanished(self, alice: Account) -> None:
        alice.budget("acme", "$1")
        alice.settle(alice.place("$0.40"), "$0.25")
        assert alice.acknowledged()
        alice.world.redis.delete(alice.keys().counter(alice.counter("acme")["id"]))
        assert [d.figure for d in alice.verify().differences] == ["key in Redis"]
