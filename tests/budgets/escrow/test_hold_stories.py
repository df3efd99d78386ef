"""What becomes of holds, told as scripts against real servers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.support.world import Account

pytestmark = pytest.mark.real_db


def tell(account: Account, text: str) -> None:
    # Django's models are loaded after this file.
    from tests.support.stories import Story

    Story(account).tell(text)


class TestPlaceHold:
    def test_takes_its_amount_and_gives_back_what_was_not_used(self, alice: Account) -> None:
        tell(
            alice,
            """
            budget acme $1.00
            hold   h1   $0.40 -> held, remaining $0.60
            hold   h2   $0.60 -> held, remaining $0.00
            settle h1   $0.25 -> settled, released $0.15, remaining $0.15
            settle h2   $0.60 -> settled, released $0.00, remaining $0.15, spent $0.85
            """,
        )

    def test_is_exceeded_when_it_does_not_fit_beside_what_is_spent(self, alice: Account) -> None:
        tell(
            alice,
            """
            budget acme $1.00
            hold   h1   $0.80 -> held
            settle h1   $0.80 -> settled
            hold   h2   $0.21 -> denied budget_exceeded
            hold   h3   $0.20 -> held, remaining $0.00
            """,
        )

    def test_is_busy_when_only_holds_in_flight_stand_in_its_way(self, alice: Account) -> None:
        tell(
            alice,
            """
            budget acme $1.00
            hold   h1   $0.80 -> held
            hold   h2   $0.40 -> denied budget_busy
            hold   h3   $1.01 -> denied budget_exceeded
            settle h1   $0.30 -> settled
            hold   h2   $0.40 -> held, remaining $0.30
            """,
        )

    def test_takes_the_last_cent_and_not_a_nano_more(self, alice: Account) -> None:
        tell(
            alice,
            """
            budget acme $1.00
            hold h1 $0.999999999 -> held, remaining $0.000000001
            hold h2 $0.000000002 -> denied budget_busy
            hold h3 $0.000000001 -> held, remaining $0.00
            settle h1 $0.999999999 -> settled
            settle h3 $0.000000001 -> settled
            hold h4 $0.000000001 -> denied budget_exceeded
            hold h5 $0 -> held
            """,
        )

    def test_falls_under_every_budget_or_none(self, alice: Account) -> None:
        tell(
            alice,
            """
            budget acme $1.00
            budget all  $1.50 scope=tenant
            hold   h1   $0.90 -> held
            hold   h2   $0.70 for other -> denied budget_busy
            show   all  -> remaining $0.60
            hold   h3   $0.60 for other -> held
            show   acme -> remaining $0.10
            """,
        )


class TestSettle:
    def test_after_a_presumption_corrects_it(self, alice: Account) -> None:
        tell(
            alice,
            """
            budget acme $1.00
            hold   h1   $0.40 -> held
            expire h1
            sweep  -> presumed 1
            show   acme -> remaining $0.60, spent $0.40
            settle h1   $0.25 -> settled, late, remaining $0.75, spent $0.25
            settle h1   $0.25 -> settled, replayed, spent $0.25
            """,
        )
        assert [(e["kind"], e["revision"], e["cost"]) for e in alice.ledger()] == [
            ("presumed", 1, 400_000_000),
            ("settled", 2, -150_000_000),
        ]
        assert alice.ledger()[1]["flags"] == ["late"]

    def test_after_a_void_is_accepted_and_flagged(self, alice: Account) -> None:
        tell(
            alice,
            """
            budget acme $1.00
            hold   h1   $0.40 -> held
            void   h1   -> voided, released $0.40, remaining $1.00
            settle h1   $0.30 -> settled, late, remaining $0.70, spent $0.30
            void   h1   -> settle-conflict
            """,
        )
        assert alice.ledger()[1]["flags"] == ["after_void"]

    def test_three_times_the_hold_is_recorded_whole_and_blocks_until_there_is_room(
        self, alice: Account
    ) -> None:
        tell(
            alice,
            """
            budget acme $1.00
            hold   h1   $0.40 -> held
            settle h1   $1.20 -> settled, overrun $0.80, remaining $0.00, spent $1.20
            hold   h2   $0.01 -> denied budget_exceeded
            limit  acme $1.30
            hold   h3   $0.10 -> held, remaining $0.00
            """,
        )
        assert alice.verify().totals.overrun == 0

    def test_above_its_hold_shows_the_overrun_while_it_lasts(self, alice: Account) -> None:
        tell(
            alice,
            """
            budget acme $1.00
            hold   h1   $0.40 -> held
            hold   h2   $0.60 -> held
            settle h1   $0.90 -> settled, overrun $0.50
            hold   h3   $0.01 -> denied budget_busy
            void   h2   -> voided, remaining $0.10
            hold   h3   $0.10 -> held
            """,
        )

    def test_shows_an_overrun_of_the_budget(self, alice: Account) -> None:
        tell(alice, "budget acme $1.00\nhold h1 $0.40 -> held\nsettle h1 $1.20 -> settled")
        assert alice.verify().totals.overrun == 200_000_000

    def test_with_another_usage_is_a_conflict_and_changes_nothing(self, alice: Account) -> None:
        tell(
            alice,
            """
            budget acme $1.00
            hold   h1   $0.40 -> held
            settle h1   $0.25 -> settled
            settle h1   $0.24 -> settle-conflict, spent $0.25
            void   h1   -> settle-conflict, spent $0.25
            """,
        )

    def test_without_usage_presumes_and_can_be_corrected(self, alice: Account) -> None:
        tell(
            alice,
            """
            budget acme $1.00
            hold   h1   $0.40 -> held
            lose   h1   -> presumed, remaining $0.60
            lose   h1   -> presumed, replayed
            settle h1   $0.10 -> settled, late, remaining $0.90
            lose   h1   -> settled, replayed, spent $0.10
            """,
        )
        assert alice.ledger()[0]["flags"] == ["unseen"]


class TestVoid:
    def test_after_expiry_is_a_late_settlement_of_nothing(self, alice: Account) -> None:
        tell(
            alice,
            """
            budget acme $1.00
            hold   h1   $0.40 -> held
            expire h1
            sweep  -> presumed 1
            void   h1   -> voided, late, remaining $1.00, spent $0.00
            void   h1   -> voided, replayed
            """,
        )

    def test_before_the_sweep_of_an_expired_hold_is_its_first_resolution(self, alice: Account) -> None:
        tell(
            alice,
            """
            budget acme $1.00
            hold   h1   $0.40 -> held
            expire h1
            void   h1   -> voided, remaining $1.00
            sweep  -> presumed 0
            """,
        )


class TestExtend:
    def test_of_an_expired_or_resolved_hold_finds_none(self, alice: Account) -> None:
        tell(
            alice,
            """
            budget acme $1.00
            hold   h1   $0.40 -> held
            extend h1   600 -> extended
            extend h1   901 -> invalid-request
            expire h1
            extend h1   60 -> hold-not-found
            hold   h2   $0.40 -> held
            void   h2   -> voided
            extend h2   60 -> hold-not-found
            """,
        )

    def test_beyond_fifteen_minutes_from_placing_is_refused(self, alice: Account) -> None:
        alice.budget("acme", "$1.00")
        placed = alice.place("$0.40", ttl_seconds=900)
        keys, hold = alice.keys(), alice.hold_of(placed)
        # Placed a second earlier, the longest life ends a second earlier.
        alice.world.redis.hincrby(keys.hold(hold.body.hold_id), "at", -1000)
        refused = alice.extend(placed, 900)
        assert (refused.status, refused.kind) == (422, "hold-too-long")
        assert "15 minutes" in refused["detail"]

    def test_answers_a_new_authorization_that_settles(self, alice: Account) -> None:
        alice.budget("acme", "$1.00")
        placed = alice.place("$0.40", ttl_seconds=60)
        longer = alice.extend(placed, 600)
        assert longer["hold"]["expires_at"] > placed["hold"]["expires_at"]
        assert alice.settle(longer, "$0.10")["state"] == "settled"
        assert alice.settle(placed, "$0.10")["replayed"] is True

    def test_on_a_closed_epoch_says_so_and_the_hold_settles_all_the_same(self, alice: Account) -> None:
        alice.budget("acme", "$1.00")
        placed = alice.place("$0.40")
        alice.world.lose_redis()
        alice.world.recover()
        refused = alice.extend(placed, 600)
        assert (refused.status, refused.kind) == (409, "epoch-closed")
        assert alice.settle(placed, "$0.10")["state"] == "settled"


class TestEditLimit:
    def test_cut_bites_on_the_next_request_and_a_raise_works_at_once(self, alice: Account) -> None:
        tell(
            alice,
            """
            budget acme $1.00
            hold   h1   $0.40 -> held
            limit  acme $0.50
            hold   h2   $0.20 -> denied budget_busy
            hold   h3   $0.10 -> held, remaining $0.00
            limit  acme $0.45
            hold   h4   $0.01 -> denied budget_busy
            settle h1   $0.10 -> settled, remaining $0.25
            limit  acme $2.00
            hold   h5   $1.80 -> held, remaining $0.00
            """,
        )

    def test_cut_to_nothing_refuses_what_costs_something(self, alice: Account) -> None:
        tell(
            alice,
            """
            budget acme $1.00
            hold   h1   $0.40 -> held
            limit  acme $0.00
            hold   h2   $0.01 -> denied budget_exceeded
            settle h1   $0.40 -> settled, remaining $0.00, spent $0.40
            """,
        )


class TestRecovery:
    def test_after_a_loss_of_redis_locks_what_is_unresolved_until_it_settles(self, alice: Account) -> None:
        tell(
            alice,
            """
            budget acme $1.00
            hold   h1   $0.40 -> held
            lose-redis  -> opened 64
            show   acme -> remaining $0.60, stranded $0.40
            hold   h2   $0.61 -> denied budget_exceeded
            settle h1   $0.25 -> settled, stranded $0.00, spent $0.25, remaining $0.75
            hold   h2   $0.75 -> held
            """,
        )

    def test_after_a_planned_close_strands_nothing(self, alice: Account) -> None:
        tell(
            alice,
            """
            budget acme $1.00
            hold   h1   $0.40 -> held
            settle h1   $0.25 -> settled
            close-epoch -> retired 1
            show   acme -> remaining $0.75, stranded $0.00
            hold   h2   $0.75 -> held
            """,
        )

    def test_after_a_planned_close_holds_in_flight_lock_their_own_amount_alone(self, alice: Account) -> None:
        tell(
            alice,
            """
            budget acme $1.00
            hold   h1   $0.40 -> held
            close-epoch -> retired 1
            show   acme -> remaining $0.60, stranded $0.40
            settle h1   $0.50 -> settled, stranded $0.00, remaining $0.50
            """,
        )

    def test_presumes_the_holds_of_a_closed_epoch_when_they_expire(self, alice: Account) -> None:
        tell(
            alice,
            """
            budget acme $1.00
            hold   h1   $0.40 -> held
            close-epoch -> retired 1
            expire h1
            sweep  -> presumed 1
            show   acme -> remaining $0.60, stranded $0.00, spent $0.40
            settle h1   $0.10 -> settled, late, remaining $0.90
            """,
        )
