"""Temporary increases: what calls may use while they last, and that nobody's counter misses their start or end."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from django.db import IntegrityError, connection, transaction

from budgets.domain.policy import EACH
from budgets.models import Budget, BudgetIncrease
from budgets.services.budgets import BudgetNotFound, InvalidBudget, NewBudget, archive_budget, create_budget
from budgets.services.increases import (
    OPEN_MAX,
    IncreaseNotFound,
    NewIncrease,
    cancel_increase,
    create_increase,
    turn_increases,
)
from noburn.kit import ids
from noburn.kit.money import NANO
from tenants.models import AuditEntry
from tests.tenants.cast import ACTOR, NOW, Cast, make_cast

if TYPE_CHECKING:
    from tests.support.world import Account

pytestmark = pytest.mark.real_db

DAY = timedelta(days=1)


@pytest.fixture
def cast(real_database: None) -> Cast:
    return make_cast()


def budget_of(cast: Cast, **changes: Any) -> Budget:
    fields = {"scope": "customer", "window": "month", "limit": "10", **changes}
    return create_budget(tenant_id=cast.tenant.pk, budget=NewBudget(**fields), actor=ACTOR, now=NOW)


def increase(budget: Budget, amount: Any = "5", *, now: datetime = NOW, **fields: Any) -> BudgetIncrease:
    if "windows" not in fields:
        fields.setdefault("ends_at", now + DAY)
    return create_increase(
        tenant_id=budget.tenant_id,
        budget_id=budget.pk,
        increase=NewIncrease(amount=amount, **{"reason": "a launch", **fields}),
        actor=ACTOR,
        now=now,
    )


def cancel(made: BudgetIncrease, *, now: datetime = NOW) -> BudgetIncrease:
    return cancel_increase(
        tenant_id=made.tenant_id, budget_id=made.budget_id, increase_id=made.pk, actor=ACTOR, now=now
    )


def limit_of(budget: Budget, subject: str, at: datetime) -> int:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT nb_limit(b, %s, %s) FROM budgets_budget b WHERE b.id = %s", [subject, at, budget.pk]
        )
        return int(cursor.fetchone()[0])


def now() -> datetime:
    return datetime.now(UTC)


class TestIncreaseInTheGateway:
    def test_lets_a_customer_at_its_limit_call_again_until_it_ends(self, alice: Account) -> None:
        budget = alice.budget("acme", "$1.00", window="month")
        alice.settle(alice.place("$1.00"), "$1.00")
        assert alice.place("$0.01").decision == "budget_exceeded"
        increase(budget, "5", now=now())
        allowed = alice.place("$2")
        assert allowed.decision == "allow"
        assert allowed["budgets"][0]["limit_usd"] == "6"
        assert allowed["budgets"][0]["remaining_usd"] == "3"
        alice.settle(allowed, "$2")
        turn_increases(now=now() + DAY)
        refused = alice.place("$0.01")
        assert refused.decision == "budget_exceeded"
        assert refused["budget"]["limit_usd"] == "1"
        assert not alice.verify().differences

    def test_revokes_nothing_when_it_ends_under_a_hold(self, alice: Account) -> None:
        budget = alice.budget("acme", "$1.00")
        increase(budget, "5", now=now())
        placed = alice.place("$4")
        turn_increases(now=now() + DAY)
        assert alice.place("$0.01").decision != "allow"
        assert alice.remaining("acme") == 0
        assert alice.settle(placed, "$0.75")["state"] == "settled"
        assert alice.place("$0.25").decision == "allow"
        assert alice.place("$0.01").decision == "budget_busy"
        assert not alice.verify().differences

    def test_is_for_one_subject_of_a_template_or_for_all(self, alice: Account) -> None:
        budget = alice.budget("each", "$1", subject=EACH)
        for customer in ("one", "two"):
            alice.settle(alice.place("$1", customer=customer), "$1")
        increase(budget, "2", now=now(), subject="one")
        assert alice.place("$2", customer="two").decision == "budget_exceeded"
        alice.settle(alice.place("$2", customer="one"), "$2")
        increase(budget, "1", now=now())
        assert alice.place("$1.01", customer="two").decision == "budget_exceeded"
        assert alice.place("$1", customer="two").decision == "allow"
        assert alice.place("$1", customer="one").decision == "allow"
        assert alice.place("$2", customer="new").decision == "allow"
        assert not alice.verify().differences

    def test_adds_to_an_override_and_to_another_increase(self, alice: Account) -> None:
        budget = alice.budget("each", "$1", subject=EACH)
        alice.override("each", "acme", "$3")
        increase(budget, "2", now=now(), subject="acme")
        increase(budget, "4", now=now(), ends_at=now() + 3 * DAY)
        assert alice.place("$9.01").decision == "budget_exceeded"
        assert alice.place("$9").decision == "allow"
        turn_increases(now=now() + 2 * DAY)
        assert alice.remaining("each", "acme") == 0
        assert alice.place("$7", customer="other").decision == "budget_exceeded"
        assert alice.place("$5", customer="other").decision == "allow"
        assert not alice.verify().differences

    def test_ends_at_once_when_it_is_cancelled(self, alice: Account) -> None:
        budget = alice.budget("acme", "$1")
        made = increase(budget, "5", now=now())
        placed = alice.place("$3")
        cancel(made, now=now())
        assert alice.place("$0.01").decision != "allow"
        alice.settle(placed, "$0.50")
        assert alice.place("$0.50").decision == "allow"
        assert not alice.verify().differences

    def test_begins_when_its_moment_comes(self, alice: Account) -> None:
        budget = alice.budget("acme", "$1")
        alice.settle(alice.place("$1"), "$1")
        increase(budget, "1", now=now(), starts_at=now() + DAY, ends_at=now() + 9 * DAY)
        assert alice.place("$0.50").decision == "budget_exceeded"
        turn_increases(now=now() + DAY)
        placed = alice.place("$0.50")
        assert placed.decision == "allow"
        assert placed["budgets"][0]["limit_usd"] == "2"
        assert not alice.verify().differences

    def test_counts_for_a_question_about_a_counter_that_nobody_has_called_yet(self, alice: Account) -> None:
        budget = alice.budget("acme", "$1")
        increase(budget, "1.5", now=now())
        assert alice.remaining("acme") == 2_500_000_000

    def test_never_lets_a_hard_budget_be_exceeded_while_it_comes_and_goes(self, alice: Account) -> None:
        budget = alice.budget("acme", "$1")
        for round_number in range(4):
            made = increase(budget, "1", now=now())
            answers = alice.world.all([alice.placing("$0.30") for _ in range(12)])
            held = [a for a in answers if a.decision == "allow"]
            counter = alice.counter("acme")
            assert counter["spent"] + counter["authority"] <= 2 * NANO
            for placed in held:
                alice.settle(placed, "$0.01")
            if round_number % 2:
                cancel(made, now=now())
            else:
                turn_increases(now=now() + DAY)
            alice.place("$0")
            assert not alice.verify().differences
            assert alice.counter("acme")["limit"] == NANO

    def test_counts_tokens_and_requests_too(self, alice: Account) -> None:
        budget = alice.budget("acme", 1, metric="requests")
        assert alice.place("$0.1").decision == "allow"
        assert alice.place("$0.1").decision == "budget_busy"
        increase(budget, 1, now=now())
        assert alice.place("$0.1").decision == "allow"


class TestLimit:
    def test_is_the_sum_of_what_is_in_force_and_never_above_the_largest(self, cast: Cast) -> None:
        budget = budget_of(cast, limit="9000000")
        increase(budget, "8000000")
        assert limit_of(budget, "acme", NOW) == 2**53
        assert limit_of(budget, "acme", NOW + DAY) == 9_000_000 * NANO

    def test_does_not_carry_an_increase_into_the_window_that_begins_when_it_ends(self, cast: Cast) -> None:
        budget = budget_of(cast, window="day")
        made = increase(budget, windows=1)
        assert made.ends_at == datetime(2026, 11, 23, tzinfo=UTC)
        assert limit_of(budget, "acme", made.ends_at - timedelta(microseconds=1)) == 15 * NANO
        assert limit_of(budget, "acme", made.ends_at) == 10 * NANO

    def test_follows_the_marks_whatever_the_clock_says(self, cast: Cast) -> None:
        budget = budget_of(cast)
        early = increase(budget, starts_at=NOW + DAY, ends_at=NOW + 2 * DAY)
        BudgetIncrease.objects.filter(pk=early.pk).update(started_at=NOW)
        assert limit_of(budget, "acme", NOW) == 15 * NANO
        BudgetIncrease.objects.filter(pk=early.pk).update(ended_at=NOW)
        assert limit_of(budget, "acme", NOW + DAY) == 10 * NANO


class TestNewIncrease:
    @pytest.mark.parametrize(
        ("fields", "windows", "ends_at"),
        [
            ({"window": "day"}, 2, datetime(2026, 11, 24, tzinfo=UTC)),
            ({"window": "hour"}, 1, datetime(2026, 11, 22, 13, tzinfo=UTC)),
            ({"window": "week"}, 1, datetime(2026, 11, 23, tzinfo=UTC)),
            ({"window": "month", "anchor_day": 31}, 2, datetime(2026, 12, 31, tzinfo=UTC)),
            ({"window": "day", "time_zone": "Asia/Tokyo"}, 1, datetime(2026, 11, 22, 15, tzinfo=UTC)),
        ],
    )
    def test_resolves_windows_to_a_date(
        self, cast: Cast, fields: dict[str, Any], windows: int, ends_at: datetime
    ) -> None:
        assert increase(budget_of(cast, **fields), windows=windows).ends_at == ends_at

    def test_names_every_error_at_once(self, cast: Cast) -> None:
        with pytest.raises(InvalidBudget) as refused:
            increase(budget_of(cast), "0", reason=" ", subject="", starts_at=NOW - DAY, ends_at=NOW - DAY)
        assert [e.field for e in refused.value.errors] == [
            "amount_usd",
            "reason",
            "subject",
            "starts_at",
            "ends_at",
        ]

    @pytest.mark.parametrize(
        ("budget", "fields", "field"),
        [
            ({}, {"amount": "x"}, "amount_usd"),
            ({"metric": "tokens"}, {"amount": "1.5"}, "amount_tokens"),
            ({"subject": "acme"}, {"subject": "other"}, "subject"),
            ({}, {"windows": 1, "ends_at": NOW + DAY}, "ends_at"),
            ({}, {"ends_at": None}, "ends_at"),
            ({}, {"windows": 0}, "windows"),
            ({}, {"windows": 101}, "windows"),
            ({"window": "total"}, {"windows": 1}, "windows"),
            ({}, {"ends_at": NOW + 3661 * DAY}, "ends_at"),
            ({}, {"starts_at": NOW + 2 * DAY, "ends_at": NOW + DAY}, "ends_at"),
            ({"window": "quarter"}, {"starts_at": NOW + 3661 * DAY, "windows": 100}, "starts_at"),
            ({"window": "minute"}, {}, "budget"),
            ({}, {"reason": "x" * 501}, "reason"),
        ],
    )
    def test_refuses_what_makes_no_sense(
        self, cast: Cast, budget: dict[str, Any], fields: dict[str, Any], field: str
    ) -> None:
        with pytest.raises(InvalidBudget) as refused:
            increase(budget_of(cast, **budget), **fields)
        assert [e.field for e in refused.value.errors] == [field]

    def test_tells_the_audit_log_who_and_why(self, cast: Cast) -> None:
        budget = budget_of(cast)
        made = increase(budget, "5", subject="acme")
        cancel(made)
        given, taken = AuditEntry.objects.filter(
            tenant=cast.tenant, action__in=["budget.increase", "budget.cancel_increase"]
        ).order_by("action")[::-1]
        assert given.actor == ACTOR
        assert given.object == ids.encode("bud", budget.pk)
        assert given.after is not None
        assert (given.after["amount_usd"], given.after["reason"], given.after["subject"]) == (
            "5",
            "a launch",
            "acme",
        )
        assert (taken.before or {})["state"] == "active"
        assert (taken.after or {})["state"] == "cancelled"

    def test_ends_at_so_many_for_one_subject(self, cast: Cast) -> None:
        budget = budget_of(cast)
        made = increase(budget)
        BudgetIncrease.objects.bulk_create(
            BudgetIncrease(
                tenant_id=made.tenant_id,
                budget_id=made.budget_id,
                subject=EACH,
                amount=1,
                starts_at=NOW,
                ends_at=NOW + DAY,
                reason="x",
                created_by="x",
            )
            for _ in range(OPEN_MAX - 1)
        )
        with pytest.raises(InvalidBudget, match="budget: has 100 increases"):
            increase(budget)
        assert increase(budget, subject="acme").state == "active"

    def test_cannot_reach_another_tenants_budget(self, cast: Cast) -> None:
        budget = budget_of(cast)
        made = increase(budget)
        who: dict[str, Any] = {"tenant_id": cast.charlie.tenant.pk, "actor": ACTOR, "now": NOW}
        with pytest.raises(BudgetNotFound):
            create_increase(
                budget_id=budget.pk,
                increase=NewIncrease(amount=1, reason="x", ends_at=NOW + DAY),
                **who,
            )
        with pytest.raises(BudgetNotFound):
            cancel_increase(budget_id=budget.pk, increase_id=made.pk, **who)
        with pytest.raises(IncreaseNotFound):
            cancel_increase(
                tenant_id=cast.tenant.pk,
                budget_id=budget_of(cast).pk,
                increase_id=made.pk,
                actor=ACTOR,
                now=NOW,
            )
        with pytest.raises(IntegrityError, match="budget_same_tenant"), transaction.atomic():
            BudgetIncrease.objects.create(
                tenant=cast.charlie.tenant,
                budget_id=budget.pk,
                subject="*",
                amount=1,
                starts_at=NOW,
                ends_at=NOW + DAY,
                reason="x",
                created_by="x",
            )


class TestCancelIncrease:
    def test_changes_nothing_the_second_time(self, cast: Cast) -> None:
        made = increase(budget_of(cast))
        first = cancel(made)
        assert cancel(made, now=NOW + timedelta(hours=1)).cancelled_at == first.cancelled_at
        assert Budget.objects.get(pk=made.budget_id).version == 3

    def test_comes_too_late_for_one_that_ended(self, cast: Cast) -> None:
        made = increase(budget_of(cast))
        with pytest.raises(InvalidBudget, match="increase: ended already"):
            cancel(made, now=NOW + DAY)


class TestTurnIncreases:
    def test_finds_what_began_and_ended_while_nobody_turned(self, cast: Cast) -> None:
        budget = budget_of(cast)
        made = increase(budget, starts_at=NOW + DAY, ends_at=NOW + 2 * DAY)
        assert Budget.objects.get(pk=budget.pk).version == 1
        turn_increases(now=NOW + 9 * DAY)
        made.refresh_from_db()
        assert (made.started_at, made.ended_at, made.state) == (NOW + 9 * DAY, NOW + 9 * DAY, "ended")
        assert Budget.objects.get(pk=budget.pk).version == 2
        assert AuditEntry.objects.get(tenant=cast.tenant, action="budget.increase_end").actor == "system"

    def test_publishes_once_for_all_of_a_tenant(self, cast: Cast) -> None:
        from budgets.models import PolicySnapshot

        made = [increase(budget_of(cast)) for _ in range(3)]
        before = PolicySnapshot.objects.get(pk=cast.tenant.pk).version
        turn_increases(now=NOW + DAY)
        assert PolicySnapshot.objects.get(pk=cast.tenant.pk).version == before + 1
        assert {i.state for i in BudgetIncrease.objects.filter(pk__in=[m.pk for m in made])} == {"ended"}
        turn_increases(now=NOW + 2 * DAY)
        assert PolicySnapshot.objects.get(pk=cast.tenant.pk).version == before + 1

    def test_leaves_a_tenant_that_somebody_is_changing_to_the_next_turn(self, cast: Cast) -> None:
        made = increase(budget_of(cast))
        with transaction.atomic():
            from tenants.services.tenants import lock_tenant

            lock_tenant(tenant_id=cast.tenant.pk)
            in_another_thread(lambda: turn_increases(now=NOW + DAY))
            made.refresh_from_db()
            assert made.state == "active"
        turn_increases(now=NOW + DAY)
        made.refresh_from_db()
        assert made.state == "ended"

    def test_does_everything_once_with_several_workers_at_it(self, cast: Cast) -> None:
        casts = [cast, *(make_cast() for _ in range(5))]
        made = [increase(budget_of(each), starts_at=NOW + DAY, ends_at=NOW + 30 * DAY) for each in casts]
        together = threading.Barrier(4)

        def turn() -> None:
            together.wait()
            turn_increases(now=NOW + DAY)

        workers = [threading.Thread(target=closing(turn)) for _ in range(4)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        turn_increases(now=NOW + DAY)
        assert [i.state for i in BudgetIncrease.objects.filter(pk__in=[m.pk for m in made])] == ["active"] * 6
        assert (
            list(Budget.objects.filter(pk__in=[m.budget_id for m in made]).values_list("version", flat=True))
            == [2] * 6
        )
        assert AuditEntry.objects.filter(
            tenant__in=[each.tenant for each in casts], action="budget.increase_start"
        ).count() == len(casts)

    def test_ends_those_of_archived_budgets_without_a_word(self, cast: Cast) -> None:
        made = increase(budget_of(cast))
        archive_budget(tenant_id=cast.tenant.pk, budget_id=made.budget_id, actor=ACTOR, now=NOW)
        version = Budget.objects.get(pk=made.budget_id).version
        turn_increases(now=NOW + DAY)
        made.refresh_from_db()
        assert made.state == "ended"
        assert Budget.objects.get(pk=made.budget_id).version == version

    def test_is_a_task_that_beat_asks_for(self, cast: Cast) -> None:
        made = increase(budget_of(cast), now=now())
        BudgetIncrease.objects.filter(pk=made.pk).update(starts_at=NOW - DAY, ends_at=NOW)
        from budgets.tasks import BEAT
        from budgets.tasks import turn_increases as task

        task.apply(throw=True)
        made.refresh_from_db()
        assert made.state == "ended"
        assert BEAT["budgets.turn_increases"]["task"] == "budgets.turn_increases"


def closing(work: Any) -> Any:
    def worked() -> None:
        try:
            work()
        finally:
            connection.close()

    return worked


def in_another_thread(work: Any) -> None:
    thread = threading.Thread(target=closing(work))
    thread.start()
    thread.join()
