"""An event of the original client settles the hold of its check, once, however often and in whatever order it comes."""

from __future__ import annotations

import itertools
import random
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from budgets.domain.open_checks import OpenCheck, in_order
from tests.original.wire import booked, check, checking, open_checks, posting, tell, telling
from tests.support.asgi import Answer

if TYPE_CHECKING:
    from tests.support.world import Account

pytestmark = pytest.mark.real_db


LONG_MS = 1_800_000


def shift(alice: Account, milliseconds: int) -> None:
    """Puts what is known of every event so far into the past, as if that time had gone by."""
    redis: Any = alice.world.redis
    for key in redis.scan_iter(f"*:v:{alice.tenant_id.hex}:*"):
        for name, value in redis.hgetall(key).items():
            first, colon, rest = value.partition(":")
            if first.isdigit():
                redis.hset(key, name, f"{int(first) - milliseconds}{colon}{rest}")


class TestMatching:
    @pytest.mark.parametrize("differs", ["end_user_id", "run_id", "model"])
    def test_takes_no_check_of_another(self, alice: Account, differs: str) -> None:
        alice.budget("all", "$1", scope="tenant")
        check(alice, 0.4, **{differs: "one"})
        assert tell(alice, 0.1, **{differs: "another"})["matched"] is False
        assert len(open_checks(alice)) == 1
        assert alice.remaining("all") == 500_000_000
        assert tell(alice, 0.2, **{differs: "one"})["matched"] is True
        assert alice.remaining("all") == 700_000_000
        assert not alice.verify().differences

    def test_knows_a_model_by_the_name_that_answered(self, alice: Account) -> None:
        check(alice, model="gpt-4o-mini", estimated_tokens_in=1000)
        told = tell(alice, model="gpt-4o-mini-2024-07-18", tokens_in=1000, tokens_out=10)
        assert (told["matched"], told["cost_usd"]) == (True, 0.000156)

    def test_takes_the_smallest_hold_that_covers_it(self, alice: Account) -> None:
        alice.budget("all", "$1", scope="tenant")
        for cost in (0.1, 0.5, 0.3):
            check(alice, cost)
        tell(alice, 0.2)
        assert alice.remaining("all") == 1_000_000_000 - 600_000_000 - 200_000_000
        tell(alice, 0.4)
        tell(alice, 0.1)
        assert open_checks(alice) == []
        assert alice.remaining("all") == 300_000_000

    def test_takes_the_largest_where_none_covers_it_and_records_all(self, alice: Account) -> None:
        alice.budget("all", "$1", scope="tenant")
        check(alice, 0.1)
        check(alice, 0.2)
        assert tell(alice, 0.9)["matched"] is True
        assert booked(alice) == [("settled", "0.9")]
        # The hold of the other stands: together they are over, which is shown and refuses the next.
        assert alice.remaining("all") == 0
        assert check(alice, 0.01)["allowed"] is False
        assert not alice.verify().differences

    def test_prices_tokens_by_the_book_and_a_cost_alone_as_it_is_told(self, alice: Account) -> None:
        costs = [
            tell(alice, 0.9, model="gpt-4o", tokens_in=980, tokens_out=290)["cost_usd"],
            tell(alice, 0.9, model="gpt-4o", tokens_in=0, tokens_out=0)["cost_usd"],
            tell(alice, 0.9, model="own-tool")["cost_usd"],
            # Sold by more than one, none of whom claims its name.
            tell(alice, 0.9, model="text-embedding-3-small", tokens_in=10, tokens_out=0)["cost_usd"],
        ]
        assert costs == [0.00535, 0.9, 0.9, 0.0000002]

    def test_after_the_hold_expired_turns_what_was_presumed_into_what_was_used(self, alice: Account) -> None:
        alice.budget("all", "$1", scope="tenant")
        check(alice, 0.4)
        (authorization,) = open_checks(alice)
        alice.expire(Answer(200, {}, {"authorization": authorization}))
        alice.world.sweep()
        assert booked(alice) == [("presumed", "0.4")]
        assert tell(alice, 0.1)["matched"] is True
        assert alice.remaining("all") == 900_000_000
        assert not alice.verify().differences

    def test_with_a_key_that_was_revoked_since_is_recorded(self, alice: Account) -> None:
        from tenants.services.keys import revoke_key

        check(alice, 0.4)
        revoke_key(tenant_id=alice.tenant_id, key_id=alice.issued.key.pk, actor="test", now=datetime.now(UTC))
        assert tell(alice, 0.1)["matched"] is True
        without = tell(alice, 0.2)
        assert (without.status, without.kind) == (401, "unauthorized")
        assert booked(alice) == [("settled", "0.1")]

    def test_after_a_recovery_settles_in_the_closed_epoch(self, alice: Account) -> None:
        alice.budget("all", "$1", scope="tenant")
        check(alice, 0.4)
        redis: Any = alice.world.redis
        kept = {
            key: redis.zrange(key, 0, -1, withscores=True)
            for key in redis.scan_iter(f"*:o:{alice.tenant_id.hex}:*")
        }
        alice.world.lose_redis()
        alice.world.recover()
        # What an append-only file would have brought back.
        for key, members in kept.items():
            redis.zadd(key, dict(members))
            redis.expire(key, 3600)
        assert tell(alice, 0.1)["matched"] is True
        assert alice.counter("all")["spent"] == 100_000_000
        assert alice.counter("all")["stranded"] == 0
        assert not alice.verify().differences


class TestSmallestCover:
    def test_leaves_a_hold_that_covers_it_for_every_call_that_its_own_covered(self) -> None:
        rng = random.Random(7)
        for _ in range(2_000):
            calls = [
                (held := rng.randrange(1, 20), rng.randrange(held + 1)) for _ in range(rng.randrange(1, 7))
            ]
            waiting = [OpenCheck(held, number, 0, str(number)) for number, (held, _) in enumerate(calls)]
            for used in rng.sample([used for _, used in calls], len(calls)):
                best = in_order(waiting, cost_nano=used)[0]
                assert best.cost_nano >= used
                waiting.remove(best)

    def test_takes_the_oldest_of_equal_ones(self) -> None:
        equal = [OpenCheck(5, placed, 0, "") for placed in (3, 1, 2)]
        for cost in (1, 9):
            assert [each.placed_ms for each in in_order(equal, cost_nano=cost)] == [1, 2, 3]


class TestRepetition:
    def test_changes_nothing(self, alice: Account) -> None:
        check(alice, 0.4)
        statuses = [tell(alice, 0.25).body["status"] for _ in range(3)]
        assert statuses == ["recorded", "duplicate", "duplicate"]
        assert booked(alice) == [("settled", "0.25")]

    def test_at_the_same_time_changes_nothing(self, alice: Account) -> None:
        alice.budget("all", "$1", scope="tenant")
        check(alice, 0.4)
        answers = alice.world.all(telling(alice, 0.25) for _ in range(16))
        assert {answer.status for answer in answers} == {202}
        assert booked(alice) == [("settled", "0.25")]
        assert alice.remaining("all") == 750_000_000
        assert not alice.verify().differences

    def test_of_an_event_without_a_check_changes_nothing(self, alice: Account) -> None:
        alice.budget("all", "$1", scope="tenant")
        answers = alice.world.all(telling(alice, 0.25) for _ in range(16))
        answers.append(tell(alice, 0.25))
        assert [answer["status"] for answer in answers].count("recorded") == 1
        assert [entry for entry in booked(alice) if entry[0] == "settled"] == [("settled", "0.25")]
        assert alice.remaining("all") == 750_000_000
        assert not alice.verify().differences

    def test_is_no_equal_event_of_a_check_of_its_own(self, alice: Account) -> None:
        alice.budget("all", "$1", scope="tenant")
        alice.world.all(checking(alice, 0.1) for _ in range(8))
        alice.world.all(telling(alice, 0.05) for _ in range(8))
        assert booked(alice) == [("settled", "0.05")] * 8
        assert alice.remaining("all") == 600_000_000
        assert not alice.verify().differences

    def test_takes_no_check_that_was_placed_later(self, alice: Account) -> None:
        check(alice, 0.4)
        tell(alice, 0.25)
        shift(alice, LONG_MS)
        check(alice, 0.4)
        assert tell(alice, 0.25)["status"] == "duplicate"
        assert len(open_checks(alice)) == 1

    def test_finishes_what_a_delivery_began_that_ended_half_way(
        self, alice: Account, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from budgets.services.resolutions import Resolutions

        check(alice, 0.4)

        async def die(*_: Any) -> None:
            raise RuntimeError("the process ends here")

        with monkeypatch.context() as patch:
            patch.setattr(Resolutions, "resolve", die)
            assert tell(alice, 0.25).status == 500
        # Another of the same kind is under way: it must not be taken for this one's.
        check(alice, 0.4)
        assert tell(alice, 0.25)["status"] == "recorded"
        assert booked(alice) == [("settled", "0.25")]
        assert len(open_checks(alice)) == 1

    @pytest.mark.parametrize("step", ["claimed", "settled"])
    def test_finishes_what_a_killed_gateway_began(
        self, alice: Account, monkeypatch: pytest.MonkeyPatch, step: str
    ) -> None:
        from budgets.services.open_checks import OpenChecks

        alice.budget("all", "$1", scope="tenant")
        check(alice, 0.4)

        async def die(*_: Any, **__: Any) -> None:
            raise RuntimeError("the process ends here")

        with monkeypatch.context() as patch:
            # A killed process notes nothing more.
            patch.setattr(OpenChecks, "settled", die)
            patch.setattr(OpenChecks, "failed", die)
            if step == "claimed":
                from budgets.services.resolutions import Resolutions

                patch.setattr(Resolutions, "resolve", die)
            assert tell(alice, 0.25).status == 500
        shift(alice, 1_500)
        assert tell(alice, 0.25)["status"] == ("recorded" if step == "claimed" else "duplicate")
        assert booked(alice) == [("settled", "0.25")]
        assert alice.remaining("all") == 750_000_000

    def test_is_known_by_what_it_says_and_not_by_how_it_is_spelled(self, alice: Account) -> None:
        body = {"project_id": "default", "model": "own-tool", "cost_usd": 0.25, "timestamp": "now"}
        for each in (body, dict(reversed(body.items()))):
            alice.world.run(posting(alice, "/api/v1/events", each))
        assert booked(alice) == [("settled", "0.25")]


class TestWithoutACheck:
    def test_is_recorded_beyond_any_budget(self, alice: Account) -> None:
        alice.budget("all", "$1", scope="tenant")
        alice.budget("rate", 3, scope="tenant", metric="requests", window="minute")
        for number in range(4):
            told = tell(alice, 0.4, timestamp=str(number))
            assert (told.status, told["matched"]) == (202, False)
        assert booked(alice) == [("settled", "0.4")] * 4
        assert alice.counter("all")["spent"] == 1_600_000_000
        refused = check(alice, 0.1)
        assert (refused["allowed"], refused["project_remaining_usd"]) == (False, 0)
        assert not alice.verify().differences

    def test_counts_for_its_user_and_run(self, alice: Account) -> None:
        for name, scope in (("u1", "customer"), ("u1-user", "user"), ("r1", "run")):
            alice.budget(name, "$1", scope=scope, subject="r1" if scope == "run" else "u1")
        tell(alice, 0.4, end_user_id="u1", run_id="r1")
        assert [alice.counter(name)["spent"] for name in alice.budgets] == [400_000_000] * 3

    def test_of_a_suspended_customer_is_recorded(self, alice: Account) -> None:
        from tenants.services.customers import ensure_customer, suspend_customer

        alice.budget("u1", "$1")
        check(alice, 0.1, end_user_id="u1")
        now = datetime.now(UTC)
        ensure_customer(tenant_id=alice.tenant_id, external_id="u1", actor="test", now=now)
        suspend_customer(tenant_id=alice.tenant_id, external_id="u1", actor="test", now=now)
        assert check(alice, 0.1, end_user_id="u1")["reason"] == "customer_suspended"
        assert tell(alice, 0.05, end_user_id="u1")["matched"] is True
        assert tell(alice, 0.06, end_user_id="u1")["matched"] is False
        assert booked(alice) == [("settled", "0.05"), ("settled", "0.06")]

    def test_for_whom_no_counter_can_be_made_counts_for_the_project(
        self, alice: Account, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from budgets.services.holds import Holds, TooManySubjects

        alice.budget("all", "$1", scope="tenant")
        place = Holds.place

        async def full(self: Holds, tenant_id: Any, call: Any, **options: Any) -> Any:
            if call.attribution.user:
                raise TooManySubjects("full")
            return await place(self, tenant_id, call, **options)

        monkeypatch.setattr(Holds, "place", full)
        assert tell(alice, 0.4, end_user_id="u1")["status"] == "recorded"
        assert alice.counter("all")["spent"] == 400_000_000

    def test_that_was_blocked_records_nothing(self, alice: Account) -> None:
        check(alice, 0.4)
        told = tell(alice, was_blocked=True, block_reason="budget_exceeded", tokens_in=0, tokens_out=0)
        assert (told.status, told.body) == (202, {"status": "blocked", "recorded": False})
        assert (booked(alice), len(open_checks(alice))) == ([], 1)


class TestBadInput:
    def test_names_every_bad_field(self, alice: Account) -> None:
        answer = tell(
            alice,
            -1,
            model=None,
            tokens_in="many",
            tokens_out=10**10,
            latency_ms=-1,
            was_blocked="no",
            end_user_id={},
            timestamp="x" * 201,
        )
        assert (answer.status, answer.kind) == (400, "invalid-request")
        assert set(answer.fields) == {
            "model", "tokens_in", "tokens_out", "cost_usd", "latency_ms", "was_blocked", "end_user_id", "timestamp",
        }  # fmt: skip
        assert booked(alice) == []

    def test_that_is_not_json_is_400(self, alice: Account) -> None:
        for raw in (b"", b"[1]", b'{"cost_usd": Infinity}', b"[" * 10_000):
            answer = alice.world.run(posting(alice, "/api/v1/events", None, raw=raw))
            assert (answer.status, answer.kind) == (400, "invalid-request")


class TestRandomSequences:
    @pytest.mark.parametrize("seed", [1, 2, 3])
    def test_record_every_call_once_and_never_let_more_through(self, alice: Account, seed: int) -> None:
        rng, at = random.Random(seed), itertools.count()
        alice.budget("all", "$2", scope="tenant")
        waiting: list[tuple[str, int, str]] = []
        sent: list[tuple[float, dict[str, Any]]] = []
        spent = 0
        for _ in range(60):
            user = rng.choice(["u1", "u2"])
            if rng.random() < 0.5:
                cents = rng.randrange(1, 30)
                if check(alice, cents / 100, end_user_id=user)["allowed"]:
                    waiting.append((user, cents, str(next(at))))
            elif waiting and rng.random() < 0.7:
                user, cents, time = waiting.pop(rng.randrange(len(waiting)))
                used = rng.randrange(cents + 1)
                sent.append((used / 100, {"end_user_id": user, "timestamp": time}))
                assert tell(alice, sent[-1][0], **sent[-1][1])["status"] == "recorded"
                spent += used
            elif sent:
                cost, fields = rng.choice(sent)
                shift(alice, LONG_MS)
                assert tell(alice, cost, **fields)["status"] == "duplicate"
            assert spent + sum(cents for _, cents, _ in waiting) <= 200
        assert sum(row["cost"] for row in alice.ledger()) == spent * 10_000_000
        assert len(open_checks(alice)) == len(waiting)
        assert not alice.verify().differences
