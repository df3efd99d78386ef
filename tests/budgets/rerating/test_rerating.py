"""What a re-rating does to the ledger, to budgets and to usage, and what it leaves alone."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from django.db import ProgrammingError, connection, transaction

from budgets.domain.pricing_rates import Usage
from budgets.models import Rerating, ReratingState
from budgets.services import reratings
from budgets.services.policy import publish
from budgets.services.reratings import InvalidRerating, ReratingConflict, ReratingNotFound
from noburn.kit import ids
from tenants.models import AuditEntry
from tests.budgets.rerating.desk import DAY, USAGE, now

if TYPE_CHECKING:
    from tests.budgets.rerating.desk import Desk
    from tests.support.world import World

pytestmark = pytest.mark.real_db

DEAR, CHEAP = 3_000_000, 1_500_000
"""What USAGE costs at 2 USD and at 1 USD for a million tokens, in nano-USD."""


class TestPreview:
    def test_tells_what_calls_should_have_cost_and_changes_nothing(self, desk: Desk) -> None:
        desk.price("2")
        desk.call(customer="acme")
        desk.call(customer="zeta")
        desk.call({"input_tokens": 0, "output_tokens": 0, "images": 0}, customer="zeta")
        desk.price("1")
        before = desk.account.ledger()
        found = desk.preview()
        assert (found.state, found.seen_calls, found.changed_calls) == (ReratingState.PREVIEWED, 3, 2)
        assert (found.old_nano, found.new_nano) == (2 * DEAR, 2 * CHEAP)
        assert found.by_model == [
            {
                "provider": "openai",
                "model": desk.model,
                "calls": 2,
                "old_nano": 2 * DEAR,
                "new_nano": 2 * CHEAP,
            }
        ]
        assert [group["customer"] for group in found.by_customer] == ["acme", "zeta"]
        assert found.left_out == {"not_counted": {"calls": 1, "cost_nano": 0}}
        assert desk.account.ledger() == before

    def test_leaves_out_what_noburn_did_not_price(self, desk: Desk) -> None:
        desk.price("2")
        desk.call(cost_usd="0.5")
        desk.account.settle(desk.account.place("$0.25"), usage=USAGE)
        desk.account.settle(desk.place(), usage=None)
        desk.account.void(desk.place())
        desk.call()
        desk.price("1")
        found = desk.preview()
        assert {reason: told["calls"] for reason, told in found.left_out.items()} == {
            "told": 1,
            "estimated": 1,
            "presumed": 1,
        }
        assert found.left_out["told"]["cost_nano"] == 500_000_000
        assert (found.seen_calls, found.changed_calls) == (4, 1)

    def test_leaves_out_what_is_older_than_the_origin_of_costs(self, desk: Desk) -> None:
        desk.price("2")
        desk.call()
        desk.world.sql(
            "UPDATE ledger_entries SET cost_origin = NULL WHERE tenant_id = %s", desk.account.tenant_id
        )
        desk.price("1")
        found = desk.preview()
        assert (found.changed_calls, list(found.left_out)) == (0, ["unknown_origin"])

    def test_counts_calls_that_have_the_right_cost_already(self, desk: Desk) -> None:
        desk.price("2")
        desk.call()
        found = desk.preview()
        assert (found.changed_calls, found.unchanged_calls) == (0, 1)
        assert desk.apply(found).state == ReratingState.APPLIED
        assert len(desk.account.ledger()) == 1

    def test_leaves_out_models_that_have_no_price_then(self, desk: Desk) -> None:
        before = desk.price("2") - DAY
        desk.call()
        found = desk.preview(prices_at=before)
        assert (found.changed_calls, list(found.left_out)) == (0, ["unpriced"])

    @pytest.mark.parametrize("name", ["provider", "model", "customer", "project"])
    def test_looks_at_what_its_filters_name_alone(self, desk: Desk, name: str) -> None:
        desk.price("2")
        desk.call(customer="acme")
        desk.price("1")
        here = {"provider": "openai", "model": desk.model, "customer": "acme", "project": "default"}
        assert desk.preview(**{name: here[name]}).seen_calls == 1
        assert desk.preview(**{name: "another"}).seen_calls == 0

    def test_looks_at_its_period_alone(self, desk: Desk) -> None:
        desk.price("2")
        desk.call()
        assert desk.preview(ends_at=now() - DAY / 2).seen_calls == 0

    def test_takes_the_place_of_an_earlier_one(self, desk: Desk) -> None:
        desk.price("2")
        desk.call()
        first, second = desk.preview(), desk.preview()
        first.refresh_from_db()
        assert (first.state, second.state) == (ReratingState.EXPIRED, ReratingState.PREVIEWED)
        with pytest.raises(ReratingConflict) as caught:
            desk.apply(first)
        assert "Another preview took its place" in caught.value.changes[0].message

    def test_names_everything_that_is_wrong_with_what_is_asked(self, desk: Desk) -> None:
        at = now() + DAY
        with pytest.raises(InvalidRerating) as caught:
            desk.preview(
                starts_at=at, ends_at=at, prices_at=now(), as_placed=True, reason=" ", customer="x" * 201
            )
        fields = [error.field for error in caught.value.errors]
        assert fields == ["ends_at", "starts_at", "prices_at", "customer", "reason"]

    def test_fails_where_there_are_too_many_calls(self, desk: Desk, monkeypatch: Any) -> None:
        monkeypatch.setattr(reratings, "CALLS_MAX", 1)
        desk.price("2")
        desk.call()
        desk.call()
        found = desk.preview()
        assert (found.state, found.failure) == (
            ReratingState.FAILED,
            "More than 1 calls: re-rate the period in parts.",
        )


class TestApply:
    def test_writes_compensating_entries(self, desk: Desk) -> None:
        desk.account.budget("acme", "$1")
        desk.price("2")
        desk.call(customer="acme", tags={"feature": "chat"})
        desk.price("1")
        done = desk.rerate()
        assert (done.state, done.applied_calls, done.moved_calls) == (ReratingState.APPLIED, 1, 0)
        assert done.applied_nano == CHEAP - DEAR
        assert desk.ledger() == [("settled", 1, DEAR, 1), ("rerated", 2, CHEAP - DEAR, 0)]
        assert desk.account.counter("acme")["spent"] == CHEAP
        assert desk.usage() == (CHEAP, 1)
        desk.exact()
        assert desk.account.remaining("acme") == 10**9 - CHEAP
        (names,) = desk.world.sql(
            """SELECT price_id, customer, tags ->> 'feature', cost_origin, rerating_id FROM ledger_entries
            WHERE kind = 'rerated' AND tenant_id = %s""",
            desk.account.tenant_id,
        )
        assert desk.standing is not None
        assert names == (
            f"0+{ids.encode(ids.PRICE_OVERRIDE, desk.standing.pk)}",
            "acme",
            "chat",
            "priced",
            done.pk,
        )

    def test_twice_is_once(self, desk: Desk) -> None:
        desk.price("2")
        desk.call()
        desk.price("1")
        done = desk.rerate()
        entries = desk.ledger()
        assert desk.apply(done).applied_calls == 1
        assert desk.rerate().changed_calls == 0
        assert desk.ledger() == entries

    def test_and_back_is_as_it_was(self, desk: Desk) -> None:
        desk.account.budget("acme", "$1")
        desk.price("2")
        desk.call()
        desk.price("1")
        desk.rerate()
        done = desk.rerate(as_placed=True)
        assert done.applied_nano == DEAR - CHEAP
        assert [kind for kind, *_ in desk.ledger()] == ["settled", "rerated", "rerated"]
        assert (desk.spent(), desk.account.counter("acme")["spent"]) == (DEAR, DEAR)
        desk.exact()

    def test_never_touches_a_cost_that_was_told(self, desk: Desk) -> None:
        desk.price("2")
        desk.call(cost_usd="0.5")
        desk.price("1")
        found = desk.preview()
        # Were a preview to say so nevertheless, PostgreSQL would not do it.
        ((hold, month),) = desk.world.sql(
            "SELECT hold_id, placed_month FROM hold_resolutions WHERE tenant_id = %s", desk.account.tenant_id
        )
        desk.world.sql(
            """INSERT INTO rerating_items VALUES (%s, %s, %s, %s, 1, 500000000, 1, '', '', '', '')""",
            desk.account.tenant_id,
            found.pk,
            hold,
            month,
        )
        done = desk.apply(found)
        assert (done.applied_calls, done.moved_calls) == (0, 1)
        assert desk.ledger() == [("settled", 1, 500_000_000, 1)]

    def test_touches_no_other_tenant_s_call(self, desk: Desk, world: World) -> None:
        from tests.budgets.rerating.desk import Desk as AnotherDesk

        charlie = AnotherDesk(world.account("charlie"))
        charlie.price("2")
        charlie.call()
        desk.price("2")
        found = desk.preview()
        ((hold, month),) = world.sql(
            "SELECT hold_id, placed_month FROM hold_resolutions WHERE tenant_id = %s",
            charlie.account.tenant_id,
        )
        world.sql(
            "INSERT INTO rerating_items VALUES (%s, %s, %s, %s, 1, %s, 1, '', '', '', '')",
            desk.account.tenant_id,
            found.pk,
            hold,
            month,
            DEAR,
        )
        assert desk.apply(found).moved_calls == 1
        assert charlie.ledger() == [("settled", 1, DEAR, 1)]

    def test_counts_requests_and_tokens_once(self, desk: Desk) -> None:
        desk.account.budget("all", 10, scope="tenant", metric="requests", window="month")
        desk.account.budget("tokens", 100_000, scope="tenant", metric="tokens", window="month")
        desk.price("2")
        desk.call()
        desk.price("1")
        desk.rerate()
        assert desk.account.counter("all")["spent"] == 1
        assert desk.account.counter("tokens")["spent"] == 1_500
        desk.exact()

    def test_that_makes_calls_dearer_may_pass_a_limit_and_is_never_refused(self, desk: Desk) -> None:
        desk.account.budget("acme", "$0.012")
        desk.price("1")
        for _ in range(2):
            desk.call()
        desk.price("20")
        done = desk.rerate()
        assert done.applied_calls == 2
        counter = desk.account.counter("acme")
        assert counter["spent"] == 60_000_000 > counter["limit"]
        desk.exact()
        assert desk.account.verify().totals.overrun >= 48_000_000
        refused = desk.account.place(model=desk.model, provider="openai", input_tokens=1, max_output_tokens=1)
        assert refused.decision == "budget_exceeded"

    def test_that_makes_calls_cheaper_gives_room_back(self, desk: Desk) -> None:
        desk.account.budget("acme", "$0.01")
        desk.price("2")
        small: dict[str, Any] = {"input_tokens": 1_000, "max_output_tokens": 500}
        for _ in range(3):
            desk.call(**small)
        desk.price("1")
        wanted: dict[str, Any] = {"model": desk.model, "provider": "openai", **small}
        assert desk.account.place(**wanted).decision == "budget_exceeded"
        desk.rerate()
        desk.world.sweep()
        assert desk.account.place(**wanted).decision == "allow"

    def test_counts_in_windows_that_have_ended(self, desk: Desk) -> None:
        desk.account.budget("acme", "$1", window="day")
        desk.price("2")
        desk.call()
        desk.world.sql(
            """UPDATE counters SET starts_at = starts_at - interval '3 days', ends_at = ends_at - interval '3 days'
            WHERE tenant_id = %s""",
            desk.account.tenant_id,
        )
        desk.world.sweep()
        desk.price("1")
        desk.rerate()
        assert desk.account.counter("acme")["spent"] == CHEAP
        desk.exact()

    def test_is_written_where_the_counter_was_pruned(self, desk: Desk) -> None:
        desk.account.budget("acme", "$1", window="hour")
        desk.price("2")
        desk.call()
        desk.world.sweep()
        for table in ("grants", "counters"):
            desk.world.sql(f"DELETE FROM {table} WHERE tenant_id = %s", desk.account.tenant_id)
        desk.price("1")
        assert desk.rerate().applied_calls == 1
        assert desk.spent() == CHEAP
        assert [row["deltas"] for row in desk.account.ledger()] == [[DEAR], [0]]
        assert desk.usage() == (CHEAP, 1)

    def test_says_who_and_why(self, desk: Desk) -> None:
        desk.price("2")
        desk.call()
        desk.price("1")
        desk.rerate(reason="the discount came late")
        entries = AuditEntry.objects.filter(tenant_id=desk.account.tenant_id, action__startswith="rerating")
        told = [
            (entry.action, entry.actor, (entry.after or {})["reason"])
            for entry in entries.order_by("at", "pk")
        ]
        assert told == [
            (f"rerating.{verb}", "command:test", "the discount came late") for verb in ("preview", "apply")
        ]


class TestChanges:
    """What happened since a preview is named, and nothing is applied."""

    def changes(self, desk: Desk, row: Rerating) -> list[str]:
        before = desk.ledger()
        with pytest.raises(ReratingConflict) as caught:
            desk.apply(row)
        assert desk.ledger() == before
        return [change.field for change in caught.value.changes]

    def test_of_negotiated_prices(self, desk: Desk) -> None:
        desk.price("2")
        desk.call()
        desk.price("1")
        found = desk.preview()
        desk.price("3")
        assert self.changes(desk, found) == ["price_overrides"]

    def test_of_the_price_book(self, desk: Desk) -> None:
        desk.price("2")
        desk.call()
        found = desk.preview()
        desk.world.sql("UPDATE price_book_version SET version = version + 1")
        assert self.changes(desk, found) == ["book_version"]

    def test_of_a_call_that_was_settled_late(self, desk: Desk) -> None:
        desk.price("2")
        desk.call()
        placed = desk.place()
        desk.account.settle(placed, usage=None)
        desk.price("1")
        found = desk.preview()
        assert desk.account.settle(placed, usage=USAGE).status == 200
        assert self.changes(desk, found) == ["calls"]

    def test_of_calls_that_were_added(self, desk: Desk) -> None:
        desk.price("2")
        placed = desk.place()
        desk.call()
        desk.price("1")
        found = desk.preview()
        desk.account.settle(placed, usage=USAGE)
        assert self.changes(desk, found) == ["calls"]

    def test_of_a_call_that_moved_once_it_was_being_applied(self, desk: Desk) -> None:
        desk.price("2")
        desk.call()
        desk.price("1")
        found = desk.preview()
        reratings.apply_rerating(
            tenant_id=desk.account.tenant_id, rerating_id=found.pk, actor="command:test", now=now()
        )
        desk.world.sql(
            "UPDATE rerating_items SET revision = 7 WHERE rerating_id = %s",
            found.pk,
        )
        done = desk.worked(found)
        assert (done.state, done.applied_calls, done.moved_calls) == (ReratingState.APPLIED, 0, 1)

    def test_that_are_under_way_keep_another_preview_waiting(self, desk: Desk) -> None:
        desk.price("2")
        desk.call()
        desk.price("1")
        found = desk.preview()
        reratings.apply_rerating(
            tenant_id=desk.account.tenant_id, rerating_id=found.pk, actor="command:test", now=now()
        )
        with pytest.raises(ReratingConflict, match="being applied"):
            desk.preview()
        desk.worked(found)
        assert desk.preview().state == ReratingState.PREVIEWED

    def test_of_what_is_nobody_s(self, desk: Desk, world: World) -> None:
        found = desk.preview()
        with pytest.raises(ReratingNotFound):
            reratings.apply_rerating(
                tenant_id=world.account("charlie").tenant_id, rerating_id=found.pk, actor="x", now=now()
            )


class TestReplay:
    def test_of_a_settlement_answers_as_before_the_re_rating(self, desk: Desk) -> None:
        desk.account.budget("acme", "$1")
        desk.price("2")
        placed = desk.place()
        first = desk.account.settle(placed, usage=USAGE)
        desk.price("1")
        desk.rerate()
        again = desk.account.settle(placed, usage=USAGE)
        assert again.body == {**first.body, "replayed": True}
        assert desk.account.settle(placed, usage={**USAGE, "output_tokens": 501}).status == 409
        assert desk.account.settle(placed, "$0.003", usage=USAGE).status == 409
        desk.exact()

    def test_of_a_late_settlement_too(self, desk: Desk) -> None:
        desk.account.budget("acme", "$1")
        desk.price("2")
        placed = desk.place()
        desk.account.settle(placed, usage=None)
        first = desk.account.settle(placed, usage=USAGE)
        assert (first["late"], first["replayed"]) == (True, False)
        desk.price("1")
        desk.rerate()
        assert desk.account.settle(placed, usage=USAGE).body == {**first.body, "replayed": True}
        desk.exact()

    def test_is_recognised_whatever_its_model_costs_by_now(self, desk: Desk) -> None:
        """What it came to is no part of what its caller said."""
        desk.price("2")
        placed = desk.place()
        first = desk.account.settle(placed, usage=USAGE)
        desk.world.sql("ALTER TABLE price_overrides DISABLE TRIGGER USER")
        desk.world.sql(
            """UPDATE price_overrides SET prices = replace(prices::text, '0.000002', '0.000005')::jsonb
            WHERE tenant_id = %s""",
            desk.account.tenant_id,
        )
        desk.world.sql("ALTER TABLE price_overrides ENABLE TRIGGER USER")
        publish(tenant_id=desk.account.tenant_id, now=now())
        desk.place()
        assert desk.account.settle(placed, usage=USAGE).body == {**first.body, "replayed": True}

    def test_of_what_an_earlier_release_recorded_is_recognised(self, desk: Desk) -> None:
        desk.price("2")
        placed = desk.place()
        first = desk.account.settle(placed, usage=USAGE)
        told = ["settled", DEAR, 1_500, Usage(input_tokens=1_000, output_tokens=500)]
        desk.world.sql(
            "UPDATE hold_resolutions SET usage_digest = %s WHERE tenant_id = %s",
            hashlib.blake2b(msgspec.json.encode(told), digest_size=16).digest(),
            desk.account.tenant_id,
        )
        assert desk.account.settle(placed, usage=USAGE).body == {**first.body, "replayed": True}
        assert desk.account.settle(placed, usage={**USAGE, "output_tokens": 501}).status == 409


class TestAlerts:
    def test_are_raised_for_windows_that_last_and_once(self, desk: Desk) -> None:
        from alerts.models import Alert

        desk.account.budget("acme", "$0.1")
        desk.price("1")
        desk.call()
        desk.price("60")
        desk.rerate()
        desk.usage()
        desk.rerate(as_placed=True)
        desk.rerate()
        desk.usage()
        loud = Alert.objects.filter(tenant_id=desk.account.tenant_id, kind="threshold", details__percent=80)
        assert loud.count() == 1
        assert not Alert.objects.filter(tenant_id=desk.account.tenant_id, kind="presumed_spending").exists()

    def test_are_not_raised_for_windows_that_have_ended(self, desk: Desk) -> None:
        from alerts.models import Alert

        desk.account.budget("acme", "$0.1", window="day")
        desk.price("1")
        desk.call()
        desk.world.sql(
            """UPDATE counters SET starts_at = starts_at - interval '3 days', ends_at = ends_at - interval '3 days'
            WHERE tenant_id = %s""",
            desk.account.tenant_id,
        )
        desk.world.sweep()
        desk.price("60")
        desk.rerate()
        desk.usage()
        assert not Alert.objects.filter(tenant_id=desk.account.tenant_id, kind="threshold").exists()


class TestDatabase:
    @pytest.mark.parametrize(
        "sql",
        ["UPDATE rerating_items SET new_nano = 1", "DELETE FROM rerating_items", "DELETE FROM reratings"],
    )
    def test_lets_the_application_alter_no_item(self, desk: Desk, sql: str) -> None:
        with pytest.raises(ProgrammingError, match="permission denied"), transaction.atomic():
            connection.cursor().execute(sql)

    def test_forgets_what_is_long_over(self, desk: Desk) -> None:
        desk.price("2")
        desk.call()
        desk.price("1")
        done, stale = desk.rerate(), desk.preview(prices_at=now())
        Rerating.objects.filter(pk=done.pk).update(finished_at=now() - 8 * DAY)
        Rerating.objects.filter(pk=stale.pk).update(created_at=now() - 2 * DAY)
        assert reratings.prune(now=now()) >= 1
        stale.refresh_from_db()
        assert stale.state == ReratingState.EXPIRED
        left = desk.world.sql("SELECT count(*) FROM rerating_items WHERE rerating_id = %s", done.pk)
        assert left == [(0,)]
